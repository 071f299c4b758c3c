//! The test set through the global models, of as many federations at once as fit.

use super::examples::{Orders, upload};
use super::{Budget, Stage, slots_that_fit};
use crate::device::{Buffer, Device, View, within};
use crate::error::Result;
use crate::kernels::confusion::{self, confusion};
use crate::model::{Depth, Network, Rows, Weights};

/// Images of a batch.
const BATCH: usize = 256;

/// The test set through the global models of all replicates.
#[derive(Debug)]
pub(super) struct Evaluation {
    /// Models evaluated at once, at most.
    most: usize,
    orders: Orders,
    parts: Vec<Part>,
}

/// As many replicates as are evaluated at once.
#[derive(Debug)]
struct Part {
    rows: Buffer,
    counters: Buffer,
    losses: Buffer,
}

impl Evaluation {
    pub fn new(
        device: &dyn Device,
        network: &Network,
        images: usize,
        replicates: usize,
        budget: Budget,
    ) -> Result<Self> {
        let all: Vec<u32> = (0..images as u32).collect();
        let batches: Vec<_> = all.chunks(BATCH).map(<[u32]>::to_vec).collect();
        let stride = BATCH.min(images).next_multiple_of(4);
        let (space, largest) = network.workspace_words(stride, Depth::Forward);
        let order = images + BATCH;
        // One at a time is what a federation alone takes, whatever the budget.
        let fit = slots_that_fit(budget, replicates, space + order, largest.max(order), "one evaluation").unwrap_or(1);
        let rows: Vec<u32> = (0..replicates as u32).collect();
        let part = |rows: &[u32]| -> Result<Part> {
            Ok(Part {
                rows: upload(device, "rows", rows)?,
                counters: device.alloc("confusion", rows.len() * network.classes * network.classes)?,
                losses: device.alloc("test losses", rows.len())?,
            })
        };
        Ok(Self {
            most: fit,
            orders: Orders::upload(device, &vec![batches; fit], stride)?,
            parts: rows.chunks(fit).map(part).collect::<Result<_>>()?,
        })
    }

    pub fn run(&self, stage: Stage<'_>, weights: Weights<'_>) -> Result<()> {
        let (device, network) = (stage.device, stage.network);
        // Made for each round: for many replicates it is as large as a wave, which is there too.
        let space = &network.workspace(device, self.most, self.orders.stride, Depth::Forward)?;
        for part in &self.parts {
            device.clear(part.counters.all())?;
            device.clear(part.losses.all())?;
            let from = Rows { weights, rows: part.rows.all(), counts: self.orders.counts.all() };
            let tally = confusion::Buffers {
                logits: space.logits(),
                targets: space.targets.all(),
                counts: from.counts,
                counters: part.counters.all(),
                losses: part.losses.all(),
            };
            within(device, || {
                (0..self.orders.steps).try_for_each(|step| {
                    let batch = self.orders.batch(step, part.rows.words());
                    stage.test.gather(device, &self.orders, step, batch, space)?;
                    network.forward(device, space, batch, from, None)?;
                    confusion(device, batch, network.classes, &tally)
                })
            })?;
        }
        Ok(())
    }

    /// Bytes of the device's memory that it takes, its workspace included.
    pub fn bytes(&self, network: &Network) -> u64 {
        let (space, _) = network.workspace_words(self.orders.stride, Depth::Forward);
        let parts = self.results().map(|view| 4 * view.words as u64).sum::<u64>();
        4 * (self.most * space) as u64 + self.orders.bytes() + parts
    }

    /// Words of the results of so many federations.
    pub fn words(network: &Network, replicates: usize) -> usize {
        replicates * (network.classes * network.classes + 1)
    }

    /// The confusion counts of each part, then its losses.
    pub fn results(&self) -> impl Iterator<Item = View<'_>> {
        self.parts.iter().flat_map(|part| [part.counters.all(), part.losses.all()])
    }
}
