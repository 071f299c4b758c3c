//! The pass forward and backward, written once as kernel calls; it runs on any device.

use super::{Input, Layer, Layout, Op, Weights, Workspace};
use crate::device::{Buffer, Device, View};
use crate::error::Result;
use crate::kernels::shape::{Batch, Conv, Gates, Linear};
use crate::kernels::sparse::{LayerGates, Lists, Side};
use crate::kernels::sparse_conv_forward::sparse_conv_forward;
use crate::kernels::sparse_conv_input_grad::sparse_conv_input_grad;
use crate::kernels::sparse_linear_forward::sparse_linear_forward;
use crate::kernels::sparse_linear_input_grad::sparse_linear_input_grad;
use crate::kernels::{
    conv_forward, conv_input_grad, conv_weight_grad, gate_grad, linear_forward, linear_input_grad, linear_weight_grad,
    weight_grad_sum,
};

/// Layers, and where their parameters and gates lie.
#[derive(Clone, Debug)]
pub struct Network {
    /// In order, from the images to the logits.
    pub layers: Vec<Layer>,
    /// Of a row of parameters and a row of gates.
    pub layout: Layout,
    /// Shape of the images.
    pub input: Input,
    /// Number of logits.
    pub classes: usize,
}

/// Whose weights a pass uses, and how many images it has.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// `[rows][P]`, and lists of their survivors.
    pub weights: Weights<'a>,
    /// `[slots]`: the row of parameters that a slot uses.
    pub rows: View<'a>,
    /// Numbers of images; a batch says where its own stand.
    pub counts: View<'a>,
}

impl Rows<'_> {
    /// The lists of a layer's survivors, if it is to run over them with or without gates.
    pub(super) fn lists(&self, layer: usize, side: Side, gated: bool) -> Option<Lists<'_>> {
        self.weights.survivors.and_then(|survivors| survivors.lists(layer, side, gated))
    }
}

/// What a backward pass is for.
#[derive(Clone, Copy, Debug)]
pub enum Wants<'a> {
    /// Gradients of every parameter, `[slots][P]`.
    Weights(View<'a>),
    /// Gradients of every gate.
    Gates {
        /// The gates of the forward pass, `[slots][G]`.
        hard: View<'a>,
        /// Where the gradients go, `[slots][G]`.
        grads: View<'a>,
    },
}

impl Network {
    /// Lays out `layers`, which chain from `input` to `classes` logits.
    pub fn new(layers: Vec<Layer>, input: Input, classes: usize) -> Self {
        let layout = Layout::new(&layers);
        Self { layers, layout, input, classes }
    }

    /// Layers with gates, and their channels; the layers of all others are never gated.
    pub fn gated_layers(&self) -> Vec<(String, usize)> {
        self.layout.gates.iter().map(|g| (self.layers[g.layer].name.clone(), g.channels)).collect()
    }

    /// From the images in `space.input` to the logits. `gates` is `[slots][G]`, hard; without it nothing is gated. With gates
    /// and over survivors, hidden layers' closed channels may keep what they held, and so may outputs that nothing needs.
    ///
    /// # Errors
    /// Those of the kernels.
    pub fn forward(
        &self,
        device: &dyn Device,
        space: &Workspace,
        batch: Batch,
        from: Rows<'_>,
        gates: Option<View<'_>>,
    ) -> Result<()> {
        (0..self.layers.len()).try_for_each(|layer| self.forward_layer(device, space, batch, from, gates, layer))
    }

    /// One layer of [`Network::forward`], for callers that change what passes between two of them.
    ///
    /// # Errors
    /// Those of the kernels.
    pub fn forward_layer(
        &self,
        device: &dyn Device,
        space: &Workspace,
        batch: Batch,
        from: Rows<'_>,
        gates: Option<View<'_>>,
        layer: usize,
    ) -> Result<()> {
        let (input, output) = (space.layer_input(layer), space.output(layer));
        match self.layers[layer].op {
            Op::Conv(conv) => {
                self.convolve(device, &conv, batch, from, gates, layer, (input, output, space.codes(layer)))
            }
            Op::Linear(linear) => self.multiply(device, &linear, batch, from, gates, layer, (input, output)),
        }
    }

