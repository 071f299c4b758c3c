//! Convolution, bias, gates, ReLU and 2x2 max-pooling in one pass (`shaders/conv_forward.wgsl`).

use rayon::prelude::*;

use super::DEAD;
use super::layer_cases::conv_cases;
use super::shape::{Batch, CONV_WORDS, Conv, ConvParams, Gates, Place, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "conv_forward",
    source: || super::unroll(include_str!("../../shaders/conv_forward.wgsl")),
    bindings: &[
        Binding::read("input"),
        Binding::read("weights"),
        Binding::read("rows"),
        Binding::read("counts"),
        Binding::read("gates"),
        Binding::write("output", Compare::Close(1e-5)),
        Binding::write("codes", Compare::Codes(1e-4)),
    ],
    params_words: CONV_WORDS,
    workgroup: [64, 1, 1],
    twin,
    cases,
};

fn groups(p: &ConvParams) -> [u32; 3] {
    let side = if p.pool == 2 { 1 } else { 2 };
    let blocks = p.out_height.div_ceil(side) * p.out_width.div_ceil(side);
    let items = blocks * p.out_channels.div_ceil(8) * (p.stride / 4);
    grid::folded(items.div_ceil(64) as usize, p.slots)
}

/// The buffers of [`conv_forward`].
#[derive(Clone, Copy, Debug)]
pub struct ConvForward<'a> {
    /// `[slots][C][H][W][B]`.
    pub input: View<'a>,
    /// `[rows][P]`.
    pub weights: View<'a>,
    /// `[slots]`: the row of `weights` that a slot uses, as `u32`.
    pub rows: View<'a>,
    /// Images of each slot, as `u32`, from word [`Batch::counts_at`].
    pub counts: View<'a>,
    /// `[slots][M][PH][PW][B]`, written.
    pub output: View<'a>,
    /// `[slots][M][PH][PW][B]` bytes, written: the winner's place in its window, or [`DEAD`].
    pub codes: View<'a>,
}

/// `output = pool(relu(gate * (bias + weights * input)))` and where each value came from.
///
/// A NaN passes through the ReLU. Of equal values in a window the first in row-major order wins. A channel whose gate
/// is closed is dead even without a ReLU, so no gradient passes it. Padding images get 0 and code 0.
///
/// # Errors
/// [`crate::Error::Kernel`] when the sizes make no convolution or a view is too short for them.
pub fn conv_forward(
    device: &dyn Device,
    conv: &Conv,
    batch: Batch,
    place: Place,
    gates: Option<Gates<'_>>,
    io: ConvForward<'_>,
) -> Result<()> {
    let name = KERNEL.name;
    conv.check(name, batch, place)?;
    batch.check_counts(name, io.counts)?;
    let images = batch.slots * batch.stride;
    let (input, output) = conv.sizes();
    expect(name, "input", io.input, images * input)?;
    expect(name, "weights", io.weights, place.row_words)?;
    expect(name, "rows", io.rows, batch.slots)?;
    expect(name, "output", io.output, images * output)?;
    expect(name, "codes", io.codes, images / 4 * output)?;
    if let Some(gates) = gates {
        gates.check(name, batch.slots, conv.out_channels)?;
    }
    // Without gates the shader reads none, but something has to be bound.
    let gate_view = gates.map_or(io.counts, |g| g.values);
    let p = ConvParams::new(conv, batch, place, gates);
    let buffers = [io.input, io.weights, io.rows, io.counts, gate_view, io.output, io.codes];
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &buffers, groups(&p))
}

fn twin(call: Call<'_>) {
    let p: ConvParams = call.params();
    let ([input, weights, rows, counts, gates], [output, codes]) = call.buffers();
    let conv = p.conv();
    let (in_size, out_size) = conv.sizes();
    let (out_h, out_w) = conv.pooled();
    let b = p.stride as usize;
    let (h, w, k, pad) = (conv.height, conv.width, conv.kernel, conv.padding);
    let slots = p.slots as usize;
    let out = f32s_mut(output)[..slots * out_size * b].par_chunks_mut(out_size * b);
    let codes: &mut [u8] = bytemuck::cast_slice_mut(codes);
    let all = out.zip(codes[..slots * out_size * b].par_chunks_mut(out_size * b)).enumerate();
    all.for_each(|(slot, (out, codes))| {
        let input = &f32s(input)[slot * in_size * b..][..in_size * b];
        let weights = &f32s(weights)[rows[slot] as usize * p.row_words as usize..][..p.row_words as usize];
        let count = counts[p.counts_at as usize + slot] as usize;
        let mut z = vec![0.0; b];
        for m in 0..conv.out_channels {
            let gate = match p.gate_words as usize {
                0 => 1.0,
                words => f32s(gates)[slot * words + p.gates_at as usize + m],
            };
            for py in 0..out_h {
                for px in 0..out_w {
                    let at = ((m * out_h + py) * out_w + px) * b;
                    for place in 0..conv.pool * conv.pool {
                        let y = py * conv.pool + place / conv.pool;
                        let x = px * conv.pool + place % conv.pool;
                        z.fill(0.0);
                        for c in 0..conv.in_channels {
                            for ky in 0..k {
                                for kx in 0..k {
                                    let (iy, ix) = (y + ky, x + kx);
                                    if iy < pad || iy - pad >= h || ix < pad || ix - pad >= w {
                                        continue;
                                    }
                                    let weight =
                                        weights[p.weights_at as usize + ((m * conv.in_channels + c) * k + ky) * k + kx];
                                    let from = &input[((c * h + iy - pad) * w + ix - pad) * b..][..b];
                                    for (z, v) in z.iter_mut().zip(from) {
                                        *z += weight * v;
                                    }
                                }
                            }
                        }
                        let bias = weights[p.bias_at as usize + m];
                        for i in 0..b {
                            let z = (z[i] + bias) * gate;
                            if place == 0 || z > out[at + i] {
                                out[at + i] = z;
                                codes[at + i] = place as u8;
                            }
                        }
                    }
                    for i in 0..b {
                        if i >= count {
                            (out[at + i], codes[at + i]) = (0.0, 0);
                        } else if (conv.relu && out[at + i] <= 0.0) || gate == 0.0 {
                            codes[at + i] = DEAD;
                            if conv.relu && out[at + i] <= 0.0 {
                                out[at + i] = 0.0;
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
            let output = setting.slots() * setting.stride * c.conv.sizes().1;
            let gates = setting.gates_or_counts(c.conv.out_channels);
            Case {
                name: setting.name,
                params: c.params_words(),
                buffers: vec![
                    c.input(),
                    c.weights(),
                    setting.rows.to_vec(),
                    setting.counts(),
                    gates,
                    vec![7; output],
                    vec![7; output / 4],
                ],
                groups: groups(&c.params()),
                flops: c.flops(),
            }
        })
        .collect()
}
