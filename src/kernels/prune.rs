//! Magnitude pruning with a floor for every filter (`shaders/prune.wgsl`).

use rayon::prelude::*;

use super::cases::{below, bits, noise};
use super::magnitude_threshold::MAGNITUDE;
use super::shape::{Rows, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "prune",
    source: || include_str!("../../shaders/prune.wgsl").into(),
    variants: &[],
    bindings: &[Binding::read("filters"), Binding::read("thresholds"), Binding::write("weights", Compare::Exact)],
    params_words: 3,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    filters: u32,
    tensors: u32,
    row_words: u32,
}

/// Prunes `weights`, `[K][P]`: what is smaller than its tensor's threshold becomes +0.
///
/// `filters` is `[filters][4]` u32: where in a row a filter starts, its words, its tensor, and its floor; filters do
/// not overlap. `thresholds` is `[K][tensors]`, as [`super::magnitude_threshold`] leaves it. A filter of which fewer
/// than its floor would survive keeps every weight as large as its floor-th largest, so ties may keep more (all, where
/// it has fewer weights), as the paper's code does; a floor of 0 asks for nothing.
///
/// # Errors
/// [`crate::Error::Kernel`] when a buffer is too small.
pub fn prune<'a>(
    device: &dyn Device,
    rows: Rows,
    tensors: usize,
    filters: View<'a>,
    thresholds: View<'a>,
    weights: View<'a>,
) -> Result<()> {
    expect(KERNEL.name, "thresholds", thresholds, rows.slots * tensors)?;
    expect(KERNEL.name, "weights", weights, rows.slots * rows.words)?;
    let n = filters.words / 4;
    let p = [n as u32, tensors as u32, rows.words as u32];
    device.dispatch(&KERNEL, &p, &[filters, thresholds, weights], grid::folded(n, rows.slots as u32))
}

fn twin(call: Call<'_>) {
    let (p, slots): (Params, _) = (call.params(), call.groups[2] as usize);
    let ([filters, thresholds], [weights]) = call.buffers();
    let (row, tensors) = (p.row_words as usize, p.tensors as usize);
    let rows = weights[..slots * row].par_chunks_mut(row).zip(thresholds.par_chunks(tensors));
    rows.for_each(|(weights, thresholds)| {
        for filter in filters.chunks_exact(4).take(p.filters as usize) {
            let [at, words, tensor, floor] = [0, 1, 2, 3].map(|i| filter[i] as usize);
            prune_filter(&mut weights[at..at + words], thresholds[tensor], floor.min(words));
        }
    });
}

/// Lowers the threshold from one magnitude to the next until `floor` weights reach it, and clears the rest.
fn prune_filter(weights: &mut [u32], threshold: u32, floor: usize) {
    let (mut bound, (mut alive, mut next)) = (threshold, scan(weights, threshold));
    while (alive as usize) < floor {
        bound = next;
        (alive, next) = scan(weights, bound);
    }
    clip(weights, bound);
}

