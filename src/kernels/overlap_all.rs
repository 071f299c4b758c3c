//! Overlap of every row of masks with many others, summed (`shaders/overlap_all.wgsl`).

use rayon::prelude::*;

use super::cases::{LEFT, below};
use super::shape::expect;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, grid};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "overlap_all",
    source: || include_str!("../../shaders/overlap_all.wgsl").into(),
    variants: &[],
    bindings: &[
        Binding::read("masks"),
        Binding::read("tasks"),
        Binding::read("partners"),
        Binding::read("layers"),
        Binding::write("out", Compare::Exact),
    ],
    params_words: 4,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// Bits after the point of one overlap: a sum of up to 2^40 of them fits two words.
pub const FRACTION_BITS: u32 = 24;

/// In a task: no partner is left out.
pub const NONE: u32 = u32::MAX;

/// Words of masks that one dispatch meets, at most: tens of milliseconds on a small GPU.
const PER_DISPATCH: usize = 1 << 28;

/// The buffers of [`overlap_all`].
#[derive(Clone, Copy, Debug)]
pub struct Buffers<'a> {
    /// `[N][W]`, bits.
    pub masks: View<'a>,
    /// `[tasks][4]`: a row of `masks`, its first partner, the end of its partners, and the place of a partner left out, or
    /// [`NONE`].
    pub tasks: View<'a>,
    /// Rows of `masks`.
    pub partners: View<'a>,
    /// `[L][2]`: a layer's first word and how many it has.
    pub layers: View<'a>,
    /// Written: `[tasks][L][3]`.
    pub out: View<'a>,
}

/// Writes for every task and layer the sum over its partners of `floor(|a and b| * 2^24 / |a or b|)`, low word before
/// high, and the number of partners with which the union is not empty. `words` is W; no task has more than `longest`
/// partners.
///
/// # Errors
/// [`Error::Kernel`] when the masks are no whole rows, a row has 2^24 bits or more, or `out` is too small.
pub fn overlap_all(device: &dyn Device, words: usize, longest: usize, b: &Buffers<'_>) -> Result<()> {
    let bits = words * u32::BITS as usize;
    if !(1..1 << FRACTION_BITS).contains(&bits) || !b.masks.words.is_multiple_of(words) {
        let problem = format!("masks of {words} words in {}; whole rows of less than 2^24 bits", b.masks.words);
        return Err(Error::Kernel { kernel: KERNEL.name, problem });
    }
    let (tasks, layers) = (b.tasks.words / 4, b.layers.words / 2);
    expect(KERNEL.name, "out", b.out, 3 * tasks * layers)?;
    let most = (PER_DISPATCH / (longest * words).max(1)).next_multiple_of(64);
    for first in (0..tasks).step_by(most) {
        let count = most.min(tasks - first);
        let p = [words, layers, first, count].map(|n| n as u32);
        let views = [b.masks, b.tasks, b.partners, b.layers, b.out];
        device.dispatch(&KERNEL, &p, &views, groups(count * layers))?;
    }
    Ok(())
}

fn groups(threads: usize) -> [u32; 3] {
    grid::folded(threads.div_ceil(64), 1)
}

fn twin(call: Call<'_>) {
    let [words, l, first, count] = call.params::<[u32; 4]>().map(|v| v as usize);
    let ([masks, tasks, partners, layers], [out]) = call.buffers();
    let ranges: Vec<_> = layers.chunks_exact(2).map(|l| l[0] as usize..(l[0] + l[1]) as usize).collect();
    let size = |mask: &[u32]| mask.iter().map(|w| w.count_ones()).sum::<u32>();
    let sizes: Vec<u32> =
        masks.par_chunks_exact(words).flat_map_iter(|row| ranges.iter().map(move |r| size(&row[r.clone()]))).collect();
    let tasks = tasks[4 * first..4 * (first + count)].par_chunks_exact(4);
    out[3 * l * first..3 * l * (first + count)].par_chunks_exact_mut(3 * l).zip(tasks).for_each(|(out, task)| {
        let [row, from, end, left_out] = [0, 1, 2, 3].map(|i| task[i] as usize);
        let cut = left_out.clamp(from, end);
        let (before, after) = (&partners[from..cut], &partners[(cut + usize::from(cut == left_out)).min(end)..end]);
        for (i, (out, range)) in out.chunks_exact_mut(3).zip(&ranges).enumerate() {
            let own = Own { mask: &masks[row * words..][range.clone()], size: sizes[row * l + i], layer: i };
            let (sum, pairs) = [before, after].iter().fold((0, 0), |(sum, pairs), others| {
                let part = own.meet(others, masks, words, range.start, &sizes, l);
                (sum + part.0, pairs + part.1)
            });
            out.copy_from_slice(&[sum as u32, (sum >> 32) as u32, pairs]);
        }
    });
}

