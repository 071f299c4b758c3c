//! An image's first convolution on the CPU engine: one input channel, 3x3 filters, 2x2 pooling.
//!
//! A sum of nine products is too thin for a matrix product, whose results would pass through memory before they are pooled.
//! So a window's four sums, which read 4x4 pixels, stay in registers from the products to the value and its code.

use pulp::{Simd, WithSimd};

use super::packed::{Images, Pieces, blank, with_scratch};
use super::registers::{first, load, load_codes, store, store_codes};
use super::vectors::LANES;
use super::windows::{After, pooled, won};
use crate::kernels::DEAD;
use crate::kernels::shape::Conv;

/// Taps of a filter.
const TAPS: usize = 9;

/// Whether a convolution is such a one.
pub fn applies(conv: &Conv) -> bool {
    conv.in_channels == 1 && conv.kernel == 3 && conv.padding == 1 && conv.pool == 2
}

/// Words of the pixels of a vector of images, with a frame of zeros.
fn framed(conv: &Conv) -> usize {
    (conv.height + 2) * (conv.width + 2) * LANES
}

/// Words of a vector for each tap and bias.
fn sums(conv: &Conv) -> usize {
    conv.out_channels * (TAPS + 1) * LANES
}

/// Some images of a chunk: as many as a vector holds, or the last ones.
#[derive(Clone, Copy)]
struct Part {
    /// The first, in its chunk.
    at: usize,
    count: usize,
}

impl Part {
    fn all(images: Images, lanes: usize) -> impl Iterator<Item = Self> {
        (0..images.real).step_by(lanes).map(move |at| Self { at, count: lanes.min(images.real - at) })
    }

    /// The images of a pixel of `[pixel][B]`.
    #[inline(always)]
    fn of<T>(self, images: Images, slot: &[T], pixel: usize) -> &[T] {
        &slot[pixel * images.stride + images.first + self.at..][..self.count]
    }

    /// Writes the values of a piece and their codes, and 0 for the padding.
    #[inline(always)]
    fn put<S: Simd>(self, simd: S, (values, codes): (S::f32s, S::f32s), to: (&mut [f32], &mut [u8])) {
        let count = if S::F32_LANES < 4 { self.count } else { self.count.next_multiple_of(4) };
        let (there, zero) = (first(simd, self.count), simd.splat_f32s(0.0));
        let real = |register| simd.select_f32s(there, register, zero);
        store_codes(simd, real(codes), &mut to.1[self.at..][..count]);
        store(simd, real(values), &mut to.0[self.at..][..count]);
    }
}

/// Puts the pixels of some images of one channel, `[y][x][B]`, into a frame of zeros, `[y][x]` of vectors.
#[inline(always)]
fn frame<S: Simd>(simd: S, conv: &Conv, images: Images, part: Part, input: &[f32], to: &mut [S::f32s]) {
    let zero = simd.splat_f32s(0.0);
    for (y, row) in to.chunks_exact_mut(conv.width + 2).take(conv.height + 2).enumerate() {
        row.fill(zero);
        if (1..=conv.height).contains(&y) {
            for (x, to) in row[1..=conv.width].iter_mut().enumerate() {
                *to = load(simd, part.of(images, input, (y - 1) * conv.width + x));
            }
        }
    }
}

/// The 4x4 pixels that a window reads, from four rows.
#[inline(always)]
fn patch<V: Copy>(rows: &[&[V]; 4], px: usize) -> [[V; 4]; 4] {
    let four = |row: &[V]| *row[2 * px..].first_chunk().expect("a frame around the image");
    [four(rows[0]), four(rows[1]), four(rows[2]), four(rows[3])]
}

/// The rows that a row of windows reads.
#[inline(always)]
fn rows<V>(frame: &[V], width: usize, py: usize) -> [&[V]; 4] {
    let row = |y: usize| &frame[(2 * py + y) * width..][..width];
    [row(0), row(1), row(2), row(3)]
}

/// Values and codes of a chunk's images of `input`, `[H][W][B]`, to their `[M][PH][PW]` pieces. `weights` are `[M][ky][kx]`.
pub fn forward(
    conv: &Conv,
    images: Images,
    input: &[f32],
    (weights, channels): (&[f32], &[After<f32>]),
    (values, codes): Pieces<'_, '_>,
) {
    blank(values, images.real);
    blank(codes, images.real);
    with_scratch([framed(conv)], |[framed]| {
        pulp::Arch::new().dispatch(Forward { conv, images, input, weights, channels, values, codes, framed });
    });
}

struct Forward<'a, 'b> {
    conv: &'a Conv,
    images: Images,
    input: &'a [f32],
    weights: &'a [f32],
    channels: &'a [After<f32>],
    values: &'a mut [&'b mut [f32]],
    codes: &'a mut [&'b mut [u8]],
    framed: &'a mut [f32],
}

