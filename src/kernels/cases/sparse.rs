//! Inputs for the tests and benchmarks of the sparse kernels: the layers of [`super::conv`], pruned.

use super::below;
use super::conv::{ConvCase, conv_cases};
use super::linear::{LinearCase, linear_cases};
use super::settings::{Alive, Setting};
use crate::kernels::needed::Blocks;
use crate::kernels::shape::{Conv, Linear};
use crate::kernels::sparse::{Filters, ListPlace, NO_GATES, Side, SparseConvParams, SparseLinearParams};
use crate::kernels::survivors::listed;

/// The lists lie apart from where the weights do, and apart from the rows' ends.
fn list_place(filters: &Filters, side: Side) -> ListPlace {
    let counts_at = filters.words() + 9;
    ListPlace { row_words: counts_at + filters.lists(side) + 3, lists_at: 6, counts_at }
}

/// What longer lists of earlier rounds left behind a list's end: places whose weights would count twice.
fn leave_behind(rows: &mut [u32], filters: &Filters, side: Side, place: ListPlace) {
    let lists = filters.lists(side);
    for row in rows.chunks_exact_mut(place.row_words) {
        let (places, counts) = row.split_at_mut(place.counts_at);
        for (list, count) in places[place.lists_at..].chunks_exact_mut(filters.words() / lists).zip(&counts[..lists]) {
            let (there, left) = list.split_at_mut(*count as usize);
            left.fill(there.first().copied().unwrap_or(0));
        }
    }
}

impl ConvCase {
    fn filters(&self) -> Filters {
        (&self.conv).into()
    }

    /// Where the lists are, and the bits of what is needed, which lie behind them.
    fn list_place(&self, side: Side) -> (ListPlace, Option<usize>) {
        let place = list_place(&self.filters(), side);
        if side == Side::Inputs || !self.setting.some_needed {
            return (place, None);
        }
        let words = self.conv.out_channels * Blocks::of(&self.conv).words();
        (ListPlace { row_words: place.row_words + words, ..place }, Some(place.row_words - 1))
    }

    pub fn sparse_params_words(&self, side: Side) -> Vec<u32> {
        let (lists, needed_at) = self.list_place(side);
        let new = SparseConvParams::new(&self.conv, self.setting.batch(), self.place(), None, lists);
        let mut p = new.needed(needed_at);
        p.conv = self.params();
        if !self.setting.gated {
            p.conv.gates_at = NO_GATES;
        }
        p.closed_unread = self.setting.closed_unread.into();
        // The first gates of a row serve the input channels too.
        if self.setting.input_gated {
            p.input_gates_at = 0;
        }
        bytemuck::cast_slice(&[p]).to_vec()
    }

    /// The lists of every row of weights, and which blocks of outputs are needed: a third, and of every fifth channel none.
    pub fn lists(&self, side: Side) -> Vec<u32> {
        let ((place, needed_at), blocks) = (self.list_place(side), Blocks::of(&self.conv));
        let mut rows = listed(&self.filters(), side, &self.weights(), self.place(), place);
        leave_behind(&mut rows, &self.filters(), side, place);
        let Some(at) = needed_at else { return rows };
        for (i, row) in rows.chunks_exact_mut(place.row_words).enumerate() {
            for m in 0..self.conv.out_channels {
                let bits = &mut row[at + m * blocks.words()..][..blocks.words()];
                let set = below(blocks.rows * blocks.columns, 3, (100 * i + m) as u32);
                bits.fill(0);
                for (b, _) in set.iter().enumerate().filter(|(_, n)| m % 5 != 2 && **n == 0) {
                    bits[b / 32] |= 1 << (b % 32);
                }
            }
        }
        rows
    }

    /// Whether a forward pass leaves a slot's output as it was.
    #[cfg(test)]
    pub fn leaves(&self, lists: &[u32], slot: usize, output: usize) -> bool {
        let (height, width) = self.conv.pooled();
        let (m, y, x) = (output / (height * width), output / width % height, output % width);
        let (place, needed_at) = self.list_place(Side::Outputs);
        let row = &lists[self.setting.rows[slot] as usize * place.row_words..][..place.row_words];
        let block = |pool: usize, n: usize| if pool == 2 { n } else { n / 2 };
        let [y, x] = [y, x].map(|n| block(self.conv.pool, n));
        let blocks = Blocks::of(&self.conv);
        let bit = y * blocks.columns + x;
        let needed = needed_at.is_none_or(|at| row[at + m * blocks.words() + bit / 32] >> (bit % 32) & 1 != 0);
        self.setting.leaves(&self.conv, slot, m) || !needed
    }

    /// Of the survivors, over what the pooling keeps.
    pub fn sparse_flops(&self) -> u64 {
        let (h, w) = self.conv.pooled();
        let pixels = h * w * self.conv.pool * self.conv.pool;
        self.setting.flops(self.place(), &self.filters(), &self.weights()) * pixels as u64
    }
}

impl LinearCase {
    fn filters(&self) -> Filters {
        (&self.linear).into()
    }

    pub fn sparse_params_words(&self, side: Side) -> Vec<u32> {
        let p = SparseLinearParams::new(self.params(), list_place(&self.filters(), side));
        bytemuck::cast_slice(&[p]).to_vec()
    }

    /// The lists of every row of weights.
    pub fn lists(&self, side: Side) -> Vec<u32> {
        let (filters, place) = (self.filters(), list_place(&self.filters(), side));
        let mut rows = listed(&filters, side, &self.weights(), self.place(), place);
        leave_behind(&mut rows, &filters, side, place);
        rows
    }

    pub fn sparse_flops(&self) -> u64 {
        self.setting.flops(self.place(), &self.filters(), &self.weights())
    }
}

