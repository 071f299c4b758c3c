//! Gradient of a convolution's weights and biases, one partial sum a chunk of images
//! (`shaders/conv_weight_grad.wgsl`); `weight_grad_sum` adds the chunks.

use rayon::prelude::*;

use super::cases::LEFT;
use super::cases::conv::{ConvCase, conv_cases, large_convs};
use super::cpu::packed::{Frame, Images, Taps, pack_dz, pack_input, with_scratch};
use super::cpu::{one_channel, winners};
use super::shape::{Batch, CONV_WORDS, Conv, ConvParams, Place, expect};
use super::text::conv_tile::{even, parsed, software};
use super::text::quads::{self, Quads};
use crate::device::linalg::{Mat, MatMut, matmul};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, Variant, View, always, f32s, f32s_mut, grid};
use crate::error::Result;

/// A variant for hardware whose threads own so many output and input channels.
macro_rules! own_order {
    ($outputs:literal, $inputs:literal, $suits:expr) => {
        Variant {
            own_order: true,
            ..Variant::new(
                concat!(stringify!($outputs), " by ", stringify!($inputs), " channels, an image a thread"),
                || an_image_a_thread($outputs, $inputs),
                |p| images(parsed(p), $outputs, $inputs),
                $suits,
            )
        }
    };
}

/// A variant for software Vulkan whose threads own so many output channels. Fewer than five input channels leave half of its
/// lanes without one.
macro_rules! side_by_side {
    ($outputs:literal, $suits:expr) => {
        Variant::for_software(
            concat!("input channels side by side, ", stringify!($outputs), " output channels"),
            || channels_side_by_side($outputs),
            |p| side_by_side(parsed(p), $outputs),
            |p| parsed(p).in_channels > 4 && $suits(parsed(p)),
        )
    };
}

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "conv_weight_grad",
    source: || text(quads::PLAIN),
    variants: &[
        side_by_side!(32, |p: &ConvParams| even(p.out_channels, 16)).with_fewer_loads(),
        side_by_side!(16, |_| true).with_fewer_loads(),
        // The loop of a larger tile is more machine code than the 32 KiB that a core keeps at hand.
        side_by_side!(8, |_| true),
        Variant::for_software("64 bits at a time", || text(quads::WIDE), |p| groups(parsed(p)), always),
        // Large tiles only where enough workgroups are left to fill a large GPU.
        own_order!(4, 4, |p| workgroups(images(parsed(p), 4, 4)) >= 4096 && parsed(p).in_channels > 1),
        own_order!(4, 2, |p| parsed(p).in_channels > 1),
        own_order!(2, 1, always),
    ],
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
    large,
};

fn text(quads: Quads) -> String {
    super::unroll_with(include_str!("../../shaders/conv_weight_grad.wgsl"), &quads)
}

fn workgroups(groups: [u32; 3]) -> u32 {
    groups.iter().product()
}

fn an_image_a_thread(outputs: u32, inputs: u32) -> String {
    let sums = 9 * inputs + 1;
    // Few at a time: what one workgroup takes of a GPU's fast memory others lack, and then loads have nothing to hide behind.
    let round = (1..=outputs).rev().find(|n| outputs.is_multiple_of(*n) && 4 * 33 * n * sums <= 2560).unwrap_or(1);
    let words = 33 * round * sums;
    let parts =
        [("OUTPUTS", outputs), ("INPUTS", inputs), ("ROUNDS", outputs / round), ("ROUND", round), ("WORDS", words)];
    let parts = parts.map(|(name, number)| (name, number.to_string()));
    let parts: Vec<_> = parts.iter().map(|(name, number)| (*name, number.as_str())).collect();
    super::unroll_with(include_str!("../../shaders/hardware/conv_weight_grad.wgsl"), &parts)
}

/// The grid of a workgroup for every chunk and so many channels.
fn images(p: &ConvParams, outputs: u32, inputs: u32) -> [u32; 3] {
    grid::folded((p.in_channels.div_ceil(inputs) * p.out_channels.div_ceil(outputs) * parts(p)) as usize, p.slots)
}

fn groups(p: &ConvParams) -> [u32; 3] {
    grid::folded((p.in_channels.div_ceil(4) * p.out_channels.div_ceil(8) * parts(p)) as usize, p.slots)
}

