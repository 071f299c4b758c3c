//! Gradient of the loss by the gates of a layer's channels (`shaders/gate_grad.wgsl`).
//!
//! A gate m scales a channel before its ReLU. Where the unit is alive the output is m times what it would be, so at an
//! open gate (m = 1) dL/dm is the sum of output times output gradient; at a closed one the output counts as 0, and with it
//! the sum, whatever lies there: under zero ablation a closed channel feels nothing. Of a layer without a ReLU this holds for
//! the open gates alone: at closed ones the sum is of what the channel would give, which is for [`super::ablate_grad`].

use rayon::prelude::*;

use super::CHUNK;
use super::cases::{LEFT, below, noise};
use super::cross_entropy::tree;
use super::shape::{Batch, Gates, expect};
use super::text::quads;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, Variant, View, always, f32s, f32s_mut};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "gate_grad",
    source: || include_str!("../../shaders/gate_grad.wgsl").into(),
    variants: &[Variant::for_software(
        "a channel a subgroup",
        || super::unroll_with(include_str!("../../shaders/software/gate_grad.wgsl"), &quads::WIDE),
        channels_by_eight,
        always,
    )],
    bindings: &[
        Binding::read("output"),
        Binding::read("output_grad"),
        Binding::read("hard"),
        // A lane adds thousands of products, which a GPU may fuse.
        Binding::write("gate_grads", Compare::Close(1e-5)),
    ],
    params_words: 6,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    slots: u32,
    quads: u32,
    channels: u32,
    pixels: u32,
    gate_words: u32,
    gates_at: u32,
}

/// The grid of a workgroup for every eight channels of a slot.
fn channels_by_eight(params: &[u32]) -> [u32; 3] {
    let p: &Params = bytemuck::from_bytes(bytemuck::cast_slice(params));
    [p.channels.div_ceil(8), p.slots, 1]
}

/// Writes the gradients of one layer's M gates to `grads`, `[K][G]`, from its first gate on; the rest of the row stays.
/// `hard`, the gates of the forward pass as rows of the same layout, says which are closed: those get 0 unseen.
///
/// `output` and `output_grad` are `[K][M][pixels][B]`, as they leave the layer (after ReLU and pooling), and 0 beyond
/// the count of images. Of `batch` the counts are not looked at.
///
/// # Errors
/// [`Error::Kernel`] when B is not a multiple of 4, a buffer is too small, or the layer's gates do not fit a row.
#[expect(clippy::too_many_arguments)]
pub fn gate_grad<'a>(
    device: &dyn Device,
    batch: Batch,
    channels: usize,
    pixels: usize,
    output: View<'a>,
    output_grad: View<'a>,
    hard: View<'a>,
    grads: Gates<'a>,
) -> Result<()> {
    let name = KERNEL.name;
    if grads.at + channels > grads.row_words || !batch.stride.is_multiple_of(4) {
        let (at, row) = (grads.at, grads.row_words);
        let problem = format!("gates {at}.. + {channels} in rows of {row}, {} images", batch.stride);
        return Err(Error::Kernel { kernel: name, problem });
    }
    let words = batch.slots * channels * pixels * batch.stride;
    expect(name, "output", output, words)?;
    expect(name, "output_grad", output_grad, words)?;
    expect(name, "hard", hard, batch.slots * grads.row_words)?;
    expect(name, "gate_grads", grads.values, batch.slots * grads.row_words)?;
    let p = [batch.slots, batch.stride / 4, channels, pixels, grads.row_words, grads.at].map(|n| n as u32);
    let groups = [channels as u32, batch.slots as u32, 1];
    device.dispatch(&KERNEL, &p, &[output, output_grad, hard, grads.values], groups)
}

fn twin(call: Call<'_>) {
    let p: Params = call.params();
    let ([output, output_grad, hard], [gate_grads]) = call.buffers();
    let (slots, stride) = (p.slots as usize, 4 * p.quads as usize);
    let (channels, gates) = (p.channels as usize, p.gate_words as usize);
    let words = p.pixels as usize * stride;
    let rows = f32s_mut(&mut gate_grads[..slots * gates]).par_chunks_mut(gates).enumerate();
    rows.for_each(|(slot, row)| {
        let own = row[p.gates_at as usize..][..channels].par_iter_mut().enumerate();
        own.for_each(|(m, grad)| {
            if f32s(hard)[slot * gates + p.gates_at as usize + m] == 0.0 {
                return *grad = 0.0;
            }
            let first = (slot * channels + m) * words;
            let part = |all| &f32s(all)[first..first + words];
            *grad = channel(stride, part(output), part(output_grad));
        });
    });
}

