//! A checkpoint: the state of a run after a round, how long its files were, and what it is the run of. One safetensors
//! file with a checksum; whatever is in it is checked before it is used.

mod origin;
mod store;

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::State;
use crate::circuits::Memory;
use crate::error::{Error, Result};

pub(super) use origin::Origin;
pub(super) use store::{Newest, Store, lock};

/// Of this layout; another number is another layout.
const FORMAT: u32 = 1;

/// Bytes of a file's own description, at most. It names a few tensors and has a number for each growing file of each
/// seed; parsed, it takes some ten times as much.
const HEADER_LIMIT: usize = 1 << 20;

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
    /// How long the files were.
    pub marks: Marks,
}

/// How long each growing file of a run was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marks {
    /// Of the run's history.
    pub history: u64,
    /// Of the folder above several seeds; none where there is one seed.
    pub all: Vec<u64>,
    /// Of each seed's folder.
    pub seeds: Vec<Vec<u64>>,
}

/// What the metadata say.
#[derive(Serialize, Deserialize)]
struct Description {
    format: u32,
    origin: Origin,
    round: usize,
    told: [bool; 3],
    marks: Marks,
}

/// The tensors of the file, `[n]` each, in the order in which the checksum takes them: the resolved experiment as text,
/// and the members of [`State`] and [`Memory`].
const TENSORS: [(&str, Dtype); 6] = [
    ("experiment", Dtype::U8),
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
    /// [`Error::Config`] for more seeds than the description of a file has room for.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let Self { origin, state, marks } = self;
        let (memory, told) = (&state.memory, state.memory.told);
        let description =
            Description { format: FORMAT, origin: origin.clone(), round: state.round, told, marks: marks.clone() };
        let fault = |e: &dyn std::fmt::Display| Error::config("checkpoint", format!("cannot be written: {e}"), HELP);
        let description = serde_json::to_string(&description).map_err(|e| fault(&e))?;
        if description.len() > HEADER_LIMIT / 4 {
            let problem = format!("a checkpoint of {} seeds cannot be described", marks.seeds.len());
            return Err(Error::config("seeds", problem, "give fewer seeds in one run"));
        }
        let words = [&state.global, &memory.centralised, &memory.pairs, &memory.masks, &memory.edges];
        let mut parts = vec![origin.experiment.clone().into_bytes()];
        parts.extend(words.map(|words| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>()));
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let mut views = BTreeMap::new();
        for ((name, dtype), part) in TENSORS.into_iter().zip(&parts) {
            let shape = vec![part.len() * 8 / dtype.bitsize()];
            views.insert(name, TensorView::new(dtype, shape, part).map_err(|e| fault(&e))?);
        }
        let sum = checksum(&description, &parts);
        let metadata = HashMap::from([(RUN.to_string(), description), (CHECKSUM.to_string(), sum)]);
        safetensors::serialize(views, Some(metadata)).map_err(|e| fault(&e))
    }

    /// From the bytes of a file, which may hold anything; or why not.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Self, String> {
        let unreadable = |e: &dyn std::fmt::Display| format!("is no whole checkpoint ({e})");
        let header = bytes.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
        if header > HEADER_LIMIT as u64 {
            return Err(unreadable(&"its description is too long"));
        }
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| unreadable(&e))?;
        let metadata = metadata.metadata().clone().unwrap_or_default();
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
        if checksum(description, &parts) != *sum {
            return Err("is damaged: its checksum is another".into());
        }
        let Description { format, origin, round, told, marks } =
            serde_json::from_str(description).map_err(|e| unreadable(&e))?;
        if format != FORMAT {
            return Err(format!("has format {format}, and this program reads format {FORMAT}"));
        }
        let experiment = String::from_utf8(parts[0].to_vec()).map_err(|e| unreadable(&e))?;
        let words = |i: usize| -> Vec<u32> {
            parts[i].chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        let memory = Memory { centralised: words(2), pairs: words(3), masks: words(4), edges: words(5), told };
        Ok(Self { origin: Origin { experiment, ..origin }, state: State { round, global: words(1), memory }, marks })
    }
}

/// What to do about a checkpoint that cannot be written, which no user can bring about.
const HELP: &str = "this is a fault in fedcircuit";

/// SHA-256 of all that a checkpoint says, as hexadecimal digits.
fn checksum(description: &str, parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in [&[description.as_bytes()], parts].concat() {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    origin::hex(&hash.finalize())
}

#[cfg(test)]
mod tests;
