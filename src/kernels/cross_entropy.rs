//! Softmax cross-entropy with its gradient and statistics (`shaders/cross_entropy.wgsl`).

use rayon::prelude::*;

use super::cases::{LEFT, below, noise};
use super::gather::NO_TARGET;
use super::shape::{Batch, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, Leeway, View, f32s, f32s_mut};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "cross_entropy",
    source: || include_str!("../../shaders/cross_entropy.wgsl").into(),
    variants: &[],
    bindings: &[
        Binding::read("logits"),
        Binding::read("targets"),
        Binding::read("counts"),
        // WGSL allows exp 3 + 2 |x| units in the last place and a division 2.5.
        Binding::write("grad", Compare::Close(2e-6)).with(Leeway::Terms(shares)),
        // WGSL allows log an absolute error of 2^-21 an image, and the numbers are near 1 where the losses are small.
        Binding::write("stats", Compare::Fields(&[Compare::Close(1e-5), Compare::Exact]))
            .with(Leeway::Terms(|_, _| 1.0)),
    ],
    params_words: 4,
    workgroup: [LANES as u32, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// Lanes whose partial sums are added as one tree.
pub(super) const LANES: usize = 64;

/// The buffers of [`cross_entropy`].
#[derive(Clone, Copy, Debug)]
pub struct Buffers<'a> {
    /// `[K][classes][B]`.
    pub logits: View<'a>,
    /// `[K][B]`: classes; what stands beyond the count is not looked at.
    pub targets: View<'a>,
    /// Images of every slot, from the batch's `counts_at`.
    pub counts: View<'a>,
    /// Written: `[K][classes][B]`, the gradient of the batch's mean loss; 0 beyond the count.
    pub grad: View<'a>,
    /// Written from `stats_at`: for every slot the sum of its images' losses (f32) and how many had their class as the
    /// first greatest logit (u32).
    pub stats: View<'a>,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    stride: u32,
    classes: u32,
    counts_at: u32,
    stats_at: u32,
}

fn params(batch: Batch, classes: usize, stats_at: usize) -> Params {
    Params {
        stride: batch.stride as u32,
        classes: classes as u32,
        counts_at: batch.counts_at as u32,
        stats_at: stats_at as u32,
    }
}

/// The largest share that an image has in a slot's mean: a gradient is what two of them leave of each other, and where every
/// image is recognised, little.
fn shares(params: &[u32], held: &[Vec<u32>]) -> f32 {
    let p: Params = bytemuck::pod_read_unaligned(bytemuck::cast_slice(params));
    let slots = held[3].len() / (p.classes * p.stride) as usize;
    let counts = held[2].iter().skip(p.counts_at as usize).take(slots).filter(|count| **count > 0);
    1.0 / *counts.min().unwrap_or(&1) as f32
}

/// Writes the gradient of the mean cross-entropy of every slot, and the statistics from word `stats_at` on.
///
/// A NaN among an image's logits makes its loss and gradients NaN.
///
/// # Errors
/// [`Error::Kernel`] when a buffer is too small, there are no classes, or `stats_at` is odd.
pub fn cross_entropy(
    device: &dyn Device,
    batch: Batch,
    classes: usize,
    stats_at: usize,
    b: &Buffers<'_>,
) -> Result<()> {
    let name = KERNEL.name;
    if classes == 0 || !stats_at.is_multiple_of(2) {
        return Err(Error::Kernel { kernel: name, problem: format!("{classes} classes, statistics at {stats_at}") });
    }
    let (images, slots) = (batch.slots * batch.stride, batch.slots);
    expect(name, "logits", b.logits, classes * images)?;
    expect(name, "targets", b.targets, images)?;
    expect(name, "counts", b.counts, batch.counts_at + slots)?;
    expect(name, "grad", b.grad, classes * images)?;
    expect(name, "stats", b.stats, stats_at + 2 * slots)?;
    let p = params(batch, classes, stats_at);
    let buffers = [b.logits, b.targets, b.counts, b.grad, b.stats];
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &buffers, [slots as u32, 1, 1])
}

/// What the logits of one image come to.
pub(super) struct Score {
    /// The greatest logit.
    pub best: f32,
    /// The first class that has it.
    pub guess: u32,
    /// Sum of exp(logit - best).
    pub total: f32,
    /// Cross-entropy.
    pub loss: f32,
}

/// Scores image `b` of a slot's `[classes][B]` logits.
pub(super) fn score(logits: &[f32], stride: usize, b: usize, label: u32) -> Score {
    let own = || logits[b..].iter().step_by(stride);
    let (mut best, mut guess) = (logits[b], 0);
    for (c, &x) in (0..).zip(own()) {
        if x > best {
            (best, guess) = (x, c);
        }
    }
    let total: f32 = own().map(|x| (x - best).exp()).sum();
    let target = own().nth(label as usize).map_or(0.0, |x| x - best);
    Score { best, guess, total, loss: total.ln() - target }
}

