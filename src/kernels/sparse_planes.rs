//! How the convolutions' sparse twins read images: the planes that some survivor touches, one vector of images and one
//! strip of rows at a time, with the zeros around them written out. A survivor is then one offset, and no edge has to be
//! looked for.

use std::ops::Range;

use super::packed::Images;
use super::shape::Conv;
use super::sparse::{LANES, RowLists, Tap, Vector, add, load};
use super::vectors::each;

/// What is read through the survivors.
#[derive(Clone, Copy, Debug)]
pub(super) enum Read<'a> {
    /// The input, for the forward pass.
    Input(&'a Conv),
    /// dz, the gradient before the pooling, for the input gradient.
    OutputGrad(&'a Conv),
}

/// Vectors that are packed together: 384 KiB, which a second-level cache keeps.
const PACKED: usize = 6144;

/// A strip of rows of the planes: `[used channel][rows][width]` vectors.
#[derive(Debug)]
pub(super) struct Planes {
    /// Columns of a plane, zeros included.
    pub width: usize,
    /// Rows that the taps reach below the first.
    reach: usize,
    /// Output rows of a strip.
    step: usize,
    /// Rows and columns of zeros before the first that is there (negative: rows and columns left out).
    margin: isize,
    /// Whether a tap reads further up and left the greater it is, as the input gradient does.
    turned: bool,
    /// Of each channel its plane, where a survivor touches it and no gate closes it.
    place: Vec<Option<usize>>,
    /// The channel of each plane.
    used: Vec<usize>,
}

impl Planes {
    /// The planes that the lists named by `wanted` touch, of channels whose gates are open.
    pub fn new(read: Read<'_>, lists: &RowLists<'_>, gates: &[f32], wanted: impl Iterator<Item = usize>) -> Self {
        let (turned, channels, width, unit, margin, kernel) = match read {
            Read::Input(c) => (false, c.in_channels, c.pooled().1 * c.pool, c.pool, c.padding as isize, c.kernel),
            Read::OutputGrad(c) => {
                (true, c.out_channels, c.width, 1, c.kernel as isize - 1 - c.padding as isize, c.kernel)
            }
        };
        let mut place = vec![None; channels];
        let mut used = Vec::new();
        for tap in wanted.flat_map(|list| lists.taps(list)).filter(|tap| gates[tap.other] != 0.0) {
            place[tap.other].get_or_insert_with(|| {
                used.push(tap.other);
                used.len() - 1
            });
        }
        let (reach, width) = (kernel - 1, width + kernel - 1);
        let fit = (PACKED / (used.len().max(1) * width)).saturating_sub(reach);
        let step = (fit / unit * unit).max(unit);
        Self { width, reach, step, margin, turned, place, used }
    }

    /// The strips of `height` output rows: the first row and how many.
    pub fn strips(&self, height: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let step = self.step;
        (0..height).step_by(step).map(move |first| first..(first + step).min(height))
    }

    /// Rows of a packed plane.
    fn rows(&self) -> usize {
        self.step + self.reach
    }

    /// Words of scratch that packing fills.
    pub fn words(&self) -> usize {
        self.used.len() * self.rows() * self.width * LANES
    }

    /// The survivors of a list as offsets into a packed strip from the place of an output in its first row. Those whose
    /// plane is all zero are left out, unless their weight is infinite or not a number: then so is what they add.
    pub fn taps(&self, lists: &RowLists<'_>, list: usize, alive: &[bool]) -> Vec<(usize, f32)> {
        let offset = |tap: Tap| {
            let plane = self.place[tap.other].filter(|p| alive[*p] || !tap.weight.is_finite())?;
            let turn = |k: usize| if self.turned { self.reach - k } else { k };
            Some(((plane * self.rows() + turn(tap.ky)) * self.width + turn(tap.kx), tap.weight))
        };
        lists.taps(list).filter_map(offset).collect()
    }

    /// Packs the strip from output row `first` on of the input of one slot, `[C][H][W][B]`, and says of each plane
    /// whether any of it is not zero.
    pub fn pack_input(
        &self,
        conv: &Conv,
        images: Images,
        first: usize,
        input: &[f32],
        packed: &mut [Vector],
    ) -> Vec<bool> {
        let planes = packed.chunks_exact_mut(self.rows() * self.width).zip(&self.used);
        planes.map(|(plane, c)| pack_plane(self, conv, images, first, input, *c, plane)).collect()
    }

    /// Packs the strip from input row `first` on of dz: `output_grad` (`[M][PH][PW][B]`, one slot) at each window's
    /// winner, 0 elsewhere and where dead; says of each plane whether any of it is not zero.
    pub fn pack_dz(
        &self,
        conv: &Conv,
        images: Images,
        first: usize,
        grad: (&[f32], &[u8]),
        packed: &mut [Vector],
    ) -> Vec<bool> {
        let planes = packed.chunks_exact_mut(self.rows() * self.width).zip(&self.used);
        planes
            .map(|(plane, m)| match conv.pool {
                1 => route_plane::<1>(self, conv, images, first, grad, *m, plane),
                _ => route_plane::<2>(self, conv, images, first, grad, *m, plane),
            })
            .collect()
    }

    /// The sums of a block of outputs, whose first is at `at` of a strip: few enough to stay in registers.
    #[inline(always)]
    pub fn sums<const ROWS: usize, const COLUMNS: usize, const FUSED: bool>(
        &self,
        taps: &[(usize, f32)],
        packed: &[Vector],
        at: usize,
    ) -> [[Vector; COLUMNS]; ROWS] {
        let mut sums = [[[0.0; LANES]; COLUMNS]; ROWS];
        for (tap, weight) in taps {
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = &packed[tap + at + i * self.width..][..COLUMNS];
                for (sum, x) in sums.iter_mut().zip(row) {
                    add::<FUSED>(sum, *weight, x);
                }
            }
        }
        sums
    }

    /// Where row `i` of the images lies in the strip from output row `first` on.
    fn row(&self, i: usize, first: usize) -> Option<usize> {
        (i + self.reach).checked_add_signed(self.margin)?.checked_sub(first + self.reach).filter(|i| *i < self.rows())
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq", "x86_64+avx2"))]
fn pack_plane(
    planes: &Planes,
    conv: &Conv,
    images: Images,
    first: usize,
    input: &[f32],
    c: usize,
    plane: &mut [Vector],
) -> bool {
    let mut any = [0; LANES];
    let edge = conv.padding.min(planes.width);
    let columns = (planes.width - edge).min(conv.width);
    for (row, to) in plane.chunks_exact_mut(planes.width).enumerate() {
        let Some(y) = (first + row).checked_sub(conv.padding).filter(|y| *y < conv.height) else {
            to.fill([0.0; LANES]);
            continue;
        };
        to[..edge].fill([0.0; LANES]);
        to[edge + columns..].fill([0.0; LANES]);
        for (x, to) in to[edge..][..columns].iter_mut().enumerate() {
            *to = load(images, input, (c * conv.height + y) * conv.width + x);
            any.iter_mut().zip(*to).for_each(|(any, v)| *any |= v.to_bits() << 1);
        }
    }
    any != [0; LANES]
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq", "x86_64+avx2"))]
fn route_plane<const POOL: usize>(
    planes: &Planes,
    conv: &Conv,
    images: Images,
    first: usize,
    (output_grad, codes): (&[f32], &[u8]),
    m: usize,
    plane: &mut [Vector],
) -> bool {
    let (out_h, out_w) = conv.pooled();
    let mut any = [0; LANES];
    let before = usize::try_from(planes.margin).unwrap_or(0).min(planes.width);
    let after = (out_w * POOL).saturating_add_signed(planes.margin).min(planes.width);
    for (row, to) in plane.chunks_exact_mut(planes.width).enumerate() {
        let y = (first + row).checked_add_signed(-planes.margin);
        let inside = y.is_some_and(|y| y < out_h * POOL);
        to[..if inside { before } else { planes.width }].fill([0.0; LANES]);
        to[after..].fill([0.0; LANES]);
    }
    for py in 0..out_h {
        let rows: [_; POOL] = std::array::from_fn(|wy| planes.row(py * POOL + wy, first));
        if rows == [None; POOL] {
            continue;
        }
        for px in 0..out_w {
            let pixel = (m * out_h + py) * out_w + px;
            let (grad, code) = (load(images, output_grad, pixel), load(images, codes, pixel));
            let grad: [u32; LANES] = each(|i| f32::to_bits(grad[i]));
            let code: [u32; LANES] = each(|i| u32::from(code[i]));
            for i in 0..LANES {
                any[i] |= if code[i] < (POOL * POOL) as u32 { grad[i] << 1 } else { 0 };
            }
            for (wy, row) in rows.into_iter().enumerate() {
                let Some(row) = row else { continue };
                for wx in 0..POOL {
                    let column = (px * POOL + wx).checked_add_signed(planes.margin);
                    let Some(column) = column.filter(|x| *x < planes.width) else { continue };
                    let place = (wy * POOL + wx) as u32;
                    let routed = |i: usize| f32::from_bits(if code[i] == place { grad[i] } else { 0 });
                    plane[row * planes.width + column] = each(routed);
                }
            }
        }
    }
    any != [0; LANES]
}
