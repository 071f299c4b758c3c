//! What of a federation outlives a round: what another of the same experiment needs to go on with the same bits.

use super::Federation;
use crate::circuits::Memory;
use crate::device::{Buffer, View};
use crate::error::{Error, Result};

/// A federation between two rounds. Everything else follows from the experiment, its data, and the number of the round.
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
    /// The state after the last finished round, read from the device outside of any round.
    ///
    /// # Errors
    /// What the device says; and [`Error::Device`] after a round that failed, unless [`Federation::hold`] was called before
    /// it: the weights may be that round's.
    pub fn state(&self) -> Result<State> {
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
        let memory = laboratory.map(|l| l.memory(words.collect(), centralised)).unwrap_or_default();
        Ok(State { round: self.round, global, memory })
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
    /// [`Error::Config`] for the state of another experiment, and what the device says.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        let (device, global) = (self.simulation.stage().device, self.simulation.global());
        if state.global.len() != global.words() || state.round > self.experiment.rounds {
            return Err(Memory::of_another());
        }
        device.write(global.all(), &state.global)?;
        if let Some(laboratory) = &mut self.laboratory {
            laboratory.recall(device, &state.memory, self.experiment.seeds.all().len())?;
        }
        (self.round, self.failed, self.held) = (state.round, false, None);
        Ok(())
    }
}
