//! Stochastic gradient descent, one step for every training client (`shaders/sgd.wgsl`).

use rayon::prelude::*;

use super::cases::noise;
use super::shape::{Rows, STEP_BLOCK, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "sgd",
    source: || include_str!("../../shaders/sgd.wgsl").into(),
    variants: &[],
    bindings: &[
        Binding::read("rates"),
        Binding::read("grads"),
        Binding::write("weights", Compare::Close(1e-6)),
        Binding::write("velocity", Compare::Close(1e-6)),
    ],
    params_words: 4,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// Hyper-parameters but for the learning rate; PyTorch's names, with neither dampening nor Nesterov's variant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// What is kept of the velocity.
    pub momentum: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    quads: u32,
    first: u32,
    momentum: f32,
    weight_decay: f32,
}

fn params(sgd: Sgd, step: u32, words: usize) -> Params {
    Params {
        quads: (words / 4) as u32,
        first: u32::from(step == 1),
        momentum: sgd.momentum as f32,
        weight_decay: sgd.weight_decay as f32,
    }
}

/// The buffers of [`sgd`].
#[derive(Clone, Copy, Debug)]
pub struct Buffers<'a> {
    /// `[K]`: learning rates.
    pub rates: View<'a>,
    /// `[K][P]`.
    pub grads: View<'a>,
    /// Updated, `[K][P]`.
    pub weights: View<'a>,
    /// Updated, `[K][P]`; without momentum bound but neither read nor written, and of any length.
    pub velocity: View<'a>,
}

/// Steps `rows` of P parameters, a multiple of 4; `step` counts from 1.
///
/// # Errors
/// [`crate::Error::Kernel`] when P is not a multiple of 4 or a buffer is too small.
pub fn sgd(device: &dyn Device, sgd: Sgd, step: u32, rows: Rows, b: &Buffers<'_>) -> Result<()> {
    let (name, Rows { slots: clients, words }) = (KERNEL.name, rows);
    let all = clients * words;
    rows.expect_quads(name)?;
    expect(name, "rates", b.rates, clients)?;
    expect(name, "grads", b.grads, all)?;
    expect(name, "weights", b.weights, all)?;
    expect(name, "velocity", b.velocity, if sgd.momentum == 0.0 { 0 } else { all })?;
    let (p, views) = (params(sgd, step, words), [b.rates, b.grads, b.weights, b.velocity]);
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &views, rows.quad_groups())
}

fn twin(call: Call<'_>) {
    let p: Params = call.params();
    let (words, clients) = (4 * p.quads as usize, call.groups[2] as usize);
    let ([rates, grads], [weights, velocity]) = call.buffers();
    let all = clients * words;
    let rows = f32s_mut(&mut weights[..all]).par_chunks_mut(words).zip(f32s(&grads[..all]).par_chunks(words));
    let rows = rows.zip(&f32s(rates)[..clients]);
    if p.momentum == 0.0 {
        rows.for_each(|((w, g), lr)| {
            let blocks = w.par_chunks_mut(STEP_BLOCK).zip(g.par_chunks(STEP_BLOCK));
            blocks.for_each(|(w, g)| plain(p, *lr, w, g));
        });
    } else {
        rows.zip(f32s_mut(&mut velocity[..all]).par_chunks_mut(words)).for_each(|(((w, g), lr), v)| {
            let blocks = w.par_chunks_mut(STEP_BLOCK).zip(g.par_chunks(STEP_BLOCK)).zip(v.par_chunks_mut(STEP_BLOCK));
            blocks.for_each(|((w, g), v)| heavy_ball(p, *lr, w, v, g));
        });
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn plain(p: Params, lr: f32, weights: &mut [f32], grads: &[f32]) {
    for (w, g) in weights.iter_mut().zip(grads) {
        *w -= lr * (g + p.weight_decay * *w);
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn heavy_ball(p: Params, lr: f32, weights: &mut [f32], velocity: &mut [f32], grads: &[f32]) {
    for ((w, v), g) in weights.iter_mut().zip(velocity).zip(grads) {
        let g = g + p.weight_decay * *w;
        *v = if p.first == 1 { g } else { p.momentum * *v + g };
        *w -= lr * *v;
    }
}

fn cases() -> Vec<Case> {
    let sizes = [
        ("one vec4, the first step", 4, 1, 1, 0.9),
        ("odd, no momentum", 4 * 1001, 3, 2, 0.0),
        ("five clients of simple-cnn", 104_204, 5, 7, 0.9),
    ];
    let case = |(name, words, clients, step, momentum)| {
        let all = clients * words;
        Case {
            name,
            params: bytemuck::cast_slice(&[params(Sgd { momentum, weight_decay: 1e-3 }, step, words)]).to_vec(),
            buffers: vec![noise(clients, 0.05, 4), noise(all, 0.5, 1), noise(all, 1.0, 2), noise(all, 0.5, 3)],
            groups: Rows { slots: clients, words }.quad_groups(),
            flops: 6 * all as u64,
        }
    };
    sizes.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cases::{bits, on_cpu};
    use super::*;

    fn step(device: &dyn Device, momentum: f64, step: u32, words: usize, v: &[View<'_>]) -> Result<()> {
        let rule = Sgd { momentum, weight_decay: 0.25 };
        let b = Buffers { rates: v[0], grads: v[1], weights: v[2], velocity: v[3] };
        sgd(device, rule, step, Rows { slots: v[0].words, words }, &b)
    }

    /// Of two clients, the second at twice the rate.
    fn run(momentum: f64, steps: u32) -> (Vec<f32>, Vec<f32>) {
        let buffers = [bits(&[0.25, 0.5]), bits(&[0.5; 8]), bits(&[2.0; 8]), bits(&[64.0; 8])];
        let after = on_cpu(&buffers, |device, v| (1..=steps).try_for_each(|t| step(device, momentum, t, 4, v)));
        let after = after.unwrap();
        (f32s(&after[2]).to_vec(), f32s(&after[3]).to_vec())
    }

    fn both(first: f32, second: f32) -> Vec<f32> {
        [[first; 4], [second; 4]].concat()
    }

    #[test]
    fn steps_by_hand() {
        // Step 1: g = 0.5 + 0.25 * 2 = 1, v = 1 whatever was there, w = 1.75 or 1.5.
        assert_eq!(run(0.5, 1), (both(1.75, 1.5), both(1.0, 1.0)));
        // Step 2: g = 0.9375, v = 1.4375, w = 1.75 - 0.359375; or g = 0.875, v = 1.375, w = 1.5 - 0.6875.
        assert_eq!(run(0.5, 2), (both(1.390_625, 0.8125), both(1.4375, 1.375)));
        // Without momentum: w = 1.75 - 0.25 * 0.9375, or 1.5 - 0.5 * 0.875.
        assert_eq!(run(0.0, 2), (both(1.515_625, 1.0625), both(64.0, 64.0)));
    }

    #[test]
    fn only_momentum_needs_a_velocity_for_every_weight() {
        let buffers = [bits(&[0.25]), bits(&[0.5; 8]), bits(&[2.0; 8]), bits(&[64.0; 4])];
        let run = |momentum| on_cpu(&buffers, |device, v| step(device, momentum, 1, 8, v));
        let after = run(0.0).unwrap();
        assert_eq!((f32s(&after[2]), f32s(&after[3])), (&[1.75; 8][..], &[64.0; 4][..]));
        assert!(run(0.5).unwrap_err().to_string().contains("velocity"));
    }
}
