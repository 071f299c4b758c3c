//! Gradients of pooled convolutions from the winners of the windows alone, on the CPU engine.
//!
//! Of the four places of a 2x2 window one has a gradient, and none where the ReLU is dead, where a gate is closed, or where
//! nothing that survived the pruning reads the output. So dz is at least three quarters zeros, and often nearly all. Each
//! gradient that is there multiplies one patch of the input, which adds to its filter's gradient, and one filter, which
//! adds to a patch of the input's gradient: in both a sum of blocks of k x k taps times channels, whose places are listed
//! and which stays in registers while the list is gone through. These are the terms of a matrix product without those that
//! are zero.
//!
//! For the blocks to be whole vectors the channels lie innermost, in parts of 16 or 32.

mod input_grad;
mod list;
#[cfg(test)]
mod tests;
mod weight_grad;

pub use self::input_grad::{Filters, input_grad};
pub use self::weight_grad::weight_grad;
use super::vectors::LANES;
use crate::kernels::shape::Conv;

/// Whether the gradients of a convolution are found so: it is pooled, its filters have blocks that registers hold, and it has
/// enough channels to fill vectors.
pub fn applies(conv: &Conv) -> bool {
    conv.pool == 2 && [3, 5].contains(&conv.kernel) && conv.in_channels >= LANES
}

/// One part of the channels of what the windows read of an image: `[y][x][wide]`, zeros around it.
#[derive(Clone, Copy, Debug)]
struct Frame {
    conv: Conv,
    /// Channels of a part.
    pub wide: usize,
    pub height: usize,
    pub width: usize,
}

impl Frame {
    pub fn new(conv: &Conv, wide: usize) -> Self {
        let side = |windows: usize| 2 * windows + conv.kernel - 1;
        let (height, width) = conv.pooled();
        Self { conv: *conv, wide, height: side(height), width: side(width) }
    }

    /// Words of a row.
    pub fn row(&self) -> usize {
        self.width * self.wide
    }

    /// Parts that the input's channels make.
    pub fn parts(&self) -> usize {
        self.conv.in_channels.div_ceil(self.wide)
    }

    /// The channels of a part.
    pub fn channels(&self, part: usize) -> std::ops::Range<usize> {
        part * self.wide..((part + 1) * self.wide).min(self.conv.in_channels)
    }

    /// The row of the input that is row `y` here.
    pub fn row_of(&self, y: usize) -> Option<usize> {
        y.checked_sub(self.conv.padding).filter(|y| *y < self.conv.height)
    }

    /// Columns of the input that are in a row.
    pub fn columns(&self) -> usize {
        self.conv.width.min(self.width - self.conv.padding)
    }
}
