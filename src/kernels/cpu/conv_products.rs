//! The forward pass of a dense convolution on the CPU engine, as matrix products with packed images.

use super::packed::{Images, Taps, pack_input, with_scratch};
use super::vectors::{array, each, put, steps, with_vectors};
use super::windows::After;
use crate::device::linalg::MatMut;
use crate::kernels::DEAD;
use crate::kernels::shape::Conv;

/// `[M][C][ky][kx]` as the products take them: `[M][ky][kx][C]`.
pub fn filters(conv: &Conv, weights: &[f32]) -> Vec<f32> {
    let (square, channels) = (conv.kernel * conv.kernel, conv.in_channels);
    let mut filters = vec![0.0; conv.weights()];
    let each = filters.chunks_exact_mut(square * channels).zip(weights.chunks_exact(square * channels));
    for (to, from) in each {
        for (c, taps) in from.chunks_exact(square).enumerate() {
            taps.iter().enumerate().for_each(|(tap, weight)| to[tap * channels + c] = *weight);
        }
    }
    filters
}

/// One chunk's outputs and codes.
#[expect(clippy::too_many_arguments)]
pub fn forward(
    conv: &Conv,
    taps: &Taps,
    images: Images,
    input: &[f32],
    filters: &[f32],
    channels: &[After<f32>],
    mut output: Vec<&mut [f32]>,
    mut codes: Vec<&mut [u8]>,
) {
    if images.real == 0 {
        output.iter_mut().for_each(|o| o.fill(0.0));
        return codes.iter_mut().for_each(|c| c.fill(0));
    }
    let (lanes, pool) = (images.lanes, conv.pool);
    let (row, starts) = (taps.out_width * lanes, taps.starts(lanes));
    with_scratch([taps.words(lanes), conv.out_channels * pool * row], |[packed, strip]| {
        pack_input(conv, taps, images, input, packed);
        for py in 0..conv.pooled().0 {
            for wy in 0..pool {
                let out = MatMut { data: &mut strip[wy * row..], row: pool * row, col: 1 };
                taps.correlate((packed, &starts), lanes, py * pool + wy, filters, out);
            }
            with_vectors!(lanes, finish(conv, images, py, strip, channels, (&mut output, &mut codes)));
        }
    });
}

/// Bias, gates, ReLU and pooling of the sums of one row of windows, `[M][wy][x][lanes]`.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq", "x86_64+avx2"))]
fn finish<const L: usize>(
    conv: &Conv,
    images: Images,
    py: usize,
    strip: &[f32],
    channels: &[After<f32>],
    (output, codes): (&mut [&mut [f32]], &mut [&mut [u8]]),
) {
    let (out_h, out_w) = conv.pooled();
    let (lanes, row) = (images.lanes, out_w * conv.pool * images.lanes);
    for (m, (sums, channel)) in strip.chunks_exact(conv.pool * row).zip(channels).enumerate() {
        let pixels = (m * out_h + py) * out_w..;
        let outputs = output[pixels.clone()].iter_mut().zip(&mut codes[pixels]).take(out_w);
        for (px, (output, codes)) in outputs.enumerate() {
            let at = |place: usize| &sums[place / 2 * row + (px * conv.pool + place % 2) * lanes..][..lanes];
            for first in steps::<L>(lanes) {
                let z = |place: usize| array::<_, L>(&at(place)[first..]);
                let (value, code) = match conv.pool {
                    1 => window(*channel, [z(0)]),
                    _ => window(*channel, [z(0), z(1), z(2), z(3)]),
                };
                put(&mut output[first..], value);
                put(&mut codes[first..], code);
            }
            // B may be more than the vectors reach.
            output[images.real..].iter_mut().for_each(|padding| *padding = 0.0);
            codes[images.real..].iter_mut().for_each(|padding| *padding = 0);
        }
    }
}

/// One window of `L` images: `places` in row-major order. A vector at a time, or it does not vectorise.
#[inline(always)]
fn window<const P: usize, const L: usize>(channel: After<f32>, places: [[f32; L]; P]) -> ([f32; L], [u8; L]) {
    let z = |sums: &[f32; L]| each::<_, L>(|i| (sums[i] + channel.bias) * channel.gate);
    let (mut best, mut code) = (z(&places[0]), [0; L]);
    for (place, sums) in places.iter().enumerate().skip(1) {
        let z = z(sums);
        code = each(|i| if z[i] > best[i] { place as u32 } else { code[i] });
        best = each(|i| if z[i] > best[i] { z[i] } else { best[i] });
    }
    if channel.relu {
        let closed = channel.gate == 0.0;
        code = each(|i| if best[i] <= 0.0 { u32::from(DEAD) } else { code[i] });
        best = each(|i| if best[i] <= 0.0 || closed { 0.0 } else { best[i] });
    }
    let code = if channel.gate == 0.0 { [u32::from(DEAD); L] } else { code };
    (best, each(|i| code[i] as u8))
}
