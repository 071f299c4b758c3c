//! What a circuit has to beat: random circuits of its size, and its own search done again.

use rand::Rng;

use super::ablate::{self, Ablation};
use super::answers::Answers;
use crate::config;
use crate::device::{Buffer, Device, View};
use crate::error::Result;
use crate::federation::{Stage, slots_that_fit, upload};
use crate::kernels::random_gates::random_gates;
use crate::model::Layout;
use crate::rng::{NO_CLIENT, Purpose, stream};

/// How a circuit's sufficiency stands among random circuits with as many channels in every layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Against {
    /// Mean sufficiency of the random circuits.
    pub mean: f64,
    /// Share of the random circuits that are less sufficient.
    pub percentile: f64,
    /// (1 + random circuits at least as sufficient) / (1 + random circuits).
    pub p_value: f64,
}

impl Against {
    /// From the counts of the circuit itself and of its random circuits, each `[classes][classes]`.
    pub(super) fn new(own: &[u32], random: &[u32], classes: usize, class: usize) -> Self {
        let sufficiency = |counts| Answers { counts, classes, class }.accuracy();
        let own = sufficiency(own);
        let draws: Vec<f64> = random.chunks_exact(classes * classes).map(sufficiency).collect();
        let n = draws.len() as f64;
        let below = draws.iter().filter(|s| **s < own).count() as f64;
        Self { mean: draws.iter().sum::<f64>() / n, percentile: below / n, p_value: (1.0 + n - below) / (1.0 + n) }
    }
}

/// What the circuits of a call are tried on, one entry each.
#[derive(Clone, Copy)]
pub(super) struct Trials<'a> {
    /// The row of weights.
    pub rows: &'a [u32],
    pub classes: &'a [u32],
    /// The federation's, which the random circuits are drawn from.
    pub seeds: &'a [u64],
}

/// Draws and tests random circuits.
pub(super) struct RandomCircuits {
    draws: usize,
    gate_words: usize,
    /// `[G][2]`: first gate and gates of a gate's layer.
    layers: Buffer,
    /// For every class the test images that the random circuits and the circuit itself are compared on.
    probes: Vec<Vec<u32>>,
}

impl RandomCircuits {
    pub fn new(device: &dyn Device, layout: &Layout, controls: &config::Controls, images: &[Vec<u32>]) -> Result<Self> {
        let table: Vec<u32> =
            layout.gates.iter().flat_map(|g| [g.at as u32, g.channels as u32].repeat(g.channels)).collect();
        Ok(Self {
            draws: controls.random,
            gate_words: layout.gate_words,
            layers: upload(device, "layers of gates", &table)?,
            probes: images.iter().map(|list| super::answers::evenly(list, controls.random_images)).collect(),
        })
    }

    /// Predictions of the circuits in `hard` (`[slots][G]`) and of random ones as large: `[slots][classes][classes]` and
    /// `[slots][draws][classes][classes]`. Slot s uses row `trials.rows[s]` of `weights`.
    pub fn count(
        &self,
        stage: Stage<'_>,
        round: usize,
        weights: View<'_>,
        trials: Trials<'_>,
        hard: &Buffer,
    ) -> Result<(Buffer, Buffer)> {
        let (device, Trials { rows, classes, seeds }) = (stage.device, trials);
        let gates = device.alloc("random circuits", hard.words() * self.draws)?;
        let mut at = 0;
        // Slots of one federation draw alike, and as they would without the others.
        for run in seeds.chunk_by(|a, b| a == b) {
            let own = device.alloc("circuits of a seed", run.len() * self.gate_words)?;
            device.copy(hard.view(at * self.gate_words, own.words()), own.all())?;
            let drawn = self.draw(device, run[0], round, &own)?;
            device.copy(drawn.all(), gates.view(at * self.gate_words * self.draws, drawn.words()))?;
            at += run.len();
        }
        let own = self.answers(stage, weights, rows, classes, hard)?;
        let each = |list: &[u32]| list.iter().flat_map(|v| vec![*v; self.draws]).collect::<Vec<_>>();
        let random = self.answers(stage, weights, &each(rows), &each(classes), &gates)?;
        Ok((own, random))
    }

    /// For every circuit in `hard` its random ones, `[slots][draws][G]`.
    fn draw(&self, device: &dyn Device, seed: u64, round: usize, hard: &Buffer) -> Result<Buffer> {
        let mut rng = stream(seed, round as u64, NO_CLIENT, Purpose::Controls);
        let keys: Vec<u32> = (0..self.draws * self.gate_words).map(|_| rng.next_u32()).collect();
        let keys = upload(device, "keys of random circuits", &keys)?;
        let gates = device.alloc("random circuits of a seed", hard.words() * self.draws)?;
        random_gates(device, hard.all(), keys.all(), self.layers.all(), gates.all())?;
        Ok(gates)
    }

    /// `[slots][classes][classes]`, as many slots at once as fit.
    fn answers(
        &self,
        stage: Stage<'_>,
        weights: View<'_>,
        rows: &[u32],
        classes: &[u32],
        gates: &Buffer,
    ) -> Result<Buffer> {
        let (device, width) = (stage.device, self.gate_words);
        let cells = stage.network.classes * stage.network.classes;
        let out = device.alloc("answers of random circuits", rows.len() * cells)?;
        let longest = self.probes.iter().map(Vec::len).max().unwrap_or(0);
        let (total, largest) = ablate::words(stage, longest);
        let fit = slots_that_fit(stage.budget, rows.len(), total, largest, "one random circuit")?;
        for (i, (rows, classes)) in rows.chunks(fit).zip(classes.chunks(fit)).enumerate() {
            let part = device.alloc("some random circuits", rows.len() * width)?;
            device.copy(gates.view(i * fit * width, part.words()), part.all())?;
            let rows = upload(device, "rows", rows)?;
            let counts = Ablation::new(stage, weights, &rows, classes, &self.probes)?.count(stage, part.all())?;
            device.copy(counts.all(), out.view(i * fit * cells, counts.words()))?;
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circuit_is_ranked_among_random_ones() {
        // Two classes; class 0 has four images, of which the circuit gets 3 and its random circuits 1, 3, 4 and 0.
        let counts = |right: u32| [right, 4 - right, 0, 0];
        let random: Vec<u32> = [1, 3, 4, 0].into_iter().flat_map(counts).collect();
        let against = Against::new(&counts(3), &random, 2, 0);
        assert_eq!(against, Against { mean: 0.5, percentile: 0.5, p_value: 0.6 });
    }
}
