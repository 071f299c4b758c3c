//! Inputs for the tests and benchmarks of the layer kernels, and the convolutions' own: odd sizes, unequal counts, shared
//! rows, closed gates.

use super::shape::{Batch, Conv, ConvParams, Place, Rounding};
use super::sparse::Filters;
use super::{CHUNK, DEAD};

/// A number in [-1, 1) that depends on `i` and `salt` alone.
pub(super) fn noise(i: usize, salt: u32) -> f32 {
    let mut h = (i as u32).wrapping_mul(0x9e37_79b9) ^ salt.wrapping_mul(0x85eb_ca6b);
    for _ in 0..2 {
        h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
        h ^= h >> 13;
    }
    (h >> 8) as f32 / (1 << 23) as f32 - 1.0
}

/// `words` numbers of [`noise`] times `scale`.
pub(super) fn series(words: usize, scale: f32, salt: u32) -> Vec<u32> {
    (0..words).map(|i| (scale * noise(i, salt)).to_bits()).collect()
}

/// What a case says of its images and of the rows of parameters.
#[derive(Clone)]
pub(super) struct Setting {
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
pub(super) enum Alive {
    /// Not at all.
    All,
    /// One weight in so many survives by chance; of every four filters the first keeps all and the second none.
    Rarely(u32),
    /// So many of every filter, at places that chance picks (fewer where it picks one twice).
    Each(usize),
}

impl Alive {
    /// Zeroes what does not survive of a layer's weights, `[filters][size]`.
    fn prune(self, weights: &mut [u32], filters: usize) {
        let size = weights.len() / filters;
        for (m, filter) in weights.chunks_exact_mut(size).enumerate() {
            let pick = |i: usize, n: usize| ((noise(i, 50 + m as u32) + 1.0) * 0.5 * n as f32) as usize;
            let kept: Vec<usize> = match self {
                Self::All => continue,
                Self::Rarely(_) if m % 4 == 0 => continue,
                Self::Rarely(_) if m % 4 == 1 => Vec::new(),
                Self::Rarely(rare) => (0..size).filter(|i| pick(*i, rare as usize) == 0).collect(),
                Self::Each(n) => (0..n).map(|i| pick(i, size)).collect(),
            };
            filter.iter_mut().enumerate().filter(|(i, _)| !kept.contains(i)).for_each(|(_, w)| *w = 0);
        }
    }
}

const NAN: u32 = f32::NAN.to_bits();

/// Words before the counts, before the first weight and before the first gate: offsets that are not zero.
const COUNTS_AT: usize = 3;
const ODD: usize = 5;
/// Words before the first weight as in the networks, all of whose larger layers begin at a vec4.
const EVEN: usize = 8;
pub(super) const GATES_AT: usize = 2;

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

