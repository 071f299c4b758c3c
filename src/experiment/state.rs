//! What of a federation outlives a round: what another of the same experiment needs to go on with the same bits.

use std::ops::Range;

use super::Federation;
use crate::circuits::Memory;
use crate::device::{Buffer, View};
use crate::error::{Error, Result};

/// An experiment's federations between two rounds. Everything else follows from the experiment, its data, and the number
/// of the round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Rounds done.
    pub round: usize,
    /// `[R][P]`: the global weights of each seed, as bits.
    pub global: Vec<u32>,
    /// What the circuits' part remembers; nothing where none are looked for.
    pub memory: Memory,
}

/// A copy on the device of what a round changes before it is done.
pub(super) struct Held {
    global: Buffer,
    centralised: Option<Buffer>,
}

impl Federation<'_> {
    /// The state after the last finished round; of the first of several experiments.
    ///
    /// # Errors
    /// As [`Federation::states`].
    pub fn state(&self) -> Result<State> {
        Ok(self.states()?.swap_remove(0))
    }

    /// The state of each experiment side by side after the last finished round, as it would be alone. They are read from
    /// the device outside of any round.
    ///
    /// # Errors
    /// What the device says; and [`Error::Device`] after a round that failed, unless [`Federation::hold`] was called before
    /// it: the weights may be that round's.
    pub fn states(&self) -> Result<Vec<State>> {
        let held = self.held.as_ref();
        if held.is_none() {
            self.check_whole()?;
        }
        let laboratory = self.laboratory.as_ref();
        let centralised = match held {
            Some(held) => held.centralised.as_ref(),
            None => laboratory.and_then(|l| l.centralised()),
        };
        let mut views: Vec<View<'_>> = vec![held.map_or(self.simulation.global(), |held| &held.global).all()];
        views.extend(centralised.map(Buffer::all));
        views.extend(laboratory.iter().flat_map(|l| l.compared_with()));
        let mut words = pollster::block_on(self.simulation.stage().device.read(&views))?.into_iter();
        let global = words.next().unwrap_or_default();
        let centralised = centralised.and_then(|_| words.next()).unwrap_or_default();
        let (parts, row) = (self.parts(), self.layout().words);
        let memories = laboratory.map(|l| l.memories(&words.collect::<Vec<_>>(), &centralised, row));
        let memories = memories.unwrap_or_else(|| vec![Memory::default(); parts.len()]);
        let state = |(part, memory): (Range<usize>, Memory)| {
            let global = global[part.start * row..part.end * row].to_vec();
            State { round: self.round, global, memory }
        };
        Ok(parts.into_iter().zip(memories).map(state).collect())
    }

    /// Keeps a copy of the state on the device during the next round, which [`Federation::state`] gives should that fail.
    ///
    /// # Errors
    /// What the device says; and [`Error::Device`] after a round that failed.
    pub fn hold(&mut self) -> Result<()> {
        self.check_whole()?;
        let device = self.simulation.stage().device;
        let copy = |of: &Buffer| -> Result<Buffer> {
            let copy = device.alloc("weights before a round", of.words())?;
            device.copy(of.all(), copy.all())?;
            Ok(copy)
        };
        let centralised = self.laboratory.as_ref().and_then(|l| l.centralised()).map(copy).transpose()?;
        self.held = Some(Held { global: copy(self.simulation.global())?, centralised });
        Ok(())
    }

    fn check_whole(&self) -> Result<()> {
        if self.failed {
            return Err(Error::device("the state before the failed round is gone", "go on from an earlier state"));
        }
        Ok(())
    }

    /// Goes on from `state`: the next round is the one after it.
    ///
    /// # Errors
    /// As [`Federation::restore_all`].
    pub fn restore(&mut self, state: &State) -> Result<()> {
        self.restore_all(&[state])
    }

    /// Goes on from the states of the experiments side by side, which are all of the same round.
    ///
    /// # Errors
    /// [`Error::Config`] for states of other experiments or of different rounds, and what the device says.
    pub fn restore_all(&mut self, states: &[&State]) -> Result<()> {
        let (device, parts, row) = (self.simulation.stage().device, self.parts(), self.layout().words);
        let round = states.first().map_or(0, |state| state.round);
        let fits = |(state, part): (&&State, &Range<usize>)| {
            state.round == round && state.global.len() == part.len() * row && round <= self.experiment.rounds
        };
        if states.len() != parts.len() || !states.iter().zip(&parts).all(fits) {
            return Err(Memory::of_another());
        }
        let global: Vec<u32> = states.iter().flat_map(|state| state.global.iter().copied()).collect();
        device.write(self.simulation.global().all(), &global)?;
        if let Some(laboratory) = &mut self.laboratory {
            laboratory.recall(device, &states.iter().map(|state| &state.memory).collect::<Vec<_>>())?;
        }
        (self.round, self.failed, self.held) = (round, false, None);
        Ok(())
    }
}
