//! Scaled sums over pixels and images, channel by channel (`shaders/channel_sum.wgsl`).

use rayon::prelude::*;

use super::CHUNK;
use super::cases::noise;
use super::cross_entropy::tree;
use super::shape::{Batch, Gates, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "channel_sum",
    source: || include_str!("../../shaders/channel_sum.wgsl").into(),
    // A GPU may fuse the multiplication and the addition at the end.
    variants: &[],
    bindings: &[Binding::read("values"), Binding::read("scales"), Binding::write("sums", Compare::Close(1e-5))],
    params_words: 5,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    quads: u32,
    channels: u32,
    pixels: u32,
    gate_words: u32,
    gates_at: u32,
}

/// Adds `scales[k]` (f32) times the sum over pixels and images of `values`, `[K][M][pixels][B]`, to one layer's M words of
/// `sums`, `[K][G]`. Beyond the count of images the values are 0; of `batch` the counts are not looked at.
///
/// # Errors
/// [`Error::Kernel`] when B is not a multiple of 4, a buffer is too small, or the layer's channels do not fit a row.
pub fn channel_sum<'a>(
    device: &dyn Device,
    batch: Batch,
    channels: usize,
    pixels: usize,
    values: View<'a>,
    scales: View<'a>,
    sums: Gates<'a>,
) -> Result<()> {
    let name = KERNEL.name;
    if sums.at + channels > sums.row_words || !batch.stride.is_multiple_of(4) {
        let (at, row) = (sums.at, sums.row_words);
        let problem = format!("channels {at}.. + {channels} in rows of {row}, {} images", batch.stride);
        return Err(Error::Kernel { kernel: name, problem });
    }
    expect(name, "values", values, batch.slots * channels * pixels * batch.stride)?;
    expect(name, "scales", scales, batch.slots)?;
    expect(name, "sums", sums.values, batch.slots * sums.row_words)?;
    let p = [batch.stride / 4, channels, pixels, sums.row_words, sums.at].map(|n| n as u32);
    device.dispatch(&KERNEL, &p, &[values, scales, sums.values], [channels as u32, batch.slots as u32, 1])
}

fn twin(call: Call<'_>) {
    let (p, slots): (Params, _) = (call.params(), call.groups[1] as usize);
    let ([values, scales], [sums]) = call.buffers();
    let (stride, channels, gates) = (4 * p.quads as usize, p.channels as usize, p.gate_words as usize);
    let words = p.pixels as usize * stride;
    let rows = f32s_mut(&mut sums[..slots * gates]).par_chunks_mut(gates).zip(f32s(scales)).enumerate();
    rows.for_each(|(slot, (row, scale))| {
        let own = row[p.gates_at as usize..][..channels].par_iter_mut().enumerate();
        own.for_each(|(m, sum)| {
            let first = (slot * channels + m) * words;
            *sum += scale * channel(stride, &f32s(values)[first..first + words]);
        });
    });
}

/// Pixels that a workgroup adds side by side.
const GROUPS: usize = 8;

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn channel(stride: usize, values: &[f32]) -> f32 {
    let mut lanes = [0.0; GROUPS * CHUNK];
    for (pixel, images) in values.chunks(stride).enumerate() {
        let sums = &mut lanes[pixel % GROUPS * CHUNK..][..CHUNK];
        for x in images.chunks(CHUNK) {
            sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
        }
    }
    tree(lanes)
}

fn cases() -> Vec<Case> {
    let case = |(name, slots, channels, pixels, stride): (_, usize, usize, usize, usize)| {
        let p = [stride / 4, channels, pixels, channels + 7, 5];
        let words = slots * channels * pixels * stride;
        Case {
            name,
            params: p.map(|n| n as u32).to_vec(),
            buffers: vec![noise(words, 1.0, 1), noise(slots, 0.01, 2), noise(slots * (channels + 7), 1.0, 3)],
            groups: [channels as u32, slots as u32, 1],
            flops: words as u64,
        }
    };
    [
        ("one pixel, four images", 1, 3, 1, 4),
        ("odd", 3, 5, 9, 68),
        ("the first layer of simple-cnn, not pooled", 2, 32, 784, 32),
    ]
    .into_iter()
    .map(case)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::cases::{bits, on_cpu};
    use super::*;

    #[test]
    fn by_hand() {
        // Two slots of two channels of one pixel and four images.
        let values: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let buffers = [bits(&values), bits(&[0.5, 2.0]), bits(&[9.0, 1.0, 0.0, 9.0, 9.0, 0.0, 0.0, 9.0])];
        let batch = Batch { slots: 2, stride: 4, counts_at: 0 };
        let after = on_cpu(&buffers, |device, v| {
            channel_sum(device, batch, 2, 1, v[0], v[1], Gates { values: v[2], row_words: 4, at: 1 })
        });
        assert_eq!(f32s(&after.unwrap()[2]), [9.0, 4.0, 11.0, 9.0, 9.0, 76.0, 108.0, 9.0]);
    }
}