    /// A layer's convolution with what follows it, which `conv` may leave out: input, output and codes.
    #[expect(clippy::too_many_arguments)]
    pub(super) fn convolve(
        &self,
        device: &dyn Device,
        conv: &Conv,
        batch: Batch,
        from: Rows<'_>,
        gates: Option<View<'_>>,
        layer: usize,
        (input, output, codes): (View<'_>, View<'_>, View<'_>),
    ) -> Result<()> {
        let (place, Rows { weights, rows, counts }) = (self.layout.place(layer), from);
        let (weights, rounding) = (weights.values, weights.rounding);
        let io = conv_forward::ConvForward { input, weights, rows, counts, output, codes, rounding };
        match from.lists(layer, Side::Outputs, gates.is_some()) {
            Some(lists) => {
                let closed_unread = self.closed_unread(layer, from);
                let around = gates.map(|values| LayerGates { closed_unread, ..self.layer_gates(layer, values) });
                sparse_conv_forward(device, conv, batch, place, around, lists, io)
            }
            None => conv_forward::conv_forward(device, conv, batch, place, self.own_gates(layer, gates), io),
        }
    }

    /// A layer's matrix product with what follows it, which `linear` may leave out: input and output.
    #[expect(clippy::too_many_arguments)]
    pub(super) fn multiply(
        &self,
        device: &dyn Device,
        linear: &Linear,
        batch: Batch,
        from: Rows<'_>,
        gates: Option<View<'_>>,
        layer: usize,
        (input, output): (View<'_>, View<'_>),
    ) -> Result<()> {
        let (place, Rows { weights, rows, counts }) = (self.layout.place(layer), from);
        let (own, gated) = (self.own_gates(layer, gates), gates.is_some());
        let io = linear_forward::LinearForward { input, weights: weights.values, rows, counts, output };
        match from.lists(layer, Side::Outputs, gated) {
            Some(lists) => sparse_linear_forward(device, linear, batch, place, own, lists, io),
            None => linear_forward::linear_forward(device, linear, batch, place, own, io),
        }
    }

    /// The gates of a layer's own output channels, if it has any.
    fn own_gates<'a>(&self, layer: usize, gates: Option<View<'a>>) -> Option<Gates<'a>> {
        gates.zip(self.layout.gates_of(layer)).map(|(values, g)| Gates {
            values,
            row_words: self.layout.gate_words,
            at: g.at,
        })
    }

    /// From the gradient of the logits ([`Workspace::logits_grad`]) to what is wanted. Follows a forward pass over
    /// the same batch.
    ///
    /// # Errors
    /// Those of the kernels.
    pub fn backward(
        &self,
        device: &dyn Device,
        space: &Workspace,
        batch: Batch,
        from: Rows<'_>,
        wants: Wants<'_>,
    ) -> Result<()> {
        for (i, layer) in self.layers.iter().enumerate().rev() {
            match wants {
                Wants::Weights(grads) => self.weight_grads(device, space, batch, from, i, grads)?,
                Wants::Gates { hard, grads } => {
                    if let Some(range) = self.layout.gates_of(i) {
                        let pixels = layer.sizes().1 / range.channels;
                        let (output, grad) = (space.layers[i].output.all(), space.output_grad(i));
                        let gates = Gates { values: grads, row_words: self.layout.gate_words, at: range.at };
                        gate_grad::gate_grad(device, batch, range.channels, pixels, output, grad, hard, gates)?;
                    }
                }
            }
            if i > 0 {
                let hard = match wants {
                    Wants::Weights(_) => None,
                    Wants::Gates { hard, .. } => Some(hard),
                };
                self.input_grad(device, space, batch, from, hard, i)?;
            }
        }
        Ok(())
    }

    /// The gates around layer `i` in rows of gates.
    fn layer_gates<'a>(&self, i: usize, values: View<'a>) -> LayerGates<'a> {
        let at = |layer: Option<usize>| self.layout.gates_of(layer?).map(|g| g.at);
        let row_words = self.layout.gate_words;
        LayerGates { values, row_words, outputs_at: at(Some(i)), inputs_at: at(i.checked_sub(1)), closed_unread: false }
    }

    /// Whether closed channels of layer `i` are nobody's in a pass with gates: what reads a layer's outputs and codes is
    /// [`gate_grad`], which leaves them out, the next layer, and the layer's own input gradient, and those do so over lists
    /// (the latter wherever the forward pass does, as long as both have one density at which they turn to lists).
    fn closed_unread(&self, i: usize, from: Rows<'_>) -> bool {
        let next = matches!(self.layers.get(i + 1), Some(Layer { op: Op::Conv(_), .. }));
        let over_lists = |layer, side| from.lists(layer, side, true).is_some();
        next && over_lists(i + 1, Side::Outputs) && (i == 0 || over_lists(i, Side::Inputs))
    }

    fn weight_grads(
        &self,
        device: &dyn Device,
        space: &Workspace,
        batch: Batch,
        from: Rows<'_>,
        i: usize,
        grads: View<'_>,
    ) -> Result<()> {
        let (place, counts) = (self.layout.place(i), from.counts);
        let (input, output_grad) = (space.layer_input(i), space.output_grad(i));
        match self.layers[i].op {
            Op::Conv(conv) => {
                let partials = space.partials.as_ref().map(Buffer::all).unwrap_or(output_grad);
                let codes = space.codes(i);
                let io = conv_weight_grad::ConvWeightGrad { input, output_grad, codes, counts, partials };
                conv_weight_grad::conv_weight_grad(device, &conv, batch, place, io)?;
                let io = weight_grad_sum::WeightGradSum { partials, grads };
                weight_grad_sum::weight_grad_sum(device, &conv, batch, place, io)
            }
            Op::Linear(linear) => {
                let output = space.layers[i].output.all();
                let io = linear_weight_grad::LinearWeightGrad { input, output, output_grad, counts, grads };
                linear_weight_grad::linear_weight_grad(device, &linear, batch, place, io)
            }
        }
    }

    pub(super) fn input_grad(
        &self,
        device: &dyn Device,
        space: &Workspace,
        batch: Batch,
        from: Rows<'_>,
        hard: Option<View<'_>>,
        i: usize,
    ) -> Result<()> {
        let Rows { weights: Weights { values: weights, .. }, rows, counts } = from;
        let (place, lists) = (self.layout.place(i), from.lists(i, Side::Inputs, hard.is_some()));
        let (output_grad, input_grad) = (space.output_grad(i), space.output_grad(i - 1));
        match self.layers[i].op {
            Op::Conv(conv) => {
                let codes = space.codes(i);
                let io = conv_input_grad::ConvInputGrad { output_grad, codes, weights, rows, counts, input_grad };
                match lists {
                    Some(lists) => {
                        let gates = hard.map(|values| self.layer_gates(i, values));
                        sparse_conv_input_grad(device, &conv, batch, place, gates, lists, io)
                    }
                    None => conv_input_grad::conv_input_grad(device, &conv, batch, place, io),
                }
            }
            Op::Linear(linear) => {
                let (output, gates) = (space.layers[i].output.all(), self.own_gates(i, hard));
                let io = linear_input_grad::LinearInputGrad { output, output_grad, weights, rows, counts, input_grad };
                match lists {
                    Some(lists) => sparse_linear_input_grad(device, &linear, batch, place, gates, lists, io),
                    None => linear_input_grad::linear_input_grad(device, &linear, batch, place, gates, io),
                }
            }
        }
    }
}
