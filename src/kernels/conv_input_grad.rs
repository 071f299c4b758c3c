//! Gradient of a convolution's input (`shaders/conv_input_grad.wgsl`).

use rayon::prelude::*;

use super::layer_cases::conv_cases;
use super::shape::{Batch, CONV_WORDS, Conv, ConvParams, Place, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "conv_input_grad",
    source: || super::unroll(include_str!("../../shaders/conv_input_grad.wgsl")),
    bindings: &[
        Binding::read("output_grad"),
        Binding::read("codes"),
        Binding::read("weights"),
        Binding::read("rows"),
        Binding::read("counts"),
        Binding::write("input_grad", Compare::Close(1e-5)),
    ],
    params_words: CONV_WORDS,
    workgroup: [64, 1, 1],
    twin,
    cases,
};

fn groups(p: &ConvParams) -> [u32; 3] {
    let early = 1 - p.padding % 2;
    let blocks = (p.height + early).div_ceil(2) * (p.width + early).div_ceil(2);
    let items = blocks * p.in_channels.div_ceil(8) * (p.stride / 4);
    grid::folded(items.div_ceil(64) as usize, p.slots)
}

/// The buffers of [`conv_input_grad`].
#[derive(Clone, Copy, Debug)]
pub struct ConvInputGrad<'a> {
    /// `[slots][M][PH][PW][B]`, zero for padding images.
    pub output_grad: View<'a>,
    /// `[slots][M][PH][PW][B]` bytes, from the forward pass.
    pub codes: View<'a>,
    /// `[rows][P]`.
    pub weights: View<'a>,
    /// `[slots]`: the row of `weights` that a slot uses, as `u32`.
    pub rows: View<'a>,
    /// Images of each slot, as `u32`, from word [`Batch::counts_at`].
    pub counts: View<'a>,
    /// `[slots][C][H][W][B]`, written.
    pub input_grad: View<'a>,
}

/// `input_grad[c][i] = sum over m, tap of weights[m][c][tap] * dz[m][i - tap]`, where `dz` is `output_grad` at the
/// winner of each pooling window and 0 elsewhere and where dead. Padding images get 0.
///
/// # Errors
/// [`crate::Error::Kernel`] when the sizes make no convolution or a view is too short for them.
pub fn conv_input_grad(
    device: &dyn Device,
    conv: &Conv,
    batch: Batch,
    place: Place,
    io: ConvInputGrad<'_>,
) -> Result<()> {
    let name = KERNEL.name;
    conv.check(name, batch, place)?;
    batch.check_counts(name, io.counts)?;
    let images = batch.slots * batch.stride;
    let (input, output) = conv.sizes();
    expect(name, "output_grad", io.output_grad, images * output)?;
    expect(name, "codes", io.codes, images / 4 * output)?;
    expect(name, "weights", io.weights, place.row_words)?;
    expect(name, "rows", io.rows, batch.slots)?;
    expect(name, "input_grad", io.input_grad, images * input)?;
    let p = ConvParams::new(conv, batch, place, None);
    let buffers = [io.output_grad, io.codes, io.weights, io.rows, io.counts, io.input_grad];
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &buffers, groups(&p))
}

fn twin(call: Call<'_>) {
    let p: ConvParams = call.params();
    let ([output_grad, codes, weights, rows, counts], [input_grad]) = call.buffers();
    let conv = p.conv();
    let (in_size, out_size) = conv.sizes();
    let (out_h, out_w) = conv.pooled();
    let b = p.stride as usize;
    let (h, w, k, pad) = (conv.height, conv.width, conv.kernel, conv.padding);
    let slots = p.slots as usize;
    let codes: &[u8] = bytemuck::cast_slice(codes);
    let all = f32s_mut(input_grad)[..slots * in_size * b].par_chunks_mut(in_size * b).enumerate();
    all.for_each(|(slot, input_grad)| {
        let output_grad = &f32s(output_grad)[slot * out_size * b..][..out_size * b];
        let codes = &codes[slot * out_size * b..][..out_size * b];
        let weights = &f32s(weights)[rows[slot] as usize * p.row_words as usize..][..p.row_words as usize];
        let count = counts[p.counts_at as usize + slot] as usize;
        input_grad.fill(0.0);
        let mut dz = vec![0.0; b];
        for m in 0..conv.out_channels {
            for pixel in 0..out_h * out_w {
                for place in 0..conv.pool * conv.pool {
                    let at = (m * out_h * out_w + pixel) * b;
                    for i in 0..count {
                        let wins = codes[at + i] as usize == place;
                        dz[i] = if wins { output_grad[at + i] } else { 0.0 };
                    }
                    let y = pixel / out_w * conv.pool + place / conv.pool;
                    let x = pixel % out_w * conv.pool + place % conv.pool;
                    for c in 0..conv.in_channels {
                        for ky in 0..k {
                            for kx in 0..k {
                                let (iy, ix) = (y + ky, x + kx);
                                if iy < pad || iy - pad >= h || ix < pad || ix - pad >= w {
                                    continue;
                                }
                                let weight =
                                    weights[p.weights_at as usize + ((m * conv.in_channels + c) * k + ky) * k + kx];
                                let to = &mut input_grad[((c * h + iy - pad) * w + ix - pad) * b..][..b];
                                for (to, dz) in to.iter_mut().zip(&dz) {
                                    *to += weight * dz;
                                }
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
        .map(|c| {
            let setting = &c.setting;
            let input = setting.slots() * setting.stride * c.conv.sizes().0;
            Case {
                name: setting.name,
                params: c.params_words(),
                buffers: vec![
                    c.output_grad(),
                    c.codes(),
                    c.weights(),
                    setting.rows.to_vec(),
                    setting.counts(),
                    vec![7; input],
                ],
                groups: groups(&c.params()),
                flops: c.flops(),
            }
        })
        .collect()
}
