//! [`super::conv_input_grad`] over the surviving weights alone (`shaders/sparse_conv_input_grad.wgsl`).

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::cases::LEFT;
use super::cases::sparse::sparse_conv_cases;
use super::conv_input_grad::ConvInputGrad;
use super::cpu::packed::{Images, with_scratch};
use super::cpu::registers::{covered, first, of_mut, registers, store, zero};
use super::cpu::sparse_planes::{Planes, Read};
use super::shape::{Batch, Conv, ConvParams, Place, expect};
use super::sparse::{self, LayerGates, Lists, RowLists, SPARSE_CONV_WORDS, Side, SparseConvParams};
use super::text::conv_tile::parsed;
use super::text::quads;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, Variant, always, f32s, f32s_mut, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "sparse_conv_input_grad",
    source: || super::unroll(include_str!("../../shaders/sparse_conv_input_grad.wgsl")),
    variants: &[Variant::for_software(
        "planes",
        || super::unroll_with(include_str!("../../shaders/software/sparse_conv_input_grad.wgsl"), &quads::WIDE),
        |p| sparse::planes(parsed(p), parsed(p).in_channels),
        always,
    )],
    bindings: &[
        Binding::read("output_grad"),
        Binding::read("codes"),
        Binding::read("weights"),
        Binding::read("rows"),
        Binding::read("counts"),
        Binding::read("gates"),
        Binding::read("lists"),
        Binding::write("input_grad", Compare::Close(1e-5)),
    ],
    params_words: SPARSE_CONV_WORDS,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

fn groups(p: &ConvParams) -> [u32; 3] {
    let blocks = p.height.div_ceil(2) * p.width.div_ceil(2);
    let items = blocks * p.in_channels * p.chunks * 8;
    grid::folded(items.div_ceil(64) as usize, p.slots)
}

/// What [`super::conv_input_grad::conv_input_grad`] gives, from weights of which only those in `lists`
/// ([`Side::Inputs`], as [`super::survivors`] made them of the same weights) are not zero.
///
/// On a GPU the bits are the dense kernel's, on the CPU engine they differ from it by rounding. A closed output channel
/// passes nothing on, and what lies in a closed input channel, whose gradient nobody uses, stays as it is.
///
/// # Errors
/// [`crate::Error::Kernel`] when the sizes make no convolution or a view is too short for them.
pub fn sparse_conv_input_grad(
    device: &dyn Device,
    conv: &Conv,
    batch: Batch,
    place: Place,
    gates: Option<LayerGates<'_>>,
    lists: Lists<'_>,
    io: ConvInputGrad<'_>,
) -> Result<()> {
    let name = KERNEL.name;
    conv.check(name, batch, place)?;
    batch.check_counts(name, io.counts)?;
    lists.check(name, &conv.into(), Side::Inputs)?;
    let images = batch.slots * batch.stride;
    let (input, output) = conv.sizes();
    expect(name, "output_grad", io.output_grad, images * output)?;
    expect(name, "codes", io.codes, images / 4 * output)?;
    expect(name, "weights", io.weights, place.row_words)?;
    expect(name, "rows", io.rows, batch.slots)?;
    expect(name, "input_grad", io.input_grad, images * input)?;
    if let Some(gates) = gates {
        gates.check(name, batch.slots, conv)?;
    }
    // Without gates the shader reads none, but something has to be bound.
    let gate_view = gates.map_or(io.counts, |g| g.values);
    let p = SparseConvParams::new(conv, batch, place, gates, lists.place);
    let buffers = [io.output_grad, io.codes, io.weights, io.rows, io.counts, gate_view, lists.values, io.input_grad];
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &buffers, groups(&p.conv))
}

fn twin(call: Call<'_>) {
    twin_on(Arch::new(), call);
}

/// With some of the processor's instructions.
pub(super) fn twin_on(arch: Arch, call: Call<'_>) {
    let params: SparseConvParams = call.params();
    let p = params.conv;
    let ([output_grad, codes, weights, rows, counts, gates, lists], [input_grad]) = call.buffers();
    let conv = p.conv();
    let (input_words, output_words) = conv.sizes();
    let stride = p.stride as usize;
    let plane = conv.height * conv.width * stride;
    let codes: &[u8] = bytemuck::cast_slice(codes);
    let block = super::block(p.slots as usize, conv.in_channels);
    let slots = f32s_mut(input_grad).par_chunks_exact_mut(input_words * stride).take(p.slots as usize);
    slots.enumerate().for_each(|(slot, input_grad)| {
        let words = slot * output_words * stride..(slot + 1) * output_words * stride;
        let grad = (&f32s(output_grad)[words.clone()], &codes[words]);
        let count = counts[p.counts_at as usize + slot];
        let (side, row) = (((&conv).into(), Side::Inputs), rows[slot] as usize);
        let lists = RowLists::new(side, row, f32s(weights), p.place(), lists, params.place());
        let own_gates = params.gates(f32s(gates), slot, p.gates_at, conv.out_channels);
        let input_gates = params.gates(f32s(gates), slot, params.input_gates_at, conv.in_channels);
        let blocks = input_grad.par_chunks_mut(block * plane).enumerate();
        blocks.for_each(|(i, input_grad)| {
            let own = i * block..i * block + input_grad.len() / plane;
            let channels: Vec<_> = own.map(|c| (c, input_gates[c] != 0.0)).collect();
            backward(arch, &conv, (stride, count), (grad, &own_gates), &lists, &channels, input_grad);
        });
    });
}

