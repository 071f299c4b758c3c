//! The gradients of weights and biases, summed over a chunk's images.

use pulp::{Arch, Simd, WithSimd};

use super::super::packed::{Images, apart, with_scratch};
use super::super::turn::{Row, turn};
use super::super::vectors::LANES;
use super::Frame;
use super::list::{List, Terms, Windows, in_order};
use crate::kernels::CHUNK;
use crate::kernels::shape::Conv;

/// Channels of a part: two of the widest vectors.
const WIDE: usize = 32;

/// Words of the input that one filter after another reads: what the first-level cache holds beside the lists.
const NEAR: usize = 8 << 10;

/// Words of the input that are turned at a time, for the second-level cache.
const TURNED: usize = 64 << 10;

/// How a chunk is cut: by the shape alone, so that no bit depends on the batch.
#[derive(Clone, Copy, Debug)]
struct Cut {
    frame: Frame,
    /// Images that are turned at a time.
    images: usize,
    /// Of those, images and rows of windows of one visit of a filter.
    few: usize,
    rows: usize,
}

/// What is gone through for one filter after another.
#[derive(Clone, Debug)]
struct Visit {
    images: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
}

impl Cut {
    fn new(conv: &Conv) -> Self {
        let frame = Frame::new(conv, WIDE);
        let image = frame.height * frame.row();
        let few = (NEAR / image).clamp(1, 8);
        let images = (TURNED / (image * frame.parts()) / few * few).clamp(few, CHUNK);
        let rows = (NEAR / frame.row()).saturating_sub(conv.kernel - 1) / 2;
        Self { frame, images, few, rows: rows.clamp(1, conv.pooled().0.max(1)) }
    }

    /// Words from an image of one part to the next.
    fn image(&self) -> usize {
        apart(self.frame.height * self.frame.row())
    }

    /// The same for a chunk of so many: alike for all its parts, since a few that are left over are turned slowly. No bit
    /// depends on it, as visits begin where they did.
    fn at_once(&self, real: usize) -> usize {
        let parts = real.div_ceil(self.images).max(1);
        real.div_ceil(parts).next_multiple_of(self.few).min(real)
    }

    fn visits(self, images: usize) -> impl Iterator<Item = Visit> {
        let height = self.frame.conv.pooled().0;
        (0..images).step_by(self.few).flat_map(move |b| {
            let of =
                move |y: usize| Visit { images: b..(b + self.few).min(images), rows: y..(y + self.rows).min(height) };
            (0..height).step_by(self.rows).map(of)
        })
    }
}

/// `[M x C x k x k weights, then M biases]` of a chunk's images. `grad` are the output's gradients and its codes,
/// `[M][PH][PW][B]`.
pub fn weight_grad(conv: &Conv, chunk: Images, input: &[f32], grad: (&[f32], &[u8]), partial: &mut [f32]) {
    on(Arch::new(), conv, chunk, input, grad, partial);
}

/// The same with some of the processor's instructions.
pub(super) fn on(arch: Arch, conv: &Conv, chunk: Images, input: &[f32], grad: (&[f32], &[u8]), partial: &mut [f32]) {
    let cut = Cut::new(conv);
    let (weights, biases) = partial.split_at_mut(conv.weights());
    biases.fill(0.0);
    let at_once = cut.at_once(chunk.real);
    let (height, width) = conv.pooled();
    let pixels = height * width * at_once;
    let most = pixels * conv.out_channels + LANES;
    let block = conv.kernel * conv.kernel * WIDE;
    let turned = cut.frame.parts() * at_once * cut.image();
    let words = [turned, cut.frame.parts() * conv.out_channels * block, pixels, pixels, most, most];
    with_scratch(words, |[turned, sums, grads, codes, at, times]| {
        clear(&cut, at_once, turned);
        sums.fill(0.0);
        for from in (0..chunk.real).step_by(at_once.max(1)) {
            let images = Images { first: chunk.first + from, real: (chunk.real - from).min(at_once), ..chunk };
            fill(&cut, images, at_once, input, turned);
            let lists = (bytemuck::cast_slice_mut(at), &mut *times);
            let ends = list(arch, cut, images, grad, (&mut *grads, &mut *codes), lists, biases);
            let terms = Terms { at: bytemuck::cast_slice(at), times };
            arch.dispatch(Sums { cut, at_once, ends: &ends, terms, turned, sums });
        }
        scatter(&cut.frame, sums, weights);
    });
}

