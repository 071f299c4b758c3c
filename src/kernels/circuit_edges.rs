//! The edges of circuits, as bits (`shaders/circuit_edges.wgsl`).

use rayon::prelude::*;

use super::cases::below;
use super::shape::expect;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "circuit_edges",
    source: || include_str!("../../shaders/circuit_edges.wgsl").into(),
    variants: &[],
    bindings: &[
        Binding::read("alive"),
        Binding::read("models"),
        Binding::read("masks"),
        Binding::read("words"),
        Binding::write("edges", Compare::Exact),
    ],
    params_words: 3,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// In the table of words: every source counts, as the images do in the first layer.
pub const EVERY_SOURCE: u32 = u32::MAX;

/// The buffers of [`circuit_edges`].
#[derive(Clone, Copy, Debug)]
pub struct Buffers<'a> {
    /// `[models][E]`, as [`super::edge_bits`] leaves them.
    pub alive: View<'a>,
    /// `[circuits]`: the row of `alive` that a circuit's model has.
    pub models: View<'a>,
    /// `[circuits][W]`, bits of channels, as [`super::pack_bits`] leaves them.
    pub masks: View<'a>,
    /// `[E][4]`: the word and the bit of the destination in a row of `masks`, the word of its sources or
    /// [`EVERY_SOURCE`], and nothing.
    pub words: View<'a>,
    /// Written: `[circuits][E]`.
    pub edges: View<'a>,
}

/// Keeps of every circuit's surviving connections those between its own channels. `mask_words` is W.
///
/// # Errors
/// [`crate::Error::Kernel`] when a view is too small.
pub fn circuit_edges(device: &dyn Device, mask_words: usize, b: &Buffers<'_>) -> Result<()> {
    let (circuits, words) = (b.models.words, b.words.words / 4);
    expect(KERNEL.name, "masks", b.masks, circuits * mask_words)?;
    expect(KERNEL.name, "edges", b.edges, circuits * words)?;
    let params = [circuits as u32, mask_words as u32, words as u32];
    let views = [b.alive, b.models, b.masks, b.words, b.edges];
    device.dispatch(&KERNEL, &params, &views, groups(circuits * words))
}

fn groups(items: usize) -> [u32; 3] {
    grid::folded(items.div_ceil(64), 1)
}

fn twin(call: Call<'_>) {
    let [circuits, mask_words, edge_words] = call.params::<[u32; 3]>().map(|v| v as usize);
    let ([alive, models, masks, words], [edges]) = call.buffers();
    let rows = edges[..circuits * edge_words].par_chunks_mut(edge_words).zip(models).zip(masks.par_chunks(mask_words));
    rows.for_each(|((edges, model), mask)| {
        let alive = &alive[*model as usize * edge_words..][..edge_words];
        for ((edge, alive), word) in edges.iter_mut().zip(alive).zip(words.chunks_exact(4)) {
            let sources = if word[2] == EVERY_SOURCE { u32::MAX } else { mask[word[2] as usize] };
            let kept = mask[word[0] as usize] >> word[1] & 1 == 1;
            *edge = if kept { alive & sources } else { 0 };
        }
    });
}

fn cases() -> Vec<Case> {
    let case = |name, circuits: usize, models: usize, mask_words: usize, edge_words: usize| {
        let word = |e: u32| {
            let source = if e.is_multiple_of(3) { EVERY_SOURCE } else { e % mask_words as u32 };
            [e * 5 % mask_words as u32, e % 32, source, 0]
        };
        Case {
            name,
            params: vec![circuits as u32, mask_words as u32, edge_words as u32],
            buffers: vec![
                below(models * edge_words, u32::MAX, 1),
                below(circuits, models as u32, 2),
                below(circuits * mask_words, u32::MAX, 3),
                (0..edge_words as u32).flat_map(word).collect(),
                vec![9; circuits * edge_words],
            ],
            groups: groups(circuits * edge_words),
            flops: 0,
        }
    };
    vec![case("one", 1, 1, 1, 1), case("odd", 7, 3, 5, 33), case("twenty circuits of simple-cnn", 20, 6, 7, 352)]
}

#[cfg(test)]
mod tests {
    use super::super::cases::on_cpu;
    use super::*;

    #[test]
    fn an_edge_needs_both_its_ends() {
        // Two layers of three channels: channels 0 and 2 of the first, 1 of the second.
        let masks = vec![0b101, 0b010];
        let alive = vec![1, 1, 1, 0b111, 0b011, 0b001];
        let table = |dest: u32, layer: u32, source| [layer, dest, source, 0];
        let first = (0..3).map(|d| table(d, 0, EVERY_SOURCE));
        let words: Vec<u32> = first.chain((0..3).map(|d| table(d, 1, 0))).flatten().collect();
        let buffers = [alive, vec![0], masks, words, vec![9; 6]];
        let after = on_cpu(&buffers, |device, v| {
            let b = Buffers { alive: v[0], models: v[1], masks: v[2], words: v[3], edges: v[4] };
            circuit_edges(device, 2, &b)
        });
        assert_eq!(after.unwrap()[4], [1, 0, 1, 0, 0b001, 0]);
    }
}
