//! What a run writes: one run folder, or for several seeds one in each seed's folder and what they say together above.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::checkpoint::Marks;
use super::finished::Finished;
use super::{Federation, Outcome};
use crate::circuits::analyses::Analysed;
use crate::config::Experiment;
use crate::device::Device;
use crate::error::Result;
use crate::model::save;
use crate::report::append::Mark;
use crate::report::{
    Begin, DataRecord, DeviceRecord, Environment, Events, RoundFigures, RoundRows, RunFolder, SeedsFolder,
    SeedsSummary, Summary, seed_folder,
};

/// The folder of each seed, in their order, and that of all where there are several.
pub(super) struct Folders {
    seeds: Vec<RunFolder>,
    /// Of each seed, where they are wanted.
    events: Vec<Events>,
    all: Option<SeedsFolder>,
}

/// The folder of the `i`-th seed in that of the whole run.
pub(super) fn folder_of(experiment: &Experiment, i: usize, path: &Path) -> PathBuf {
    let seeds = &experiment.seeds;
    if seeds.several() { seed_folder(path, seeds.all()[i]) } else { path.into() }
}

/// How a run begins in its folders.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start<'a> {
    /// They must be free.
    New,
    /// One was ended there before its first checkpoint.
    Again,
    /// One was ended there later: the files go back to these marks.
    At(&'a Marks),
}

impl<'a> Start<'a> {
    /// The same for one folder, whose part of the marks `of` picks.
    pub fn of(self, of: impl Fn(&'a Marks) -> &'a [Mark]) -> Begin<'a> {
        match self {
            Start::New => Begin::New,
            Start::Again => Begin::Again,
            Start::At(marks) => Begin::At(of(marks)),
        }
    }

    /// The same for the `i`-th of `seeds` folders.
    fn seed(self, i: usize, seeds: usize) -> Begin<'a> {
        self.of(|marks| marks.seed(i, seeds))
    }
}

