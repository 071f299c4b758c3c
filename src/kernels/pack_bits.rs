//! Hard gates to bit masks (`shaders/pack_bits.wgsl`).

use rayon::prelude::*;

use super::cases::{LEFT, below};
use super::shape::{Rows, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "pack_bits",
    source: || include_str!("../../shaders/pack_bits.wgsl").into(),
    variants: &[],
    bindings: &[Binding::read("hard"), Binding::read("table"), Binding::write("bits", Compare::Exact)],
    params_words: 3,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// Packs the gates `hard`, `[K][G]` f32 (`gates` says K and G), into `bits`, `[K][W]` u32.
///
/// `table` is `[W][2]` u32: a word's first gate and how many it holds, 1 to 32; a layer starts a new word. Bit i is 1
/// where gate first + i is greater than 0.
///
/// # Errors
/// [`crate::Error::Kernel`] when a buffer is too small.
pub fn pack_bits<'a>(device: &dyn Device, gates: Rows, hard: View<'a>, table: View<'a>, bits: View<'a>) -> Result<()> {
    let words = table.words / 2;
    expect(KERNEL.name, "hard", hard, gates.slots * gates.words)?;
    expect(KERNEL.name, "bits", bits, gates.slots * words)?;
    let p = [gates.slots, gates.words, words].map(|n| n as u32);
    device.dispatch(&KERNEL, &p, &[hard, table, bits], groups(gates.slots * words))
}

fn groups(words: usize) -> [u32; 3] {
    grid::folded(words.div_ceil(64), 1)
}

fn twin(call: Call<'_>) {
    let [slots, gates, words] = [0, 1, 2].map(|i| call.params[i] as usize);
    let ([hard, table], [bits]) = call.buffers();
    let rows = bits[..slots * words].par_chunks_mut(words).zip(f32s(hard).par_chunks(gates));
    rows.for_each(|(bits, hard)| {
        for (word, of) in bits.iter_mut().zip(table.chunks(2)) {
            let own = &hard[of[0] as usize..][..of[1] as usize];
            *word = own.iter().rev().fold(0, |word, gate| word << 1 | u32::from(*gate > 0.0));
        }
    });
}

fn cases() -> Vec<Case> {
    let case = |name, slots: usize, gates: usize, table: &[[u32; 2]]| Case {
        name,
        params: [slots, gates, table.len()].map(|n| n as u32).to_vec(),
        buffers: vec![
            below(slots * gates, 2, 1).iter().map(|v| (*v as f32).to_bits()).collect(),
            table.concat(),
            vec![LEFT; slots * table.len()],
        ],
        groups: groups(slots * table.len()),
        flops: 0,
    };
    let simple_cnn = [[0, 32], [32, 32], [64, 32], [96, 32], [128, 32], [160, 32], [192, 32]];
    vec![
        case("one gate", 1, 1, &[[0, 1]]),
        case("odd layers", 37, 75, &[[0, 32], [32, 9], [41, 1], [42, 31], [73, 2]]),
        case("two whole workgroups", 64, 40, &[[0, 32], [32, 8]]),
        case("fifty slots of simple-cnn", 50, 224, &simple_cnn),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::cases::{bits, on_cpu};
    use super::*;

    #[test]
    fn by_hand() {
        let hard = bits(&[1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, -1.0]);
        let buffers = [hard, vec![0, 3, 3, 2], vec![9; 4]];
        let after = on_cpu(&buffers, |device, v| pack_bits(device, Rows { slots: 2, words: 5 }, v[0], v[1], v[2]));
        assert_eq!(after.unwrap()[2], [0b101, 0b10, 0b100, 0b01]);
    }
}
