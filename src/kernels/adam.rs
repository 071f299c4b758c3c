//! Adam, one step for every training client (`shaders/adam.wgsl`).

use rayon::prelude::*;

use super::shape::{Rows, STEP_BLOCK, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "adam",
    source: || include_str!("../../shaders/adam.wgsl").into(),
    variants: &[],
    bindings: &[
        Binding::read("step_sizes"),
        Binding::read("grads"),
        Binding::write("weights", Compare::Close(1e-6)),
        Binding::write("first", Compare::Close(1e-6)),
        Binding::write("second", Compare::Close(1e-6)),
    ],
    params_words: 8,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large,
};

/// Hyper-parameters but for the learning rate; PyTorch's names and defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

impl Adam {
    /// The size of a step at learning rate `lr`, lr / (1 - beta1^t); `step` counts from 1.
    pub fn step_size(&self, lr: f64, step: u32) -> f32 {
        (lr / (1.0 - self.beta1.powf(f64::from(step)))) as f32
    }
}

/// What of a step is the same for all clients.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Rule {
    bias2: f32,
    eps: f32,
    pub one_minus_beta1: f32,
    beta2: f32,
    pub one_minus_beta2: f32,
    weight_decay: f32,
}

impl Rule {
    pub fn new(adam: Adam, step: u32) -> Self {
        Self {
            bias2: (1.0 - adam.beta2.powf(f64::from(step))).sqrt() as f32,
            eps: adam.eps as f32,
            one_minus_beta1: (1.0 - adam.beta1) as f32,
            beta2: adam.beta2 as f32,
            one_minus_beta2: (1.0 - adam.beta2) as f32,
            weight_decay: adam.weight_decay as f32,
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    quads: u32,
    sizes_at: u32,
    rule: Rule,
}

/// The buffers of [`adam`].
#[derive(Clone, Copy, Debug)]
pub struct Buffers<'a> {
    /// `[..][K]`: step sizes, those of this step from a given word on.
    pub step_sizes: View<'a>,
    /// `[K][P]`.
    pub grads: View<'a>,
    /// Updated, `[K][P]`.
    pub weights: View<'a>,
    /// Updated, `[K][P]`: first moments.
    pub first: View<'a>,
    /// Updated, `[K][P]`: second moments.
    pub second: View<'a>,
}

/// Steps `rows` of P parameters, a multiple of 4; `step` counts from 1. Client k's step is as long as word
/// `sizes_at + k` of the step sizes says, which are [`Adam::step_size`].
///
/// # Errors
/// [`crate::Error::Kernel`] when P is not a multiple of 4 or a buffer is too small.
pub fn adam(device: &dyn Device, adam: Adam, step: u32, rows: Rows, sizes_at: usize, b: &Buffers<'_>) -> Result<()> {
    let (name, Rows { slots: clients, words }) = (KERNEL.name, rows);
    rows.expect_quads(name)?;
    expect(name, "step_sizes", b.step_sizes, sizes_at + clients)?;
    for (what, view) in [("grads", b.grads), ("weights", b.weights), ("first", b.first), ("second", b.second)] {
        expect(name, what, view, clients * words)?;
    }
    let p = Params { quads: (words / 4) as u32, sizes_at: sizes_at as u32, rule: Rule::new(adam, step) };
    let views = [b.step_sizes, b.grads, b.weights, b.first, b.second];
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &views, rows.quad_groups())
}