/// One row's bits of one layer.
struct Own<'a> {
    mask: &'a [u32],
    size: u32,
    layer: usize,
}

impl Own<'_> {
    /// Sum of the overlaps with the rows in `others`, and how many have one. `at` is the layer's first word, `sizes` is
    /// `[N][layers]`.
    fn meet(&self, others: &[u32], masks: &[u32], words: usize, at: usize, sizes: &[u32], layers: usize) -> (u64, u32) {
        let (mut sum, mut pairs) = (0, 0);
        for other in others {
            let row = *other as usize;
            let both = common(self.mask, &masks[row * words + at..][..self.mask.len()]);
            let either = self.size + sizes[row * layers + self.layer] - both;
            if either > 0 {
                // In f64 the quotient of numbers below 2^24 is at least 2^-24 from the next whole number, and its
                // rounding error below 2^-28: the floor is exact, and several are divided at once.
                sum += (f64::from(both) * f64::from(1 << FRACTION_BITS) / f64::from(either)) as u64;
                pairs += 1;
            }
        }
        (sum, pairs)
    }
}

#[multiversion::multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512vpopcntdq",
    "x86_64+avx2+popcnt",
    "x86_64+popcnt"
))]
fn common(a: &[u32], b: &[u32]) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a & b).count_ones()).sum()
}

/// The tasks of all pairs of the rows in places `first..end` of the partners, each once.
pub fn triangle(rows: &[u32], first: usize) -> impl Iterator<Item = [u32; 4]> {
    let end = (first + rows.len()) as u32;
    rows.iter().zip(first as u32 + 1..).map(move |(row, next)| [*row, next, end, NONE])
}

