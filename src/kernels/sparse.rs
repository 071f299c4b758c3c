//! Lists of surviving weights: how they lie in a buffer, and what the sparse kernels and their twins share.
//!
//! A list holds the places of one filter's surviving weights (the terms of one output's sum), or of one input channel's
//! (the terms of one input gradient's), in the order in which the dense shaders add: so leaving the zeros out changes no
//! bit on a GPU. An entry is a channel of the other side and a place in the filter, see `entry`; the weight itself is
//! read where it always stands. A list lies where the weights it is of could stand, so that none is ever too long.

use super::needed::{ALL_NEEDED, Blocks};
use super::shape::{Batch, Conv, ConvParams, Gates, Linear, LinearParams, Place, expect};
use crate::device::{View, grid};
use crate::error::{Error, Result};

/// Which sums a list holds the terms of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Those of the forward pass: a list for every output channel, over input channels, then ky, then kx.
    Outputs,
    /// Those of the input gradient: a list for every input channel, over output channels, then ky, then kx.
    Inputs,
}

/// The weights of a layer as `[outputs][inputs][kernel][kernel]`; a fully connected layer has a kernel of 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filters {
    /// M.
    pub outputs: usize,
    /// C, or N.
    pub inputs: usize,
    /// Side of the square filters, at most [`Filters::MAX_KERNEL`].
    pub kernel: usize,
}

impl From<&Conv> for Filters {
    fn from(conv: &Conv) -> Self {
        Self { outputs: conv.out_channels, inputs: conv.in_channels, kernel: conv.kernel }
    }
}

impl From<&Linear> for Filters {
    fn from(linear: &Linear) -> Self {
        Self { outputs: linear.outputs, inputs: linear.inputs, kernel: 1 }
    }
}

impl Filters {
    /// An entry has four bits for each of ky and kx.
    pub const MAX_KERNEL: usize = 16;

    /// All of the layer's weights.
    pub fn words(&self) -> usize {
        self.outputs * self.inputs * self.kernel * self.kernel
    }

    /// Lists of a side.
    pub fn lists(&self, side: Side) -> usize {
        match side {
            Side::Outputs => self.outputs,
            Side::Inputs => self.inputs,
        }
    }

    /// Most entries of a list of a side.
    pub fn longest(&self, side: Side) -> usize {
        self.words() / self.lists(side)
    }

    /// From one list's first weight to the next list's, and from one channel of the other side to the next.
    pub(super) fn steps(&self, side: Side) -> (usize, usize) {
        let square = self.kernel * self.kernel;
        match side {
            Side::Outputs => (self.inputs * square, square),
            Side::Inputs => (square, self.inputs * square),
        }
    }
}

/// The entry of channel `other` and the place (ky, kx) of the filter.
pub(super) fn entry(other: usize, ky: usize, kx: usize) -> u32 {
    (other << 8 | ky << 4 | kx) as u32
}

/// Where a layer's lists lie in a row of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListPlace {
    /// S: words of a row.
    pub row_words: usize,
    /// The first list; each takes as many words as it could have entries.
    pub lists_at: usize,
    /// The first list's number of entries, then those of the others.
    pub counts_at: usize,
}

impl ListPlace {
    pub(super) fn words(&self) -> [u32; 3] {
        [self.row_words, self.lists_at, self.counts_at].map(|n| n as u32)
    }

    fn of(words: [u32; 3]) -> Self {
        let [row_words, lists_at, counts_at] = words.map(|n| n as usize);
        Self { row_words, lists_at, counts_at }
    }
}

/// The lists of one layer and side.
#[derive(Clone, Copy, Debug)]
pub struct Lists<'a> {
    /// `[rows][S]`, a row for every row of weights.
    pub values: View<'a>,
    /// Where in a row.
    pub place: ListPlace,
    /// Of a convolution's lists by output, where in a row the bits of the blocks are that anything needs ([`super::needed`]):
    /// a forward pass leaves the others as they are. Without them all are needed.
    pub needed_at: Option<usize>,
}

