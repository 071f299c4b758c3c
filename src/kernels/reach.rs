//! Which of a layer's channels reach anything (`shaders/reach.wgsl`).

use rayon::prelude::*;

use super::cases::below;
use super::shape::{Gates, Place, expect};
use super::sparse::{Filters, ListPlace, Lists, NO_GATES, Side};
use super::survivors::listed;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s_mut};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "reach",
    source: || include_str!("../../shaders/reach.wgsl").into(),
    variants: &[],
    bindings: &[Binding::read("rows"), Binding::read("lists"), Binding::write("gates", Compare::Exact)],
    params_words: size_of::<Params>() / 4,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    channels: u32,
    pixels: u32,
    longest: u32,
    list_words: u32,
    lists_at: u32,
    counts_at: u32,
    gate_words: u32,
    gates_at: u32,
    next_at: u32,
}

impl Params {
    fn new(channels: usize, filters: &Filters, lists: ListPlace, [words, at]: [usize; 2], next: Option<usize>) -> Self {
        Self {
            channels: channels as u32,
            pixels: (filters.inputs / channels) as u32,
            longest: filters.longest(Side::Inputs) as u32,
            list_words: lists.row_words as u32,
            lists_at: lists.lists_at as u32,
            counts_at: lists.counts_at as u32,
            gate_words: words as u32,
            gates_at: at as u32,
            next_at: next.map_or(NO_GATES, |next| next as u32),
        }
    }

    fn groups(&self, slots: usize) -> [u32; 3] {
        [self.channels.div_ceil(64), slots as u32, 1]
    }
}

/// Closes, in `gates` (`[K][G]`, of which it says where the layer's are), the gates of a layer's `channels` channels that
/// nothing reads: no weight of the next layer is left for them that leads to an output whose gate is open. `next` says where in a
/// row of gates those of the next layer are, all open without it; slot k's weights are listed in row `rows[k]` of `lists`, by
/// input, of the next layer's `filters`, which has each channel's pixels in a run.
///
/// What such a channel gives changes no logit, and no gradient reaches it: a pass in which it is closed does less and ends in the
/// same bits, as long as the channel's numbers are finite.
///
/// # Errors
/// [`Error::Kernel`] when a view is too small, or the next layer's inputs are not the channels' pixels.
pub fn reach<'a>(
    device: &dyn Device,
    slots: usize,
    channels: usize,
    rows: View<'a>,
    (lists, filters): (Lists<'a>, &Filters),
    gates: Gates<'a>,
    next: Option<usize>,
) -> Result<()> {
    let name = KERNEL.name;
    lists.check(name, filters, Side::Inputs)?;
    gates.check(name, slots, channels)?;
    if let Some(at) = next {
        Gates { at, ..gates }.check(name, slots, filters.outputs)?;
    }
    if !filters.inputs.is_multiple_of(channels) {
        let problem = format!("{} inputs of {channels} channels", filters.inputs);
        return Err(Error::Kernel { kernel: name, problem });
    }
    expect(name, "rows", rows, slots)?;
    let p = Params::new(channels, filters, lists.place, [gates.row_words, gates.at], next);
    let buffers = [rows, lists.values, gates.values];
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &buffers, p.groups(slots))
}

fn twin(call: Call<'_>) {
    let (p, slots): (Params, _) = (call.params(), call.groups[1] as usize);
    let ([rows, lists], [gates]) = call.buffers();
    let gates = f32s_mut(gates).par_chunks_mut(p.gate_words as usize).zip(rows).take(slots);
    gates.for_each(|(gates, row)| {
        let lists = &lists[*row as usize * p.list_words as usize..][..p.list_words as usize];
        let is_read = |gates: &[f32], list: u32| {
            let places =
                &lists[(p.lists_at + list * p.longest) as usize..][..lists[(p.counts_at + list) as usize] as usize];
            places.iter().any(|place| p.next_at == NO_GATES || gates[(p.next_at + (place >> 8)) as usize] != 0.0)
        };
        for c in 0..p.channels {
            if !(c * p.pixels..(c + 1) * p.pixels).any(|list| is_read(gates, list)) {
                gates[(p.gates_at + c) as usize] = 0.0;
            }
        }
    });
}

