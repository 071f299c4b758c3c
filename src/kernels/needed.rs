//! Which of a convolution's outputs anything needs (`shaders/needed.wgsl`).
//!
//! At 99.5% sparsity a fully connected layer reads one in twenty of the outputs in front of it, and what those are computed
//! from is little as well. A pass that leaves the others out ends in the same bits, as long as their numbers are finite: they
//! change no logit, and no gradient reaches them.

use rayon::prelude::*;

use super::cases::{LEFT, below};
use super::shape::{Conv, Linear, Place, expect};
use super::sparse::{Filters, ListPlace, Lists, Side};
use super::survivors::listed;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "needed",
    source: || include_str!("../../shaders/needed.wgsl").into(),
    variants: &[],
    bindings: &[Binding::read("lists"), Binding::write("needed", Compare::Exact)],
    params_words: size_of::<Params>() / 4,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// The 2x2 blocks of a channel's sums that a forward pass computes together: a pooling window each, or four outputs where
/// nothing is pooled. Numbered row by row, and a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Rows of blocks.
    pub rows: usize,
    /// Blocks of a row.
    pub columns: usize,
}

impl Blocks {
    /// Those of a convolution.
    pub fn of(conv: &Conv) -> Self {
        let ((height, width), side) = (conv.pooled(), side(conv));
        Self { rows: height.div_ceil(side), columns: width.div_ceil(side) }
    }

    /// Words of the bits of one channel.
    pub fn words(self) -> usize {
        (self.rows * self.columns).div_ceil(32)
    }
}

/// Outputs along a block's side.
fn side(conv: &Conv) -> usize {
    if conv.pool == 2 { 1 } else { 2 }
}

/// The outputs of one row of weights that a forward pass computes, for a twin.
#[derive(Clone, Copy)]
pub(super) struct Outputs<'a> {
    /// From the first channel's bits on; all outputs without them.
    bits: Option<&'a [u32]>,
    blocks: Blocks,
    side: usize,
}

impl<'a> Outputs<'a> {
    /// Those of a convolution whose first channel's bits are at `at` of `row`, or [`ALL_NEEDED`].
    pub fn new(conv: &Conv, row: &'a [u32], at: u32) -> Self {
        let bits = if at == ALL_NEEDED { None } else { row.get(at as usize..) };
        Self { bits, blocks: Blocks::of(conv), side: side(conv) }
    }

    pub fn all(&self) -> bool {
        self.bits.is_none()
    }

    /// Whether output (y, x) of channel `m` is one of them.
    #[inline(always)]
    pub fn has(&self, m: usize, y: usize, x: usize) -> bool {
        let block = y / self.side * self.blocks.columns + x / self.side;
        self.bits.is_none_or(|bits| bits[m * self.blocks.words() + block / 32] >> (block % 32) & 1 != 0)
    }
}

/// The layer behind a convolution.
#[derive(Clone, Copy, Debug)]
pub enum Next {
    /// A convolution, and where in a row the bits of its own blocks are: without them all are needed.
    Conv(Conv, Option<usize>),
    /// A fully connected layer, all of whose outputs count as needed.
    Linear(Linear),
}

impl Next {
    fn filters(&self) -> Filters {
        match self {
            Next::Conv(conv, _) => conv.into(),
            Next::Linear(linear) => linear.into(),
        }
    }
}

/// Where the bits of convolutions' blocks are.
#[derive(Clone, Copy, Debug)]
pub struct Needed<'a> {
    /// `[rows][row_words]`.
    pub values: View<'a>,
    /// Words of a row.
    pub row_words: usize,
    /// The first channel's; each has [`Blocks::words`].
    pub at: usize,
}

/// Where there is no such thing.
pub(super) const ALL_NEEDED: u32 = u32::MAX;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    channels: u32,
    height: u32,
    width: u32,
    side: u32,
    blocks_x: u32,
    blocks: u32,
    row_words: u32,
    needed_at: u32,
    linear: u32,
    longest: u32,
    list_words: u32,
    lists_at: u32,
    counts_at: u32,
    padding: u32,
    next_height: u32,
    next_width: u32,
    next_blocks_x: u32,
    next_words: u32,
    next_needed_at: u32,
}

