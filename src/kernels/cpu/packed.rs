//! How the convolutions' twins feed matrix products: images packed row by row, read in place.
//!
//! A chunk of images is packed as `[y][channel][x][image]`. What one tap (ky, kx, channel) of all filters meets in a row of
//! output is then a contiguous piece of a packed row, pixels and images together: a row of output is one product of the
//! filters with pieces whose places are listed, and no column buffer is built. The weight gradient multiplies by the
//! pieces transposed, which lie evenly for one column kx of the filters at a time: it takes a product for each. Layers of
//! few channels (an image's first) would make those too thin; there the columns kx are packed as channels of their own.

use std::cell::RefCell;

use super::vectors::{LANES, array, each, put, steps, with_vectors};
use crate::device::linalg::{Mat, MatMut};
use crate::device::panel::panel;
use crate::kernels::CHUNK;
use crate::kernels::shape::Conv;

/// Fewer rows of taps than this take the columns kx as channels.
const THIN: usize = 24;

/// A chunk of one slot's images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images {
    /// B, the step between pixels in a buffer.
    pub stride: usize,
    /// The first image.
    pub first: usize,
    /// Images that exist: at most `CHUNK`, perhaps none.
    pub real: usize,
    /// `real` rounded up to a multiple of 4: from the slot's own count alone, so that no bit depends on B.
    pub lanes: usize,
}

impl Images {
    pub fn new(chunk: usize, stride: usize, count: u32) -> Self {
        let first = chunk * CHUNK;
        let real = (count as usize).min(stride).saturating_sub(first).min(CHUNK);
        Self { stride, first, real, lanes: real.next_multiple_of(4) }
    }

    /// The images of one pixel, of a buffer `[pixel][B]`.
    #[inline(always)]
    fn of<'a, T>(&self, slot: &'a [T], pixel: usize) -> &'a [T] {
        &slot[pixel * self.stride + self.first..][..self.lanes]
    }
}

/// What is packed, and which taps of it make an output: output (y, x) sums over ky, kx of packed row `y + ky - pad` and
/// packed column `x + kx`.
#[derive(Clone, Copy, Debug)]
pub struct Taps {
    /// Side of the filters.
    pub kernel: usize,
    /// Columns kx that are no channels: `kernel`, or 1 where they are packed as such.
    pub passes: usize,
    /// Packed channels.
    pub channels: usize,
    /// Packed rows, and the rows of zeros that are imagined before them (negative: rows left out).
    pub rows: usize,
    pub pad: isize,
    /// Packed columns, zeros included.
    pub width: usize,
    /// Columns of the output.
    pub out_width: usize,
}

impl Taps {
    /// For the forward pass and the weight gradient, which read the input.
    pub fn of_input(conv: &Conv) -> Self {
        let out_width = conv.pooled().1 * conv.pool;
        let thin = conv.in_channels * conv.kernel < THIN;
        let (passes, channels, width) = match thin {
            true => (1, conv.in_channels * conv.kernel, out_width),
            false => (conv.kernel, conv.in_channels, out_width + conv.kernel - 1),
        };
        let pad = conv.padding as isize;
        Self { kernel: conv.kernel, passes, channels, rows: conv.height, pad, width, out_width }
    }

    /// For the input gradient, which reads dz through the filters turned by half a turn.
    pub fn of_output_grad(conv: &Conv) -> Self {
        Self {
            kernel: conv.kernel,
            passes: conv.kernel,
            channels: conv.out_channels,
            rows: conv.pooled().0 * conv.pool,
            pad: conv.kernel as isize - 1 - conv.padding as isize,
            width: conv.width + conv.kernel - 1,
            out_width: conv.width,
        }
    }

    /// Taps of one pass.
    pub fn depth(&self) -> usize {
        self.kernel * self.channels
    }

    /// Words from one packed row to the next.
    pub fn step(&self, lanes: usize) -> usize {
        apart(self.width * lanes)
    }

    /// Words of the packed images.
    pub fn words(&self, lanes: usize) -> usize {
        self.rows * self.channels * self.step(lanes)
    }

    /// Which pass has the tap (ky, kx) of channel c, and where.
    pub fn place(&self, c: usize, ky: usize, kx: usize) -> (usize, usize) {
        if self.passes == self.kernel {
            return (kx, ky * self.channels + c);
        }
        (0, ky * self.channels + kx * (self.channels / self.kernel) + c)
    }

