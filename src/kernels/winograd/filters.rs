//! Filters to Winograd's points, and their gradients back.

use pulp::{Arch, Simd, WithSimd};

use super::super::packed::with_filters;
use super::super::shape::Conv;
use super::planes::{planes, planes_mut};
use super::turn::{Row, turn};
use super::{BLOCK, POINTS, apart, padded};

/// Taps of a filter.
const TAPS: usize = 9;

/// Channels whose taps are turned at a time.
const FEW: usize = 4;

/// `G g G'` of all filters of one layer, for its outputs or for its input's gradient.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Points {
    pub side: Side,
    /// Channels that a product sums over, and those that it has for columns.
    pub depth: usize,
    pub columns: usize,
    /// Columns of one block.
    pub width: usize,
}

/// Which channels are the columns of the products.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) enum Side {
    /// M.
    Outputs,
    /// C.
    Inputs,
}

impl Points {
    pub fn new(conv: &Conv, side: Side) -> Self {
        let (depth, columns) = match side {
            Side::Outputs => (conv.in_channels, conv.out_channels),
            Side::Inputs => (conv.out_channels, conv.in_channels),
        };
        Self { side, depth, columns, width: padded(columns).min(BLOCK) }
    }

    /// Blocks of columns.
    pub fn blocks(&self) -> usize {
        self.columns.div_ceil(self.width)
    }

    /// Words of a block.
    pub fn block(&self) -> usize {
        POINTS * apart(self.depth * self.width)
    }

    /// Where the columns of a block begin, and how many there are.
    pub fn of(&self, block: usize) -> (usize, usize) {
        let first = block * self.width;
        (first, (self.columns - first).min(self.width))
    }

    /// A number for each column, with zeros to the end of the last block.
    pub fn padded<T>(&self, columns: &[T], number: impl Fn(&T) -> f32) -> Vec<f32> {
        let mut numbers: Vec<f32> = columns.iter().map(number).collect();
        numbers.resize(self.blocks() * self.width, 0.0);
        numbers
    }

    /// Where the rows of a point begin.
    pub fn starts(&self) -> Vec<usize> {
        (0..self.depth).map(|l| l * self.width).collect()
    }

    /// Calls `work` with `[block][point][depth][column]` of `[M][C][ky][kx]`.
    pub fn with(&self, weights: &[f32], work: impl FnOnce(&[f32])) {
        with_filters(self.blocks() * self.block(), |to| {
            let across = self.blocks() * self.width;
            match self.side {
                Side::Outputs => self.by_outputs(weights, across, to),
                Side::Inputs => self.by_inputs(weights, across, to),
            }
            work(to);
        });
    }

    fn by_outputs(&self, weights: &[f32], across: usize, to: &mut [f32]) {
        let mut taps = vec![0.0; FEW * TAPS * across];
        for c in (0..self.depth).step_by(FEW) {
            let few = FEW.min(self.depth - c);
            let row = Row { pixels: 1, images: few * TAPS, channels: self.columns, width: across };
            turn(row, &weights[c * TAPS..], (self.depth * TAPS, 0), &mut taps);
            for (n, taps) in taps.chunks_exact(TAPS * across).take(few).enumerate() {
                transform(taps, self, c + n, to);
            }
        }
    }

    fn by_inputs(&self, weights: &[f32], across: usize, to: &mut [f32]) {
        let mut taps = vec![0.0; TAPS * across];
        let row = Row { pixels: 1, images: TAPS, channels: self.columns, width: across };
        for (m, weights) in weights.chunks_exact(TAPS * self.columns).take(self.depth).enumerate() {
            turn(row, weights, (TAPS, 0), &mut taps);
            transform(&taps, self, m, to);
        }
    }
}

/// Row `at` of all points, from its taps, `[tap][column]`.
fn transform(taps: &[f32], points: &Points, at: usize, to: &mut [f32]) {
    Arch::new().dispatch(Transform { taps, points, at, to });
}

