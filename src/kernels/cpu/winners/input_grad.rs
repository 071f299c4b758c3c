//! The gradients of a chunk's images.

use pulp::{Arch, Simd, WithSimd};

use super::super::packed::{Images, blank, with_filters, with_scratch};
use super::super::turn::{Row, put, turn};
use super::super::vectors::LANES;
use super::Frame;
use super::list::{List, PLACES, Terms, Windows, by_place};
use crate::kernels::CHUNK;
use crate::kernels::shape::Conv;

/// Channels of a part: one of the widest vectors, since a window takes as many registers as it reads pixels.
const WIDE: usize = LANES;

/// Words of the filters that window after window reads: what the first-level cache holds.
const NEAR: usize = 9 << 10;

/// Words of the gradients that are being summed, for the second-level cache.
const SUMS: usize = 64 << 10;

/// The filters of one slot, `[block][part][M of the block][tap][WIDE]`.
#[derive(Clone, Copy, Debug)]
pub struct Filters<'a> {
    arch: Arch,
    frame: Frame,
    /// Filters of a block.
    block: usize,
    words: &'a [f32],
}

impl Filters<'_> {
    /// Calls `work` with filters `[M][C][ky][kx]`.
    pub fn with(conv: &Conv, weights: &[f32], work: impl FnOnce(Filters<'_>)) {
        Self::on(Arch::new(), conv, weights, work);
    }

    /// The same with some of the processor's instructions.
    pub fn on(arch: Arch, conv: &Conv, weights: &[f32], work: impl FnOnce(Filters<'_>)) {
        let (frame, square) = (Frame::new(conv, WIDE), conv.kernel * conv.kernel);
        let block = (NEAR / (square * WIDE)).clamp(1, conv.out_channels);
        with_filters(frame.parts() * conv.out_channels * square * WIDE, |words| {
            words.fill(0.0);
            let blocks = weights.chunks(block * conv.in_channels * square);
            for (weights, words) in blocks.zip(words.chunks_mut(block * frame.parts() * square * WIDE)) {
                let count = weights.len() / (conv.in_channels * square);
                for (part, words) in words.chunks_exact_mut(count * square * WIDE).enumerate() {
                    let channels = frame.channels(part);
                    let row = Row::by_pixel(1, square, channels.len(), WIDE);
                    let each = weights.chunks_exact(conv.in_channels * square);
                    for (weights, words) in each.zip(words.chunks_exact_mut(square * WIDE)) {
                        turn(row, &weights[channels.start * square..], (square, 0), words);
                    }
                }
            }
            work(Filters { arch, frame, block, words });
        });
    }
}

/// The input gradient of a chunk's images, to its `[C][H][W]` pieces. `grad` are the output's gradients and its codes,
/// `[M][PH][PW][B]`.
pub fn input_grad(filters: Filters<'_>, chunk: Images, grad: (&[f32], &[u8]), to: &mut [&mut [f32]]) {
    blank(to, chunk.real);
    let frame = &filters.frame;
    unread(frame, chunk.real, to);
    let strip = (frame.conv.kernel + 1) * frame.row();
    let most = (SUMS / (frame.parts() * strip) / 4 * 4).clamp(4, CHUNK);
    for from in (0..chunk.real).step_by(most) {
        let images = Images { first: chunk.first + from, real: (chunk.real - from).min(most), ..chunk };
        some(filters, images, from, grad, to);
    }
}

/// Pixels that no window reads have no gradient.
fn unread(frame: &Frame, images: usize, to: &mut [&mut [f32]]) {
    let (conv, columns) = (&frame.conv, frame.columns());
    let rows = conv.height.min(frame.height - conv.padding);
    for (i, row) in to.chunks_exact_mut(conv.width).enumerate() {
        let first = if i % conv.height < rows { columns } else { 0 };
        row[first..].iter_mut().for_each(|pixel| pixel[..images].fill(0.0));
    }
}

/// The same of some images, `from` the chunk's first.
fn some(filters: Filters<'_>, images: Images, from: usize, grad: (&[f32], &[u8]), to: &mut [&mut [f32]]) {
    let Filters { arch, frame, block, words: all } = filters;
    let conv = &frame.conv;
    let (high, line, outputs) = (conv.kernel + 1, images.real * frame.row(), conv.out_channels);
    let ((height, width), room) = (conv.pooled(), block + LANES);
    let lists = images.real * PLACES * room;
    let words = [frame.parts() * high * line, images.real * outputs, images.real * outputs, lists, lists];
    let filter = conv.kernel * conv.kernel * WIDE;
    with_scratch(words, |[sums, grads, codes, at, times]| {
        let at: &mut [u32] = bytemuck::cast_slice_mut(at);
        let mut lens = vec![[0; PLACES]; images.real];
        sums.fill(0.0);
        for py in 0..height {
            for px in 0..width {
                let row = Row::by_pixel(1, images.real, outputs, outputs);
                let (window, step) = ((py * width + px) * images.stride + images.first, height * width * images.stride);
                turn(row, &grad.0[window..], (step, 0), grads);
                turn(row, &grad.1[window..], (step, 0), codes);
                for first in (0..outputs).step_by(block) {
                    let count = block.min(outputs - first);
                    for (b, lens) in lens.iter_mut().enumerate() {
                        let some = b * outputs + first..b * outputs + first + count;
                        let list = b * PLACES * room..(b + 1) * PLACES * room;
                        let list = List { at: &mut at[list.clone()], times: &mut times[list] };
                        let windows = Windows { grads: &grads[some.clone()], codes: &codes[some] };
                        *lens = by_place(arch, windows, filter as u32, room, list);
                    }
                    let words = &all[first * frame.parts() * filter..][..count * frame.parts() * filter];
                    let lists = Lists { room, at, times, lens: &lens };
                    arch.dispatch(Window { frame, lists, words, at: 2 * px * WIDE, line, sums });
                }
            }
            let ready = if py + 1 == height { high } else { 2 };
            for (part, sums) in sums.chunks_exact_mut(high * line).enumerate() {
                for (y, line) in sums.chunks_exact(line).take(ready).enumerate() {
                    if let Some(y) = frame.row_of(2 * py + y) {
                        emit(&frame, (part, y), (line, images.real, from), to);
                    }
                }
                // The next row of windows goes on with the others.
                sums.copy_within(2 * line.., 0);
                sums[(high - 2) * line..].fill(0.0);
            }
        }
    });
}

/// A row of the input of one part to its places.
fn emit(frame: &Frame, (part, y): (usize, usize), (line, images, from): (&[f32], usize, usize), to: &mut [&mut [f32]]) {
    let (conv, channels) = (&frame.conv, frame.channels(part));
    let pixels = conv.height * conv.width;
    let row = Row { pixels: frame.columns(), images, channels: channels.len(), pixel: WIDE, image: frame.row() };
    let pieces = &mut to[channels.start * pixels + y * conv.width..];
    put(row, &line[conv.padding * WIDE..], pieces, (pixels, from));
}

/// The lists of each image: its terms by the places of their winners, each place with room for `room`.
struct Lists<'a> {
    room: usize,
    at: &'a [u32],
    times: &'a [f32],
    lens: &'a [[usize; PLACES]],
}

