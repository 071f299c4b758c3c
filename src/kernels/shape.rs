//! Shapes and uniform blocks that the layer kernels share.

use crate::device::{View, grid};
use crate::error::{Error, Result};

/// A convolution with stride 1, bias, an optional ReLU and optional 2x2 max-pooling (floor): one layer, one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// C.
    pub in_channels: usize,
    /// M.
    pub out_channels: usize,
    /// H of the input.
    pub height: usize,
    /// W of the input.
    pub width: usize,
    /// Side of the square filter.
    pub kernel: usize,
    /// Zeros around the input.
    pub padding: usize,
    /// 1, or 2 for 2x2 max-pooling.
    pub pool: usize,
    /// Whether a ReLU follows the convolution (before the pooling).
    pub relu: bool,
}

impl Conv {
    /// Height and width of the convolution, before pooling.
    pub fn unpooled(&self) -> (usize, usize) {
        let side = |n: usize| (n + 2 * self.padding + 1).saturating_sub(self.kernel);
        (side(self.height), side(self.width))
    }

    /// Height and width of the output. Rows and columns that do not fill a pooling window are dropped.
    pub fn pooled(&self) -> (usize, usize) {
        let (h, w) = self.unpooled();
        (h / self.pool, w / self.pool)
    }

    /// Weights without the bias: M x C x kernel x kernel.
    pub fn weights(&self) -> usize {
        self.out_channels * self.in_channels * self.kernel * self.kernel
    }

    /// Elements of one image's input and output.
    pub fn sizes(&self) -> (usize, usize) {
        let (h, w) = self.pooled();
        (self.in_channels * self.height * self.width, self.out_channels * h * w)
    }

    /// Words of one slot's partial weight gradients for one chunk of images: weights, then biases.
    pub fn partial_words(&self) -> usize {
        self.weights() + self.out_channels
    }

    /// Floating-point operations of one image's forward pass (only what the pooling keeps).
    pub fn flops(&self) -> u64 {
        let (h, w) = self.pooled();
        2 * (self.weights() * h * w * self.pool * self.pool) as u64
    }
}

/// A fully connected layer with bias and an optional ReLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// N.
    pub inputs: usize,
    /// M.
    pub outputs: usize,
    /// Whether a ReLU follows.
    pub relu: bool,
}

/// The images of one dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// K: clients, or (client, class) pairs, that take part.
    pub slots: usize,
    /// B: images a slot, padded to a multiple of 4.
    pub stride: usize,
    /// Where in the counts buffer the K numbers of images stand.
    pub counts_at: usize,
}

/// A buffer with one row for every slot: parameters, gradients, moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// K.
    pub slots: usize,
    /// Words of a row.
    pub words: usize,
}

/// Weights of one unit of an optimiser's work on the CPU.
pub(super) const STEP_BLOCK: usize = 1 << 14;

impl Rows {
    /// Workgroups of 64 threads where each thread takes four words of a row, and rows follow each other in z.
    pub(super) fn quad_groups(self) -> [u32; 3] {
        grid::folded((self.words / 4).div_ceil(64), self.slots as u32)
    }

    /// Refuses rows that four words a thread do not fill.
    pub(super) fn expect_quads(self, kernel: &'static str) -> Result<()> {
        if self.words.is_multiple_of(4) {
            return Ok(());
        }
        Err(Error::Kernel { kernel, problem: format!("rows of {} words", self.words) })
    }
}

/// Where a layer's parameters lie in a row of the parameter buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// P: words of a row.
    pub row_words: usize,
    /// First weight.
    pub weights_at: usize,
    /// First bias.
    pub bias_at: usize,
}

/// How the sums of a forward pass over convolutions may round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// Each by the terms of its own sum: one of nothing but zeros is zero. A little more would pass a ReLU, and so would the
    /// gradient, of which Adam makes a whole step however small it is.
    #[default]
    Componentwise,
    /// By the largest of a tile's sums: for optimisers that add gradients as they are. The CPU engine is faster then.
    Normwise,
}

