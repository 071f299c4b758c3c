//! [`super::conv_forward`] over the surviving weights alone (`shaders/sparse_conv_forward.wgsl`).

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::cases::LEFT;
use super::cases::sparse::sparse_conv_cases;
use super::conv_forward::ConvForward;
use super::cpu::packed::{Images, with_scratch};
use super::cpu::registers::{covered, first, of_mut, registers, store, store_codes, zero};
use super::cpu::sparse_planes::{Planes, Read};
use super::cpu::windows::{After, pooled, single};
use super::needed::{ALL_NEEDED, Blocks, Outputs};
use super::shape::{Batch, Conv, ConvParams, Place, expect};
use super::sparse::{self, LayerGates, Lists, RowLists, SPARSE_CONV_WORDS, Side, SparseConvParams, params};
use super::text::conv_tile::parsed;
use super::text::quads;
use super::{DEAD, window_scores};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, Variant, always, f32s, f32s_mut, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "sparse_conv_forward",
    source: || super::unroll(include_str!("../../shaders/sparse_conv_forward.wgsl")),
    variants: &[
        Variant::for_software(
            "a single channel",
            || software(true),
            |p| single_channel(parsed(p)),
            |p| parsed(p).in_channels == 1 && parsed(p).kernel == 3 && params(p).needed_at == ALL_NEEDED,
        ),
        Variant::for_software(
            "planes",
            || software(false),
            |p| sparse::planes(parsed(p), parsed(p).out_channels),
            always,
        ),
    ],
    bindings: &[
        Binding::read("input"),
        Binding::read("weights"),
        Binding::read("rows"),
        Binding::read("counts"),
        Binding::read("gates"),
        Binding::read("lists"),
        Binding::write("output", Compare::Close(1e-5)),
        Binding::write("codes", Compare::Codes(1e-4)).with(window_scores::SPARSE),
    ],
    params_words: SPARSE_CONV_WORDS,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// The text of a variant for software Vulkan.
fn software(single: bool) -> String {
    let [filters, parts] = if single { ["32", "2"] } else { ["8", "1"] };
    let body = match single {
        true => include_str!("../../shaders/software/sparse_conv_forward_single.wgsl"),
        false => include_str!("../../shaders/software/sparse_conv_forward_planes.wgsl"),
    };
    let parts = [("BODY", body), ("FILTERS", filters), ("PARTS", parts)];
    let shader = include_str!("../../shaders/software/sparse_conv_forward.wgsl");
    super::unroll_with(shader, &[&parts[..], &quads::WIDE[..]].concat())
}

/// The grid of two workgroups for every 32 filters and 32 images.
fn single_channel(p: &ConvParams) -> [u32; 3] {
    grid::folded((2 * p.out_channels.div_ceil(32) * p.chunks) as usize, p.slots)
}

fn groups(p: &ConvParams) -> [u32; 3] {
    let Blocks { rows, columns } = Blocks::of(&p.conv());
    let items = rows * columns * (p.out_channels * p.chunks * 8) as usize;
    grid::folded(items.div_ceil(64), p.slots)
}

/// What [`super::conv_forward::conv_forward`] gives, from weights of which only those in `lists` ([`Side::Outputs`],
/// as [`super::survivors`] made them of the same weights) are not zero.
///
/// On a GPU the bits are the dense kernel's, on the CPU engine they differ from it by rounding. A closed channel in
/// front of a ReLU is 0 whatever its sum, even where that is not a number, or left as it is where nobody reads it; and a
/// closed input channel adds nothing. Blocks of outputs that the lists say nothing needs are left as they are.
///
/// # Errors
/// [`crate::Error::Kernel`] when the sizes make no convolution or a view is too short for them.
pub fn sparse_conv_forward(
    device: &dyn Device,
    conv: &Conv,
    batch: Batch,
    place: Place,
    gates: Option<LayerGates<'_>>,
    lists: Lists<'_>,
    io: ConvForward<'_>,
) -> Result<()> {
    let name = KERNEL.name;
    conv.check(name, batch, place)?;
    batch.check_counts(name, io.counts)?;
    lists.check(name, &conv.into(), Side::Outputs)?;
    lists.check_needed(name, conv)?;
    let images = batch.slots * batch.stride;
    let (input, output) = conv.sizes();
    expect(name, "input", io.input, images * input)?;
    expect(name, "weights", io.weights, place.row_words)?;
    expect(name, "rows", io.rows, batch.slots)?;
    expect(name, "output", io.output, images * output)?;
    expect(name, "codes", io.codes, images / 4 * output)?;
    if let Some(gates) = gates {
        gates.check(name, batch.slots, conv)?;
    }
    // Without gates the shader reads none, but something has to be bound.
    let gate_view = gates.map_or(io.counts, |g| g.values);
    let p = SparseConvParams::new(conv, batch, place, gates, lists.place).needed(lists.needed_at);
    let buffers = [io.input, io.weights, io.rows, io.counts, gate_view, lists.values, io.output, io.codes];
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &buffers, groups(&p.conv))
}

