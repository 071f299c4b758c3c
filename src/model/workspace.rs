//! What a pass works in: the activations and gradients of a batch, and how many words they take.

use super::{Layer, Network, Op};
use crate::device::{Buffer, Device, View};
use crate::error::Result;
use crate::kernels::CHUNK;

/// Activations and gradients of one batch for some slots. What it holds between passes is nobody's.
#[derive(Debug)]
pub struct Workspace {
    /// Slots it has room for.
    pub slots: usize,
    /// B: images a slot, padded.
    pub stride: usize,
    /// `[slots][C*H*W][B]`.
    pub input: Buffer,
    /// `[slots][B]`, a class or `u32::MAX`.
    pub targets: Buffer,
    pub(super) layers: Vec<LayerBuffers>,
    pub(super) partials: Option<Buffer>,
}

#[derive(Debug)]
pub(super) struct LayerBuffers {
    pub output: Buffer,
    codes: Option<Buffer>,
    output_grad: Option<Buffer>,
}

/// What a workspace has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Forward passes.
    Forward,
    /// Forward passes and gradients of activations.
    Gates,
    /// All of that and gradients of weights.
    Weights,
}

impl Network {
    /// Words of one slot's workspace: in all, and of its largest buffer.
    pub fn workspace_words(&self, stride: usize, depth: Depth) -> (usize, usize) {
        let mut parts = vec![self.layers[0].sizes().0 * stride, stride];
        for layer in &self.layers {
            let output = layer.sizes().1 * stride;
            parts.push(output);
            if matches!(layer.op, Op::Conv(_)) {
                parts.push(output / 4);
            }
            if depth != Depth::Forward {
                parts.push(output);
            }
        }
        if depth == Depth::Weights {
            parts.push(self.partial_words(stride));
        }
        (parts.iter().sum(), parts.into_iter().max().unwrap_or(0))
    }

    fn partial_words(&self, stride: usize) -> usize {
        let words = |layer: &Layer| match layer.op {
            Op::Conv(conv) => conv.partial_words() * stride.div_ceil(CHUNK),
            Op::Linear(_) => 0,
        };
        self.layers.iter().map(words).max().unwrap_or(0)
    }

    /// Buffers for `slots` slots of `stride` images.
    ///
    /// # Errors
    /// What [`Device::alloc`] says.
    pub fn workspace(&self, device: &dyn Device, slots: usize, stride: usize, depth: Depth) -> Result<Workspace> {
        let mut layers = Vec::new();
        for layer in &self.layers {
            let words = slots * layer.sizes().1 * stride;
            let grads = depth != Depth::Forward;
            layers.push(LayerBuffers {
                output: device.alloc(&format!("{} output", layer.name), words)?,
                codes: match layer.op {
                    Op::Conv(_) => Some(device.alloc(&format!("{} codes", layer.name), words / 4)?),
                    Op::Linear(_) => None,
                },
                output_grad: grads
                    .then(|| device.alloc(&format!("{} output gradient", layer.name), words))
                    .transpose()?,
            });
        }
        let partials = match self.partial_words(stride) {
            words if depth == Depth::Weights && words > 0 => {
                // They are added by fours.
                Some(device.alloc("partial weight gradients", (slots * words).next_multiple_of(4))?)
            }
            _ => None,
        };
        Ok(Workspace {
            slots,
            stride,
            input: device.alloc("images", slots * self.layers[0].sizes().0 * stride)?,
            targets: device.alloc("targets", slots * stride)?,
            layers,
            partials,
        })
    }
}

impl Workspace {
    /// `[slots][classes][B]`, after a forward pass.
    pub fn logits(&self) -> View<'_> {
        self.layers[self.layers.len() - 1].output.all()
    }

    /// `[slots][classes][B]`, to be filled before a backward pass.
    pub fn logits_grad(&self) -> View<'_> {
        self.output_grad(self.layers.len() - 1)
    }

    pub(super) fn layer_input(&self, layer: usize) -> View<'_> {
        if layer == 0 { self.input.all() } else { self.layers[layer - 1].output.all() }
    }

    /// `[slots][C][H][W][B]`: what a layer gave, after its ReLU and pooling; in channels that a pass over survivors closed,
    /// perhaps what an earlier pass left there.
    pub fn output(&self, layer: usize) -> View<'_> {
        self.layers[layer].output.all()
    }

    // Only a workspace of the right depth reaches the calls below: their absence is a fault of this module.
    pub(super) fn codes(&self, layer: usize) -> View<'_> {
        self.layers[layer].codes.as_ref().expect("convolutions have codes").all()
    }

    pub(super) fn output_grad(&self, layer: usize) -> View<'_> {
        self.layers[layer].output_grad.as_ref().expect("the workspace holds gradients").all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;
    use crate::model::Input;
    use crate::model::layers::tests::simple_cnn;

    /// What a wave is planned by is what its buffers take.
    #[test]
    fn the_words_of_a_workspace_are_those_of_its_buffers() {
        let (cpu, input) = (Cpu::new(Some(1)).unwrap(), Input { channels: 1, height: 28, width: 28 });
        let network = Network::new(simple_cnn(), input, 10);
        for depth in [Depth::Forward, Depth::Gates, Depth::Weights] {
            for (slots, stride) in [(1, 8), (3, 36)] {
                let space = network.workspace(&cpu, slots, stride, depth).unwrap();
                let layers =
                    space.layers.iter().flat_map(|l| [Some(&l.output), l.codes.as_ref(), l.output_grad.as_ref()]);
                let all = layers.chain([Some(&space.input), Some(&space.targets), space.partials.as_ref()]).flatten();
                let sizes: Vec<usize> = all.map(Buffer::words).collect();
                let (total, largest) = network.workspace_words(stride, depth);
                assert_eq!(sizes.iter().sum::<usize>(), slots * total, "{depth:?}, {stride} images");
                assert_eq!(sizes.iter().max(), Some(&(slots * largest)), "{depth:?}, {stride} images");
            }
        }
    }
}
