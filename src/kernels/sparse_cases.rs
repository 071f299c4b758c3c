//! Inputs for the tests and benchmarks of the sparse kernels: the layers of [`super::layer_cases`], pruned.

use super::layer_cases::{Alive, ConvCase, Setting, conv_cases};
use super::linear_cases::{LinearCase, linear_cases};
use super::shape::{Conv, Linear};
use super::sparse::{Filters, ListPlace, NO_GATES, Side, SparseConvParams, SparseLinearParams};
use super::survivors::listed;

/// The lists lie apart from where the weights do, and apart from the rows' ends.
fn list_place(filters: &Filters, side: Side) -> ListPlace {
    let counts_at = filters.words() + 9;
    ListPlace { row_words: counts_at + filters.lists(side) + 3, lists_at: 6, counts_at }
}

impl ConvCase {
    fn filters(&self) -> Filters {
        (&self.conv).into()
    }

    pub fn sparse_params_words(&self, side: Side) -> Vec<u32> {
        let lists = list_place(&self.filters(), side);
        let mut p = SparseConvParams::new(&self.conv, self.setting.batch(), self.place(), None, lists);
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

    /// The lists of every row of weights.
    pub fn lists(&self, side: Side) -> Vec<u32> {
        let filters = self.filters();
        listed(&filters, side, &self.weights(), self.place(), list_place(&filters, side))
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
        let filters = self.filters();
        listed(&filters, side, &self.weights(), self.place(), list_place(&filters, side))
    }

    pub fn sparse_flops(&self) -> u64 {
        self.setting.flops(self.place(), &self.filters(), &self.weights())
    }
}

/// The dense kernels' cases with a few weights left, and the paper's layers with four of every filter, as at 99.5%.
pub(super) fn sparse_conv_cases() -> Vec<ConvCase> {
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
pub(super) fn sparse_linear_cases() -> Vec<LinearCase> {
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
