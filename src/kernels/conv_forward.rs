//! Convolution, bias, gates, ReLU and 2x2 max-pooling in one pass (`shaders/conv_forward.wgsl`).

use rayon::prelude::*;

use super::cases::LEFT;
use super::cases::conv::{ConvCase, conv_cases, large_convs};
use super::cpu::conv_products::{filters, forward};
use super::cpu::one_channel;
use super::cpu::packed::{Images, Taps, by_chunk};
use super::cpu::windows::After;
use super::cpu::winograd::{self, Filters, Points};
use super::shape::{Batch, CONV_WORDS, Conv, ConvParams, Gates, Place, Rounding, expect};
use super::text::conv_tile::{
    CHANNELS, Tile, even, filters_by_four, hardware, parsed, pooled_3x3, software, threads_of, tile_variants,
};
use super::window_scores;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, Variant, View, f32s, f32s_mut, grid};
use crate::error::Result;

/// A variant for windows side by side whose threads own so many times 8 channels; `beyond` is what [`column_beyond`] says.
macro_rules! side_by_side {
    ($name:literal, $sets:literal, $beyond:literal) => {
        Variant::for_software(
            $name,
            || windows($sets, $beyond),
            |p| side_by_side(parsed(p), $sets),
            |p| beside(parsed(p), $sets) && column_beyond(parsed(p)) == $beyond,
        )
    };
}

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "conv_forward",
    source: || text(&Tile::PLAIN),
    variants: tile_variants!(
        text,
        groups,
        [
            side_by_side!("windows side by side, 16 channels", 2, false).with_fewer_loads(),
            side_by_side!("windows side by side, 16 channels, a column beyond", 2, true).with_fewer_loads(),
            side_by_side!("windows side by side", 1, false),
            side_by_side!("windows side by side, a column beyond", 1, true),
        ],
        [Variant::new(
            "8 channels, images in pairs",
            || hardware(include_str!("../../shaders/hardware/conv_forward.wgsl"), &[]),
            |p| pairs(parsed(p)),
            |p| pooled_3x3(parsed(p), 0..=2) && filters_by_four(parsed(p)),
        )]
    ),
    bindings: &[
        Binding::read("input"),
        Binding::read("weights"),
        Binding::read("rows"),
        Binding::read("counts"),
        Binding::read("gates"),
        Binding::write("output", Compare::Close(1e-5)),
        Binding::write("codes", Compare::Codes(1e-4)).with(window_scores::DENSE),
    ],
    params_words: CONV_WORDS,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large,
};

fn text(tile: &Tile) -> String {
    let mine = "base + min(first + lane % QUADS, last) * p.in_channels * 9u + 9u * c";
    tile.text(include_str!("../../shaders/conv_forward.wgsl"), "w$m", "$mu", mine)
}

fn groups(p: &ConvParams, tile: Tile) -> [u32; 3] {
    let side = if p.pool == 2 { 1 } else { 2 };
    let blocks = p.out_height.div_ceil(side) * p.out_width.div_ceil(side);
    let items = blocks * p.out_channels.div_ceil(tile.channels) * p.chunks * 8;
    grid::folded(items.div_ceil(64) as usize, p.slots)
}

/// The grid of a thread for every window, 8 channels and two images.
fn pairs(p: &ConvParams) -> [u32; 3] {
    threads_of(p, p.out_height * p.out_width, p.out_channels.div_ceil(CHANNELS), 2)
}

/// The text of a variant for windows side by side.
fn windows(sets: u32, beyond: bool) -> String {
    let (sets, beyond) = (sets.to_string(), beyond.to_string());
    let parts = [("SETS", sets.as_str()), ("BEYOND", &beyond)];
    software(include_str!("../../shaders/software/conv_forward.wgsl"), &parts)
}

/// Whether those suit: images are padded so that nothing lies left of a row's first window. Larger tiles save nothing where
/// a single channel is all that a thread goes through.
fn beside(p: &ConvParams, sets: u32) -> bool {
    pooled_3x3(p, 1..=2) && (sets == 1 || p.in_channels > 1 && even(p.out_channels, 8))
}

/// Whether a row's last window reads a column of the image that no other window of the row does.
fn column_beyond(p: &ConvParams) -> bool {
    2 * p.out_width + 1 < p.width + p.padding
}

/// The grid of a subgroup for every 8 windows and so many times 8 channels.
fn side_by_side(p: &ConvParams, sets: u32) -> [u32; 3] {
    let subgroups = (p.out_height * p.out_width * p.stride / 4).div_ceil(8) * p.out_channels.div_ceil(8 * sets);
    grid::folded(subgroups.div_ceil(8) as usize, p.slots)
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
    /// `[slots][M][PH][PW][B]` bytes, written: the winner's place in its window, or [`super::DEAD`].
    pub codes: View<'a>,
    /// What the sums are for.
    pub rounding: Rounding,
}

