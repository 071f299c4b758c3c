//! Passes in which closed channels give something else than zero: a layer's values before its activation are kept, gates
//! and fill are mixed there, and the activation follows in a kernel of its own.

use super::{Layer, Network, Op, Rows, Workspace};
use crate::device::{Buffer, Device, View};
use crate::error::Result;
use crate::kernels::ablate_forward::{AblateForward, FillView, Plane, ablate_forward};
use crate::kernels::ablate_grad::{AblateGrad, ablate_grad};
use crate::kernels::channel_sum::channel_sum;
use crate::kernels::shape::{Batch, Conv, Gates, Linear};

/// Values before the activation, of every gated layer.
#[derive(Debug)]
pub struct PreActivations {
    /// `[slots][M][H][W][B]` of each gated layer.
    z: Vec<Buffer>,
    /// Codes of fully connected layers, which a workspace lacks.
    codes: Vec<Option<Buffer>>,
    /// Codes of the convolutions before their pooling, which nobody reads.
    scratch: Buffer,
}

/// What stands in for closed channels.
#[derive(Clone, Copy, Debug)]
pub enum Fill<'a> {
    /// A number a channel before the activation, `[slots][G]`.
    Means(View<'a>),
    /// The values of other images.
    Donors(&'a PreActivations),
}

impl Fill<'_> {
    fn view(&self, gated: usize) -> FillView<'_> {
        match self {
            Fill::Means(means) => FillView::Means(*means),
            Fill::Donors(donors) => FillView::Donors(donors.z[gated].all()),
        }
    }
}

/// The layer's values before its activation, and what follows.
fn plane(layer: &Layer) -> Plane {
    match layer.op {
        Op::Conv(conv) => {
            let (height, width) = conv.unpooled();
            Plane { channels: conv.out_channels, height, width, pool: conv.pool, relu: conv.relu }
        }
        Op::Linear(Linear { outputs, relu, .. }) => Plane { channels: outputs, height: 1, width: 1, pool: 1, relu },
    }
}

impl Network {
    /// Words of one slot's [`PreActivations`]: in all, and of the largest buffer.
    pub fn pre_activation_words(&self, stride: usize) -> (usize, usize) {
        let z = self.layout.gates.iter().map(|range| self.z_words(range.layer) * stride);
        let (sum, largest) = z.fold((0, 0), |(sum, largest), words| (sum + words, largest.max(words)));
        (sum + sum / 4 + largest / 4, largest)
    }

    fn z_words(&self, layer: usize) -> usize {
        let Plane { channels, height, width, .. } = plane(&self.layers[layer]);
        channels * height * width
    }

    /// Room for `slots` slots of `stride` images.
    ///
    /// # Errors
    /// What the device says.
    pub fn pre_activations(&self, device: &dyn Device, slots: usize, stride: usize) -> Result<PreActivations> {
        let (mut z, mut codes, mut largest) = (Vec::new(), Vec::new(), 0);
        for range in &self.layout.gates {
            let (layer, words) = (&self.layers[range.layer], slots * self.z_words(range.layer) * stride);
            largest = largest.max(words / 4);
            z.push(device.alloc(&format!("{} before its activation", layer.name), words)?);
            codes.push(match layer.op {
                Op::Conv(_) => None,
                Op::Linear(_) => Some(device.alloc(&format!("{} codes", layer.name), words / 4)?),
            });
        }
        Ok(PreActivations { z, codes, scratch: device.alloc("codes before pooling", largest)? })
    }

    /// From the images in `space.input` to the logits, with `fill` where the hard `gates`, `[slots][G]`, are closed. The
    /// values before every gated layer's activation are left in `before`.
    ///
    /// # Errors
    /// Those of the kernels.
    #[expect(clippy::too_many_arguments)]
    pub fn forward_ablated(
        &self,
        device: &dyn Device,
        space: &Workspace,
        before: &PreActivations,
        batch: Batch,
        from: Rows<'_>,
        gates: View<'_>,
        fill: Fill<'_>,
    ) -> Result<()> {
        for (gated, range) in self.layout.gates.iter().enumerate() {
            let (i, layer) = (range.layer, &self.layers[range.layer]);
            self.before_activation(device, space, before, batch, from, gated)?;
            let io = AblateForward {
                z: before.z[gated].all(),
                fill: fill.view(gated),
                counts: from.counts,
                output: space.output(i),
                codes: before.codes[gated].as_ref().map_or_else(|| space.codes(i), Buffer::all),
            };
            let gates = Gates { values: gates, row_words: self.layout.gate_words, at: range.at };
            ablate_forward(device, &plane(layer), batch, gates, io)?;
        }
        self.forward_layer(device, space, batch, from, None, self.layers.len() - 1)
    }

