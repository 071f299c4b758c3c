//! What a laboratory remembers from round to round, so that another can go on where it stopped.

use super::Laboratory;
use crate::circuits::notes::Told;
use crate::circuits::pair::Pair;
use crate::circuits::round::Sets;
use crate::device::{Buffer, Device, View};
use crate::error::{Error, Result};
use crate::federation::upload;

/// Everything of a laboratory that outlives a round and does not follow from the experiment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// `[Q][4]`: replicate, client, class and place in the round of each pair whose circuits the next ones are compared
    /// with; empty where there are none yet.
    pub pairs: Vec<u32>,
    /// `[2Q][W]`: their channels as bits, local circuits first.
    pub masks: Vec<u32>,
    /// `[2Q][E]`: their edges as bits.
    pub edges: Vec<u32>,
    /// `[R][P]`: the weights trained without federation, as bits; empty where there are none.
    pub centralised: Vec<u32>,
    /// Whether the user has been told of circuits that are empty, of broken ones, and of rounds without any.
    pub told: [bool; 3],
}

impl Memory {
    /// The error for a state that does not fit.
    pub(crate) fn of_another() -> Error {
        let help = "accepted: the state of a federation of the same experiment and data";
        Error::config("state", "is that of another federation", help)
    }
}

impl Laboratory {
    /// The weights trained without federation, `[R][P]`, where there are any.
    pub fn centralised(&self) -> Option<&Buffer> {
        self.models.trained()
    }

    /// Masks and edges of the circuits that the next ones are compared with; none before the first.
    pub fn compared_with(&self) -> Vec<View<'_>> {
        self.before.iter().flat_map(|sets| [sets.masks.all(), sets.edges.all()]).collect()
    }

    /// The memory, from the words of [`Laboratory::compared_with`] and those of the weights trained without federation.
    pub fn memory(&self, compared_with: Vec<Vec<u32>>, centralised: Vec<u32>) -> Memory {
        let mut words = compared_with.into_iter();
        let pairs = self.before.iter().flat_map(|sets| &sets.pairs);
        let Told { empty, broken, absent } = self.told;
        Memory {
            pairs: pairs.flat_map(|p| [p.replicate as u32, p.client as u32, p.class, p.member as u32]).collect(),
            masks: words.next().unwrap_or_default(),
            edges: words.next().unwrap_or_default(),
            centralised,
            told: [empty, broken, absent],
        }
    }

    /// Goes on as one that remembers this, of `replicates` federations.
    ///
    /// # Errors
    /// [`Error::Config`] for a memory of another experiment, and what the device says.
    pub fn recall(&mut self, device: &dyn Device, memory: &Memory, replicates: usize) -> Result<()> {
        let Memory { pairs, masks, edges, centralised, told: [empty, broken, absent] } = memory;
        let trained = self.models.trained();
        let (rows, words) = (2 * (pairs.len() / 4), (self.masks.words, self.edges.words));
        let fits = pairs.len().is_multiple_of(4)
            && (masks.len(), edges.len()) == (rows * words.0, rows * words.1)
            && centralised.len() == trained.map_or(0, Buffer::words)
            && pairs.chunks_exact(4).all(|p| (p[0] as usize) < replicates && (p[2] as usize) < self.classes);
        if !fits {
            return Err(Memory::of_another());
        }
        if let Some(weights) = trained {
            device.write(weights.all(), centralised)?;
        }
        let pair = |p: &[u32]| {
            let [replicate, client, member] = [p[0], p[1], p[3]].map(|n| n as usize);
            Pair { replicate, client, class: p[2], member }
        };
        let sets = || -> Result<Sets> {
            Ok(Sets {
                pairs: pairs.chunks_exact(4).map(pair).collect(),
                masks: upload(device, "masks of circuits", masks)?,
                edges: upload(device, "edges of circuits", edges)?,
            })
        };
        self.before = if pairs.is_empty() { None } else { Some(sets()?) };
        self.told = Told { empty: *empty, broken: *broken, absent: *absent };
        Ok(())
    }
}
