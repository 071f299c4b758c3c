//! Gradient of the loss by gates whose closed channels give something else than zero (`shaders/ablate_grad.wgsl`).
//!
//! With v = m z + (1 - m) fill before the activation, dv/dm = z - fill wherever the gradient passes, at open and closed
//! gates alike, and dv/dz = m. Under zero ablation this is [`super::gate_grad`], where a closed channel feels nothing; here
//! it can come back.

use rayon::prelude::*;

use super::ablate_forward::{FillView, Plane};
use super::cases::ablate::{Setting, settings};
use super::cases::{LEFT, below, noise};
use super::cross_entropy::tree;
use super::shape::{Batch, Gates, expect};
use super::{CHUNK, DEAD};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "ablate_grad",
    source: || include_str!("../../shaders/ablate_grad.wgsl").into(),
    variants: &[],
    bindings: &[
        Binding::read("z"),
        Binding::read("fill"),
        Binding::read("gates"),
        Binding::read("codes"),
        Binding::write("output_grad", Compare::ExactFloats),
        // A lane adds thousands of products, which a GPU may fuse.
        Binding::write("gate_grads", Compare::Close(1e-5)),
    ],
    params_words: 13,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// The buffers of [`ablate_grad`].
#[derive(Clone, Copy, Debug)]
pub struct AblateGrad<'a> {
    /// `[slots][M][H][W][B]`.
    pub z: View<'a>,
    /// What stood in for closed channels.
    pub fill: FillView<'a>,
    /// `[slots][M][PH][PW][B]` bytes, from [`super::ablate_forward`].
    pub codes: View<'a>,
    /// `[slots][M][PH][PW][B]`; set to 0 in closed channels, from which nothing reaches z.
    pub output_grad: View<'a>,
    /// `[slots][G]`, written from the layer's first gate on.
    pub grads: View<'a>,
}

/// Writes the gradients of one layer's M gates, and stops the gradient at closed ones. Padding images have a gradient of 0.
///
/// # Errors
/// [`crate::Error::Kernel`] when the sizes make no layer or a view is too short for them.
pub fn ablate_grad(
    device: &dyn Device,
    plane: &Plane,
    batch: Batch,
    gates: Gates<'_>,
    io: AblateGrad<'_>,
) -> Result<()> {
    let name = KERNEL.name;
    let p = plane.params(name, batch, gates, io.z, io.fill)?;
    let (out_h, out_w) = plane.pooled();
    let outputs = batch.slots * plane.channels * out_h * out_w * batch.stride;
    expect(name, "output_grad", io.output_grad, outputs)?;
    expect(name, "codes", io.codes, outputs / 4)?;
    expect(name, "gate_grads", io.grads, batch.slots * gates.row_words)?;
    let buffers = [io.z, io.fill.view(), gates.values, io.codes, io.output_grad, io.grads];
    device.dispatch(&KERNEL, &p, &buffers, groups(&p))
}

fn groups(p: &[u32; 13]) -> [u32; 3] {
    [p[2], p[0], 1]
}

/// Pixels whose products a workgroup adds side by side.
const GROUPS: usize = 8;

fn twin(call: Call<'_>) {
    let p = call.params::<[u32; 13]>().map(|v| v as usize);
    let [slots, quads, channels, height, width, out_h, out_w, pool, _, gate_words, gates_at, _, donors] = p;
    let ([z, fill, gates, codes], [output_grad, gate_grads]) = call.buffers();
    let (z, fill, gates) = (f32s(z), f32s(fill), f32s(gates));
    let codes: &[u8] = bytemuck::cast_slice(codes);
    let (stride, words) = (4 * quads, out_h * out_w * 4 * quads);
    let planes = f32s_mut(output_grad)[..slots * channels * words].par_chunks_mut(channels * words);
    let rows = f32s_mut(gate_grads)[..slots * gate_words].par_chunks_mut(gate_words);
    planes.zip(rows).enumerate().for_each(|(slot, (planes, row))| {
        let own = planes.par_chunks_mut(words).zip(row[gates_at..][..channels].par_iter_mut()).enumerate();
        own.for_each(|(m, (grads, total))| {
            let gate = slot * gate_words + gates_at + m;
            let (first, codes) = ((slot * channels + m) * height * width, &codes[(slot * channels + m) * words..]);
            let mut lanes = [0.0; GROUPS * CHUNK];
            for (pixel, grads) in grads.chunks(stride).enumerate() {
                let window = first + pixel / out_w * pool * width + pixel % out_w * pool;
                for (b, g) in grads.iter().enumerate() {
                    let code = codes[pixel * stride + b];
                    if code < DEAD {
                        let place = usize::from(code);
                        let at = (window + place / pool * width + place % pool) * stride + b;
                        let with = if donors != 0 { fill[at] } else { fill[gate] };
                        lanes[pixel % GROUPS * CHUNK + b % CHUNK] += g * (z[at] - with);
                    }
                }
            }
            *total = tree(lanes);
            if gates[gate] <= 0.0 {
                grads.fill(0.0);
            }
        });
    });
}

