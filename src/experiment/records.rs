//! From a round's results to the records that tables and files are made of.

use std::collections::HashSet;
use std::ops::Range;

use super::Federation;
use super::federation::of_replicate;
use super::overlap_means::{Universe, overlap_means};
use crate::circuits::{CircuitResult, ControlResult, Laboratory, Level, OverlapCounts, OverlapResult, PairResult};
use crate::config::CircuitClasses;
use crate::federation::{ReplicateRound, Round};
use crate::report::{
    CircuitRecord, ClientRecord, ControlRecord, GlobalRecord, LackingPair, ModelSide, OverlapMean, OverlapRecord,
    RoundRecord, Seconds, expected_iou,
};

impl Federation<'_> {
    pub(super) fn circuits(&self, round: usize, pairs: &[PairResult]) -> Vec<CircuitRecord> {
        let one = |pair: &PairResult, model: ModelSide, circuit: &CircuitResult| {
            let global = model == ModelSide::Global;
            let names = self.gated.iter().map(|(name, _)| name.clone());
            let edges = circuit.edges.iter().cloned().chain([Vec::new()]);
            let layers = self.simulation.stage().network.layers.iter().map(|l| l.name.clone());
            CircuitRecord {
                round,
                model,
                client: pair.client,
                class: pair.class,
                class_name: self.class_names.get(pair.class as usize).cloned().unwrap_or_default(),
                active_nodes: names.zip(circuit.channels.iter().cloned()).collect(),
                connectivity: layers.zip(edges).collect(),
                sufficiency: circuit.sufficiency,
                necessity: circuit.necessity,
                cross: global.then_some(pair.cross),
                cross_answers: if global { pair.cross_answers.clone() } else { Vec::new() },
                false_positive: circuit.false_positive,
                diagnosis: pair.diagnosis,
                accuracy: circuit.accuracy,
                damage: circuit.damage,
                random: circuit.random,
                ceiling: pair.ceiling().filter(|_| global),
                removals: circuit.removals,
                curve: circuit.curve.clone(),
            }
        };
        let both =
            |pair: &PairResult| [one(pair, ModelSide::Local, &pair.local), one(pair, ModelSide::Global, &pair.global)];
        pairs.iter().flat_map(both).collect()
    }

    /// Of the round's clients in which circuits are looked for, by listed class, those without an example of it.
    pub(super) fn lacking(&self, record: &RoundRecord, circuits: &[CircuitRecord]) -> Vec<LackingPair> {
        let asked = self.experiment.circuits.as_ref();
        let Some((asked, CircuitClasses::List(classes))) = asked.map(|c| (c, &c.classes)) else { return Vec::new() };
        // That the clients are there was found when the federation was made.
        let studied = asked.clients.chosen(self.simulation.replicates()[0].clients.len()).unwrap_or_default();
        let found: HashSet<(usize, u32)> = circuits.iter().map(|circuit| (circuit.client, circuit.class)).collect();
        let clients = record.clients.iter().map(|c| c.client).filter(|client| studied.binary_search(client).is_ok());
        let pairs = clients.flat_map(|client| classes.iter().map(move |class| (client, *class)));
        let name = |class: u32| self.class_names.get(class as usize).cloned().unwrap_or_default();
        let lacking = |(client, class)| LackingPair { client, class, class_name: name(class) };
        pairs.filter(|pair| !found.contains(pair)).map(lacking).collect()
    }

    pub(super) fn controls(&self, round: usize, pairs: &[PairResult]) -> Vec<ControlRecord> {
        let one = |pair: &PairResult, result: &ControlResult| {
            let sizes = |circuit: &[Vec<u32>]| circuit.iter().map(Vec::len).collect::<Vec<_>>();
            let (global, own) = (sizes(&pair.global.channels), sizes(&result.channels));
            let layers = self.gated.iter().zip(global).zip(own).map(|(((_, all), a), b)| (a, b, *all));
            let names = self.gated.iter().map(|(name, _)| name.clone());
            ControlRecord {
                round,
                control: result.control,
                client: pair.client,
                class: pair.class,
                active_nodes: names.zip(result.channels.iter().cloned()).collect(),
                accuracy: result.accuracy,
                sufficiency: result.sufficiency,
                false_positive: result.false_positive,
                iou: result.iou,
                chance: expected_iou(&layers.collect::<Vec<_>>()),
            }
        };
        pairs.iter().flat_map(|pair| pair.controls.iter().map(move |result| one(pair, result))).collect()
    }

    pub(super) fn overlaps(&self, round: usize, laboratory: &Laboratory, replicate: usize) -> Vec<OverlapRecord> {
        let nodes: Vec<usize> = self.gated.iter().map(|(_, channels)| *channels).collect();
        let names = || self.gated.iter().map(|(name, _)| name.as_str());
        let rows = |overlap: &OverlapResult| {
            let universe = match overlap.level {
                Level::Node => &nodes[..],
                Level::Edge => laboratory.possible_edges(),
            };
            let layers = names().enumerate().map(|(i, name)| row(round, overlap, name, i..i + 1, universe));
            layers.chain([row(round, overlap, "all", 0..nodes.len(), universe)]).collect::<Vec<_>>()
        };
        of_replicate(laboratory.overlaps(), replicate, |o| o.replicate).iter().flat_map(rows).collect()
    }

    pub(super) fn means(
        &self,
        round: usize,
        laboratory: &Laboratory,
        replicate: usize,
        overlaps: &[OverlapRecord],
    ) -> Vec<OverlapMean> {
        let layers: Vec<&str> = self.gated.iter().map(|(name, _)| name.as_str()).collect();
        let nodes: Vec<usize> = self.gated.iter().map(|(_, channels)| *channels).collect();
        let universe = Universe { layers: &layers, nodes: &nodes, edges: laboratory.possible_edges() };
        let totals = of_replicate(laboratory.totals(), replicate, |t| t.replicate);
        overlap_means(round, overlaps, totals, universe)
    }
}

