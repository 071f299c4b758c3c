//! The forward pass of 3x3 convolutions with fewer multiplications, on the CPU engine: Winograd's F(2x2, 3x3).
//!
//! Of four pixels at a time, a tile Y of 2x2 outputs, `Y = A' [(G g G') o (B' d B)] A` (Lavin and Gray 2016, equation 8): d
//! are the 4x4 inputs that the tile reads, g the filter, and the product in the middle is one multiplication for each of
//! 16 points where the definition takes 36. Summed over channels, it is a matrix product a point.
//!
//! ```text
//!      1  0 -1  0          1    0    0        1  0
//! B' = 0  1  1  0     G = 1/2  1/2  1/2   A = 1  1
//!      0 -1  1  0         1/2 -1/2  1/2       1 -1
//!      0  1  0 -1          0    0    1        0 -1
//! ```
//!
//! What is transformed has its channels innermost, `[point][tile][image][channel]`: tiles and images are the rows of all
//! products, none of which reads images that are not there, and the vectors run along channels.
//!
//! Errors are those of the direct way two or three times over, but by the size of what a tile holds at most: an output that is
//! nothing may come out as a little more, and then a ReLU passes its gradient on. So it is done only where
//! [`crate::kernels::shape::Rounding`] allows it.

mod filters;
mod forward;
mod planes;
#[cfg(test)]
mod tests;

pub use self::filters::Points;
pub use self::forward::{Filters, forward};
use super::packed::{Images, apart};
use super::turn::{Row, turn};
use super::vectors::LANES;
use crate::device::linalg::{Mat, MatMut};
use crate::device::panel::panel;
use crate::kernels::CHUNK;
use crate::kernels::shape::Conv;

/// Points of a transformed tile.
const POINTS: usize = 16;

/// Output channels of one product.
const BLOCK: usize = 32;

/// Rows of a product: enough that the transformed filters are seldom read, and few enough that all points of the rows stay
/// in the second-level cache.
const ROWS: usize = 128;

/// Whether a convolution can be computed so.
pub fn applies(conv: &Conv) -> bool {
    conv.kernel == 3 && conv.padding == 1
}

/// Whether the fewer multiplications outweigh the transforms. By the shape alone: no bit depends on the batch.
///
/// Measured on one thread of an EPYC with AVX-512, times as fast with 10, 32 and 256 images:
///
/// | layer | forward |
/// |---|---|
/// | 32 to 64 channels, 14x14, pooled | 1.8, 1.4, 1.7 |
/// | 64 to 128, 7x7, pooled | 2.0, 1.5, 1.4 |
/// | 32 to 32, 16x16, pooled | 1.6, 1.3, 1.6 |
/// | 64 to 64, 8x8 | 1.5, 1.2, 1.1 |
/// | 16 to 16, 32x32 | 1.0, 0.5, 0.9 |
pub fn pays(conv: &Conv) -> bool {
    let (few, all) = (conv.in_channels.min(conv.out_channels), conv.in_channels * conv.out_channels);
    applies(conv) && conv.pool == 2 && few >= 32 && all >= 32 * 64
}

/// How the outputs of a convolution are cut into tiles, for some images of a slot.
#[derive(Clone, Copy, Debug)]
struct Tiles {
    pub conv: Conv,
    /// Rows and columns of tiles that cover what the pooling reads.
    pub rows: usize,
    pub columns: usize,
    /// The first image, its place in the chunk, and how many.
    pub images: Images,
    /// Rows of tiles that are transformed at a time.
    pub at_once: usize,
}

impl Tiles {
    /// For each part of a chunk's images.
    pub fn of(conv: &Conv, chunk: Images) -> impl Iterator<Item = (usize, Self)> {
        let (height, width) = conv.pooled();
        let (rows, columns) = ((height * conv.pool).div_ceil(2), (width * conv.pool).div_ceil(2));
        let most = (ROWS / columns / 4 * 4).clamp(4, CHUNK);
        let conv = *conv;
        (0..chunk.real).step_by(most).map(move |from| {
            let real = (chunk.real - from).min(most);
            let images = Images { first: chunk.first + from, real, lanes: real.next_multiple_of(4), ..chunk };
            let at_once = (ROWS / (columns * real)).clamp(1, rows);
            (from, Self { conv, rows, columns, images, at_once })
        })
    }

