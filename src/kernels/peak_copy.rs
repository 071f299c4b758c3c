//! The most memory that a device moves in a second (`shaders/peak_copy.wgsl`): the ceiling that benchmarks hold the other
//! kernels' GB/s against. No model uses it.

use rayon::prelude::*;

use super::cases::{LEFT, noise};
use super::shape::expect;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, grid};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "peak_copy",
    source: || super::unroll(include_str!("../../shaders/peak_copy.wgsl")),
    variants: &[],
    bindings: &[Binding::read("source"), Binding::write("copied", Compare::Exact)],
    params_words: 1,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large,
};

/// Copies `source`, a multiple of 4 words, to the start of `copied`.
///
/// # Errors
/// [`Error::Kernel`] when the lengths do not match.
pub fn peak_copy<'a>(device: &dyn Device, source: View<'a>, copied: View<'a>) -> Result<()> {
    if !source.words.is_multiple_of(4) {
        return Err(Error::Kernel { kernel: KERNEL.name, problem: format!("{} words", source.words) });
    }
    expect(KERNEL.name, "copied", copied, source.words)?;
    device.dispatch(&KERNEL, &[(source.words / 4) as u32], &[source, copied], groups(source.words))
}

/// The grid of a workgroup for every 512 vec4s.
fn groups(words: usize) -> [u32; 3] {
    grid::folded(words.div_ceil(4 * 512), 1)
}

/// Words of one unit of CPU work.
const BLOCK: usize = 1 << 16;

fn twin(call: Call<'_>) {
    let words = 4 * call.params[0] as usize;
    let ([source], [copied]) = call.buffers();
    let blocks = copied[..words].par_chunks_mut(BLOCK).zip(source.par_chunks(BLOCK));
    // The system's own copy has the widest instructions of the processor at hand.
    blocks.for_each(|(to, from)| to.copy_from_slice(&from[..to.len()]));
}

fn cases() -> Vec<Case> {
    // The largest is meant to exceed the caches: 48 MiB from and 48 MiB to, which one read-back can still hold.
    [("one vec4", 4), ("odd", 4 * 1001), ("peak", 3 << 22)].into_iter().map(case).collect()
}

fn large() -> Vec<Case> {
    // For GPUs with as large a cache: as much as every GPU can bind.
    vec![case(("peak of a large GPU", 1 << 25))]
}

fn case((name, words): (&'static str, usize)) -> Case {
    Case {
        name,
        params: vec![(words / 4) as u32],
        buffers: vec![noise(words, 1.0, 1), vec![LEFT; words]],
        groups: groups(words),
        flops: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::on_cpu;
    use super::*;

    #[test]
    fn the_source_is_copied_and_what_follows_stays() {
        let buffers = [(0..8).collect(), vec![9; 10]];
        let after = on_cpu(&buffers, |device, v| peak_copy(device, v[0], v[1])).unwrap();
        assert_eq!(after[1], [0, 1, 2, 3, 4, 5, 6, 7, 9, 9]);
        let refused = |from: usize, to: usize| {
            on_cpu(&[vec![0; from], vec![0; to]], |device, v| peak_copy(device, v[0], v[1])).is_err()
        };
        assert!(refused(6, 8) && refused(8, 4));
    }
}
