//! Filters to Winograd's points.

use pulp::{Arch, Simd, WithSimd};

use super::super::packed::with_filters;
use super::super::turn::{Row, turn};
use super::planes::planes_mut;
use super::{BLOCK, POINTS, apart, padded};
use crate::kernels::shape::Conv;

/// Taps of a filter.
const TAPS: usize = 9;

/// Channels whose taps are turned at a time.
const FEW: usize = 4;

/// `G g G'` of all filters of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Points {
    /// C, which a product sums over, and M, its columns.
    pub depth: usize,
    pub columns: usize,
    /// Columns of one block.
    pub width: usize,
}

impl Points {
    pub fn new(conv: &Conv) -> Self {
        let (depth, columns) = (conv.in_channels, conv.out_channels);
        Self { depth, columns, width: padded(columns).min(BLOCK) }
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
            let mut taps = vec![0.0; FEW * TAPS * across];
            for c in (0..self.depth).step_by(FEW) {
                let few = FEW.min(self.depth - c);
                let row = Row::by_pixel(1, few * TAPS, self.columns, across);
                turn(row, &weights[c * TAPS..], (self.depth * TAPS, 0), &mut taps);
                for (n, taps) in taps.chunks_exact(TAPS * across).take(few).enumerate() {
                    transform(taps, self, c + n, to);
                }
            }
            work(to);
        });
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