/// Hard gates on a layer's output channels, one float a channel: 1 keeps it, 0 closes it before the ReLU.
#[derive(Clone, Copy, Debug)]
pub struct Gates<'a> {
    /// `[slots][row_words]`.
    pub values: View<'a>,
    /// G: words of a row.
    pub row_words: usize,
    /// This layer's first gate.
    pub at: usize,
}

/// Uniform block of the convolution kernels.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct ConvParams {
    pub slots: u32,
    pub stride: u32,
    pub in_channels: u32,
    pub out_channels: u32,
    pub height: u32,
    pub width: u32,
    pub kernel: u32,
    pub padding: u32,
    pub out_height: u32,
    pub out_width: u32,
    pub pool: u32,
    pub relu: u32,
    pub row_words: u32,
    pub weights_at: u32,
    pub bias_at: u32,
    pub counts_at: u32,
    /// G, or 0 where no gates apply.
    pub gate_words: u32,
    pub gates_at: u32,
    /// Chunks of images a slot: `stride.div_ceil(CHUNK)`.
    pub chunks: u32,
    /// 1 for [`Rounding::Normwise`].
    pub normwise: u32,
}

/// Words of [`ConvParams`].
pub(super) const CONV_WORDS: usize = size_of::<ConvParams>() / 4;

impl ConvParams {
    pub fn new(conv: &Conv, batch: Batch, place: Place, gates: Option<Gates<'_>>) -> Self {
        let (out_height, out_width) = conv.pooled();
        Self {
            slots: batch.slots as u32,
            stride: batch.stride as u32,
            in_channels: conv.in_channels as u32,
            out_channels: conv.out_channels as u32,
            height: conv.height as u32,
            width: conv.width as u32,
            kernel: conv.kernel as u32,
            padding: conv.padding as u32,
            out_height: out_height as u32,
            out_width: out_width as u32,
            pool: conv.pool as u32,
            relu: conv.relu.into(),
            row_words: place.row_words as u32,
            weights_at: place.weights_at as u32,
            bias_at: place.bias_at as u32,
            counts_at: batch.counts_at as u32,
            gate_words: gates.map_or(0, |g| g.row_words as u32),
            gates_at: gates.map_or(0, |g| g.at as u32),
            chunks: batch.stride.div_ceil(super::CHUNK) as u32,
            normwise: 0,
        }
    }

    pub fn rounded(self, rounding: Rounding) -> Self {
        Self { normwise: (rounding == Rounding::Normwise).into(), ..self }
    }

    pub fn place(&self) -> Place {
        let [row_words, weights_at, bias_at] = [self.row_words, self.weights_at, self.bias_at].map(|n| n as usize);
        Place { row_words, weights_at, bias_at }
    }

    pub fn conv(&self) -> Conv {
        Conv {
            in_channels: self.in_channels as usize,
            out_channels: self.out_channels as usize,
            height: self.height as usize,
            width: self.width as usize,
            kernel: self.kernel as usize,
            padding: self.padding as usize,
            pool: self.pool as usize,
            relu: self.relu != 0,
        }
    }
}

/// Uniform block of the kernels of fully connected layers.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct LinearParams {
    pub slots: u32,
    pub stride: u32,
    pub inputs: u32,
    pub outputs: u32,
    pub relu: u32,
    pub row_words: u32,
    pub weights_at: u32,
    pub bias_at: u32,
    pub counts_at: u32,
    /// G, or 0 where no gates apply.
    pub gate_words: u32,
    pub gates_at: u32,
    pub reserved: u32,
}

/// Words of [`LinearParams`].
pub(super) const LINEAR_WORDS: usize = size_of::<LinearParams>() / 4;

/// Threads that fill a large GPU: a fully connected layer's larger tiles are for those that leave as many.
pub(super) const ENOUGH_THREADS: u32 = 24_576;

/// The words of a fully connected layer's uniform block, with which that over survivors begins.
pub(super) fn linear_params(params: &[u32]) -> &LinearParams {
    bytemuck::from_bytes(bytemuck::cast_slice(&params[..LINEAR_WORDS]))
}

