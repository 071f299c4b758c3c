//! How the convolutions' sparse twins read images: the planes that some survivor touches, one register of images and one
//! strip of rows at a time, with the zeros around them written out. A survivor is then one offset, and no edge has to be
//! looked for.

use std::ops::Range;

use pulp::Simd;

use super::packed::Images;
use super::registers::{load, load_codes, of};
use super::vectors::LANES;
use super::windows::won;
use crate::kernels::shape::Conv;
use crate::kernels::sparse::{RowLists, Tap};

/// What is read through the survivors.
#[derive(Clone, Copy, Debug)]
pub enum Read<'a> {
    /// The input, for the forward pass.
    Input(&'a Conv),
    /// dz, the gradient before the pooling, for the input gradient.
    OutputGrad(&'a Conv),
}

/// Registers that are packed together: at most 384 KiB, which a second-level cache keeps.
const PACKED: usize = 6144;

/// A strip of rows of the planes: `[used channel][rows][width]` registers.
#[derive(Debug)]
pub struct Planes {
    /// Columns of a plane, zeros included.
    pub width: usize,
    /// Rows that the taps reach below the first.
    reach: usize,
    /// Output rows of a strip.
    step: usize,
    /// Rows and columns of zeros before the first that is there (negative: rows and columns left out).
    margin: isize,
    /// The channel of each plane: those that a survivor touches and no gate closes.
    used: Vec<usize>,
    /// The survivors that read them, list after list.
    terms: Vec<Term>,
    /// Where each list ends.
    ends: Vec<usize>,
}

/// A survivor as what it reads of a packed strip.
#[derive(Clone, Copy, Debug)]
struct Term {
    plane: usize,
    /// From the place of an output in the first row.
    at: usize,
    weight: f32,
}

impl Planes {
    /// The planes that the lists named by `wanted` touch, of channels whose gates are open.
    pub fn new(read: Read<'_>, lists: &RowLists<'_>, gates: &[f32], wanted: &[usize]) -> Self {
        // An input gradient's tap reads further up and left the greater it is.
        let (turned, channels, width, unit, margin, kernel) = match read {
            Read::Input(c) => (false, c.in_channels, c.pooled().1 * c.pool, c.pool, c.padding as isize, c.kernel),
            Read::OutputGrad(c) => {
                (true, c.out_channels, c.width, 1, c.kernel as isize - 1 - c.padding as isize, c.kernel)
            }
        };
        let (reach, width) = (kernel - 1, width + kernel - 1);
        let mut place = vec![None; channels];
        let (mut used, mut taps, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for list in wanted {
            for tap in lists.taps(*list).filter(|tap| gates[tap.other] != 0.0) {
                let plane = *place[tap.other].get_or_insert_with(|| {
                    used.push(tap.other);
                    used.len() - 1
                });
                taps.push((plane, tap));
            }
            ends.push(taps.len());
        }
        let fit = (PACKED / (used.len().max(1) * width)).saturating_sub(reach);
        let step = (fit / unit * unit).max(unit);
        let turn = |k: usize| if turned { reach - k } else { k };
        let term = |(plane, tap): (usize, Tap)| Term {
            plane,
            at: (plane * (step + reach) + turn(tap.ky)) * width + turn(tap.kx),
            weight: tap.weight,
        };
        let terms = taps.into_iter().map(term).collect();
        Self { width, reach, step, margin, used, terms, ends }
    }

    /// How many planes there are.
    pub fn count(&self) -> usize {
        self.used.len()
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

    /// The survivors of the `i`-th list that was wanted, as offsets into a packed strip from the place of an output in its
    /// first row. Those whose plane is all zero are left out, unless their weight is infinite or not a number: then so is
    /// what they add.
    pub fn taps(&self, i: usize, alive: &[bool], taps: &mut Vec<(usize, f32)>) {
        let first = if i == 0 { 0 } else { self.ends[i - 1] };
        taps.clear();
        for Term { plane, at, weight } in &self.terms[first..self.ends[i]] {
            if alive[*plane] || !weight.is_finite() {
                taps.push((*at, *weight));
            }
        }
    }

    /// Packs the strip from output row `first` on of the input of one slot, `[C][H][W][B]`, and says of each plane
    /// whether any of it is not zero.
    #[inline(always)]
    pub fn pack_input<S: Simd>(
        &self,
        simd: S,
        (conv, images, first): (&Conv, Images, usize),
        input: &[f32],
        packed: &mut [S::f32s],
        alive: &mut [bool],
    ) {
        let planes = packed.chunks_exact_mut(self.rows() * self.width).zip(&self.used);
        for ((plane, c), alive) in planes.zip(alive) {
            *alive = pack_plane(simd, self, (conv, images, first), input, *c, plane);
        }
    }

    /// Packs the strip from input row `first` on of dz: `output_grad` (`[M][PH][PW][B]`, one slot) at each window's
    /// winner, 0 elsewhere and where dead; says of each plane whether any of it is not zero.
    #[inline(always)]
    pub fn pack_dz<S: Simd>(
        &self,
        simd: S,
        at: (&Conv, Images, usize),
        grad: (&[f32], &[u8]),
        packed: &mut [S::f32s],
        alive: &mut [bool],
    ) {
        let planes = packed.chunks_exact_mut(self.rows() * self.width).zip(&self.used);
        for ((plane, m), alive) in planes.zip(alive) {
            *alive = match at.0.pool {
                1 => route_plane::<S, 1>(simd, self, at, grad, *m, plane),
                _ => route_plane::<S, 2>(simd, self, at, grad, *m, plane),
            };
        }
    }

    /// The sums of a block of outputs, whose first is at `at` of a strip: few enough to stay in registers.
    #[inline(always)]
    pub fn sums<S: Simd, const ROWS: usize, const COLUMNS: usize>(
        &self,
        simd: S,
        taps: &[(usize, f32)],
        packed: &[S::f32s],
        at: usize,
    ) -> [[S::f32s; COLUMNS]; ROWS] {
        let mut sums = [[simd.splat_f32s(0.0); COLUMNS]; ROWS];
        for (tap, weight) in taps {
            let weight = simd.splat_f32s(*weight);
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = &packed[tap + at + i * self.width..][..COLUMNS];
                for (sum, x) in sums.iter_mut().zip(row) {
                    *sum = simd.mul_add_e_f32s(weight, *x, *sum);
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

#[inline(always)]
fn pack_plane<S: Simd>(
    simd: S,
    planes: &Planes,
    (conv, images, first): (&Conv, Images, usize),
    input: &[f32],
    c: usize,
    plane: &mut [S::f32s],
) -> bool {
    let (zero, mut any) = (simd.splat_f32s(0.0), simd.splat_u32s(0));
    let edge = conv.padding.min(planes.width);
    let columns = (planes.width - edge).min(conv.width);
    for (row, to) in plane.chunks_exact_mut(planes.width).enumerate() {
        let Some(y) = (first + row).checked_sub(conv.padding).filter(|y| *y < conv.height) else {
            to.fill(zero);
            continue;
        };
        to[..edge].fill(zero);
        to[edge + columns..].fill(zero);
        for (x, to) in to[edge..][..columns].iter_mut().enumerate() {
            *to = load(simd, of(images, input, (c * conv.height + y) * conv.width + x));
            any = simd.or_u32s(any, simd.transmute_u32s_f32s(*to));
        }
    }
    some::<S>(any)
}

/// Whether there is a number besides 0 and -0, of which `any` has the bits of all.
#[inline(always)]
fn some<S: Simd>(any: S::u32s) -> bool {
    bytemuck::cast_slice(&[any]).iter().any(|bits: &u32| bits << 1 != 0)
}

#[inline(always)]
fn route_plane<S: Simd, const POOL: usize>(
    simd: S,
    planes: &Planes,
    (conv, images, first): (&Conv, Images, usize),
    (output_grad, codes): (&[f32], &[u8]),
    m: usize,
    plane: &mut [S::f32s],
) -> bool {
    let (out_h, out_w) = conv.pooled();
    let (zero, mut any) = (simd.splat_f32s(0.0), simd.splat_u32s(0));
    let before = usize::try_from(planes.margin).unwrap_or(0).min(planes.width);
    let after = (out_w * POOL).saturating_add_signed(planes.margin).min(planes.width);
    for (row, to) in plane.chunks_exact_mut(planes.width).enumerate() {
        let y = (first + row).checked_add_signed(-planes.margin);
        let inside = y.is_some_and(|y| y < out_h * POOL);
        to[..if inside { before } else { planes.width }].fill(zero);
        to[after..].fill(zero);
    }
    for py in 0..out_h {
        let rows: [_; POOL] = std::array::from_fn(|wy| planes.row(py * POOL + wy, first));
        if rows == [None; POOL] {
            continue;
        }
        for px in 0..out_w {
            let pixel = (m * out_h + py) * out_w + px;
            let grad = load(simd, of(images, output_grad, pixel));
            // With those of other images, whose gradients were left out: so many are loaded at once, whatever a register holds.
            let code = load_codes::<S>(&codes[pixel * images.stride + images.first..]);
            for (wy, row) in rows.into_iter().enumerate() {
                let Some(row) = row else { continue };
                for wx in 0..POOL {
                    let column = (px * POOL + wx).checked_add_signed(planes.margin);
                    let Some(column) = column.filter(|x| *x < planes.width) else { continue };
                    let routed = won(simd, grad, code, simd.splat_f32s((wy * POOL + wx) as f32));
                    plane[row * planes.width + column] = routed;
                    any = simd.or_u32s(any, simd.transmute_u32s_f32s(routed));
                }
            }
        }
    }
    some::<S>(any)
}