/// The gradients of some input channels (their numbers, and whether they are open), `[channels][H][W][B]`, from one slot's
/// output gradient, codes, and output gates.
fn backward(
    arch: Arch,
    conv: &Conv,
    slot: (usize, u32),
    (grad, gates): ((&[f32], &[u8]), &[f32]),
    lists: &RowLists<'_>,
    channels: &[(usize, bool)],
    input_grad: &mut [f32],
) {
    let open: Vec<usize> = channels.iter().filter(|(_, open)| *open).map(|(c, _)| *c).collect();
    let planes = Planes::new(Read::OutputGrad(conv), lists, gates, &open);
    with_scratch([planes.words()], |[packed]| {
        arch.dispatch(Backward { conv, slot, grad, channels, planes: &planes, packed, input_grad });
    });
}

/// The gradients of the channels that are open.
struct Backward<'a> {
    conv: &'a Conv,
    /// B, and how many of its images exist.
    slot: (usize, u32),
    grad: (&'a [f32], &'a [u8]),
    channels: &'a [(usize, bool)],
    planes: &'a Planes,
    packed: &'a mut [f32],
    input_grad: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { conv, slot: (stride, count), grad, channels, planes, packed, input_grad } = self;
        let packed = S::as_mut_simd_f32s(packed).0;
        let (mut taps, mut alive) = (Vec::new(), vec![false; planes.count()]);
        let row = conv.width * stride;
        for images in registers::<S>(stride, count) {
            for strip in planes.strips(conv.height) {
                planes.pack_dz(simd, (conv, images, strip.start), grad, packed, &mut alive);
                let all = channels.iter().zip(input_grad.chunks_exact_mut(conv.height * row));
                for (n, (_, input_grad)) in all.filter(|((_, open), _)| *open).enumerate() {
                    planes.taps(n, &alive, &mut taps);
                    let input_grad = &mut input_grad[strip.start * row..strip.end * row];
                    pixels(simd, (conv.width, planes, images), (&taps, packed), input_grad);
                }
            }
        }
        let covered = covered::<S>(stride, count);
        if covered < stride {
            let all = channels.iter().zip(input_grad.chunks_exact_mut(conv.height * row));
            let pixels = all.filter(|((_, open), _)| *open).flat_map(|(_, grad)| grad.chunks_exact_mut(stride));
            pixels.for_each(|pixel| zero(&mut pixel[covered..]));
        }
    }
}

/// What sums are of: survivors and what they multiply.
type Terms<'a, V> = (&'a [(usize, f32)], &'a [V]);

/// All pixels of one input channel in a strip.
#[inline(always)]
fn pixels<S: Simd>(simd: S, at: (usize, &Planes, Images), terms: Terms<'_, S::f32s>, input_grad: &mut [f32]) {
    let (width, _, images) = at;
    let height = input_grad.len() / (width * images.stride);
    // Blocks of 2x2 pixels, whose sums stay in registers, and what is left of odd sizes.
    for y in (0..height).step_by(2) {
        for x in (0..width).step_by(2) {
            match (y + 1 < height, x + 1 < width) {
                (true, true) => block::<S, 2, 2>(simd, at, terms, (y, x), input_grad),
                (true, false) => block::<S, 2, 1>(simd, at, terms, (y, x), input_grad),
                (false, true) => block::<S, 1, 2>(simd, at, terms, (y, x), input_grad),
                (false, false) => block::<S, 1, 1>(simd, at, terms, (y, x), input_grad),
            }
        }
    }
}

/// A block of pixels whose first is (y, x) of a strip.
#[inline(always)]
fn block<S: Simd, const ROWS: usize, const COLUMNS: usize>(
    simd: S,
    (width, planes, images): (usize, &Planes, Images),
    (taps, packed): Terms<'_, S::f32s>,
    (y, x): (usize, usize),
    input_grad: &mut [f32],
) {
    let (there, nothing) = (first(simd, images.real), simd.splat_f32s(0.0));
    let sums = planes.sums::<S, ROWS, COLUMNS>(simd, taps, packed, y * planes.width + x);
    for (i, row) in sums.iter().enumerate() {
        for (j, sum) in row.iter().enumerate() {
            let sum = simd.select_f32s(there, *sum, nothing);
            store(simd, sum, of_mut(images, input_grad, (y + i) * width + x + j));
        }
    }
}

fn cases() -> Vec<Case> {
    sparse_conv_cases()
        .into_iter()
        .map(|c| {
            let setting = &c.setting;
            let input = setting.slots() * setting.stride * c.conv.sizes().0;
            let (output_grad, codes) = c.left_output_grad();
            Case {
                name: setting.name,
                params: c.sparse_params_words(Side::Inputs),
                buffers: vec![
                    output_grad,
                    codes,
                    c.weights(),
                    setting.rows.to_vec(),
                    setting.counts(),
                    setting.gates_or_counts(c.conv.out_channels),
                    c.lists(Side::Inputs),
                    vec![LEFT; input],
                ],
                groups: groups(&c.params()),
                flops: c.sparse_flops(),
            }
        })
        .collect()
}