fn twin(call: Call<'_>) {
    twin_on(Arch::new(), call);
}

/// With some of the processor's instructions.
pub(super) fn twin_on(arch: Arch, call: Call<'_>) {
    let params: SparseConvParams = call.params();
    let p = params.conv;
    let ([input, weights, rows, counts, gates, lists], [output, codes]) = call.buffers();
    let conv = p.conv();
    let (input_words, output_words) = conv.sizes();
    let stride = p.stride as usize;
    let plane = output_words / conv.out_channels * stride;
    let codes: &mut [u8] = bytemuck::cast_slice_mut(codes);
    let block = super::block(p.slots as usize, conv.out_channels);
    let slots = f32s_mut(output).par_chunks_exact_mut(output_words * stride);
    let slots = slots.zip(codes.par_chunks_exact_mut(output_words * stride)).take(p.slots as usize);
    slots.enumerate().for_each(|(slot, (output, codes))| {
        let input = &f32s(input)[slot * input_words * stride..][..input_words * stride];
        let row = rows[slot] as usize;
        let (place, count) = (p.place(), counts[p.counts_at as usize + slot]);
        let own_lists = &lists[row * params.place().row_words..][..params.place().row_words];
        let wanted = Outputs::new(&conv, own_lists, params.needed_at);
        let lists = RowLists::new(((&conv).into(), Side::Outputs), row, f32s(weights), place, lists, params.place());
        let biases = &f32s(weights)[row * place.row_words + place.bias_at..][..conv.out_channels];
        let own_gates = params.gates(f32s(gates), slot, p.gates_at, conv.out_channels);
        let input_gates = params.gates(f32s(gates), slot, params.input_gates_at, conv.in_channels);
        let blocks = output.par_chunks_mut(block * plane).zip(codes.par_chunks_mut(block * plane)).enumerate();
        blocks.for_each(|(i, (output, codes))| {
            let own = i * block..i * block + output.len() / plane;
            let channels: Vec<_> = own.map(|m| Channel { list: m, bias: biases[m], gate: own_gates[m] }).collect();
            let conv = (&conv, wanted, params.closed_unread != 0);
            forward(arch, conv, (stride, count), (input, &input_gates), &lists, &channels, (output, codes));
        });
    });
}

/// An output channel.
#[derive(Clone, Copy)]
struct Channel {
    /// Its number.
    list: usize,
    bias: f32,
    gate: f32,
}

impl Channel {
    /// Closed in front of a ReLU: 0 and dead, whatever its sum.
    fn closed(&self, conv: &Conv) -> bool {
        self.gate == 0.0 && conv.relu
    }
}

/// The outputs of some channels, `[channels][PH][PW][B]`, of one slot's input and its channels' gates.
fn forward(
    arch: Arch,
    (conv, wanted, closed_unread): (&Conv, Outputs<'_>, bool),
    slot: (usize, u32),
    (input, gates): (&[f32], &[f32]),
    lists: &RowLists<'_>,
    channels: &[Channel],
    (output, codes): (&mut [f32], &mut [u8]),
) {
    let plane = output.len() / channels.len();
    let each = channels.iter().zip(output.chunks_exact_mut(plane).zip(codes.chunks_exact_mut(plane)));
    for (channel, out) in each.filter(|(channel, _)| channel.closed(conv) && !closed_unread) {
        if wanted.all() {
            close(slot, out);
        } else {
            for_each_output((conv, wanted), channel.list, slot.0, out, |output, codes| close(slot, (output, codes)));
        }
    }
    let open: Vec<_> = channels.iter().enumerate().filter(|(_, c)| !c.closed(conv)).map(|(i, c)| (i, *c)).collect();
    let read: Vec<usize> = open.iter().map(|(_, c)| c.list).collect();
    let planes = Planes::new(Read::Input(conv), lists, gates, &read);
    with_scratch([planes.words()], |[packed]| {
        let out = (output, codes);
        arch.dispatch(Forward { conv, wanted, slot, input, channels: &open, planes: &planes, packed, plane, out });
    });
}

/// The outputs of the channels that are open, with their places among all.
struct Forward<'a> {
    conv: &'a Conv,
    wanted: Outputs<'a>,
    /// B, and how many of its images exist.
    slot: (usize, u32),
    input: &'a [f32],
    channels: &'a [(usize, Channel)],
    planes: &'a Planes,
    packed: &'a mut [f32],
    /// Words of a channel's output.
    plane: usize,
    out: (&'a mut [f32], &'a mut [u8]),
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { conv, wanted, slot: (stride, count), input, channels, planes, packed, plane, out } = self;
        let (output, codes) = out;
        let packed = S::as_mut_simd_f32s(packed).0;
        let (mut taps, mut alive) = (Vec::new(), vec![false; planes.count()]);
        for images in registers::<S>(stride, count) {
            for strip in planes.strips(conv.pooled().0 * conv.pool) {
                planes.pack_input(simd, (conv, images, strip.start), input, packed, &mut alive);
                let row = conv.pooled().1 * stride;
                let own = strip.start / conv.pool * row..strip.end / conv.pool * row;
                for (n, (i, channel)) in channels.iter().enumerate() {
                    let out =
                        (&mut output[i * plane..][..plane][own.clone()], &mut codes[i * plane..][..plane][own.clone()]);
                    planes.taps(n, &alive, &mut taps);
                    let outputs = (wanted, strip.start / conv.pool);
                    match conv.pool {
                        1 => windows::<S, 1>(simd, (conv, planes, images), (*channel, outputs), (&taps, packed), out),
                        _ => windows::<S, 2>(simd, (conv, planes, images), (*channel, outputs), (&taps, packed), out),
                    }
                }
            }
        }
        let covered = covered::<S>(stride, count);
        if covered < stride {
            for (i, channel) in channels {
                let own = i * plane..(i + 1) * plane;
                let out = (&mut output[own.clone()], &mut codes[own]);
                for_each_output((conv, wanted), channel.list, stride, out, |output, codes| {
                    zero(&mut output[covered..]);
                    zero(&mut codes[covered..]);
                });
            }
        }
    }
}

