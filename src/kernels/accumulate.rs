//! Weighted sums of the clients' rows, one a replicate, wave after wave (`shaders/accumulate.wgsl`).

use rayon::prelude::*;

use super::cases::{below, noise};
use super::shape::{Rows, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "accumulate",
    source: || super::unroll(include_str!("../../shaders/accumulate.wgsl")),
    variants: &[],
    bindings: &[
        Binding::read("rows"),
        Binding::read("scales"),
        Binding::read("starts"),
        Binding::read("slots"),
        // A GPU may fuse the multiplication and the addition.
        Binding::write("sums", Compare::Close(1e-6)),
    ],
    params_words: 1,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large,
};

/// The buffers of one call, R replicates and K slots.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<'a> {
    /// `[K][P]`: the clients' models.
    pub rows: View<'a>,
    /// `[K]` f32: what each is multiplied by.
    pub scales: View<'a>,
    /// `[R + 1]`: where each replicate's part of `slots` begins, and where the last one's ends.
    pub starts: View<'a>,
    /// `[K]`: slots, replicate by replicate, in the order in which they are added.
    pub slots: View<'a>,
    /// `[R][P]`: the running sums, cleared before the first wave.
    pub sums: View<'a>,
}

/// Slots grouped by replicate, each group in the order in which they come: the words of `starts` and of `slots` for pairs of
/// a slot and which of `replicates` it belongs to.
pub fn grouped(slots: &[(usize, usize)], replicates: usize) -> (Vec<u32>, Vec<u32>) {
    let mut slots = slots.to_vec();
    slots.sort_by_key(|(_, of)| *of);
    let start = |replicate| slots.partition_point(|(_, of)| *of < replicate) as u32;
    ((0..=replicates).map(start).collect(), slots.iter().map(|(slot, _)| *slot as u32).collect())
}

/// Adds `scales[k] * rows[k]` to row r of `sums` for every slot k of every replicate r, in the order of `slots`, which may
/// leave some out. P =
/// `words`, a multiple of 4.
///
/// # Errors
/// [`crate::Error::Kernel`] when P is not a multiple of 4 or a buffer is too small.
pub fn accumulate(device: &dyn Device, words: usize, b: &Buffers<'_>) -> Result<()> {
    let (name, slots, replicates) = (KERNEL.name, b.slots.words, b.starts.words.saturating_sub(1));
    let summed = Rows { slots: replicates, words };
    summed.expect_quads(name)?;
    expect(name, "rows", b.rows, slots * words)?;
    expect(name, "scales", b.scales, slots)?;
    expect(name, "sums", b.sums, replicates * words)?;
    let views = [b.rows, b.scales, b.starts, b.slots, b.sums];
    device.dispatch(&KERNEL, &[(words / 4) as u32], &views, summed.quad_groups())
}

/// Words of one unit of CPU work: its sums stay in the innermost cache while the clients pass.
const BLOCK: usize = 1 << 12;

fn twin(call: Call<'_>) {
    let (words, replicates) = (4 * call.params[0] as usize, call.groups[2] as usize);
    let ([rows, scales, starts, slots], [sums]) = call.buffers();
    let (rows, scales) = (f32s(rows), f32s(scales));
    let sums = f32s_mut(&mut sums[..replicates * words]).par_chunks_mut(words).enumerate();
    sums.for_each(|(replicate, sums)| {
        let own = &slots[starts[replicate] as usize..starts[replicate + 1] as usize];
        sums.par_chunks_mut(BLOCK).enumerate().for_each(|(block, sums)| {
            for k in own.iter().map(|k| *k as usize) {
                add(sums, scales[k], &rows[k * words + block * BLOCK..][..sums.len()]);
            }
        });
    });
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn add(sum: &mut [f32], scale: f32, row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(s, x)| *s += scale * x);
}

fn cases() -> Vec<Case> {
    [
        ("one vec4", 4, 1, 1),
        ("odd", 4 * 1033, 7, 1),
        ("five clients of simple-cnn", 104_204, 5, 1),
        ("nine clients of four replicates", 4 * 77, 9, 4),
    ]
    .into_iter()
    .map(case)
    .collect()
}

fn large() -> Vec<Case> {
    vec![case(("64 clients of simple-cnn", 104_204, 64, 1))]
}

