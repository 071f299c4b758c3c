//! One experiment of a plan, from the folder it finds to its summary.

use std::borrow::Cow;
use std::path::PathBuf;

use rayon::prelude::*;

use super::checkpoint::{Origin, Store, lock};
use super::finished::Finished;
use super::folders::{Folders, folder_of};
use super::inputs::network;
use super::journal::Journal;
use super::resume::{Found, lengthen, look, recall};
use super::{Federation, Outcome, State};
use crate::config::{Bytes, Experiment};
use crate::data::Dataset;
use crate::device::Device;
use crate::error::Result;
use crate::federation::Budget;
use crate::model::Network;
use crate::report::begin::sweep;
use crate::report::{DataRecord, RoundFigures, Teller, html};

/// What is run, and where.
#[derive(Clone)]
pub(super) struct Job<'a> {
    pub device: &'a dyn Device,
    pub experiment: &'a Experiment,
    pub dataset: &'a Dataset,
    /// What the run's folder says of it.
    pub data: &'a DataRecord,
    /// As many run at the same time, each with as large a part of the memory.
    pub share: usize,
    /// The run's folder.
    pub path: PathBuf,
    /// What it is called beside others.
    pub label: &'a str,
    /// What the program took before any data were there, in bytes.
    pub program: Option<u64>,
    /// Whether to go on with what was ended in the folder.
    pub resume: bool,
}

/// What a job finds in its folder.
pub(super) struct Looked {
    pub network: Network,
    pub found: Found,
    origin: Origin,
    /// Those with circuits, and their channels; none where no circuits are looked for.
    layers: Vec<(String, usize)>,
}

impl Looked {
    /// Rounds done, where there is a checkpoint to go on from: it may be of the first models.
    pub fn round(&self) -> Option<usize> {
        self.state().map(|state| state.round)
    }

    /// What there is to go on from.
    pub fn state(&self) -> Option<&State> {
        match &self.found {
            Found::Ended { checkpoint, .. } => Some(&checkpoint.state),
            _ => None,
        }
    }

    fn names(&self) -> Vec<String> {
        self.layers.iter().map(|(name, _)| name.clone()).collect()
    }
}

/// A job whose rounds go on.
pub(super) struct Run<'a> {
    pub job: &'a Job<'a>,
    pub done: Finished,
    pub folders: Folders,
    pub journal: Journal,
}

impl<'a> Job<'a> {
    /// Looks at what is in the folder; `tell` is told what the user should know of that.
    pub fn look(&self, tell: &dyn Fn(&str)) -> Result<Looked> {
        let Job { device, experiment, dataset, data, .. } = *self;
        let network = network(experiment, dataset)?;
        let layers = experiment.circuits.as_ref().map_or_else(Vec::new, |_| network.gated_layers());
        let origin = Origin::new(device, experiment, &data.checksum)?;
        let mut looked = Looked { network, found: Found::New, origin, layers };
        if self.resume {
            looked.found = look(&self.path, &looked.origin, experiment, &looked.names(), tell)?;
        }
        Ok(looked)
    }

    /// The experiment within its part of the memory.
    pub fn in_share(&self) -> Cow<'a, Experiment> {
        if self.share <= 1 {
            return Cow::Borrowed(self.experiment);
        }
        let mut experiment = self.experiment.clone();
        let all = experiment.device.memory.map_or(Budget::DEFAULT_BYTES, |memory| memory.0);
        experiment.device.memory = Some(Bytes(all / self.share as u64));
        Cow::Owned(experiment)
    }

    /// Gives what was done of a run that is finished.
    pub fn recall(&self, looked: &Looked, progress: &dyn Teller) -> Result<Finished> {
        let Job { experiment, ref path, label, .. } = *self;
        let mut done = Finished::new(label.to_string(), looked.layers.clone());
        progress.message(&format!("{label}: all {} rounds are done, in {}", experiment.rounds, path.display()));
        recall(path, experiment, experiment.rounds, &mut done)?;
        // Where the run was ended between its summary and this.
        Store::new(path).finish()?;
        self.report()?;
        Ok(done)
    }

    /// Opens the folders and the journal, as the run finds them; `first` is the number of the first of its federations.
    pub fn open(&'a self, looked: &Looked, federation: &Federation<'_>, first: usize) -> Result<Run<'a>> {
        let Job { device, experiment, data, ref path, label, resume, .. } = *self;
        let Looked { origin, layers, found, .. } = looked;
        let mut done = Finished::new(label.to_string(), layers.clone());
        if let Some(state) = looked.state() {
            recall(path, experiment, state.round, &mut done)?;
        }
        // Before anything is written where another process may be at work; a new folder is nobody's yet.
        let held = if resume { Some(lock(path)?) } else { None };
        if let Found::Ended { checkpoint, longer: true } = found {
            lengthen(path, experiment, checkpoint.state.round)?;
        }
        let names = looked.names();
        let folders = Folders::create(path, device, experiment, data, (federation, first), &names, found.start())?;
        let held = held.map_or_else(|| lock(path), Ok)?;
        let mut journal = Journal::begin(path, origin.clone(), found.start(), held)?;
        if let Some(state) = looked.state() {
            journal.went_on_from(state.round);
        }
        Ok(Run { job: self, done, folders, journal })
    }

    /// The page of the run, made from the files of its folder; where there are several seeds, each has one too.
    fn report(&self) -> Result<()> {
        let Job { experiment, ref path, resume, .. } = *self;
        let mut folders = vec![path.clone()];
        if experiment.seeds.several() {
            folders.extend((0..experiment.seeds.all().len()).map(|i| folder_of(experiment, i, path)));
        }
        let write = |folder: &PathBuf| {
            // Where the run was ended while it wrote this.
            if resume {
                sweep(folder)?;
            }
            html::write(std::slice::from_ref(folder), folder).map(drop)
        };
        folders.par_iter().try_for_each(write)
    }
}

impl Run<'_> {
    /// Writes the outcomes of a round, of each of the experiment's seeds.
    pub fn land(&mut self, federation: &Federation<'_>, outcomes: &[Outcome]) -> Result<&RoundFigures> {
        let figures = self.done.add(outcomes);
        self.folders.write_round(federation, outcomes, figures)?;
        Ok(figures)
    }

    /// Writes what follows the rounds.
    pub fn finish(self) -> Result<Finished> {
        let Self { job, done, folders, journal } = self;
        done.draw(job.experiment, &job.path)?;
        // Last of all: with its summary a run is finished.
        folders.write_summaries(job.experiment, &done)?;
        journal.finish()?;
        job.report()?;
        Ok(done)
    }
}