/// Zeroes what lies around the images' pixels, and channels that are not there.
fn clear(cut: &Cut, at_once: usize, turned: &mut [f32]) {
    let frame = &cut.frame;
    let (before, inside) = (frame.conv.padding * WIDE, frame.columns() * WIDE);
    for (part, turned) in turned.chunks_exact_mut(at_once.max(1) * cut.image()).enumerate() {
        let whole = frame.channels(part).len() == WIDE;
        for image in turned.chunks_exact_mut(cut.image()) {
            for (y, row) in image.chunks_exact_mut(frame.row()).take(frame.height).enumerate() {
                match frame.row_of(y) {
                    Some(_) if whole => {
                        row[..before].fill(0.0);
                        row[before + inside..].fill(0.0);
                    }
                    _ => row.fill(0.0),
                }
            }
        }
    }
}

/// Turns images of one slot, `[C][H][W][B]`, into `[part][image][y][x][WIDE]`.
fn fill(cut: &Cut, images: Images, at_once: usize, input: &[f32], to: &mut [f32]) {
    let (frame, conv) = (&cut.frame, &cut.frame.conv);
    let pixels = conv.height * conv.width;
    for (part, to) in to.chunks_exact_mut(at_once * cut.image()).enumerate() {
        let channels = frame.channels(part);
        let (count, columns) = (channels.len(), frame.columns());
        let row = Row { pixels: columns, images: images.real, channels: count, pixel: WIDE, image: cut.image() };
        for y in 0..frame.height {
            if let Some(from) = frame.row_of(y) {
                let input = &input[(channels.start * pixels + from * conv.width) * images.stride + images.first..];
                let to = &mut to[y * frame.row() + conv.padding * WIDE..];
                turn(row, input, (pixels * images.stride, images.stride), to);
            }
        }
    }
}

/// Lists every filter's terms, visit by visit, and returns where the lists end. Adds their sums to `biases`.
fn list(
    arch: Arch,
    cut: Cut,
    images: Images,
    grad: (&[f32], &[u8]),
    (grads, codes): (&mut [f32], &mut [f32]),
    (at, times): (&mut [u32], &mut [f32]),
    biases: &mut [f32],
) -> Vec<usize> {
    let (height, width) = cut.frame.conv.pooled();
    let (windows, row) = (height * width, cut.frame.row());
    let places = |image: usize| [0, WIDE, row, row + WIDE].map(|word| (image * cut.image() + word) as u32);
    let starts: Vec<u32> = (0..windows).map(|w| 2 * (w / width * row + w % width * WIDE) as u32).collect();
    let mut ends = Vec::with_capacity(biases.len() * cut.visits(images.real).count());
    let mut len = 0;
    for (m, bias) in biases.iter_mut().enumerate() {
        let turned = Row::by_pixel(1, images.real, windows, windows);
        let from = m * windows * images.stride + images.first;
        turn(turned, &grad.0[from..], (images.stride, 0), grads);
        turn(turned, &grad.1[from..], (images.stride, 0), codes);
        for visit in cut.visits(images.real) {
            let begin = len;
            let some = visit.rows.start * width..visit.rows.end * width;
            for b in visit.images {
                let here = b * windows + some.start..b * windows + some.end;
                let windows = Windows { grads: &grads[here.clone()], codes: &codes[here] };
                let list = List { at: &mut at[len..], times: &mut times[len..] };
                len += in_order(arch, windows, &starts[some.clone()], places(b), list);
            }
            *bias += total(&times[begin..len]);
            ends.push(len);
        }
    }
    ends
}

