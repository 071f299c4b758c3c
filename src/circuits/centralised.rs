//! Training without federation, beside it: one model a replicate, on all clients' examples, in as many steps a round as a
//! client takes.

use rand::seq::SliceRandom;

use super::controls::{Origin, first_weights};
use crate::config::Experiment;
use crate::device::{Buffer, Device};
use crate::error::Result;
use crate::federation::{LocalTraining, Member, Pulse, Stage};
use crate::model::{Network, Survivors};
use crate::rng::{NO_CLIENT, Purpose, stream};

/// Each round, as many examples as the largest client has are drawn from the pool, and the model is trained on them as that
/// client would be: the same steps, batches, optimiser and pruning, and nothing averaged.
pub(super) struct Centralised {
    local: LocalTraining,
    /// `[R][P]`.
    weights: Buffer,
    pools: Vec<(u64, Vec<u32>)>,
    examples: usize,
}

impl Centralised {
    pub fn new(
        device: &dyn Device,
        network: &Network,
        experiment: &Experiment,
        origins: &[Origin<'_>],
        weights: &dyn Fn(u64) -> Vec<f32>,
    ) -> Result<Self> {
        let examples = origins.iter().map(|o| o.clients.largest()).max().unwrap_or(0);
        let local = LocalTraining::new(device, network, &experiment.training, &experiment.sparsity, examples)?;
        Ok(Self {
            local,
            weights: first_weights(device, network, origins, weights)?,
            pools: origins.iter().map(|o| (o.seed, o.clients.pool())).collect(),
            examples,
        })
    }

    /// `[R][P]`.
    pub fn weights(&self) -> &Buffer {
        &self.weights
    }

    /// Room for the lists of the weights' survivors, where it pays to run over them.
    pub fn survivors(&self, stage: Stage<'_>) -> Result<Option<Survivors>> {
        let density = self.local.density(stage.network);
        Survivors::new(stage.device, stage.network, &density, self.pools.len(), true)
    }

    /// Client-steps of a round.
    pub fn steps(&self) -> usize {
        self.local.steps(self.examples) * self.pools.len()
    }

    /// Trains every replicate's model for a round.
    pub fn round(&mut self, stage: Stage<'_>, pulse: &mut Pulse<'_>) -> Result<()> {
        let drawn: Vec<Vec<u32>> = self
            .pools
            .iter()
            .map(|(seed, pool)| {
                let mut rng = stream(*seed, pulse.round as u64, NO_CLIENT, Purpose::Centralised);
                let mut pool = pool.clone();
                let (drawn, _) = pool.partial_shuffle(&mut rng, self.examples);
                drawn.to_vec()
            })
            .collect();
        let members: Vec<Member<'_>> = drawn
            .iter()
            .zip(&self.pools)
            .enumerate()
            .map(|(row, (examples, (seed, _)))| nobody(row, *seed, examples, self.local.steps(examples.len())))
            .collect();
        let (summary, alive) = self.local.report_words(members.len());
        let summary = stage.device.alloc("summaries without federation", summary)?;
        let alive = stage.device.alloc("nonzero weights without federation", alive)?;
        let models = self.local.train(stage, &self.weights, &members, summary.all(), alive.all(), pulse)?;
        stage.device.copy(models.weights.values, self.weights.all())
    }
}

/// The virtual client of a training without federation.
fn nobody<'a>(replicate: usize, seed: u64, examples: &'a [u32], steps: usize) -> Member<'a> {
    Member { replicate, seed, client: usize::MAX, examples, steps, longest: steps }
}