/// Adds what one window of all images passes on.
struct Window<'a> {
    frame: Frame,
    lists: Lists<'a>,
    /// `[part][M][tap][WIDE]`.
    words: &'a [f32],
    /// Where in a row the window's patch begins.
    at: usize,
    /// Words of a row of all images.
    line: usize,
    /// `[part][y][image][x][WIDE]`.
    sums: &'a mut [f32],
}

impl WithSimd for Window<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (self.frame.conv.kernel, S::REGISTER_COUNT >= 32) {
            (3, true) => self.by::<S, 3, 4, 4>(simd),
            (3, false) => self.by::<S, 3, 4, 3>(simd),
            (_, true) => self.by::<S, 5, 6, 3>(simd),
            (_, false) => self.by::<S, 5, 6, 2>(simd),
        }
    }
}

impl Window<'_> {
    /// Patches of `N` x `N` pixels, `R` rows at a time: where that is `K`, so many from each row of places on.
    #[inline(always)]
    fn by<S: Simd, const K: usize, const N: usize, const R: usize>(self, simd: S) {
        let Self { frame, lists: Lists { room, at, times, lens }, words, at: column, line, sums } = self;
        let filters = words.len() / frame.parts();
        for (words, sums) in words.chunks_exact(filters).zip(sums.chunks_exact_mut(N * line)) {
            for (b, lens) in lens.iter().enumerate() {
                let list = |place: usize| {
                    let from = (b * PLACES + place) * room;
                    Terms { at, times }.part(from..from + lens[place])
                };
                let lists = [list(0), list(1), list(2), list(3)];
                add::<S, K, N, R>(simd, lists, words, &mut sums[b * frame.row() + column..], line);
            }
        }
    }
}

