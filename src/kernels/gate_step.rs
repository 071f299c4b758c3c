//! One Adam step on the gates of every slot (`shaders/gate_step.wgsl`).

use rayon::prelude::*;

use super::adam::{self, Adam};
use super::cases::{LEFT, below, bits, noise};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, Leeway, View, f32s, f32s_mut, grid};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "gate_step",
    source: || include_str!("../../shaders/gate_step.wgsl").into(),
    variants: &[],
    bindings: &[
        Binding::read("gate_grads"),
        Binding::read("reaching"),
        Binding::write("logits", Compare::Close(1e-6)),
        Binding::write("first", Compare::Close(1e-6)).with(Leeway::Terms(first_terms)),
        Binding::write("second", Compare::Close(1e-6)).with(Leeway::Terms(second_terms)),
        Binding::write("hard", Compare::Exact).with(Leeway::Choice { by: "logits", scores: hard }),
        Binding::write("shown", Compare::Exact).with(Leeway::Choice { by: "logits", scores: shown }),
    ],
    params_words: 9,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    words: u32,
    l0: f32,
    step_size: f32,
    rule: adam::Rule,
}

fn params(lr: f64, step: u32, l0: f64, words: usize) -> Params {
    let adam = Adam::default();
    let (step_size, rule) = (adam.step_size(lr, step), adam::Rule::new(adam, step));
    Params { words: words as u32, l0: l0 as f32, step_size, rule }
}

/// The largest gradient in front of the sigmoid, whose slope is off by rounding of 1 however flat it is.
fn steepest(held: &[Vec<u32>], l0: f32) -> f32 {
    f32s(&held[0]).iter().map(|dm| (dm + l0).abs()).filter(|g| g.is_finite()).fold(0.0, f32::max)
}

fn first_terms(params: &[u32], held: &[Vec<u32>]) -> f32 {
    let p: Params = bytemuck::pod_read_unaligned(bytemuck::cast_slice(params));
    p.rule.one_minus_beta1 * steepest(held, p.l0)
}

fn second_terms(params: &[u32], held: &[Vec<u32>]) -> f32 {
    let p: Params = bytemuck::pod_read_unaligned(bytemuck::cast_slice(params));
    p.rule.one_minus_beta2 * steepest(held, p.l0).powi(2)
}

/// A gate is open where its new logit exceeds 0, which rounding decides for those that cross it.
fn hard(_: &[u32], held: &[Vec<u32>], at: usize) -> Vec<(u32, f64)> {
    vec![(1.0f32.to_bits(), f64::from(f32::from_bits(held[2][at]))), (0.0f32.to_bits(), 0.0)]
}

/// The same, but what reaches nothing is shown as closed in any case.
fn shown(params: &[u32], held: &[Vec<u32>], at: usize) -> Vec<(u32, f64)> {
    if f32::from_bits(held[1][at]) == 0.0 { Vec::new() } else { hard(params, held, at) }
}

fn groups(words: usize) -> [u32; 3] {
    grid::folded(words.div_ceil(64), 1)
}

/// The buffers of [`gate_step`], each `[K][G]`.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<'a> {
    /// dL/dm, from [`super::gate_grad`].
    pub gate_grads: View<'a>,
    /// 0 where a channel reaches nothing ([`super::reach`]), else 1.
    pub reaching: View<'a>,
    /// Updated: the gates' logits.
    pub logits: View<'a>,
    /// Updated: first moments.
    pub first: View<'a>,
    /// Updated: second moments.
    pub second: View<'a>,
    /// Written: 1 where the new logit is positive, else 0.
    pub hard: View<'a>,
    /// Written: 1 where the new logit is positive and the channel reaches anything, else 0.
    pub shown: View<'a>,
}