fn cases() -> Vec<Case> {
    let of = |name, masks: Vec<u32>, rows: usize, layers: &[[u32; 2]], tasks: Vec<[u32; 4]>| Case {
        name,
        params: [masks.len() / rows, layers.len(), 0, tasks.len()].map(|n| n as u32).to_vec(),
        buffers: vec![
            masks,
            tasks.concat(),
            (0..rows as u32).rev().collect(),
            layers.concat(),
            vec![LEFT; 3 * tasks.len() * layers.len()],
        ],
        groups: groups(tasks.len() * layers.len()),
        flops: 0,
    };
    let case = |name, rows: usize, layers: &[[u32; 2]], tasks: Vec<[u32; 4]>, limit: u32| {
        let words = layers.iter().map(|l| l[0] + l[1]).max().unwrap_or(0) as usize;
        // Sparse, so that some layers are empty in both rows.
        let thin = below(rows * words, limit, 2);
        let masks = below(rows * words, u32::MAX, 1).into_iter().zip(thin).map(|(m, t)| if t == 0 { m } else { 0 });
        of(name, masks.collect(), rows, layers, tasks)
    };
    let all = |rows: u32| triangle(&(0..rows).rev().collect::<Vec<_>>(), 0).collect::<Vec<_>>();
    // 256 overlaps of 1 are the first that the low word does not hold.
    let full = [1, 255, 256, 257, 511, 512, 600].map(|end| [0, 0, end, NONE]).to_vec();
    let square = (0..9).map(|i| [i, 3, 9, 8 - i]).collect();
    vec![
        case("one pair", 2, &[[0, 1]], all(2), 1),
        case("odd layers, empty masks", 23, &[[0, 1], [1, 5], [6, 2], [0, 8]], all(23), 3),
        case("some left out", 9, &[[0, 2], [2, 1]], square, 2),
        case("300 circuits of simple-cnn", 300, &[[0, 1], [1, 2], [3, 4], [0, 7]], all(300), 1),
        of("sums of two words, masks of one bit", [1 << 7, u32::MAX].repeat(600), 600, &[[0, 1], [1, 1]], full),
        case("edges", 40, &[[0, 32], [32, 64], [96, 256], [0, 352]], all(40), 2),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::cases::on_cpu;
    use super::*;

    fn sums(masks: Vec<u32>, words: usize, tasks: &[[u32; 4]], layers: &[[u32; 2]]) -> Vec<(u64, u32)> {
        let rows = masks.len() / words;
        let out = vec![9; 3 * tasks.len() * layers.len()];
        let buffers = [masks, tasks.concat(), (0..rows as u32).collect(), layers.concat(), out];
        let after = on_cpu(&buffers, |device, v| {
            let b = Buffers { masks: v[0], tasks: v[1], partners: v[2], layers: v[3], out: v[4] };
            overlap_all(device, words, rows, &b)
        });
        after.unwrap()[4].chunks(3).map(|o| (u64::from(o[0]) | u64::from(o[1]) << 32, o[2])).collect()
    }

    #[test]
    fn by_hand() {
        // IoUs of 0111 with 0011, 0000 and 1111: 2/3, 0 and 3/4; of 0011 with the last two 0 and 1/2; of 0000 with 1111 0.
        let masks = vec![0b0111, 0b0011, 0, 0b1111];
        let triangle: Vec<_> = triangle(&[0, 1, 2, 3], 0).collect();
        let third = (1u64 << 24) * 2 / 3;
        let want = [(third + (3 << 22), 3), (1 << 23, 2), (0, 1), (0, 0)];
        assert_eq!(sums(masks.clone(), 1, &triangle, &[[0, 1]]), want);
        // Without itself, and of two empty masks none.
        assert_eq!(
            sums(masks.clone(), 1, &[[3, 0, 4, 3], [3, 1, 3, 0]], &[[0, 1]]),
            [(want[0].0 - third + (1 << 23), 3), (1 << 23, 2)]
        );
        assert_eq!(sums(vec![0, 0, 1], 1, &[[0, 0, 3, 0]], &[[0, 1]]), [(0, 1)]);
    }

    /// A thousand circuits, every pair, against the definition in whole numbers of 64 bits.
    #[test]
    fn a_thousand_rows_equal_the_definition() {
        let (rows, words, layers) = (1000, 7, [[0, 1], [1, 2], [3, 4], [0, 7]]);
        let masks: Vec<u32> =
            below(rows * words, u32::MAX, 1).iter().zip(below(rows * words, u32::MAX, 2)).map(|(a, b)| a & b).collect();
        let tasks: Vec<_> = triangle(&(0..rows as u32).collect::<Vec<_>>(), 0).collect();
        let found = sums(masks.clone(), words, &tasks, &layers);
        let row = |i: usize| &masks[i * words..][..words];
        for (i, task) in tasks.iter().enumerate() {
            for (l, [at, n]) in layers.iter().enumerate() {
                let range = *at as usize..(at + n) as usize;
                let count = |f: fn(u32, u32) -> u32, j: usize| -> u64 {
                    row(i)[range.clone()]
                        .iter()
                        .zip(&row(j)[range.clone()])
                        .map(|(a, b)| u64::from(f(*a, *b).count_ones()))
                        .sum()
                };
                let shares = (i + 1..rows).map(|j| (count(|a, b| a & b, j), count(|a, b| a | b, j)));
                let defined: Vec<u64> = shares.filter(|(_, n)| *n > 0).map(|(k, n)| (k << 24) / n).collect();
                let want = (defined.iter().sum(), defined.len() as u32);
                assert_eq!(found[i * layers.len() + l], want, "row {}, layer {l}", task[0]);
            }
        }
    }

    #[test]
    fn sums_pass_the_first_word() {
        // 300 equal masks: 299 * 2^24 is more than 2^32.
        let tasks = [[0, 0, 300, 0]];
        assert_eq!(sums(vec![5; 300], 1, &tasks, &[[0, 1]]), [(299 << 24, 299)]);
    }

    #[test]
    fn broken_rows_are_refused() {
        let buffers = [vec![0; 7], vec![0; 4], vec![0; 1], vec![0; 2], vec![0; 3]];
        let call = |words: usize| {
            on_cpu(&buffers, |device, v| {
                let b = Buffers { masks: v[0], tasks: v[1], partners: v[2], layers: v[3], out: v[4] };
                overlap_all(device, words, 1, &b)
            })
        };
        assert!(call(7).is_ok());
        for words in [0, 3, 1 << 19] {
            assert!(call(words).is_err(), "{words}");
        }
    }
}
