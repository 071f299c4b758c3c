//! Lists of the surviving weights of a layer (`shaders/survivors.wgsl`).

use rayon::prelude::*;

use super::cases::{LEFT, below, noise};
use super::magnitude_threshold::MAGNITUDE;
use super::shape::{Place, Rows, expect};
use super::sparse::{Filters, ListPlace, Lists, Side, entry};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "survivors",
    source: || include_str!("../../shaders/survivors.wgsl").into(),
    variants: &[],
    bindings: &[Binding::read("weights"), Binding::write("lists", Compare::Exact)],
    params_words: size_of::<Params>() / 4,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    lists: u32,
    longest: u32,
    kernel: u32,
    own_step: u32,
    other_step: u32,
    row_words: u32,
    weights_at: u32,
    list_words: u32,
    lists_at: u32,
    counts_at: u32,
    lanes: u32,
    reserved: u32,
}

impl Params {
    fn new(filters: &Filters, side: Side, from: Place, to: ListPlace) -> Self {
        let (own_step, other_step) = filters.steps(side);
        let longest = filters.longest(side);
        Self {
            lists: filters.lists(side) as u32,
            longest: longest as u32,
            kernel: filters.kernel as u32,
            own_step: own_step as u32,
            other_step: other_step as u32,
            row_words: from.row_words as u32,
            weights_at: from.weights_at as u32,
            list_words: to.row_words as u32,
            lists_at: to.lists_at as u32,
            counts_at: to.counts_at as u32,
            // Some eight places a lane: short lists share a workgroup.
            lanes: longest.div_ceil(8).next_power_of_two().min(64) as u32,
            reserved: 0,
        }
    }

    fn groups(&self, rows: usize) -> [u32; 3] {
        grid::folded(self.lists.div_ceil(64 / self.lanes) as usize, rows as u32)
    }
}

/// Lists the weights of a layer that are neither 0 nor -0, for every one of `rows.slots` rows of `weights`
/// (`[rows][P]`); [`super::sparse`] says in which order and form. A NaN survives.
///
/// # Errors
/// [`crate::Error::Kernel`] when a buffer is too small, or the sizes exceed what an entry can say.
pub fn survivors(
    device: &dyn Device,
    rows: Rows,
    filters: &Filters,
    side: Side,
    (weights, from): (View<'_>, Place),
    to: Lists<'_>,
) -> Result<()> {
    let name = KERNEL.name;
    to.check(name, filters, side)?;
    from.check(name, filters.words(), 0)?;
    expect(name, "weights", weights, rows.slots * from.row_words)?;
    expect(name, "lists", to.values, rows.slots * to.place.row_words)?;
    let p = Params::new(filters, side, from, to.place);
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &[weights, to.values], p.groups(rows.slots))
}

fn twin(call: Call<'_>) {
    let (p, rows): (Params, _) = (call.params(), call.groups[2] as usize);
    let ([weights], [lists]) = call.buffers();
    let rows = lists.par_chunks_mut(p.list_words as usize).zip(weights.par_chunks(p.row_words as usize)).take(rows);
    rows.for_each(|(lists, weights)| row(&p, &weights[p.weights_at as usize..], lists));
}

fn row(p: &Params, weights: &[u32], lists: &mut [u32]) {
    let (kernel, longest) = (p.kernel as usize, p.longest as usize);
    let square = kernel * kernel;
    for list in 0..p.lists as usize {
        let start = p.lists_at as usize + list * longest;
        let mut to = start;
        for other in 0..longest / square {
            let filter = &weights[list * p.own_step as usize + other * p.other_step as usize..][..square];
            for (tap, _) in filter.iter().enumerate().filter(|(_, w)| **w & MAGNITUDE != 0) {
                lists[to] = entry(other, tap / kernel, tap % kernel);
                to += 1;
            }
        }
        lists[p.counts_at as usize + list] = (to - start) as u32;
    }
}

/// The lists of every row of `weights`, one row of lists after the other: what the sparse kernels' cases read.
pub(super) fn listed(filters: &Filters, side: Side, weights: &[u32], from: Place, to: ListPlace) -> Vec<u32> {
    let p = Params::new(filters, side, from, to);
    let mut lists = vec![u32::MAX; weights.len() / from.row_words * to.row_words];
    for (lists, weights) in lists.chunks_mut(to.row_words).zip(weights.chunks(from.row_words)) {
        row(&p, &weights[from.weights_at..], lists);
    }
    lists
}