struct Transform<'a> {
    taps: &'a [f32],
    points: &'a Points,
    at: usize,
    to: &'a mut [f32],
}

/// `G g`.
#[inline(always)]
fn points<S: Simd>(simd: S, [a, b, c]: [S::f32s; 3]) -> [S::f32s; 4] {
    let half = simd.splat_f32s(0.5);
    let ends = simd.add_f32s(a, c);
    let (plus, minus) = (simd.add_f32s(ends, b), simd.sub_f32s(ends, b));
    [a, simd.mul_f32s(half, plus), simd.mul_f32s(half, minus), c]
}

/// `G' u`.
#[inline(always)]
fn taps<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 3] {
    let half = simd.splat_f32s(0.5);
    let (sum, difference) = (simd.add_f32s(b, c), simd.sub_f32s(b, c));
    let sum = simd.mul_f32s(half, sum);
    [simd.add_f32s(a, sum), simd.mul_f32s(half, difference), simd.add_f32s(sum, d)]
}

impl WithSimd for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { taps, points: Points { depth, width, .. }, at, to } = self;
        let (across, plane, width) = (taps.len() / TAPS, apart(depth * width), *width);
        for (b, to) in to.chunks_exact_mut(POINTS * plane).enumerate() {
            let from: [&[S::f32s]; TAPS] =
                std::array::from_fn(|tap| S::as_simd_f32s(&taps[tap * across + b * width..][..width]).0);
            let to = planes_mut::<S>(to, plane, at * width, width);
            for v in 0..width / S::F32_LANES {
                let mut rows = [[simd.splat_f32s(0.0); 4]; 3];
                for i in 0..3 {
                    rows[i] = points(simd, [from[3 * i][v], from[3 * i + 1][v], from[3 * i + 2][v]]);
                }
                for j in 0..4 {
                    let column = points(simd, [rows[0][j], rows[1][j], rows[2][j]]);
                    for i in 0..4 {
                        to[4 * i + j][v] = column[i];
                    }
                }
            }
        }
    }
}

/// `G' u G` of `[point][C][M]`, whose rows are padded to whole vectors, as `[M][C][ky][kx]`.
pub(super) fn gradients(conv: &Conv, points: &[f32], weights: &mut [f32]) {
    let (inputs, outputs) = (conv.in_channels, conv.out_channels);
    let across = padded(outputs);
    let mut few = vec![0.0; FEW * TAPS * across];
    for c in (0..inputs).step_by(FEW) {
        let count = FEW.min(inputs - c);
        for (n, to) in few.chunks_exact_mut(TAPS * across).take(count).enumerate() {
            Arch::new().dispatch(Collect { points, plane: apart(inputs * across), at: (c + n) * across, to });
        }
        let row = Row { pixels: 1, images: outputs, channels: count * TAPS, width: inputs * TAPS };
        turn(row, &few, (across, 0), &mut weights[c * TAPS..]);
    }
}

struct Collect<'a> {
    points: &'a [f32],
    plane: usize,
    at: usize,
    to: &'a mut [f32],
}

impl WithSimd for Collect<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { points, plane, at, to } = self;
        let across = to.len() / TAPS;
        let from = planes::<S>(points, plane, at, across);
        let to = S::as_mut_simd_f32s(to).0;
        let len = across / S::F32_LANES;
        for v in 0..len {
            let mut rows = [[simd.splat_f32s(0.0); 3]; 4];
            for i in 0..4 {
                rows[i] = taps(simd, [from[4 * i][v], from[4 * i + 1][v], from[4 * i + 2][v], from[4 * i + 3][v]]);
            }
            for j in 0..3 {
                let column = taps(simd, [rows[0][j], rows[1][j], rows[2][j], rows[3][j]]);
                for i in 0..3 {
                    to[(3 * i + j) * len + v] = column[i];
                }
            }
        }
    }
}
