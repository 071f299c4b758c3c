//! Each replicate's global weights to its clients of a wave (`shaders/broadcast.wgsl`).

use rayon::prelude::*;

use super::cases::{LEFT, below, noise};
use super::shape::{Rows, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "broadcast",
    source: || include_str!("../../shaders/broadcast.wgsl").into(),
    variants: &[],
    bindings: &[Binding::read("models"), Binding::read("which"), Binding::write("rows", Compare::Exact)],
    params_words: 1,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// Copies row `which[k]` of `models`, `[R][P]` with P = `words` a multiple of 4, to row k of `rows`, `[K][P]`, for each of
/// the K entries of `which`.
///
/// # Errors
/// [`Error::Kernel`] when P is not a multiple of 4, `models` are no whole rows, or `rows` is too small.
pub fn broadcast<'a>(
    device: &dyn Device,
    words: usize,
    models: View<'a>,
    which: View<'a>,
    rows: View<'a>,
) -> Result<()> {
    if words == 0 || !words.is_multiple_of(4) || !models.words.is_multiple_of(words) {
        let problem = format!("rows of {words} words in {}", models.words);
        return Err(Error::Kernel { kernel: KERNEL.name, problem });
    }
    let slots = which.words;
    expect(KERNEL.name, "rows", rows, slots * words)?;
    device.dispatch(&KERNEL, &[(words / 4) as u32], &[models, which, rows], Rows { slots, words }.quad_groups())
}

fn twin(call: Call<'_>) {
    let (words, slots) = (4 * call.params[0] as usize, call.groups[2] as usize);
    let ([models, which], [rows]) = call.buffers();
    let each = rows[..slots * words].par_chunks_mut(words).zip(which);
    each.for_each(|(row, r)| row.copy_from_slice(&models[*r as usize * words..][..words]));
}

fn cases() -> Vec<Case> {
    [
        ("one vec4", 4, 1, 1),
        ("odd", 4 * 331, 3, 1),
        ("five clients of simple-cnn", 104_204, 5, 1),
        ("clients of four replicates", 4 * 77, 9, 4),
    ]
    .into_iter()
    .map(|(name, words, slots, replicates)| Case {
        name,
        params: vec![(words / 4) as u32],
        buffers: vec![noise(replicates * words, 1.0, 1), below(slots, replicates as u32, 2), vec![LEFT; slots * words]],
        groups: Rows { slots, words }.quad_groups(),
        flops: 0,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::cases::on_cpu;
    use super::*;

    #[test]
    fn every_row_becomes_its_own_model_and_what_follows_stays() {
        let buffers = [vec![1, 2, 3, 4, 5, 6, 7, 8], vec![1, 0], vec![9; 12]];
        let after = on_cpu(&buffers, |device, v| broadcast(device, 4, v[0], v[1], v[2])).unwrap();
        assert_eq!(after[2], [5, 6, 7, 8, 1, 2, 3, 4, 9, 9, 9, 9]);
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let refused = |words: usize, models: usize, rows: usize| {
            let buffers = [vec![0; models], vec![0; 2], vec![0; rows]];
            on_cpu(&buffers, |device, v| broadcast(device, words, v[0], v[1], v[2])).is_err()
        };
        assert!(refused(4, 4, 7) && refused(6, 6, 12) && refused(4, 6, 8) && refused(0, 4, 8));
        assert!(!refused(4, 8, 8));
    }
}