fn cases() -> Vec<Case> {
    // One weight in `rare` survives, and one gate in three is closed.
    let case = |name,
                slots: usize,
                channels: usize,
                (outputs, pixels, kernel): (usize, usize, usize),
                gated,
                rare: u32| {
        let filters = Filters { outputs, inputs: channels * pixels, kernel };
        let from = Place { row_words: filters.words() + 9, weights_at: 5, bias_at: 0 };
        let to =
            ListPlace { row_words: filters.words() + filters.inputs + 6, lists_at: 3, counts_at: filters.words() + 4 };
        let models = slots.div_ceil(2);
        let weights = below(models * from.row_words, rare, 1).into_iter().map(|n| u32::from(n == 0) * 1.0f32.to_bits());
        let width = channels + outputs + 8;
        let p = Params::new(channels, &filters, to, [width, 5], Some(channels + 7).filter(|_| gated));
        Case {
            name,
            params: bytemuck::cast_slice(&[p]).to_vec(),
            buffers: vec![
                (0..slots).map(|slot| (slot / 2) as u32).collect(),
                listed(&filters, Side::Inputs, &weights.collect::<Vec<_>>(), from, to),
                below(slots * width, 3, 2).into_iter().map(|n| n.min(1) * 1.0f32.to_bits()).collect(),
            ],
            groups: p.groups(slots),
            flops: 0,
        }
    };
    vec![
        case("one channel, its weight gone", 1, 1, (1, 1, 1), false, u32::MAX),
        case("odd, gated", 3, 65, (7, 1, 3), true, 40),
        case("odd, pixels of a channel", 3, 5, (3, 9, 1), true, 20),
        case("all survive", 2, 66, (5, 1, 5), true, 1),
        case("simple-cnn conv2 before conv3", 20, 64, (128, 1, 3), true, 144),
        case("simple-cnn conv3 before fc", 20, 128, (10, 9, 1), false, 200),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::cases::{bits, on_cpu};
    use super::super::sparse::entry;
    use super::*;

    /// The gates after [`reach`] of three channels in front of `filters`, whose lists `lists` holds in rows of `row`.
    fn run(
        filters: &Filters,
        rows: &[u32],
        (lists, row): (&[u32], usize),
        gates: &[f32],
        next: Option<usize>,
    ) -> Result<Vec<f32>> {
        let words = gates.len() / rows.len();
        let after = on_cpu(&[rows.to_vec(), lists.to_vec(), bits(gates)], |device, v| {
            let place = ListPlace { row_words: row, lists_at: 0, counts_at: filters.words() };
            let gates = Gates { values: v[2], row_words: words, at: 1 };
            reach(device, rows.len(), 3, v[0], (Lists { values: v[1], place, needed_at: None }, filters), gates, next)
        });
        Ok(after?.remove(2).into_iter().map(f32::from_bits).collect())
    }

    #[test]
    fn by_hand() {
        // Channel 0 is read by output 1, channel 1 by nobody, channel 2 by both; two slots, two outputs.
        let filters = Filters { outputs: 2, inputs: 3, kernel: 1 };
        let lists = [entry(1, 0, 0), 9, 9, 9, entry(0, 0, 0), entry(1, 0, 0), 1, 0, 2];
        let gates = [8.0, 1.0, 1.0, 1.0, 1.0, 0.0, 8.0, 0.0, 1.0, 1.0, 0.0, 1.0];
        let got = run(&filters, &[0, 0], (&lists, 9), &gates, Some(4)).unwrap();
        // Of the first slot output 1 is closed; of the second output 0, and channel 0 itself.
        assert_eq!(got, [8.0, 0.0, 0.0, 1.0, 1.0, 0.0, 8.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
        let got = run(&filters, &[0, 0], (&lists, 9), &gates, None).unwrap();
        assert_eq!(got, [8.0, 1.0, 0.0, 1.0, 1.0, 0.0, 8.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
    }

    #[test]
    fn a_channel_is_read_where_one_of_its_pixels_is() {
        let filters = Filters { outputs: 1, inputs: 6, kernel: 1 };
        // The second pixel of channel 0, the first of channel 2; row 1 of the lists, and row 0 with none.
        let lists = [[9; 6], [0; 6], [0; 6], [0, 1, 0, 0, 1, 0]].concat();
        let got = run(&filters, &[1, 0], (&lists, 12), &[0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0], None).unwrap();
        assert_eq!(got, [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let gates = [1.0; 6];
        let four = Filters { outputs: 2, inputs: 4, kernel: 1 };
        assert!(
            run(&four, &[0], (&[0; 12], 12), &gates, None).unwrap_err().to_string().contains("4 inputs of 3 channels")
        );
        let three = Filters { outputs: 2, inputs: 3, kernel: 1 };
        assert!(run(&three, &[0], (&[0; 9], 9), &gates, Some(4)).is_ok());
        assert!(run(&three, &[0], (&[0; 9], 9), &gates, Some(5)).is_err(), "gates beyond their row");
        assert!(run(&three, &[0], (&[0; 8], 8), &gates, None).is_err(), "lists beyond their row");
    }
}
