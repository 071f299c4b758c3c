//! The search for circuits in a network of which 99.5% is pruned, over all weights and over the survivors.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::rounds::simple_cnn;
use super::sample::Runs;
use crate::circuits::{Fills, Shown, learn_gates, search_words};
use crate::config::{Circuits, Override, presets};
use crate::data::digits;
use crate::device::Device;
use crate::error::Result;
use crate::federation::{Budget, Examples, Pulse, Stage, upload, wave_that_fits};
use crate::model::{Density, Layout, Survivors, Weights, initial_weights};

/// Share of zero weights, and the survivors that every filter keeps: those of the arXiv paper.
const SPARSITY: f64 = 0.995;
const MIN_ALIVE: usize = 4;

/// Searches, four in the weights of each client: as many side by side as a run has.
#[derive(Clone, Copy, Debug)]
pub struct Discovery {
    /// Clients, each with weights of its own.
    pub clients: usize,
    /// Images of a search's batch.
    pub images: usize,
    /// Steps of a search.
    pub steps: usize,
}

/// Searches in each client's weights.
const CLASSES: [u32; 4] = [0, 1, 2, 7];

impl Discovery {
    /// Images of one step of all searches.
    pub fn images(&self) -> u64 {
        (self.clients * CLASSES.len() * self.images) as u64
    }

    /// Hands `then` the work, prepared on the device: it does so many searches and says how long one step of each took
    /// together. They go over the survivors if `sparse` says so, else over all weights. The gates close as they do in a
    /// run; the images are any.
    ///
    /// # Errors
    /// What the device says, and those of `then`.
    pub fn with<T>(&self, device: &dyn Device, sparse: bool, then: impl FnOnce(Runs<'_>) -> Result<T>) -> Result<T> {
        let dataset = digits::generate(self.images, 1);
        let (network, (circuits, batch_size)) = (simple_cnn()?, self.searches()?);
        let examples = Examples::upload(device, &dataset, &dataset.train)?;
        let budget = Budget::new(device.info(), None, None);
        let stage = Stage { device, network: &network, train: &examples, test: &examples, budget, replicates: 1 };
        let models: Vec<u32> =
            (0..self.clients as u64).flat_map(|seed| pruned(&network.layout, seed)).map(f32::to_bits).collect();
        let models = upload(device, "pruned weights", &models)?;
        let density = match sparse {
            true => Density::pruned(&network, SPARSITY, MIN_ALIVE),
            false => Density::full(&network),
        };
        let survivors = Survivors::new(device, &network, &density, self.clients, true)?;
        let weights: Weights<'_> = match &survivors {
            Some(survivors) => survivors.list(device, &network, self.clients, models.all(), true)?,
            None => models.all().into(),
        };
        let slots = self.clients * CLASSES.len();
        let (total, largest) = search_words(stage, &circuits, batch_size);
        let side_by_side = wave_that_fits(budget, slots, total, largest, "a search")?;
        let batches = vec![(0..self.images as u32).collect::<Vec<_>>(); self.steps];
        let wave = |first: usize| {
            let slots = first..slots.min(first + side_by_side);
            let rows: Vec<u32> = slots.clone().map(|slot| (slot / CLASSES.len()) as u32).collect();
            let targets = slots.clone().map(|slot| CLASSES[slot % CLASSES.len()]).collect();
            let rows = upload(device, "rows of the searches", &rows)?;
            Ok((rows, Shown { batches: vec![batches.clone(); slots.len()], targets }))
        };
        let waves = (0..slots).step_by(side_by_side).map(wave).collect::<Result<Vec<_>>>()?;
        let stop = AtomicBool::new(false);
        then(&mut |repeats| {
            let start = Instant::now();
            for _ in 0..repeats {
                let mut pulse = Pulse { stop: &stop, round: 1, advance: &mut |_| {} };
                for (rows, shown) in &waves {
                    learn_gates(stage, &circuits, weights, rows, shown, &Fills::zero(), &mut pulse)?;
                }
                device.wait()?;
            }
            Ok(start.elapsed() / self.steps as u32)
        })
    }

    /// The paper's search, of so many steps, and its size of a batch.
    fn searches(&self) -> Result<(Circuits, usize)> {
        let steps = Override::new("circuits.steps", self.steps as i64);
        let experiment = presets::get("paper-iid")?.load(&[steps])?.variants.remove(0).experiment;
        let Some(circuits) = experiment.circuits else { unreachable!("the preset has circuits") };
        Ok((circuits, experiment.training.batch_size))
    }
}

/// First weights after pruning as the paper has it: each tensor keeps its largest, and each filter of a convolution at
/// least its largest four.
fn pruned(layout: &Layout, seed: u64) -> Vec<f32> {
    let mut row = initial_weights(layout, seed);
    for tensor in layout.prunable() {
        let weights = &mut row[tensor.at..][..tensor.words()];
        let keep = (((1.0 - SPARSITY) * weights.len() as f64) as usize).max(1);
        let threshold = largest(weights, keep);
        let floor = if tensor.shape.len() == 4 { MIN_ALIVE } else { 0 };
        for filter in weights.chunks_exact_mut(tensor.words() / tensor.shape[0]) {
            let own = if floor > 0 { largest(filter, floor) } else { f32::INFINITY };
            filter.iter_mut().filter(|w| w.abs() < threshold.min(own)).for_each(|w| *w = 0.0);
        }
    }
    row
}

/// The `n`-th largest magnitude, or the smallest where there are fewer.
fn largest(weights: &[f32], n: usize) -> f32 {
    let mut sizes: Vec<f32> = weights.iter().map(|w| w.abs()).collect();
    sizes.sort_by(|a, b| b.total_cmp(a));
    sizes[n.min(sizes.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_keeps_four_weights_and_a_linear_layer_its_largest() {
        assert_eq!(Discovery { clients: 1, images: 1, steps: 3 }.searches().unwrap().0.steps, 3);
        let network = simple_cnn().unwrap();
        let row = pruned(&network.layout, 3);
        let alive = |words: &[f32]| words.iter().filter(|w| **w != 0.0).count();
        for tensor in network.layout.prunable() {
            let weights = &row[tensor.at..][..tensor.words()];
            if tensor.shape.len() == 4 {
                assert!(weights.chunks_exact(tensor.words() / tensor.shape[0]).all(|f| alive(f) >= MIN_ALIVE));
                assert!(alive(weights) < 2 * MIN_ALIVE * tensor.shape[0], "{}", tensor.name);
            } else {
                assert_eq!(alive(weights), 57, "{}: int(0.005 * 11520) in double precision", tensor.name);
            }
        }
    }

    #[test]
    fn steps_are_timed_one_by_one() {
        let search = Discovery { clients: 2, images: 4, steps: 12 };
        // Four searches a client.
        assert_eq!(search.images(), 32);
        let cpu = crate::device::Cpu::new(Some(1)).unwrap();
        let (step, all) = search
            .with(&cpu, true, |runs| {
                let start = Instant::now();
                Ok((runs(1)?, start.elapsed()))
            })
            .unwrap();
        assert!(12 * step <= all, "{step:?} a step, {all:?} in all");
    }
}
