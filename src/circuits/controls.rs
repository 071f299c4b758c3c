//! What a circuit has to beat: random circuits of its size, and its own search done again.

use rand::Rng;

use super::ablate::{self, Ablation};
use super::answers::Answers;
use crate::config;
use crate::device::{Buffer, Device};
use crate::error::Result;
use crate::federation::{Stage, slots_that_fit, upload};
use crate::kernels::random_gates::random_gates;
use crate::model::{Layout, Weights};
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

/// Draws and tests random circuits.
pub(super) struct RandomCircuits {
    draws: usize,
    seed: u64,
    gate_words: usize,
    /// `[G][2]`: first gate and gates of a gate's layer.
    layers: Buffer,
    /// For every class the test images that the random circuits and the circuit itself are compared on.
    probes: Vec<Vec<u32>>,
}

impl RandomCircuits {
    pub fn new(
        device: &dyn Device,
        layout: &Layout,
        controls: &config::Controls,
        seed: u64,
        images: &[Vec<u32>],
    ) -> Result<Self> {
        let table: Vec<u32> =
            layout.gates.iter().flat_map(|g| [g.at as u32, g.channels as u32].repeat(g.channels)).collect();
        Ok(Self {
            draws: controls.random,
            seed,
            gate_words: layout.gate_words,
            layers: upload(device, "layers of gates", &table)?,
            probes: images.iter().map(|list| super::answers::evenly(list, controls.random_images)).collect(),
        })
    }

    /// Predictions of the circuits in `hard` (`[slots][G]`) and of random ones as large: `[slots][classes][classes]` and
    /// `[slots][draws][classes][classes]`. Slot s uses row `rows[s]` of `weights`.
    pub fn count(
        &self,
        stage: Stage<'_>,
        round: usize,
        weights: Weights<'_>,
        rows: &[u32],
        classes: &[u32],
        hard: &Buffer,
    ) -> Result<(Buffer, Buffer)> {
        let device = stage.device;
        let mut rng = stream(self.seed, round as u64, NO_CLIENT, Purpose::Controls);
        let keys: Vec<u32> = (0..self.draws * self.gate_words).map(|_| rng.next_u32()).collect();
        let keys = upload(device, "keys of random circuits", &keys)?;
        let gates = device.alloc("random circuits", hard.words() * self.draws)?;
        random_gates(device, hard.all(), keys.all(), self.layers.all(), gates.all())?;
        let own = self.answers(stage, weights, rows, classes, hard)?;
        let each = |list: &[u32]| list.iter().flat_map(|v| vec![*v; self.draws]).collect::<Vec<_>>();
        let random = self.answers(stage, weights, &each(rows), &each(classes), &gates)?;
        Ok((own, random))
    }

    /// `[slots][classes][classes]`, as many slots at once as fit.
    fn answers(
        &self,
        stage: Stage<'_>,
        weights: Weights<'_>,
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
