//! [`super::conv_input_grad`] over the surviving weights alone (`shaders/sparse_conv_input_grad.wgsl`).

use multiversion::target::target_cfg_f;
use rayon::prelude::*;

use super::conv_input_grad::ConvInputGrad;
use super::conv_tile::parsed;
use super::packed::{Images, with_scratch};
use super::quads;
use super::shape::{Batch, Conv, ConvParams, Place, expect};
use super::sparse::{
    self, LANES, LayerGates, Lists, RowLists, SPARSE_CONV_WORDS, Side, SparseConvParams, Vector, vectors,
};
use super::sparse_cases::sparse_conv_cases;
use super::sparse_planes::{Planes, Read};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, Variant, always, f32s, f32s_mut, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "sparse_conv_input_grad",
    source: || super::unroll(include_str!("../../shaders/sparse_conv_input_grad.wgsl")),
    variants: &[Variant {
        name: "planes",
        source: || super::unroll_with(include_str!("../../shaders/software/sparse_conv_input_grad.wgsl"), &quads::WIDE),
        groups: |p| sparse::planes(parsed(p), parsed(p).in_channels),
        lanes: 8,
        wide: true,
        own_order: false,
        suits: always,
    }],
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
/// passes nothing on; a closed input channel, whose gradient nobody uses, gets 0.
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
    let params: SparseConvParams = call.params();
    let p = params.conv;
    let ([output_grad, codes, weights, rows, counts, gates, lists], [input_grad]) = call.buffers();
    let conv = p.conv();
    let (input_words, output_words) = conv.sizes();
    let stride = p.stride as usize;
    let plane = conv.height * conv.width * stride;
    let codes: &[u8] = bytemuck::cast_slice(codes);
    let block = sparse::block(p.slots as usize, conv.in_channels);
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
            backward(&conv, count, stride, (grad, &own_gates), &lists, &channels, input_grad);
        });
    });
}

/// The gradients of some input channels (their numbers, and whether they are open), `[channels][H][W][B]`, from one slot's
/// output gradient, codes, and output gates.
fn backward(
    conv: &Conv,
    count: u32,
    stride: usize,
    (grad, gates): ((&[f32], &[u8]), &[f32]),
    lists: &RowLists<'_>,
    channels: &[(usize, bool)],
    input_grad: &mut [f32],
) {
    let plane = conv.height * conv.width * stride;
    let closed = channels.iter().zip(input_grad.chunks_exact_mut(plane)).filter(|((_, open), _)| !open);
    closed.for_each(|(_, input_grad)| input_grad.fill(0.0));
    let open = channels.iter().filter(|(_, open)| *open).map(|(c, _)| *c);
    let planes = Planes::new(Read::OutputGrad(conv), lists, gates, open);
    with_scratch([planes.words()], |[packed]| {
        let packed = packed.as_chunks_mut::<LANES>().0;
        for images in vectors(stride, count) {
            for strip in planes.strips(conv.height) {
                let alive = planes.pack_dz(conv, images, strip.start, grad, packed);
                let row = conv.width * stride;
                let open = channels.iter().zip(input_grad.chunks_exact_mut(plane)).filter(|((_, open), _)| *open);
                for ((c, _), input_grad) in open {
                    let taps = planes.taps(lists, *c, &alive);
                    pixels(conv, &planes, images, &taps, packed, &mut input_grad[strip.start * row..strip.end * row]);
                }
            }
        }
    });
    let covered = sparse::covered(stride, count);
    if covered < stride {
        input_grad.chunks_exact_mut(stride).for_each(|pixel| sparse::zero(&mut pixel[covered..]));
    }
}

/// All pixels of one input channel in a strip.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq+fma", "x86_64+avx2+fma"))]
fn pixels(
    conv: &Conv,
    planes: &Planes,
    images: Images,
    taps: &[(usize, f32)],
    packed: &[Vector],
    input_grad: &mut [f32],
) {
    const FUSED: bool = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    let (width, height) = (conv.width, input_grad.len() / (conv.width * images.stride));
    // Blocks of 2x2 pixels, whose sums stay in registers, and what is left of odd sizes.
    for y in (0..height).step_by(2) {
        for x in (0..width).step_by(2) {
            match (y + 1 < height, x + 1 < width) {
                (true, true) => block::<2, 2, FUSED>(planes, images, (taps, packed), (y, x), width, input_grad),
                (true, false) => block::<2, 1, FUSED>(planes, images, (taps, packed), (y, x), width, input_grad),
                (false, true) => block::<1, 2, FUSED>(planes, images, (taps, packed), (y, x), width, input_grad),
                (false, false) => block::<1, 1, FUSED>(planes, images, (taps, packed), (y, x), width, input_grad),
            }
        }
    }
}

/// A block of pixels whose first is (y, x) of a strip.
#[inline(always)]
fn block<const ROWS: usize, const COLUMNS: usize, const FUSED: bool>(
    planes: &Planes,
    images: Images,
    (taps, packed): (&[(usize, f32)], &[Vector]),
    (y, x): (usize, usize),
    width: usize,
    input_grad: &mut [f32],
) {
    let sums = planes.sums::<ROWS, COLUMNS, FUSED>(taps, packed, y * planes.width + x);
    for (i, row) in sums.iter().enumerate() {
        for (j, sum) in row.iter().enumerate() {
            sparse::store(images, input_grad, (y + i) * width + x + j, *sum);
        }
    }
}

fn cases() -> Vec<Case> {
    sparse_conv_cases()
        .into_iter()
        .map(|c| {
            let setting = &c.setting;
            let input = setting.slots() * setting.stride * c.conv.sizes().0;
            Case {
                name: setting.name,
                params: c.sparse_params_words(Side::Inputs),
                buffers: vec![
                    c.output_grad(),
                    c.codes(),
                    c.weights(),
                    setting.rows.to_vec(),
                    setting.counts(),
                    setting.gates_or_counts(c.conv.out_channels),
                    c.lists(Side::Inputs),
                    vec![7; input],
                ],
                groups: groups(&c.params()),
                flops: c.sparse_flops(),
            }
        })
        .collect()
}