/// Steps the gates of all slots along dL/dm + `l0` through the sigmoid, by Adam at learning rate `lr`; `step` counts from 1.
///
/// # Errors
/// [`Error::Kernel`] when the views differ in length.
pub fn gate_step(device: &dyn Device, lr: f64, step: u32, l0: f64, b: &Buffers<'_>) -> Result<()> {
    let words = b.logits.words;
    let buffers = [b.gate_grads, b.reaching, b.logits, b.first, b.second, b.hard, b.shown];
    if buffers.iter().any(|v| v.words != words) {
        let problem = format!("words of the buffers: {:?}", buffers.map(|v| v.words));
        return Err(Error::Kernel { kernel: KERNEL.name, problem });
    }
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[params(lr, step, l0, words)]), &buffers, groups(words))
}

/// Gates of one unit of CPU work.
const BLOCK: usize = 1 << 10;

fn twin(call: Call<'_>) {
    let p: Params = call.params();
    let ([gate_grads, reaching], [logits, first, second, hard, shown]) = call.buffers();
    f32s_mut(logits)
        .par_chunks_mut(BLOCK)
        .zip(f32s_mut(first).par_chunks_mut(BLOCK))
        .zip(f32s_mut(second).par_chunks_mut(BLOCK))
        .zip(f32s_mut(hard).par_chunks_mut(BLOCK))
        .zip(f32s_mut(shown).par_chunks_mut(BLOCK))
        .zip(f32s(gate_grads).par_chunks(BLOCK))
        .zip(f32s(reaching).par_chunks(BLOCK))
        .for_each(|((((((logits, first), second), hard), shown), gate_grads), reaching)| {
            let mut through = [0.0; BLOCK];
            for ((g, x), dm) in through.iter_mut().zip(&*logits).zip(gate_grads) {
                let s = 1.0 / (1.0 + (-x).exp());
                *g = (dm + p.l0) * (s * (1.0 - s));
            }
            adam::block(p.rule, p.step_size, logits, first, second, &through);
            hard.iter_mut().zip(logits).for_each(|(h, x)| *h = f32::from(u8::from(*x > 0.0)));
            shown.iter_mut().zip(hard).zip(reaching).for_each(|((s, h), r)| *s = if *r == 0.0 { 0.0 } else { *h });
        });
}

/// Where nothing has moved yet: gates without a gradient, of which those at 0 stay closed, and gradients no larger than eps.
fn first_step() -> Case {
    let gate_grads = bits(&[0.0, 0.0, 0.0, 0.0, 1e-7, -1e-7, 1e-7, -1e-8]);
    let logits = bits(&[0.0, -0.0, 2.0, -2.0, 2.0, -2.0, 0.5, 0.5]);
    let words = logits.len();
    Case {
        name: "the first step, no price, no gradient",
        params: bytemuck::cast_slice(&[params(0.1, 1, 0.0, words)]).to_vec(),
        buffers: vec![
            gate_grads,
            bits(&[1.0; 8]),
            logits,
            vec![0; words],
            vec![0; words],
            vec![LEFT; words],
            vec![LEFT; words],
        ],
        groups: groups(words),
        flops: 20 * words as u64,
    }
}

