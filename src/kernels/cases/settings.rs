//! What the cases of the layers' kernels have in common: images and rows of parameters, how they are pruned, and which gates
//! are closed.

use crate::kernels::shape::{Batch, Conv, Place, Rounding};
use crate::kernels::sparse::Filters;

/// A number in [-1, 1) that depends on `i` and `salt` alone.
pub fn noise(i: usize, salt: u32) -> f32 {
    let mut h = (i as u32).wrapping_mul(0x9e37_79b9) ^ salt.wrapping_mul(0x85eb_ca6b);
    for _ in 0..2 {
        h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
        h ^= h >> 13;
    }
    (h >> 8) as f32 / (1 << 23) as f32 - 1.0
}

/// `words` numbers of [`noise`] times `scale`.
pub fn series(words: usize, scale: f32, salt: u32) -> Vec<u32> {
    (0..words).map(|i| (scale * noise(i, salt)).to_bits()).collect()
}

/// What a case says of its images and of the rows of parameters.
#[derive(Clone)]
pub struct Setting {
    pub name: &'static str,
    pub counts: &'static [u32],
    pub rows: &'static [u32],
    pub stride: usize,
    /// The first weight's word in a row.
    pub weights_at: usize,
    /// Whether gates apply, some of them closed.
    pub gated: bool,
    /// Whether the input channels share the rows of gates (sparse kernels only).
    pub input_gated: bool,
    /// Whether nobody reads the channels that are closed (sparse kernels only).
    pub closed_unread: bool,
    /// Whether lists by output say that some blocks are not needed.
    pub some_needed: bool,
    /// Of convolutions that run over all weights.
    pub rounding: Rounding,
    /// Which weights are not zero.
    pub alive: Alive,
}

/// How pruned the weights of a case are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alive {
    /// Not at all.
    All,
    /// One weight in so many survives by chance; of every four filters one keeps all and the next none.
    Rarely(u32),
    /// So many of every filter, at places that chance picks (fewer where it picks one twice).
    Each(usize),
}

impl Alive {
    /// Zeroes what does not survive of a layer's weights, `[filters][size]`; of each row of parameters others.
    fn prune(self, row: usize, weights: &mut [u32], filters: usize) {
        let size = weights.len() / filters;
        for (m, filter) in weights.chunks_exact_mut(size).enumerate() {
            let salt = (50 + m + 1000 * row) as u32;
            let pick = |i: usize, n: usize| ((noise(i, salt) + 1.0) * 0.5 * n as f32) as usize;
            let kept: Vec<usize> = match self {
                Self::All => continue,
                Self::Rarely(_) if (m + row).is_multiple_of(4) => continue,
                Self::Rarely(_) if (m + row) % 4 == 1 => Vec::new(),
                Self::Rarely(rare) => (0..size).filter(|i| pick(*i, rare as usize) == 0).collect(),
                Self::Each(n) => (0..n).map(|i| pick(i, size)).collect(),
            };
            filter.iter_mut().enumerate().filter(|(i, _)| !kept.contains(i)).for_each(|(_, w)| *w = 0);
        }
    }
}

pub const NAN: u32 = f32::NAN.to_bits();

/// Words before the counts, before the first weight and before the first gate: offsets that are not zero.
const COUNTS_AT: usize = 3;
const ODD: usize = 5;
/// Words before the first weight as in the networks, all of whose larger layers begin at a vec4, as do their biases.
const EVEN: usize = 8;
/// The same where only the weights do, and where only the biases do.
const WEIGHTS_EVEN: usize = 4;
const BIASES_EVEN: usize = 7;
pub const GATES_AT: usize = 2;

impl Setting {
    pub fn new(name: &'static str, counts: &'static [u32], rows: &'static [u32], stride: usize) -> Self {
        Self {
            name,
            counts,
            rows,
            stride,
            weights_at: ODD,
            gated: false,
            input_gated: false,
            closed_unread: false,
            some_needed: false,
            rounding: Rounding::default(),
            alive: Alive::All,
        }
    }

    pub fn normwise(self) -> Self {
        Self { rounding: Rounding::Normwise, ..self }
    }

    pub fn even(self) -> Self {
        Self { weights_at: EVEN, ..self }
    }

    pub fn weights_even(self) -> Self {
        Self { weights_at: WEIGHTS_EVEN, ..self }
    }

    pub fn biases_even(self) -> Self {
        Self { weights_at: BIASES_EVEN, ..self }
    }

    pub fn gated(self) -> Self {
        Self { gated: true, ..self }
    }

    /// Gates on the input channels too: the first of each row.
    pub fn gated_inputs(self) -> Self {
        Self { input_gated: true, ..self.gated() }
    }

    /// Closed channels are nobody's.
    pub fn unread(self) -> Self {
        Self { closed_unread: true, ..self }
    }

    /// Only some of the blocks of outputs are needed.
    pub fn some(self) -> Self {
        Self { some_needed: true, ..self }
    }

