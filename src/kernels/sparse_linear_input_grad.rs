//! [`super::linear_input_grad`] over the surviving weights alone (`shaders/sparse_linear_input_grad.wgsl`).

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::cases::LEFT;
use super::cases::sparse::sparse_linear_cases;
use super::cpu::registers::{self, covered, load, of, of_mut, registers, store, zero};
use super::linear_input_grad::LinearInputGrad;
use super::shape::{Batch, Gates, Linear, LinearParams, Place, expect, linear_params as parsed};
use super::sparse::{Lists, RowLists, SPARSE_LINEAR_WORDS, Side, SparseLinearParams};
use super::text::quads;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, Variant, always, f32s, f32s_mut, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "sparse_linear_input_grad",
    source: || super::unroll(include_str!("../../shaders/sparse_linear_input_grad.wgsl")),
    variants: &[Variant::for_software(
        "lists",
        || super::unroll_with(include_str!("../../shaders/software/sparse_linear_input_grad.wgsl"), &quads::WIDE),
        |params| {
            let p = parsed(params);
            grid::folded((p.inputs.div_ceil(64) * p.stride.div_ceil(32)) as usize, p.slots)
        },
        always,
    )],
    bindings: &[
        Binding::read("output"),
        Binding::read("output_grad"),
        Binding::read("weights"),
        Binding::read("rows"),
        Binding::read("counts"),
        Binding::read("gates"),
        Binding::read("lists"),
        Binding::write("input_grad", Compare::Close(1e-5)),
    ],
    params_words: SPARSE_LINEAR_WORDS,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

fn groups(p: &LinearParams) -> [u32; 3] {
    let items = p.inputs * (p.stride / 4);
    grid::folded(items.div_ceil(64) as usize, p.slots)
}

/// What [`super::linear_input_grad::linear_input_grad`] gives, from weights of which only those in `lists`
/// ([`Side::Inputs`], as [`super::survivors`] made them of the same weights) are not zero.
///
/// On a GPU the bits are the dense kernel's, on the CPU engine they differ from it by rounding.
///
/// # Errors
/// [`crate::Error::Kernel`] when the sizes make no layer or a view is too short for them.
pub fn sparse_linear_input_grad(
    device: &dyn Device,
    linear: &Linear,
    batch: Batch,
    place: Place,
    gates: Option<Gates<'_>>,
    lists: Lists<'_>,
    io: LinearInputGrad<'_>,
) -> Result<()> {
    let name = KERNEL.name;
    linear.check(name, batch, place)?;
    batch.check_counts(name, io.counts)?;
    lists.check(name, &linear.into(), Side::Inputs)?;
    let images = batch.slots * batch.stride;
    expect(name, "output", io.output, images * linear.outputs)?;
    expect(name, "output_grad", io.output_grad, images * linear.outputs)?;
    expect(name, "weights", io.weights, place.row_words)?;
    expect(name, "rows", io.rows, batch.slots)?;
    expect(name, "input_grad", io.input_grad, images * linear.inputs)?;
    if let Some(gates) = gates {
        gates.check(name, batch.slots, linear.outputs)?;
    }
    // Without gates the shader reads none, but something has to be bound.
    let gate_view = gates.map_or(io.counts, |g| g.values);
    let p = SparseLinearParams::new(LinearParams::new(linear, batch, place, gates), lists.place);
    let buffers = [io.output, io.output_grad, io.weights, io.rows, io.counts, gate_view, lists.values, io.input_grad];
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &buffers, groups(&p.linear))
}

fn twin(call: Call<'_>) {
    twin_on(Arch::new(), call);
}

/// With some of the processor's instructions.
pub(super) fn twin_on(arch: Arch, call: Call<'_>) {
    let params: SparseLinearParams = call.params();
    let p = params.linear;
    let ([output, output_grad, weights, rows, counts, gates, lists], [input_grad]) = call.buffers();
    let (linear, stride) = (p.linear(), p.stride as usize);
    let words = linear.outputs * stride;
    let block = super::block(p.slots as usize, linear.inputs);
    let slots = f32s_mut(input_grad).par_chunks_exact_mut(linear.inputs * stride).take(p.slots as usize);
    slots.enumerate().for_each(|(slot, input_grad)| {
        let part = |all| &f32s(all)[slot * words..][..words];
        let (side, row) = (((&linear).into(), Side::Inputs), rows[slot] as usize);
        let lists = RowLists::new(side, row, f32s(weights), p.place(), lists, params.place());
        let open: Vec<bool> = (0..linear.outputs).map(|m| p.gate(gates, slot, m) != 0.0).collect();
        let (relu, slot) = (linear.relu, (stride, counts[p.counts_at as usize + slot]));
        let blocks = input_grad.par_chunks_mut(block * stride).enumerate();
        blocks.for_each(|(i, input_grad)| {
            let (output, output_grad, first) = (part(output), part(output_grad), i * block);
            let (lists, open) = (&lists, &*open);
            arch.dispatch(Backward { relu, open, slot, output, output_grad, lists, first, input_grad });
        });
    });
}

/// The gradients of the inputs from `first` on, `[inputs][B]`.
struct Backward<'a> {
    relu: bool,
    /// `[M]`: whether an output has no gate, or one that is open.
    open: &'a [bool],
    /// B, and how many of its images exist.
    slot: (usize, u32),
    output: &'a [f32],
    output_grad: &'a [f32],
    lists: &'a RowLists<'a>,
    first: usize,
    input_grad: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { relu, open, slot: (stride, count), output, output_grad, lists, first, input_grad } = self;
        let nothing = simd.splat_f32s(0.0);
        for (i, input_grad) in input_grad.chunks_exact_mut(stride).enumerate() {
            if lists.counts[first + i] == 0 {
                zero(input_grad);
                continue;
            }
            for images in registers::<S>(stride, count) {
                let mut sum = nothing;
                for tap in lists.taps(first + i).filter(|tap| open[tap.other]) {
                    let mut dz = load(simd, of(images, output_grad, tap.other));
                    if relu {
                        let output = load(simd, of(images, output, tap.other));
                        dz = simd.select_f32s(simd.equal_f32s(output, nothing), nothing, dz);
                    }
                    sum = simd.mul_add_e_f32s(simd.splat_f32s(tap.weight), dz, sum);
                }
                let sum = simd.select_f32s(registers::first(simd, images.real), sum, nothing);
                store(simd, sum, of_mut(images, input_grad, 0));
            }
            zero(&mut input_grad[covered::<S>(stride, count)..]);
        }
    }
}

fn cases() -> Vec<Case> {
    sparse_linear_cases()
        .into_iter()
        .map(|c| {
            let setting = &c.setting;
            let input = setting.slots() * setting.stride * c.linear.inputs;
            Case {
                name: setting.name,
                params: c.sparse_params_words(Side::Inputs),
                buffers: vec![
                    c.output(),
                    c.output_grad(),
                    c.weights(),
                    setting.rows.to_vec(),
                    setting.counts(),
                    setting.gates_or_counts(c.linear.outputs),
                    c.lists(Side::Inputs),
                    vec![LEFT; input],
                ],
                groups: groups(&c.params()),
                flops: c.sparse_flops(),
            }
        })
        .collect()
}
