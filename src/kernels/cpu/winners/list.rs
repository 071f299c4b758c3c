//! The gradients that are there, listed: sixteen at a time where the processor packs vectors.

use pulp::Arch;

use crate::kernels::DEAD;

/// Places of a window.
pub(super) const PLACES: usize = 4;

/// Blocks that are summed, and the numbers that they are multiplied by.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    /// Where each begins.
    pub at: &'a [u32],
    pub times: &'a [f32],
}

impl<'a> Terms<'a> {
    pub fn part(self, part: std::ops::Range<usize>) -> Self {
        Self { at: &self.at[part.clone()], times: &self.times[part] }
    }

    #[inline(always)]
    pub fn each(self) -> impl Iterator<Item = (usize, f32)> + 'a {
        self.at.iter().zip(self.times).map(|(at, times)| (*at as usize, *times))
    }
}

/// Terms that are being listed, with room for [`super::super::vectors::LANES`] more than there can be.
pub(super) struct List<'a> {
    pub at: &'a mut [u32],
    pub times: &'a mut [f32],
}

/// The gradients of windows and their codes, as many of each.
#[derive(Clone, Copy)]
pub(super) struct Windows<'a> {
    pub grads: &'a [f32],
    pub codes: &'a [f32],
}

/// Whether a window passes a gradient on. One of exactly nothing adds nothing; a NaN does.
fn there(grad: f32, code: f32) -> bool {
    code < f32::from(DEAD) && grad != 0.0
}

/// Lists windows from the list's beginning on: `starts` says where the patch of each begins, `places` where that of a place
/// does after it. Returns how many there are.
pub(super) fn in_order(
    arch: Arch,
    windows: Windows<'_>,
    starts: &[u32],
    places: [u32; PLACES],
    list: List<'_>,
) -> usize {
    match arch {
        #[cfg(target_arch = "x86_64")]
        Arch::V4(simd) => packed::in_order(simd, windows, starts, places, list),
        _ => portable::in_order(windows, starts, places, list),
    }
}

/// Lists windows by the places of their winners, each place in a part of the list, `room` apart; what the n-th multiplies is `n`
/// times `step`. Returns how many there are of each place.
pub(super) fn by_place(arch: Arch, windows: Windows<'_>, step: u32, room: usize, list: List<'_>) -> [usize; PLACES] {
    match arch {
        #[cfg(target_arch = "x86_64")]
        Arch::V4(simd) => packed::by_place(simd, windows, step, room, list),
        _ => portable::by_place(windows, step, room, list),
    }
}

mod portable {
    use super::super::super::registers::WHOLE;
    use super::{List, PLACES, Windows, there};

    /// Where a code says that the winner is, or some place for one that says nothing. A conversion would mind what is no whole
    /// number.
    fn place(code: f32) -> usize {
        (code + WHOLE).to_bits() as usize % PLACES
    }

    pub fn in_order(windows: Windows<'_>, starts: &[u32], places: [u32; PLACES], list: List<'_>) -> usize {
        let mut len = 0;
        for ((grad, code), start) in windows.grads.iter().zip(windows.codes).zip(starts) {
            // Written even if it is not there: no processor could foresee the jump.
            list.at[len] = start + places[place(*code)];
            list.times[len] = *grad;
            len += usize::from(there(*grad, *code));
        }
        len
    }

    pub fn by_place(windows: Windows<'_>, step: u32, room: usize, list: List<'_>) -> [usize; PLACES] {
        let mut lens = [0; PLACES];
        for (n, (grad, code)) in (0..).zip(windows.grads.iter().zip(windows.codes)) {
            let place = place(*code);
            let to = place * room + lens[place];
            list.at[to] = n * step;
            list.times[to] = *grad;
            lens[place] += usize::from(there(*grad, *code));
        }
        lens
    }
}

/// The same with AVX-512, which moves those of a vector that are there to its front.
#[cfg(target_arch = "x86_64")]
mod packed {
    use std::arch::x86_64::{__m512, __m512i, _CMP_EQ_OQ, _CMP_LT_OQ, _CMP_NEQ_UQ};