/// The text of a variant for software Vulkan whose threads own so many output channels.
fn channels_side_by_side(tile: u32) -> String {
    // After a channel's sums are stored, each of the others moves up by one.
    let shift: String = (1..tile).map(|m| format!("a{}_$t = a{m}_$t;\n", m - 1)).collect();
    let (tile, sets) = (tile.to_string(), (tile / 8).to_string());
    let parts = [("TILE", tile.as_str()), ("SETS", &sets), ("SHIFT", &shift)];
    software(include_str!("../../shaders/software/conv_weight_grad.wgsl"), &parts)
}

/// The grid of a subgroup for every 8 input and `tile` output channels.
fn side_by_side(p: &ConvParams, tile: u32) -> [u32; 3] {
    let items = p.in_channels.div_ceil(8) * p.out_channels.div_ceil(tile) * parts(p);
    grid::folded(items.div_ceil(4) as usize, p.slots)
}

/// Pieces of 3x3 taps in each chunk of images.
fn parts(p: &ConvParams) -> u32 {
    p.kernel.div_ceil(3).pow(2) * p.chunks
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
    /// `[slots][chunks][M x C x k x k weights, then M biases]`, written; there is a chunk for every [`super::CHUNK`] of the B
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
    let (input_words, output_words) = conv.sizes();
    let (stride, chunks, taps) = (p.stride as usize, p.chunks as usize, Taps::of_input(&conv));
    let codes: &[u8] = bytemuck::cast_slice(codes);
    let jobs = f32s_mut(partials).par_chunks_exact_mut(conv.partial_words()).take(p.slots as usize * chunks);
    jobs.enumerate().for_each(|(job, partial)| {
        let (slot, chunk) = (job / chunks, job % chunks);
        let images = Images::new(chunk, stride, counts[p.counts_at as usize + slot]);
        let input = &f32s(input)[slot * input_words * stride..][..input_words * stride];
        let words = slot * output_words * stride..(slot + 1) * output_words * stride;
        let grad = (&f32s(output_grad)[words.clone()], &codes[words]);
        if winners::applies(&conv) {
            winners::weight_grad(&conv, images, input, grad, partial);
        } else if one_channel::applies(&conv) {
            one_channel::weight_grad(&conv, images, input, grad, partial);
        } else {
            backward(&conv, &taps, images, input, grad, partial);
        }
    });
}

fn backward(conv: &Conv, taps: &Taps, images: Images, input: &[f32], grad: (&[f32], &[u8]), partial: &mut [f32]) {
    if images.real == 0 {
        return partial.fill(0.0);
    }
    let (lanes, outputs) = (images.lanes, conv.out_channels);
    let row = taps.out_width * lanes;
    let (weights, biases) = partial.split_at_mut(conv.weights());
    biases.fill(0.0);
    with_scratch([taps.words(lanes), conv.pool * outputs * row, conv.weights()], |[packed, dz, sums]| {
        pack_input(conv, taps, images, input, packed);
        sums.fill(0.0);
        for py in 0..conv.pooled().0 {
            // One row of windows at a time, so that dz stays in the cache.
            let frame = Frame { row: py * conv.pool, margin: 0, width: taps.out_width, step: row };
            pack_dz(conv, frame, images, grad, dz);
            for (wy, dz) in dz.chunks_exact(outputs * row).enumerate() {
                products(taps, packed, lanes, frame.row + wy, dz, sums);
                add_sums(dz, row, biases);
            }
        }
        scatter(conv, taps, sums, weights);
    });
}

/// `sums[pass][tap][m] +=` the products of row `y`: `dz`, `[M][x][lanes]`, times the packed images.
fn products(taps: &Taps, packed: &[f32], lanes: usize, y: usize, dz: &[f32], sums: &mut [f32]) {
    let (first, ky, rows) = taps.rows_read(y);
    if rows == 0 {
        return;
    }
    let length = taps.out_width * lanes;
    let outputs = dz.len() / length;
    for pass in 0..taps.passes {
        let images = &packed[first * taps.channels * taps.step(lanes) + pass * lanes..];
        let sums = &mut sums[(pass * taps.depth() + ky * taps.channels) * outputs..];
        // Transposed, the vectors of the product run along M, whose operand is packed once for all taps.
        let out = MatMut { data: sums, row: 1, col: outputs };
        let lhs = Mat { data: dz, row: length, col: 1 };
        let rhs = Mat { data: images, row: 1, col: taps.step(lanes) };
        matmul(outputs, rows * taps.channels, length, out, lhs, rhs, true);
    }
}

