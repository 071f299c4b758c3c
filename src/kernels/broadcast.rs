//! The global weights to every client of a wave (`shaders/broadcast.wgsl`).

use rayon::prelude::*;

use super::cases::noise;
use super::shape::expect;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, grid};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "broadcast",
    source: || include_str!("../../shaders/broadcast.wgsl").into(),
    bindings: &[Binding::read("one"), Binding::write("rows", Compare::Exact)],
    params_words: 1,
    workgroup: [64, 1, 1],
    twin,
    cases,
};

fn groups(slots: usize, words: usize) -> [u32; 3] {
    grid::folded((words / 4).div_ceil(64), slots as u32)
}

/// Copies `one`, `[P]` with P a multiple of 4, to the `slots` rows of `rows`, `[K][P]`.
///
/// # Errors
/// [`Error::Kernel`] when P is not a multiple of 4 or `rows` is too small.
pub fn broadcast<'a>(device: &dyn Device, slots: usize, one: View<'a>, rows: View<'a>) -> Result<()> {
    if !one.words.is_multiple_of(4) {
        return Err(Error::Kernel { kernel: KERNEL.name, problem: format!("a row of {} words", one.words) });
    }
    expect(KERNEL.name, "rows", rows, slots * one.words)?;
    device.dispatch(&KERNEL, &[(one.words / 4) as u32], &[one, rows], groups(slots, one.words))
}

fn twin(call: Call<'_>) {
    let (words, slots) = (4 * call.params[0] as usize, call.groups[2] as usize);
    let ([one], [rows]) = call.buffers();
    rows[..slots * words].par_chunks_mut(words).for_each(|row| row.copy_from_slice(&one[..words]));
}

fn cases() -> Vec<Case> {
    [("one vec4", 4, 1), ("odd", 4 * 331, 3), ("five clients of simple-cnn", 104_204, 5)]
        .into_iter()
        .map(|(name, words, slots)| Case {
            name,
            params: vec![(words / 4) as u32],
            buffers: vec![noise(words, 1.0, 1), vec![7; slots * words]],
            groups: groups(slots, words),
            flops: 0,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::cases::on_cpu;
    use super::*;

    #[test]
    fn every_row_becomes_the_one_and_what_follows_stays() {
        let buffers = [vec![1, 2, 3, 4], vec![9; 12]];
        let after = on_cpu(&buffers, |device, v| broadcast(device, 2, v[0], v[1])).unwrap();
        assert_eq!(after[1], [1, 2, 3, 4, 1, 2, 3, 4, 9, 9, 9, 9]);
    }

    #[test]
    fn wrong_sizes_are_refused() {
        assert!(on_cpu(&[vec![0; 4], vec![0; 7]], |device, v| broadcast(device, 2, v[0], v[1])).is_err());
        assert!(on_cpu(&[vec![0; 6], vec![0; 12]], |device, v| broadcast(device, 2, v[0], v[1])).is_err());
    }
}
