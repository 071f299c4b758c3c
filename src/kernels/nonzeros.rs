//! Nonzero weights of every tensor: the sparsity that pruning reached (`shaders/nonzeros.wgsl`).

use rayon::prelude::*;

use super::cases::{LEFT, below};
use super::magnitude_threshold::MAGNITUDE;
use super::shape::{Rows, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "nonzeros",
    source: || include_str!("../../shaders/nonzeros.wgsl").into(),
    variants: &[],
    bindings: &[Binding::read("table"), Binding::read("weights"), Binding::write("counts", Compare::Exact)],
    params_words: 2,
    workgroup: [256, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// Writes to `counts`, `[K][tensors]` u32, how many weights of each tensor are neither 0 nor -0. `table` and `weights`
/// are as in [`super::magnitude_threshold`].
///
/// # Errors
/// [`crate::Error::Kernel`] when a buffer is too small.
pub fn nonzeros<'a>(
    device: &dyn Device,
    rows: Rows,
    table: View<'a>,
    weights: View<'a>,
    counts: View<'a>,
) -> Result<()> {
    let tensors = table.words / 4;
    expect(KERNEL.name, "weights", weights, rows.slots * rows.words)?;
    expect(KERNEL.name, "counts", counts, rows.slots * tensors)?;
    let p = [tensors as u32, rows.words as u32];
    device.dispatch(&KERNEL, &p, &[table, weights, counts], [tensors as u32, rows.slots as u32, 1])
}

fn twin(call: Call<'_>) {
    let (tensors, row, slots) = (call.params[0] as usize, call.params[1] as usize, call.groups[1] as usize);
    let ([table, weights], [counts]) = call.buffers();
    let each = counts[..slots * tensors].par_iter_mut().with_max_len(1).enumerate();
    each.for_each(|(i, n)| {
        let (slot, tensor) = (i / tensors, i % tensors);
        let (at, words) = (table[4 * tensor] as usize, table[4 * tensor + 1] as usize);
        *n = count(&weights[slot * row + at..][..words]);
    });
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn count(weights: &[u32]) -> u32 {
    weights.iter().map(|w| u32::from(w & MAGNITUDE != 0)).sum()
}

fn cases() -> Vec<Case> {
    let (row, slots) = (2000, 3);
    let table = [[0, 1, 0, 0], [1, 255, 0, 0], [256, 257, 0, 0], [600, 1400, 0, 0]];
    vec![Case {
        name: "odd tensors",
        params: vec![4, row as u32],
        // One word in five each: 0, -0, the smallest number there is, and those with the exponent's first bit alone.
        buffers: vec![
            table.concat(),
            below(slots * row, 5, 1).iter().map(|v| [0, 1 << 31, 1, 1 << 30, 3 << 30][*v as usize]).collect(),
            vec![LEFT; 4 * slots],
        ],
        groups: [4, slots as u32, 1],
        flops: 0,
    }]
}

#[cfg(test)]
mod tests {
    use super::super::cases::{bits, on_cpu};
    use super::*;

    #[test]
    fn zeros_of_either_sign_do_not_count() {
        let weights = bits(&[1.0, 0.0, -0.0, f32::NAN, 5.0, -1e-40, 0.0, 3.0]);
        let buffers = [vec![0, 3, 0, 0, 3, 1, 0, 0], weights, vec![9; 4]];
        let after = on_cpu(&buffers, |device, v| nonzeros(device, Rows { slots: 2, words: 4 }, v[0], v[1], v[2]));
        assert_eq!(after.unwrap()[2], [1, 1, 2, 1]);
    }
}