/// How many magnitudes reach `bound`, and the largest that does not (or 0).
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn scan(weights: &[u32], bound: u32) -> (u32, u32) {
    let (mut alive, mut next) = (0, 0);
    for w in weights {
        let m = w & MAGNITUDE;
        alive += u32::from(m >= bound);
        next = next.max(if m >= bound { 0 } else { m });
    }
    (alive, next)
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn clip(weights: &mut [u32], bound: u32) {
    weights.iter_mut().for_each(|w| *w = if *w & MAGNITUDE >= bound { *w } else { 0 });
}

fn cases() -> Vec<Case> {
    // Short and long filters, a floor above the words, no floor, a gap that must stay.
    let filters =
        [[0, 288, 0, 4], [288, 27, 0, 4], [320, 65, 0, 1], [385, 3, 1, 9], [388, 700, 1, 0], [1088, 130, 1, 129]];
    let (row, slots) = (1219, 3);
    let noisy = noise(slots * row, 0.1, 1);
    let tied: Vec<u32> = below(slots * row, 5, 2).iter().map(|v| (*v as f32 - 2.0).to_bits()).collect();
    let case = |name, weights: &[u32], thresholds: [[f32; 2]; 3]| Case {
        name,
        params: vec![filters.len() as u32, 2, row as u32],
        buffers: vec![filters.concat(), bits(thresholds.as_flattened()), weights.to_vec()],
        groups: grid::folded(filters.len(), slots as u32),
        flops: 0,
    };
    vec![
        case("some survive", &noisy, [[0.05, 0.09]; 3]),
        case("another threshold for each slot", &noisy, [[0.05, 0.09], [0.02, 0.0999], [0.08, 0.01]]),
        case("hardly any survives", &noisy, [[0.0999, 0.2]; 3]),
        case("all survive", &noisy, [[0.0, 0.0]; 3]),
        case("ties, none survives", &tied, [[3.0, 3.0]; 3]),
        case("ties, zeros alive", &tied, [[1.0, 2.0]; 3]),
        simple_cnn(),
    ]
}

/// Filters of simple-cnn, most of which fall back to their four largest weights, for five clients.
fn simple_cnn() -> Case {
    let (mut filters, mut at) = (Vec::new(), 0);
    for (tensor, n, words, floor) in [(0u32, 32, 9u32, 4), (1, 64, 288, 4), (2, 128, 576, 4), (3, 10, 1152, 0)] {
        for _ in 0..n {
            filters.extend([at, words, tensor, floor]);
            at += words;
        }
    }
    let n = filters.len() / 4;
    Case {
        name: "five clients of simple-cnn",
        params: vec![n as u32, 4, at],
        buffers: vec![filters, bits(&[0.0497; 20]), noise(5 * at as usize, 0.05, 9)],
        groups: grid::folded(n, 5),
        flops: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::on_cpu;
    use super::*;
    use crate::device::f32s;

    fn run(filters: &[[u32; 4]], thresholds: &[f32], weights: &[f32]) -> Vec<f32> {
        let rows = Rows { slots: 1, words: weights.len() };
        let buffers = [filters.concat(), bits(thresholds), bits(weights)];
        let after = on_cpu(&buffers, |device, v| prune(device, rows, thresholds.len(), v[0], v[1], v[2])).unwrap();
        f32s(&after[2]).to_vec()
    }

    #[test]
    fn by_hand() {
        let weights = [1.0, -5.0, 3.0, -3.0, 0.5, 0.25, -0.5, 7.0];
        // Enough survive: the threshold alone decides, and a magnitude equal to it stays.
        assert_eq!(run(&[[0, 4, 0, 2]], &[3.0], &weights), [0.0, -5.0, 3.0, -3.0, 0.5, 0.25, -0.5, 7.0]);
        // One survives, two are due: both of the equal magnitudes 3 stay.
        assert_eq!(run(&[[0, 4, 0, 2]], &[4.0], &weights), [0.0, -5.0, 3.0, -3.0, 0.5, 0.25, -0.5, 7.0]);
        // The floor exceeds the filter: all stay. The other filter has no floor and loses everything.
        let filters = [[4, 3, 1, 9], [0, 4, 0, 0]];
        assert_eq!(run(&filters, &[8.0, 8.0], &weights), [0.0, 0.0, 0.0, 0.0, 0.5, 0.25, -0.5, 7.0]);
        let pruned = run(&[[0, 2, 0, 0]], &[8.0], &[-1.0, 2.0]);
        assert_eq!(bits(&pruned), [0, 0], "pruned weights are +0");
    }

    /// A stable sort by falling magnitude, then mask and multiply, as the formula reads.
    fn naive(weights: &mut [f32], threshold: f32, floor: usize) {
        let mut order: Vec<usize> = (0..weights.len()).collect();
        order.sort_by(|&a, &b| weights[b].abs().total_cmp(&weights[a].abs()));
        let mut mask: Vec<bool> = weights.iter().map(|w| w.abs() >= threshold).collect();
        if mask.iter().filter(|m| **m).count() < floor {
            let least = weights[order[floor.min(weights.len()) - 1]].abs();
            mask = weights.iter().map(|w| w.abs() >= least.min(threshold)).collect();
        }
        weights.iter_mut().zip(mask).filter(|(_, alive)| !alive).for_each(|(w, _)| *w = 0.0);
    }

    #[test]
    fn as_a_naive_sort() {
        for case in cases() {
            let (filters, row) = (&case.buffers[0], case.params[2] as usize);
            let tensors = case.params[1] as usize;
            let rows = Rows { slots: case.groups[2] as usize, words: row };
            let after = on_cpu(&case.buffers, |device, v| prune(device, rows, tensors, v[0], v[1], v[2])).unwrap();
            let mut want = f32s(&case.buffers[2]).to_vec();
            for (weights, thresholds) in want.chunks_mut(row).zip(f32s(&case.buffers[1]).chunks(tensors)) {
                for f in filters.chunks(4) {
                    naive(&mut weights[f[0] as usize..][..f[1] as usize], thresholds[f[2] as usize], f[3] as usize);
                }
            }
            assert_eq!(after[2], bits(&want), "{}", case.name);
        }
    }
}