    /// The first packed row that output row `y` reads, the ky that reads it, and how many rows follow each other. The
    /// others are zeros and left out of the products.
    pub fn rows_read(&self, y: usize) -> (usize, usize, usize) {
        let start = y as isize - self.pad;
        let first = start.max(0);
        let end = (start + self.kernel as isize).min(self.rows as isize);
        ((first as usize), (first - start) as usize, (end - first).max(0) as usize)
    }

    /// Where the packed rows of the taps (ky, kx, c), in this order, start after that of the first row an output reads.
    pub fn starts(&self, lanes: usize) -> Vec<usize> {
        let row = self.step(lanes);
        let of = |ky: usize| {
            (0..self.passes)
                .flat_map(move |kx| (0..self.channels).map(move |c| (ky * self.channels + c) * row + kx * lanes))
        };
        (0..self.kernel).flat_map(of).collect()
    }

    /// `out[m][x][image]` for output row `y`: the packed images times `filters`, `[M][ky][kx][C]`.
    pub fn correlate(
        &self,
        (packed, starts): (&[f32], &[usize]),
        lanes: usize,
        y: usize,
        filters: &[f32],
        out: MatMut<'_>,
    ) {
        let (row, ky, rows) = self.rows_read(y);
        let (depth, taps, columns) = (self.passes * self.depth(), self.passes * self.channels, self.out_width * lanes);
        if rows == 0 {
            return out.data.chunks_mut(out.row).for_each(|row| row[..columns].fill(0.0));
        }
        let images = &packed[row * self.channels * self.step(lanes)..];
        let lhs = Mat { data: &filters[ky * taps..], row: depth, col: 1 };
        panel(filters.len() / depth, columns, out, lhs, images, &starts[..rows * taps]);
    }
}

/// The step between rows of so many words that are read or written side by side: an odd number of cache lines, since rows a
/// power of two apart would share a few sets of the first-level cache.
pub fn apart(words: usize) -> usize {
    (words.div_ceil(LANES) | 1) * LANES
}

/// Packs the input of one slot, `[C][H][W][B]`.
pub fn pack_input(conv: &Conv, taps: &Taps, images: Images, input: &[f32], packed: &mut [f32]) {
    with_vectors!(images.lanes, pack_input_by(conv, taps, images, input, packed));
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq", "x86_64+avx2"))]
fn pack_input_by<const L: usize>(conv: &Conv, taps: &Taps, images: Images, input: &[f32], packed: &mut [f32]) {
    let (lanes, real) = (images.lanes, conv.in_channels);
    for (row, to) in packed.chunks_exact_mut(taps.step(lanes)).enumerate() {
        let (y, channel) = (row / taps.channels, row % taps.channels);
        let (kx, c) = (channel / real, channel % real);
        let from = (c * conv.height + y) * conv.width;
        for (x, to) in to[..taps.width * lanes].chunks_exact_mut(lanes).enumerate() {
            match (x + kx).checked_sub(conv.padding).filter(|x| *x < conv.width) {
                Some(x) => copy::<L>(to, images.of(input, from + x)),
                None => to.fill(0.0),
            }
        }
    }
}

/// `to = from` by vectors of `L`.
#[inline(always)]
pub fn copy<const L: usize>(to: &mut [f32], from: &[f32]) {
    for at in steps::<L>(to.len()) {
        put::<_, L>(&mut to[at..], array(&from[at..]));
    }
}

/// Which rows and columns of dz are packed.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// The first row; the packed slice says how many.
    pub row: usize,
    /// Columns of zeros before the first (negative: columns left out).
    pub margin: isize,
    /// Columns; behind dz come zeros.
    pub width: usize,
    /// Words from one packed row to the next.
    pub step: usize,
}