impl WithSimd for Forward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { conv, images, input, weights, channels, values, codes, framed } = self;
        let (height, width) = conv.pooled();
        let framed = S::as_mut_simd_f32s(framed).0;
        for part in Part::all(images, S::F32_LANES) {
            frame(simd, conv, images, part, input, framed);
            for py in 0..height {
                let rows = rows(framed, conv.width + 2, py);
                for (m, (weights, channel)) in weights.as_chunks::<TAPS>().0.iter().zip(channels).enumerate() {
                    let pieces = (m * height + py) * width..(m * height + py + 1) * width;
                    let pieces = values[pieces.clone()].iter_mut().zip(&mut codes[pieces]);
                    if channel.relu && channel.gate == 0.0 {
                        for (value, code) in pieces {
                            part.put(simd, (simd.splat_f32s(0.0), simd.splat_f32s(f32::from(DEAD))), (value, code));
                        }
                        continue;
                    }
                    let [a, b, c, d, e, f, g, h, i] = *weights;
                    let splat = |weight| simd.splat_f32s(weight);
                    let filter =
                        [splat(a), splat(b), splat(c), splat(d), splat(e), splat(f), splat(g), splat(h), splat(i)];
                    let after = After { bias: splat(channel.bias), gate: splat(channel.gate), relu: channel.relu };
                    for (px, (value, code)) in pieces.enumerate() {
                        let x = patch(&rows, px);
                        let sums = [
                            sum(simd, &filter, &x, 0, 0),
                            sum(simd, &filter, &x, 0, 1),
                            sum(simd, &filter, &x, 1, 0),
                            sum(simd, &filter, &x, 1, 1),
                        ];
                        part.put(simd, pooled(simd, sums, after), (value, code));
                    }
                }
            }
        }
    }
}

/// The filter at place (`wy`, `wx`) of a window: products in the order of the taps, as in a matrix product.
#[inline(always)]
fn sum<S: Simd>(simd: S, filter: &[S::f32s; TAPS], x: &[[S::f32s; 4]; 4], wy: usize, wx: usize) -> S::f32s {
    let three = |sum, ky: usize| {
        let sum = simd.mul_add_e_f32s(filter[3 * ky], x[wy + ky][wx], sum);
        let sum = simd.mul_add_e_f32s(filter[3 * ky + 1], x[wy + ky][wx + 1], sum);
        simd.mul_add_e_f32s(filter[3 * ky + 2], x[wy + ky][wx + 2], sum)
    };
    three(three(three(simd.splat_f32s(0.0), 0), 1), 2)
}

/// Gradients of the weights, `[M][ky][kx]`, and of the biases, summed over a chunk's images. `grad` are the output's
/// gradients and its codes, `[M][PH][PW][B]`.
pub fn weight_grad(conv: &Conv, images: Images, input: &[f32], grad: (&[f32], &[u8]), partial: &mut [f32]) {
    partial.fill(0.0);
    with_scratch([framed(conv), sums(conv)], |[framed, sums]| {
        pulp::Arch::new().dispatch(WeightGrad { conv, images, input, grad, partial, framed, sums });
    });
}

struct WeightGrad<'a> {
    conv: &'a Conv,
    images: Images,
    input: &'a [f32],
    grad: (&'a [f32], &'a [u8]),
    partial: &'a mut [f32],
    framed: &'a mut [f32],
    sums: &'a mut [f32],
}

impl WithSimd for WeightGrad<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { conv, images, input, grad, partial, framed, sums } = self;
        let (height, width) = conv.pooled();
        let (framed, sums) = (S::as_mut_simd_f32s(framed).0, S::as_mut_simd_f32s(sums).0);
        let (weights, biases) = partial.split_at_mut(conv.weights());
        for part in Part::all(images, S::F32_LANES) {
            frame(simd, conv, images, part, input, framed);
            sums.fill(simd.splat_f32s(0.0));
            for py in 0..height {
                let rows = rows(framed, conv.width + 2, py);
                for (m, sums) in sums.as_chunks_mut::<{ TAPS + 1 }>().0.iter_mut().take(conv.out_channels).enumerate() {
                    let mut all = *sums;
                    for px in 0..width {
                        let pixel = (m * height + py) * width + px;
                        let grad = routed(simd, images, part, grad, pixel);
                        all = add(simd, all, grad, &patch(&rows, px));
                    }
                    *sums = all;
                }
            }
            for (m, sums) in sums.as_chunks::<{ TAPS + 1 }>().0.iter().take(conv.out_channels).enumerate() {
                let to = weights[m * TAPS..][..TAPS].iter_mut().chain([&mut biases[m]]);
                to.zip(sums).for_each(|(to, sum)| *to += simd.reduce_sum_f32s(*sum));
            }
        }
    }
}

