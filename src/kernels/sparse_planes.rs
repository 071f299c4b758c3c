//! How the convolutions' sparse twins read images: the planes that some survivor touches, one vector of images at a time,
//! with the zeros around them written out. A survivor is then one offset, and no edge has to be looked for.

use super::packed::Images;
use super::shape::Conv;
use super::sparse::{LANES, RowLists, Tap, Vector, load};

/// What is read through the survivors.
#[derive(Clone, Copy, Debug)]
pub(super) enum Read<'a> {
    /// The input, for the forward pass.
    Input(&'a Conv),
    /// dz, the gradient before the pooling, for the input gradient.
    OutputGrad(&'a Conv),
}

/// Planes `[used channel][height][width]` of vectors.
#[derive(Debug)]
pub(super) struct Planes {
    /// Columns of a plane.
    pub width: usize,
    /// Rows of a plane.
    height: usize,
    /// Rows and columns of zeros before the first that is there (negative: rows and columns left out).
    margin: isize,
    /// Whether a tap reads further left the greater it is, as the input gradient does, and the filters' side.
    turned: bool,
    kernel: usize,
    /// Of each channel its plane, where a survivor touches it.
    place: Vec<Option<usize>>,
    /// The channel of each plane.
    used: Vec<usize>,
}

impl Planes {
    /// The planes that the lists named by `wanted` touch.
    pub fn new(read: Read<'_>, lists: &RowLists<'_>, wanted: impl Iterator<Item = usize>) -> Self {
        let (turned, channels, width, height, margin, conv) = match read {
            Read::Input(c) => {
                let (h, w) = c.pooled();
                let reach = c.kernel - 1;
                (false, c.in_channels, w * c.pool + reach, h * c.pool + reach, c.padding as isize, c)
            }
            Read::OutputGrad(c) => {
                let reach = c.kernel - 1;
                (true, c.out_channels, c.width + reach, c.height + reach, reach as isize - c.padding as isize, c)
            }
        };
        let mut place = vec![None; channels];
        let mut used = Vec::new();
        for tap in wanted.flat_map(|list| lists.taps(list)) {
            place[tap.other].get_or_insert_with(|| {
                used.push(tap.other);
                used.len() - 1
            });
        }
        Self { width, height, margin, turned, kernel: conv.kernel, place, used }
    }

    /// Words of scratch that packing fills.
    pub fn words(&self) -> usize {
        self.used.len() * self.height * self.width * LANES
    }

    /// The survivors of a list as offsets into the packed planes from the place of its output. Those whose plane is all
    /// zero are left out, unless their weight is infinite or not a number: then so is what they add.
    pub fn taps(&self, lists: &RowLists<'_>, list: usize, alive: &[bool]) -> Vec<(usize, f32)> {
        let offset = |tap: Tap| {
            let plane = self.place[tap.other].filter(|p| alive[*p] || !tap.weight.is_finite())?;
            let turn = |k: usize| if self.turned { self.kernel - 1 - k } else { k };
            Some(((plane * self.height + turn(tap.ky)) * self.width + turn(tap.kx), tap.weight))
        };
        lists.taps(list).filter_map(offset).collect()
    }

    /// Packs the input of one slot, `[C][H][W][B]`, and says of each plane whether any of it is not zero.
    pub fn pack_input(&self, conv: &Conv, images: Images, input: &[f32], packed: &mut [Vector]) -> Vec<bool> {
        let planes = packed.chunks_exact_mut(self.height * self.width);
        planes.zip(&self.used).map(|(plane, c)| self.pack_plane(conv, images, input, *c, plane)).collect()
    }

    /// Packs channel `c` of the input.
    fn pack_plane(&self, conv: &Conv, images: Images, input: &[f32], c: usize, plane: &mut [Vector]) -> bool {
        pack_plane(self, conv, images, input, c, plane)
    }

    /// Packs dz: `output_grad` (`[M][PH][PW][B]`, one slot) at each window's winner, 0 elsewhere and where dead; says of
    /// each plane whether any of it is not zero.
    pub fn pack_dz(&self, conv: &Conv, images: Images, grad: (&[f32], &[u8]), packed: &mut [Vector]) -> Vec<bool> {
        let planes = packed.chunks_exact_mut(self.height * self.width).zip(&self.used);
        planes
            .map(|(plane, m)| match conv.pool {
                1 => route_plane::<1>(self, conv, images, grad, *m, plane),
                _ => route_plane::<2>(self, conv, images, grad, *m, plane),
            })
            .collect()
    }
}

/// Where row or column `i` of the images lies among `size` packed ones.
#[inline(always)]
fn placed(i: usize, margin: isize, size: usize) -> Option<usize> {
    i.checked_add_signed(margin).filter(|i| *i < size)
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq", "x86_64+avx2"))]
fn pack_plane(planes: &Planes, conv: &Conv, images: Images, input: &[f32], c: usize, plane: &mut [Vector]) -> bool {
    let mut any = [0; LANES];
    let columns = planes.width.saturating_sub(conv.padding).min(conv.width);
    for (row, to) in plane.chunks_exact_mut(planes.width).enumerate() {
        let Some(y) = row.checked_sub(conv.padding).filter(|y| *y < conv.height) else {
            to.fill([0.0; LANES]);
            continue;
        };
        let edge = conv.padding.min(planes.width);
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
    (output_grad, codes): (&[f32], &[u8]),
    m: usize,
    plane: &mut [Vector],
) -> bool {
    let (out_h, out_w) = conv.pooled();
    let mut any = [0; LANES];
    plane.fill([0.0; LANES]);
    for py in 0..out_h {
        for px in 0..out_w {
            let pixel = (m * out_h + py) * out_w + px;
            let grad = load(images, output_grad, pixel).map(f32::to_bits);
            let code: [u8; LANES] = load(images, codes, pixel);
            for wy in 0..POOL {
                let Some(row) = placed(py * POOL + wy, planes.margin, planes.height) else { continue };
                for wx in 0..POOL {
                    let Some(column) = placed(px * POOL + wx, planes.margin, planes.width) else { continue };
                    let place = (wy * POOL + wx) as u8;
                    let to = &mut plane[row * planes.width + column];
                    for i in 0..LANES {
                        let routed = if code[i] == place { grad[i] } else { 0 };
                        any[i] |= routed << 1;
                        to[i] = f32::from_bits(routed);
                    }
                }
            }
        }
    }
    any != [0; LANES]
}
