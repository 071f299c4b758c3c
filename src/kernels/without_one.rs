//! Circuits without one of their channels at a time (`shaders/without_one.wgsl`).

use std::ops::Range;

use rayon::prelude::*;

use super::cases::{below, bits};
use super::shape::{Rows, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "without_one",
    source: || include_str!("../../shaders/without_one.wgsl").into(),
    variants: &[],
    bindings: &[Binding::read("hard"), Binding::write("kept", Compare::Exact), Binding::write("whole", Compare::Exact)],
    params_words: 5,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// For every circuit in `hard` (`[C][G]`, `circuits` says C and G) and every i in `some`, of those below `removals`: `kept`,
/// `[C][some][G]`, is the circuit without one of its channels v, and `whole`, as large, all channels but v. v has rank
/// `i * size / min(size, removals)` among the circuit's channels: of a circuit with at most `removals` of them, each is
/// removed in turn. From i = size on all gates are closed.
///
/// # Errors
/// [`crate::Error::Kernel`] when a view is too small.
pub fn without_one<'a>(
    device: &dyn Device,
    circuits: Rows,
    (removals, some): (usize, Range<usize>),
    hard: View<'a>,
    kept: View<'a>,
    whole: View<'a>,
) -> Result<()> {
    let slots = circuits.slots * some.len();
    expect(KERNEL.name, "hard", hard, circuits.slots * circuits.words)?;
    expect(KERNEL.name, "kept", kept, slots * circuits.words)?;
    expect(KERNEL.name, "whole", whole, slots * circuits.words)?;
    let p = [circuits.slots, circuits.words, removals, some.start, some.len()].map(|n| n as u32);
    device.dispatch(&KERNEL, &p, &[hard, kept, whole], groups(slots))
}

fn groups(slots: usize) -> [u32; 3] {
    grid::folded(slots.div_ceil(64), 1)
}

fn twin(call: Call<'_>) {
    let [circuits, gates, removals, first, count] = call.params::<[u32; 5]>().map(|v| v as usize);
    let ([hard], [kept, whole]) = call.buffers();
    let words = circuits * count * gates;
    let (kept, whole) = (&mut f32s_mut(kept)[..words], &mut f32s_mut(whole)[..words]);
    let slots = kept.par_chunks_mut(gates).zip(whole.par_chunks_mut(gates)).enumerate();
    slots.for_each(|(slot, (kept, whole))| {
        let circuit = &f32s(hard)[slot / count * gates..][..gates];
        let channels: Vec<usize> = (0..gates).filter(|g| circuit[*g] > 0.0).collect();
        kept.fill(0.0);
        whole.fill(0.0);
        let i = first + slot % count;
        if i < channels.len() {
            let removed = channels[i * channels.len() / channels.len().min(removals)];
            channels.iter().for_each(|c| kept[*c] = 1.0);
            whole.fill(1.0);
            (kept[removed], whole[removed]) = (0.0, 0.0);
        }
    });
}

fn cases() -> Vec<Case> {
    let of = |name, hard: Vec<u32>, gates: usize, (removals, some): (usize, Range<usize>)| {
        let (circuits, words) = (hard.len() / gates, hard.len() * some.len());
        Case {
            name,
            params: [circuits, gates, removals, some.start, some.len()].map(|n| n as u32).to_vec(),
            buffers: vec![hard, vec![9; words], vec![9; words]],
            groups: groups(circuits * some.len()),
            flops: 0,
        }
    };
    let case = |name, circuits: usize, gates: usize, removed: (usize, Range<usize>), share: u32| {
        let hard = below(circuits * gates, share, 1).into_iter().map(|v| (1 - v.min(1)) as f32);
        of(name, hard.map(f32::to_bits).collect(), gates, removed)
    };
    let small = bits([[0.0; 4], [0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0]].as_flattened());
    vec![
        case("one gate", 1, 1, (1, 0..1), 1),
        of("an empty circuit, one channel, one removal", small.clone(), 4, (1, 0..1)),
        of("an empty circuit, one channel, two removals", small, 4, (2, 0..2)),
        case("smaller and larger than the removals", 5, 29, (7, 0..7), 4),
        case("some of the removals", 3, 29, (7, 2..5), 4),
        case("twenty circuits of simple-cnn", 20, 224, (16, 0..16), 9),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::cases::on_cpu;
    use super::*;

    fn run(hard: &[f32], removals: usize) -> (Vec<f32>, Vec<f32>) {
        let words = hard.len() * removals;
        let buffers = [bits(hard), vec![9; words], vec![9; words]];
        let circuits = Rows { slots: 1, words: hard.len() };
        let all = (removals, 0..removals);
        let after = on_cpu(&buffers, |device, v| without_one(device, circuits, all.clone(), v[0], v[1], v[2])).unwrap();
        (f32s(&after[1]).to_vec(), f32s(&after[2]).to_vec())
    }

    #[test]
    fn a_small_circuit_loses_each_channel_in_turn() {
        let (kept, whole) = run(&[0.0, 1.0, 1.0], 3);
        assert_eq!(kept, [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(whole, [1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn of_a_large_one_channels_are_taken_evenly() {
        // Five channels and two removals: ranks 0 and 2.
        let (kept, _) = run(&[1.0, 1.0, 0.0, 1.0, 1.0, 1.0], 2);
        assert_eq!(kept, [0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
        // The second alone.
        let hard = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0];
        let (circuits, buffers) = (Rows { slots: 1, words: 6 }, [bits(&hard), vec![9; 6], vec![9; 6]]);
        let after = on_cpu(&buffers, |device, v| without_one(device, circuits, (2, 1..2), v[0], v[1], v[2])).unwrap();
        assert_eq!(f32s(&after[1]), &kept[6..]);
    }
}
