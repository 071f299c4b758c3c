//! Weighted sum of the clients' rows, wave after wave (`shaders/accumulate.wgsl`).

use rayon::prelude::*;

use super::cases::noise;
use super::shape::{Rows, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut, grid};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "accumulate",
    source: || include_str!("../../shaders/accumulate.wgsl").into(),
    bindings: &[
        Binding::read("rows"),
        Binding::read("scales"),
        // A GPU may fuse the multiplication and the addition.
        Binding::write("sum", Compare::Close(1e-6)),
    ],
    params_words: 2,
    workgroup: [64, 1, 1],
    twin,
    cases,
};

fn groups(words: usize) -> [u32; 3] {
    grid::folded((words / 4).div_ceil(64), 1)
}

/// Adds `scales[k] * values[k]` to `sum` for every k in ascending order: `values` is `[K][P]`, `scales` `[K]` f32 and
/// `sum` `[P]`, which the caller cleared before the first wave.
///
/// # Errors
/// [`Error::Kernel`] when P is not a multiple of 4 or a buffer is too small.
pub fn accumulate<'a>(
    device: &dyn Device,
    rows: Rows,
    values: View<'a>,
    scales: View<'a>,
    sum: View<'a>,
) -> Result<()> {
    let name = KERNEL.name;
    if !rows.words.is_multiple_of(4) {
        return Err(Error::Kernel { kernel: name, problem: format!("rows of {} words", rows.words) });
    }
    expect(name, "rows", values, rows.slots * rows.words)?;
    expect(name, "scales", scales, rows.slots)?;
    expect(name, "sum", sum, rows.words)?;
    let p = [(rows.words / 4) as u32, rows.slots as u32];
    device.dispatch(&KERNEL, &p, &[values, scales, sum], groups(rows.words))
}

/// Words of one unit of CPU work: its sums stay in the innermost cache while the clients pass.
const BLOCK: usize = 1 << 12;

fn twin(call: Call<'_>) {
    let (words, slots) = (4 * call.params[0] as usize, call.params[1] as usize);
    let ([rows, scales], [sum]) = call.buffers();
    let (rows, scales) = (f32s(rows), &f32s(scales)[..slots]);
    f32s_mut(&mut sum[..words]).par_chunks_mut(BLOCK).enumerate().for_each(|(block, sum)| {
        for (row, scale) in rows.chunks(words).zip(scales) {
            add(sum, *scale, &row[block * BLOCK..][..sum.len()]);
        }
    });
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn add(sum: &mut [f32], scale: f32, row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(s, x)| *s += scale * x);
}

fn cases() -> Vec<Case> {
    [("one vec4", 4, 1), ("odd", 4 * 1033, 7), ("five clients of simple-cnn", 104_204, 5)]
        .into_iter()
        .map(|(name, words, slots)| Case {
            name,
            params: vec![(words / 4) as u32, slots as u32],
            buffers: vec![noise(slots * words, 1.0, 1), noise(slots, 0.5, 2), noise(words, 1.0, 3)],
            groups: groups(words),
            flops: 2 * (slots * words) as u64,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::cases::{bits, on_cpu};
    use super::*;

    #[test]
    fn by_hand() {
        let rows = bits(&[1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0]);
        let buffers = [rows, bits(&[0.5, 0.25]), bits(&[100.0, 0.0, 0.0, 0.0])];
        let after = on_cpu(&buffers, |device, v| accumulate(device, Rows { slots: 2, words: 4 }, v[0], v[1], v[2]));
        assert_eq!(f32s(&after.unwrap()[2]), [103.0, 6.0, 9.0, 12.0]);
    }

    #[test]
    fn waves_change_no_bit() {
        let (words, slots) = (4 * 1500, 6);
        let (rows, scales) = (noise(slots * words, 1.0, 1), noise(slots, 1.0, 2));
        let sum_in_waves_of = |wave: usize| {
            let mut sum = vec![0; words];
            for (rows, scales) in rows.chunks(wave * words).zip(scales.chunks(wave)) {
                let buffers = [rows.to_vec(), scales.to_vec(), sum];
                let rows = Rows { slots: scales.len(), words };
                sum = on_cpu(&buffers, |device, v| accumulate(device, rows, v[0], v[1], v[2])).unwrap().remove(2);
            }
            sum
        };
        assert_eq!(sum_in_waves_of(6), sum_in_waves_of(1));
        assert_eq!(sum_in_waves_of(6), sum_in_waves_of(4));
    }
}