/// `output = pool(relu(gate * (bias + weights * input)))` and where each value came from.
///
/// A NaN passes through the ReLU, but not through a closed gate in front of one. Of equal values in a window the first in
/// row-major order wins. A channel whose gate is closed is dead even without a ReLU, so no gradient passes it. Padding images
/// get 0 and code 0.
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
    let p = ConvParams::new(conv, batch, place, gates).rounded(io.rounding);
    let buffers = [io.input, io.weights, io.rows, io.counts, gate_view, io.output, io.codes];
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &buffers, groups(&p, Tile::PLAIN))
}

fn twin(call: Call<'_>) {
    compute(call, winograd::pays);
}

/// `fewer` says which convolutions take Winograd's way where rounding allows it.
pub(super) fn compute(call: Call<'_>, fewer: fn(&Conv) -> bool) {
    let p: ConvParams = call.params();
    let ([input, weights, rows, counts, gates], [output, codes]) = call.buffers();
    let conv = p.conv();
    let (input_words, output_words) = conv.sizes();
    let (stride, taps) = (p.stride as usize, Taps::of_input(&conv));
    let words = output_words * stride;
    let codes: &mut [u8] = bytemuck::cast_slice_mut(codes);
    let slots = f32s_mut(output).par_chunks_exact_mut(words).zip(codes.par_chunks_exact_mut(words));
    slots.take(p.slots as usize).enumerate().for_each(|(slot, (output, codes))| {
        let input = &f32s(input)[slot * input_words * stride..][..input_words * stride];
        let row = &f32s(weights)[rows[slot] as usize * p.row_words as usize..][..p.row_words as usize];
        let weights = &row[p.weights_at as usize..][..conv.weights()];
        let channels = channels(&p, row, gates, slot);
        let chunks = by_chunk(output, stride).into_par_iter().zip(by_chunk(codes, stride)).enumerate();
        let images = |chunk: usize| Images::new(chunk, stride, counts[p.counts_at as usize + slot]);
        if p.normwise == 1 && fewer(&conv) {
            let points = Points::new(&conv);
            let [bias, gate] =
                [|c: &After<f32>| c.bias, |c: &After<f32>| c.gate].map(|of| points.padded(&channels, of));
            return points.with(weights, |values| {
                let filters = Filters { points: &points, values, bias: &bias, gate: &gate };
                chunks.for_each(|(chunk, (mut output, mut codes))| {
                    winograd::forward(&conv, images(chunk), input, filters, (&mut output, &mut codes));
                });
            });
        }
        if one_channel::applies(&conv) {
            return chunks.for_each(|(chunk, (mut output, mut codes))| {
                one_channel::forward(&conv, images(chunk), input, (weights, &channels), (&mut output, &mut codes));
            });
        }
        let filters = filters(&conv, weights);
        chunks.for_each(|(chunk, (output, codes))| {
            forward(&conv, &taps, images(chunk), input, &filters, &channels, output, codes);
        });
    });
}

/// What follows the sums of each output channel.
fn channels(p: &ConvParams, row: &[f32], gates: &[u32], slot: usize) -> Vec<After<f32>> {
    let gate = |m: usize| match p.gate_words as usize {
        0 => 1.0,
        words => f32s(gates)[slot * words + p.gates_at as usize + m],
    };
    let channel = |m: usize| After { bias: row[p.bias_at as usize + m], gate: gate(m), relu: p.relu != 0 };
    (0..p.out_channels as usize).map(channel).collect()
}

fn cases() -> Vec<Case> {
    conv_cases().into_iter().map(case).collect()
}

fn large() -> Vec<Case> {
    large_convs().into_iter().map(case).collect()
}

