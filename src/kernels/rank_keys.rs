//! Scores to keys for [`super::ranked_gates`]: the largest score gets the lowest key (`shaders/rank_keys.wgsl`).

use rayon::prelude::*;

use super::cases::{bits, noise};
use super::shape::expect;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "rank_keys",
    source: || include_str!("../../shaders/rank_keys.wgsl").into(),
    variants: &[],
    bindings: &[Binding::read("scores"), Binding::write("keys", Compare::Exact)],
    params_words: 2,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

const SIGN: u32 = 1 << 31;

/// How scores are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranking {
    /// As they are.
    Signed = 0,
    /// Without their signs.
    Absolute = 1,
}

/// Writes to `keys` whole numbers that sort like `scores` (f32, as many) from the largest to the smallest. What is not
/// a number ranks beyond all others, on the side of its sign.
///
/// # Errors
/// [`crate::Error::Kernel`] when there are fewer keys than scores.
pub fn rank_keys<'a>(device: &dyn Device, ranking: Ranking, scores: View<'a>, keys: View<'a>) -> Result<()> {
    expect(KERNEL.name, "keys", keys, scores.words)?;
    device.dispatch(&KERNEL, &[scores.words as u32, ranking as u32], &[scores, keys], groups(scores.words))
}

fn groups(words: usize) -> [u32; 3] {
    grid::folded(words.div_ceil(64), 1)
}

fn twin(call: Call<'_>) {
    let (words, absolute) = (call.params[0] as usize, call.params[1] != 0);
    let ([scores], [keys]) = call.buffers();
    keys[..words].par_iter_mut().zip(scores).for_each(|(key, score)| {
        let bits = if absolute { score & !SIGN } else { *score };
        *key = if bits >= SIGN { bits } else { !SIGN ^ bits };
    });
}

fn cases() -> Vec<Case> {
    let of = |name, scores: Vec<u32>, ranking: Ranking| {
        let words = scores.len();
        let params = vec![words as u32, ranking as u32];
        Case { name, params, buffers: vec![scores, vec![9; words]], groups: groups(words), flops: 0 }
    };
    let case = |name, words: usize, ranking: Ranking| of(name, noise(words, 3.0, 1), ranking);
    let ends = bits(&[0.0, -0.0, 1.5, 1.5, -1.5, -1.5, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0]);
    vec![
        case("one score", 1, Ranking::Signed),
        case("odd", 77, Ranking::Absolute),
        of("zeros, ties, infinities", ends.clone(), Ranking::Signed),
        of("the same without signs", ends, Ranking::Absolute),
        case("twenty slots of simple-cnn", 20 * 224, Ranking::Signed),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::cases::on_cpu;
    use super::*;

    fn order(scores: &[f32], ranking: Ranking) -> Vec<usize> {
        let buffers = [bits(scores), vec![0; scores.len()]];
        let keys = on_cpu(&buffers, |device, v| rank_keys(device, ranking, v[0], v[1])).unwrap().remove(1);
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by_key(|i| keys[*i]);
        order
    }

    #[test]
    fn keys_sort_from_the_largest_score_to_the_smallest() {
        let scores = [0.5, -3.0, 2.0, f32::MIN_POSITIVE, -0.25, 1e30, -1e30, 0.0];
        assert_eq!(order(&scores, Ranking::Signed), [5, 2, 0, 3, 7, 4, 1, 6]);
        assert_eq!(order(&scores, Ranking::Absolute), [5, 6, 1, 2, 0, 4, 3, 7]);
    }
}
