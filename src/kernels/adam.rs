//! Adam, one step for every training client (`shaders/adam.wgsl`).

use rayon::prelude::*;

use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut, grid};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "adam",
    source: || include_str!("../../shaders/adam.wgsl").into(),
    variants: &[],
    bindings: &[
        Binding::read("grads"),
        Binding::write("weights", Compare::Close(1e-6)),
        Binding::write("first", Compare::Close(1e-6)),
        Binding::write("second", Compare::Close(1e-6)),
    ],
    params_words: 8,
    workgroup: [64, 1, 1],
    twin,
    cases,
};

/// Hyper-parameters; PyTorch's names and defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
}

impl Adam {
    /// PyTorch's defaults at learning rate `lr`.
    pub fn new(lr: f64) -> Self {
        Self { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Params {
    quads: u32,
    step_size: f32,
    bias2: f32,
    eps: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    weight_decay: f32,
}

pub(super) fn params(adam: Adam, step: u32, words: usize) -> Params {
    let t = f64::from(step);
    Params {
        quads: (words / 4) as u32,
        step_size: (adam.lr / (1.0 - adam.beta1.powf(t))) as f32,
        bias2: (1.0 - adam.beta2.powf(t)).sqrt() as f32,
        eps: adam.eps as f32,
        one_minus_beta1: (1.0 - adam.beta1) as f32,
        beta2: adam.beta2 as f32,
        one_minus_beta2: (1.0 - adam.beta2) as f32,
        weight_decay: adam.weight_decay as f32,
    }
}

fn groups(words: usize) -> [u32; 3] {
    grid::folded((words / 4).div_ceil(64), 1)
}

/// Updates `weights`, `first` and `second` (all `[K][P]`, P a multiple of 4) by `grads`; `step` counts from 1.
///
/// # Errors
/// [`Error::Kernel`] when the four views differ in length or it is not a multiple of 4.
pub fn adam<'a>(
    device: &dyn Device,
    adam: Adam,
    step: u32,
    grads: View<'a>,
    weights: View<'a>,
    first: View<'a>,
    second: View<'a>,
) -> Result<()> {
    let words = weights.words;
    if !words.is_multiple_of(4) || [grads, first, second].iter().any(|v| v.words != words) {
        let problem = format!("{words} weights, {}, {}, {}", grads.words, first.words, second.words);
        return Err(Error::Kernel { kernel: KERNEL.name, problem });
    }
    let p = params(adam, step, words);
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &[grads, weights, first, second], groups(words))
}

/// Weights of one unit of CPU work.
const BLOCK: usize = 1 << 14;

fn twin(call: Call<'_>) {
    let p: Params = call.params();
    let ([grads], [weights, first, second]) = call.buffers();
    let blocks = f32s_mut(weights)
        .par_chunks_mut(BLOCK)
        .zip(f32s_mut(first).par_chunks_mut(BLOCK))
        .zip(f32s_mut(second).par_chunks_mut(BLOCK))
        .zip(f32s(grads).par_chunks(BLOCK));
    blocks.for_each(|(((w, m), v), g)| block(p, w, m, v, g));
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn block(p: Params, weights: &mut [f32], first: &mut [f32], second: &mut [f32], grads: &[f32]) {
    for (((w, m), v), g) in weights.iter_mut().zip(first).zip(second).zip(grads) {
        let g = g + p.weight_decay * *w;
        *m += p.one_minus_beta1 * (g - *m);
        *v = p.beta2 * *v + p.one_minus_beta2 * g * g;
        *w -= p.step_size * (*m / (v.sqrt() / p.bias2 + p.eps));
    }
}

fn cases() -> Vec<Case> {
    [("one vec4", 4, 1), ("odd", 4 * 1001, 7), ("five clients of simple-cnn", 5 * 104_204, 120)]
        .into_iter()
        .map(|(name, words, step)| {
            let series = |scale: f32, salt: f32| {
                (0..words).map(|i| (scale * (i as f32 * 0.37 + salt).sin()).to_bits()).collect()
            };
            let squares = (0..words).map(|i| (1e-4 * (i as f32 * 0.11).sin().powi(2)).to_bits()).collect();
            Case {
                name,
                params: bytemuck::cast_slice(&[params(Adam::new(1e-3), step, words)]).to_vec(),
                buffers: vec![series(0.1, 0.0), series(1.0, 1.0), series(0.01, 2.0), squares],
                groups: groups(words),
                flops: 14 * words as u64,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_moves_every_weight_by_the_learning_rate() {
        let p = params(Adam::new(1e-3), 1, 4);
        let (mut w, mut m, mut v) = ([1.0f32, 1.0, 1.0, 1.0], [0.0; 4], [0.0; 4]);
        block(p, &mut w, &mut m, &mut v, &[0.5, -0.25, 3.0, 0.0]);
        for (got, want) in w.iter().zip([1.0 - 1e-3, 1.0 + 1e-3, 1.0 - 1e-3, 1.0]) {
            assert!((got - want).abs() < 1e-7, "{got} {want}");
        }
    }
}
