//! `circuits.json` in the layout of the paper's own code, so that its scripts read our runs. Percentages, unlike
//! everywhere else.

use serde::{Serialize, Serializer};

use super::records::{CircuitRecord, LackingPair, ModelSide, as_map};

/// The members of one round, as they stand between the braces of the file: `"round_1": {...}`. A pair that was asked for
/// and lacks the class has an entry with no channels, as in the paper's files, whose scripts ask every client for every
/// class; it has no metrics, since nothing was measured.
pub fn round_member(round: usize, circuits: &[CircuitRecord], lacking: &[LackingPair]) -> serde_json::Result<String> {
    let side = |model| {
        let found = circuits.iter().filter(|circuit| circuit.model == model).map(Entry::found);
        // All circuits have the layers that an empty one has.
        let like = circuits.first();
        let none = lacking.iter().filter_map(|pair| like.map(|like| Entry::lacking(pair, like)));
        let mut entries: Vec<Entry> = found.chain(none).collect();
        entries.sort_by_key(|entry| (entry.client, entry.class));
        Clients(entries)
    };
    let value = Round { clients_local_model: side(ModelSide::Local), clients_global_model: side(ModelSide::Global) };
    Ok(format!("\"round_{round}\": {}", serde_json::to_string(&value)?))
}

#[derive(Serialize)]
struct Round<'a> {
    clients_local_model: Clients<'a>,
    clients_global_model: Clients<'a>,
}

/// Entries of one model, sorted by client and class.
struct Clients<'a>(Vec<Entry<'a>>);

impl Serialize for Clients<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let clients = self.0.chunk_by(|a, b| a.client == b.client);
        serializer.collect_map(clients.map(|classes| (format!("client_{}", classes[0].client), Classes(classes))))
    }
}

struct Classes<'a>(&'a [Entry<'a>]);

impl Serialize for Classes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = |entry: &Entry| format!("{} - {}", entry.class, entry.class_name);
        serializer.collect_map(self.0.iter().map(|entry| (name(entry), &entry.circuit)))
    }
}

/// What a file says of a client and class.
struct Entry<'a> {
    client: usize,
    class: u32,
    class_name: &'a str,
    circuit: Circuit<'a>,
}

#[derive(Serialize)]
struct Circuit<'a> {
    #[serde(serialize_with = "as_map")]
    active_nodes: Vec<(&'a str, &'a [u32])>,
    #[serde(serialize_with = "as_map")]
    connectivity: Vec<(&'a str, Layer<'a>)>,
    metrics: Metrics,
}

impl<'a> Entry<'a> {
    fn found(circuit: &'a CircuitRecord) -> Self {
        let metrics = Metrics {
            accuracy: Some(percent(circuit.sufficiency)),
            necessity: Some(percent(circuit.necessity)),
            local_mask_on_global_weights_acc: circuit.cross.map(percent),
        };
        let nodes = circuit.active_nodes.iter().map(|(name, nodes)| (name.as_str(), &nodes[..]));
        let edges = circuit.connectivity.iter().map(|(name, edges)| (name.as_str(), Layer(edges)));
        let (active_nodes, connectivity) = (nodes.collect(), edges.collect());
        let CircuitRecord { client, class, ref class_name, .. } = *circuit;
        Self { client, class, class_name, circuit: Circuit { active_nodes, connectivity, metrics } }
    }

    /// With the layers of `like`, all empty.
    fn lacking(pair: &'a LackingPair, like: &'a CircuitRecord) -> Self {
        let active_nodes = like.active_nodes.iter().map(|(name, _)| (name.as_str(), &[][..])).collect();
        let connectivity = like.connectivity.iter().map(|(name, _)| (name.as_str(), Layer(&[]))).collect();
        let circuit = Circuit { active_nodes, connectivity, metrics: Metrics::default() };
        Self { client: pair.client, class: pair.class, class_name: &pair.class_name, circuit }
    }
}

struct Layer<'a>(&'a [(u32, Vec<u32>)]);

impl Serialize for Layer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        as_map(self.0, serializer)
    }
}

#[derive(Default, Serialize)]
struct Metrics {
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    necessity: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_mask_on_global_weights_acc: Option<f64>,
}

/// Rounded in the tenth place, where a fraction times 100 shows only the rounding of the fraction.
fn percent(fraction: f64) -> f64 {
    (fraction * 1e12).round() / 1e10
}

#[cfg(test)]
mod tests {
    use super::super::records::sample_circuit;
    use super::*;

    fn circuit(model: ModelSide, client: usize, class: u32, name: &str) -> CircuitRecord {
        CircuitRecord {
            model,
            client,
            class,
            class_name: name.into(),
            active_nodes: vec![("conv1".into(), vec![3, 11]), ("conv2".into(), vec![])],
            connectivity: vec![("conv1".into(), vec![(3, vec![0]), (11, vec![0])]), ("conv2".into(), vec![])],
            sufficiency: 0.57,
            necessity: f64::NAN,
            cross: (model == ModelSide::Global).then_some(1.0),
            ..sample_circuit()
        }
    }

    #[test]
    fn the_layout_is_the_papers_and_numbers_sort_as_numbers() {
        let circuits = [
            circuit(ModelSide::Global, 2, 0, "zero"),
            circuit(ModelSide::Local, 10, 0, "zero"),
            circuit(ModelSide::Local, 2, 10, "ten"),
            circuit(ModelSide::Local, 2, 9, "nine"),
        ];
        let local = r#"{"active_nodes":{"conv1":[3,11],"conv2":[]},"connectivity":{"conv1":{"3":[0],"11":[0]},"conv2":{}},"metrics":{"accuracy":57.0,"necessity":null}}"#;
        let global = local.replace("null", "null,\"local_mask_on_global_weights_acc\":100.0");
        let expected = format!(
            r#""round_1": {{"clients_local_model":{{"client_2":{{"9 - nine":{local},"10 - ten":{local}}},"client_10":{{"0 - zero":{local}}}}},"clients_global_model":{{"client_2":{{"0 - zero":{global}}}}}}}"#
        );
        assert_eq!(round_member(1, &circuits, &[]).unwrap(), expected);
    }

    /// Their scripts take the classes of the first client and ask the others for each of them.
    #[test]
    fn a_client_without_a_listed_class_has_an_empty_entry_in_its_place() {
        let circuits = [circuit(ModelSide::Local, 0, 7, "seven"), circuit(ModelSide::Global, 0, 7, "seven")];
        let lacking = |client, class| LackingPair { client, class, class_name: format!("c{class}") };
        let text = round_member(2, &circuits, &[lacking(0, 3), lacking(1, 3), lacking(1, 7)]).unwrap();
        let round: serde_json::Value = serde_json::from_str(&format!("{{{text}}}")).unwrap();
        let empty = serde_json::json!({
            "active_nodes": { "conv1": [], "conv2": [] },
            "connectivity": { "conv1": {}, "conv2": {} },
            "metrics": {},
        });
        for side in ["clients_local_model", "clients_global_model"] {
            let clients = &round["round_2"][side];
            assert_eq!(clients["client_1"], serde_json::json!({ "3 - c3": empty, "7 - c7": empty }));
            assert_eq!(clients["client_0"]["3 - c3"], empty);
            assert_eq!(clients["client_0"]["7 - seven"]["active_nodes"]["conv1"], serde_json::json!([3, 11]));
        }
        assert!(text.find("3 - c3") < text.find("7 - seven"));
    }
}