/// `[pass][tap][M]` to `[M][C][ky][kx]`.
fn scatter(conv: &Conv, taps: &Taps, sums: &[f32], weights: &mut [f32]) {
    let (k, outputs) = (conv.kernel, conv.out_channels);
    let square = k * k;
    for c in 0..conv.in_channels {
        let at = |tap: usize| {
            let (pass, place) = taps.place(c, tap / k, tap % k);
            (pass * taps.depth() + place) * outputs
        };
        let places: Vec<usize> = (0..square).map(at).collect();
        // Filter by filter: the taps of one channel lie in a few lines of cache, in both.
        for (m, weights) in weights.chunks_exact_mut(conv.in_channels * square).enumerate() {
            let to = weights[c * square..][..square].iter_mut();
            to.zip(&places).for_each(|(weight, place)| *weight = sums[place + m]);
        }
    }
}

/// `sums[m] +=` the sum of `row` numbers.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn add_sums(numbers: &[f32], row: usize, sums: &mut [f32]) {
    for (numbers, sum) in numbers.chunks_exact(row).zip(sums) {
        let (vectors, rest) = numbers.as_chunks::<16>();
        let mut lanes = [0.0; 16];
        for vector in vectors {
            lanes.iter_mut().zip(vector).for_each(|(l, v)| *l += v);
        }
        *sum += lanes.iter().sum::<f32>() + rest.iter().sum::<f32>();
    }
}

fn cases() -> Vec<Case> {
    conv_cases().into_iter().map(case).collect()
}

fn large() -> Vec<Case> {
    large_convs().into_iter().map(case).collect()
}

fn case(c: ConvCase) -> Case {
    Case {
        name: c.setting.name,
        params: c.params_words(),
        buffers: vec![c.input(), c.output_grad(), c.codes(), c.setting.counts(), vec![LEFT; c.partials()]],
        groups: groups(&c.params()),
        flops: c.flops(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::CHUNK;
    use super::super::tests::reference;
    use super::*;

    /// Each chunk's partial sum, biases included, against differences summed over the chunk's images. What stands in
    /// `output_grad` at padding images does not count.
    #[test]
    fn gradients_agree_with_finite_differences() {
        for case in reference::small_cases() {
            let (setting, outputs, words) = (&case.setting, case.conv.sizes().1, case.conv.partial_words());
            let (grad, (_, codes)) = (case.output_grad(), reference::forward(&case));
            let padding = |i: usize| i % setting.stride >= setting.counts[i / setting.stride / outputs] as usize;
            let dirty = grad.iter().enumerate().map(|(i, g)| if padding(i) { 9f32.to_bits() } else { *g }).collect();
            let buffers = [case.input(), dirty, codes, setting.counts(), vec![7; case.partials()]];
            let after = reference::run(&KERNEL, &case.params_words(), &buffers);
            let (mut checked, mut kinks) = (0, 0);
            for (job, partial) in f32s(&after[4]).chunks_exact(words).enumerate() {
                let chunks = setting.stride.div_ceil(CHUNK);
                let (slot, first) = (job / chunks, job % chunks * CHUNK);
                let images = first..(setting.counts[slot] as usize).min(first + CHUNK);
                let mut layers: Vec<_> = images.clone().map(|b| reference::layer(&case, slot, b)).collect();
                let functionals: Vec<Vec<f64>> = images
                    .map(|b| (0..outputs).map(move |i| (slot * outputs + i) * setting.stride + b))
                    .map(|places| places.map(|at| f64::from(f32s(&grad)[at])).collect())
                    .collect();
                for i in (0..words).step_by(1 + words / 17) {
                    let weights = case.conv.weights();
                    let one = |(layer, functional): (&mut reference::Layer, &Vec<f64>)| {
                        reference::difference(layer, functional, |l| match i.checked_sub(weights) {
                            Some(m) => &mut l.bias[m],
                            None => &mut l.weights[i],
                        })
                    };
                    let Some(want) = layers.iter_mut().zip(&functionals).map(one).sum::<Option<f64>>() else {
                        kinks += 1;
                        continue;
                    };
                    checked += 1;
                    let error = (f64::from(partial[i]) - want).abs();
                    assert!(error < 1e-4, "{}: chunk {job}, word {i}: off by {error}", setting.name);
                }
            }
            assert!(checked > 4 * kinks, "{}: {checked} checked, {kinks} kinks", setting.name);
        }
    }
}
