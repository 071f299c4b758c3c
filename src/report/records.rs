//! What a run measures, as plain data. Accuracies are fractions. A number that is not finite is written as `null` in
//! JSON and as an empty cell in CSV: neither format has a NaN, and a reader must be able to tell it from zero.

use serde::{Deserialize, Serialize};

use super::history::{number, numbers, numbers_by_name};

pub(super) use crate::circuits::analyses::as_map;
pub use crate::circuits::{Against, Comparison, Control, CurvePoint, Diagnosis, Level, Removals, area};

/// One line of `rounds.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// One-based.
    pub round: usize,
    /// Where the time went.
    pub seconds: Seconds,
    /// The new global model on the test set.
    pub global: GlobalRecord,
    /// The clients that took part, in order of their number.
    pub clients: Vec<ClientRecord>,
    /// The drawn clients that dropped out, ascending.
    pub dropped: Vec<usize>,
    /// Per layer, in the network's order, the share of zero weights in the trained clients' models, averaged over clients.
    #[serde(serialize_with = "as_map", deserialize_with = "numbers_by_name")]
    pub sparsity: Vec<(String, f64)>,
    /// How often the device was read.
    pub readbacks: u64,
    /// How much was read, in bytes.
    pub bytes_read_back: u64,
}

/// Wall-clock seconds of a round's parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Local training and averaging.
    pub train: f64,
    /// Training without federation, where `circuits.controls.centralised` asks for it: not in the file elsewhere.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub centralised: f64,
    /// Finding and measuring circuits.
    pub circuits: f64,
    /// The test set.
    pub evaluate: f64,
    /// The whole round.
    pub total: f64,
}

fn is_zero(seconds: &f64) -> bool {
    *seconds == 0.0
}

/// The global model on the test set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GlobalRecord {
    /// Mean cross-entropy.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// Over all classes.
    #[serde(deserialize_with = "number")]
    pub accuracy: f64,
    /// Over the test examples of classes that some client holds; not finite where there are none.
    #[serde(deserialize_with = "number")]
    pub trained_accuracy: f64,
    /// By class; not finite for a class without test examples.
    #[serde(deserialize_with = "numbers")]
    pub per_class_accuracy: Vec<f64>,
}

/// One client's local training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClientRecord {
    /// Its number.
    pub client: usize,
    /// Training examples it holds.
    pub examples: usize,
    /// Optimiser steps it made.
    pub steps: usize,
    /// Mean training loss of the last local epoch, every batch before the step that it makes.
    pub loss: f64,
    /// Training accuracy of the same batches.
    pub accuracy: f64,
}

/// Which model a circuit was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelSide {
    /// The client's, after local training.
    Local,
    /// The new global model, with the client's data.
    Global,
}

impl ModelSide {
    /// As `circuits.csv` has it.
    pub fn name(self) -> &'static str {
        match self {
            ModelSide::Local => "local",
            ModelSide::Global => "global",
        }
    }
}

/// The edges of one layer's circuit: each channel with the channels of the layer before that feed it.
pub type Edges = Vec<(u32, Vec<u32>)>;

/// One circuit: a class of a client, in one model.
#[derive(Clone, Debug, PartialEq)]
pub struct CircuitRecord {
    /// One-based.
    pub round: usize,
    /// The model it was found in.
    pub model: ModelSide,
    /// The client whose data it was found with.
    pub client: usize,
    /// The class.
    pub class: u32,
    /// The class in words, without its number: `zero`.
    pub class_name: String,
    /// Per gated layer, in the network's order, the channels of the circuit, ascending.
    pub active_nodes: Vec<(String, Vec<u32>)>,
    /// Per layer, the edges between channels of the circuit.
    pub connectivity: Vec<(String, Edges)>,
    /// Accuracy on the class with all other channels ablated.
    pub sufficiency: f64,
    /// Accuracy on the class with the circuit's channels ablated: low where they are necessary.
    pub necessity: f64,
    /// For a circuit of the global model: accuracy of the local circuit's mask on the global weights.
    pub cross: Option<f64>,
    /// The same images by what they were called, `[classes]`; empty for a circuit of a local model.
    pub cross_answers: Vec<u32>,
    /// Share of other classes' images that the circuit alone calls its class.
    pub false_positive: f64,
    /// What became of the class and its circuit in the average, where that is known; the same for the pair's two
    /// circuits.
    pub diagnosis: Option<Diagnosis>,
    /// Accuracy on the class with nothing ablated.
    pub accuracy: f64,
    /// Fall of the accuracy on other classes when the circuit is ablated.
    pub damage: f64,
    /// Against random circuits as large, where the controls ask for them.
    pub random: Option<Against>,
    /// For a circuit of the global model: its overlap with the one that a second search finds in the same weights.
    pub ceiling: Option<f64>,
    /// What its channels are worth one by one, where that is measured.
    pub removals: Option<Removals>,
    /// Accuracy on the class against size, where that is measured.
    pub curve: Vec<CurvePoint>,
}

impl CircuitRecord {
    /// For a circuit of the global model: by how much its own mask serves the class better than the local circuit's.
    pub fn drift_gap(&self) -> Option<f64> {
        self.cross.map(|cross| self.sufficiency - cross)
    }

    /// Channels of the circuit in `layer`.
    pub fn size(&self, layer: &str) -> usize {
        size(&self.active_nodes, layer)
    }
}

