//! Stochastic gradient descent, one step for every training client (`shaders/sgd.wgsl`).

use rayon::prelude::*;

use super::cases::noise;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut, grid};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "sgd",
    source: || include_str!("../../shaders/sgd.wgsl").into(),
    variants: &[],
    bindings: &[
        Binding::read("grads"),
        Binding::write("weights", Compare::Close(1e-6)),
        Binding::write("velocity", Compare::Close(1e-6)),
    ],
    params_words: 5,
    workgroup: [64, 1, 1],
    twin,
    cases,
};

/// Hyper-parameters; PyTorch's names, with neither dampening nor Nesterov's variant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f64,
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
    lr: f32,
    momentum: f32,
    weight_decay: f32,
}

fn params(sgd: Sgd, step: u32, words: usize) -> Params {
    Params {
        quads: (words / 4) as u32,
        first: u32::from(step == 1),
        lr: sgd.lr as f32,
        momentum: sgd.momentum as f32,
        weight_decay: sgd.weight_decay as f32,
    }
}

fn groups(words: usize) -> [u32; 3] {
    grid::folded((words / 4).div_ceil(64), 1)
}

/// Updates `weights` and `velocity` (both `[K][P]`, P a multiple of 4) by `grads`; `step` counts from 1. Without
/// momentum the velocity is bound but neither read nor written, and may have any length.
///
/// # Errors
/// [`Error::Kernel`] when the views differ in length or it is not a multiple of 4.
pub fn sgd<'a>(
    device: &dyn Device,
    sgd: Sgd,
    step: u32,
    grads: View<'a>,
    weights: View<'a>,
    velocity: View<'a>,
) -> Result<()> {
    let words = weights.words;
    let fits = velocity.words == words || sgd.momentum == 0.0;
    if !words.is_multiple_of(4) || grads.words != words || !fits {
        let problem = format!("{words} weights, {}, {}", grads.words, velocity.words);
        return Err(Error::Kernel { kernel: KERNEL.name, problem });
    }
    let p = params(sgd, step, words);
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &[grads, weights, velocity], groups(words))
}

/// Weights of one unit of CPU work.
const BLOCK: usize = 1 << 14;

fn twin(call: Call<'_>) {
    let p: Params = call.params();
    let ([grads], [weights, velocity]) = call.buffers();
    let blocks = f32s_mut(weights).par_chunks_mut(BLOCK).zip(f32s(grads).par_chunks(BLOCK));
    match p.momentum {
        0.0 => blocks.for_each(|(w, g)| plain(p, w, g)),
        _ => blocks.zip(f32s_mut(velocity).par_chunks_mut(BLOCK)).for_each(|((w, g), v)| heavy_ball(p, w, v, g)),
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn plain(p: Params, weights: &mut [f32], grads: &[f32]) {
    for (w, g) in weights.iter_mut().zip(grads) {
        *w -= p.lr * (g + p.weight_decay * *w);
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn heavy_ball(p: Params, weights: &mut [f32], velocity: &mut [f32], grads: &[f32]) {
    for ((w, v), g) in weights.iter_mut().zip(velocity).zip(grads) {
        let g = g + p.weight_decay * *w;
        *v = if p.first == 1 { g } else { p.momentum * *v + g };
        *w -= p.lr * *v;
    }
}

fn cases() -> Vec<Case> {
    let sizes = [
        ("one vec4, the first step", 4, 1, 0.9),
        ("odd, no momentum", 4 * 1001, 2, 0.0),
        ("five clients of simple-cnn", 5 * 104_204, 7, 0.9),
    ];
    let case = |(name, words, step, momentum)| Case {
        name,
        params: bytemuck::cast_slice(&[params(Sgd { lr: 0.05, momentum, weight_decay: 1e-3 }, step, words)]).to_vec(),
        buffers: vec![noise(words, 0.5, 1), noise(words, 1.0, 2), noise(words, 0.5, 3)],
        groups: groups(words),
        flops: 6 * words as u64,
    };
    sizes.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cases::{bits, on_cpu};
    use super::*;

    fn run(momentum: f64, steps: u32) -> (Vec<f32>, Vec<f32>) {
        let buffers = [bits(&[0.5; 4]), bits(&[2.0; 4]), bits(&[64.0; 4])];
        let after = on_cpu(&buffers, |device, v| {
            let rule = Sgd { lr: 0.25, momentum, weight_decay: 0.25 };
            (1..=steps).try_for_each(|step| sgd(device, rule, step, v[0], v[1], v[2]))
        })
        .unwrap();
        (f32s(&after[1]).to_vec(), f32s(&after[2]).to_vec())
    }

    #[test]
    fn steps_by_hand() {
        // Step 1: g = 0.5 + 0.25 * 2 = 1, v = 1 whatever was there, w = 1.75.
        assert_eq!(run(0.5, 1), (vec![1.75; 4], vec![1.0; 4]));
        // Step 2: g = 0.9375, v = 1.4375, w = 1.75 - 0.359375.
        assert_eq!(run(0.5, 2), (vec![1.390_625; 4], vec![1.4375; 4]));
        // Without momentum: w = 1.75 - 0.25 * 0.9375.
        assert_eq!(run(0.0, 2), (vec![1.515_625; 4], vec![64.0; 4]));
    }

    #[test]
    fn only_momentum_needs_a_velocity_for_every_weight() {
        let buffers = [bits(&[0.5; 8]), bits(&[2.0; 8]), bits(&[64.0; 4])];
        let step = |momentum| {
            on_cpu(&buffers, |device, v| {
                sgd(device, Sgd { lr: 0.25, momentum, weight_decay: 0.0 }, 1, v[0], v[1], v[2])
            })
        };
        let after = step(0.0).unwrap();
        assert_eq!((f32s(&after[1]), f32s(&after[2])), (&[1.875; 8][..], &[64.0; 4][..]));
        assert!(step(0.5).unwrap_err().to_string().contains("8 weights, 8, 4"));
    }
}
