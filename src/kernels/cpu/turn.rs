//! Images innermost and channels innermost, the one from the other.

/// A row of pixels, with channels innermost on one side and pieces of images on the other.
#[derive(Clone, Copy)]
pub struct Row {
    pub pixels: usize,
    pub images: usize,
    pub channels: usize,
    /// The steps between pixels and between images where channels are innermost.
    pub pixel: usize,
    pub image: usize,
}

impl Row {
    /// `[x][image][channel]`, the channels in rows of `width`.
    pub fn by_pixel(pixels: usize, images: usize, channels: usize, width: usize) -> Self {
        Self { pixels, images, channels, pixel: images * width, image: width }
    }

    /// Where the channels of an image of a pixel begin.
    #[inline(always)]
    fn at(self, x: usize, b: usize) -> usize {
        x * self.pixel + b * self.image
    }

    /// Calls `one` with every channel, pixel and image.
    fn each(self, mut one: impl FnMut(usize, usize, usize)) {
        for c in 0..self.channels {
            for x in 0..self.pixels {
                (0..self.images).for_each(|b| one(c, x, b));
            }
        }
    }
}

/// A number of an image: a value, or a code, a small whole number.
pub trait Number: Copy {
    fn of(value: f32) -> Self;
    fn value(self) -> f32;
}

impl Number for f32 {
    #[inline(always)]
    fn of(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
}

impl Number for u8 {
    #[inline(always)]
    fn of(value: f32) -> Self {
        value as u8
    }

    #[inline(always)]
    fn value(self) -> f32 {
        self.into()
    }
}

/// `to[x][b][c] = from[c][x][b]`, where the channels of `from` are `channel` apart and its pixels `pixel`.
pub fn turn<T: Number>(row: Row, from: &[T], (channel, pixel): (usize, usize), to: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = squares::apply(row) {
        return squares::turn(simd, row, from, (channel, pixel), to);
    }
    row.each(|c, x, b| to[row.at(x, b) + c] = from[c * channel + x * pixel + b].value());
}

/// `pieces[c * step + x][at + b] = from[x][b][c]`.
pub fn put<T: Number>(row: Row, from: &[f32], pieces: &mut [&mut [T]], (step, at): (usize, usize)) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = squares::apply(row) {
        return squares::put(simd, row, from, pieces, (step, at));
    }
    row.each(|c, x, b| pieces[c * step + x][at + b] = T::of(from[row.at(x, b) + c]));
}

/// The same by squares: four images of four channels and of the four after them, in the two halves of a register. The loops
/// stand in both: from a closure inside of a common one the instructions become calls, and training takes over twice as long.
#[cfg(target_arch = "x86_64")]
mod squares {
    use std::arch::x86_64::{__m128, __m256};

    use pulp::x86::V3;

    use super::super::vectors::steps;
    use super::{Number, Row};

    /// Whether there are as many images and channels as a square has.
    pub fn apply(row: Row) -> Option<V3> {
        V3::try_new().filter(|_| row.images >= 4 && row.channels >= 8)
    }

    pub fn turn<T: Number>(simd: V3, row: Row, from: &[T], (channel, pixel): (usize, usize), to: &mut [f32]) {
        simd.vectorize(
            #[inline(always)]
            || {
                for c in steps::<8>(row.channels) {
                    for x in 0..row.pixels {
                        for b in steps::<4>(row.images) {
                            let square = channels(simd, &from[c * channel + x * pixel + b..], channel);
                            for (n, channels) in transpose(simd, square).into_iter().enumerate() {
                                let channels: [f32; 8] = bytemuck::cast(channels);
                                to[row.at(x, b + n) + c..][..8].copy_from_slice(&channels);
                            }
                        }
                    }
                }
            },
        );
    }

    pub fn put<T: Number>(simd: V3, row: Row, from: &[f32], pieces: &mut [&mut [T]], (step, at): (usize, usize)) {
        simd.vectorize(
            #[inline(always)]
            || {
                for c in steps::<8>(row.channels) {
                    for x in 0..row.pixels {
                        for b in steps::<4>(row.images) {
                            let square = images(&from[row.at(x, b) + c..], row.image);
                            for (i, both) in transpose(simd, square).into_iter().enumerate() {
                                let [low, high]: [[f32; 4]; 2] = bytemuck::cast(both);
                                store(low, &mut pieces[(c + i) * step + x][at + b..]);
                                store(high, &mut pieces[(c + i + 4) * step + x][at + b..]);
                            }
                        }
                    }
                }
            },
        );
    }

    /// Four images of channels `step` apart.
    #[inline(always)]
    fn channels<T: Number>(simd: V3, from: &[T], step: usize) -> [__m256; 4] {
        [
            join(simd, load(from), load(&from[4 * step..])),
            join(simd, load(&from[step..]), load(&from[5 * step..])),
            join(simd, load(&from[2 * step..]), load(&from[6 * step..])),
            join(simd, load(&from[3 * step..]), load(&from[7 * step..])),
        ]
    }

    /// Eight channels of images `step` apart.
    #[inline(always)]
    fn images(from: &[f32], step: usize) -> [__m256; 4] {
        [eight(from), eight(&from[step..]), eight(&from[2 * step..]), eight(&from[3 * step..])]
    }

    #[inline(always)]
    fn eight(from: &[f32]) -> __m256 {
        bytemuck::cast(*from.first_chunk::<8>().expect(WHOLE))
    }

    const WHOLE: &str = "a whole square";

    #[inline(always)]
    fn load<T: Number>(from: &[T]) -> __m128 {
        let [a, b, c, d] = *from.first_chunk::<4>().expect(WHOLE);
        bytemuck::cast([a.value(), b.value(), c.value(), d.value()])
    }

    #[inline(always)]
    fn store<T: Number>([a, b, c, d]: [f32; 4], to: &mut [T]) {
        *to.first_chunk_mut().expect(WHOLE) = [T::of(a), T::of(b), T::of(c), T::of(d)];
    }

    #[inline(always)]
    fn join(simd: V3, low: __m128, high: __m128) -> __m256 {
        simd.avx._mm256_insertf128_ps::<1>(simd.avx._mm256_castps128_ps256(low), high)
    }

    /// In each half, rows of four as columns.
    #[inline(always)]
    fn transpose(simd: V3, [a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
        let avx = simd.avx;
        let (ab, cd) = (avx._mm256_unpacklo_ps(a, b), avx._mm256_unpacklo_ps(c, d));
        let (after_ab, after_cd) = (avx._mm256_unpackhi_ps(a, b), avx._mm256_unpackhi_ps(c, d));
        [
            avx._mm256_shuffle_ps::<0x44>(ab, cd),
            avx._mm256_shuffle_ps::<0xee>(ab, cd),
            avx._mm256_shuffle_ps::<0x44>(after_ab, after_cd),
            avx._mm256_shuffle_ps::<0xee>(after_ab, after_cd),
        ]
    }
}