fn case(c: ConvCase) -> Case {
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
            vec![LEFT; output],
            vec![LEFT; output / 4],
        ],
        groups: groups(&c.params(), Tile::PLAIN),
        flops: c.flops(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::DEAD;
    use super::super::cases::conv::ConvCase;
    use super::super::cases::settings::Setting;
    use super::super::tests::reference;
    use super::*;

    #[test]
    fn outputs_and_codes_follow_the_definition() {
        for case in reference::small_cases() {
            let (setting, words) = (&case.setting, case.conv.sizes().1);
            let (output, codes) = reference::forward(&case);
            let codes: &[u8] = bytemuck::cast_slice(&codes);
            for slot in 0..setting.slots() {
                for b in 0..setting.stride {
                    let real = b < setting.counts[slot] as usize;
                    let want = if real { reference::layer(&case, slot, b).outputs() } else { Vec::new() };
                    for i in 0..words {
                        let at = (slot * words + i) * setting.stride + b;
                        let (got, code) = (f32s(&output)[at], codes[at]);
                        let Some(want) = want.get(i) else {
                            assert_eq!((got, code), (0.0, 0), "{}: padding image {b}", setting.name);
                            continue;
                        };
                        let close = (f64::from(got) - want.value).abs() < 1e-5;
                        assert!(close, "{}: {got} instead of {}", setting.name, want.value);
                        assert!(code == want.code || want.margin < 1e-5, "{}: code {code}", setting.name);
                    }
                }
            }
        }
    }

    /// A 1x1 filter that passes its input on: 2x5 pixels, so one column fills no window.
    fn pass_through(input: [f32; 10], bias: f32, gate: f32) -> ([f32; 2], [u8; 2]) {
        let conv =
            Conv { in_channels: 1, out_channels: 1, height: 2, width: 5, kernel: 1, padding: 0, pool: 2, relu: true };
        let setting = Setting::new("by hand", &[1], &[0], 4);
        let case = ConvCase { conv, setting };
        let mut params = case.params();
        (params.gate_words, params.gates_at) = (1, 0);
        let mut row = vec![0f32; case.place().row_words];
        (row[case.place().weights_at], row[case.place().bias_at]) = (1.0, bias);
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let images: Vec<f32> = input.iter().flat_map(|v| [*v, 0.0, 0.0, 0.0]).collect();
        let gates = bits(&[gate]);
        let counts = case.setting.counts();
        let buffers = [bits(&images), bits(&row), vec![0], counts, gates, vec![7; 8], vec![7; 2]];
        let after = reference::run(&KERNEL, bytemuck::cast_slice(&[params]), &buffers);
        let (output, codes): (&[f32], &[u8]) = (f32s(&after[5]), bytemuck::cast_slice(&after[6]));
        ([output[0], output[4]], [codes[0], codes[4]])
    }

    #[test]
    fn the_first_maximum_wins_and_odd_columns_are_dropped() {
        let input = [1.0, 2.0, -1.0, -2.0, 9.0, 2.0, 0.5, -3.0, -0.5, 9.0];
        assert_eq!(pass_through(input, 0.0, 1.0), ([2.0, 0.0], [1, DEAD]));
        assert_eq!(pass_through(input, 1.0, 1.0), ([3.0, 0.5], [1, 3]));
        assert_eq!(pass_through([4.0; 10], 0.0, 1.0), ([4.0, 4.0], [0, 0]));
    }

    /// Values (with one NaN for all) and codes of one slot, by way of matrix products or not.
    fn of_one_channel(case: &ConvCase, input: &[f32], slot: usize, products: bool) -> (Vec<u32>, Vec<u8>) {
        let (conv, stride, (inputs, outputs)) = (&case.conv, case.setting.stride, case.conv.sizes());
        let (p, place, all) = (case.params(), case.place(), case.weights());
        let row = &f32s(&all)[case.setting.rows[slot] as usize * place.row_words..][..place.row_words];
        let weights = &row[place.weights_at..][..conv.weights()];
        let channels = channels(&p, row, &case.setting.gates_or_counts(conv.out_channels), slot);
        let input = &input[slot * inputs * stride..][..inputs * stride];
        let (mut values, mut codes) = (vec![7.0; outputs * stride], vec![7; outputs * stride]);
        let pieces = by_chunk(&mut values, stride).into_iter().zip(by_chunk(&mut codes, stride));
        for (chunk, (mut values, mut codes)) in pieces.enumerate() {
            let images = Images::new(chunk, stride, case.setting.counts[slot]);
            if products {
                let (taps, filters) = (Taps::of_input(conv), filters(conv, weights));
                forward(conv, &taps, images, input, &filters, &channels, values, codes);
            } else {
                one_channel::forward(conv, images, input, (weights, &channels), (&mut values, &mut codes));
            }
        }
        (values.into_iter().map(|v| if v.is_nan() { u32::MAX } else { v.to_bits() }).collect(), codes)
    }

    #[test]
    fn one_channel_has_the_bits_that_products_have() {
        let small = |case: &ConvCase| one_channel::applies(&case.conv) && case.flops() < 100_000_000;
        let cases: Vec<ConvCase> = conv_cases().into_iter().filter(small).collect();
        assert!(cases.iter().any(|case| case.setting.gated) && cases.iter().any(|case| case.setting.stride > 32));
        for case in cases {
            let mut input = f32s(&case.input()).to_vec();
            for nan in [false, true] {
                if nan {
                    input[(case.conv.width + 1) * case.setting.stride] = f32::NAN;
                }
                for slot in 0..case.setting.slots() {
                    let [direct, fused] = [true, false].map(|products| of_one_channel(&case, &input, slot, products));
                    assert!(direct == fused, "{}, slot {slot}, NaN: {nan}", case.setting.name);
                }
            }
        }
    }

    #[test]
    fn a_closed_gate_is_dead() {
        assert_eq!(pass_through([4.0; 10], 1.0, 0.0), ([0.0, 0.0], [DEAD, DEAD]));
    }

    #[test]
    fn nan_passes_the_relu_but_no_closed_gate() {
        let ([first, second], codes) = pass_through([f32::NAN; 10], 0.0, 1.0);
        assert!(first.is_nan() && second.is_nan());
        assert_eq!(codes, [0, 0]);
        assert_eq!(pass_through([f32::NAN; 10], 0.0, 0.0), ([0.0, 0.0], [DEAD, DEAD]));
    }
}