impl Folders {
    /// Makes the folders, with all files that are known before the first round; or finds them as an ended run left them.
    /// The experiment's federations are those from `first` on.
    pub fn create(
        path: &Path,
        device: &dyn Device,
        experiment: &Experiment,
        data: &DataRecord,
        (federation, first): (&Federation<'_>, usize),
        gated_layers: &[String],
        start: Start<'_>,
    ) -> Result<Self> {
        let environment = environment(device, federation.wave_size(), data);
        let begins = !matches!(start, Start::At(_));
        let mut all = None;
        if experiment.seeds.several() {
            let folder = SeedsFolder::create(path, &experiment.to_toml()?, start.of(|marks| &marks.all))?;
            if begins || !environment.is_told_in(path) {
                folder.write_environment(&environment)?;
            }
            all = Some(folder);
        }
        let (mut seeds, mut events, count) = (Vec::new(), Vec::new(), experiment.seeds.all().len());
        for (i, seed) in experiment.seeds.all().iter().enumerate() {
            let toml = experiment.with_seed(*seed).to_toml()?;
            let folder = RunFolder::create(&folder_of(experiment, i, path), &toml, gated_layers, start.seed(i, count))?;
            if begins || !environment.is_told_in(folder.path()) {
                folder.write_environment(&environment)?;
            }
            // Known of the experiment: written again, it is what it was.
            folder.write_partition(federation.class_counts(first + i))?;
            if experiment.output.tensorboard {
                events.push(Events::begin(folder.path(), start.seed(i, count))?);
            }
            seeds.push(folder);
        }
        Ok(Self { seeds, events, all })
    }

    /// Refuses folders in which a growing file is missing or not as these marks say.
    pub fn check(path: &Path, experiment: &Experiment, gated_layers: &[String], marks: &Marks) -> Result<()> {
        if experiment.seeds.several() {
            SeedsFolder::check(path, &marks.all)?;
        }
        let seeds = experiment.seeds.all().len();
        (0..seeds).try_for_each(|i| {
            let (folder, marks) = (folder_of(experiment, i, path), marks.seed(i, seeds));
            RunFolder::check(&folder, gated_layers, marks)?;
            if experiment.output.tensorboard { Events::check(&folder, marks) } else { Ok(()) }
        })
    }

    /// What the growing files hold; without the run's history.
    pub fn marks(&mut self) -> Marks {
        let all = self.all.as_ref().map(SeedsFolder::marks).unwrap_or_default();
        let mut seeds = Vec::new();
        for (i, folder) in self.seeds.iter_mut().enumerate() {
            seeds.extend(folder.marks());
            // Last, where `Events` looks for it.
            seeds.extend(self.events.get(i).map(Events::mark));
        }
        Marks { all, seeds, ..Marks::default() }
    }

    /// Waits until everything written so far would survive a failure of power.
    pub fn sync(&mut self) -> Result<()> {
        self.seeds.par_iter_mut().try_for_each(RunFolder::sync)?;
        self.events.iter_mut().try_for_each(Events::sync)?;
        self.all.as_mut().map_or(Ok(()), SeedsFolder::sync)
    }

    /// A round of every seed, and last what they say together: a round that stands there is in every seed's folder.
    pub fn write_round(
        &mut self,
        federation: &Federation<'_>,
        outcomes: &[Outcome],
        figures: &RoundFigures,
    ) -> Result<()> {
        for (i, (folder, outcome)) in self.seeds.iter_mut().zip(outcomes).enumerate() {
            write(folder, self.events.get_mut(i), federation, outcome)?;
        }
        self.all.as_mut().map_or(Ok(()), |all| all.write_round(figures))
    }

    /// The analyses of each seed after `round`, the last.
    pub fn write_analyses(&self, round: usize, analysed: &[Vec<Analysed>]) -> Result<()> {
        self.seeds.iter().zip(analysed).try_for_each(|(folder, done)| folder.write_analyses(round, done))
    }

    /// `summary.json` of each seed and of all.
    pub fn write_summaries(&self, experiment: &Experiment, done: &Finished) -> Result<()> {
        for ((folder, seed), of) in self.seeds.iter().zip(experiment.seeds.all()).zip(&done.seeds) {
            folder.write_summary(&Summary::new(&experiment.name, *seed, &of.records, &of.overlaps, &of.fates))?;
        }
        let Some(all) = &self.all else { return Ok(()) };
        let records = done.seeds.first().map(|seed| &seed.records[..]).unwrap_or_default();
        all.write_summary(&SeedsSummary::new(&experiment.name, experiment.seeds.all(), records, &done.rounds))
    }
}

fn write(
    folder: &mut RunFolder,
    events: Option<&mut Events>,
    federation: &Federation<'_>,
    outcome: &Outcome,
) -> Result<()> {
    let (layout, round) = (federation.layout(), outcome.record.round);
    // Weights first: a round that stands in rounds.jsonl has all its files.
    if let Some(weights) = &outcome.weights {
        folder.write_model(round, &save(layout, weights)?)?;
    }
    for (client, weights) in &outcome.client_weights {
        folder.write_client_model(round, *client, &save(layout, weights)?)?;
    }
    let Outcome { record, circuits, controls, overlaps, overlap_means, .. } = outcome;
    let lacking = &federation.lacking(record, circuits);
    let rows = RoundRows { round: record, circuits, lacking, controls, overlaps, means: overlap_means };
    // As the weights.
    events.map_or(Ok(()), |events| events.write_round(&rows))?;
    folder.write_round(&rows)
}

fn environment(device: &dyn Device, wave_size: usize, data: &DataRecord) -> Environment {
    let info = device.info();
    Environment {
        version: env!("CARGO_PKG_VERSION").into(),
        device: DeviceRecord { name: info.name.clone(), backend: info.backend.clone(), driver: info.driver.clone() },
        limits: BTreeMap::from([
            ("max_binding_bytes".to_string(), info.max_binding_bytes),
            ("max_buffer_bytes".to_string(), info.max_buffer_bytes),
        ]),
        wave_size,
        threads: (info.threads > 0).then_some(info.threads),
        data: data.clone(),
    }
}