/// Adds the lanes, a power of two, as the shaders do.
pub(super) fn tree<const N: usize>(mut lanes: [f32; N]) -> f32 {
    let mut half = N / 2;
    while half > 0 {
        let (low, high) = lanes.split_at_mut(half);
        low.iter_mut().zip(high).for_each(|(a, b)| *a += *b);
        half /= 2;
    }
    lanes[0]
}

fn twin(call: Call<'_>) {
    let (p, slots): (Params, _) = (call.params(), call.groups[0] as usize);
    let ([logits, targets, counts], [grad, stats]) = call.buffers();
    let stride = p.stride as usize;
    let row = p.classes as usize * stride;
    f32s_mut(&mut grad[..slots * row])
        .par_chunks_mut(row)
        .zip(stats[p.stats_at as usize..][..2 * slots].par_chunks_mut(2))
        .zip(f32s(logits).par_chunks(row))
        .zip(targets.par_chunks(stride))
        .zip(&counts[p.counts_at as usize..][..slots])
        .for_each(|((((grad, stats), logits), targets), count)| {
            let targets = &targets[..stride.min(*count as usize)];
            let (loss, right) = slot(stride, logits, targets, grad);
            stats.copy_from_slice(&[loss.to_bits(), right]);
        });
}

/// One slot's gradients, the sum of its losses, and how many images it has right.
fn slot(stride: usize, logits: &[f32], targets: &[u32], grad: &mut [f32]) -> (f32, u32) {
    let (mut lanes, mut right) = ([0.0; LANES], 0);
    for (b, &label) in targets.iter().enumerate() {
        let s = score(logits, stride, b, label);
        lanes[b % LANES] += s.loss;
        right += u32::from(s.guess == label);
        let columns = grad[b..].iter_mut().step_by(stride).zip(logits[b..].iter().step_by(stride));
        for (c, (g, x)) in (0..).zip(columns) {
            let onehot = if c == label { 1.0 } else { 0.0 };
            *g = ((x - s.best).exp() / s.total - onehot) / targets.len() as f32;
        }
    }
    grad.chunks_mut(stride).for_each(|row| row[targets.len()..].fill(0.0));
    (tree(lanes), right)
}

/// As many logits of a case.
pub(super) type Logits = fn(usize) -> Vec<u32>;

/// Targets of a case, half of which are the first greatest logit; none beyond the counts.
pub(super) fn targets(logits: &[u32], classes: usize, stride: usize, counts: &[u32]) -> Vec<u32> {
    let mut targets = below(counts.len() * stride, classes as u32, 2);
    for ((row, logits), count) in targets.chunks_mut(stride).zip(f32s(logits).chunks(classes * stride)).zip(counts) {
        let guessed = row.iter_mut().enumerate().step_by(2);
        guessed.for_each(|(b, target)| *target = score(logits, stride, b, 0).guess);
        row[*count as usize..].fill(NO_TARGET);
    }
    targets
}

/// Logits of three values, so that many tie.
pub(super) fn tied(words: usize) -> Vec<u32> {
    below(words, 3, 5).iter().map(|v| (*v as f32).to_bits()).collect()
}

