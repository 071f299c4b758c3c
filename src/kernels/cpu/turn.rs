//! Images innermost and channels innermost, the one from the other.

use super::registers;

/// A row of pixels, with channels innermost on one side and pieces of images on the other.
#[derive(Clone, Copy, Debug)]
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
        // Without the bounds of a cast.
        (value + registers::WHOLE).to_bits() as u8
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

    use super::super::vectors::{each, steps};
    use super::{Number, Row};

    /// Whether there are as many images and channels as a square has.
    pub fn apply(row: Row) -> Option<V3> {
        V3::try_new().filter(|_| row.images >= 4 && row.channels >= 8)
    }

    pub fn turn<T: Number>(simd: V3, row: Row, from: &[T], (channel, pixel): (usize, usize), to: &mut [f32]) {
        simd.vectorize(
            #[inline(always)]
            move || {
                let Row { pixels, images, channels, pixel: step, image } = row;
                // What is read of a channel, all eight of the same length, so that one comparison holds for all.
                let reach = pixels.saturating_sub(1) * pixel + images;
                for c in steps::<8>(channels) {
                    let rows: [&[T]; 8] = each(|i| &from[(c + i) * channel..][..reach]);
                    for x in 0..pixels {
                        let to = &mut to[x * step + c..];
                        for b in steps::<4>(images) {
                            let square = joined(simd, rows, x * pixel + b);
                            for (n, channels) in transpose(simd, square).into_iter().enumerate() {
                                let channels: [f32; 8] = bytemuck::cast(channels);
                                to[(b + n) * image..][..8].copy_from_slice(&channels);
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
            move || {
                let Row { pixels, images, channels, pixel, image } = row;
                for c in steps::<8>(channels) {
                    let mut rows = pieces[c * step..].chunks_mut(step);
                    let mut next = || rows.next().expect(WHOLE);
                    let mut rows: [&mut [&mut [T]]; 8] =
                        [next(), next(), next(), next(), next(), next(), next(), next()];
                    for x in 0..pixels {
                        let from = &from[x * pixel + c..];
                        // All eight of the same length, so that one comparison holds for all; spelled out, since what `map` makes
                        // would go over memory.
                        let [a, b, c, d, e, f, g, h] = &mut rows;
                        let of = (x, at, images);
                        let to = [
                            cut(a, of),
                            cut(b, of),
                            cut(c, of),
                            cut(d, of),
                            cut(e, of),
                            cut(f, of),
                            cut(g, of),
                            cut(h, of),
                        ];
                        for b in steps::<4>(images) {
                            let square = transpose(simd, apart(&from[b * image..], image));
                            for (i, both) in square.into_iter().enumerate() {
                                let [low, high]: [[f32; 4]; 2] = bytemuck::cast(both);
                                store(low, &mut to[i][b..]);
                                store(high, &mut to[i + 4][b..]);
                            }
                        }
                    }
                }
            },
        );
    }

    /// So many images from number `at` on of piece `x`.
    #[inline(always)]
    fn cut<'a, T>(pieces: &'a mut [&mut [T]], (x, at, images): (usize, usize, usize)) -> &'a mut [T] {
        &mut pieces[x][at..][..images]
    }

    /// Four images of eight channels, from number `at` of each on.
    #[inline(always)]
    fn joined<T: Number>(simd: V3, rows: [&[T]; 8], at: usize) -> [__m256; 4] {
        let load = |row: &[T]| load(&row[at..]);
        let [a, b, c, d, e, f, g, h] = rows;
        [
            join(simd, load(a), load(e)),
            join(simd, load(b), load(f)),
            join(simd, load(c), load(g)),
            join(simd, load(d), load(h)),
        ]
    }

    /// Eight channels of images `step` apart.
    #[inline(always)]
    fn apart(from: &[f32], step: usize) -> [__m256; 4] {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers are found again where `Row` says, in squares and in rows too short for one; nothing else is written.
    #[test]
    fn numbers_are_found_where_they_were_put() {
        for (pixels, images, channels) in [(1, 4, 8), (3, 10, 49), (7, 5, 17), (2, 3, 8), (2, 6, 7), (1, 13, 64)] {
            let (width, stride) = (channels + 3, images + 2);
            let (pixel, channel) = (stride, pixels * stride + 5);
            let row = Row::by_pixel(pixels, images, channels, width);
            let from: Vec<f32> = (0..channels * channel).map(|i| i as f32).collect();
            let mut turned = vec![-1.0; pixels * images * width];
            turn(row, &from, (channel, pixel), &mut turned);
            let codes: Vec<u8> = from.iter().map(|value| (*value as usize % 256) as u8).collect();
            let mut turned_codes = vec![-1.0; turned.len()];
            turn(row, &codes, (channel, pixel), &mut turned_codes);
            for (i, (value, code)) in turned.iter().zip(&turned_codes).enumerate() {
                let (x, b, c) = (i / width / images, i / width % images, i % width);
                let at = c * channel + x * pixel + b;
                let want = if c < channels { (from[at], f32::from(codes[at])) } else { (-1.0, -1.0) };
                assert_eq!((*value, *code), want, "{row:?} {x} {b} {c}");
            }
            back(row, &turned, |c, x, b| from[c * channel + x * pixel + b]);
            back(row, &turned_codes, |c, x, b| codes[c * channel + x * pixel + b]);
        }
    }

    /// Puts them where there are three pixels too many, and one image before and one behind.
    fn back<T: Number + PartialEq + std::fmt::Debug>(
        row: Row,
        turned: &[f32],
        want: impl Fn(usize, usize, usize) -> T,
    ) {
        let (step, left) = (row.pixels + 3, T::of(99.0));
        let mut words = vec![vec![left; row.images + 2]; row.channels * step];
        put(row, turned, &mut words.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>(), (step, 1));
        for (i, images) in words.iter().enumerate() {
            let (c, x) = (i / step, i % step);
            for (b, image) in images.iter().enumerate() {
                let there = x < row.pixels && (1..=row.images).contains(&b);
                assert_eq!(*image, if there { want(c, x, b - 1) } else { left }, "{row:?} {c} {x} {b}");
            }
        }
    }
}