impl Lists<'_> {
    /// The lists lie in their rows, and a row in the buffer.
    pub(super) fn check(&self, kernel: &'static str, filters: &Filters, side: Side) -> Result<()> {
        let ListPlace { row_words, lists_at, counts_at } = self.place;
        let fits = lists_at + filters.words() <= row_words && counts_at + filters.lists(side) <= row_words;
        if !fits || filters.kernel > Filters::MAX_KERNEL || filters.inputs.max(filters.outputs) >= 1 << 24 {
            let problem = format!("lists of {filters:?} do not fit {:?}", self.place);
            return Err(Error::Kernel { kernel, problem });
        }
        expect(kernel, "lists", self.values, row_words)
    }

    /// The bits of what is needed, if there are any, lie in their rows.
    pub(super) fn check_needed(&self, kernel: &'static str, conv: &Conv) -> Result<()> {
        let words = conv.out_channels * Blocks::of(conv).words();
        match self.needed_at {
            Some(at) if at + words > self.place.row_words => {
                let problem = format!("{words} words of bits from {at} do not fit rows of {}", self.place.row_words);
                Err(Error::Kernel { kernel, problem })
            }
            _ => Ok(()),
        }
    }
}

/// Hard gates around a layer: 1 leaves a channel open, and one that is closed counts as 0 in every image. What lies there may be
/// anything, so kernels have to leave out what it would add to a sum or pass on of a gradient.
#[derive(Clone, Copy, Debug)]
pub struct LayerGates<'a> {
    /// `[slots][row_words]`.
    pub values: View<'a>,
    /// G: words of a row.
    pub row_words: usize,
    /// The first gate of the layer's own output channels, if they have any.
    pub outputs_at: Option<usize>,
    /// The first gate of its input channels, if they have any.
    pub inputs_at: Option<usize>,
    /// Whether nobody reads what lies in its own channels that are closed in front of a ReLU: then a forward pass leaves it
    /// as it is.
    pub closed_unread: bool,
}

impl LayerGates<'_> {
    /// The gates of all channels lie in their rows, and the rows in the buffer.
    pub(super) fn check(&self, kernel: &'static str, slots: usize, conv: &Conv) -> Result<()> {
        for (at, channels) in [(self.outputs_at, conv.out_channels), (self.inputs_at, conv.in_channels)] {
            if let Some(at) = at {
                Gates { values: self.values, row_words: self.row_words, at }.check(kernel, slots, channels)?;
            }
        }
        Ok(())
    }
}

/// A surviving weight and where it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tap {
    /// The channel of the other side.
    pub other: usize,
    pub ky: usize,
    pub kx: usize,
    pub weight: f32,
}

/// The lists of one row, for a twin.
#[derive(Clone, Copy)]
pub(super) struct RowLists<'a> {
    pub filters: Filters,
    pub side: Side,
    /// The layer's weights.
    pub weights: &'a [f32],
    /// The layer's lists and what follows them.
    pub lists: &'a [u32],
    /// The lists' numbers of entries.
    pub counts: &'a [u32],
}

impl<'a> RowLists<'a> {
    /// The lists of row `row` of `lists` (`[rows][S]`), of weights in row `row` of `weights` (`[rows][P]`).
    pub fn new(
        (filters, side): (Filters, Side),
        row: usize,
        weights: &'a [f32],
        at: Place,
        lists: &'a [u32],
        place: ListPlace,
    ) -> Self {
        let lists = &lists[row * place.row_words..][..place.row_words];
        Self {
            filters,
            side,
            weights: &weights[row * at.row_words + at.weights_at..][..filters.words()],
            lists: &lists[place.lists_at..],
            counts: &lists[place.counts_at..][..filters.lists(side)],
        }
    }

