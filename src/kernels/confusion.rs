//! Evaluation: confusion matrix and summed losses, batch after batch (`shaders/confusion.wgsl`).

use rayon::prelude::*;

use super::cases::{below, noise};
use super::cross_entropy::{LANES, Logits, score, targets, tied, tree};
use super::shape::{Batch, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, Leeway, View, f32s, f32s_mut};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "confusion",
    source: || include_str!("../../shaders/confusion.wgsl").into(),
    variants: &[],
    bindings: &[
        Binding::read("logits"),
        Binding::read("targets"),
        Binding::read("counts"),
        Binding::write("counters", Compare::Exact),
        // WGSL allows log an absolute error of 2^-21 an image, and the numbers are near 1 where the losses are small.
        Binding::write("losses", Compare::Close(1e-5)).with(Leeway::Terms(|_, _| 1.0)),
    ],
    params_words: 3,
    workgroup: [LANES as u32, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// The buffers of [`confusion`].
#[derive(Clone, Copy, Debug)]
pub struct Buffers<'a> {
    /// `[K][classes][B]`.
    pub logits: View<'a>,
    /// `[K][B]`: classes; what stands beyond the count is not looked at.
    pub targets: View<'a>,
    /// Images of every slot, from the batch's `counts_at`.
    pub counts: View<'a>,
    /// Added to: `[K][classes][classes]` u32, the image's class by the first greatest logit.
    pub counters: View<'a>,
    /// Added to: `[K]` f32, the sum of the losses.
    pub losses: View<'a>,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    stride: u32,
    classes: u32,
    counts_at: u32,
}

fn params(batch: Batch, classes: usize) -> Params {
    Params { stride: batch.stride as u32, classes: classes as u32, counts_at: batch.counts_at as u32 }
}

/// Adds one batch to `counters` and `losses`, which the caller cleared before the first.
///
/// # Errors
/// [`Error::Kernel`] when a buffer is too small or there are no classes.
pub fn confusion(device: &dyn Device, batch: Batch, classes: usize, b: &Buffers<'_>) -> Result<()> {
    let name = KERNEL.name;
    if classes == 0 {
        return Err(Error::Kernel { kernel: name, problem: "no classes".into() });
    }
    let (images, slots) = (batch.slots * batch.stride, batch.slots);
    expect(name, "logits", b.logits, classes * images)?;
    expect(name, "targets", b.targets, images)?;
    expect(name, "counts", b.counts, batch.counts_at + slots)?;
    expect(name, "counters", b.counters, slots * classes * classes)?;
    expect(name, "losses", b.losses, slots)?;
    let buffers = [b.logits, b.targets, b.counts, b.counters, b.losses];
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[params(batch, classes)]), &buffers, [slots as u32, 1, 1])
}

fn twin(call: Call<'_>) {
    let (p, slots): (Params, _) = (call.params(), call.groups[0] as usize);
    let ([logits, targets, counts], [counters, losses]) = call.buffers();
    let (stride, classes) = (p.stride as usize, p.classes as usize);
    counters[..slots * classes * classes]
        .par_chunks_mut(classes * classes)
        .zip(&mut f32s_mut(losses)[..slots])
        .zip(f32s(logits).par_chunks(classes * stride))
        .zip(targets.par_chunks(stride))
        .zip(&counts[p.counts_at as usize..][..slots])
        .for_each(|((((counters, loss), logits), targets), count)| {
            let mut lanes = [0.0; LANES];
            for (b, &label) in targets[..stride.min(*count as usize)].iter().enumerate() {
                let s = score(logits, stride, b, label);
                lanes[b % LANES] += s.loss;
                if label < p.classes {
                    counters[label as usize * classes + s.guess as usize] += 1;
                }
            }
            *loss += tree(lanes);
        });
}

fn cases() -> Vec<Case> {
    let even: Logits = |words| noise(words, 10.0, 1);
    let sizes = [
        ("three classes, a short slot, an empty one", 3, 72, vec![71, 2, 0], even),
        ("three classes, full slots, ties", 3, 72, vec![72, 72], tied),
        // Beyond what exp can take as it is.
        ("large logits", 3, 20, vec![20, 17], |words| noise(words, 100.0, 6)),
        ("a batch of 512", 10, 512, vec![500], even),
        ("100 classes", 100, 36, vec![33, 36], even),
    ];
    let case = |(name, classes, stride, counts, logits): (_, usize, usize, Vec<u32>, Logits)| {
        let slots = counts.len();
        let logits = logits(slots * classes * stride);
        let targets = targets(&logits, classes, stride, &counts);
        Case {
            name,
            params: bytemuck::cast_slice(&[params(Batch { slots, stride, counts_at: 1 }, classes)]).to_vec(),
            buffers: vec![
                logits,
                targets,
                [vec![9], counts].concat(),
                below(slots * classes * classes, 100, 3),
                noise(slots, 100.0, 4),
            ],
            groups: [slots as u32, 1, 1],
            flops: 5 * (slots * classes * stride) as u64,
        }
    };
    sizes.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cases::{bits, on_cpu};
    use super::super::gather::NO_TARGET;
    use super::*;

    #[test]
    fn two_batches_add_up() {
        // Guesses: 1, 0 (a tie), 1; the fourth place holds no image.
        let logits = bits(&[0.0, 2.0, -1.0, 8.0, 3f32.ln(), 2.0, 4.0, 9.0]);
        let buffers = [logits, vec![1, 0, 0, NO_TARGET], vec![3], vec![0; 4], bits(&[0.0])];
        let after = on_cpu(&buffers, |device, v| {
            let b = Buffers { logits: v[0], targets: v[1], counts: v[2], counters: v[3], losses: v[4] };
            let batch = Batch { slots: 1, stride: 4, counts_at: 0 };
            confusion(device, batch, 2, &b)?;
            confusion(device, batch, 2, &b)
        })
        .unwrap();
        assert_eq!(after[3], [2, 2, 0, 2]);
        let want = 2.0 * ((4f64 / 3.0).ln() + 2f64.ln() + (1.0 + 5f64.exp()).ln());
        // A dozen float32 operations on numbers below 12.
        assert!((f64::from(f32::from_bits(after[4][0])) - want).abs() <= 4e-6);
    }
}