impl LinearParams {
    /// The gate of output `m` of a slot in `gates` (`[slots][G]`): 1 where no gates apply.
    pub fn gate(&self, gates: &[u32], slot: usize, m: usize) -> f32 {
        match self.gate_words as usize {
            0 => 1.0,
            words => f32::from_bits(gates[slot * words + self.gates_at as usize + m]),
        }
    }

    pub fn new(linear: &Linear, batch: Batch, place: Place, gates: Option<Gates<'_>>) -> Self {
        Self {
            slots: batch.slots as u32,
            stride: batch.stride as u32,
            inputs: linear.inputs as u32,
            outputs: linear.outputs as u32,
            relu: linear.relu.into(),
            row_words: place.row_words as u32,
            weights_at: place.weights_at as u32,
            bias_at: place.bias_at as u32,
            counts_at: batch.counts_at as u32,
            gate_words: gates.map_or(0, |g| g.row_words as u32),
            gates_at: gates.map_or(0, |g| g.at as u32),
            reserved: 0,
        }
    }

    pub fn linear(&self) -> Linear {
        Linear { inputs: self.inputs as usize, outputs: self.outputs as usize, relu: self.relu != 0 }
    }

    pub fn place(&self) -> Place {
        let [row_words, weights_at, bias_at] = [self.row_words, self.weights_at, self.bias_at].map(|n| n as usize);
        Place { row_words, weights_at, bias_at }
    }
}

/// The view named `what` holds at least `words` words, or the kernel is called wrongly.
pub(super) fn expect(kernel: &'static str, what: &str, view: View<'_>, words: usize) -> Result<()> {
    if view.words >= words {
        return Ok(());
    }
    Err(Error::Kernel { kernel, problem: format!("{what} holds {} words, {words} needed", view.words) })
}

impl Conv {
    /// Refuses sizes that make no convolution, and parameters outside of their row.
    pub(super) fn check(&self, kernel: &'static str, batch: Batch, place: Place) -> Result<()> {
        let sizes = [self.in_channels, self.out_channels, self.kernel];
        if !(1..=2).contains(&self.pool) || sizes.contains(&0) || self.sizes().1 == 0 {
            return Err(Error::Kernel { kernel, problem: format!("{self:?} has no output") });
        }
        batch.check(kernel)?;
        place.check(kernel, self.weights(), self.out_channels)
    }
}

impl Linear {
    /// Refuses sizes that make no layer, and parameters outside of their row.
    pub(super) fn check(&self, kernel: &'static str, batch: Batch, place: Place) -> Result<()> {
        if self.inputs * self.outputs == 0 {
            return Err(Error::Kernel { kernel, problem: format!("{self:?} has no weights") });
        }
        batch.check(kernel)?;
        place.check(kernel, self.inputs * self.outputs, self.outputs)
    }
}

impl Batch {
    fn check(&self, kernel: &'static str) -> Result<()> {
        if self.slots > 0 && self.stride > 0 && self.stride.is_multiple_of(4) {
            return Ok(());
        }
        let problem = format!("{} slots of {} images; images come in fours", self.slots, self.stride);
        Err(Error::Kernel { kernel, problem })
    }

    /// The counts of all slots lie in `counts`.
    pub(super) fn check_counts(&self, kernel: &'static str, counts: View<'_>) -> Result<()> {
        expect(kernel, "counts", counts, self.counts_at + self.slots)
    }
}

impl Place {
    pub(super) fn check(&self, kernel: &'static str, weights: usize, biases: usize) -> Result<()> {
        if self.weights_at + weights <= self.row_words && self.bias_at + biases <= self.row_words {
            return Ok(());
        }
        let problem = format!("{weights} weights and {biases} biases do not fit {self:?}");
        Err(Error::Kernel { kernel, problem })
    }
}

impl Gates<'_> {
    /// The gates of `channels` channels lie in their rows, and the rows in the buffer.
    pub(super) fn check(&self, kernel: &'static str, slots: usize, channels: usize) -> Result<()> {
        if self.at + channels > self.row_words {
            let problem = format!("{channels} gates from {} do not fit rows of {}", self.at, self.row_words);
            return Err(Error::Kernel { kernel, problem });
        }
        expect(kernel, "gates", self.values, slots * self.row_words)
    }
}
