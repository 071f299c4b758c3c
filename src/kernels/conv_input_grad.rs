//! Gradient of a convolution's input (`shaders/conv_input_grad.wgsl`).

use rayon::prelude::*;

use super::cases::LEFT;
use super::cases::conv::{ConvCase, conv_cases, large_convs};
use super::cpu::packed::{Frame, Images, Taps, by_chunk, copy, pack_dz, with_scratch};
use super::cpu::vectors::with_vectors;
use super::cpu::winners;
use super::shape::{Batch, CONV_WORDS, Conv, ConvParams, Place, expect};
use super::text::conv_tile::{
    CHANNELS, Tile, even, filters_by_four, hardware, parsed, pooled_3x3, software, threads_of, tile_variants,
};
use crate::device::linalg::MatMut;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, Variant, View, f32s, f32s_mut, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "conv_input_grad",
    source: || text(&Tile::PLAIN),
    variants: tile_variants!(
        text,
        groups,
        [
            Variant::for_software(
                "blocks side by side, 16 channels",
                || blocks_side_by_side("2"),
                |p| side_by_side(parsed(p), 2),
                |p| pooled_3x3(parsed(p), 0..=2) && even(parsed(p).in_channels, 8),
            )
            .with_fewer_loads(),
            Variant::for_software(
                "blocks side by side",
                || blocks_side_by_side("1"),
                |p| side_by_side(parsed(p), 1),
                |p| pooled_3x3(parsed(p), 0..=2),
            )
        ],
        [
            Variant::new(
                "8 channels, images in pairs",
                || by_images(2),
                |p| by_eight(parsed(p), 2),
                // The last blocks of odd images have no window below, which this one does not make use of.
                |p| parsed(p).height.is_multiple_of(2) && eights(parsed(p)),
            ),
            Variant::new(
                "8 channels, images by fours",
                || by_images(4),
                |p| by_eight(parsed(p), 4),
                |p| eights(parsed(p)),
            )
        ]
    ),
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
    large,
};

fn text(tile: &Tile) -> String {
    let mine = "base + (min(first + lane % QUADS, last) + m * p.in_channels) * 9u";
    tile.text(include_str!("../../shaders/conv_input_grad.wgsl"), "w$c", "$cu", mine)
}

/// The text of a variant for hardware whose threads own so many images.
fn by_images(images: u32) -> String {
    let parts = match images {
        2 => [("IMAGES", "2"), ("ORDER", "0u, 1u"), ("WHOLE", "true")],
        _ => [("IMAGES", "4"), ("ORDER", "0u, 1u, 2u, 3u"), ("WHOLE", "false")],
    };
    hardware(include_str!("../../shaders/hardware/conv_input_grad.wgsl"), &parts)
}

/// Whether those suit: channels come by eights, and the filters of every four begin at a vec4.
fn eights(p: &ConvParams) -> bool {
    p.in_channels.is_multiple_of(CHANNELS) && filters_by_four(p) && pooled_3x3(p, 0..=2)
}

/// The grid of a thread for every block, 8 channels and so many images.
fn by_eight(p: &ConvParams, images: u32) -> [u32; 3] {
    threads_of(p, blocks(p), p.in_channels / CHANNELS, images)
}

/// Of 2x2 pixels.
fn blocks(p: &ConvParams) -> u32 {
    let early = 1 - p.padding % 2;
    (p.height + early).div_ceil(2) * (p.width + early).div_ceil(2)
}

fn groups(p: &ConvParams, tile: Tile) -> [u32; 3] {
    let items = blocks(p) * p.in_channels.div_ceil(tile.channels) * p.chunks * 8;
    grid::folded(items.div_ceil(64) as usize, p.slots)
}

/// The text of a variant for software Vulkan whose threads own so many times 8 channels.
fn blocks_side_by_side(sets: &str) -> String {
    software(include_str!("../../shaders/software/conv_input_grad.wgsl"), &[("SETS", sets)])
}

/// The grid of a subgroup for every 8 blocks and so many times 8 channels.
fn side_by_side(p: &ConvParams, sets: u32) -> [u32; 3] {
    let subgroups = (blocks(p) * p.stride / 4).div_ceil(8) * p.in_channels.div_ceil(8 * sets);
    grid::folded(subgroups.div_ceil(8) as usize, p.slots)
}

/// The buffers of [`conv_input_grad`].
#[derive(Clone, Copy, Debug)]
pub struct ConvInputGrad<'a> {
    /// `[slots][M][PH][PW][B]`; padding images count as 0, whatever they have.
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
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &buffers, groups(&p, Tile::PLAIN))
}

/// Whether the CPU engine takes but the gradients that windows pass on, and so outruns the lists of a filter's survivors
/// whatever their number: nothing that they leave out reaches the layer before.
pub fn by_winners(conv: &Conv) -> bool {
    winners::applies(conv)
}

