//! What a round says of its circuits.

use super::controls::{Against, Control};
use super::diagnose::Diagnosis;
use super::edges::Feeds;

/// One circuit of one model, measured on test images. Accuracies are fractions, and not numbers without images.
#[derive(Clone, Debug, PartialEq)]
pub struct CircuitResult {
    /// Channels kept, of each gated layer, ascending.
    pub channels: Vec<Vec<u32>>,
    /// Edges between them, of each gated layer.
    pub edges: Vec<Vec<Feeds>>,
    /// Accuracy on the class with nothing ablated.
    pub accuracy: f64,
    /// Accuracy on the class with every other channel ablated.
    pub sufficiency: f64,
    /// Accuracy on the class with these channels zeroed: low where they are necessary.
    pub necessity: f64,
    /// Share of other classes' images that the circuit alone calls its class: high where it says so of anything.
    pub false_positive: f64,
    /// How much accuracy on the other classes falls when these channels are zeroed.
    pub damage: f64,
    /// Against random circuits, where the controls ask for them.
    pub random: Option<Against>,
    /// What the circuit's channels are worth one by one; `None` where that is not measured, or none is kept.
    pub removals: Option<Removals>,
    /// Accuracy on the class with the channels that rank highest alone, by share of every layer's channels; empty where
    /// it is not measured.
    pub curve: Vec<CurvePoint>,
}

/// What happens when the channels v of a circuit C in the network M are removed in turn, where F is the accuracy on the
/// class (after Wang et al., "Interpretability in the Wild", 2022, whose sets K are single channels here).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Removals {
    /// 1 - mean of |F(C without v) - F(M without v)|: at 1 the circuit answers to every removal as the network does.
    pub completeness: f64,
    /// Share of the channels v for which F(C without v) < F(C): at 1 no channel is idle.
    pub minimality: f64,
}

/// A point of the curve of accuracy against size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// Share of every layer's channels that are kept.
    pub share: f64,
    /// Accuracy on the class.
    pub accuracy: f64,
}

/// Area under a curve of accuracy against size, as a mean accuracy from its first share to its last (trapezoids);
/// `None` of fewer than two points.
pub fn area(curve: &[CurvePoint]) -> Option<f64> {
    let (first, last) = (curve.first()?, curve.last()?);
    let strips = curve.windows(2).map(|p| 0.5 * (p[0].accuracy + p[1].accuracy) * (p[1].share - p[0].share));
    (curve.len() > 1).then(|| strips.sum::<f64>() / (last.share - first.share))
}

/// A client and class: the circuit in the local model, and that in the global one.
#[derive(Clone, Debug, PartialEq)]
pub struct PairResult {
    /// Which of the federations side by side the client belongs to.
    pub replicate: usize,
    /// The client.
    pub client: usize,
    /// The class.
    pub class: u32,
    /// Found in the client's trained model.
    pub local: CircuitResult,
    /// Found in the new global model with the client's data.
    pub global: CircuitResult,
    /// Accuracy on the class of the global weights under the local circuit's mask.
    pub cross: f64,
    /// The same images by what they were called: `[classes]`.
    pub cross_answers: Vec<u32>,
    /// What became of the class and its circuit in the average, where that is known.
    pub diagnosis: Option<Diagnosis>,
    /// The circuits that the searched controls found for the same client and class, in the rounds that have them.
    pub controls: Vec<ControlResult>,
}

impl PairResult {
    /// Overlap (IoU, all layers together) of the global circuit with that of a second search in the same weights: how much
    /// of it the search alone leaves to chance. `None` where that was not searched, or both are empty.
    pub fn ceiling(&self) -> Option<f64> {
        self.controls.iter().find(|c| c.control == Control::Repeat).and_then(|c| c.iou)
    }
}

/// The circuit of a search that should find something else, or the same again. In weights that are no numbers, as where
/// the control's training diverged, nothing of it is defined: every gate would close, and every image be of class 0.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlResult {
    /// Which.
    pub control: Control,
    /// Channels kept, of each gated layer, ascending; of no layer where nothing is defined.
    pub channels: Vec<Vec<u32>>,
    /// Accuracy on the class of the control's weights, nothing ablated.
    pub accuracy: f64,
    /// Accuracy on the class with every other channel ablated.
    pub sufficiency: f64,
    /// Share of other classes' images that the circuit alone calls its class.
    pub false_positive: f64,
    /// Overlap with the pair's circuit in the global model, all layers together; `None` where both are empty.
    pub iou: Option<f64>,
}

impl ControlResult {
    /// Of a search in weights whose loss is not finite.
    pub(super) fn undefined(control: Control) -> Self {
        let nan = f64::NAN;
        Self { control, channels: Vec::new(), accuracy: nan, sufficiency: nan, false_positive: nan, iou: None }
    }

    /// Whether the weights were numbers.
    pub(super) fn is_defined(&self) -> bool {
        !self.channels.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_a_mean_accuracy() {
        let point = |(share, accuracy)| CurvePoint { share, accuracy };
        let curve = [(0.1, 0.0), (0.5, 1.0), (1.0, 0.5)].map(point);
        // 0.4 wide at 0.5 and 0.5 wide at 0.75, over 0.9.
        assert!((area(&curve).unwrap() - (0.2 + 0.375) / 0.9).abs() < 1e-12);
        assert_eq!((area(&curve[..1]), area(&[])), (None, None));
    }
}
