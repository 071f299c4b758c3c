//! What a laboratory remembers from round to round, so that another can go on where it stopped.

use std::ops::Range;

use super::Laboratory;
use crate::circuits::notes::Told;
use crate::circuits::pair::Pair;
use crate::circuits::round::Sets;
use crate::device::{Buffer, Device, View};
use crate::error::{Error, Result};
use crate::federation::upload;

/// Everything of one experiment in a laboratory that outlives a round and does not follow from the experiment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// `[Q][3]`: replicate, client and class of each pair whose circuits the next ones are compared with; empty where there
    /// are none yet.
    pub pairs: Vec<u32>,
    /// `[2Q][W]`: their channels as bits, local circuits first.
    pub masks: Vec<u32>,
    /// `[2Q][E]`: their edges as bits.
    pub edges: Vec<u32>,
    /// `[R][P]`: the weights trained without federation, as bits; empty where there are none.
    pub centralised: Vec<u32>,
    /// Whether the user has been told of circuits that are empty, of broken ones, of rounds without any, of a control that
    /// diverged, and of comparisons of which a sample is listed.
    pub told: [bool; 5],
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

    /// The memory of each experiment side by side, from the words of [`Laboratory::compared_with`] and those of the weights
    /// trained without federation, with `row` words of each.
    pub fn memories(&self, compared_with: &[Vec<u32>], centralised: &[u32], row: usize) -> Vec<Memory> {
        let pairs = self.before.as_ref().map_or(&[][..], |sets| &sets.pairs);
        let own = |words: Option<&Vec<u32>>, part: &Range<usize>| -> Vec<u32> {
            let rows = words.into_iter().flat_map(|words| words.chunks_exact(words.len() / (2 * pairs.len())));
            let own = rows.enumerate().filter(|(row, _)| part.contains(&pairs[row % pairs.len()].replicate));
            own.flat_map(|(_, words)| words.iter().copied()).collect()
        };
        let memory = |(part, told): (&Range<usize>, &Told)| {
            let pairs = pairs.iter().filter(|pair| part.contains(&pair.replicate));
            let rows = if centralised.is_empty() { 0..0 } else { part.start * row..part.end * row };
            Memory {
                pairs: pairs.flat_map(|p| [(p.replicate - part.start) as u32, p.client as u32, p.class]).collect(),
                masks: own(compared_with.first(), part),
                edges: own(compared_with.get(1), part),
                centralised: centralised[rows].to_vec(),
                told: [told.empty, told.broken, told.absent, told.diverged, told.sampled],
            }
        };
        self.parts.iter().zip(&self.told).map(memory).collect()
    }

    /// Goes on as one that remembers this of the experiments side by side.
    ///
    /// # Errors
    /// [`Error::Config`] for a memory of another experiment, and what the device says.
    pub fn recall(&mut self, device: &dyn Device, memories: &[&Memory]) -> Result<()> {
        let row = self.models.trained().map_or(0, |all| all.words() / self.parts.iter().map(Range::len).sum::<usize>());
        let fits = memories.len() == self.parts.len()
            && memories.iter().zip(&self.parts).all(|(memory, part)| self.fits(memory, part.len(), row));
        if !fits {
            return Err(Memory::of_another());
        }
        if let Some(weights) = self.models.trained() {
            device.write(weights.all(), &memories.iter().flat_map(|m| m.centralised.clone()).collect::<Vec<_>>())?;
        }
        let joined = memories.iter().zip(&self.parts).flat_map(|(memory, part)| memory.pairs(part.start));
        let pairs: Vec<Pair> = joined.collect();
        let join = |of: fn(&Memory) -> &[u32]| -> Vec<u32> {
            let half = |second: bool| memories.iter().flat_map(move |memory| halves(of(memory))[usize::from(second)]);
            half(false).chain(half(true)).copied().collect()
        };
        self.before = None;
        if !pairs.is_empty() {
            let masks = upload(device, "masks of circuits", &join(|memory| &memory.masks))?;
            let edges = upload(device, "edges of circuits", &join(|memory| &memory.edges))?;
            self.before = Some(Sets { pairs, masks, edges });
        }
        let told =
            |[empty, broken, absent, diverged, sampled]: [bool; 5]| Told { empty, broken, absent, diverged, sampled };
        self.told = memories.iter().map(|memory| told(memory.told)).collect();
        Ok(())
    }

    /// Whether a memory can be that of `replicates` federations, of which rows of `row` words are trained without.
    fn fits(&self, memory: &Memory, replicates: usize, row: usize) -> bool {
        let Memory { pairs, masks, edges, centralised, .. } = memory;
        let rows = 2 * (pairs.len() / 3);
        pairs.len().is_multiple_of(3)
            && (masks.len(), edges.len()) == (rows * self.masks.words, rows * self.edges.words)
            && centralised.len() == replicates * row
            && pairs.chunks_exact(3).all(|p| (p[0] as usize) < replicates && (p[2] as usize) < self.classes)
    }
}

impl Memory {
    /// The pairs as they are where the first replicate is number `first`. Where they stood in their round nobody asks, nor
    /// what else the clients had.
    fn pairs(&self, first: usize) -> impl Iterator<Item = Pair> {
        let pair = move |p: &[u32]| Pair {
            replicate: first + p[0] as usize,
            client: p[1] as usize,
            class: p[2],
            member: 0,
            alone: false,
        };
        self.pairs.chunks_exact(3).map(pair)
    }
}

/// What belongs to local circuits, and what to global ones.
fn halves(words: &[u32]) -> [&[u32]; 2] {
    let (local, global) = words.split_at(words.len() / 2);
    [local, global]
}
