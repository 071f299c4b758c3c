//! Gradient of a convolution's weights and biases, one partial sum a chunk of images
//! (`shaders/conv_weight_grad.wgsl`); `weight_grad_sum` adds the chunks.

use rayon::prelude::*;

use super::CHUNK;
use super::layer_cases::conv_cases;
use super::shape::{Batch, CONV_WORDS, Conv, ConvParams, Place, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "conv_weight_grad",
    source: || super::unroll(include_str!("../../shaders/conv_weight_grad.wgsl")),
    bindings: &[
        Binding::read("input"),
        Binding::read("output_grad"),
        Binding::read("codes"),
        Binding::read("counts"),
        Binding::write("partials", Compare::Close(1e-5)),
    ],
    params_words: CONV_WORDS,
    workgroup: [32, 1, 1],
    twin,
    cases,
};

fn groups(p: &ConvParams) -> [u32; 3] {
    let corners = p.kernel.div_ceil(3).pow(2);
    let items = p.in_channels.div_ceil(4) * p.out_channels.div_ceil(8) * corners * p.chunks;
    grid::folded(items as usize, p.slots)
}

/// The buffers of [`conv_weight_grad`].
#[derive(Clone, Copy, Debug)]
pub struct ConvWeightGrad<'a> {
    /// `[slots][C][H][W][B]`, zero for padding images.
    pub input: View<'a>,
    /// `[slots][M][PH][PW][B]`, zero for padding images.
    pub output_grad: View<'a>,
    /// `[slots][M][PH][PW][B]` bytes, from the forward pass.
    pub codes: View<'a>,
    /// Images of each slot, as `u32`, from word [`Batch::counts_at`].
    pub counts: View<'a>,
    /// `[slots][chunks][M x C x k x k weights, then M biases]`, written; there is a chunk for every [`CHUNK`] of the B
    /// images, the last perhaps shorter.
    pub partials: View<'a>,
}

/// `partials[m][c][tap] = sum over images and pixels of dz[m][i] * input[c][i + tap]`, `partials[m] = sum of dz[m]`,
/// for each chunk of images; `dz` is as in [`super::conv_input_grad`]. A chunk with no image gets 0.
///
/// # Errors
/// [`crate::Error::Kernel`] when the sizes make no convolution or a view is too short for them.
pub fn conv_weight_grad(
    device: &dyn Device,
    conv: &Conv,
    batch: Batch,
    place: Place,
    io: ConvWeightGrad<'_>,
) -> Result<()> {
    let name = KERNEL.name;
    conv.check(name, batch, place)?;
    batch.check_counts(name, io.counts)?;
    let images = batch.slots * batch.stride;
    let (input, output) = conv.sizes();
    expect(name, "input", io.input, images * input)?;
    expect(name, "output_grad", io.output_grad, images * output)?;
    expect(name, "codes", io.codes, images / 4 * output)?;
    let p = ConvParams::new(conv, batch, place, None);
    expect(name, "partials", io.partials, batch.slots * p.chunks as usize * conv.partial_words())?;
    let buffers = [io.input, io.output_grad, io.codes, io.counts, io.partials];
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &buffers, groups(&p))
}

fn twin(call: Call<'_>) {
    let p: ConvParams = call.params();
    let ([input, output_grad, codes, counts], [partials]) = call.buffers();
    let conv = p.conv();
    let (in_size, out_size) = conv.sizes();
    let (out_h, out_w) = conv.pooled();
    let b = p.stride as usize;
    let (h, w, k, pad) = (conv.height, conv.width, conv.kernel, conv.padding);
    let (slots, chunks, words) = (p.slots as usize, p.chunks as usize, conv.partial_words());
    let codes: &[u8] = bytemuck::cast_slice(codes);
    let all = f32s_mut(partials)[..slots * chunks * words].par_chunks_mut(words).enumerate();
    all.for_each(|(job, partial)| {
        let (slot, chunk) = (job / chunks, job % chunks);
        let input = &f32s(input)[slot * in_size * b..][..in_size * b];
        let output_grad = &f32s(output_grad)[slot * out_size * b..][..out_size * b];
        let codes = &codes[slot * out_size * b..][..out_size * b];
        let count = counts[p.counts_at as usize + slot] as usize;
        let (first, end) = (chunk * CHUNK, count.min((chunk + 1) * CHUNK));
        partial.fill(0.0);
        for m in 0..conv.out_channels {
            for pixel in 0..out_h * out_w {
                for i in first..end {
                    let at = (m * out_h * out_w + pixel) * b + i;
                    let place = codes[at] as usize;
                    if place >= conv.pool * conv.pool {
                        continue;
                    }
                    let dz = output_grad[at];
                    partial[conv.weights() + m] += dz;
                    let y = pixel / out_w * conv.pool + place / conv.pool;
                    let x = pixel % out_w * conv.pool + place % conv.pool;
                    for c in 0..conv.in_channels {
                        for ky in 0..k {
                            for kx in 0..k {
                                let (iy, ix) = (y + ky, x + kx);
                                if iy < pad || iy - pad >= h || ix < pad || ix - pad >= w {
                                    continue;
                                }
                                let v = input[((c * h + iy - pad) * w + ix - pad) * b + i];
                                partial[((m * conv.in_channels + c) * k + ky) * k + kx] += dz * v;
                            }
                        }
                    }
                }
            }
        }
    });
}

fn cases() -> Vec<Case> {
    conv_cases()
        .into_iter()
        .map(|c| Case {
            name: c.setting.name,
            params: c.params_words(),
            buffers: vec![c.input(), c.output_grad(), c.codes(), c.setting.counts(), vec![7; c.partials()]],
            groups: groups(&c.params()),
            flops: c.flops(),
        })
        .collect()
}