    /// Whether a forward pass leaves a slot's channel as it was.
    #[cfg(test)]
    pub fn leaves(&self, conv: &Conv, slot: usize, m: usize) -> bool {
        let (gates, words) = self.gates(conv.out_channels);
        self.gated && self.closed_unread && conv.relu && gates[slot * words + GATES_AT + m] == 0
    }

    /// Whether a slot's input channel is open.
    pub fn input_open(&self, conv: &Conv, slot: usize, c: usize) -> bool {
        let (gates, words) = self.gates(conv.out_channels);
        !self.input_gated || gates[slot * words + c] != 0
    }

    /// The same weights, pruned.
    pub fn pruned(self, alive: Alive) -> Self {
        Self { alive, ..self }
    }

    pub fn slots(&self) -> usize {
        self.counts.len()
    }

    pub fn batch(&self) -> Batch {
        Batch { slots: self.slots(), stride: self.stride, counts_at: COUNTS_AT }
    }

    fn parameter_rows(&self) -> usize {
        1 + self.rows.iter().max().map_or(0, |r| *r as usize)
    }

    /// Rows of parameters of [`series`], pruned, every third bias exactly 0: without survivors, a sum that is no more than 0.
    pub fn parameters(&self, place: Place, filters: &Filters, scale: f32) -> Vec<u32> {
        let mut rows = series(self.parameter_rows() * place.row_words, scale, 2);
        for (i, row) in rows.chunks_exact_mut(place.row_words).enumerate() {
            self.alive.prune(i, &mut row[place.weights_at..][..filters.words()], filters.outputs);
            row[place.bias_at..][..filters.outputs].iter_mut().skip(i).step_by(3).for_each(|bias| *bias = 0);
        }
        rows
    }

    /// Survivors of all filters, for all images.
    pub fn flops(&self, place: Place, filters: &Filters, weights: &[u32]) -> u64 {
        let alive = |row: u32| {
            let own = &weights[row as usize * place.row_words + place.weights_at..][..filters.words()];
            own.iter().filter(|w| **w != 0).count() as u64
        };
        self.rows.iter().zip(self.counts).map(|(row, count)| 2 * alive(*row) * u64::from(*count)).sum()
    }

    /// The counts buffer; a kernel that ignores `counts_at` reads nonsense.
    pub fn counts(&self) -> Vec<u32> {
        [&[77; COUNTS_AT], self.counts].concat()
    }

    pub fn images(&self) -> u64 {
        self.counts.iter().map(|c| u64::from(*c)).sum()
    }

    /// `[slots][words][stride]` floats in [-1, 1), zero for the padding images.
    pub fn images_of(&self, words: usize, salt: u32) -> Vec<u32> {
        self.fill(words, |i| noise(i, salt).to_bits())
    }

    /// `[slots][words][stride]` values of `f`, zero for the padding images.
    pub fn fill(&self, words: usize, f: impl Fn(usize) -> u32) -> Vec<u32> {
        let place = |i: usize| (i / (words * self.stride), i % self.stride);
        let real = |(slot, b): (usize, usize)| b < self.counts[slot] as usize;
        (0..self.slots() * words * self.stride).map(|i| if real(place(i)) { f(i) } else { 0 }).collect()
    }

    /// The gates buffer (a third of the gates closed), and its words a slot.
    pub fn gates(&self, channels: usize) -> (Vec<u32>, usize) {
        let words = GATES_AT + channels + 1;
        let open = |i: usize| if noise(i, 40) > -0.3 { 1.0f32 } else { 0.0 };
        ((0..self.slots() * words).map(|i| open(i).to_bits()).collect(), words)
    }

    /// The gates' words: without gates any buffer serves, as in the typed calls.
    pub fn gates_or_counts(&self, channels: usize) -> Vec<u32> {
        if self.gated { self.gates(channels).0 } else { self.counts() }
    }
}

pub fn place(weights_at: usize, weights: usize, biases: usize) -> Place {
    let end = weights_at + weights;
    let bias_at = if [EVEN, BIASES_EVEN].contains(&weights_at) { end.next_multiple_of(4) + 4 } else { end + 2 };
    Place { row_words: (bias_at + biases + 1).next_multiple_of(4), weights_at, bias_at }
}

/// A step of training as it is timed: eight clients with weights and a full batch each.
pub fn eight(name: &'static str) -> Setting {
    Setting::new(name, &[32; 8], &[0, 1, 2, 3, 4, 5, 6, 7], 32).even()
}

/// As many clients as keep a large GPU busy.
const MANY: usize = 64;
static EACH_ITS_OWN: [u32; MANY] = {
    let mut rows = [0; MANY];
    let mut i = 0;
    while i < MANY {
        rows[i] = i as u32;
        i += 1;
    }
    rows
};

pub fn many(name: &'static str) -> Setting {
    Setting::new(name, &[32; MANY], &EACH_ITS_OWN, 32).even()
}
