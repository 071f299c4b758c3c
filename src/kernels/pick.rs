//! Chosen words of a buffer, of any kind (`shaders/pick.wgsl`).

use rayon::prelude::*;

use super::cases::below;
use super::shape::expect;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "pick",
    source: || include_str!("../../shaders/pick.wgsl").into(),
    variants: &[],
    bindings: &[Binding::read("words"), Binding::read("places"), Binding::write("picked", Compare::Exact)],
    params_words: 2,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// Writes `picked[i] = words[places[i]]` for every place; one beyond the words gives 0.
///
/// # Errors
/// [`crate::Error::Kernel`] when `picked` is shorter than `places`.
pub fn pick<'a>(device: &dyn Device, words: View<'a>, places: View<'a>, picked: View<'a>) -> Result<()> {
    expect(KERNEL.name, "picked", picked, places.words)?;
    let params = [places.words, words.words].map(|n| n as u32);
    device.dispatch(&KERNEL, &params, &[words, places, picked], groups(places.words))
}

fn groups(picks: usize) -> [u32; 3] {
    grid::folded(picks.div_ceil(64), 1)
}

fn twin(call: Call<'_>) {
    let [picks, words] = call.params::<[u32; 2]>().map(|v| v as usize);
    let ([from, places], [picked]) = call.buffers();
    let from = &from[..words];
    picked[..picks].par_iter_mut().zip(places).for_each(|(to, place)| {
        *to = from.get(*place as usize).copied().unwrap_or(0);
    });
}

fn cases() -> Vec<Case> {
    let case = |name, words: usize, picks: usize, limit: usize| Case {
        name,
        params: vec![picks as u32, words as u32],
        buffers: vec![below(words, u32::MAX, 1), below(picks, limit as u32, 2), vec![9; picks]],
        groups: groups(picks),
        flops: 0,
    };
    vec![
        case("one word", 1, 1, 1),
        case("places beyond the words", 50, 333, 70),
        case("a row of simple-cnn", 104_204, 104_204, 104_204),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::cases::on_cpu;
    use super::*;

    #[test]
    fn by_hand() {
        let buffers = [vec![10, 11, 12], vec![2, 0, 3, 2], vec![9; 5]];
        let after = on_cpu(&buffers, |device, v| pick(device, v[0], v[1], v[2])).unwrap();
        assert_eq!(after[2], [12, 10, 0, 12, 9]);
    }
}