/// Pixels whose products a workgroup adds side by side.
const GROUPS: usize = 8;

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn channel(stride: usize, output: &[f32], output_grad: &[f32]) -> f32 {
    let mut lanes = [0.0; GROUPS * CHUNK];
    for (pixel, (x, g)) in output.chunks(stride).zip(output_grad.chunks(stride)).enumerate() {
        let sums = &mut lanes[pixel % GROUPS * CHUNK..][..CHUNK];
        for (x, g) in x.chunks(CHUNK).zip(g.chunks(CHUNK)) {
            sums.iter_mut().zip(x).zip(g).for_each(|((sum, x), g)| *sum += x * g);
        }
    }
    tree(lanes)
}

fn cases() -> Vec<Case> {
    let sizes = [
        ("one pixel, four images", 1, 3, 1, 4),
        ("odd", 3, 5, 9, 68),
        ("the first layer of simple-cnn", 2, 32, 196, 256),
    ];
    let case = |(name, slots, channels, pixels, stride): (_, usize, usize, usize, usize)| {
        let words = slots * channels * pixels * stride;
        let p = [slots, stride / 4, channels, pixels, channels + 7, 5];
        Case {
            name,
            params: p.map(|n| n as u32).to_vec(),
            buffers: vec![
                noise(words, 1.0, 1),
                noise(words, 0.01, 2),
                below(slots * (channels + 7), 4, 3).iter().map(|n| n.min(&1) * 1.0f32.to_bits()).collect(),
                vec![LEFT; slots * (channels + 7)],
            ],
            groups: [channels as u32, slots as u32, 1],
            flops: 2 * words as u64,
        }
    };
    sizes.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cases::{bits, on_cpu};
    use super::*;

    fn run(slots: usize, channels: usize, pixels: usize, x: &[f32], g: &[f32]) -> Vec<f32> {
        let stride = x.len() / (slots * channels * pixels);
        let row = slots * (channels + 2);
        let buffers = [bits(x), bits(g), bits(&vec![1.0; row]), bits(&vec![9.0; row])];
        let after = on_cpu(&buffers, |device, v| {
            let gates = Gates { values: v[3], row_words: channels + 2, at: 1 };
            gate_grad(device, Batch { slots, stride, counts_at: 0 }, channels, pixels, v[0], v[1], v[2], gates)
        });
        f32s(&after.unwrap()[3]).to_vec()
    }

    #[test]
    fn by_hand() {
        // Two slots of two channels of one pixel and four images.
        let x: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let g = [1.0, 0.5, 0.0, -1.0].repeat(4);
        assert_eq!(run(2, 2, 1, &x, &g), [9.0, -2.5, -0.5, 9.0, 9.0, 1.5, 3.5, 9.0]);
    }

    /// The widest that the configuration accepts.
    #[test]
    fn a_layer_may_be_as_wide_as_a_grid() {
        let channels = crate::device::grid::LIMIT as usize;
        let grads = run(1, channels, 1, &vec![0.5; 4 * channels], &vec![1.0; 4 * channels]);
        assert_eq!(grads, [vec![9.0], vec![2.0; channels], vec![9.0]].concat());
    }

    #[test]
    fn a_closed_gate_feels_nothing() {
        let (x, g) = (bits(&[1.0; 8]), bits(&[2.0; 8]));
        let buffers = [x, g, bits(&[0.0, 1.0]), bits(&[9.0; 2])];
        let after = on_cpu(&buffers, |device, v| {
            let gates = Gates { values: v[3], row_words: 2, at: 0 };
            gate_grad(device, Batch { slots: 1, stride: 4, counts_at: 0 }, 2, 1, v[0], v[1], v[2], gates)
        });
        assert_eq!(f32s(&after.unwrap()[3]), [0.0, 8.0]);
    }

    #[test]
    fn as_a_float64_sum_and_whatever_the_padding() {
        let (pixels, images) = (9, 52);
        let (x, g) = (noise(pixels * images, 1.0, 3), noise(pixels * images, 1.0, 4));
        let (x, g) = (f32s(&x), f32s(&g));
        let want: f64 = x.iter().zip(g).map(|(x, g)| f64::from(*x) * f64::from(*g)).sum();
        let got = run(1, 1, pixels, x, g)[1];
        // 468 products below 1, in lanes of at most 4 each: some 2^-24 * 10.
        assert!((f64::from(got) - want).abs() <= 2e-6, "{got} {want}");
        let padded = |v: &[f32]| -> Vec<f32> {
            v.chunks(images).flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, 100))).collect()
        };
        assert_eq!(run(1, 1, pixels, &padded(x), &padded(g))[1].to_bits(), got.to_bits());
    }
}