fn case((name, words, k, replicates): (&'static str, usize, usize, usize)) -> Case {
    let of = below(k, replicates as u32, 4).into_iter().map(|r| r as usize);
    let (starts, slots) = grouped(&of.enumerate().collect::<Vec<_>>(), replicates);
    Case {
        name,
        params: vec![(words / 4) as u32],
        buffers: vec![noise(k * words, 1.0, 1), noise(k, 0.5, 2), starts, slots, noise(replicates * words, 1.0, 3)],
        groups: Rows { slots: replicates, words }.quad_groups(),
        flops: 2 * (k * words) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::{bits, on_cpu};
    use super::*;

    /// The sums after adding `rows`, where slot k belongs to replicate `of[k]`.
    fn added(words: usize, rows: Vec<u32>, scales: Vec<u32>, of: &[usize], sums: Vec<u32>) -> Vec<u32> {
        let of: Vec<_> = of.iter().copied().enumerate().collect();
        let (starts, slots) = grouped(&of, sums.len() / words);
        let buffers = [rows, scales, starts, slots, sums];
        let call = |device: &dyn Device, v: &[View<'_>]| {
            accumulate(device, words, &Buffers { rows: v[0], scales: v[1], starts: v[2], slots: v[3], sums: v[4] })
        };
        on_cpu(&buffers, call).unwrap().remove(4)
    }

    #[test]
    fn by_hand() {
        let rows = bits(&[1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0]);
        let scales = bits(&[0.5, 0.25]);
        let one = added(4, rows.clone(), scales.clone(), &[0, 0], bits(&[100.0, 0.0, 0.0, 0.0]));
        assert_eq!(f32s(&one), [103.0, 6.0, 9.0, 12.0]);
        // The second slot belongs to replicate 0, the first to replicate 2; replicate 1 has none and keeps its sum.
        let sums = [vec![0.0; 4], vec![7.0; 4], vec![1.0; 4]].concat();
        let three = added(4, rows, scales, &[2, 0], bits(&sums));
        assert_eq!(f32s(&three), [2.5, 5.0, 7.5, 10.0, 7.0, 7.0, 7.0, 7.0, 1.5, 2.0, 2.5, 3.0]);
    }

    #[test]
    fn waves_and_other_replicates_change_no_bit() {
        let (words, slots) = (4 * 1500, 6);
        let (rows, scales) = (noise(slots * words, 1.0, 1), noise(slots, 1.0, 2));
        let sums_in_waves_of = |wave: usize, of: &[usize]| {
            let replicates = of.iter().max().unwrap() + 1;
            let parts = rows.chunks(wave * words).zip(scales.chunks(wave)).zip(of.chunks(wave));
            parts.fold(vec![0; replicates * words], |sums, ((rows, scales), of)| {
                added(words, rows.to_vec(), scales.to_vec(), of, sums)
            })
        };
        let want = sums_in_waves_of(6, &[0; 6]);
        assert_eq!(want, sums_in_waves_of(1, &[0; 6]));
        assert_eq!(want, sums_in_waves_of(4, &[0; 6]));
        let of = [1, 0, 1, 2, 0, 1];
        let mixed = sums_in_waves_of(4, &of);
        assert_eq!(mixed, sums_in_waves_of(6, &of));
        for replicate in 0..3 {
            let own = (0..slots).filter(|k| of[*k] == replicate);
            let alone = own.fold(vec![0; words], |sum, k| {
                added(words, rows[k * words..(k + 1) * words].to_vec(), vec![scales[k]], &[0], sum)
            });
            assert_eq!(mixed[replicate * words..(replicate + 1) * words], alone);
        }
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let refused = |words: usize, sizes: [usize; 5]| {
            let buffers = sizes.map(|n| vec![0; n]);
            let call = |device: &dyn Device, v: &[View<'_>]| {
                accumulate(device, words, &Buffers { rows: v[0], scales: v[1], starts: v[2], slots: v[3], sums: v[4] })
            };
            on_cpu(&buffers, call).is_err()
        };
        assert!(!refused(4, [8, 2, 3, 2, 8]));
        assert!(refused(6, [12, 2, 3, 2, 12]) && refused(4, [7, 2, 3, 2, 8]) && refused(4, [8, 1, 3, 2, 8]));
        assert!(refused(4, [8, 2, 3, 2, 7]));
    }
}