fn cases() -> Vec<Case> {
    let even: Logits = |words| noise(words, 20.0, 1);
    let sizes = [
        ("one class", 1, 4, vec![3], even),
        ("seven classes, a short slot, an empty one", 7, 72, vec![71, 3, 0], even),
        ("three classes, full slots, ties", 3, 72, vec![72, 72], tied),
        ("a batch of 256", 10, 256, vec![256, 200], even),
        ("1024 classes", 1024, 36, vec![33], even),
    ];
    let case = |(name, classes, stride, counts, logits): (_, usize, usize, Vec<u32>, Logits)| {
        let slots = counts.len();
        let batch = Batch { slots, stride, counts_at: 1 };
        let logits = logits(slots * classes * stride);
        let targets = targets(&logits, classes, stride, &counts);
        Case {
            name,
            params: bytemuck::cast_slice(&[params(batch, classes, 4)]).to_vec(),
            buffers: vec![
                logits,
                targets,
                [vec![9], counts].concat(),
                vec![LEFT; slots * classes * stride],
                vec![LEFT; 4 + 2 * slots],
            ],
            groups: [slots as u32, 1, 1],
            flops: 8 * (slots * classes * stride) as u64,
        }
    };
    sizes.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cases::{bits, on_cpu};
    use super::*;

    /// Sum of the losses in float64, from the definition.
    fn loss64(logits: &[f64], stride: usize, targets: &[u32]) -> f64 {
        let image = |(b, label): (usize, &u32)| {
            let own: Vec<f64> = logits[b..].iter().step_by(stride).copied().collect();
            own.iter().map(|x| x.exp()).sum::<f64>().ln() - own[*label as usize]
        };
        targets.iter().enumerate().map(image).sum()
    }

    fn run(logits: &[f32], targets: &[u32], count: u32) -> (Vec<f32>, f32, u32) {
        let (stride, classes) = (targets.len(), logits.len() / targets.len());
        let buffers = [bits(logits), targets.to_vec(), vec![count], vec![7; logits.len()], vec![0; 2]];
        let after = on_cpu(&buffers, |device, v| {
            let buffers = Buffers { logits: v[0], targets: v[1], counts: v[2], grad: v[3], stats: v[4] };
            cross_entropy(device, Batch { slots: 1, stride, counts_at: 0 }, classes, 0, &buffers)
        })
        .unwrap();
        (f32s(&after[3]).to_vec(), f32::from_bits(after[4][0]), after[4][1])
    }

    #[test]
    fn two_classes_by_hand() {
        // Image 0: logits 0 and 0, so loss ln 2 and shares one half; image 1: ln 3 and 0, shares 3/4 and 1/4.
        let logits = [0.0, 3f32.ln(), 9.0, 9.0, 0.0, 0.0, 9.0, 9.0];
        let (grad, loss, right) = run(&logits, &[0, 1, NO_TARGET, NO_TARGET], 2);
        let want = [-0.25, 0.375, 0.0, 0.0, 0.25, -0.375, 0.0, 0.0];
        assert!(grad.iter().zip(want).all(|(g, w): (&f32, f32)| (g - w).abs() <= 1e-7), "{grad:?}");
        // 2^-24 relative for each of a few operations on numbers near 2.
        assert!((loss - 8f32.ln()).abs() <= 5e-7, "{loss}");
        assert_eq!(right, 1, "the tie of image 0 goes to the first class");
    }

    #[test]
    fn gradients_are_finite_differences_of_the_mean_loss() {
        let (classes, stride, count) = (5, 8, 6);
        let logits = f32s(&noise(classes * stride, 3.0, 5)).to_vec();
        let targets = below(stride, classes as u32, 6);
        let (grad, loss, _) = run(&logits, &targets, count);
        let wide: Vec<f64> = logits.iter().map(|x| f64::from(*x)).collect();
        let mean = |logits: &[f64]| loss64(logits, stride, &targets[..count as usize]) / f64::from(count);
        assert!((f64::from(loss) / f64::from(count) - mean(&wide)).abs() <= 1e-6);
        for (i, got) in grad.iter().enumerate() {
            let shifted = |by: f64| {
                mean(&wide.iter().enumerate().map(|(j, x)| x + if i == j { by } else { 0.0 }).collect::<Vec<_>>())
            };
            // A central difference of step 1e-4 errs by about 1e-8 / 6; float32 by a few 2^-24.
            let want = (shifted(1e-4) - shifted(-1e-4)) / 2e-4;
            assert!((f64::from(*got) - want).abs() <= 1e-6, "{i}: {got} {want}");
        }
    }

    #[test]
    fn large_logits_stay_finite_and_nan_and_infinity_show() {
        let (grad, loss, right) = run(&[1e30, 0.0, 0.0, 0.0, -1e30, 0.0, 0.0, 0.0], &[0; 4], 1);
        assert_eq!((grad[0], loss, right), (0.0, 0.0, 1));
        for bad in [f32::NAN, f32::INFINITY] {
            for place in [0, 4, 8] {
                let mut logits = [1.0f32; 12];
                logits[place] = bad;
                let (grad, loss, _) = run(&logits, &[1; 4], 1);
                assert!(loss.is_nan() && grad[place].is_nan(), "{bad} at {place}: {loss}");
            }
        }
    }

    #[test]
    fn padding_and_slots_change_no_bit() {
        let (logits, targets) = (noise(3 * 40, 4.0, 1), below(40, 3, 2));
        let spread = |stride: usize| -> (Vec<f32>, Vec<u32>) {
            let mut wide = vec![5.0; 3 * stride];
            for (to, from) in wide.chunks_mut(stride).zip(f32s(&logits).chunks(40)) {
                to[..37].copy_from_slice(&from[..37]);
            }
            (wide, [&targets[..37], &vec![NO_TARGET; stride - 37]].concat())
        };
        let (a, b) = (spread(40), spread(200));
        let ((_, a_loss, a_right), (_, b_loss, b_right)) = (run(&a.0, &a.1, 37), run(&b.0, &b.1, 37));
        assert_eq!((a_loss.to_bits(), a_right), (b_loss.to_bits(), b_right));
    }
}
