//! What the channel map shows: for each client and class, where every channel stands.

use std::collections::BTreeMap;

use super::super::records::{CircuitRecord, ModelSide};
use super::RunFigures;

/// Where a channel is kept. In neither circuit is the absence of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the local circuit and in the global one.
    Both,
    /// Only in the local one: averaging lost it.
    Local,
    /// Only in the global one: averaging brought it.
    Global,
}

/// The last round's circuits.
#[derive(Debug, PartialEq)]
pub struct ChannelMap {
    /// Its number; 0 without any circuit.
    pub round: usize,
    /// Names and channel counts of the layers.
    pub layers: Vec<(String, usize)>,
    /// By client, then class.
    pub rows: Vec<Row>,
    /// Circuits left out because the other model has none for the same client and class.
    pub single: usize,
}

/// A client's class.
#[derive(Debug, PartialEq)]
pub struct Row {
    /// The client's number.
    pub client: usize,
    /// The class in words, or its number if it has none.
    pub class: String,
    /// Per layer of the map, the channels kept, ascending.
    pub kept: Vec<Vec<(u32, Kept)>>,
}

impl ChannelMap {
    /// Pairs up the circuits of the last round.
    pub fn new(run: &RunFigures<'_>) -> Self {
        let round = run.circuits.iter().map(|circuit| circuit.round).max().unwrap_or(0);
        let circuits = || run.circuits.iter().filter(|circuit| circuit.round == round);
        let layers = layers(run.channels, circuits());
        let mut pairs: BTreeMap<(usize, u32), [Option<&CircuitRecord>; 2]> = BTreeMap::new();
        for circuit in circuits() {
            let side = usize::from(circuit.model == ModelSide::Global);
            pairs.entry((circuit.client, circuit.class)).or_default()[side] = Some(circuit);
        }
        let rows: Vec<Row> = pairs
            .values()
            .filter_map(|pair| match pair {
                [Some(local), Some(global)] => Some(Row::new(&layers, local, global)),
                _ => None,
            })
            .collect();
        Self { round, layers, single: pairs.len() - rows.len(), rows }
    }
}

impl Row {
    fn new(layers: &[(String, usize)], local: &CircuitRecord, global: &CircuitRecord) -> Self {
        let kept = |(layer, _): &(String, usize)| {
            let mut channels: BTreeMap<u32, Kept> = nodes(local, layer).map(|channel| (channel, Kept::Local)).collect();
            for channel in nodes(global, layer) {
                channels.entry(channel).and_modify(|kept| *kept = Kept::Both).or_insert(Kept::Global);
            }
            channels.into_iter().collect()
        };
        let named = Some(local.class_name.clone()).filter(|name| !name.is_empty());
        Self {
            client: local.client,
            class: named.unwrap_or_else(|| local.class.to_string()),
            kept: layers.iter().map(kept).collect(),
        }
    }
}

fn nodes<'a>(circuit: &'a CircuitRecord, layer: &'a str) -> impl Iterator<Item = u32> + 'a {
    circuit.active_nodes.iter().filter(move |(name, _)| name == layer).flat_map(|(_, nodes)| nodes.iter().copied())
}

/// The layers given, widened if need be to the highest channel in use, and those that only circuits have.
fn layers<'a>(given: &[(String, usize)], circuits: impl Iterator<Item = &'a CircuitRecord>) -> Vec<(String, usize)> {
    let mut layers = given.to_vec();
    for (name, nodes) in circuits.flat_map(|circuit| &circuit.active_nodes) {
        let least = nodes.iter().max().map_or(0, |highest| *highest as usize + 1);
        match layers.iter_mut().find(|(layer, _)| layer == name) {
            Some((_, count)) => *count = least.max(*count),
            None => layers.push((name.clone(), least)),
        }
    }
    layers
}

#[cfg(test)]
mod tests {
    use super::super::tests::circuit;
    use super::*;

    #[test]
    fn circuits_of_the_last_round_are_paired_by_client_and_class() {
        let conv1 = |nodes: &[u32]| vec![("conv1".to_string(), nodes.to_vec())];
        let earlier = CircuitRecord { round: 0, ..circuit(ModelSide::Local, 0, 1, conv1(&[7])) };
        let circuits = [
            earlier,
            circuit(ModelSide::Global, 0, 1, conv1(&[2, 3])),
            circuit(ModelSide::Local, 0, 1, conv1(&[1, 3])),
            circuit(ModelSide::Local, 0, 0, conv1(&[])),
            circuit(ModelSide::Global, 1, 0, conv1(&[])),
        ];
        let channels = [("conv1".to_string(), 4)];
        let run = RunFigures { name: "", rounds: &[], circuits: &circuits, channels: &channels };
        let map = ChannelMap::new(&run);
        let kept = vec![vec![(1, Kept::Local), (2, Kept::Global), (3, Kept::Both)]];
        assert_eq!(map.rows, [Row { client: 0, class: "one".into(), kept }]);
        assert_eq!((map.round, map.single, &map.layers[..]), (1, 2, &channels[..]));
        let blind = ChannelMap::new(&RunFigures { channels: &[], ..run });
        assert_eq!(blind.layers, channels);
    }
}