/// The dense kernels' cases with a few weights left, and the paper's layers with four of every filter, as at 99.5%.
pub fn sparse_conv_cases() -> Vec<ConvCase> {
    let prune = |c: ConvCase| {
        let alive = if c.setting.name.starts_with("simple-cnn") { Alive::Each(4) } else { Alive::Rarely(5) };
        ConvCase { setting: c.setting.pruned(alive), ..c }
    };
    let mut cases: Vec<_> = conv_cases().into_iter().map(prune).collect();
    let conv =
        Conv { in_channels: 5, out_channels: 9, height: 8, width: 7, kernel: 3, padding: 1, pool: 2, relu: true };
    cases.push(ConvCase { conv, setting: Setting::new("nothing pruned", &[19, 2], &[1, 0], 20) });
    let setting = Setting::new("nothing survives", &[3, 4], &[0, 1], 4).pruned(Alive::Each(0));
    cases.push(ConvCase { conv, setting });
    let conv = Conv { in_channels: 7, ..conv };
    let setting = Setting::new("gates on both sides", &[19, 2], &[0, 1], 20).gated_inputs().pruned(Alive::Rarely(5));
    cases.push(ConvCase { conv, setting });
    let setting =
        Setting::new("closed channels that nobody reads", &[19, 0, 34], &[0, 1, 1], 36).gated_inputs().unread();
    cases.push(ConvCase { conv, setting: setting.pruned(Alive::Rarely(3)) });
    let conv = Conv { width: 21, pool: 1, ..conv };
    let setting =
        Setting::new("closed channels that nobody reads, no pooling", &[5, 9], &[0, 1], 12).gated_inputs().unread();
    cases.push(ConvCase { conv, setting: setting.pruned(Alive::Rarely(3)) });
    // As the outputs above, of which some are needed.
    for (name, conv) in [
        ("some needed, no pooling", conv),
        ("some needed", Conv { out_channels: 70, height: 11, width: 15, pool: 2, ..conv }),
        ("some needed, one channel, no relu", Conv { in_channels: 1, out_channels: 11, pool: 2, relu: false, ..conv }),
    ] {
        let setting = Setting::new(name, &[5, 0, 34], &[0, 1, 1], 36).gated_inputs().some();
        cases.push(ConvCase { conv, setting: setting.pruned(Alive::Rarely(3)) });
    }
    // Blocks that fill one word of bits, and two.
    let whole = Conv { in_channels: 3, out_channels: 5, height: 8, width: 16, pool: 2, ..conv };
    for (name, some, height) in [
        ("32 blocks", false, 8),
        ("32 blocks, some needed", true, 8),
        ("64 blocks", false, 16),
        ("64 blocks, some needed", true, 16),
    ] {
        let setting = Setting::new(name, &[5, 9], &[1, 0], 12).gated_inputs().pruned(Alive::Rarely(3));
        let setting = if some { setting.some() } else { setting };
        cases.push(ConvCase { conv: Conv { height, ..whole }, setting });
    }
    let simple = Conv { in_channels: 64, out_channels: 128, height: 7, width: 7, pool: 2, ..conv };
    let setting = Setting::new("simple-cnn conv3, some needed", &[26, 3], &[0, 1], 28).gated_inputs().unread().some();
    cases.push(ConvCase { conv: simple, setting: setting.pruned(Alive::Each(5)) });
    let conv = Conv { in_channels: 1, out_channels: 37, pool: 2, ..conv };
    let setting = Setting::new("one channel, closed ones that nobody reads", &[5, 9], &[0, 1], 12).gated().unread();
    cases.push(ConvCase { conv, setting: setting.pruned(Alive::Rarely(2)) });
    let conv = Conv { in_channels: 3, out_channels: 9, width: 18, kernel: 5, padding: 2, ..conv };
    let setting = Setting::new("5x5, wide", &[5, 9], &[0, 1], 12).pruned(Alive::Rarely(3));
    cases.push(ConvCase { conv, setting });
    // Of the six slots' only input gates, some are open and some closed.
    for (name, relu) in
        [("one channel, gates on both sides, no relu", false), ("one channel, gates on both sides", true)]
    {
        let conv =
            Conv { in_channels: 1, out_channels: 11, height: 18, width: 5, kernel: 3, padding: 1, pool: 1, relu };
        let setting = Setting::new(name, &[35, 2, 4, 0, 1, 7], &[0, 1, 1, 0, 1, 0], 36).gated_inputs();
        let open = (0..6).filter(|slot| setting.input_open(&conv, *slot, 0)).count();
        assert!((1..6).contains(&open), "{open} of six gates are open");
        cases.push(ConvCase { conv, setting: setting.pruned(Alive::Rarely(2)) });
    }
    cases
}

/// The dense kernels' cases with a few weights left, and the paper's last layer with as many as at 99.5%.
pub fn sparse_linear_cases() -> Vec<LinearCase> {
    let prune = |c: LinearCase| {
        let alive = if c.setting.name.starts_with("simple-cnn") { Alive::Each(6) } else { Alive::Rarely(5) };
        LinearCase { setting: c.setting.pruned(alive), ..c }
    };
    let mut cases: Vec<_> = linear_cases().into_iter().map(prune).collect();
    let linear = Linear { inputs: 19, outputs: 7, relu: true };
    cases.push(LinearCase { linear, setting: Setting::new("nothing pruned", &[19, 2], &[1, 0], 20) });
    let setting = Setting::new("nothing survives", &[3, 4], &[0, 1], 4).pruned(Alive::Each(0));
    cases.push(LinearCase { linear, setting });
    cases
}