impl Params {
    fn new(conv: &Conv, row_words: usize, needed_at: usize, next: Next, lists: ListPlace) -> Self {
        let ((height, width), blocks) = (conv.pooled(), Blocks::of(conv));
        let own = [conv.out_channels, height, width, side(conv), blocks.columns, blocks.rows * blocks.columns];
        let [channels, height, width, side, blocks_x, blocks] = own.map(|n| n as u32);
        let (linear, behind) = match next {
            Next::Linear(_) => (1, [0; 6]),
            Next::Conv(next, needed_at) => {
                let ((h, w), blocks) = (next.pooled(), Blocks::of(&next));
                let at = needed_at.map_or(ALL_NEEDED, |at| at as u32);
                let sizes = [next.padding, h * next.pool, w * next.pool, blocks.columns, blocks.words()];
                let [padding, h, w, columns, words] = sizes.map(|n| n as u32);
                (0, [padding, h, w, columns, words, at])
            }
        };
        let [padding, next_height, next_width, next_blocks_x, next_words, next_needed_at] = behind;
        let rows = [row_words, needed_at, next.filters().longest(Side::Inputs)];
        let [row_words, needed_at, longest] = rows.map(|n| n as u32);
        let [list_words, lists_at, counts_at] = lists.words();
        Self {
            channels,
            height,
            width,
            side,
            blocks_x,
            blocks,
            row_words,
            needed_at,
            linear,
            longest,
            list_words,
            lists_at,
            counts_at,
            padding,
            next_height,
            next_width,
            next_blocks_x,
            next_words,
            next_needed_at,
        }
    }

    fn words(&self) -> u32 {
        self.channels * self.blocks.div_ceil(32)
    }

    fn groups(&self, rows: usize) -> [u32; 3] {
        [self.words().div_ceil(64), rows as u32, 1]
    }
}

/// Writes, for each of `rows` rows of weights, which blocks of the convolution's outputs are needed: those of which a surviving
/// weight of `next`, listed by input in `lists`, reads any output for a block that is needed itself.
///
/// # Errors
/// [`Error::Kernel`] when a view is too small, or `next` does not read the convolution's outputs.
pub fn needed<'a>(
    device: &dyn Device,
    rows: usize,
    conv: &Conv,
    (next, lists): (Next, Lists<'a>),
    to: Needed<'a>,
) -> Result<()> {
    let name = KERNEL.name;
    let (filters, outputs) = (next.filters(), conv.sizes().1);
    lists.check(name, &filters, Side::Inputs)?;
    expect(name, "lists", lists.values, rows * lists.place.row_words)?;
    expect(name, "needed", to.values, rows * to.row_words)?;
    let inputs = match next {
        Next::Conv(conv, _) => conv.sizes().0,
        Next::Linear(linear) => linear.inputs,
    };
    if inputs != outputs {
        return Err(Error::Kernel { kernel: name, problem: format!("{inputs} inputs of {outputs} outputs") });
    }
    let mut ends = vec![to.at + conv.out_channels * Blocks::of(conv).words()];
    if let Next::Conv(next, Some(at)) = next {
        ends.push(at + next.out_channels * Blocks::of(&next).words());
    }
    if ends.iter().any(|end| *end > to.row_words) {
        let problem = format!("bits up to {ends:?} do not fit rows of {}", to.row_words);
        return Err(Error::Kernel { kernel: name, problem });
    }
    let p = Params::new(conv, to.row_words, to.at, next, lists.place);
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &[lists.values, to.values], p.groups(rows))
}

fn twin(call: Call<'_>) {
    let (p, rows): (Params, _) = (call.params(), call.groups[1] as usize);
    let ([lists], [needed]) = call.buffers();
    let rows = needed.par_chunks_mut(p.row_words as usize).zip(lists.par_chunks(p.list_words as usize)).take(rows);
    rows.for_each(|(needed, lists)| {
        let words = p.blocks.div_ceil(32);
        for item in 0..p.words() {
            let first = item % words * 32;
            let own = first..p.blocks.min(first + 32);
            let set = own.filter(|block| block_is_read(&p, lists, needed, item / words, *block));
            let bits = set.fold(0, |bits, block| bits | 1 << (block - first));
            needed[(p.needed_at + item) as usize] = bits;
        }
    });
}

fn block_is_read(p: &Params, lists: &[u32], needed: &[u32], m: u32, block: u32) -> bool {
    let (top, left) = (block / p.blocks_x * p.side, block % p.blocks_x * p.side);
    let read = |y, x| is_read(p, lists, needed, m, y, x);
    (top..p.height.min(top + p.side)).any(|y| (left..p.width.min(left + p.side)).any(|x| read(y, x)))
}

