//! Circuits of given sizes, layer by layer, of the channels that rank first (`shaders/ranked_gates.wgsl`).

use rayon::prelude::*;

use super::cases::below;
use super::shape::expect;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut, grid};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "ranked_gates",
    source: || include_str!("../../shaders/ranked_gates.wgsl").into(),
    variants: &[],
    bindings: &[
        Binding::read("circuits"),
        Binding::read("keys"),
        Binding::read("layers"),
        Binding::write("gates", Compare::Exact),
    ],
    params_words: 6,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// Which circuit gives a slot its sizes, and which row of keys its ranks: slot s uses row `s / span` of either, counted
/// from the first again after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spans {
    /// Slots side by side that use the same circuit.
    pub circuit: usize,
    /// Slots side by side that use the same keys.
    pub keys: usize,
}

/// For every slot of `gates`, `[slots][G]`, opens in every layer as many gates as the slot's circuit (a row of
/// `circuits`, `[C][G]`, hard) has there: those with the lowest of the slot's `keys` (a row of `[R][G]` u32), of equal
/// ones the first. `layers` is `[G][2]`: the first gate of a gate's layer and how many it has.
///
/// # Errors
/// [`Error::Kernel`] when a view holds no whole rows or a span is 0.
pub fn ranked_gates<'a>(
    device: &dyn Device,
    spans: Spans,
    circuits: View<'a>,
    keys: View<'a>,
    layers: View<'a>,
    gates: View<'a>,
) -> Result<()> {
    let width = layers.words / 2;
    let rows = [circuits, keys, gates].map(|view| view.words / width.max(1));
    let whole = [circuits, keys, gates].iter().zip(rows).all(|(view, rows)| rows > 0 && view.words == rows * width);
    if !whole || spans.circuit == 0 || spans.keys == 0 {
        let words = [circuits, keys, gates].map(|view| view.words);
        return Err(Error::Kernel { kernel: KERNEL.name, problem: format!("{words:?} words in rows of {width}") });
    }
    expect(KERNEL.name, "layers", layers, 2 * width)?;
    let params = params(rows[2], width, (rows[0], spans.circuit), (rows[1], spans.keys));
    device.dispatch(&KERNEL, &params, &[circuits, keys, layers, gates], groups(gates.words))
}

fn params(slots: usize, width: usize, circuits: (usize, usize), keys: (usize, usize)) -> [u32; 6] {
    [slots, width, circuits.0, circuits.1, keys.0, keys.1].map(|n| n as u32)
}

fn groups(items: usize) -> [u32; 3] {
    grid::folded(items.div_ceil(64), 1)
}

fn twin(call: Call<'_>) {
    let [slots, width, circuit_rows, circuit_span, key_rows, key_span] = call.params::<[u32; 6]>().map(|v| v as usize);
    let ([circuits, keys, layers], [gates]) = call.buffers();
    let circuits = f32s(circuits);
    f32s_mut(gates)[..slots * width].par_chunks_mut(width).enumerate().for_each(|(slot, gates)| {
        let circuit = &circuits[slot / circuit_span % circuit_rows * width..][..width];
        let keys = &keys[slot / key_span % key_rows * width..][..width];
        let mut first = 0;
        while first < width {
            let range = first..first + layers[2 * first + 1] as usize;
            let open = circuit[range.clone()].iter().filter(|g| **g > 0.0).count();
            let mut order: Vec<usize> = range.clone().collect();
            order.sort_by_key(|c| (keys[*c], *c));
            gates[range.clone()].fill(0.0);
            order[..open].iter().for_each(|c| gates[*c] = 1.0);
            first = range.end;
        }
    });
}

fn cases() -> Vec<Case> {
    let case = |name, rows: [usize; 3], spans: [usize; 2], layers: &[u32], limit: u32| {
        let [circuits, keys, slots] = rows;
        let width = layers.iter().sum::<u32>() as usize;
        let starts = layers.iter().scan(0, |at, n| Some(std::mem::replace(at, *at + n)));
        let table = starts.zip(layers).flat_map(|(at, n)| [at, *n].repeat(*n as usize)).collect();
        let hard = below(circuits * width, 3, 1).into_iter().map(|v| (v.min(1) as f32).to_bits()).collect();
        Case {
            name,
            params: params(slots, width, (circuits, spans[0]), (keys, spans[1])).to_vec(),
            buffers: vec![hard, below(keys * width, limit, 2), table, vec![9; slots * width]],
            groups: groups(slots * width),
            flops: 0,
        }
    };
    vec![
        case("one gate", [1, 1, 1], [1, 1], &[1], u32::MAX),
        case("equal keys", [3, 5, 15], [5, 1], &[7, 13], 4),
        case("every size of every ranking", [4, 6, 24], [1, 4], &[7, 13], 1000),
        case("twenty circuits of simple-cnn", [20, 20, 400], [20, 1], &[32, 64, 128], u32::MAX),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::cases::{bits, on_cpu};
    use super::*;

    #[test]
    fn the_lowest_keys_of_each_layer_open() {
        // Layers of 3 and 2 gates; the circuit has 2 and 0 of them.
        let layers = vec![0, 3, 0, 3, 0, 3, 3, 2, 3, 2];
        let keys = vec![5, 1, 3, 0, 9, 2, 2, 2, 7, 7];
        let buffers = [bits(&[1.0, 0.0, 1.0, 0.0, 0.0]), keys, layers, vec![9; 10]];
        let spans = Spans { circuit: 2, keys: 1 };
        let after = on_cpu(&buffers, |device, v| ranked_gates(device, spans, v[0], v[1], v[2], v[3])).unwrap();
        assert_eq!(f32s(&after[3]), [0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn sizes_and_ranks_are_counted_from_the_first_again() {
        // One layer of 3; sizes 1 and 3, for each of two rankings.
        let sizes = bits(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        let buffers = [sizes, vec![2, 1, 0, 0, 1, 2], vec![0, 3, 0, 3, 0, 3], vec![9; 12]];
        let spans = Spans { circuit: 1, keys: 2 };
        let after = on_cpu(&buffers, |device, v| ranked_gates(device, spans, v[0], v[1], v[2], v[3])).unwrap();
        assert_eq!(f32s(&after[3]), [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    }
}
