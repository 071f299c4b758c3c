//! Random circuits as large as given ones, layer by layer (`shaders/random_gates.wgsl`).

use rayon::prelude::*;

use super::cases::below;
use super::shape::expect;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut, grid};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "random_gates",
    source: || include_str!("../../shaders/random_gates.wgsl").into(),
    bindings: &[
        Binding::read("circuits"),
        Binding::read("keys"),
        Binding::read("layers"),
        Binding::write("gates", Compare::Exact),
    ],
    params_words: 3,
    workgroup: [64, 1, 1],
    twin,
    cases,
};

/// Draws `draws` random circuits for every one in `circuits` (`[C][G]`, hard): `gates`, `[C][draws][G]`, has in every layer
/// as many open gates, those with the lowest of the draw's `keys` (`[draws][G]`, random words). `layers` is `[G][2]`: the
/// first gate of a gate's layer and how many it has.
///
/// # Errors
/// [`Error::Kernel`] when a view is too small or holds no whole rows.
pub fn random_gates<'a>(
    device: &dyn Device,
    circuits: View<'a>,
    keys: View<'a>,
    layers: View<'a>,
    gates: View<'a>,
) -> Result<()> {
    let width = layers.words / 2;
    if !circuits.words.is_multiple_of(width) || !keys.words.is_multiple_of(width) {
        let problem = format!("{} gates and {} keys in rows of {width}", circuits.words, keys.words);
        return Err(Error::Kernel { kernel: KERNEL.name, problem });
    }
    let draws = keys.words / width;
    let slots = circuits.words / width * draws;
    expect(KERNEL.name, "gates", gates, slots * width)?;
    let params = [slots, width, draws].map(|n| n as u32);
    device.dispatch(&KERNEL, &params, &[circuits, keys, layers, gates], groups(slots * width))
}

fn groups(items: usize) -> [u32; 3] {
    grid::folded(items.div_ceil(64), 1)
}

fn twin(call: Call<'_>) {
    let [slots, width, draws] = call.params::<[u32; 3]>().map(|v| v as usize);
    let ([circuits, keys, layers], [gates]) = call.buffers();
    let circuits = f32s(circuits);
    f32s_mut(gates)[..slots * width].par_chunks_mut(width).enumerate().for_each(|(slot, gates)| {
        let circuit = &circuits[slot / draws * width..][..width];
        let keys = &keys[slot % draws * width..][..width];
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
    let case = |name, circuits: usize, draws: usize, layers: &[u32], limit: u32| {
        let width = layers.iter().sum::<u32>() as usize;
        let starts = layers.iter().scan(0, |at, n| Some(std::mem::replace(at, *at + n)));
        let table = starts.zip(layers).flat_map(|(at, n)| [at, *n].repeat(*n as usize)).collect();
        let hard = below(circuits * width, 3, 1).into_iter().map(|v| (v.min(1) as f32).to_bits()).collect();
        Case {
            name,
            params: [circuits * draws, width, draws].map(|n| n as u32).to_vec(),
            buffers: vec![hard, below(draws * width, limit, 2), table, vec![9; circuits * draws * width]],
            groups: groups(circuits * draws * width),
            flops: 0,
        }
    };
    vec![
        case("one gate", 1, 1, &[1], u32::MAX),
        case("equal keys", 3, 5, &[7, 13], 4),
        case("twenty circuits of simple-cnn", 20, 20, &[32, 64, 128], u32::MAX),
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
        let after = on_cpu(&buffers, |device, v| random_gates(device, v[0], v[1], v[2], v[3])).unwrap();
        assert_eq!(f32s(&after[3]), [0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    }
}