/// A client that was asked for a class's circuit and has no example of the class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LackingPair {
    /// Its number.
    pub client: usize,
    /// The class.
    pub class: u32,
    /// The class in words, without its number.
    pub class_name: String,
}

/// Channels of `layer` among those of all layers.
pub(super) fn size(active_nodes: &[(String, Vec<u32>)], layer: &str) -> usize {
    active_nodes.iter().find(|(name, _)| name == layer).map_or(0, |(_, nodes)| nodes.len())
}

/// One row of `controls.csv`: the circuit of a control's search, beside the circuit of the same client and class in the
/// global model.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlRecord {
    /// One-based.
    pub round: usize,
    /// Which search.
    pub control: Control,
    /// Whose examples it used.
    pub client: usize,
    /// The class.
    pub class: u32,
    /// Per gated layer, the channels kept, ascending; empty where the control's training diverged.
    pub active_nodes: Vec<(String, Vec<u32>)>,
    /// Accuracy on the class in the control's weights, nothing ablated.
    pub accuracy: f64,
    /// Accuracy on the class with all other channels ablated.
    pub sufficiency: f64,
    /// Share of other classes' images that the circuit alone calls its class.
    pub false_positive: f64,
    /// Overlap with the circuit of the global model, all layers together; undefined where both are empty.
    pub iou: Option<f64>,
    /// What random sets of these sizes would give on average, see [`super::expected_iou`].
    pub chance: Option<f64>,
}

/// One row of `overlap.csv`: two circuits in one layer, or in `all` of them together.
#[derive(Clone, Debug, PartialEq)]
pub struct OverlapRecord {
    /// One-based; of the later one, where two rounds are compared.
    pub round: usize,
    /// What is compared.
    pub comparison: Comparison,
    /// What is counted.
    pub level: Level,
    /// A layer's name, or `all`.
    pub layer: String,
    /// The first circuit's client.
    pub client_a: usize,
    /// The first circuit's class.
    pub class_a: u32,
    /// The second circuit's client.
    pub client_b: usize,
    /// The second circuit's class.
    pub class_b: u32,
    /// The first circuit's size.
    pub size_a: usize,
    /// The second circuit's size.
    pub size_b: usize,
    /// Shared over united; undefined where both are empty.
    pub iou: Option<f64>,
    /// What random sets of these sizes would give on average, see [`super::expected_iou`].
    pub chance: Option<f64>,
}

/// One row of `overlap_means.csv`: all pairs of a comparison in one layer, or in `all` of them together.
#[derive(Clone, Debug, PartialEq)]
pub struct OverlapMean {
    /// One-based; of the later one, where two rounds are compared.
    pub round: usize,
    /// What is compared.
    pub comparison: Comparison,
    /// What is counted.
    pub level: Level,
    /// A layer's name, or `all`.
    pub layer: String,
    /// The class of both circuits of every pair; `None` for the pairs of all classes.
    pub class: Option<u32>,
    /// How many pairs there are.
    pub pairs: u64,
    /// How many of them are of two empty circuits, whose overlap is undefined.
    pub undefined: u64,
    /// Mean overlap of the others, to 7 digits after the point.
    pub iou: Option<f64>,
    /// Mean of what random sets of the same sizes would give on average. Where a comparison has more pairs than
    /// `overlap.csv` lists, and they have too many different sizes, it is the mean over the pairs listed there.
    pub chance: Option<f64>,
}

/// A circuit for tests to vary.
#[cfg(test)]
pub(super) fn sample_circuit() -> CircuitRecord {
    CircuitRecord {
        round: 1,
        model: ModelSide::Local,
        client: 0,
        class: 0,
        class_name: "zero".into(),
        active_nodes: vec![("conv1".into(), vec![1])],
        connectivity: vec![],
        sufficiency: 1.0,
        necessity: 0.0,
        cross: None,
        cross_answers: vec![],
        false_positive: 0.0,
        diagnosis: Some(Diagnosis::Preserved),
        accuracy: 1.0,
        damage: 0.0,
        random: None,
        ceiling: None,
        removals: None,
        curve: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_one_line_with_layers_in_order_and_nan_as_null() {
        let record = RoundRecord {
            round: 2,
            seconds: Seconds { train: 1.5, centralised: 0.0, circuits: 0.25, evaluate: 0.25, total: 2.0 },
            global: GlobalRecord {
                loss: f64::NAN,
                accuracy: 0.5,
                trained_accuracy: 0.75,
                per_class_accuracy: vec![1.0, f64::INFINITY],
            },
            clients: vec![ClientRecord { client: 0, examples: 10, steps: 5, loss: 0.5, accuracy: 1.0 }],
            dropped: vec![3, 8],
            sparsity: vec![("conv1".into(), 0.5), ("another".into(), 0.0)],
            readbacks: 1,
            bytes_read_back: 64,
        };
        assert_eq!(
            serde_json::to_string(&record).unwrap(),
            r#"{"round":2,"seconds":{"train":1.5,"circuits":0.25,"evaluate":0.25,"total":2.0},"global":{"loss":null,"accuracy":0.5,"trained_accuracy":0.75,"per_class_accuracy":[1.0,null]},"clients":[{"client":0,"examples":10,"steps":5,"loss":0.5,"accuracy":1.0}],"dropped":[3,8],"sparsity":{"conv1":0.5,"another":0.0},"readbacks":1,"bytes_read_back":64}"#
        );
    }
}