    /// The survivors of list `list`, in order.
    pub fn taps(&self, list: usize) -> impl Iterator<Item = Tap> + use<'a> {
        let Self { filters, side, weights, .. } = *self;
        let (own, step) = filters.steps(side);
        let entries = &self.lists[list * filters.longest(side)..][..self.counts[list] as usize];
        entries.iter().map(move |entry| {
            let [other, ky, kx] = [entry >> 8, entry >> 4 & 15, entry & 15].map(|n| n as usize);
            let weight = weights[list * own + other * step + ky * filters.kernel + kx];
            Tap { other, ky, kx, weight }
        })
    }
}

/// Uniform block of the sparse convolutions.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct SparseConvParams {
    /// Of which `gates_at` is [`NO_GATES`] where the outputs have none.
    pub conv: ConvParams,
    list_words: u32,
    lists_at: u32,
    list_counts_at: u32,
    /// The first gate of the input channels, or [`NO_GATES`].
    pub input_gates_at: u32,
    /// 1 where nobody reads closed channels.
    pub closed_unread: u32,
    /// The first channel's bits of the blocks that are needed, or [`ALL_NEEDED`].
    pub needed_at: u32,
}

/// The words of a sparse convolution's uniform block.
pub(super) fn params(words: &[u32]) -> &SparseConvParams {
    bytemuck::from_bytes(bytemuck::cast_slice(words))
}

/// Words of [`SparseConvParams`].
pub(super) const SPARSE_CONV_WORDS: usize = size_of::<SparseConvParams>() / 4;

/// The grid where a thread owns a whole plane of one of `channels` for 4 images.
pub(super) fn planes(p: &ConvParams, channels: u32) -> [u32; 3] {
    grid::folded((channels.div_ceil(8) * p.chunks) as usize, p.slots)
}

/// Where gates would start that are not there.
pub(super) const NO_GATES: u32 = u32::MAX;

impl SparseConvParams {
    pub fn new(conv: &Conv, batch: Batch, place: Place, gates: Option<LayerGates<'_>>, lists: ListPlace) -> Self {
        let [list_words, lists_at, list_counts_at] = lists.words();
        let at = |at: Option<usize>| at.map_or(NO_GATES, |at| at as u32);
        let mut conv = ConvParams::new(conv, batch, place, None);
        conv.gate_words = gates.map_or(0, |g| g.row_words as u32);
        conv.gates_at = at(gates.and_then(|g| g.outputs_at));
        let input_gates_at = at(gates.and_then(|g| g.inputs_at));
        let closed_unread = gates.is_some_and(|g| g.closed_unread).into();
        let needed_at = ALL_NEEDED;
        Self { conv, list_words, lists_at, list_counts_at, input_gates_at, closed_unread, needed_at }
    }

    /// With blocks that a forward pass leaves as they are.
    pub fn needed(self, at: Option<usize>) -> Self {
        Self { needed_at: at.map_or(ALL_NEEDED, |at| at as u32), ..self }
    }

    pub fn place(&self) -> ListPlace {
        ListPlace::of([self.list_words, self.lists_at, self.list_counts_at])
    }

    /// One slot's gates of `channels` channels from `at` on; all open where they have none.
    pub fn gates(&self, gates: &[f32], slot: usize, at: u32, channels: usize) -> Vec<f32> {
        match at {
            NO_GATES => vec![1.0; channels],
            at => gates[slot * self.conv.gate_words as usize + at as usize..][..channels].to_vec(),
        }
    }
}

/// Uniform block of the sparse fully connected layers.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct SparseLinearParams {
    pub linear: LinearParams,
    list_words: u32,
    lists_at: u32,
    list_counts_at: u32,
    reserved: u32,
}

/// Words of [`SparseLinearParams`].
pub(super) const SPARSE_LINEAR_WORDS: usize = size_of::<SparseLinearParams>() / 4;

impl SparseLinearParams {
    pub fn new(linear: LinearParams, place: ListPlace) -> Self {
        let [list_words, lists_at, list_counts_at] = place.words();
        Self { linear, list_words, lists_at, list_counts_at, reserved: 0 }
    }

    pub fn place(&self) -> ListPlace {
        ListPlace::of([self.list_words, self.lists_at, self.list_counts_at])
    }
}