fn cases() -> Vec<Case> {
    let filters = |outputs, inputs, kernel| Filters { outputs, inputs, kernel };
    // One weight in `rare` survives, of either sign, every other with the exponent's first bit alone; some zeros are negative.
    let case = |name, filters: Filters, side: Side, rows: usize, rare: u32| {
        let from = Place { row_words: filters.words() + 9, weights_at: 5, bias_at: 0 };
        let lists = filters.lists(side);
        let to = ListPlace { row_words: filters.words() + lists + 6, lists_at: 3, counts_at: filters.words() + 4 };
        let p = Params::new(&filters, side, from, to);
        let words = rows * from.row_words;
        let kept = below(words, rare, 1);
        let weights = noise(words, 1.0, 2).into_iter().zip(kept);
        let some = |i: usize, w: u32| if i.is_multiple_of(2) { w } else { 2.0f32.to_bits() | w & !MAGNITUDE };
        let weights = weights.enumerate().map(|(i, (w, n))| if n == 0 { some(i, w) } else { w & !MAGNITUDE });
        Case {
            name,
            params: bytemuck::cast_slice(&[p]).to_vec(),
            buffers: vec![weights.collect(), vec![LEFT; rows * to.row_words]],
            groups: p.groups(rows),
            flops: 0,
        }
    };
    use Side::{Inputs, Outputs};
    vec![
        case("one weight", filters(1, 1, 1), Outputs, 1, 1),
        case("odd", filters(7, 5, 3), Outputs, 3, 4),
        case("odd, by input", filters(7, 5, 3), Inputs, 3, 4),
        case("5x5, all survive", filters(3, 11, 5), Outputs, 2, 1),
        case("5x5, all survive, by input", filters(3, 11, 5), Inputs, 2, 1),
        case("hardly any survives", filters(9, 13, 3), Inputs, 2, 500),
        case("simple-cnn conv3", filters(128, 64, 3), Outputs, 3, 144),
        case("simple-cnn conv3, by input", filters(128, 64, 3), Inputs, 3, 144),
        case("simple-cnn fc", filters(10, 1152, 1), Outputs, 2, 200),
        case("simple-cnn fc, by input", filters(10, 1152, 1), Inputs, 2, 200),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::cases::{bits, on_cpu};
    use super::*;

    #[test]
    fn by_hand() {
        // Two outputs of two inputs of 2x2 weights; minus zero is a zero, and a NaN is not.
        let weights = [0.0, 1.0, 0.0, -0.0, 2.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, f32::NAN, -4.0];
        let filters = Filters { outputs: 2, inputs: 2, kernel: 2 };
        let (from, to) = (
            Place { row_words: 16, weights_at: 0, bias_at: 0 },
            ListPlace { row_words: 18, lists_at: 0, counts_at: 16 },
        );
        let run = |side| {
            let after = on_cpu(&[bits(&weights), vec![9; 18]], |device, v| {
                let lists = Lists { values: v[1], place: to, needed_at: None };
                survivors(device, Rows { slots: 1, words: 16 }, &filters, side, (v[0], from), lists)
            });
            after.unwrap().remove(1)
        };
        let outputs = run(Side::Outputs);
        assert_eq!(outputs[..3], [entry(0, 0, 1), entry(1, 0, 0), entry(1, 1, 1)]);
        assert_eq!(outputs[8..10], [entry(1, 1, 0), entry(1, 1, 1)]);
        assert_eq!(outputs[16..], [3, 2]);
        let inputs = run(Side::Inputs);
        assert_eq!(inputs[..1], [entry(0, 0, 1)]);
        assert_eq!(inputs[8..12], [entry(0, 0, 0), entry(0, 1, 1), entry(1, 1, 0), entry(1, 1, 1)]);
        assert_eq!(inputs[16..], [1, 4]);
        assert!(outputs[3..8].iter().chain(&inputs[1..8]).all(|w| *w == 9), "beyond a list nothing is written");
    }

    #[test]
    fn a_row_that_is_too_short_is_refused() {
        let filters = Filters { outputs: 2, inputs: 2, kernel: 2 };
        let from = Place { row_words: 16, weights_at: 0, bias_at: 0 };
        let run = |place| {
            on_cpu(&[vec![0; 16], vec![0; 18]], |device, v| {
                let lists = Lists { values: v[1], place, needed_at: None };
                survivors(device, Rows { slots: 1, words: 16 }, &filters, Side::Outputs, (v[0], from), lists)
            })
        };
        assert!(run(ListPlace { row_words: 18, lists_at: 0, counts_at: 16 }).is_ok());
        assert!(run(ListPlace { row_words: 18, lists_at: 0, counts_at: 17 }).is_err());
        assert!(run(ListPlace { row_words: 18, lists_at: 3, counts_at: 16 }).is_err());
        assert!(run(ListPlace { row_words: 19, lists_at: 0, counts_at: 16 }).is_err());
    }
}
