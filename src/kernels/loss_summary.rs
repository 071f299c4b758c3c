//! What a round of training came to: loss, accuracy, and whether it diverged (`shaders/loss_summary.wgsl`).

use rayon::prelude::*;

use super::cases::{LEFT, below};
use super::shape::expect;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, grid};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "loss_summary",
    source: || include_str!("../../shaders/loss_summary.wgsl").into(),
    variants: &[],
    bindings: &[
        Binding::read("stats"),
        Binding::read("counts"),
        Binding::read("steps"),
        Binding::read("last_from"),
        // The sums are equal; a division may be off by 2.5 units in the last place.
        Binding::write("out", Compare::Fields(&[Compare::Close(1e-6), Compare::Exact, Compare::Exact, Compare::Exact])),
    ],
    params_words: 2,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// The step that [`loss_summary`] names when every loss was finite.
pub const NEVER: u32 = u32::MAX;

/// Sums up the statistics of [`super::cross_entropy`].
///
/// `stats` is `[steps][K][2]` (loss summed over the images, images right) and `counts` `[steps][K]` (images);
/// `steps` and `last_from`, `[K]` u32, say how many steps a slot took and which was the first of its last epoch.
/// `out`, `[K][4]`, receives the mean loss of the last epoch's images (f32; 0 where there are none), how many it had
/// right, how many there were, and the first of all steps whose loss is not finite, or [`NEVER`].
///
/// # Errors
/// [`Error::Kernel`] when `counts` is no whole number of steps or a buffer is too small.
pub fn loss_summary<'a>(
    device: &dyn Device,
    slots: usize,
    stats: View<'a>,
    counts: View<'a>,
    steps: View<'a>,
    last_from: View<'a>,
    out: View<'a>,
) -> Result<()> {
    let name = KERNEL.name;
    if slots == 0 || !counts.words.is_multiple_of(slots) {
        return Err(Error::Kernel { kernel: name, problem: format!("{} counts of {slots} slots", counts.words) });
    }
    expect(name, "stats", stats, 2 * counts.words)?;
    expect(name, "steps", steps, slots)?;
    expect(name, "last_from", last_from, slots)?;
    expect(name, "out", out, 4 * slots)?;
    let p = [slots, counts.words / slots].map(|n| n as u32);
    device.dispatch(&KERNEL, &p, &[stats, counts, steps, last_from, out], groups(slots))
}

fn groups(slots: usize) -> [u32; 3] {
    grid::folded(slots.div_ceil(64), 1)
}

fn twin(call: Call<'_>) {
    let [slots, rows] = [0, 1].map(|i| call.params[i] as usize);
    let ([stats, counts, steps, last_from], [out]) = call.buffers();
    out[..4 * slots].par_chunks_mut(4).enumerate().for_each(|(slot, out)| {
        let (mut loss, mut right, mut images, mut diverged) = (0.0, 0, 0, NEVER);
        for t in 0..rows.min(steps[slot] as usize) {
            let i = t * slots + slot;
            let step = f32::from_bits(stats[2 * i]);
            if !step.is_finite() {
                diverged = diverged.min(t as u32);
            }
            if t >= last_from[slot] as usize {
                loss += step;
                right += stats[2 * i + 1];
                images += counts[i];
            }
        }
        out.copy_from_slice(&[(loss / images.max(1) as f32).to_bits(), right, images, diverged]);
    });
}

fn cases() -> Vec<Case> {
    let sizes = [
        ("one slot, one step", 1, 1, 0),
        ("odd", 67, 13, 5),
        ("two whole workgroups", 128, 9, 5),
        ("hundred clients, 600 steps", 100, 600, 480),
    ];
    sizes
        .into_iter()
        .map(|(name, slots, rows, last)| {
            let mut stats: Vec<u32> = below(2 * slots * rows, 256, 1);
            stats.iter_mut().step_by(2).for_each(|loss| *loss = (*loss as f32 * 0.37).to_bits());
            let (mut counts, mut steps) = (below(slots * rows, 257, 2), below(slots, rows as u32, 3));
            steps.iter_mut().for_each(|back| *back = rows as u32 - *back % 4);
            // Both before the last epoch, so that the means stay comparable, and slot 3 in two steps.
            if rows > 1 {
                stats[2 * (slots + 3)] = f32::NAN.to_bits() | 1;
                stats[2 * (2 * slots + 3)] = f32::NEG_INFINITY.to_bits();
                stats[2 * (4 * slots + 6)] = f32::INFINITY.to_bits();
                // Slot 1 took no step; slots 4 and 5 saw no image and one.
                (steps[1], steps[5]) = (0, rows as u32);
                counts.chunks_mut(slots).for_each(|counts| counts[4..6].fill(0));
                counts[(rows - 1) * slots + 5] = 1;
            }
            Case {
                name,
                params: vec![slots as u32, rows as u32],
                buffers: vec![
                    stats,
                    counts,
                    steps,
                    (0..slots as u32).map(|slot| last + slot % 3).collect(),
                    vec![LEFT; 4 * slots],
                ],
                groups: groups(slots),
                flops: (slots * rows) as u64,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::cases::on_cpu;
    use super::*;

    #[test]
    fn by_hand() {
        // Slot 0: three steps, the last epoch from step 1. Slot 1: two steps, both of them its last epoch, NaN at
        // step 1. Slot 2: no step at all.
        let loss = |x: f32| x.to_bits();
        let rows = [
            [loss(8.0), 1, loss(1.0), 2, loss(f32::NAN), 9],
            [loss(6.0), 2, loss(f32::NAN), 3, loss(f32::NAN), 9],
            [loss(3.0), 1, loss(7.0), 9, loss(f32::NAN), 9],
        ];
        let counts = vec![4, 4, 9, 4, 4, 9, 2, 9, 9];
        let buffers = [rows.concat(), counts, vec![3, 2, 0], vec![1, 0, 0], vec![9; 12]];
        let after = on_cpu(&buffers, |device, v| loss_summary(device, 3, v[0], v[1], v[2], v[3], v[4])).unwrap();
        assert_eq!(after[4][..4], [loss(1.5), 3, 6, NEVER]);
        assert!(f32::from_bits(after[4][4]).is_nan());
        assert_eq!(after[4][5..], [5, 8, 1, 0, 0, 0, NEVER]);
    }
}