fn cases() -> Vec<Case> {
    [("one gate", 1, 1), ("odd", 1237, 9), ("fifty slots of simple-cnn", 50 * 224, 200)]
        .into_iter()
        .map(|(name, words, step)| {
            // Far enough from 0 that no step turns a gate, which rounding could then turn on one device alone; the
            // moments move a gate by less than 0.1.
            let away = |w: &u32| f32::from_bits(*w) + 0.5f32.copysign(f32::from_bits(*w));
            Case {
                name,
                params: bytemuck::cast_slice(&[params(0.1, step, 0.01, words)]).to_vec(),
                buffers: vec![
                    noise(words, 0.02, 1),
                    below(words, 3, 5).iter().map(|n| n.min(&1) * 1.0f32.to_bits()).collect(),
                    noise(words, 3.0, 2).iter().map(|w| away(w).to_bits()).collect(),
                    noise(words, 1e-3, 3),
                    noise(words, 1e-4, 4).iter().map(|w| (f32::from_bits(*w).abs() + 1e-5).to_bits()).collect(),
                    vec![LEFT; words],
                    vec![LEFT; words],
                ],
                groups: groups(words),
                flops: 20 * words as u64,
            }
        })
        .chain([first_step()])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::cases::on_cpu;
    use super::*;

    /// What [`gate_step`] leaves of the buffers after some steps, in which the first channel reaches nothing.
    fn run(dm: &[f32], logits: &[f32], steps: u32, l0: f64) -> Vec<Vec<u32>> {
        let zeros = vec![0; dm.len()];
        let reaching: Vec<f32> = (0..dm.len()).map(|i| if i == 0 { 0.0 } else { 1.0 }).collect();
        let written = [zeros.clone(), zeros.clone(), zeros.clone(), zeros];
        let buffers = [&[bits(dm), bits(&reaching), bits(logits)][..], &written].concat();
        on_cpu(&buffers, |device, v| {
            let [gate_grads, reaching, logits, first, second, hard, shown] = *v else { unreachable!("seven buffers") };
            let b = Buffers { gate_grads, reaching, logits, first, second, hard, shown };
            (1..=steps).try_for_each(|step| gate_step(device, 0.1, step, l0, &b))
        })
        .unwrap()
    }

    #[test]
    fn the_gradient_is_a_finite_difference_through_the_sigmoid() {
        let (dm, logits, l0) = ([0.3f32, -0.7, 0.05, -0.01, 2.0], [2.0f32, -1.0, 0.1, 4.0, -3.0], 0.01);
        let after = run(&dm, &logits, 1, l0);
        for i in 0..dm.len() {
            let loss = |x: f64| (f64::from(dm[i]) + l0) / (1.0 + (-x).exp());
            let x = f64::from(logits[i]);
            let want = (loss(x + 1e-5) - loss(x - 1e-5)) / 2e-5;
            // The first moment starts at 0, so after one step it is a tenth of the gradient.
            let got = f64::from(f32::from_bits(after[3][i])) / 0.1;
            // Float32 through a sigmoid: 2^-24 relative to numbers up to 1.
            assert!((got - want).abs() <= 5e-7, "{i}: {got} {want}");
        }
    }

    #[test]
    fn thirty_steps_are_those_of_float64_adam() {
        let (dm, l0) = ([0.0f32, -0.009, -0.02], 0.01);
        let after = run(&dm, &[2.0; 3], 30, l0);
        for (i, dm) in dm.iter().enumerate() {
            let (mut x, mut m, mut v) = (2.0f64, 0.0, 0.0);
            for t in 1..=30 {
                let s = 1.0 / (1.0 + (-x).exp());
                let g = (f64::from(*dm) + l0) * s * (1.0 - s);
                m = 0.9 * m + 0.1 * g;
                v = 0.999 * v + 0.001 * g * g;
                let (m, v) = (m / (1.0 - 0.9f64.powi(t)), v / (1.0 - 0.999f64.powi(t)));
                x -= 0.1 * m / (v.sqrt() + 1e-8);
            }
            let got = f32::from_bits(after[2][i]);
            // Thirty roundings of the position, and 1 - beta2 in float32 is off by a relative 1e-5 of each step's v.
            assert!((f64::from(got) - x).abs() <= 5e-5, "{i}: {got} {x}");
            assert_eq!(f32::from_bits(after[5][i]), if x > 0.0 { 1.0 } else { 0.0 });
        }
        assert_eq!(after[5], bits(&[0.0, 0.0, 1.0]), "a gate worth less than its price closes, the other stays");
    }

    #[test]
    fn an_open_channel_that_reaches_nothing_is_not_shown() {
        let after = run(&[0.0; 3], &[2.0, 2.0, -2.0], 1, 0.01);
        assert_eq!((&after[5], &after[6]), (&bits(&[1.0, 1.0, 0.0]), &bits(&[0.0, 1.0, 0.0])));
    }
}