    /// C and M in whole vectors.
    pub fn channels(&self) -> (usize, usize) {
        (padded(self.conv.in_channels), padded(self.conv.out_channels))
    }

    /// Rows of the products of `rows` rows of tiles.
    pub fn products(&self, rows: usize) -> usize {
        rows * self.columns * self.images.real
    }

    /// Words from one point to the next of `rows` rows of tiles with their transformed `channels`.
    pub fn plane(&self, rows: usize, channels: usize) -> usize {
        apart(self.products(rows) * channels)
    }

    /// Words of the transformed `channels` of as many tiles as are taken at once.
    pub fn transformed(&self, channels: usize) -> usize {
        POINTS * self.plane(self.at_once, channels)
    }

    /// Columns of the input that the tiles read, zeros included.
    pub fn width(&self) -> usize {
        2 * self.columns + 2
    }

    /// Words from one row of the input to the next, `[x][image][channel]`.
    pub fn row(&self, channels: usize) -> usize {
        apart(self.width() * self.images.real * channels)
    }

    /// Words of the rows that the tiles taken at once read.
    pub fn strip(&self, channels: usize) -> usize {
        (2 * self.at_once + 2) * self.row(channels)
    }

    /// The first row of tiles and the number of rows, for all that are taken at once.
    pub fn blocks(&self) -> impl Iterator<Item = (usize, usize)> {
        let (rows, at_once) = (self.rows, self.at_once);
        (0..rows).step_by(at_once).map(move |first| (first, at_once.min(rows - first)))
    }

    /// Puts the rows of the input that `rows` rows of tiles from `first` on read into `strip`, `[y][x][image][channel]`.
    /// It still holds those of the tiles before.
    pub fn fill(&self, (first, rows): (usize, usize), input: &[f32], strip: &mut [f32]) {
        let (conv, images, channels) = (&self.conv, self.images, self.channels().0);
        let row = self.row(channels);
        // The last two rows that the tiles before read are the first two of these.
        let kept = if first == 0 { 0 } else { 2 };
        strip.copy_within(2 * self.at_once * row..(2 * self.at_once + kept) * row, 0);
        for (y, strip) in strip.chunks_exact_mut(row).take(2 * rows + 2).enumerate().skip(kept) {
            let Some(y) = (2 * first + y).checked_sub(1).filter(|y| *y < conv.height) else {
                strip.fill(0.0);
                continue;
            };
            let (before, from) = strip.split_at_mut(images.real * channels);
            let there = conv.width.min(self.width() - 1);
            before.fill(0.0);
            from[there * before.len()..].fill(0.0);
            let line = Row::by_pixel(there, images.real, conv.in_channels, channels);
            let input = &input[y * conv.width * images.stride + images.first..];
            turn(line, input, (conv.height * conv.width * images.stride, images.stride), from);
        }
    }

    /// Windows of a tile, side by side: 1 where they are pooled, else 2.
    pub fn side(&self) -> usize {
        2 / self.conv.pool
    }
}

/// Channels in whole vectors.
fn padded(channels: usize) -> usize {
    channels.next_multiple_of(LANES)
}

/// `out[point][row][column] = lhs[point][row][depth] x filters[point][depth][column]` for one block of columns.
fn products(rows: usize, lhs: (&[f32], usize), filters: (&Points, &[f32], &[usize]), columns: usize, out: &mut [f32]) {
    let ((lhs, step), (points, filters, starts)) = (lhs, filters);
    let each = out.chunks_exact_mut(apart(rows * points.width)).zip(lhs.chunks_exact(apart(rows * step)));
    for ((out, lhs), filters) in each.zip(filters.chunks_exact(filters.len() / POINTS)) {
        let out = MatMut { data: out, row: points.width, col: 1 };
        panel(rows, columns, out, Mat { data: lhs, row: step, col: 1 }, filters, starts);
    }
}
