//! Which channels feed which: surviving connections as bits (`shaders/edge_bits.wgsl`).

use rayon::prelude::*;

use super::shape::expect;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "edge_bits",
    source: || include_str!("../../shaders/edge_bits.wgsl").into(),
    variants: &[],
    bindings: &[Binding::read("weights"), Binding::read("words"), Binding::write("edges", Compare::Exact)],
    params_words: 3,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// Words of the table for one output channel: `sources` input channels of `taps` weights each, from weight `at`. A source
/// feeds the channel through any of its weights.
pub fn table(at: usize, sources: usize, taps: usize) -> impl Iterator<Item = [u32; 4]> {
    words_of(at, sources, taps, taps)
}

/// The same for the weights one by one: all sources at the first position of the filter, then all at the next.
pub fn position_table(at: usize, sources: usize, taps: usize) -> impl Iterator<Item = [u32; 4]> {
    (0..taps).flat_map(move |tap| words_of(at + tap, sources, 1, taps))
}

/// A word for each 32 sources, whose `looked_at` weights begin `step` apart.
fn words_of(at: usize, sources: usize, looked_at: usize, step: usize) -> impl Iterator<Item = [u32; 4]> {
    let word = move |first: usize| [at + first * step, (sources - first).min(32), looked_at, step].map(|n| n as u32);
    (0..sources).step_by(32).map(word)
}

/// For every row of `weights` (`[rows][row_words]`) and every entry of `words` (`[E][4]`, made by [`table`] or
/// [`position_table`]) one word of `edges` (`[rows][E]`): bit s is set when any weight looked at of source s is not zero.
///
/// # Errors
/// [`crate::Error::Kernel`] when a view is too small.
pub fn edge_bits(
    device: &dyn Device,
    rows: usize,
    row_words: usize,
    weights: View<'_>,
    words: View<'_>,
    edges: View<'_>,
) -> Result<()> {
    let entries = words.words / 4;
    expect(KERNEL.name, "weights", weights, rows * row_words)?;
    expect(KERNEL.name, "edges", edges, rows * entries)?;
    let params = [rows as u32, row_words as u32, entries as u32];
    device.dispatch(&KERNEL, &params, &[weights, words, edges], groups(entries, rows))
}

fn groups(entries: usize, rows: usize) -> [u32; 3] {
    grid::folded(entries.div_ceil(64), rows as u32)
}

fn twin(call: Call<'_>) {
    let [_, row_words, entries] = call.params::<[u32; 3]>().map(|v| v as usize);
    let ([weights, words], [edges]) = call.buffers();
    edges.par_chunks_mut(entries).zip(f32s(weights).par_chunks(row_words)).for_each(|(edges, row)| {
        for (edge, word) in edges.iter_mut().zip(words.chunks_exact(4)) {
            let [at, sources, looked_at, step] = [0, 1, 2, 3].map(|i| word[i] as usize);
            let alive = |s: usize| row[at + s * step..][..looked_at].iter().any(|w| *w != 0.0);
            *edge = (0..sources).fold(0, |bits, s| bits | u32::from(alive(s)) << s);
        }
    });
}

fn cases() -> Vec<Case> {
    let case = |name, positions: bool, rows: usize, [dests, sources, taps]: [usize; 3]| {
        let row_words = dests * sources * taps + 3;
        let of = |d: usize| -> Vec<[u32; 4]> {
            let at = d * sources * taps;
            if positions { position_table(at, sources, taps).collect() } else { table(at, sources, taps).collect() }
        };
        let words: Vec<u32> = (0..dests).flat_map(of).flatten().collect();
        let entries = words.len() / 4;
        // The smallest number is one, as are those with the exponent's first bit alone, and -0 is none.
        let survivor = |i: usize| [0.5, f32::from_bits(1), 2.0, -2.0][i % 4];
        let none = |i: usize| [0.0f32, -0.0][i % 2];
        let weight = |i: usize| if i.wrapping_mul(2_654_435_761).is_multiple_of(29) { survivor(i) } else { none(i) };
        Case {
            name,
            params: vec![rows as u32, row_words as u32, entries as u32],
            buffers: vec![(0..rows * row_words).map(|i| weight(i).to_bits()).collect(), words, vec![9; rows * entries]],
            groups: groups(entries, rows),
            flops: 0,
        }
    };
    vec![
        case("one source", false, 1, [3, 1, 9]),
        case("odd", false, 3, [5, 33, 25]),
        case("conv3 of simple-cnn", false, 5, [128, 64, 9]),
        case("odd positions", true, 3, [5, 33, 25]),
        case("positions of conv3", true, 2, [128, 64, 9]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;

    /// Bits of two destinations with two sources of three weights each.
    fn bits(words: &[u32]) -> Vec<u32> {
        let weights = [0.0f32, 0.0, -1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 3.0, 0.0].map(f32::to_bits);
        let cpu = Cpu::new(Some(1)).unwrap();
        let buffer = |words: &[u32]| {
            let buffer = cpu.alloc("test", words.len()).unwrap();
            cpu.write(buffer.all(), words).unwrap();
            buffer
        };
        let (weights, edges) = (buffer(&weights), buffer(&vec![0; words.len() / 4]));
        edge_bits(&cpu, 1, 12, weights.all(), buffer(words).all(), edges.all()).unwrap();
        pollster::block_on(cpu.read(&[edges.all()])).unwrap().remove(0)
    }

    #[test]
    fn a_connection_lives_when_any_of_its_weights_does() {
        let words: Vec<u32> = (0..2).flat_map(|d| table(6 * d, 2, 3)).flatten().collect();
        assert_eq!(bits(&words), [0b01, 0b11]);
    }

    #[test]
    fn weights_one_by_one_are_listed_position_by_position() {
        let words: Vec<u32> = (0..2).flat_map(|d| position_table(6 * d, 2, 3)).flatten().collect();
        assert_eq!(bits(&words), [0b00, 0b00, 0b01, 0b01, 0b10, 0b00]);
    }
}
