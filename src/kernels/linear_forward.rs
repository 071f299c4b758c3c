//! A fully connected layer with bias, gates and ReLU (`shaders/linear_forward.wgsl`).

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

/// Outputs of a thread in the kernel itself.
const TILE: u32 = 8;

/// A variant whose threads own so many outputs and vec4s of images and take so many fours of inputs in a turn.
macro_rules! tile {
    ($tile:literal, $span:literal, $turn:literal, $suits:expr) => {
        Variant::new(
            concat!($tile, " outputs, ", $span, " times four images, ", $turn, " times four inputs a turn"),
            || text($tile, $span, $turn),
            |p| groups(parsed(p), $tile, $span),
            $suits,
        )
    };
}

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "linear_forward",
    source: || text(TILE, 1, 1),
    // Large tiles only where enough threads are left to fill a large GPU.
    variants: &[
        tile!(16, 2, 1, |p| by_fours(p) && threads(p, 32) >= ENOUGH_THREADS),
        tile!(8, 1, 4, |p| by_fours(p) && threads(p, 8) >= 8_192),
    ],
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
    large,
};

fn text(tile: u32, span: u32, turn: u32) -> String {
    let [tile, span, turn] = [tile, span, turn].map(|n| n.to_string());
    let parts = [("TILE", tile.as_str()), ("SPAN", &span), ("TURN", &turn)];
    super::unroll_with(include_str!("../../shaders/linear_forward.wgsl"), &parts)
}

/// Whether every row of weights starts at a vec4.
fn by_fours(p: &[u32]) -> bool {
    (parsed(p).weights_at | parsed(p).inputs).is_multiple_of(4)
}

fn threads(p: &[u32], tile: u32) -> u32 {
    let p = parsed(p);
    p.outputs.div_ceil(tile) * (p.stride / 4) * p.slots
}

fn groups(p: &LinearParams, tile: u32, span: u32) -> [u32; 3] {
    let items = p.outputs.div_ceil(tile) * (p.stride / 4).div_ceil(span);
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

/// `output = relu(gate * (bias + weights * input))`. A NaN passes through the ReLU, unless the gate is closed; padding images get 0.
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
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &buffers, groups(&p, TILE, 1))
}

/// Outputs of one unit of CPU work.
const BLOCK: usize = 64;

fn twin(call: Call<'_>) {
    let p: LinearParams = call.params();
    let ([input, weights, rows, counts, gates], [output]) = call.buffers();
    let (n, stride) = (p.inputs as usize, p.stride as usize);
    let starts: Vec<usize> = (0..n).map(|i| i * stride).collect();
    let slots = f32s_mut(output).par_chunks_exact_mut(p.outputs as usize * stride).take(p.slots as usize);
    slots.enumerate().for_each(|(slot, output)| {
        let row = &f32s(weights)[rows[slot] as usize * p.row_words as usize..][..p.row_words as usize];
        let input = &f32s(input)[slot * n * stride..][..n * stride];
        let count = (counts[p.counts_at as usize + slot] as usize).min(stride);
        output.par_chunks_mut(BLOCK * stride).enumerate().for_each(|(block, output)| {
            let first = block * BLOCK;
            let lhs = Mat { data: &row[p.weights_at as usize + first * n..], row: n, col: 1 };
            let (outputs, lanes) = (output.len() / stride, count.next_multiple_of(4));
            panel(outputs, lanes, MatMut { data: output, row: stride, col: 1 }, lhs, input, &starts);
            for (m, output) in output.chunks_exact_mut(stride).enumerate() {
                let gate = p.gate(gates, slot, first + m);
                finish(row[p.bias_at as usize + first + m], gate, p.relu != 0, &mut output[..count]);
                output[count..].fill(0.0);
            }
        });
    });
}

/// Bias, gate and ReLU of one output.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn finish(bias: f32, gate: f32, relu: bool, output: &mut [f32]) {
    for output in output {
        let z = (*output + bias) * gate;
        // Behind a closed gate nothing is left of a sum, whatever it is.
        *output = if relu && (z <= 0.0 || gate == 0.0) { 0.0 } else { z };
    }
}

fn cases() -> Vec<Case> {
    linear_cases().into_iter().map(case).collect()
}

fn large() -> Vec<Case> {
    large_linears().into_iter().map(case).collect()
}

fn case(c: LinearCase) -> Case {
    let setting = &c.setting;
    let output = setting.slots() * setting.stride * c.linear.outputs;
    let gates = setting.gates_or_counts(c.linear.outputs);
    Case {
        name: setting.name,
        params: c.params_words(),
        buffers: vec![c.input(), c.weights(), setting.rows.to_vec(), setting.counts(), gates, vec![LEFT; output]],
        groups: groups(&c.params(), TILE, 1),
        flops: c.flops(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::reference;
    use super::*;

    #[test]
    fn outputs_follow_the_definition() {
        for case in linear_cases() {
            let (setting, place, linear, p) = (&case.setting, case.place(), case.linear, case.params());
            let (input, weights, gates) = (case.input(), case.weights(), setting.gates_or_counts(linear.outputs));
            let buffers = [
                input.clone(),
                weights.clone(),
                setting.rows.to_vec(),
                setting.counts(),
                gates.clone(),
                vec![7; setting.slots() * linear.outputs * setting.stride],
            ];
            let after = reference::run(&KERNEL, &case.params_words(), &buffers);
            for (i, got) in f32s(&after[5]).iter().enumerate() {
                let (slot, m, b) =
                    (i / setting.stride / linear.outputs, i / setting.stride % linear.outputs, i % setting.stride);
                let row = &f32s(&weights)[setting.rows[slot] as usize * place.row_words..];
                let product = |n: usize| {
                    let weight = row[place.weights_at + m * linear.inputs + n];
                    f64::from(weight) * f64::from(f32s(&input)[(slot * linear.inputs + n) * setting.stride + b])
                };
                let open = !setting.gated || f32s(&gates)[slot * p.gate_words as usize + p.gates_at as usize + m] > 0.0;
                let real = open && b < setting.counts[slot] as usize;
                let sum = (0..linear.inputs).map(product).sum::<f64>() + f64::from(row[place.bias_at + m]);
                let want = if real && !(linear.relu && sum < 0.0) { sum } else { 0.0 };
                assert!((f64::from(*got) - want).abs() < 1e-5, "{}: {got} instead of {want}", setting.name);
            }
        }
    }
}
