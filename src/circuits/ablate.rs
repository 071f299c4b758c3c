//! Testing a circuit: accuracy on the test images of its class with some channels ablated.

use super::fill::{self, Fills, Ready};
use crate::config;
use crate::device::{Buffer, Device, View, within};
use crate::error::Result;
use crate::federation::{Orders, Stage};
use crate::kernels::confusion::{self, confusion};
use crate::model::{Depth, Rows, Weights, Workspace};

/// Most images of a batch: on the CPU engine fewer, so that what one layer writes is in the caches when the next reads it.
fn most(device: &dyn Device) -> usize {
    if device.info().kind == "cpu" { 64 } else { 256 }
}

/// Slots ready for several ablations: their weights, and the test images of their classes.
#[derive(Debug)]
pub struct Ablation<'a> {
    weights: Weights<'a>,
    rows: &'a Buffer,
    batches: Vec<Vec<Vec<u32>>>,
    orders: Orders,
    space: Workspace,
    losses: Buffer,
}

/// Words of one slot that is shown `images` images, in all and in its largest buffer.
pub(super) fn words(stage: Stage<'_>, ablation: config::Ablation, images: usize) -> (usize, usize) {
    let stride = stride(stage.device, images);
    let (space, largest) = stage.network.workspace_words(stride, Depth::Forward);
    let (more, widest) = fill::words(stage, ablation, stride, images.div_ceil(most(stage.device)));
    (space + more + images + stage.network.layout.gate_words, largest.max(widest).max(images))
}

/// B for slots of at most `images` images.
fn stride(device: &dyn Device, images: usize) -> usize {
    images.clamp(1, most(device)).next_multiple_of(4)
}

impl<'a> Ablation<'a> {
    /// Prepares slots of the given classes, of which slot s uses row `rows[s]` of `weights`; `members[class]` are the
    /// test images of a class.
    ///
    /// # Errors
    /// What the device says.
    pub fn new(
        stage: Stage<'_>,
        weights: Weights<'a>,
        rows: &'a Buffer,
        classes: &[u32],
        members: &[Vec<u32>],
    ) -> Result<Self> {
        Self::within(stage, weights, rows, classes, members, None)
    }

    /// As [`Ablation::new`], in the workspace of an earlier one where that is large enough: fresh memory costs more than
    /// the passes over a few images.
    pub(super) fn within(
        stage: Stage<'_>,
        weights: Weights<'a>,
        rows: &'a Buffer,
        classes: &[u32],
        members: &[Vec<u32>],
        space: Option<Workspace>,
    ) -> Result<Self> {
        let device = stage.device;
        let cut = |class: &u32| members[*class as usize].chunks(most(device)).map(<[u32]>::to_vec).collect();
        let batches: Vec<Vec<Vec<u32>>> = classes.iter().map(cut).collect();
        let stride = stride(device, classes.iter().map(|class| members[*class as usize].len()).max().unwrap_or(0));
        let space = match space.filter(|space| space.slots >= classes.len() && space.stride == stride) {
            Some(space) => space,
            None => stage.network.workspace(device, classes.len(), stride, Depth::Forward)?,
        };
        Ok(Self {
            weights,
            rows,
            orders: Orders::upload(device, &batches, stride)?,
            space,
            losses: device.alloc("ablated losses", classes.len())?,
            batches,
        })
    }

    /// `[slots]`: the sums of the losses of all counts so far.
    pub(super) fn losses(&self, device: &dyn Device) -> Result<Buffer> {
        let losses = device.alloc("losses so far", self.losses.words())?;
        device.copy(self.losses.all(), losses.all())?;
        Ok(losses)
    }

    /// The workspace, for another.
    pub(super) fn into_space(self) -> Workspace {
        self.space
    }

    /// What closed channels give in these slots, of which slot s belongs to pair `pairs[s]` of `fills`.
    pub(super) fn fill(&self, stage: Stage<'_>, fills: &Fills, pairs: &[usize]) -> Result<Ready> {
        fills.ready(stage, pairs, &self.batches, self.orders.stride)
    }

    /// Counts the predictions of all slots with zeros under closed `gates` (`[slots][G]`); gives
    /// `[slots][classes][classes]`, true class by predicted.
    ///
    /// # Errors
    /// What the device says.
    pub fn count(&self, stage: Stage<'_>, gates: View<'_>) -> Result<Buffer> {
        self.count_with(stage, gates, &Ready::Zero)
    }

    /// As [`Ablation::count`], with what `fills` says under closed gates: slot s belongs to its pair `pairs[s]`.
    ///
    /// # Errors
    /// What the device says.
    pub fn count_filled(&self, stage: Stage<'_>, gates: View<'_>, fills: &Fills, pairs: &[usize]) -> Result<Buffer> {
        self.count_with(stage, gates, &self.fill(stage, fills, pairs)?)
    }

    /// As [`Ablation::count`], with what `pass` says under closed gates.
    pub(super) fn count_with(&self, stage: Stage<'_>, gates: View<'_>, pass: &Ready) -> Result<Buffer> {
        let (device, network, space) = (stage.device, stage.network, &self.space);
        let counters = device.alloc("ablated predictions", self.orders.slots * network.classes * network.classes)?;
        let from = Rows { weights: self.weights, rows: self.rows.all(), counts: self.orders.counts.all() };
        let shown = device.alloc("gates of channels that reach the logits", gates.words)?;
        device.copy(gates, shown.all())?;
        let tally = confusion::Buffers {
            logits: space.logits(),
            targets: space.targets.all(),
            counts: from.counts,
            counters: counters.all(),
            losses: self.losses.all(),
        };
        within(device, || {
            pass.reach(stage, self.orders.slots, from, shown.all())?;
            (0..self.orders.steps).try_for_each(|step| {
                let batch = self.orders.batch(step, self.orders.slots);
                stage.test.gather(device, &self.orders, step, batch, space)?;
                pass.forward(stage, space, (step, batch), from, shown.all())?;
                confusion(device, batch, network.classes, &tally)
            })
        })?;
        Ok(counters)
    }
}
