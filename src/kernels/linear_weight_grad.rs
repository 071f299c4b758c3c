//! Gradient of a fully connected layer's weights and biases (`shaders/linear_weight_grad.wgsl`).

use rayon::prelude::*;

use super::layer_cases::{linear_cases, series};
use super::shape::{Batch, LINEAR_WORDS, Linear, LinearParams, Place, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "linear_weight_grad",
    source: || super::unroll(include_str!("../../shaders/linear_weight_grad.wgsl")),
    bindings: &[
        Binding::read("input"),
        Binding::read("output"),
        Binding::read("output_grad"),
        Binding::read("counts"),
        Binding::write("grads", Compare::Close(1e-5)),
    ],
    params_words: LINEAR_WORDS,
    workgroup: [64, 1, 1],
    twin,
    cases,
};

fn groups(p: &LinearParams) -> [u32; 3] {
    let items = (p.inputs + 1).div_ceil(8) * p.outputs.div_ceil(8);
    grid::folded(items.div_ceil(64) as usize, p.slots)
}

/// The buffers of [`linear_weight_grad`].
#[derive(Clone, Copy, Debug)]
pub struct LinearWeightGrad<'a> {
    /// `[slots][N][B]`, zero for padding images.
    pub input: View<'a>,
    /// `[slots][M][B]`: the forward pass's output; with a ReLU, no gradient passes where it is 0.
    pub output: View<'a>,
    /// `[slots][M][B]`, zero for padding images.
    pub output_grad: View<'a>,
    /// Images of each slot, as `u32`, from word [`Batch::counts_at`].
    pub counts: View<'a>,
    /// `[slots][P]`: this layer's words are written, all others left.
    pub grads: View<'a>,
}

/// `grads[m][n] = sum over images of dz[m] * input[n]`, `grads[m] = sum over images of dz[m]`, with `dz` as in
/// [`super::linear_input_grad`].
///
/// # Errors
/// [`crate::Error::Kernel`] when the sizes make no layer or a view is too short for them.
pub fn linear_weight_grad(
    device: &dyn Device,
    linear: &Linear,
    batch: Batch,
    place: Place,
    io: LinearWeightGrad<'_>,
) -> Result<()> {
    let name = KERNEL.name;
    linear.check(name, batch, place)?;
    batch.check_counts(name, io.counts)?;
    let images = batch.slots * batch.stride;
    expect(name, "input", io.input, images * linear.inputs)?;
    expect(name, "output", io.output, images * linear.outputs)?;
    expect(name, "output_grad", io.output_grad, images * linear.outputs)?;
    expect(name, "grads", io.grads, batch.slots * place.row_words)?;
    let p = LinearParams::new(linear, batch, place, None);
    let buffers = [io.input, io.output, io.output_grad, io.counts, io.grads];
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &buffers, groups(&p))
}

fn twin(call: Call<'_>) {
    let p: LinearParams = call.params();
    let ([input, output, output_grad, counts], [grads]) = call.buffers();
    let (n, m, b, row) = (p.inputs as usize, p.outputs as usize, p.stride as usize, p.row_words as usize);
    let all = f32s_mut(grads)[..p.slots as usize * row].par_chunks_mut(row).enumerate();
    all.for_each(|(slot, grads)| {
        let input = &f32s(input)[slot * n * b..][..n * b];
        let output = &f32s(output)[slot * m * b..][..m * b];
        let output_grad = &f32s(output_grad)[slot * m * b..][..m * b];
        let count = counts[p.counts_at as usize + slot] as usize;
        for m in 0..m {
            let dz: Vec<f32> = (m * b..m * b + count)
                .map(|i| if p.relu != 0 && output[i] == 0.0 { 0.0 } else { output_grad[i] })
                .collect();
            grads[p.bias_at as usize + m] = dz.iter().sum();
            for (n_at, input) in input.chunks_exact(b).enumerate() {
                grads[p.weights_at as usize + m * n + n_at] = dz.iter().zip(input).map(|(dz, v)| dz * v).sum();
            }
        }
    });
}

fn cases() -> Vec<Case> {
    linear_cases()
        .into_iter()
        .map(|c| {
            let row = c.place().row_words;
            Case {
                name: c.setting.name,
                params: c.params_words(),
                buffers: vec![
                    c.input(),
                    c.output(),
                    c.output_grad(),
                    c.setting.counts(),
                    series(c.setting.slots() * row, 1.0, 8),
                ],
                groups: groups(&c.params()),
                flops: c.flops(),
            }
        })
        .collect()
}
