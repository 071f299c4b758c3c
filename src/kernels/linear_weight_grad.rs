//! Gradient of a fully connected layer's weights and biases (`shaders/linear_weight_grad.wgsl`).

use rayon::prelude::*;

use super::cases::linear::{LinearCase, large_linears, linear_cases};
use super::cases::settings::series;
use super::cpu::packed::with_scratch;
use super::linear_input_grad::live;
use super::shape::{Batch, LINEAR_WORDS, Linear, LinearParams, Place, expect, linear_params as parsed};
use crate::device::linalg::{Mat, MatMut};
use crate::device::panel::{panel, transpose};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, Variant, View, f32s, f32s_mut, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "linear_weight_grad",
    source: || super::unroll(include_str!("../../shaders/linear_weight_grad.wgsl")),
    variants: &[Variant::new(
        "64 by 64 in workgroup memory",
        || super::unroll(include_str!("../../shaders/hardware/linear_weight_grad.wgsl")),
        |p| shared(parsed(p)),
        // Fewer outputs leave most of a tile empty.
        |p| parsed(p).outputs >= 32,
    )],
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
    large,
};

/// The grid of a workgroup for every 64 outputs and 64 inputs, that of the biases included.
fn shared(p: &LinearParams) -> [u32; 3] {
    grid::folded(((p.inputs + 1).div_ceil(64) * p.outputs.div_ceil(64)) as usize, p.slots)
}

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

/// Inputs whose images are turned together, so that they stay in the cache.
const COLUMNS: usize = 64;

fn twin(call: Call<'_>) {
    let p: LinearParams = call.params();
    let ([input, output, output_grad, counts], [grads]) = call.buffers();
    let (n, m, stride) = (p.inputs as usize, p.outputs as usize, p.stride as usize);
    let block = super::block(p.slots as usize, m);
    let slots = f32s_mut(grads).par_chunks_exact_mut(p.row_words as usize).take(p.slots as usize);
    slots.enumerate().for_each(|(slot, grads)| {
        let words = slot * m * stride..(slot + 1) * m * stride;
        let dz = live(p.relu != 0, &f32s(output)[words.clone()], &f32s(output_grad)[words]);
        let input = &f32s(input)[slot * n * stride..][..n * stride];
        let count = (counts[p.counts_at as usize + slot] as usize).min(stride);
        for (m, dz) in dz.chunks_exact(stride).enumerate() {
            grads[p.bias_at as usize + m] = dz[..count].iter().sum();
        }
        let weights = grads[p.weights_at as usize..][..m * n].par_chunks_mut(block * n);
        weights
            .zip(dz.par_chunks(block * stride))
            .for_each(|(weights, dz)| products(dz, input, stride, count, weights));
    });
}

/// `weights[m][n] = sum over the first `count` images of dz[m] * input[n]`; rows of `dz` and `input` are `stride` apart.
fn products(dz: &[f32], input: &[f32], stride: usize, count: usize, weights: &mut [f32]) {
    let (outputs, n) = (dz.len() / stride, input.len() / stride);
    // With the images as rows, a row is a vector of inputs that a scalar of dz multiplies.
    let starts: Vec<usize> = (0..count).map(|b| b * COLUMNS).collect();
    with_scratch([count.next_multiple_of(4) * COLUMNS], |[turned]| {
        for first in (0..n).step_by(COLUMNS) {
            let columns = COLUMNS.min(n - first);
            transpose(&input[first * stride..], stride, columns, turned, COLUMNS);
            let out = MatMut { data: &mut weights[first..], row: n, col: 1 };
            panel(outputs, columns, out, Mat { data: dz, row: stride, col: 1 }, turned, &starts);
        }
    });
}

fn cases() -> Vec<Case> {
    linear_cases().into_iter().map(case).collect()
}

fn large() -> Vec<Case> {
    large_linears().into_iter().map(case).collect()
}

fn case(c: LinearCase) -> Case {
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
}

#[cfg(test)]
mod tests {
    use super::super::tests::reference;
    use super::*;

    #[test]
    fn gradients_follow_the_definition_and_other_words_are_left() {
        for case in linear_cases() {
            let (setting, place, linear) = (&case.setting, case.place(), case.linear);
            let (input, output, grad) = (case.input(), case.output(), case.output_grad());
            let before = series(setting.slots() * place.row_words, 1.0, 8);
            let buffers = [input.clone(), output.clone(), grad.clone(), setting.counts(), before.clone()];
            let after = reference::run(&KERNEL, &case.params_words(), &buffers);
            for (i, (got, before)) in f32s(&after[4]).iter().zip(f32s(&before)).enumerate() {
                let (slot, word) = (i / place.row_words, i % place.row_words);
                let dz = |m: usize, b: usize| {
                    let at = (slot * linear.outputs + m) * setting.stride + b;
                    if linear.relu && f32s(&output)[at] == 0.0 { 0.0 } else { f64::from(f32s(&grad)[at]) }
                };
                let images = 0..setting.counts[slot] as usize;
                let weights = place.weights_at..place.weights_at + linear.inputs * linear.outputs;
                if weights.contains(&word) {
                    let (m, n) = ((word - weights.start) / linear.inputs, (word - weights.start) % linear.inputs);
                    let x = |b: usize| f64::from(f32s(&input)[(slot * linear.inputs + n) * setting.stride + b]);
                    reference::close(*got, images.map(|b| dz(m, b) * x(b)), setting.name);
                } else if (place.bias_at..place.bias_at + linear.outputs).contains(&word) {
                    reference::close(*got, images.map(|b| dz(word - place.bias_at, b)), setting.name);
                } else {
                    assert_eq!(got, before, "{}: word {word} is not this layer's", setting.name);
                }
            }
        }
    }
}
