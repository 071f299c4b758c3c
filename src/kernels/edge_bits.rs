//! Which channels feed which: surviving connections as bits (`shaders/edge_bits.wgsl`).

use rayon::prelude::*;

use super::shape::expect;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "edge_bits",
    source: || include_str!("../../shaders/edge_bits.wgsl").into(),
    bindings: &[Binding::read("weights"), Binding::read("words"), Binding::write("edges", Compare::Exact)],
    params_words: 3,
    workgroup: [64, 1, 1],
    twin,
    cases,
};

/// Words of the table for one output channel: `sources` input channels of `taps` weights each, from weight `at`.
pub fn table(at: usize, sources: usize, taps: usize) -> impl Iterator<Item = [u32; 4]> {
    (0..sources)
        .step_by(32)
        .map(move |first| [(at + first * taps) as u32, (sources - first).min(32) as u32, taps as u32, 0])
}

/// For every row of `weights` (`[rows][row_words]`) and every entry of `words` (`[E][4]`, made by [`table`]) one word of
/// `edges` (`[rows][E]`): bit s is set when any weight of source s is not zero.
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
            let [at, sources, taps] = [word[0], word[1], word[2]].map(|v| v as usize);
            let kernels = row[at..at + sources * taps].chunks_exact(taps);
            *edge = kernels.zip(0..).fold(0, |bits, (k, s)| bits | u32::from(k.iter().any(|w| *w != 0.0)) << s);
        }
    });
}

fn cases() -> Vec<Case> {
    let case = |name, rows: usize, dests: usize, sources: usize, taps: usize| {
        let row_words = dests * sources * taps + 3;
        let words: Vec<u32> = (0..dests).flat_map(|d| table(d * sources * taps, sources, taps)).flatten().collect();
        let entries = words.len() / 4;
        let weight = |i: usize| if i.wrapping_mul(2_654_435_761).is_multiple_of(29) { 0.5f32 } else { 0.0 };
        Case {
            name,
            params: vec![rows as u32, row_words as u32, entries as u32],
            buffers: vec![(0..rows * row_words).map(|i| weight(i).to_bits()).collect(), words, vec![9; rows * entries]],
            groups: groups(entries, rows),
            flops: 0,
        }
    };
    vec![case("one source", 1, 3, 1, 9), case("odd", 3, 5, 33, 25), case("conv3 of simple-cnn", 5, 128, 64, 9)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;

    #[test]
    fn a_connection_lives_when_any_of_its_weights_does() {
        // Two destinations, two sources, three weights each.
        let weights = [0.0f32, 0.0, -1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 3.0, 0.0].map(f32::to_bits);
        let words: Vec<u32> = (0..2).flat_map(|d| table(6 * d, 2, 3)).flatten().collect();
        let cpu = Cpu::new(Some(1)).unwrap();
        let buffer = |words: &[u32]| {
            let buffer = cpu.alloc("test", words.len()).unwrap();
            cpu.write(buffer.all(), words).unwrap();
            buffer
        };
        let (weights, words, edges) = (buffer(&weights), buffer(&words), buffer(&[0; 2]));
        edge_bits(&cpu, 1, 12, weights.all(), words.all(), edges.all()).unwrap();
        assert_eq!(pollster::block_on(cpu.read(&[edges.all()])).unwrap()[0], [0b01, 0b11]);
    }
}