/// Packs dz: `output_grad` (`[M][PH][PW][B]`, one slot) at each window's winner, 0 elsewhere and where dead.
pub fn pack_dz(conv: &Conv, frame: Frame, images: Images, grad: (&[f32], &[u8]), packed: &mut [f32]) {
    with_vectors!(images.lanes, pack_dz_by(conv, frame, images, grad, packed));
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq", "x86_64+avx2"))]
fn pack_dz_by<const L: usize>(
    conv: &Conv,
    frame: Frame,
    images: Images,
    (output_grad, codes): (&[f32], &[u8]),
    packed: &mut [f32],
) {
    let Frame { row: first, margin, width, step } = frame;
    let (lanes, pool, (out_h, out_w)) = (images.lanes, conv.pool, conv.pooled());
    let before = usize::try_from(margin).unwrap_or(0).min(width);
    let after = (out_w * pool).saturating_add_signed(margin).min(width);
    let rows = packed.len() / (step * conv.out_channels);
    for i in 0..rows * conv.out_channels {
        // In the order of the input, whose pages are many.
        let (m, row) = (i / rows, i % rows);
        let to = &mut packed[(row * conv.out_channels + m) * step..][..width * lanes];
        let y = first + row;
        let (from, wy) = ((m * out_h + y / pool) * out_w, y % pool);
        to[..before * lanes].fill(0.0);
        to[after * lanes..].fill(0.0);
        for px in 0..out_w {
            let (grad, codes) = (images.of(output_grad, from + px), images.of(codes, from + px));
            for at in steps::<L>(lanes) {
                let (grad, code) = (array::<f32, L>(&grad[at..]), array::<u8, L>(&codes[at..]));
                for wx in 0..pool {
                    let Some(x) = (px * pool + wx).checked_add_signed(margin).filter(|x| *x < width) else { continue };
                    let place = (wy * pool + wx) as u32;
                    let routed = |i: usize| if u32::from(code[i]) == place { grad[i].to_bits() } else { 0 };
                    put::<f32, L>(&mut to[x * lanes + at..], each(|i| f32::from_bits(routed(i))));
                }
            }
        }
        if images.real < lanes {
            to.chunks_exact_mut(lanes).for_each(|pixel| pixel[images.real..].fill(0.0));
        }
    }
}

/// A chunk's images of a layer's values and of its codes: `[M][PH][PW]` pieces each.
pub type Pieces<'a, 'b> = (&'a mut [&'b mut [f32]], &'a mut [&'b mut [u8]]);

/// Zeroes the padding behind the `real` images of each piece. Images of its first quad are to be written after: a quad is a
/// move, where so many places would be a call.
pub fn blank<T: Copy + Default>(pieces: &mut [&mut [T]], real: usize) {
    for piece in pieces {
        if let Some((first, others)) = piece[real / 4 * 4..].as_chunks_mut::<4>().0.split_first_mut() {
            *first = [T::default(); 4];
            if !others.is_empty() {
                others.fill([T::default(); 4]);
            }
        }
    }
}

/// Splits `[row][B]` by chunks of images: for each chunk, its piece of every row.
pub fn by_chunk<T>(rows: &mut [T], stride: usize) -> Vec<Vec<&mut [T]>> {
    let count = rows.len() / stride;
    let mut chunks: Vec<_> = (0..stride.div_ceil(CHUNK)).map(|_| Vec::with_capacity(count)).collect();
    for row in rows.chunks_exact_mut(stride) {
        for (chunk, piece) in chunks.iter_mut().zip(row.chunks_mut(CHUNK)) {
            chunk.push(piece);
        }
    }
    chunks
}

/// A cache line, so that no vector of a packed row straddles two.
#[repr(C, align(64))]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Line([f32; 16]);

thread_local! {
    static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
    static FILTERS: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with slices of `words` floats of a memory that the thread keeps. They hold whatever was left there.
/// `work` must not come back here.
pub fn with_scratch<const N: usize>(words: [usize; N], work: impl FnOnce([&mut [f32]; N])) {
    SCRATCH.with_borrow_mut(|lines| {
        let mut rest = grown(lines, words.iter().map(|w| w.next_multiple_of(16)).sum());
        work(words.map(|words| {
            let (part, tail) = std::mem::take(&mut rest).split_at_mut(words.next_multiple_of(16));
            rest = tail;
            &mut part[..words]
        }));
    });
}

/// Calls `work` with another memory that the thread keeps. `work` may wait for other threads, and so come back here: what it
/// then finds is a memory of its own.
pub fn with_filters(words: usize, work: impl FnOnce(&mut [f32])) {
    let mut lines = FILTERS.take();
    work(&mut grown(&mut lines, words)[..words]);
    FILTERS.set(lines);
}

/// At least so many words.
fn grown(lines: &mut Vec<Line>, words: usize) -> &mut [f32] {
    if lines.len() < words.div_ceil(16) {
        lines.resize(words.div_ceil(16), Line([0.0; 16]));
    }
    bytemuck::cast_slice_mut(lines)
}