/// dz of a window's four places.
#[inline(always)]
fn routed<S: Simd>(simd: S, images: Images, part: Part, (grad, codes): (&[f32], &[u8]), pixel: usize) -> [S::f32s; 4] {
    let grad = load(simd, part.of(images, grad, pixel));
    // The codes of other images, whose gradients were left out, do not count.
    let code = load_codes::<S>(&codes[pixel * images.stride + images.first + part.at..]);
    let place = |number: f32| won(simd, grad, code, simd.splat_f32s(number));
    [place(0.0), place(1.0), place(2.0), place(3.0)]
}

/// Adds what a window gives to the sums of the nine taps and of the bias.
#[inline(always)]
fn add<S: Simd>(simd: S, sums: [S::f32s; TAPS + 1], dz: [S::f32s; 4], x: &[[S::f32s; 4]; 4]) -> [S::f32s; TAPS + 1] {
    let tap = |sum, ky: usize, kx: usize| {
        let sum = simd.mul_add_e_f32s(dz[0], x[ky][kx], sum);
        let sum = simd.mul_add_e_f32s(dz[1], x[ky][kx + 1], sum);
        let sum = simd.mul_add_e_f32s(dz[2], x[ky + 1][kx], sum);
        simd.mul_add_e_f32s(dz[3], x[ky + 1][kx + 1], sum)
    };
    let [a, b, c, d, e, f, g, h, i, bias] = sums;
    // At most one of the four is there.
    let any = simd.add_f32s(simd.add_f32s(dz[0], dz[1]), simd.add_f32s(dz[2], dz[3]));
    [
        tap(a, 0, 0),
        tap(b, 0, 1),
        tap(c, 0, 2),
        tap(d, 1, 0),
        tap(e, 1, 1),
        tap(f, 1, 2),
        tap(g, 2, 0),
        tap(h, 2, 1),
        tap(i, 2, 2),
        simd.add_f32s(bias, any),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::packed::by_chunk;
    use super::*;
    use crate::device::f32s;
    use crate::kernels::cases::conv::conv_cases;

    /// Values, codes, and gradients for what is given, of the first 21 images of a case.
    fn passes(run: &dyn Fn(Work<'_, '_>)) -> (Vec<f32>, Vec<u8>, Vec<f32>) {
        let case = conv_cases().into_iter().find(|case| case.setting.name == "one channel, two chunks").unwrap();
        let (conv, stride, outputs) = (&case.conv, case.setting.stride, case.conv.sizes().1);
        let (input, weights, grad, given) = (case.input(), case.weights(), case.output_grad(), case.codes());
        let images = Images { stride, first: 0, real: 21, lanes: 24 };
        let channels = vec![After { bias: 0.125, gate: 1.0, relu: true }; conv.out_channels];
        let (mut values, mut codes) = (vec![0.0; outputs * stride], vec![0; outputs * stride]);
        let (mut framed, mut sums) = (vec![0.0; framed(conv)], vec![0.0; sums(conv)]);
        let mut partial = vec![0.0; conv.partial_words()];
        let (input, weights) = (f32s(&input), &f32s(&weights)[case.place().weights_at..][..conv.weights()]);
        run(Work::Forward(Forward {
            conv,
            images,
            input,
            weights,
            channels: &channels,
            values: &mut by_chunk(&mut values, stride).swap_remove(0),
            codes: &mut by_chunk(&mut codes, stride).swap_remove(0),
            framed: &mut framed,
        }));
        let grad = (f32s(&grad), bytemuck::cast_slice(&given));
        run(Work::WeightGrad(WeightGrad {
            conv,
            images,
            input,
            grad,
            partial: &mut partial,
            framed: &mut framed,
            sums: &mut sums,
        }));
        (values, codes, partial)
    }

    enum Work<'a, 'b> {
        Forward(Forward<'a, 'b>),
        WeightGrad(WeightGrad<'a>),
    }

    #[test]
    fn processors_without_vectors_agree() {
        let wide = passes(&|work| match work {
            Work::Forward(pass) => pulp::Arch::new().dispatch(pass),
            Work::WeightGrad(pass) => pulp::Arch::new().dispatch(pass),
        });
        let one = passes(&|work| match work {
            Work::Forward(pass) => pass.with_simd(pulp::Scalar::new()),
            Work::WeightGrad(pass) => pass.with_simd(pulp::Scalar::new()),
        });
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * (1.0 + a.abs()));
        assert!(close(&wide.0, &one.0) && close(&wide.2, &one.2));
        assert!(wide.2.iter().all(|sum| *sum != 0.0));
        // Rounding parts few windows that all but tie.
        let differ = wide.1.iter().zip(&one.1).filter(|(a, b)| a != b).count();
        assert!(differ <= wide.1.len() / 1000, "{differ} of {}", wide.1.len());
    }
}
