//! Gradient of a fully connected layer's input (`shaders/linear_input_grad.wgsl`).

use rayon::prelude::*;

use super::layer_cases::linear_cases;
use super::shape::{Batch, LINEAR_WORDS, Linear, LinearParams, Place, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "linear_input_grad",
    source: || super::unroll(include_str!("../../shaders/linear_input_grad.wgsl")),
    bindings: &[
        Binding::read("output"),
        Binding::read("output_grad"),
        Binding::read("weights"),
        Binding::read("rows"),
        Binding::read("counts"),
        Binding::write("input_grad", Compare::Close(1e-5)),
    ],
    params_words: LINEAR_WORDS,
    workgroup: [64, 1, 1],
    twin,
    cases,
};

fn groups(p: &LinearParams) -> [u32; 3] {
    let items = p.inputs.div_ceil(16) * (p.stride / 4);
    grid::folded(items.div_ceil(64) as usize, p.slots)
}

/// The buffers of [`linear_input_grad`].
#[derive(Clone, Copy, Debug)]
pub struct LinearInputGrad<'a> {
    /// `[slots][M][B]`: the forward pass's output; with a ReLU, no gradient passes where it is 0.
    pub output: View<'a>,
    /// `[slots][M][B]`, zero for padding images.
    pub output_grad: View<'a>,
    /// `[rows][P]`.
    pub weights: View<'a>,
    /// `[slots]`: the row of `weights` that a slot uses, as `u32`.
    pub rows: View<'a>,
    /// Images of each slot, as `u32`, from word [`Batch::counts_at`].
    pub counts: View<'a>,
    /// `[slots][N][B]`, written.
    pub input_grad: View<'a>,
}

/// `input_grad[n] = sum over m of weights[m][n] * dz[m]`; `dz` is `output_grad`, 0 where the ReLU was dead. Padding
/// images get 0.
///
/// # Errors
/// [`crate::Error::Kernel`] when the sizes make no layer or a view is too short for them.
pub fn linear_input_grad(
    device: &dyn Device,
    linear: &Linear,
    batch: Batch,
    place: Place,
    io: LinearInputGrad<'_>,
) -> Result<()> {
    let name = KERNEL.name;
    linear.check(name, batch, place)?;
    batch.check_counts(name, io.counts)?;
    let images = batch.slots * batch.stride;
    expect(name, "output", io.output, images * linear.outputs)?;
    expect(name, "output_grad", io.output_grad, images * linear.outputs)?;
    expect(name, "weights", io.weights, place.row_words)?;
    expect(name, "rows", io.rows, batch.slots)?;
    expect(name, "input_grad", io.input_grad, images * linear.inputs)?;
    let p = LinearParams::new(linear, batch, place, None);
    let buffers = [io.output, io.output_grad, io.weights, io.rows, io.counts, io.input_grad];
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &buffers, groups(&p))
}

fn twin(call: Call<'_>) {
    let p: LinearParams = call.params();
    let ([output, output_grad, weights, rows, counts], [input_grad]) = call.buffers();
    let (n, m, b, row) = (p.inputs as usize, p.outputs as usize, p.stride as usize, p.row_words as usize);
    let all = f32s_mut(input_grad)[..p.slots as usize * n * b].par_chunks_mut(n * b).enumerate();
    all.for_each(|(slot, input_grad)| {
        let output = &f32s(output)[slot * m * b..][..m * b];
        let output_grad = &f32s(output_grad)[slot * m * b..][..m * b];
        let weights = &f32s(weights)[rows[slot] as usize * row + p.weights_at as usize..][..m * n];
        let count = counts[p.counts_at as usize + slot] as usize;
        for (n_at, to) in input_grad.chunks_exact_mut(b).enumerate() {
            to.fill(0.0);
            for m in 0..m {
                for i in 0..count {
                    if p.relu == 0 || output[m * b + i] != 0.0 {
                        to[i] += weights[m * n + n_at] * output_grad[m * b + i];
                    }
                }
            }
        }
    });
}

fn cases() -> Vec<Case> {
    linear_cases()
        .into_iter()
        .map(|c| {
            let setting = &c.setting;
            let input = setting.slots() * setting.stride * c.linear.inputs;
            Case {
                name: setting.name,
                params: c.params_words(),
                buffers: vec![
                    c.output(),
                    c.output_grad(),
                    c.weights(),
                    setting.rows.to_vec(),
                    setting.counts(),
                    vec![7; input],
                ],
                groups: groups(&c.params()),
                flops: c.flops(),
            }
        })
        .collect()
}
