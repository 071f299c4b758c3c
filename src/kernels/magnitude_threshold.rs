//! The exact k-th largest magnitude of every tensor (`shaders/magnitude_threshold.wgsl`).

use rayon::prelude::*;

use super::cases::{LEFT, bits, noise};
use super::shape::{Rows, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "magnitude_threshold",
    source: || super::unroll(include_str!("../../shaders/magnitude_threshold.wgsl")),
    variants: &[],
    bindings: &[
        Binding::read("weights"),
        Binding::read("table"),
        Binding::read("keeps"),
        Binding::write("thresholds", Compare::Exact),
    ],
    params_words: 3,
    workgroup: [256, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// A float's bits without its sign: magnitudes order as these do, NaN above infinity.
pub(super) const MAGNITUDE: u32 = 0x7fff_ffff;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    tensors: u32,
    row_words: u32,
    keeps_at: u32,
}

/// Writes to `thresholds`, `[K][tensors]` u32, the bits of the `keep`-th largest magnitude of every tensor.
///
/// `weights` is `[K][P]`; `table` is `[tensors][4]` u32, of which the first two say where in a row a tensor starts
/// and how many words it has; tensor t of slot k keeps `keeps[keeps_at + k * tensors + t]` weights (0 counts as 1; more
/// than the tensor has gives 0).
///
/// # Errors
/// [`crate::Error::Kernel`] when a buffer is too small.
pub fn magnitude_threshold<'a>(
    device: &dyn Device,
    rows: Rows,
    weights: View<'a>,
    table: View<'a>,
    keeps: View<'a>,
    keeps_at: usize,
    thresholds: View<'a>,
) -> Result<()> {
    let (name, tensors) = (KERNEL.name, table.words / 4);
    expect(name, "weights", weights, rows.slots * rows.words)?;
    expect(name, "keeps", keeps, keeps_at + rows.slots * tensors)?;
    expect(name, "thresholds", thresholds, rows.slots * tensors)?;
    let p = [tensors as u32, rows.words as u32, keeps_at as u32];
    device.dispatch(&KERNEL, &p, &[weights, table, keeps, thresholds], [tensors as u32, rows.slots as u32, 1])
}

fn twin(call: Call<'_>) {
    let (p, slots): (Params, _) = (call.params(), call.groups[1] as usize);
    let ([weights, table, keeps], [thresholds]) = call.buffers();
    let (tensors, row) = (p.tensors as usize, p.row_words as usize);
    let each = thresholds[..slots * tensors].par_iter_mut().with_max_len(1).enumerate();
    each.for_each(|(i, threshold)| {
        let (slot, tensor) = (i / tensors, i % tensors);
        let (at, words) = (table[4 * tensor] as usize, table[4 * tensor + 1] as usize);
        let keep = keeps[p.keeps_at as usize + i].max(1);
        *threshold = select(&weights[slot * row + at..][..words], keep as usize);
    });
}

/// Bits of the `keep`-th largest magnitude, or 0 when there are fewer: the largest number that at least `keep`
/// magnitudes reach, found bit by bit. 31 passes of vector comparisons beat one histogram, whose counters wait for
/// each other; and where few weights reach what is known of the number, those go on alone.
fn select(weights: &[u32], keep: usize) -> u32 {
    const UPPER: u32 = 20;
    let upper = refine(weights, keep, 0, UPPER..31);
    let above = upper + (1 << UPPER);
    let larger = reaching(weights, above);
    let mut shared = Vec::with_capacity(reaching(weights, upper) - larger);
    shared.extend(weights.iter().filter(|w| (**w & MAGNITUDE) >> UPPER == upper >> UPPER));
    refine(&shared, keep - larger, upper, 0..UPPER)
}

/// Sets every bit of `found` in `digits`, from the highest, that at least `keep` magnitudes reach.
fn refine(weights: &[u32], keep: usize, found: u32, digits: std::ops::Range<u32>) -> u32 {
    digits.rev().fold(found, |found, bit| {
        let more = found | 1 << bit;
        if reaching(weights, more) >= keep { more } else { found }
    })
}

/// How many magnitudes are at least `bound`.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn reaching(weights: &[u32], bound: u32) -> usize {
    weights.iter().map(|w| u32::from(w & MAGNITUDE >= bound)).sum::<u32>() as usize
}