fn twin(call: Call<'_>) {
    let p: Params = call.params();
    let (words, clients) = (4 * p.quads as usize, call.groups[2] as usize);
    let ([step_sizes, grads], [weights, first, second]) = call.buffers();
    let all = clients * words;
    let rows = f32s_mut(&mut weights[..all])
        .par_chunks_mut(words)
        .zip(f32s_mut(&mut first[..all]).par_chunks_mut(words))
        .zip(f32s_mut(&mut second[..all]).par_chunks_mut(words))
        .zip(f32s(&grads[..all]).par_chunks(words))
        .zip(&f32s(step_sizes)[p.sizes_at as usize..][..clients]);
    rows.for_each(|((((w, m), v), g), size)| {
        let blocks = w
            .par_chunks_mut(STEP_BLOCK)
            .zip(m.par_chunks_mut(STEP_BLOCK))
            .zip(v.par_chunks_mut(STEP_BLOCK))
            .zip(g.par_chunks(STEP_BLOCK));
        blocks.for_each(|(((w, m), v), g)| block(p.rule, *size, w, m, v, g));
    });
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn block(
    p: Rule,
    step_size: f32,
    weights: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    grads: &[f32],
) {
    for (((w, m), v), g) in weights.iter_mut().zip(first).zip(second).zip(grads) {
        let g = g + p.weight_decay * *w;
        *m += p.one_minus_beta1 * (g - *m);
        *v = p.beta2 * *v + p.one_minus_beta2 * g * g;
        *w -= step_size * (*m / (v.sqrt() / p.bias2 + p.eps));
    }
}

fn cases() -> Vec<Case> {
    let sizes = [
        ("one vec4", 4, 1, 1, 0.0),
        ("odd", 4 * 1001, 3, 7, 0.0),
        ("weight decay", 4 * 101, 2, 7, 1e-2),
        ("five clients of simple-cnn", 104_204, 5, 120, 0.0),
    ];
    sizes.into_iter().map(case).collect()
}

fn large() -> Vec<Case> {
    vec![case(("64 clients of simple-cnn", 104_204, 64, 120, 0.0))]
}

fn case((name, words, clients, step, weight_decay): (&'static str, usize, usize, u32, f64)) -> Case {
    let all = clients * words;
    let series = |scale: f32, salt: f32| (0..all).map(|i| (scale * (i as f32 * 0.37 + salt).sin()).to_bits()).collect();
    let squares = (0..all).map(|i| (1e-4 * (i as f32 * 0.11).sin().powi(2)).to_bits()).collect();
    let adam = Adam { weight_decay, ..Adam::default() };
    // Of the step before as well, which had another size.
    let sizes = (0..2 * clients).map(|k| adam.step_size(1e-3 * (1 + k) as f64, step).to_bits()).collect();
    let p = Params { quads: (words / 4) as u32, sizes_at: clients as u32, rule: Rule::new(adam, step) };
    Case {
        name,
        params: bytemuck::cast_slice(&[p]).to_vec(),
        buffers: vec![sizes, series(0.1, 0.0), series(1.0, 1.0), series(0.01, 2.0), squares],
        groups: Rows { slots: clients, words }.quad_groups(),
        flops: 14 * all as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::{bits, on_cpu};
    use super::*;

    /// In the first step the moments cancel, whatever the gradient's size.
    #[test]
    fn the_first_step_moves_every_weight_by_its_clients_learning_rate() {
        let sizes = [1e-3, 0.5].map(|lr| Adam::default().step_size(lr, 1));
        // A step size that is another step's.
        let sizes = [&[9.0][..], &sizes].concat();
        let buffers = [bits(&sizes), bits(&[0.5, -0.25, 3.0, 0.0].repeat(2)), bits(&[1.0; 8]), vec![0; 8], vec![0; 8]];
        let step = |words| {
            on_cpu(&buffers, |device, v| {
                let b = Buffers { step_sizes: v[0], grads: v[1], weights: v[2], first: v[3], second: v[4] };
                adam(device, Adam::default(), 1, Rows { slots: 2, words }, 1, &b)
            })
        };
        let after = step(4).unwrap();
        let want = [1e-3, 0.5].map(|lr| [1.0 - lr, 1.0 + lr, 1.0 - lr, 1.0]);
        for (got, want) in f32s(&after[2]).iter().zip(want.as_flattened()) {
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
        assert!(step(2).is_err() && step(8).is_err());
    }
}