fn twin(call: Call<'_>) {
    let p: ConvParams = call.params();
    let ([output_grad, codes, weights, rows, counts], [input_grad]) = call.buffers();
    let conv = p.conv();
    let (input_words, output_words) = conv.sizes();
    let (stride, taps) = (p.stride as usize, Taps::of_output_grad(&conv));
    let codes: &[u8] = bytemuck::cast_slice(codes);
    let slots = f32s_mut(input_grad).par_chunks_exact_mut(input_words * stride).take(p.slots as usize);
    slots.enumerate().for_each(|(slot, input_grad)| {
        let words = slot * output_words * stride..(slot + 1) * output_words * stride;
        let grad = (&f32s(output_grad)[words.clone()], &codes[words]);
        let row = &f32s(weights)[rows[slot] as usize * p.row_words as usize..][..p.row_words as usize];
        let weights = &row[p.weights_at as usize..][..conv.weights()];
        let chunks = by_chunk(input_grad, stride).into_par_iter().enumerate();
        let images = |chunk: usize| Images::new(chunk, stride, counts[p.counts_at as usize + slot]);
        if winners::applies(&conv) {
            return winners::Filters::with(&conv, weights, |filters| {
                chunks.for_each(|(chunk, mut input_grad)| {
                    winners::input_grad(filters, images(chunk), grad, &mut input_grad);
                });
            });
        }
        let filters = turned(&conv, weights);
        chunks.for_each(|(chunk, input_grad)| backward(&conv, &taps, images(chunk), grad, &filters, input_grad));
    });
}

/// `[M][C][ky][kx]` turned by half a turn, as the products take them: `[C][ky][kx][M]`.
fn turned(conv: &Conv, weights: &[f32]) -> Vec<f32> {
    let (square, outputs) = (conv.kernel * conv.kernel, conv.out_channels);
    let mut filters = vec![0.0; conv.weights()];
    for (c, to) in filters.chunks_exact_mut(square * outputs).enumerate() {
        for (m, from) in weights.chunks_exact(square * conv.in_channels).take(outputs).enumerate() {
            let taps = from[c * square..][..square].iter().rev().enumerate();
            taps.for_each(|(tap, weight)| to[tap * outputs + m] = *weight);
        }
    }
    filters
}

fn backward(
    conv: &Conv,
    taps: &Taps,
    images: Images,
    grad: (&[f32], &[u8]),
    filters: &[f32],
    mut input_grad: Vec<&mut [f32]>,
) {
    if images.real == 0 {
        return input_grad.iter_mut().for_each(|g| g.fill(0.0));
    }
    let lanes = images.lanes;
    let (step, starts) = (conv.width * lanes, taps.starts(lanes));
    with_scratch([taps.words(lanes), conv.in_channels * step], |[dz, strip]| {
        pack_dz(conv, Frame { row: 0, margin: taps.pad, width: taps.width, step: taps.step(lanes) }, images, grad, dz);
        for y in 0..conv.height {
            taps.correlate((dz, &starts), lanes, y, filters, MatMut { data: strip, row: step, col: 1 });
            with_vectors!(lanes, spread(conv, images, y, strip, &mut input_grad));
        }
    });
}

/// Row `y` of all channels, `[C][x][lanes]`, to its places.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq", "x86_64+avx2"))]
fn spread<const L: usize>(conv: &Conv, images: Images, y: usize, strip: &[f32], input_grad: &mut [&mut [f32]]) {
    for c in 0..conv.in_channels {
        let to = &mut input_grad[(c * conv.height + y) * conv.width..][..conv.width];
        for (x, to) in to.iter_mut().enumerate() {
            copy::<L>(&mut to[..images.lanes], &strip[(c * conv.width + x) * images.lanes..][..images.lanes]);
            for padding in &mut to[images.real..] {
                *padding = 0.0;
            }
        }
    }
}

fn cases() -> Vec<Case> {
    conv_cases().into_iter().map(case).collect()
}

fn large() -> Vec<Case> {
    large_convs().into_iter().map(case).collect()
}

fn case(c: ConvCase) -> Case {
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
            vec![LEFT; input],
        ],
        groups: groups(&c.params(), Tile::PLAIN),
        flops: c.flops(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::reference;
    use super::*;

    #[test]
    fn gradients_agree_with_finite_differences() {
        for case in reference::small_cases() {
            let (setting, (inputs, outputs)) = (&case.setting, case.conv.sizes());
            let (grad, (_, codes)) = (case.output_grad(), reference::forward(&case));
            // The gates multiply by 0 or 1 only, so what they leave of the gradient is in the codes.
            let buffers = [
                grad.clone(),
                codes,
                case.weights(),
                setting.rows.to_vec(),
                setting.counts(),
                vec![7; setting.slots() * inputs * setting.stride],
            ];
            let after = reference::run(&KERNEL, &case.params_words(), &buffers);
            let got = |slot: usize, i: usize, b: usize| f32s(&after[5])[(slot * inputs + i) * setting.stride + b];
            let (mut checked, mut kinks) = (0, 0);
            for slot in 0..setting.slots() {
                let count = setting.counts[slot] as usize;
                for b in (0..count).step_by(3) {
                    let mut layer = reference::layer(&case, slot, b);
                    let functional: Vec<f64> = (0..outputs)
                        .map(|i| f64::from(f32s(&grad)[(slot * outputs + i) * setting.stride + b]))
                        .collect();
                    for i in (0..inputs).step_by(1 + inputs / 40) {
                        match reference::difference(&mut layer, &functional, |l| &mut l.input[i]) {
                            Some(want) => {
                                let error = (f64::from(got(slot, i, b)) - want).abs();
                                assert!(error < 1e-5, "{}: slot {slot}, input {i}: off by {error}", setting.name);
                                checked += 1;
                            }
                            None => kinks += 1,
                        }
                    }
                }
                let padding = (0..inputs).flat_map(|i| (count..setting.stride).map(move |b| (i, b)));
                assert!(padding.into_iter().all(|(i, b)| got(slot, i, b) == 0.0), "{}: padding", setting.name);
            }
            assert!(checked > 20 * kinks, "{}: {checked} checked, {kinks} kinks", setting.name);
        }
    }
}