    use pulp::Simd;
    use pulp::x86::V4;

    use super::super::super::vectors::LANES;
    use super::{DEAD, List, PLACES, Windows};

    pub fn in_order(
        simd: V4,
        windows: Windows<'_>,
        starts: &[u32],
        places: [u32; PLACES],
        mut list: List<'_>,
    ) -> usize {
        let f = simd.avx512f;
        simd.vectorize(
            #[inline(always)]
            || {
                let mut table = [0; LANES];
                table[..PLACES].copy_from_slice(&places);
                let (table, dead): (__m512i, __m512) = (bytemuck::cast(table), f._mm512_set1_ps(DEAD.into()));
                let mut len = 0;
                for (first, start) in (0..).step_by(LANES).zip(starts.chunks(LANES)) {
                    let (grads, codes, there) = sixteen(simd, windows, first);
                    let there = there & f._mm512_cmp_ps_mask::<_CMP_LT_OQ>(codes, dead);
                    let places = f._mm512_permutexvar_epi32(f._mm512_cvttps_epi32(codes), table);
                    let at = f._mm512_add_epi32(integers(simd, start), places);
                    len += put(simd, there, (at, grads), &mut list, len);
                }
                len
            },
        )
    }

    pub fn by_place(simd: V4, windows: Windows<'_>, step: u32, room: usize, mut list: List<'_>) -> [usize; PLACES] {
        let f = simd.avx512f;
        simd.vectorize(
            #[inline(always)]
            || {
                let mut lens = [0; PLACES];
                let mut at: __m512i = bytemuck::cast(std::array::from_fn::<u32, LANES, _>(|n| n as u32 * step));
                let next = f._mm512_set1_epi32((LANES as u32 * step) as i32);
                for first in (0..windows.grads.len()).step_by(LANES) {
                    let (grads, codes, there) = sixteen(simd, windows, first);
                    for (place, len) in lens.iter_mut().enumerate() {
                        let won = f._mm512_cmp_ps_mask::<_CMP_EQ_OQ>(codes, f._mm512_set1_ps(place as f32));
                        *len += put(simd, there & won, (at, grads), &mut list, place * room + *len);
                    }
                    at = f._mm512_add_epi32(at, next);
                }
                lens
            },
        )
    }

    /// Gradients and codes of the windows from `first` on, and which are there and not nothing.
    #[inline(always)]
    fn sixteen(simd: V4, windows: Windows<'_>, first: usize) -> (__m512, __m512, u16) {
        let f = simd.avx512f;
        let count = (windows.grads.len() - first).min(LANES);
        let [grads, codes] = [windows.grads, windows.codes].map(|all| floats(simd, &all[first..][..count]));
        let there = f._mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(grads, f._mm512_setzero_ps());
        (grads, codes, there)
    }

    /// Up to sixteen numbers, and zeros behind them.
    #[inline(always)]
    fn floats(simd: V4, from: &[f32]) -> __m512 {
        match from.first_chunk::<LANES>() {
            Some(whole) => bytemuck::cast(*whole),
            None => bytemuck::cast(simd.partial_load_f32s(from)),
        }
    }

    #[inline(always)]
    fn integers(simd: V4, from: &[u32]) -> __m512i {
        match from.first_chunk::<LANES>() {
            Some(whole) => bytemuck::cast(*whole),
            None => bytemuck::cast(simd.partial_load_u32s(from)),
        }
    }

    /// Writes the terms that are `there` from place `to` on, something behind them, and says how many they are.
    #[inline(always)]
    fn put(simd: V4, there: u16, (at, times): (__m512i, __m512), list: &mut List<'_>, to: usize) -> usize {
        let f = simd.avx512f;
        let at: [u32; LANES] = bytemuck::cast(f._mm512_maskz_compress_epi32(there, at));
        let times: [f32; LANES] = bytemuck::cast(f._mm512_maskz_compress_ps(there, times));
        list.at[to..][..LANES].copy_from_slice(&at);
        list.times[to..][..LANES].copy_from_slice(&times);
        there.count_ones() as usize
    }
}
