//! What may watch a round, and what it is given.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Budget, Examples, Member};
use crate::device::{Device, View};
use crate::error::{Error, Result};
use crate::model::{Network, Weights};

/// What stays the same for a whole simulation.
#[derive(Clone, Copy)]
pub struct Stage<'a> {
    /// Where everything runs.
    pub device: &'a dyn Device,
    /// The network that every client trains.
    pub network: &'a Network,
    /// Training examples, on the device.
    pub train: &'a Examples,
    /// Test examples, on the device.
    pub test: &'a Examples,
    /// Memory a wave may take.
    pub budget: Budget,
    /// R: federations side by side, whether clients of theirs take part in a round or not.
    pub replicates: usize,
}

/// The trained local models of one wave.
#[derive(Clone, Copy)]
pub struct LocalModels<'a> {
    /// `[members][P]`, in the order of `members`.
    pub weights: Weights<'a>,
    /// Whose they are.
    pub members: &'a [Member<'a>],
}

/// Progress, and the wish to stop.
pub struct Pulse<'a> {
    /// Set by Ctrl-C.
    pub stop: &'a AtomicBool,
    /// The round under way, one-based.
    pub round: usize,
    /// Told how many client-steps were done.
    pub advance: &'a mut dyn FnMut(u64),
}

impl Pulse<'_> {
    /// Says that `steps` client-steps are done.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when the run was asked to stop.
    pub fn beat(&mut self, steps: usize) -> Result<()> {
        (self.advance)(steps as u64);
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted { round: self.round - 1 });
        }
        Ok(())
    }
}

/// Watches a round on the device. It may use the models it is shown but not change them; what it wants to know comes
/// back with the round's one read-back.
pub trait Observer {
    /// Client-steps it will add to one-based `round` of these members, for the progress bar.
    fn cost(&self, stage: Stage<'_>, members: &[Member<'_>], round: usize) -> u64;

    /// Before the first wave of one-based `round`: `members` are all of its clients, in the order of the waves.
    fn before_round(&mut self, stage: Stage<'_>, members: &[Member<'_>], round: usize) -> Result<()>;

    /// After a wave's local training. `offset` is the place of its first member in the round.
    fn after_local(
        &mut self,
        stage: Stage<'_>,
        models: LocalModels<'_>,
        offset: usize,
        pulse: &mut Pulse<'_>,
    ) -> Result<()>;

    /// After the last wave: trains what takes no part in the federation, timed apart from it. Gives whether there is any.
    fn train_beside(&mut self, _stage: Stage<'_>, _pulse: &mut Pulse<'_>) -> Result<bool> {
        Ok(false)
    }

    /// After the new global models, `[R][P]` by replicate, are there. `members` are all of the round's clients.
    fn after_aggregate(
        &mut self,
        stage: Stage<'_>,
        global: Weights<'_>,
        members: &[Member<'_>],
        pulse: &mut Pulse<'_>,
    ) -> Result<()>;

    /// What to read back at the end of the round.
    fn results(&self) -> Vec<View<'_>>;

    /// How many words of these are of `replicates`, which are one experiment's: as many as it would read alone.
    fn words_of(&self, replicates: &Range<usize>) -> usize;

    /// Receives what [`Observer::results`] asked for, in that order.
    fn absorb(&mut self, words: Vec<Vec<u32>>) -> Result<()>;
}