fn is_read(p: &Params, lists: &[u32], needed: &[u32], m: u32, y: u32, x: u32) -> bool {
    let list = if p.linear != 0 { (m * p.height + y) * p.width + x } else { m };
    let places = &lists[(p.lists_at + list * p.longest) as usize..][..lists[(p.counts_at + list) as usize] as usize];
    places.iter().any(|place| {
        let at = |from: u32, k: u32, end: u32| (from + p.padding).checked_sub(k & 15).filter(|at| *at < end);
        if p.linear != 0 {
            return true;
        }
        let (Some(y), Some(x)) = (at(y, place >> 4, p.next_height), at(x, *place, p.next_width)) else {
            return false;
        };
        let block = y / 2 * p.next_blocks_x + x / 2;
        let word = || needed[(p.next_needed_at + (place >> 8) * p.next_words + block / 32) as usize];
        p.next_needed_at == ALL_NEEDED || word() >> (block % 32) & 1 != 0
    })
}

fn cases() -> Vec<Case> {
    let conv = |[in_channels, out_channels, height, width, kernel, padding]: [usize; 6], pool| Conv {
        in_channels,
        out_channels,
        height,
        width,
        kernel,
        padding,
        pool,
        relu: true,
    };
    let first = |channels, height, width, pool| conv([1, channels, height, width, 3, 1], pool);
    let linear = |of: &Conv, outputs| Next::Linear(Linear { inputs: of.sizes().1, outputs, relu: false });
    // Bits of the next layer's blocks, if it has any, lie behind the layer's own.
    let case = |name, rows: usize, conv: Conv, next: Next, rare: u32| {
        let filters = next.filters();
        let from = Place { row_words: filters.words() + 9, weights_at: 5, bias_at: 0 };
        let to =
            ListPlace { row_words: filters.words() + filters.inputs + 6, lists_at: 3, counts_at: filters.words() + 4 };
        let weights = below(rows * from.row_words, rare, 1).into_iter().map(|n| u32::from(n == 0) * 1.0f32.to_bits());
        let own = conv.out_channels * Blocks::of(&conv).words();
        let (next, behind) = match next {
            Next::Conv(conv, Some(_)) => {
                (Next::Conv(conv, Some(own + 4)), conv.out_channels * Blocks::of(&conv).words())
            }
            next => (next, 0),
        };
        let row_words = own + behind + 7;
        let p = Params::new(&conv, row_words, 2, next, to);
        // One block of the next layer in eight is needed.
        let mut bits = vec![LEFT; rows * row_words];
        for (i, row) in bits.chunks_exact_mut(row_words).enumerate() {
            let set = below(32 * behind, 8, 2 + i as u32);
            for (word, set) in row[own + 4..][..behind].iter_mut().zip(set.chunks_exact(32)) {
                *word = set.iter().enumerate().fold(0, |word, (b, n)| word | u32::from(*n == 0) << b);
            }
        }
        Case {
            name,
            params: bytemuck::cast_slice(&[p]).to_vec(),
            buffers: vec![listed(&filters, Side::Inputs, &weights.collect::<Vec<_>>(), from, to), bits],
            groups: p.groups(rows),
            flops: 0,
        }
    };
    let (one, odd, flat) = (first(1, 2, 2, 2), first(5, 11, 14, 2), first(5, 7, 9, 1));
    let (word, words) = (first(3, 8, 16, 1), first(3, 16, 16, 1));
    let [input, second, third] = [first(32, 28, 28, 2), first(64, 14, 14, 2), first(128, 7, 7, 2)];
    vec![
        case("one output, nothing reads it", 1, one, linear(&one, 1), u32::MAX),
        case("odd, all needed", 2, odd, Next::Conv(conv([5, 7, 5, 7, 3, 1], 2), None), 30),
        case("odd, few needed", 3, odd, Next::Conv(conv([5, 66, 5, 7, 5, 2], 1), Some(0)), 40),
        case("no pooling", 2, flat, Next::Conv(conv([5, 7, 7, 9, 3, 0], 2), Some(0)), 20),
        case("no pooling, fully connected", 2, flat, linear(&flat, 7), 30),
        case("all survive", 2, odd, Next::Conv(conv([5, 7, 5, 7, 1, 2], 2), Some(0)), 1),
        case("32 blocks before 32", 2, word, Next::Conv(conv([3, 5, 8, 16, 3, 1], 2), Some(0)), 8),
        case("64 blocks before 64", 2, words, Next::Conv(conv([3, 5, 16, 16, 3, 1], 2), Some(0)), 8),
        case("simple-cnn conv1 before conv2", 2, input, Next::Conv(conv([32, 64, 14, 14, 3, 1], 2), Some(0)), 144),
        case("simple-cnn conv2 before conv3", 5, second, Next::Conv(conv([64, 128, 7, 7, 3, 1], 2), Some(0)), 144),
        case("simple-cnn conv3 before fc", 5, third, linear(&third, 10), 200),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::cases::on_cpu;
    use super::super::sparse::entry;
    use super::*;

    /// The bits of a row after [`needed`], in front of which is the row `row`.
    fn run(conv: &Conv, next: Next, lists: &[u32], row: &[u32]) -> Result<Vec<u32>> {
        let place = ListPlace { row_words: lists.len(), lists_at: 0, counts_at: next.filters().words() };
        let after = on_cpu(&[lists.to_vec(), row.to_vec()], |device, v| {
            let to = Needed { values: v[1], row_words: row.len(), at: 0 };
            needed(device, 1, conv, (next, Lists { values: v[0], place, needed_at: None }), to)
        });
        Ok(after?.remove(1))
    }

    fn conv(in_channels: usize, out_channels: usize, side: usize, pool: usize) -> Conv {
        Conv { in_channels, out_channels, height: side, width: side, kernel: 3, padding: 1, pool, relu: true }
    }

    #[test]
    fn by_hand() {
        // One channel of 4x4 outputs in front of one of 2x2 windows, of which the last is needed: sums 2 and 3 of either axis.
        let (first, second) = (conv(1, 1, 8, 2), conv(1, 1, 4, 2));
        let lists = |places: &[u32]| [places, &vec![9; 9 - places.len()], &[places.len() as u32]].concat();
        let bits = |needed: &[(usize, usize)]| needed.iter().fold(0, |bits, (y, x)| bits | 1 << (4 * y + x));
        let run = |places: &[u32]| run(&first, Next::Conv(second, Some(1)), &lists(places), &[LEFT, 0b1000]).unwrap();
        assert_eq!(run(&[]), [0, 0b1000]);
        assert_eq!(run(&[entry(0, 1, 1)]), [bits(&[(2, 2), (2, 3), (3, 2), (3, 3)]), 0b1000]);
        // The place above and left reads the outputs before those; of the one below and right, three are outside.
        assert_eq!(run(&[entry(0, 0, 0)])[0], bits(&[(1, 1), (1, 2), (2, 1), (2, 2)]));
        assert_eq!(run(&[entry(0, 2, 2)])[0], bits(&[(3, 3)]));
        assert_eq!(run(&[entry(0, 0, 1), entry(0, 2, 2)])[0], bits(&[(1, 2), (1, 3), (2, 2), (2, 3), (3, 3)]));
    }

    #[test]
    fn a_block_of_four_outputs_is_needed_where_one_of_them_is() {
        // 3x3 outputs of each of two channels, hence 2x2 blocks; read are the second's outputs (1, 2) and (2, 0).
        let next = Next::Linear(Linear { inputs: 18, outputs: 1, relu: false });
        let mut lists = vec![0; 36];
        (lists[18 + 9 + 5], lists[18 + 9 + 6]) = (1, 1);
        assert_eq!(run(&conv(1, 2, 3, 1), next, &lists, &[LEFT; 3]).unwrap(), [0, 0b0110, LEFT]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (first, second) = (conv(1, 1, 8, 2), conv(1, 1, 4, 2));
        let lists = [0; 10];
        assert!(run(&first, Next::Conv(second, Some(1)), &lists, &[0; 2]).is_ok());
        assert!(run(&first, Next::Conv(second, Some(2)), &lists, &[0; 2]).is_err(), "bits beyond their row");
        assert!(run(&first, Next::Conv(second, None), &lists[..9], &[0; 2]).is_err(), "lists beyond theirs");
        let error = run(&first, Next::Conv(conv(1, 1, 5, 2), None), &lists, &[0; 2]).unwrap_err().to_string();
        assert!(error.contains("25 inputs of 16 outputs"), "{error}");
    }
}