fn cases() -> Vec<Case> {
    let case = |s: Setting| {
        let (params, outputs) = (s.params(), s.outputs());
        // Places that lie in the window, and dead ones.
        let places = (s.pool * s.pool + 1) as u32;
        let code = |c: u32| if c + 1 == places { DEAD } else { c as u8 };
        let codes: Vec<u8> = below(outputs, places, 4).into_iter().map(code).collect();
        Case {
            name: s.name,
            params: params.to_vec(),
            buffers: vec![
                s.z(),
                s.fill(),
                s.gates(),
                codes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect(),
                noise(outputs, 0.01, 5),
                vec![LEFT; s.gate_words()],
            ],
            groups: groups(&params),
            flops: 3 * outputs as u64,
        }
    };
    settings().into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ablate_forward::{AblateForward, ablate_forward};
    use super::super::cases::{bits, on_cpu};
    use super::*;

    /// L = sum of output * slope, with v = m z + (1 - m) fill in float64 and m free: its difference quotient at the hard
    /// gates is what the kernel computes, wherever the window's winner stays the same.
    fn quotient(z: &[f64], fill: impl Fn(usize) -> f64, gate: f64, slope: f64) -> Option<f64> {
        let loss = |m: f64| {
            let v = z.iter().enumerate().map(|(i, z)| m * z + (1.0 - m) * fill(i));
            let (place, best) = v.enumerate().fold((0, f64::NEG_INFINITY), |a, b| if b.1 > a.1 { b } else { a });
            (place, best > 0.0, best.max(0.0) * slope)
        };
        let step = 1e-6;
        let (a, b) = (loss(gate - step), loss(gate + step));
        ((a.0, a.1) == (b.0, b.1)).then(|| (b.2 - a.2) / (2.0 * step))
    }

    #[test]
    fn gradients_agree_with_difference_quotients() {
        let plane = Plane { channels: 6, height: 4, width: 4, pool: 2, relu: true };
        let (stride, batch) = (4, Batch { slots: 1, stride: 4, counts_at: 0 });
        let words = plane.channels * 16 * stride;
        let (z, donors) = (noise(words, 1.0, 1), noise(words, 1.0, 2));
        let gates = bits(&[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
        let (means, slopes) = (noise(6, 0.5, 3), noise(words / 4, 1.0, 4));
        for with_donors in [false, true] {
            let fill = if with_donors { donors.clone() } else { means.clone() };
            let buffers = [
                z.clone(),
                fill.clone(),
                gates.clone(),
                vec![4],
                vec![0; words / 4],
                vec![0; words / 16],
                slopes.clone(),
                vec![0; 6],
            ];
            let after = on_cpu(&buffers, |device, v| {
                let fill = if with_donors { FillView::Donors(v[1]) } else { FillView::Means(v[1]) };
                let gates = Gates { values: v[2], row_words: 6, at: 0 };
                let io = AblateForward { z: v[0], fill, counts: v[3], output: v[4], codes: v[5] };
                ablate_forward(device, &plane, batch, gates, io)?;
                let io = AblateGrad { z: v[0], fill, codes: v[5], output_grad: v[6], grads: v[7] };
                ablate_grad(device, &plane, batch, gates, io)
            });
            let after = after.unwrap();
            for m in 0..6 {
                let (mut want, mut kinks) = (0.0, 0);
                for (pixel, b) in (0..4).flat_map(|pixel| (0..stride).map(move |b| (pixel, b))) {
                    let at = |i: usize| ((m * 4 + pixel / 2 * 2 + i / 2) * 4 + pixel % 2 * 2 + i % 2) * stride + b;
                    let float = |words: &[u32], i: usize| f64::from(f32::from_bits(words[i]));
                    let own: Vec<f64> = (0..4).map(|i| float(&z, at(i))).collect();
                    let with = |i: usize| if with_donors { float(&donors, at(i)) } else { float(&means, m) };
                    let slope = float(&slopes, (m * 4 + pixel) * stride + b);
                    match quotient(&own, with, float(&gates, m), slope) {
                        Some(part) => want += part,
                        // A constant fill has no single winner: the first place stands for all.
                        None => (want, kinks) = (want + slope * (own[0] - with(0)) * f64::from(with(0) > 0.0), 1),
                    }
                }
                let got = f64::from(f32::from_bits(after[7][m]));
                assert!((got - want).abs() < 1e-5, "gate {m}, donors {with_donors}: {got}, not {want}");
                assert!(kinks == 0 || !with_donors, "a kink at gate {m}");
                let stopped = after[6][m * 16..(m + 1) * 16].iter().all(|g| *g == 0);
                assert_eq!(stopped, m % 2 == 1, "the gradient passes open gates only");
            }
        }
    }
}
