//! Testing a circuit: accuracy on the test images of its class with some channels zeroed.

use crate::device::{Buffer, View};
use crate::error::Result;
use crate::federation::{Orders, Stage};
use crate::kernels::confusion::{self, confusion};
use crate::model::{Depth, Rows, Workspace};

/// Most images of an ablation batch.
const BATCH: usize = 256;

/// Images of an ablation batch, padded: no more than the largest class of the test set has.
fn stride(members: &[Vec<u32>]) -> usize {
    members.iter().map(Vec::len).max().unwrap_or(0).clamp(1, BATCH).next_multiple_of(4)
}

/// The test images of each slot's class, ready for several ablations of the same slots.
pub(super) struct Ablation {
    orders: Orders,
    space: Workspace,
    losses: Buffer,
}

/// Words of one slot, in all and in its largest buffer; `members[class]` are the test images of a class.
pub(super) fn words(stage: Stage<'_>, members: &[Vec<u32>]) -> (usize, usize) {
    let (space, largest) = stage.network.workspace_words(stride(members), Depth::Forward);
    let images = stage.test.host_labels.len();
    (space + images, largest.max(images))
}

impl Ablation {
    /// Prepares slots of the given classes; `members[class]` are the test images of a class.
    pub fn new(stage: Stage<'_>, classes: &[u32], members: &[Vec<u32>]) -> Result<Self> {
        let (device, stride) = (stage.device, stride(members));
        let batches: Vec<Vec<Vec<u32>>> = classes
            .iter()
            .map(|class| members[*class as usize].chunks(stride).map(<[u32]>::to_vec).collect())
            .collect();
        Ok(Self {
            orders: Orders::upload(device, &batches, stride)?,
            space: stage.network.workspace(device, classes.len(), stride, Depth::Forward)?,
            losses: device.alloc("ablated losses", classes.len())?,
        })
    }

    /// Counts the predictions of all slots under `gates` (`[slots][G]`) into `counters` (`[slots][classes][classes]`,
    /// cleared first).
    pub fn count(
        &self,
        stage: Stage<'_>,
        weights: View<'_>,
        rows: &Buffer,
        gates: View<'_>,
        counters: View<'_>,
    ) -> Result<()> {
        let (device, network, space) = (stage.device, stage.network, &self.space);
        device.clear(counters)?;
        let from = Rows { weights, rows: rows.all(), counts: self.orders.counts.all() };
        for step in 0..self.orders.steps {
            let batch = self.orders.batch(step, self.orders.slots);
            stage.test.gather(device, &self.orders, step, batch, space)?;
            network.forward(device, space, batch, from, Some(gates))?;
            let tally = confusion::Buffers {
                logits: space.logits(),
                targets: space.targets.all(),
                counts: from.counts,
                counters,
                losses: self.losses.all(),
            };
            confusion(device, batch, network.classes, &tally)?;
        }
        Ok(())
    }
}