    fn before_activation(
        &self,
        device: &dyn Device,
        space: &Workspace,
        before: &PreActivations,
        batch: Batch,
        from: Rows<'_>,
        gated: usize,
    ) -> Result<()> {
        let i = self.layout.gates[gated].layer;
        let (input, output) = (space.layer_input(i), before.z[gated].all());
        match self.layers[i].op {
            Op::Conv(conv) => {
                let bare = Conv { pool: 1, relu: false, ..conv };
                self.convolve(device, &bare, batch, from, None, i, (input, output, before.scratch.all()))
            }
            Op::Linear(linear) => {
                let bare = Linear { relu: false, ..linear };
                self.multiply(device, &bare, batch, from, None, i, (input, output))
            }
        }
    }

    /// From the gradient of the logits to those of the gates, `grads` (`[slots][G]`). Follows [`Network::forward_ablated`]
    /// with the same arguments.
    ///
    /// # Errors
    /// Those of the kernels.
    #[expect(clippy::too_many_arguments)]
    pub fn backward_ablated(
        &self,
        device: &dyn Device,
        space: &Workspace,
        before: &PreActivations,
        batch: Batch,
        from: Rows<'_>,
        gates: View<'_>,
        fill: Fill<'_>,
        grads: View<'_>,
    ) -> Result<()> {
        for (i, layer) in self.layers.iter().enumerate().rev() {
            if let Some(range) = self.layout.gates_of(i) {
                let io = AblateGrad {
                    z: before.z[i].all(),
                    fill: fill.view(i),
                    codes: before.codes[i].as_ref().map_or_else(|| space.codes(i), Buffer::all),
                    output_grad: space.output_grad(i),
                    grads,
                };
                let gates = Gates { values: gates, row_words: self.layout.gate_words, at: range.at };
                ablate_grad(device, &plane(layer), batch, gates, io)?;
            }
            if i > 0 {
                // A closed channel is not zero here: no list may leave it out.
                self.input_grad(device, space, batch, from, None, i)?;
            }
        }
        Ok(())
    }

    /// Adds the sums over pixels and images of every gated layer's values before its activation, each times the slot's
    /// scale for that layer (`scales[gated]`, `[slots]`), to `sums`, `[slots][G]`.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn sum_channels(
        &self,
        device: &dyn Device,
        before: &PreActivations,
        batch: Batch,
        scales: &[Buffer],
        sums: View<'_>,
    ) -> Result<()> {
        for (gated, range) in self.layout.gates.iter().enumerate() {
            let Plane { channels, height, width, .. } = plane(&self.layers[range.layer]);
            let sums = Gates { values: sums, row_words: self.layout.gate_words, at: range.at };
            let (values, scales) = (before.z[gated].all(), scales[gated].all());
            channel_sum(device, batch, channels, height * width, values, scales, sums)?;
        }
        Ok(())
    }

    /// Values before the activation of each gated layer, a channel.
    pub fn pixels(&self) -> Vec<usize> {
        self.layout.gates.iter().map(|g| plane(&self.layers[g.layer])).map(|p| p.height * p.width).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;
    use crate::model::{Input, LayerSpec, SpecKind, chain};

    /// What searches are planned by is what these buffers take: values before pooling, codes of fully connected layers, and
    /// codes that nobody reads.
    #[test]
    fn the_words_of_values_before_the_activation_are_those_of_their_buffers() {
        let kinds = [
            SpecKind::Conv { channels: 8, kernel: 3, padding: 1, pool: 2 },
            SpecKind::Linear { features: 40 },
            SpecKind::Linear { features: 10 },
        ];
        let spec = |(i, kind)| LayerSpec { name: format!("l{i}"), kind, relu: i < 2 };
        let specs: Vec<LayerSpec> = kinds.into_iter().enumerate().map(spec).collect();
        let input = Input { channels: 1, height: 12, width: 12 };
        let network = Network::new(chain(&specs, input, 10).unwrap(), input, 10);
        let before = network.pre_activations(&Cpu::new(Some(1)).unwrap(), 3, 8).unwrap();
        let (total, largest) = network.pre_activation_words(8);
        let z: Vec<usize> = before.z.iter().map(Buffer::words).collect();
        // 8 channels of 12 x 12, and 40 units, of 3 slots with 8 images.
        assert_eq!(z, [3 * 8 * 144 * 8, 3 * 40 * 8]);
        assert_eq!(largest, z[0] / 3);
        let codes: usize = before.codes.iter().flatten().map(Buffer::words).sum::<usize>() + before.scratch.words();
        assert!(3 * total >= z.iter().sum::<usize>() + codes, "{total} words planned");
    }
}
