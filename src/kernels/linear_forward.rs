//! A fully connected layer with bias, gates and ReLU (`shaders/linear_forward.wgsl`).

use rayon::prelude::*;

use super::layer_cases::linear_cases;
use super::shape::{Batch, Gates, LINEAR_WORDS, Linear, LinearParams, Place, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "linear_forward",
    source: || super::unroll(include_str!("../../shaders/linear_forward.wgsl")),
    bindings: &[
        Binding::read("input"),
        Binding::read("weights"),
        Binding::read("rows"),
        Binding::read("counts"),
        Binding::read("gates"),
        Binding::write("output", Compare::Close(1e-5)),
    ],
    params_words: LINEAR_WORDS,
    workgroup: [64, 1, 1],
    twin,
    cases,
};

fn groups(p: &LinearParams) -> [u32; 3] {
    let items = p.outputs.div_ceil(8) * (p.stride / 4);
    grid::folded(items.div_ceil(64) as usize, p.slots)
}

/// The buffers of [`linear_forward`].
#[derive(Clone, Copy, Debug)]
pub struct LinearForward<'a> {
    /// `[slots][N][B]`.
    pub input: View<'a>,
    /// `[rows][P]`.
    pub weights: View<'a>,
    /// `[slots]`: the row of `weights` that a slot uses, as `u32`.
    pub rows: View<'a>,
    /// Images of each slot, as `u32`, from word [`Batch::counts_at`].
    pub counts: View<'a>,
    /// `[slots][M][B]`, written.
    pub output: View<'a>,
}

/// `output = relu(gate * (bias + weights * input))`. A NaN passes through the ReLU; padding images get 0.
///
/// # Errors
/// [`crate::Error::Kernel`] when the sizes make no layer or a view is too short for them.
pub fn linear_forward(
    device: &dyn Device,
    linear: &Linear,
    batch: Batch,
    place: Place,
    gates: Option<Gates<'_>>,
    io: LinearForward<'_>,
) -> Result<()> {
    let name = KERNEL.name;
    linear.check(name, batch, place)?;
    batch.check_counts(name, io.counts)?;
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
    let p = LinearParams::new(linear, batch, place, gates);
    let buffers = [io.input, io.weights, io.rows, io.counts, gate_view, io.output];
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &buffers, groups(&p))
}

fn twin(call: Call<'_>) {
    let p: LinearParams = call.params();
    let ([input, weights, rows, counts, gates], [output]) = call.buffers();
    let (n, m, b, row) = (p.inputs as usize, p.outputs as usize, p.stride as usize, p.row_words as usize);
    let all = f32s_mut(output)[..p.slots as usize * m * b].par_chunks_mut(m * b).enumerate();
    all.for_each(|(slot, output)| {
        let input = &f32s(input)[slot * n * b..][..n * b];
        let weights = &f32s(weights)[rows[slot] as usize * row..][..row];
        let count = counts[p.counts_at as usize + slot] as usize;
        for (m, out) in output.chunks_exact_mut(b).enumerate() {
            let gate = match p.gate_words as usize {
                0 => 1.0,
                words => f32s(gates)[slot * words + p.gates_at as usize + m],
            };
            out.fill(0.0);
            for (w, v) in weights[p.weights_at as usize + m * n..][..n].iter().zip(input.chunks_exact(b)) {
                out.iter_mut().zip(v).for_each(|(out, v)| *out += w * v);
            }
            for out in &mut out[..count] {
                let z = (*out + weights[p.bias_at as usize + m]) * gate;
                *out = if p.relu != 0 && z <= 0.0 { 0.0 } else { z };
            }
            out[count..].fill(0.0);
        }
    });
}

fn cases() -> Vec<Case> {
    linear_cases()
        .into_iter()
        .map(|c| {
            let setting = &c.setting;
            let output = setting.slots() * setting.stride * c.linear.outputs;
            let gates = setting.gates_or_counts(c.linear.outputs);
            Case {
                name: setting.name,
                params: c.params_words(),
                buffers: vec![c.input(), c.weights(), setting.rows.to_vec(), setting.counts(), gates, vec![7; output]],
                groups: groups(&c.params()),
                flops: c.flops(),
            }
        })
        .collect()
}
