//! A checkpoint: the state of a run after a round, what its files held, and what it is the run of. One safetensors
//! file with a checksum; whatever is in it is checked before it is used.

mod origin;
mod store;

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::State;
use crate::circuits::Memory;
use crate::data::hex;
use crate::error::{Error, Result};
use crate::report::append::Mark;

pub(super) use origin::Origin;
pub(super) use store::{Newest, Store, lock, remove};

/// Of this layout; another number is another layout.
const FORMAT: u32 = 4;

/// Bytes of a file's header, at most: it names a few tensors and what the run is of. Parsed, a hostile one takes some
/// twenty times as much.
const HEADER_LIMIT: usize = 256 << 10;

/// The keys of its metadata.
const RUN: &str = "run";
const CHECKSUM: &str = "sha256";

/// A run after a round.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Checkpoint {
    /// What it is the run of.
    pub origin: Origin,
    /// The federations' state.
    pub state: State,
    /// What the files held.
    pub marks: Marks,
}

/// What each growing file of a run held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Of the run's history.
    pub history: Mark,
    /// Of the folder above several seeds; none where there is one seed.
    pub all: Vec<Mark>,
    /// Of the first seed's folder, then of the second's, ...
    pub seeds: Vec<Mark>,
}

impl Marks {
    /// Those of the `i`-th of `seeds` folders.
    pub fn seed(&self, i: usize, seeds: usize) -> &[Mark] {
        let each = self.seeds.len() / seeds.max(1);
        self.seeds.get(i * each..(i + 1) * each).unwrap_or_default()
    }

    /// How many there are of all seeds, then the history's, these, and those of the seeds: length and sum of each.
    fn encode(&self) -> Vec<u8> {
        let marks = [self.history].into_iter().chain(self.all.iter().chain(&self.seeds).copied());
        let words = marks.flat_map(|Mark { length, sum }| [length, sum]);
        [self.all.len() as u64].into_iter().chain(words).flat_map(u64::to_le_bytes).collect()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let words: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let (all, words) = words.split_first()?;
        let marks: Vec<Mark> =
            words.as_chunks().0.iter().map(|[length, sum]| Mark { length: *length, sum: *sum }).collect();
        let (history, rest) = marks.split_first()?;
        let (all, seeds) = rest.split_at_checked(usize::try_from(*all).ok()?)?;
        Some(Self { history: *history, all: all.to_vec(), seeds: seeds.to_vec() })
    }
}

/// What the metadata say.
#[derive(Serialize, Deserialize)]
struct Description {
    format: u32,
    origin: Origin,
    round: usize,
    told: [bool; 5],
}

/// The same of any layout.
#[derive(Deserialize)]
struct Numbered {
    format: u32,
}

/// The tensors of the file, `[n]` each, in the order in which the checksum takes them: the resolved experiment as text,
/// the marks of the files, and the members of [`State`] and [`Memory`].
const TENSORS: [(&str, Dtype); 7] = [
    ("experiment", Dtype::U8),
    ("marks", Dtype::U64),
    ("global", Dtype::F32),
    ("centralised", Dtype::F32),
    ("circuits.pairs", Dtype::U32),
    ("circuits.masks", Dtype::U32),
    ("circuits.edges", Dtype::U32),
];

impl Checkpoint {
    /// The bytes of its file.
    ///
    /// # Errors
    /// [`Error::Config`] for what the format cannot hold, which no user can bring about.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let Self { origin, state, marks } = self;
        let memory = &state.memory;
        let description = Description { format: FORMAT, origin: origin.clone(), round: state.round, told: memory.told };
        let description = serde_json::to_string(&description).map_err(|e| unwritable(&e))?;
        let words = [&state.global, &memory.centralised, &memory.pairs, &memory.masks, &memory.edges];
        let mut parts = vec![origin.experiment.clone().into_bytes()];
        parts.push(marks.encode());
        parts.extend(words.map(|words| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>()));
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let mut views = BTreeMap::new();
        for ((name, dtype), part) in TENSORS.into_iter().zip(&parts) {
            let shape = vec![part.len() * 8 / dtype.bitsize()];
            views.insert(name, TensorView::new(dtype, shape, part).map_err(|e| unwritable(&e))?);
        }
        let sum = checksum(&description, &parts);
        let metadata = HashMap::from([(RUN.to_string(), description), (CHECKSUM.to_string(), sum)]);
        safetensors::serialize(views, Some(metadata)).map_err(|e| unwritable(&e))
    }

    /// From the bytes of a file, which may hold anything; or why not.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Self, String> {
        let unreadable = |e: &dyn std::fmt::Display| format!("is no whole checkpoint ({e})");
        let header = bytes.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
        if header > HEADER_LIMIT as u64 {
            return Err(unreadable(&"its description is too long"));
        }
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| unreadable(&e))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        drop(header);
        let (Some(description), Some(sum)) = (metadata.get(RUN), metadata.get(CHECKSUM)) else {
            return Err("is no checkpoint, but some other safetensors file".into());
        };
        let file = SafeTensors::deserialize(bytes).map_err(|e| unreadable(&e))?;
        let mut parts = Vec::new();
        for (name, dtype) in TENSORS {
            let tensor = file.tensor(name).map_err(|e| unreadable(&e))?;
            if tensor.dtype() != dtype {
                return Err(unreadable(&format!("{name} is {:?}, not {dtype:?}", tensor.dtype())));
            }
            parts.push(tensor.data());
        }
        // A fuzzer finds no checksums; what lies behind this one has to stand alone anyway.
        if !cfg!(fuzzing) && checksum(description, &parts) != *sum {
            return Err("is damaged: its checksum is another".into());
        }
        // Of another layout the rest may not be readable either.
        let Numbered { format } = serde_json::from_str(description).map_err(|e| unreadable(&e))?;
        if format != FORMAT {
            return Err(format!("has format {format}, and this program reads format {FORMAT}"));
        }
        let Description { origin, round, told, .. } = serde_json::from_str(description).map_err(|e| unreadable(&e))?;
        let experiment = String::from_utf8(parts[0].to_vec()).map_err(|e| unreadable(&e))?;
        let words =
            |i: usize| -> Vec<u32> { parts[i].as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect() };
        let marks = Marks::decode(parts[1]).ok_or_else(|| unreadable(&"it lacks marks of files"))?;
        let memory = Memory { centralised: words(3), pairs: words(4), masks: words(5), edges: words(6), told };
        Ok(Self { origin: Origin { experiment, ..origin }, state: State { round, global: words(2), memory }, marks })
    }
}

impl State {
    /// The state in the bytes of a checkpoint's file, whatever it is the run of; they may hold anything, and reading them
    /// takes at most twice as much memory and 16 MiB.
    ///
    /// # Errors
    /// [`Error::Config`] that says why they hold none.
    pub fn from_checkpoint(bytes: &[u8]) -> Result<Self> {
        let read = Checkpoint::decode(bytes).map(|checkpoint| checkpoint.state);
        read.map_err(|problem| Error::config("checkpoint", problem, "accepted: a file of a run's folder checkpoint/"))
    }
}

fn unwritable(error: &dyn std::fmt::Display) -> Error {
    Error::config("checkpoint", format!("cannot be written: {error}"), "this is a fault in fedcircuit")
}

/// SHA-256 of all that a checkpoint says, as hexadecimal digits.
fn checksum(description: &str, parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in [&[description.as_bytes()], parts].concat() {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests;
