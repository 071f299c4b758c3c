//! Where each tensor lies in a client's row of parameters, and where each layer's gates lie.

use super::{Layer, Op};
use crate::kernels::shape::Place;

/// One weight or bias tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// PyTorch's name: `conv1.weight`.
    pub name: String,
    /// The layer's number.
    pub layer: usize,
    /// PyTorch's shape: `[M, C, k, k]`, `[M, N]` or `[M]`.
    pub shape: Vec<usize>,
    /// First word in the row.
    pub at: usize,
    /// Terms of one output's sum, which bounds the initial values.
    pub fan_in: usize,
}

impl Tensor {
    /// Number of elements.
    pub fn words(&self) -> usize {
        self.shape.iter().product()
    }

    /// Biases are never pruned.
    pub fn is_bias(&self) -> bool {
        self.shape.len() == 1
    }
}

/// The gates of one layer: one an output channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateRange {
    /// The layer's number.
    pub layer: usize,
    /// First gate.
    pub at: usize,
    /// Number of gates: the layer's output channels.
    pub channels: usize,
}

/// A row of parameters and a row of gates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Weights and biases in PyTorch's order.
    pub tensors: Vec<Tensor>,
    /// P: words of a row. Every tensor starts at a multiple of 4, and P is one; the words between belong to nobody and
    /// stay zero.
    pub words: usize,
    /// Gates of every layer but the last, which is never gated: in the order of the layers.
    pub gates: Vec<GateRange>,
    /// G: gates in all.
    pub gate_words: usize,
}

impl Layout {
    /// Lays out `layers` in order.
    pub fn new(layers: &[Layer]) -> Self {
        let mut tensors = Vec::new();
        let mut words = 0;
        for (i, layer) in layers.iter().enumerate() {
            let weight_shape = match layer.op {
                Op::Conv(c) => vec![c.out_channels, c.in_channels, c.kernel, c.kernel],
                Op::Linear(l) => vec![l.outputs, l.inputs],
            };
            for (suffix, shape) in [("weight", weight_shape), ("bias", vec![layer.channels()])] {
                let name = format!("{}.{suffix}", layer.name);
                let tensor = Tensor { name, layer: i, shape, at: words, fan_in: layer.fan_in() };
                words += tensor.words().next_multiple_of(4);
                tensors.push(tensor);
            }
        }
        let mut gates: Vec<GateRange> = Vec::new();
        let mut gate_words = 0;
        for (layer, channels) in layers.iter().map(Layer::channels).enumerate().take(layers.len().saturating_sub(1)) {
            gates.push(GateRange { layer, at: gate_words, channels });
            gate_words += channels;
        }
        Self { tensors, words, gates, gate_words }
    }

    /// Where `layer`'s weight and bias lie.
    pub fn place(&self, layer: usize) -> Place {
        let (weight, bias) = (&self.tensors[2 * layer], &self.tensors[2 * layer + 1]);
        Place { row_words: self.words, weights_at: weight.at, bias_at: bias.at }
    }

    /// The gates of `layer`'s output channels, if it has any.
    pub fn gates_of(&self, layer: usize) -> Option<&GateRange> {
        self.gates.get(layer)
    }

    /// The tensors that pruning touches: every weight, no bias.
    pub fn prunable(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.iter().filter(|t| !t.is_bias())
    }

    /// Trainable parameters, padding not counted.
    pub fn parameters(&self) -> usize {
        self.tensors.iter().map(Tensor::words).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_network_has_104202_parameters_and_224_gates() {
        let layout = Layout::new(&super::super::layers::tests::simple_cnn());
        assert_eq!(layout.parameters(), 104_202);
        assert_eq!(layout.gate_words, 224);
        let gates = (0..4).map(|layer| layout.gates_of(layer).map(|g| (g.layer, g.at, g.channels)));
        assert_eq!(gates.collect::<Vec<_>>(), [Some((0, 0, 32)), Some((1, 32, 64)), Some((2, 96, 128)), None]);
        let names: Vec<_> = layout.tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names[..2], ["conv1.weight", "conv1.bias"]);
        assert_eq!(names[6..], ["fc.weight", "fc.bias"]);
        assert!(layout.tensors.iter().all(|t| t.at.is_multiple_of(4)) && layout.words.is_multiple_of(4));
        assert!(layout.tensors.windows(2).all(|t| t[0].at + t[0].words() <= t[1].at));
    }
}