/// One row of the overlap table, for the given layers together, of which layer i has `universe[i]` channels or edges.
fn row(round: usize, overlap: &OverlapResult, name: &str, layers: Range<usize>, universe: &[usize]) -> OverlapRecord {
    let counts = &overlap.layers[layers.clone()];
    let sum = |part: fn(&OverlapCounts) -> u32| counts.iter().map(|c| part(c) as usize).sum::<usize>();
    let (both, size_a, size_b) = (sum(|c| c.intersection), sum(|c| c.size_a), sum(|c| c.size_b));
    let union = size_a + size_b - both;
    let sizes: Vec<_> =
        counts.iter().zip(&universe[layers]).map(|(c, n)| (c.size_a as usize, c.size_b as usize, *n)).collect();
    OverlapRecord {
        round,
        comparison: overlap.comparison,
        level: overlap.level,
        layer: name.into(),
        client_a: overlap.a.0,
        class_a: overlap.a.1,
        client_b: overlap.b.0,
        class_b: overlap.b.1,
        size_a,
        size_b,
        iou: (union > 0).then(|| both as f64 / union as f64),
        chance: expected_iou(&sizes),
    }
}

/// Of a federation of the given one of the experiments side by side.
pub(super) fn record(round: &Round, replicate: &ReplicateRound, experiment: usize) -> RoundRecord {
    let (seconds, ReplicateRound { global, clients, dropped, sparsity, .. }) = (round.seconds, replicate);
    RoundRecord {
        round: round.round,
        seconds: Seconds {
            train: seconds.train,
            centralised: seconds.beside,
            circuits: seconds.circuits,
            evaluate: seconds.evaluate,
            total: seconds.total,
        },
        global: GlobalRecord {
            loss: global.loss,
            accuracy: global.accuracy,
            trained_accuracy: global.trained_accuracy,
            per_class_accuracy: global.per_class_accuracy.iter().map(|a| a.unwrap_or(f64::NAN)).collect(),
        },
        clients: clients
            .iter()
            .map(|c| ClientRecord {
                client: c.client,
                examples: c.examples,
                steps: c.steps,
                loss: c.summary.loss,
                accuracy: c.summary.accuracy,
            })
            .collect(),
        dropped: dropped.clone(),
        sparsity: sparsity.clone(),
        readbacks: round.readbacks,
        bytes_read_back: round.bytes_read_back[experiment],
    }
}