/// `sums += sum over the terms of each place of times * filter`; the rows of `sums` are `line` words apart.
#[inline(always)]
fn add<S: Simd, const K: usize, const N: usize, const R: usize>(
    simd: S,
    lists: [Terms<'_>; PLACES],
    words: &[f32],
    sums: &mut [f32],
    line: usize,
) {
    // `K` rows at a time begin where those of a row of places do, and are no other place's.
    let (step, by_place) = if R == K { (1, true) } else { (R, false) };
    for v in 0..WIDE / S::F32_LANES {
        for y in (0..=N - R).step_by(step) {
            let mut patch = rows::<S, N, R>(simd, sums, line, (y, v));
            if !by_place || y == 0 {
                place::<S, K, N, R, 0, 0>(simd, lists[0], words, (y, v), &mut patch);
                place::<S, K, N, R, 0, 1>(simd, lists[1], words, (y, v), &mut patch);
            }
            if !by_place || y == 1 {
                place::<S, K, N, R, 1, 0>(simd, lists[2], words, (y, v), &mut patch);
                place::<S, K, N, R, 1, 1>(simd, lists[3], words, (y, v), &mut patch);
            }
            put_rows::<S, N, R>(sums, line, (y, v), patch);
        }
    }
}

/// Vector `v` of the pixels of rows `y` to `y + R` of a patch.
#[inline(always)]
fn rows<S: Simd, const N: usize, const R: usize>(
    simd: S,
    sums: &[f32],
    line: usize,
    (y, v): (usize, usize),
) -> [[S::f32s; N]; R] {
    let mut patch = [[simd.splat_f32s(0.0); N]; R];
    for r in 0..R {
        let row = S::as_simd_f32s(&sums[(y + r) * line..][..N * WIDE]).0;
        for x in 0..N {
            patch[r][x] = row[x * (WIDE / S::F32_LANES) + v];
        }
    }
    patch
}

/// Writes them back.
#[inline(always)]
fn put_rows<S: Simd, const N: usize, const R: usize>(
    sums: &mut [f32],
    line: usize,
    (y, v): (usize, usize),
    patch: [[S::f32s; N]; R],
) {
    for r in 0..R {
        let row = S::as_mut_simd_f32s(&mut sums[(y + r) * line..][..N * WIDE]).0;
        for x in 0..N {
            row[x * (WIDE / S::F32_LANES) + v] = patch[r][x];
        }
    }
}

/// Rows `y` to `y + R` of what the winners at place (`WY`, `WX`) add.
#[inline(always)]
fn place<S: Simd, const K: usize, const N: usize, const R: usize, const WY: usize, const WX: usize>(
    simd: S,
    terms: Terms<'_>,
    words: &[f32],
    (y, v): (usize, usize),
    patch: &mut [[S::f32s; N]; R],
) {
    let vectors = WIDE / S::F32_LANES;
    let mut sums = *patch;
    for (at, times) in terms.each() {
        let times = simd.splat_f32s(times);
        let filter = S::as_simd_f32s(&words[at..][..K * K * WIDE]).0;
        for (r, sums) in sums.iter_mut().enumerate() {
            let Some(ky) = (y + r).checked_sub(WY).filter(|ky| *ky < K) else { continue };
            for (kx, sum) in sums[WX..WX + K].iter_mut().enumerate() {
                *sum = simd.mul_add_e_f32s(times, filter[(ky * K + kx) * vectors + v], *sum);
            }
        }
    }
    *patch = sums;
}
