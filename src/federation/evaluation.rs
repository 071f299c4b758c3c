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

#[cfg(test)]
mod tests {
    use super::super::Examples;
    use super::super::local::tests::{Counting, network};
    use super::*;
    use crate::data::blank;
    use crate::model::SpecKind;

    /// What is planned for it is what its buffers take, of as many models at once as fit.
    #[test]
    fn an_evaluation_takes_what_it_says() {
        let (device, dataset) = (Counting::new(), blank(1, 600, 10));
        let network = network(&[SpecKind::Linear { features: 20 }, SpecKind::Linear { features: 10 }]);
        let test = Examples::upload(&device, &dataset, &dataset.test).unwrap();
        let (space, _) = network.workspace_words(256, Depth::Forward);
        for (room, most) in [(1, 1), (2, 2), (9, 3)] {
            let bytes = 4 * (room * (space + 600 + BATCH)) as u64;
            let budget = Budget { bytes, binding: 1 << 30, max_wave: 100, models: 0, cache: None };
            let global = upload(&device, "global", &vec![0; 3 * network.layout.words]).unwrap();
            device.words.lock().unwrap().clear();
            let evaluation = Evaluation::new(&device, &network, 600, 3, budget).unwrap();
            assert_eq!(evaluation.most, most);
            let stage = Stage { device: &device, network: &network, train: &test, test: &test, budget, replicates: 3 };
            evaluation.run(stage, global.all().into()).unwrap();
            let words: usize = device.words.lock().unwrap().iter().sum();
            // Beside the number of each model.
            assert_eq!(evaluation.bytes(&network), 4 * (words as u64 - 3), "{most} at once");
            let views: Vec<_> = evaluation.results().collect();
            assert_eq!(views.iter().map(|view| view.words).sum::<usize>(), Evaluation::words(&network, 3));
            // All 600 images are seen, each once, by each model: a network of zeros takes all for the first class.
            let words = pollster::block_on(device.read(&views)).unwrap();
            let counts: Vec<u32> = words.iter().step_by(2).flatten().copied().collect();
            for counts in counts.chunks(100) {
                let first: Vec<u32> = counts.iter().step_by(10).copied().collect();
                assert_eq!((first, counts.iter().sum::<u32>()), (vec![60; 10], 600));
            }
            for loss in words.iter().skip(1).step_by(2).flatten().map(|loss| f32::from_bits(*loss)) {
                assert!((loss / 600.0 - 10f32.ln()).abs() < 1e-4, "{loss}");
            }
        }
    }
}