    /// Rows of parameters of [`series`], pruned.
    pub fn parameters(&self, place: Place, filters: &Filters, scale: f32) -> Vec<u32> {
        let mut rows = series(self.parameter_rows() * place.row_words, scale, 2);
        for row in rows.chunks_exact_mut(place.row_words) {
            self.alive.prune(&mut row[place.weights_at..][..filters.words()], filters.outputs);
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

/// One convolution with its setting.
pub(super) struct ConvCase {
    pub conv: Conv,
    pub setting: Setting,
}

pub(super) fn place(weights_at: usize, weights: usize, biases: usize) -> Place {
    let bias_at = weights_at + weights + 2;
    Place { row_words: (bias_at + biases + 1).next_multiple_of(4), weights_at, bias_at }
}

impl ConvCase {
    pub fn place(&self) -> Place {
        place(self.setting.weights_at, self.conv.weights(), self.conv.out_channels)
    }

    pub fn params(&self) -> ConvParams {
        let params = ConvParams::new(&self.conv, self.setting.batch(), self.place(), None);
        let mut params = params.rounded(self.setting.rounding);
        if self.setting.gated {
            params.gate_words = self.setting.gates(self.conv.out_channels).1 as u32;
            params.gates_at = GATES_AT as u32;
        }
        params
    }

    pub fn params_words(&self) -> Vec<u32> {
        bytemuck::cast_slice(&[self.params()]).to_vec()
    }

    /// Images, with nothing in the channels that are closed.
    pub fn input(&self) -> Vec<u32> {
        self.input_with(0)
    }

    /// The same as a sparse kernel finds it, where what lies in closed channels is nobody's: no number.
    pub fn left_input(&self) -> Vec<u32> {
        self.input_with(NAN)
    }

    fn input_with(&self, closed: u32) -> Vec<u32> {
        let (words, plane) = (self.conv.sizes().0, self.conv.height * self.conv.width);
        let mut input = self.setting.images_of(words, 1);
        for (i, channel) in input.chunks_exact_mut(plane * self.setting.stride).enumerate() {
            if !self.setting.input_open(&self.conv, i / self.conv.in_channels, i % self.conv.in_channels) {
                channel.fill(closed);
            }
        }
        input
    }

    /// Rows of parameters, of a size that keeps the outputs near 1.
    pub fn weights(&self) -> Vec<u32> {
        let fan_in = (self.conv.weights() / self.conv.out_channels) as f32;
        self.setting.parameters(self.place(), &(&self.conv).into(), 1.7 / fan_in.sqrt())
    }

    pub fn output_grad(&self) -> Vec<u32> {
        self.setting.images_of(self.conv.sizes().1, 3)
    }

    /// Codes as a forward pass could have left them: any place of the window, dead only after a ReLU or behind a closed
    /// gate.
    pub fn codes(&self) -> Vec<u32> {
        let places = (self.conv.pool * self.conv.pool) as u32;
        let closed = self.closed_outputs();
        let plane = self.plane();
        let pick = |i: usize| {
            let dead = self.conv.relu && noise(i, 4) < -0.2;
            if dead || closed[i / plane] { DEAD.into() } else { ((noise(i, 5) + 1.0) * 0.5 * places as f32) as u32 }
        };
        let bytes = self.setting.fill(self.conv.sizes().1, pick);
        bytes.chunks(4).map(|q| q[0] | q[1] << 8 | q[2] << 16 | q[3] << 24).collect()
    }

    /// Gradients and codes as a sparse kernel finds them where what lies in closed channels is nobody's: no number, and codes
    /// that would pass it on.
    pub fn left_output_grad(&self) -> (Vec<u32>, Vec<u32>) {
        let (mut grad, mut codes) = (self.output_grad(), self.codes());
        let channels = grad.chunks_exact_mut(self.plane()).zip(codes.chunks_exact_mut(self.plane() / 4));
        let left = self.setting.input_gated || self.setting.closed_unread;
        for ((grad, codes), _) in channels.zip(self.closed_outputs()).filter(|(_, closed)| left && *closed) {
            grad.fill(NAN);
            codes.fill(0);
        }
        (grad, codes)
    }

    /// Words of a channel's outputs.
    fn plane(&self) -> usize {
        self.conv.sizes().1 / self.conv.out_channels * self.setting.stride
    }

    /// `[slots][M]`.
    fn closed_outputs(&self) -> Vec<bool> {
        let (gates, words) = self.setting.gates(self.conv.out_channels);
        let own = gates.chunks_exact(words).flat_map(|row| &row[GATES_AT..][..self.conv.out_channels]);
        own.map(|gate| self.setting.gated && *gate == 0).collect()
    }

    /// Words of `[slots][chunks][weights, biases]`.
    pub fn partials(&self) -> usize {
        self.setting.slots() * self.setting.stride.div_ceil(CHUNK) * self.conv.partial_words()
    }

    pub fn grads(&self) -> usize {
        self.setting.slots() * self.place().row_words
    }

    pub fn flops(&self) -> u64 {
        self.conv.flops() * self.setting.images()
    }
}

/// A step of training as it is timed: eight clients with weights and a full batch each.
pub(super) fn eight(name: &'static str) -> Setting {
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

pub(super) fn many(name: &'static str) -> Setting {
    Setting::new(name, &[32; MANY], &EACH_ITS_OWN, 32).even()
}

/// A convolution as simple-cnn has them.
fn pooled([in_channels, out_channels, side]: [usize; 3]) -> Conv {
    let (height, width) = (side, side);
    Conv { in_channels, out_channels, height, width, kernel: 3, padding: 1, pool: 2, relu: true }
}

/// Those of a training step of many clients.
pub(super) fn large_convs() -> Vec<ConvCase> {
    let case = |sizes, name| ConvCase { conv: pooled(sizes), setting: many(name) };
    vec![
        case([1, 32, 28], "simple-cnn conv1, 64 clients"),
        case([32, 64, 14], "simple-cnn conv2, 64 clients"),
        case([64, 128, 7], "simple-cnn conv3, 64 clients"),
    ]
}

pub(super) fn conv_cases() -> Vec<ConvCase> {
    let conv = |sizes: [usize; 6], pool, relu| {
        let [in_channels, out_channels, height, width, kernel, padding] = sizes;
        Conv { in_channels, out_channels, height, width, kernel, padding, pool, relu }
    };
    let case = |conv, setting| ConvCase { conv, setting };
    vec![
        case(conv([1, 3, 5, 4, 3, 1], 2, true), Setting::new("tiny", &[3], &[0], 4)),
        case(conv([2, 3, 4, 5, 3, 1], 1, false), Setting::new("no pooling, no relu", &[4, 1], &[0, 1], 4)),
        case(conv([2, 4, 6, 7, 3, 1], 1, true), Setting::new("no pooling", &[5], &[0], 8)),
        case(conv([2, 5, 7, 9, 5, 0], 2, true), Setting::new("5x5, padding 0", &[7, 2], &[1, 1], 8)),
        case(conv([1, 6, 6, 5, 5, 2], 2, false), Setting::new("5x5, padding 2, no relu", &[4, 3], &[0, 1], 4)),
        case(conv([3, 5, 7, 6, 3, 1], 2, true), Setting::new("shared rows, an empty slot", &[8, 0, 5], &[2, 0, 0], 8)),
        case(conv([3, 7, 5, 5, 1, 0], 1, true), Setting::new("1x1", &[9], &[0], 12)),
        case(conv([3, 9, 5, 7, 3, 2], 2, true), Setting::new("3x3, padding 2", &[6, 13], &[1, 0], 16)),
        case(conv([2, 9, 4, 15, 3, 1], 2, true), Setting::new("a wide image, odd", &[7, 4], &[0, 1], 8)),
        case(conv([8, 9, 5, 7, 3, 1], 2, true), Setting::new("eight channels", &[40, 7, 1], &[1, 0, 1], 40).even()),
        case(
            conv([4, 9, 5, 6, 3, 2], 2, true),
            Setting::new("four channels, padding 2, gates", &[6, 3], &[0, 1], 8).even().gated(),
        ),
        case(
            conv([16, 8, 7, 4, 3, 0], 2, false),
            Setting::new("sixteen channels, gates", &[5, 11], &[0, 1], 12).even().gated(),
        ),
        case(conv([2, 4, 3, 5, 1, 2], 2, true), Setting::new("more padding than filter", &[6], &[0], 8)),
        case(conv([4, 6, 5, 6, 3, 1], 2, true), Setting::new("two chunks", &[40, 33, 5], &[0, 2, 1], 40)),
        case(
            conv([44, 90, 5, 6, 3, 1], 2, true),
            Setting::new("many channels, two chunks", &[40, 33, 5], &[0, 2, 1], 40).normwise(),
        ),
        case(
            conv([1, 5, 7, 6, 3, 1], 2, true),
            Setting::new("one channel, two chunks", &[40, 33, 5], &[0, 2, 1], 40).normwise(),
        ),
        case(
            conv([1, 3, 4, 9, 3, 1], 2, false),
            Setting::new("one channel, gates", &[3, 17], &[1, 0], 20).gated().normwise(),
        ),
        case(
            conv([1, 4, 6, 7, 3, 1], 2, true),
            Setting::new("one channel, gates, relu", &[5, 18], &[1, 0], 20).gated(),
        ),
        case(
            conv([33, 65, 7, 5, 3, 1], 2, false),
            Setting::new("many channels, gates", &[3, 10], &[1, 0], 12).gated().normwise(),
        ),
        case(conv([3, 8, 6, 6, 3, 1], 2, true), Setting::new("gates", &[8, 6], &[0, 0], 8).gated()),
        case(conv([2, 8, 5, 6, 3, 0], 2, false), Setting::new("gates, no relu", &[4, 6], &[0, 1], 8).gated()),
        case(conv([1, 32, 28, 28, 3, 1], 2, true), Setting::new("simple-cnn conv1", &[9], &[0], 12)),
        case(conv([32, 64, 14, 14, 3, 1], 2, true), Setting::new("simple-cnn conv2", &[32, 30], &[0, 1], 32)),
        case(conv([64, 128, 7, 7, 3, 1], 2, true), Setting::new("simple-cnn conv3", &[6, 12], &[1, 0], 12)),
        case(pooled([1, 32, 28]), eight("simple-cnn conv1, eight clients")),
        case(pooled([32, 64, 14]), eight("simple-cnn conv2, eight clients")),
        case(pooled([64, 128, 7]), eight("simple-cnn conv3, eight clients")),
    ]
}