fn cases() -> Vec<Case> {
    // A conv tensor, an odd one behind a gap, one weight, many zeros, all equal.
    let (row, table): (usize, [[u32; 4]; 5]) =
        (6100, [[0, 4097, 0, 0], [4100, 999, 0, 0], [5099, 1, 0, 0], [5100, 600, 0, 0], [5700, 400, 0, 0]]);
    let mut weights = noise(3 * row, 0.1, 1);
    for row in weights.chunks_mut(row) {
        row[5100..5700].iter_mut().enumerate().filter(|(i, _)| i % 5 != 0).for_each(|(i, w)| *w = (i as u32 % 2) << 31);
        row[5700..].iter_mut().enumerate().for_each(|(i, w)| *w = 0x3d12_3456 | ((i as u32 % 2) << 31));
    }
    let case = |name, keeps: [u32; 5]| Case {
        name,
        params: vec![5, row as u32, 2],
        buffers: vec![
            weights.clone(),
            table.concat(),
            [&[0; 2], &keeps[..], &[2; 5], &keeps].concat(),
            vec![LEFT; 3 * 5],
        ],
        groups: [5, 3, 1],
        flops: 0,
    };
    vec![
        case("the largest", [1; 5]),
        case("the smallest", [4097, 999, 1, 600, 400]),
        case("some, and past the nonzero weights", [41, 500, 1, 121, 7]),
        case("just before the zeros", [4000, 2, 1, 120, 399]),
        every_rank(),
        simple_cnn(),
    ]
}

/// Weights that fill the first digit from end to end, beside ordinary ones: a tensor for each of their ranks.
fn every_rank() -> Case {
    let ends = bits(&[2.0, -2.0, 3.5, -3.5, 1e30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40]);
    let weights = [ends, noise(21, 0.1, 3)].concat();
    let ranks = weights.len() as u32;
    Case {
        name: "numbers from 2 up, infinity, NaN",
        params: vec![ranks, ranks, 0],
        buffers: vec![
            weights,
            [0, ranks, 0, 0].repeat(ranks as usize),
            (1..=ranks).collect(),
            vec![LEFT; ranks as usize],
        ],
        groups: [ranks, 1, 1],
        flops: 0,
    }
}

/// The four weight tensors of simple-cnn at sparsity 0.95, for five clients.
fn simple_cnn() -> Case {
    let (mut table, mut keeps, mut at) = (Vec::new(), Vec::new(), 0);
    for words in [288u32, 18_432, 73_728, 11_520] {
        table.extend([at, words, 0, 0]);
        keeps.push(words / 20);
        at += words;
    }
    Case {
        name: "five clients of simple-cnn",
        params: vec![4, at, 0],
        buffers: vec![noise(5 * at as usize, 0.05, 9), table, keeps.repeat(5), vec![LEFT; 20]],
        groups: [4, 5, 1],
        flops: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::on_cpu;
    use super::*;

    fn sorted(weights: &[f32], keep: usize) -> u32 {
        let mut magnitudes: Vec<u32> = weights.iter().map(|w| w.abs().to_bits()).collect();
        magnitudes.sort_unstable_by(|a, b| b.cmp(a));
        magnitudes[keep - 1]
    }

    #[test]
    fn every_rank_is_the_one_of_a_sort() {
        let mut weights: Vec<f32> = noise(301, 3.0, 4).iter().map(|w| f32::from_bits(*w)).collect();
        weights.extend([0.0, -0.0, 1.5, -1.5, 1.5, f32::INFINITY, f32::MIN_POSITIVE / 8.0, -3e38]);
        let words = bits(&weights);
        for keep in 1..=weights.len() {
            assert_eq!(select(&words, keep), sorted(&weights, keep), "{keep}");
        }
        assert_eq!(select(&words, weights.len() + 1), 0);
    }

    #[test]
    fn all_equal_all_zero_and_nan() {
        assert_eq!(select(&bits(&[-2.0; 9]), 5), 2f32.to_bits());
        assert_eq!(select(&bits(&[-0.0; 9]), 5), 0);
        assert_eq!(select(&bits(&[1.0, f32::INFINITY, -f32::NAN]), 1), f32::NAN.to_bits());
        assert_eq!(select(&bits(&[1.0, f32::INFINITY, -f32::NAN]), 2), f32::INFINITY.to_bits());
    }

    #[test]
    fn slots_and_tensors_are_told_apart() {
        let weights = bits(&[1.0, -2.0, 3.0, 9.0, -4.0, 5.0, 6.0, 9.0]);
        let buffers = [weights, vec![0, 2, 0, 0, 1, 2, 0, 0], vec![8, 1, 2, 2, 1], vec![0; 4]];
        let call = |words| {
            move |device: &dyn Device, v: &[View<'_>]| {
                magnitude_threshold(device, Rows { slots: 2, words }, v[0], v[1], v[2], 1, v[3])
            }
        };
        let after = on_cpu(&buffers, call(4)).unwrap();
        assert_eq!(after[3], bits(&[2.0, 2.0, 4.0, 6.0]));
        assert!(on_cpu(&buffers, call(5)).is_err());
    }
}
