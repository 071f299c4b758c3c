//! Gradient of a fully connected layer's input (`shaders/linear_input_grad.wgsl`).

use rayon::prelude::*;

use super::cases::LEFT;
use super::cases::linear::{LinearCase, large_linears, linear_cases};
use super::shape::{
    Batch, ENOUGH_THREADS, Gates, LINEAR_WORDS, Linear, LinearParams, Place, expect, linear_params as parsed,
};
use crate::device::linalg::{Mat, MatMut};
use crate::device::panel::panel;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, Variant, View, f32s, f32s_mut, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "linear_input_grad",
    source: || text(1),
    variants: &[Variant::new(
        "twice four images",
        || text(2),
        |p| groups(parsed(p), 2),
        // Only where enough threads are left to fill a large GPU.
        |p| parsed(p).inputs.div_ceil(16) * parsed(p).stride / 8 * parsed(p).slots >= ENOUGH_THREADS,
    )],
    bindings: &[
        Binding::read("output"),
        Binding::read("output_grad"),
        Binding::read("weights"),
        Binding::read("rows"),
        Binding::read("counts"),
        Binding::read("gates"),
        Binding::write("input_grad", Compare::Close(1e-5)),
    ],
    params_words: LINEAR_WORDS,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large,
};

fn text(span: u32) -> String {
    let text = include_str!("../../shaders/linear_input_grad.wgsl");
    super::unroll_with(text, &[("SPAN", &span.to_string())])
}

/// The grid of a thread for every 16 inputs and so many vec4s of images.
fn groups(p: &LinearParams, span: u32) -> [u32; 3] {
    let items = p.inputs.div_ceil(16) * (p.stride / 4).div_ceil(span);
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

/// `input_grad[n] = sum over m of weights[m][n] * dz[m]`; `dz` is `output_grad`, 0 where the ReLU was dead and, with `gates`,
/// the forward pass's, in outputs whose gate is closed: nothing of them reaches the loss. Padding images get 0.
///
/// # Errors
/// [`crate::Error::Kernel`] when the sizes make no layer or a view is too short for them.
pub fn linear_input_grad(
    device: &dyn Device,
    linear: &Linear,
    batch: Batch,
    place: Place,
    gates: Option<Gates<'_>>,
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
    if let Some(gates) = gates {
        gates.check(name, batch.slots, linear.outputs)?;
    }
    // Without gates the shader reads none, but something has to be bound.
    let gate_view = gates.map_or(io.counts, |g| g.values);
    let p = LinearParams::new(linear, batch, place, gates);
    let buffers = [io.output, io.output_grad, io.weights, io.rows, io.counts, gate_view, io.input_grad];
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &buffers, groups(&p, 1))
}

/// Inputs of one unit of CPU work.
const BLOCK: usize = 256;

fn twin(call: Call<'_>) {
    let p: LinearParams = call.params();
    let ([output, output_grad, weights, rows, counts, gates], [input_grad]) = call.buffers();
    let (n, m, stride) = (p.inputs as usize, p.outputs as usize, p.stride as usize);
    let starts: Vec<usize> = (0..m).map(|i| i * stride).collect();
    let slots = f32s_mut(input_grad).par_chunks_exact_mut(n * stride).take(p.slots as usize);
    slots.enumerate().for_each(|(slot, input_grad)| {
        let words = slot * m * stride..(slot + 1) * m * stride;
        let mut dz = live(p.relu != 0, &f32s(output)[words.clone()], &f32s(output_grad)[words]);
        let closed = dz.chunks_exact_mut(stride).enumerate().filter(|(m, _)| p.gate(gates, slot, *m) == 0.0);
        closed.for_each(|(_, images)| images.fill(0.0));
        let weights = &f32s(weights)[rows[slot] as usize * p.row_words as usize + p.weights_at as usize..][..m * n];
        let count = (counts[p.counts_at as usize + slot] as usize).min(stride);
        input_grad.par_chunks_mut(BLOCK * stride).enumerate().for_each(|(block, input_grad)| {
            let lhs = Mat { data: &weights[block * BLOCK..], row: 1, col: n };
            let (inputs, lanes) = (input_grad.len() / stride, count.next_multiple_of(4));
            panel(inputs, lanes, MatMut { data: input_grad, row: stride, col: 1 }, lhs, &dz, &starts);
            input_grad.chunks_exact_mut(stride).for_each(|images| images[count..].fill(0.0));
        });
    });
}

/// `grad` where `output` is alive.
pub(super) fn live(relu: bool, output: &[f32], grad: &[f32]) -> Vec<f32> {
    let dead = |output: f32| relu && output == 0.0;
    output.iter().zip(grad).map(|(output, grad)| if dead(*output) { 0.0 } else { *grad }).collect()
}

fn cases() -> Vec<Case> {
    linear_cases().into_iter().map(case).collect()
}

fn large() -> Vec<Case> {
    large_linears().into_iter().map(case).collect()
}

fn case(c: LinearCase) -> Case {
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
            setting.gates_or_counts(c.linear.outputs),
            vec![LEFT; input],
        ],
        groups: groups(&c.params(), 1),
        flops: c.flops(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::reference;
    use super::*;

    #[test]
    fn gradients_follow_the_definition() {
        for case in linear_cases() {
            let (setting, place, linear) = (&case.setting, case.place(), case.linear);
            let (output, grad, weights) = (case.output(), case.output_grad(), case.weights());
            let gates = setting.gates_or_counts(linear.outputs);
            let buffers = [
                output.clone(),
                grad.clone(),
                weights.clone(),
                setting.rows.to_vec(),
                setting.counts(),
                gates.clone(),
                vec![7; setting.slots() * linear.inputs * setting.stride],
            ];
            let after = reference::run(&KERNEL, &case.params_words(), &buffers);
            for (i, got) in f32s(&after[6]).iter().enumerate() {
                let (slot, n, b) =
                    (i / setting.stride / linear.inputs, i / setting.stride % linear.inputs, i % setting.stride);
                let row = &f32s(&weights)[setting.rows[slot] as usize * place.row_words + place.weights_at..];
                let product = |m: usize| {
                    let at = (slot * linear.outputs + m) * setting.stride + b;
                    let dead = linear.relu && f32s(&output)[at] == 0.0 || case.params().gate(&gates, slot, m) == 0.0;
                    if dead { 0.0 } else { f64::from(row[m * linear.inputs + n]) * f64::from(f32s(&grad)[at]) }
                };
                reference::close(*got, (0..linear.outputs).map(product), setting.name);
            }
        }
    }
}
