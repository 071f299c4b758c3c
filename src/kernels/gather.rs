//! A batch out of the data set, which lies on the device as bytes (`shaders/gather.wgsl`).

use rayon::prelude::*;

use super::cases::{LEFT, below, bits};
use super::shape::{Batch, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut, grid};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "gather",
    source: || include_str!("../../shaders/gather.wgsl").into(),
    variants: &[],
    bindings: &[
        Binding::read("pixels"),
        Binding::read("labels"),
        Binding::read("order"),
        Binding::read("counts"),
        Binding::read("norm"),
        // A GPU may fuse the multiplication and the addition.
        Binding::write("input", Compare::Close(1e-6)),
        Binding::write("targets", Compare::Exact),
    ],
    params_words: 7,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// The target of a place in the batch that holds no image.
pub const NO_TARGET: u32 = u32::MAX;

/// What one image of a data set measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageShape {
    /// C.
    pub channels: usize,
    /// H x W.
    pub plane: usize,
}

impl ImageShape {
    /// Words of one image's bytes, four to a word, the first in the lowest bits, the last word padded.
    pub fn words(&self) -> usize {
        (self.channels * self.plane).div_ceil(4)
    }
}

/// Where the examples of a batch stand: slot k's b-th is at `at + k * stride + b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// First example of slot 0.
    pub at: usize,
    /// From one slot to the next.
    pub stride: usize,
}

/// The buffers of [`gather`].
#[derive(Clone, Copy, Debug)]
pub struct Buffers<'a> {
    /// `[N][image words]`, bytes.
    pub pixels: View<'a>,
    /// `[N]`.
    pub labels: View<'a>,
    /// Indices of examples, as [`Order`] says; each below N.
    pub order: View<'a>,
    /// Images of every slot, from the batch's `counts_at`.
    pub counts: View<'a>,
    /// `[C][2]`: scale 1 / (255 std), shift -mean / std.
    pub norm: View<'a>,
    /// Written: `[K][C][H][W][B]`.
    pub input: View<'a>,
    /// Written: `[K][B]`, [`NO_TARGET`] beyond the count.
    pub targets: View<'a>,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    stride: u32,
    channels: u32,
    plane: u32,
    image_words: u32,
    order_at: u32,
    order_stride: u32,
    counts_at: u32,
}

fn params(shape: ImageShape, batch: Batch, order: Order) -> Params {
    Params {
        stride: batch.stride as u32,
        channels: shape.channels as u32,
        plane: shape.plane as u32,
        image_words: shape.words() as u32,
        order_at: order.at as u32,
        order_stride: order.stride as u32,
        counts_at: batch.counts_at as u32,
    }
}

fn groups(shape: ImageShape, batch: Batch) -> [u32; 3] {
    grid::folded((shape.words().div_ceil(4) * (batch.stride / 4)).div_ceil(64), batch.slots as u32)
}

/// Fills `input` and `targets` with the images that `order` names; zeros and [`NO_TARGET`] beyond a slot's count.
///
/// # Errors
/// [`Error::Kernel`] when B is not a multiple of 4 or a buffer is too small.
pub fn gather(device: &dyn Device, shape: ImageShape, batch: Batch, order: Order, b: &Buffers<'_>) -> Result<()> {
    let name = KERNEL.name;
    if !batch.stride.is_multiple_of(4) {
        return Err(Error::Kernel { kernel: name, problem: format!("a batch of {} images", batch.stride) });
    }
    expect(name, "pixels", b.pixels, b.labels.words * shape.words())?;
    expect(name, "order", b.order, order.at + batch.slots.saturating_sub(1) * order.stride + 1)?;
    expect(name, "counts", b.counts, batch.counts_at + batch.slots)?;
    expect(name, "norm", b.norm, 2 * shape.channels)?;
    expect(name, "input", b.input, batch.slots * shape.channels * shape.plane * batch.stride)?;
    expect(name, "targets", b.targets, batch.slots * batch.stride)?;
    let buffers = [b.pixels, b.labels, b.order, b.counts, b.norm, b.input, b.targets];
    let p = params(shape, batch, order);
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &buffers, groups(shape, batch))
}

/// Words of the images of one unit of CPU work: 64 rows of B floats, which stay in the cache.
const BLOCK: usize = 16;

fn twin(call: Call<'_>) {
    let (p, slots): (Params, _) = (call.params(), call.groups[2] as usize);
    let ([pixels, labels, order, counts, norm], [input, targets]) = call.buffers();
    let (stride, bytes) = (p.stride as usize, (p.channels * p.plane) as usize);
    let picks = |slot: usize| {
        let count = (counts[p.counts_at as usize + slot] as usize).min(stride);
        &order[p.order_at as usize + slot * p.order_stride as usize..][..count]
    };
    for (slot, row) in targets[..slots * stride].chunks_mut(stride).enumerate() {
        row.fill(NO_TARGET);
        row.iter_mut().zip(picks(slot)).for_each(|(target, &i)| *target = labels[i as usize]);
    }
    let rows = f32s_mut(&mut input[..slots * bytes * stride]).par_chunks_mut(bytes * stride);
    rows.enumerate().for_each(|(slot, image)| {
        let blocks = image.par_chunks_mut(4 * BLOCK * stride).enumerate();
        blocks.for_each(|(block, rows)| unpack(p, pixels, picks(slot), f32s(norm), block * BLOCK, rows));
    });
}