/// The sum, by eights: no addition waits for the one before.
fn total(numbers: &[f32]) -> f32 {
    let (eights, rest) = numbers.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for eight in eights {
        sums.iter_mut().zip(eight).for_each(|(sum, number)| *sum += number);
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

/// Goes through the lists of all filters, visit by visit, so that what they read stays near.
struct Sums<'a> {
    cut: Cut,
    at_once: usize,
    ends: &'a [usize],
    terms: Terms<'a>,
    turned: &'a [f32],
    /// `[part][M][tap][WIDE]`, added to.
    sums: &'a mut [f32],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Two vectors of every tap where there are registers for them.
        match (self.cut.frame.conv.kernel, S::REGISTER_COUNT >= 32 && S::F32_LANES < WIDE) {
            (3, true) => self.by::<S, 3, 3, 2>(simd),
            (3, false) => self.by::<S, 3, 3, 1>(simd),
            (_, true) => self.by::<S, 5, 1, 2>(simd),
            (_, false) => self.by::<S, 5, 1, 1>(simd),
        }
    }
}

impl Sums<'_> {
    /// `R` rows of `K` taps of `V` vectors at a time.
    #[inline(always)]
    fn by<S: Simd, const K: usize, const R: usize, const V: usize>(self, simd: S) {
        let Self { cut, at_once, ends, terms, turned, sums } = self;
        let (frame, filters) = (cut.frame, cut.frame.conv.out_channels);
        let (visits, block) = (ends.len() / filters, K * K * WIDE);
        for visit in 0..visits {
            let parts = turned.chunks_exact(at_once * cut.image()).zip(sums.chunks_exact_mut(filters * block));
            for (turned, sums) in parts {
                for (m, sums) in sums.chunks_exact_mut(block).enumerate() {
                    let list = m * visits + visit;
                    let terms = terms.part(if list == 0 { 0 } else { ends[list - 1] }..ends[list]);
                    if !terms.at.is_empty() {
                        add::<S, K, R, V>(simd, terms, (turned, frame.row()), sums);
                    }
                }
            }
        }
    }
}

/// `sums += sum over terms of times * patch`, where the rows of a patch are `step` words apart and those of `sums` follow
/// each other.
#[inline(always)]
fn add<S: Simd, const K: usize, const R: usize, const V: usize>(
    simd: S,
    terms: Terms<'_>,
    (turned, step): (&[f32], usize),
    sums: &mut [f32],
) {
    let sums = S::as_mut_simd_f32s(sums).0;
    let vectors = WIDE / S::F32_LANES;
    for ky in (0..K).step_by(R) {
        for first in (0..vectors).step_by(V) {
            let place = |r: usize, k: usize, v: usize| ((ky + r) * K + k) * vectors + first + v;
            let mut block = [[[simd.splat_f32s(0.0); V]; K]; R];
            for r in 0..R {
                for k in 0..K {
                    for v in 0..V {
                        block[r][k][v] = sums[place(r, k, v)];
                    }
                }
            }
            for (at, times) in terms.each() {
                let times = simd.splat_f32s(times);
                for r in 0..R {
                    let row = S::as_simd_f32s(&turned[at + (ky + r) * step..][..K * WIDE]).0;
                    for k in 0..K {
                        for v in 0..V {
                            block[r][k][v] = simd.mul_add_e_f32s(times, row[k * vectors + first + v], block[r][k][v]);
                        }
                    }
                }
            }
            for r in 0..R {
                for k in 0..K {
                    for v in 0..V {
                        sums[place(r, k, v)] = block[r][k][v];
                    }
                }
            }
        }
    }
}

/// `[part][M][tap][WIDE]` to `[M][C][tap]`.
fn scatter(frame: &Frame, sums: &[f32], weights: &mut [f32]) {
    let conv = &frame.conv;
    let square = conv.kernel * conv.kernel;
    for (part, sums) in sums.chunks_exact(conv.out_channels * square * WIDE).enumerate() {
        let channels = frame.channels(part);
        let filters = sums.chunks_exact(square * WIDE).zip(weights.chunks_exact_mut(conv.in_channels * square));
        for (sums, weights) in filters {
            let row = Row::by_pixel(1, channels.len(), square, square);
            turn(row, sums, (WIDE, 0), &mut weights[channels.start * square..]);
        }
    }
}
