//! The L1 norm of every channel's filter (`shaders/filter_norm.wgsl`): Li et al., "Pruning Filters for Efficient
//! ConvNets" (2017), rank channels by it.

use rayon::prelude::*;

use super::cases::{LEFT, below, noise};
use super::shape::{Rows, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "filter_norm",
    source: || include_str!("../../shaders/filter_norm.wgsl").into(),
    variants: &[],
    bindings: &[
        Binding::read("weights"),
        Binding::read("rows"),
        Binding::read("filters"),
        // Additions alone, in one order.
        Binding::write("scores", Compare::ExactFloats),
    ],
    params_words: 3,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// Writes `scores`, `[slots][G]`: the sum of |w| over each gate's filter. Slot s uses row `rows[s]` of `weights`,
/// `[rows][P]` (`models` says how many rows of how many words). `filters` is `[G][2]`: a filter's first word in the row,
/// and its words.
///
/// # Errors
/// [`crate::Error::Kernel`] when a view is too small.
pub fn filter_norm<'a>(
    device: &dyn Device,
    models: Rows,
    weights: View<'a>,
    rows: View<'a>,
    filters: View<'a>,
    scores: View<'a>,
) -> Result<()> {
    let (slots, gates) = (rows.words, filters.words / 2);
    expect(KERNEL.name, "weights", weights, models.slots * models.words)?;
    expect(KERNEL.name, "scores", scores, slots * gates)?;
    let p = [slots, gates, models.words].map(|n| n as u32);
    device.dispatch(&KERNEL, &p, &[weights, rows, filters, scores], groups(slots * gates))
}

fn groups(items: usize) -> [u32; 3] {
    grid::folded(items.div_ceil(64), 1)
}

fn twin(call: Call<'_>) {
    let [slots, gates, words] = call.params::<[u32; 3]>().map(|v| v as usize);
    let ([weights, rows, filters], [scores]) = call.buffers();
    f32s_mut(scores)[..slots * gates].par_chunks_mut(gates).zip(rows).for_each(|(scores, row)| {
        let row = &f32s(weights)[*row as usize * words..][..words];
        for (score, filter) in scores.iter_mut().zip(filters.chunks_exact(2)) {
            *score = row[filter[0] as usize..][..filter[1] as usize].iter().fold(0.0, |sum, w| sum + w.abs());
        }
    });
}

fn cases() -> Vec<Case> {
    let case = |name, rows: usize, slots: usize, filters: &[[u32; 2]]| {
        let words = filters.iter().map(|f| f[0] + f[1]).max().unwrap_or(1) as usize + 3;
        Case {
            name,
            params: [slots, filters.len(), words].map(|n| n as u32).to_vec(),
            buffers: vec![
                noise(rows * words, 1.0, 1),
                below(slots, rows as u32, 2),
                filters.concat(),
                vec![LEFT; slots * filters.len()],
            ],
            groups: groups(slots * filters.len()),
            flops: (slots as u64) * filters.iter().map(|f| u64::from(f[1])).sum::<u64>(),
        }
    };
    let layer = |at: u32, filters: u32, words: u32| (0..filters).map(move |f| [at + f * words, words]);
    let simple_cnn: Vec<_> = layer(0, 32, 9).chain(layer(320, 64, 288)).chain(layer(18_816, 128, 576)).collect();
    vec![
        case("one weight", 1, 1, &[[0, 1]]),
        case("odd", 3, 7, &[[1, 5], [6, 5], [13, 2]]),
        case("twenty slots of simple-cnn", 5, 20, &simple_cnn),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::cases::{bits, on_cpu};
    use super::*;

    #[test]
    fn by_hand() {
        let weights = bits(&[1.0, -2.0, 0.5, 9.0, -4.0, 0.0, 0.25, 9.0]);
        let buffers = [weights, vec![1, 0, 1], vec![0, 2, 2, 1], vec![9; 6]];
        let models = Rows { slots: 2, words: 4 };
        let after = on_cpu(&buffers, |device, v| filter_norm(device, models, v[0], v[1], v[2], v[3])).unwrap();
        assert_eq!(f32s(&after[3]), [4.0, 0.25, 3.0, 0.5, 4.0, 0.25]);
    }
}
