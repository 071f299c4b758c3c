//! Activation patching between two workspaces (`shaders/patch_channels.wgsl`).

use rayon::prelude::*;

use super::cases::{below, noise};
use super::shape::{Gates, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "patch_channels",
    source: || include_str!("../../shaders/patch_channels.wgsl").into(),
    variants: &[],
    bindings: &[
        Binding::read("donor"),
        Binding::read("donors"),
        Binding::read("gates"),
        Binding::write("output", Compare::Exact),
    ],
    params_words: 4,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// The buffers of [`patch_channels`].
#[derive(Clone, Copy, Debug)]
pub struct Buffers<'a> {
    /// `[donors][C][H][W][B]`: a layer's output in the workspace that gives.
    pub donor: View<'a>,
    /// `[slots]`: the donor of each slot.
    pub donors: View<'a>,
    /// `[slots]` rows of gates: 1 takes the donor's channel, 0 keeps the slot's own.
    pub gates: Gates<'a>,
    /// Written: `[slots][C][H][W][B]`, the same layer's output in the workspace that takes.
    pub output: View<'a>,
}

/// Copies the chosen ones of `channels` channels, each of `plane` words a slot (H * W * B).
///
/// The output is that after ReLU and pooling: to take it is to take the channel's value before them.
///
/// # Errors
/// [`crate::Error::Kernel`] when a buffer is too small.
pub fn patch_channels(device: &dyn Device, channels: usize, plane: usize, b: &Buffers<'_>) -> Result<()> {
    let slots = b.donors.words;
    b.gates.check(KERNEL.name, slots, channels)?;
    expect(KERNEL.name, "donor", b.donor, channels * plane)?;
    expect(KERNEL.name, "output", b.output, slots * channels * plane)?;
    let params = [channels, plane, b.gates.row_words, b.gates.at].map(|n| n as u32);
    let views = [b.donor, b.donors, b.gates.values, b.output];
    device.dispatch(&KERNEL, &params, &views, groups(channels * plane, slots))
}

fn groups(words: usize, slots: usize) -> [u32; 3] {
    grid::folded(words.div_ceil(64), slots as u32)
}

fn twin(call: Call<'_>) {
    let [channels, plane, gate_words, gates_at] = call.params::<[u32; 4]>().map(|v| v as usize);
    let slots = call.groups[2] as usize;
    let ([donor, donors, gates], [output]) = call.buffers();
    let (words, gates) = (channels * plane, f32s(gates));
    output[..slots * words].par_chunks_mut(plane).enumerate().for_each(|(i, output)| {
        let (slot, channel) = (i / channels, i % channels);
        if gates[slot * gate_words + gates_at + channel] != 0.0 {
            output.copy_from_slice(&donor[donors[slot] as usize * words + channel * plane..][..plane]);
        }
    });
}

fn cases() -> Vec<Case> {
    let case = |name, [slots, donors, channels, plane]: [usize; 4]| {
        let (gate_words, at) = (channels + 5, 3);
        let gates = below(slots * gate_words, 2, 1).iter().map(|g| (*g as f32).to_bits()).collect();
        Case {
            name,
            params: [channels, plane, gate_words, at].map(|n| n as u32).to_vec(),
            buffers: vec![
                noise(donors * channels * plane, 2.0, 2),
                below(slots, donors as u32, 3),
                gates,
                noise(slots * channels * plane, 2.0, 4),
            ],
            groups: groups(channels * plane, slots),
            flops: 0,
        }
    };
    vec![case("one", [1, 1, 1, 4]), case("odd", [5, 2, 7, 36]), case("conv3 of simple-cnn", [3, 1, 128, 9 * 64])]
}

#[cfg(test)]
mod tests {
    use super::super::cases::{bits, on_cpu};
    use super::*;

    fn patched(gate_words: usize) -> Result<Vec<Vec<u32>>> {
        // Two donors and two slots of two channels with two words each; the layer's gates are the last two of three.
        let donor = (100..108).collect();
        let gates = bits(&[1.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        let buffers = [donor, vec![1, 0], gates, (0..8).collect()];
        on_cpu(&buffers, |device, v| {
            let gates = Gates { values: v[2], row_words: gate_words, at: 1 };
            patch_channels(device, 2, 2, &Buffers { donor: v[0], donors: v[1], gates, output: v[3] })
        })
    }

    #[test]
    fn chosen_channels_come_from_the_donor() {
        assert_eq!(patched(3).unwrap()[3], [104, 105, 2, 3, 4, 5, 102, 103]);
    }

    #[test]
    fn gates_outside_of_their_rows_are_refused() {
        assert!(patched(2).is_err());
    }
}
