//! What stays of a round's weights: those that are saved come back with its read-back, and the last local models may stay
//! on the device.

use std::ops::Range;

use crate::circuits::analyses::LocalModel;
use crate::config::Experiment;
use crate::device::{Buffer, View, f32s};
use crate::error::{Error, Result, mib};
use crate::federation::{LocalModels, Member, Observer, Pulse, Stage};
use crate::model::Weights;

/// A replicate's global weights, and its clients' by number, as far as they were kept.
pub(super) type Kept = (Option<Vec<f32>>, Vec<(usize, Vec<f32>)>);

/// Bytes of local models that stay to the end of a round of so many `clients`, in rounds that are saved or analysed.
///
/// # Errors
/// [`Error::TooLarge`] when the device has no room for them: smaller waves would not help.
pub(super) fn kept_bytes(stage: Stage<'_>, experiment: &Experiment, clients: impl FnOnce() -> usize) -> Result<u64> {
    let saved = experiment.output.save_clients;
    let analysed = experiment.circuits.as_ref().is_some_and(|circuits| !circuits.analyses.is_empty());
    if !saved && !analysed {
        return Ok(0);
    }
    let clients = clients();
    let bytes = 4 * (clients * stage.network.layout.words) as u64;
    let key = if saved { "output.save_clients" } else { "circuits.analyses" };
    let refused = |needed, limit, or: &str| Error::TooLarge {
        what: format!("keeping the local models of {clients} clients, for {key},"),
        needed,
        limit,
        help: format!("leave {key} out, draw fewer clients a round, or {or}"),
    };
    // All that is saved comes back in one buffer.
    let largest = stage.device.info().max_buffer_bytes;
    if saved && bytes > largest {
        let limit = format!("the device allows {}", mib(largest));
        return Err(refused(format!("{} in one buffer", mib(bytes)), limit, "run with --device cpu"));
    }
    if bytes > stage.budget.bytes {
        return Err(refused(
            mib(bytes),
            format!("device.memory allows {}", mib(stage.budget.bytes)),
            "raise device.memory",
        ));
    }
    Ok(bytes)
}

/// Brings weights back with the round's read-back, in the rounds that are saved, and leaves the local models of the last
/// round on the device where there is something to do with them.
#[derive(Default)]
pub(super) struct Keeper {
    pub wanted: bool,
    pub clients: bool,
    pub stays: bool,
    /// P.
    row: usize,
    /// Replicate and client, in the order of the waves.
    members: Vec<(usize, usize)>,
    /// One copy a wave, so that none exceeds the device's largest buffer.
    waves: Vec<Buffer>,
    global: Option<Buffer>,
    /// By replicate; none in rounds that are not saved.
    pub words: Vec<Kept>,
}

impl Keeper {
    /// A replicate's local models on the device, of `words` words each, by client.
    pub fn locals(&self, replicate: usize, words: usize) -> Vec<LocalModel<'_>> {
        let rows = self.waves.iter().flat_map(|wave| (0..wave.words() / words).map(move |row| (wave.all(), row)));
        let models = self.members.iter().zip(rows).filter(|((of, _), _)| *of == replicate);
        let mut locals: Vec<LocalModel<'_>> =
            models.map(|((_, client), (weights, row))| LocalModel { client: *client, weights, row }).collect();
        locals.sort_by_key(|local| local.client);
        locals
    }
}

impl Observer for Keeper {
    fn cost(&self, _: Stage<'_>, _: &[Member<'_>], _: usize) -> u64 {
        0
    }

    fn before_round(&mut self, stage: Stage<'_>, members: &[Member<'_>], _: usize) -> Result<()> {
        self.row = stage.network.layout.words;
        self.members = members.iter().map(|m| (m.replicate, m.client)).collect();
        self.words = vec![Kept::default(); stage.replicates];
        self.waves.clear();
        self.global = None;
        Ok(())
    }

    fn after_local(&mut self, stage: Stage<'_>, models: LocalModels<'_>, _: usize, _: &mut Pulse<'_>) -> Result<()> {
        if self.stays || (self.wanted && self.clients) {
            let copy = stage.device.alloc("kept local weights", models.weights.values.words)?;
            stage.device.copy(models.weights.values, copy.all())?;
            self.waves.push(copy);
        }
        Ok(())
    }

    fn after_aggregate(
        &mut self,
        _: Stage<'_>,
        global: Weights<'_>,
        _: &[Member<'_>],
        _: &mut Pulse<'_>,
    ) -> Result<()> {
        self.global = self.wanted.then(|| global.values.buffer.clone());
        Ok(())
    }

    fn results(&self) -> Vec<View<'_>> {
        let waves = if self.wanted && self.clients { &self.waves[..] } else { &[] };
        self.global.iter().chain(waves).map(Buffer::all).collect()
    }

    fn words_of(&self, replicates: &Range<usize>) -> usize {
        let members = self.members.iter().filter(|(replicate, _)| replicates.contains(replicate)).count();
        let rows = |wanted: bool, rows: usize| if wanted { rows } else { 0 };
        self.row * (rows(self.wanted, replicates.len()) + rows(self.wanted && self.clients, members))
    }

    fn absorb(&mut self, words: Vec<Vec<u32>>) -> Result<()> {
        let mut words = words.into_iter();
        let rows = |words: Vec<u32>| words.chunks(self.row).map(|w| f32s(w).to_vec()).collect::<Vec<_>>();
        for (kept, row) in self.words.iter_mut().zip(words.next().into_iter().flat_map(rows)) {
            kept.0 = Some(row);
        }
        for ((replicate, client), row) in self.members.iter().zip(words.flat_map(rows)) {
            self.words[*replicate].1.push((*client, row));
        }
        self.words.iter_mut().for_each(|kept| kept.1.sort_by_key(|(client, _)| *client));
        if !self.stays {
            self.waves.clear();
        }
        Ok(())
    }
}