/// Fills the rows of the pixels from word `first` on: each image's as it lies, then turned.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn unpack(p: Params, pixels: &[u32], picks: &[u32], norm: &[f32], first: usize, rows: &mut [f32]) {
    let (stride, image_words) = (p.stride as usize, p.image_words as usize);
    let bytes = rows.len() / stride;
    let (mut scale, mut shift) = ([0.0; 4 * BLOCK], [0.0; 4 * BLOCK]);
    for (byte, (scale, shift)) in (4 * first..).zip(scale.iter_mut().zip(&mut shift)).take(bytes) {
        let channel = byte / p.plane as usize;
        (*scale, *shift) = (norm[2 * channel], norm[2 * channel + 1]);
    }
    for at in (0..stride).step_by(4) {
        let mut images = [[0.0; 4 * BLOCK]; 4];
        for (values, &i) in images.iter_mut().zip(&picks[at.min(picks.len())..]) {
            let words = &pixels[i as usize * image_words + first..][..bytes.div_ceil(4)];
            let mut packed = [0u32; BLOCK];
            packed.iter_mut().zip(words).for_each(|(packed, word)| *packed = word.to_le());
            let packed: [u8; 4 * BLOCK] = bytemuck::cast(packed);
            for j in 0..4 * BLOCK {
                values[j] = f32::from(packed[j]) * scale[j] + shift[j];
            }
        }
        for (j, row) in rows.chunks_exact_mut(stride).enumerate() {
            row[at..][..4].copy_from_slice(&[images[0][j], images[1][j], images[2][j], images[3][j]]);
        }
    }
}

fn cases() -> Vec<Case> {
    let sizes = [
        ("one image of one byte", ImageShape { channels: 1, plane: 1 }, 4, vec![1]),
        ("padded words, a short slot, an empty one", ImageShape { channels: 3, plane: 15 }, 20, vec![19, 18, 3, 0]),
        ("256 images of MNIST", ImageShape { channels: 1, plane: 784 }, 256, vec![256, 200]),
    ];
    let case = |(name, shape, stride, counts): (_, ImageShape, usize, Vec<u32>)| {
        let (slots, examples) = (counts.len(), 300);
        let batch = Batch { slots, stride, counts_at: 2 };
        let order = Order { at: 5, stride: stride + 1 };
        let words = slots * shape.channels * shape.plane * stride;
        Case {
            name,
            params: bytemuck::cast_slice(&[params(shape, batch, order)]).to_vec(),
            buffers: vec![
                below(examples * shape.words(), u32::MAX, 1),
                below(examples, 10, 2),
                below(order.at + slots * order.stride, examples as u32, 3),
                [vec![0; 2], counts].concat(),
                bits(&[[0.0127, -0.42], [0.0157, -1.0], [0.004, 0.0]].concat()[..2 * shape.channels]),
                vec![LEFT; words],
                vec![LEFT; slots * stride],
            ],
            groups: groups(shape, batch),
            flops: 2 * words as u64,
        }
    };
    sizes.into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cases::on_cpu;
    use super::*;

    fn call(device: &dyn Device, v: &[View<'_>]) -> Result<()> {
        let [pixels, labels, order, counts, norm, input, targets] = *v else { unreachable!("seven buffers") };
        let buffers = Buffers { pixels, labels, order, counts, norm, input, targets };
        let batch = Batch { slots: 2, stride: 4, counts_at: 0 };
        gather(device, ImageShape { channels: 2, plane: 3 }, batch, Order { at: 1, stride: 2 }, &buffers)
    }

    fn buffers() -> Vec<Vec<u32>> {
        // Two images of six bytes: 0 1 2 3 4 5 and 10 11 12 13 14 15.
        let pixels = vec![0x0302_0100, 0x0504, 0x0d0c_0b0a, 0x0f0e];
        let norm = bits(&[2.0, 1.0, 0.5, -1.0]);
        vec![pixels, vec![7, 9], vec![99, 1, 0, 0], vec![2, 1], norm, vec![5; 48], vec![5; 8]]
    }

    #[test]
    fn bytes_are_scaled_and_laid_batch_innermost() {
        let after = on_cpu(&buffers(), call).unwrap();
        let first = [[21.0, 1.0], [23.0, 3.0], [25.0, 5.0], [5.5, 0.5], [6.0, 1.0], [6.5, 1.5]];
        let second = [1.0, 3.0, 5.0, 0.5, 1.0, 1.5];
        let want: Vec<f32> = first
            .iter()
            .flat_map(|&[a, b]| [a, b, 0.0, 0.0])
            .chain(second.iter().flat_map(|&a| [a, 0.0, 0.0, 0.0]))
            .collect();
        assert_eq!(f32s(&after[5]), want);
        assert_eq!(after[6], [9, 7, NO_TARGET, NO_TARGET, 7, NO_TARGET, NO_TARGET, NO_TARGET]);
    }

    #[test]
    fn short_buffers_are_refused() {
        for i in [0, 3, 4, 5, 6] {
            let mut short = buffers();
            short[i].pop();
            assert!(on_cpu(&short, call).is_err(), "buffer {i}");
        }
    }
}