/// Each output of channel `m` that is wanted, of all images.
fn for_each_output(
    (conv, wanted): (&Conv, Outputs<'_>),
    m: usize,
    stride: usize,
    (output, codes): (&mut [f32], &mut [u8]),
    mut each: impl FnMut(&mut [f32], &mut [u8]),
) {
    let width = conv.pooled().1;
    let pixels = output.chunks_exact_mut(stride).zip(codes.chunks_exact_mut(stride)).enumerate();
    for (_, (output, codes)) in pixels.filter(|(i, _)| wanted.has(m, i / width, i % width)) {
        each(output, codes);
    }
}

/// What a closed channel gives.
fn close((stride, count): (usize, u32), (output, codes): (&mut [f32], &mut [u8])) {
    output.fill(0.0);
    // The first pixel's, then twice as many at a time: pixels are so short that a fill of each costs more.
    let (there, padding) = codes[..stride].split_at_mut((count as usize).min(stride));
    there.fill(DEAD);
    padding.fill(0);
    let mut done = stride;
    while done < codes.len() {
        let more = done.min(codes.len() - done);
        codes.copy_within(..more, done);
        done += more;
    }
}

/// All wanted windows of one channel in a strip, which begins at some row of outputs: the sums of a window stay in registers until its output is known.
#[inline(always)]
fn windows<S: Simd, const POOL: usize>(
    simd: S,
    (conv, planes, images): (&Conv, &Planes, Images),
    (channel, (wanted, first_row)): (Channel, (Outputs<'_>, usize)),
    (taps, packed): (&[(usize, f32)], &[S::f32s]),
    (output, codes): (&mut [f32], &mut [u8]),
) {
    let (there, nothing) = (first(simd, images.real), simd.splat_f32s(0.0));
    let after = After { bias: simd.splat_f32s(channel.bias), gate: simd.splat_f32s(channel.gate), relu: conv.relu };
    let out_w = conv.pooled().1;
    for py in 0..output.len() / (out_w * images.stride) {
        for px in (0..out_w).filter(|px| wanted.has(channel.list, first_row + py, *px)) {
            let at = py * POOL * planes.width + px * POOL;
            let sums = planes.sums::<S, POOL, POOL>(simd, taps, packed, at);
            let (value, code) = match *sums.as_flattened() {
                [a, b, c, d] => pooled(simd, [a, b, c, d], after),
                _ => single(simd, sums[0][0], after),
            };
            let (value, code) = (simd.select_f32s(there, value, nothing), simd.select_f32s(there, code, nothing));
            store(simd, value, of_mut(images, output, py * out_w + px));
            store_codes(simd, code, of_mut(images, codes, py * out_w + px));
        }
    }
}

fn cases() -> Vec<Case> {
    sparse_conv_cases()
        .into_iter()
        .map(|c| {
            let setting = &c.setting;
            let output = setting.slots() * setting.stride * c.conv.sizes().1;
            Case {
                name: setting.name,
                params: c.sparse_params_words(Side::Outputs),
                buffers: vec![
                    c.left_input(),
                    c.weights(),
                    setting.rows.to_vec(),
                    setting.counts(),
                    setting.gates_or_counts(c.conv.out_channels),
                    c.lists(Side::Outputs),
                    vec![LEFT; output],
                    vec![LEFT; output / 4],
                ],
                groups: groups(&c.params()),
                flops: c.sparse_flops(),
            }
        })
        .collect()
}
