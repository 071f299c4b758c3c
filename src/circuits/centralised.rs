//! Training without federation, beside it: one model a replicate, on all clients' examples, in as many steps a round as a
//! client takes.

use rand::seq::SliceRandom;

use super::controls::{Origin, first_weights};
use crate::config::Training;
use crate::device::{Buffer, Device};
use crate::error::Result;
use crate::federation::{LocalTraining, Member, OwnExamples, Pulse, Stage, Waves, apart};
use crate::model::{Network, Survivors};
use crate::rng::{NO_CLIENT, Purpose, stream};

/// Each round, as many examples as the replicate's largest client has are drawn from its pool, and the model is trained on
/// them as that client would be: the same steps, batches, optimiser and pruning, and nothing averaged.
pub(super) struct Centralised {
    local: LocalTraining,
    /// `[R][P]`.
    weights: Buffer,
    pools: Vec<Pool>,
}

/// What a replicate's model is trained on.
struct Pool {
    seed: u64,
    /// Of all clients, each once.
    examples: Vec<u32>,
    /// Of which so many are drawn in a round.
    drawn: usize,
}

impl Centralised {
    pub fn new(
        device: &dyn Device,
        network: &Network,
        training: &Training,
        origins: &[Origin<'_>],
        weights: &dyn Fn(u64) -> Vec<f32>,
    ) -> Result<Self> {
        let pool = |o: &Origin<'_>| Pool { seed: o.seed, examples: o.clients.pool(), drawn: o.clients.largest() };
        let largest = origins.iter().map(|o| o.clients.largest()).max().unwrap_or(0);
        let recipes = origins.iter().map(|o| o.recipe.clone()).collect();
        Ok(Self {
            local: LocalTraining::new(device, network, training, recipes, largest)?,
            weights: first_weights(device, network, origins, weights)?,
            pools: origins.iter().map(pool).collect(),
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
        self.pools.iter().map(|pool| self.local.steps(pool.drawn)).sum()
    }

    /// Trains every replicate's model for a round, in waves as its clients are.
    pub fn round(&mut self, stage: Stage<'_>, pulse: &mut Pulse<'_>) -> Result<()> {
        let (device, words) = (stage.device, stage.network.layout.words);
        let drawn: Vec<Vec<u32>> = self.pools.iter().map(|pool| pool.draw(pulse.round)).collect();
        let members: Vec<Member<'_>> = (drawn.iter().zip(&self.pools).enumerate())
            .map(|(row, (examples, pool))| nobody(row, pool.seed, examples, self.local.steps(examples.len())))
            .collect();
        let longest = members.iter().map(|m| m.steps).max().unwrap_or(0);
        // One at a time is what a federation alone takes, whatever the budget.
        let size = self.local.wave_size(stage, members.len(), longest).unwrap_or(1);
        let waves = Waves::new(members, size, apart(device));
        for (_, wave) in waves.iter() {
            let (summary, alive) = self.local.report_words(wave.len());
            let summary = device.alloc("summaries without federation", summary)?;
            let alive = device.alloc("nonzero weights without federation", alive)?;
            let models = self.local.train(stage, &self.weights, wave, summary.all(), alive.all(), pulse)?;
            for (slot, member) in wave.iter().enumerate() {
                let from = models.weights.values.buffer.view(slot * words, words);
                device.copy(from, self.weights.view(member.replicate * words, words))?;
            }
        }
        Ok(())
    }
}

impl Pool {
    /// The examples of one-based `round`. Of a pool that has fewer than a client, as where clients draw with replacement,
    /// each comes as often as any other, give or take one.
    fn draw(&self, round: usize) -> Vec<u32> {
        let mut rng = stream(self.seed, round as u64, NO_CLIENT, Purpose::Centralised);
        let mut pool = self.examples.clone();
        let mut drawn = Vec::with_capacity(self.drawn);
        while drawn.len() < self.drawn && !pool.is_empty() {
            drawn.extend_from_slice(pool.partial_shuffle(&mut rng, self.drawn - drawn.len()).0);
        }
        drawn
    }
}

/// The virtual client of a training without federation.
fn nobody<'a>(replicate: usize, seed: u64, examples: &'a [u32], steps: usize) -> Member<'a> {
    let examples = OwnExamples::Listed(examples);
    Member { replicate, seed, client: usize::MAX, examples, steps, longest: steps }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_drawn_from_again_until_there_are_as_many_examples_as_a_client_has() {
        let draw = |drawn| Pool { seed: 3, examples: (10..20).collect(), drawn }.draw(2);
        for (drawn, fewest) in [(4, 0), (10, 1), (25, 2), (40, 4)] {
            let examples = draw(drawn);
            assert_eq!(examples.len(), drawn);
            let counts = (10..20).map(|wanted| examples.iter().filter(|e| **e == wanted).count());
            assert!(counts.into_iter().all(|n| n == fewest || n == fewest + 1), "{examples:?}");
        }
        // The first of them are those of a whole pool.
        assert_eq!(draw(25)[..10], draw(10));
    }
}
