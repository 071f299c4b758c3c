//! [`super::linear_forward`] over the surviving weights alone (`shaders/sparse_linear_forward.wgsl`).

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::cases::LEFT;
use super::cases::sparse::sparse_linear_cases;
use super::cpu::registers::{covered, first, load, of, of_mut, registers, store, zero};
use super::cpu::windows::{After, single};
use super::linear_forward::LinearForward;
use super::shape::{Batch, Gates, Linear, LinearParams, Place, expect};
use super::sparse::{Lists, RowLists, SPARSE_LINEAR_WORDS, Side, SparseLinearParams};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, f32s, f32s_mut, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "sparse_linear_forward",
    source: || super::unroll(include_str!("../../shaders/sparse_linear_forward.wgsl")),
    variants: &[],
    bindings: &[
        Binding::read("input"),
        Binding::read("weights"),
        Binding::read("rows"),
        Binding::read("counts"),
        Binding::read("gates"),
        Binding::read("lists"),
        Binding::write("output", Compare::Close(1e-5)),
    ],
    params_words: SPARSE_LINEAR_WORDS,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

fn groups(p: &LinearParams) -> [u32; 3] {
    let items = p.outputs * (p.stride / 4);
    grid::folded(items.div_ceil(64) as usize, p.slots)
}

/// What [`super::linear_forward::linear_forward`] gives, from weights of which only those in `lists` ([`Side::Outputs`],
/// as [`super::survivors`] made them of the same weights) are not zero.
///
/// On a GPU the bits are the dense kernel's, on the CPU engine they differ from it by rounding. A closed unit in front of
/// a ReLU is 0 whatever its sum, even where that is not a number.
///
/// # Errors
/// [`crate::Error::Kernel`] when the sizes make no layer or a view is too short for them.
pub fn sparse_linear_forward(
    device: &dyn Device,
    linear: &Linear,
    batch: Batch,
    place: Place,
    gates: Option<Gates<'_>>,
    lists: Lists<'_>,
    io: LinearForward<'_>,
) -> Result<()> {
    let name = KERNEL.name;
    linear.check(name, batch, place)?;
    batch.check_counts(name, io.counts)?;
    lists.check(name, &linear.into(), Side::Outputs)?;
    let images = batch.slots * batch.stride;
    expect(name, "input", io.input, images * linear.inputs)?;
    expect(name, "weights", io.weights, place.row_words)?;
    expect(name, "rows", io.rows, batch.slots)?;
    expect(name, "output", io.output, images * linear.outputs)?;
    if let Some(gates) = gates {
        gates.check(name, batch.slots, linear.outputs)?;
    }
    // Without gates the shader reads none, but something has to be bound.
    let gate_view = gates.map_or(io.counts, |g| g.values);
    let p = SparseLinearParams::new(LinearParams::new(linear, batch, place, gates), lists.place);
    let buffers = [io.input, io.weights, io.rows, io.counts, gate_view, lists.values, io.output];
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &buffers, groups(&p.linear))
}

fn twin(call: Call<'_>) {
    twin_on(Arch::new(), call);
}

/// With some of the processor's instructions.
pub(super) fn twin_on(arch: Arch, call: Call<'_>) {
    let params: SparseLinearParams = call.params();
    let p = params.linear;
    let ([input, weights, rows, counts, gates, lists], [output]) = call.buffers();
    let (linear, stride) = (p.linear(), p.stride as usize);
    let (n, place) = (linear.inputs, p.place());
    let block = super::block(p.slots as usize, linear.outputs);
    let slots = f32s_mut(output).par_chunks_exact_mut(linear.outputs * stride).take(p.slots as usize);
    slots.enumerate().for_each(|(slot, output)| {
        let (row, input) = (rows[slot] as usize, &f32s(input)[slot * n * stride..][..n * stride]);
        let lists = RowLists::new(((&linear).into(), Side::Outputs), row, f32s(weights), place, lists, params.place());
        let biases = &f32s(weights)[row * place.row_words + place.bias_at..][..linear.outputs];
        let count = counts[p.counts_at as usize + slot];
        output.par_chunks_mut(block * stride).enumerate().for_each(|(i, output)| {
            for (m, output) in output.chunks_exact_mut(stride).enumerate().map(|(j, o)| (i * block + j, o)) {
                let gate = p.gate(gates, slot, m);
                let taps: Vec<_> = lists.taps(m).map(|tap| (tap.other, tap.weight)).collect();
                let (relu, bias, slot) = (linear.relu, biases[m], (stride, count));
                arch.dispatch(Unit { relu, gate, bias, taps: &taps, slot, input, output });
            }
        });
    });
}

/// One unit's outputs, `[B]`.
struct Unit<'a> {
    relu: bool,
    gate: f32,
    bias: f32,
    taps: &'a [(usize, f32)],
    /// B, and how many of its images exist.
    slot: (usize, u32),
    input: &'a [f32],
    output: &'a mut [f32],
}

impl WithSimd for Unit<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { relu, gate, bias, taps, slot: (stride, count), input, output } = self;
        // Closed in front of a ReLU: 0 whatever its sum.
        if relu && gate == 0.0 {
            return output.fill(0.0);
        }
        let after = After { bias: simd.splat_f32s(bias), gate: simd.splat_f32s(gate), relu };
        for images in registers::<S>(stride, count) {
            let mut sum = simd.splat_f32s(0.0);
            for (n, weight) in taps {
                sum = simd.mul_add_e_f32s(simd.splat_f32s(*weight), load(simd, of(images, input, *n)), sum);
            }
            let (value, _) = single(simd, sum, after);
            let value = simd.select_f32s(first(simd, images.real), value, simd.splat_f32s(0.0));
            store(simd, value, of_mut(images, output, 0));
        }
        zero(&mut output[covered::<S>(stride, count)..]);
    }
}

fn cases() -> Vec<Case> {
    sparse_linear_cases()
        .into_iter()
        .map(|c| {
            let setting = &c.setting;
            let output = setting.slots() * setting.stride * c.linear.outputs;
            Case {
                name: setting.name,
                params: c.sparse_params_words(Side::Outputs),
                buffers: vec![
                    c.input(),
                    c.weights(),
                    setting.rows.to_vec(),
                    setting.counts(),
                    setting.gates_or_counts(c.linear.outputs),
                    c.lists(Side::Outputs),
                    vec![LEFT; output],
                ],
                groups: groups(&c.params()),
                flops: c.sparse_flops(),
            }
        })
        .collect()
}
