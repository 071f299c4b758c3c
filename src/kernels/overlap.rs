//! Overlap of pairs of circuits, layer by layer (`shaders/overlap.wgsl`).

use rayon::prelude::*;

use super::cases::{LEFT, below};
use super::shape::expect;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, grid};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "overlap",
    source: || include_str!("../../shaders/overlap.wgsl").into(),
    variants: &[],
    bindings: &[
        Binding::read("masks_a"),
        Binding::read("masks_b"),
        Binding::read("pairs"),
        Binding::read("layers"),
        Binding::write("out", Compare::Exact),
    ],
    params_words: 3,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// Writes to `out`, `[pairs][L][3]` u32, the sizes of the intersection, of a and of b, for every pair and layer.
///
/// `masks_a` and `masks_b` are `[N][W]` u32 with W = `words`, and may be the same; `pairs` is `[pairs][2]`: a row of a
/// and one of b; `layers` is `[L][2]`: a layer's first word and how many it has.
///
/// # Errors
/// [`Error::Kernel`] when the masks are no whole rows or `out` is too small.
pub fn overlap<'a>(
    device: &dyn Device,
    words: usize,
    masks_a: View<'a>,
    masks_b: View<'a>,
    pairs: View<'a>,
    layers: View<'a>,
    out: View<'a>,
) -> Result<()> {
    if [masks_a, masks_b].iter().any(|m| words == 0 || !m.words.is_multiple_of(words)) {
        let problem = format!("masks of {words} words in {} and {}", masks_a.words, masks_b.words);
        return Err(Error::Kernel { kernel: KERNEL.name, problem });
    }
    let (n, l) = (pairs.words / 2, layers.words / 2);
    expect(KERNEL.name, "out", out, 3 * n * l)?;
    let p = [n, words, l].map(|n| n as u32);
    device.dispatch(&KERNEL, &p, &[masks_a, masks_b, pairs, layers, out], groups(n * l))
}

fn groups(threads: usize) -> [u32; 3] {
    grid::folded(threads.div_ceil(64), 1)
}

fn twin(call: Call<'_>) {
    let [n, words, l] = [0, 1, 2].map(|i| call.params[i] as usize);
    let ([masks_a, masks_b, pairs, layers], [out]) = call.buffers();
    let each = out[..3 * n * l].par_chunks_mut(3 * l).zip(pairs.par_chunks(2)).with_min_len(64);
    each.for_each(|(out, pair)| {
        let (a, b) = (&masks_a[pair[0] as usize * words..][..words], &masks_b[pair[1] as usize * words..][..words]);
        for (out, layer) in out.chunks_mut(3).zip(layers.chunks(2)) {
            let range = layer[0] as usize..(layer[0] + layer[1]) as usize;
            let sizes = a[range.clone()].iter().zip(&b[range]).fold([0; 3], |[both, in_a, in_b], (a, b)| {
                [both + (a & b).count_ones(), in_a + a.count_ones(), in_b + b.count_ones()]
            });
            out.copy_from_slice(&sizes);
        }
    });
}

fn cases() -> Vec<Case> {
    let case = |name, [na, nb, n]: [usize; 3], layers: &[[u32; 2]]| {
        let words = layers.iter().map(|l| l[0] + l[1]).max().unwrap_or(0) as usize;
        let rows = below(2 * n, u32::MAX, 3);
        let limits = [na as u32, nb as u32].into_iter().cycle();
        Case {
            name,
            params: [n, words, layers.len()].map(|n| n as u32).to_vec(),
            buffers: vec![
                below(na * words, u32::MAX, 1),
                below(nb * words, u32::MAX, 2),
                rows.iter().zip(limits).map(|(r, limit)| r % limit).collect(),
                layers.concat(),
                vec![LEFT; 3 * n * layers.len()],
            ],
            groups: groups(n * layers.len()),
            flops: 0,
        }
    };
    vec![
        case("one word", [1, 1, 1], &[[0, 1]]),
        case("odd", [7, 3, 101], &[[0, 1], [1, 5], [6, 2]]),
        case("simple-cnn", [100, 100, 4950], &[[0, 1], [1, 2], [3, 4]]),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::cases::on_cpu;
    use super::*;

    #[test]
    fn by_hand() {
        let masks = vec![0b1011, 0xffff_ffff, 0, 0b0110, 1, 0x8000_0000];
        let buffers = [masks.clone(), masks, vec![0, 1, 1, 1], vec![0, 1, 1, 2], vec![9; 12]];
        let after = on_cpu(&buffers, |device, v| overlap(device, 3, v[0], v[1], v[2], v[3], v[4])).unwrap();
        assert_eq!(after[4], [1, 3, 2, 1, 32, 2, 2, 2, 2, 2, 2, 2]);
    }

    #[test]
    fn broken_rows_are_refused() {
        let buffers = [vec![0; 6], vec![0; 5], vec![0; 2], vec![0; 2], vec![0; 3]];
        assert!(on_cpu(&buffers, |device, v| overlap(device, 3, v[0], v[1], v[2], v[3], v[4])).is_err());
    }
}
