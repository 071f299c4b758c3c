//! One experiment of a plan, from the folder it finds to its summary.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;

use super::checkpoint::{Origin, Store, lock};
use super::finished::Finished;
use super::folders::{Folders, LISTED_CLIENTS, folder_of};
use super::journal::Journal;
use super::plan::{HostMemory, told};
use super::resume::{Found, lengthen, look, recall};
use super::{Federation, Outcome};
use crate::config::{Bytes, Experiment};
use crate::data::Dataset;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::federation::{Budget, RoundPlan};
use crate::report::begin::sweep;
use crate::report::{ClientRecord, Estimate, Figure, News, RoundFigures, Teller, html};

/// What is run, and where.
#[derive(Clone)]
pub(super) struct Job<'a> {
    pub device: &'a dyn Device,
    pub experiment: &'a Experiment,
    pub dataset: &'a Dataset,
    /// Its checksum, in hexadecimal digits.
    pub checksum: &'a str,
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

/// A job of which nothing is written yet.
pub(super) struct Begun<'a> {
    federation: Federation<'a>,
    origin: Origin,
    /// Those with circuits, and their channels; none where no circuits are looked for.
    layers: Vec<(String, usize)>,
    found: Found,
}

impl Begun<'_> {
    /// What a round will take.
    pub fn plan(&self) -> RoundPlan {
        self.federation.plan()
    }
}

impl<'a> Job<'a> {
    /// Prepares everything, and looks at what is in the folder; `tell` is told what the user should know of that.
    pub fn begin(&self, tell: &dyn Fn(&str)) -> Result<Begun<'a>> {
        let Job { device, experiment, dataset, checksum, .. } = *self;
        let federation = Federation::new(device, &self.in_share(), dataset)?;
        let layers = experiment.circuits.as_ref().map_or_else(Vec::new, |_| federation.gated_layers().to_vec());
        let origin = Origin::new(device, experiment, checksum)?;
        let found =
            if self.resume { look(&self.path, &origin, experiment, &names(&layers), tell)? } else { Found::New };
        Ok(Begun { federation, origin, layers, found })
    }

    /// The experiment within its part of the memory.
    fn in_share(&self) -> Cow<'a, Experiment> {
        if self.share <= 1 {
            return Cow::Borrowed(self.experiment);
        }
        let mut experiment = self.experiment.clone();
        let all = experiment.device.memory.map_or(Budget::DEFAULT_BYTES, |memory| memory.0);
        experiment.device.memory = Some(Bytes(all / self.share as u64));
        Cow::Owned(experiment)
    }

    /// Runs all rounds that are left, and what follows them.
    pub fn run(&self, progress: &dyn Teller, stop: &AtomicBool) -> Result<Finished> {
        let Job { experiment, ref path, label, .. } = *self;
        let mut begun = self.begin(&|line| progress.message(line))?;
        self.tell_plan(&begun.federation, progress);
        let mut done = Finished::new(label.to_string(), begun.layers.clone());
        if let Found::Finished = begun.found {
            progress.message(&format!("{label}: all {} rounds are done, in {}", experiment.rounds, path.display()));
            recall(path, experiment, experiment.rounds, &mut done)?;
            // Where the run was ended between its summary and this.
            Store::new(path).finish()?;
            self.report()?;
            return Ok(done);
        }
        if let Found::Ended { checkpoint, .. } = &begun.found {
            begun.federation.restore(&checkpoint.state)?;
            recall(path, experiment, checkpoint.state.round, &mut done)?;
        }
        let (mut folders, mut journal) = self.open(&begun)?;
        let federation = &mut begun.federation;
        progress.start_run(&title(experiment), experiment.rounds);
        match &begun.found {
            Found::Ended { .. } => progress.resume_run(federation.rounds_done()),
            _ => journal.before_rounds(federation, &mut folders)?,
        }
        federation.take_notes().iter().for_each(|note| progress.once(&format!("note: {note}")));
        for round in federation.rounds_done() + 1..=experiment.rounds {
            progress.start_round(round, usize::try_from(federation.cost()).unwrap_or(usize::MAX));
            let outcomes = match federation.round_with(stop, &mut |steps| progress.advance(steps as usize)) {
                Err(error @ Error::Interrupted { .. }) => {
                    journal.interrupted(federation, &mut folders)?;
                    return Err(error);
                }
                outcomes => outcomes?,
            };
            let figures = done.add(&outcomes);
            folders.write_round(federation, &outcomes, figures)?;
            let news = news(figures, &outcomes, experiment.training.batch_size);
            progress.finish_round(&round_line(figures, experiment.rounds), news);
            journal.after_round(federation, &mut folders, &done)?;
            tell_notes(federation, progress);
        }
        analyse(federation, experiment, &folders, progress, stop)?;
        // Pictures take memory of their own, and the models and waves have done their work.
        drop(begun);
        self.device.wait()?;
        done.draw(experiment, path)?;
        // Last of all: with its summary a run is finished.
        folders.write_summaries(experiment, &done)?;
        journal.finish()?;
        self.report()?;
        Ok(done)
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

    /// What the run will take.
    fn tell_plan(&self, federation: &Federation<'_>, progress: &dyn Teller) {
        let plan = federation.plan();
        let host = HostMemory::new(self.program, self.device, &plan, self.dataset, federation.populations());
        told(self.experiment, &plan, &host).iter().for_each(|line| progress.once(line));
        let clients = self.experiment.partition.num_clients();
        if clients > LISTED_CLIENTS {
            progress.once(&format!("note: partition.csv has the first {LISTED_CLIENTS} of {clients} clients"));
        }
    }

    /// The folders and the journal, as the run finds them.
    fn open(&self, begun: &Begun<'_>) -> Result<(Folders, Journal)> {
        let Job { device, experiment, ref path, resume, .. } = *self;
        let Begun { federation, origin, layers, found } = begun;
        // Before anything is written where another process may be at work; a new folder is nobody's yet.
        let held = if resume { Some(lock(path)?) } else { None };
        if let Found::Ended { checkpoint, longer: true } = found {
            lengthen(path, experiment, checkpoint.state.round)?;
        }
        let folders = Folders::create(path, device, experiment, federation, &names(layers), found.start())?;
        let held = held.map_or_else(|| lock(path), Ok)?;
        let mut journal = Journal::begin(path, origin.clone(), experiment, found.start(), held)?;
        if let Found::Ended { checkpoint, .. } = found {
            journal.went_on_from(checkpoint.state.round);
        }
        Ok((folders, journal))
    }
}

fn names(layers: &[(String, usize)]) -> Vec<String> {
    layers.iter().map(|(name, _)| name.clone()).collect()
}

/// What is asked of the finished run, if anything.
fn analyse(
    federation: &Federation<'_>,
    experiment: &Experiment,
    folders: &Folders,
    progress: &dyn Teller,
    stop: &AtomicBool,
) -> Result<()> {
    let wanted = experiment.circuits.as_ref().map_or(&[][..], |circuits| &circuits.analyses);
    if wanted.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = wanted.iter().map(|analysis| analysis.name()).collect();
    progress.message(&format!("analyses of the last round: {}", names.join(", ")));
    let analysed = federation.analyse(stop)?;
    for (name, why) in analysed.iter().flatten().filter_map(|a| Some((a.analysis.name(), a.findings.as_ref().err()?))) {
        progress.message(&format!("{name} skipped: {why}"));
    }
    folders.write_analyses(experiment.rounds, &analysed)
}

/// Passes on what the user should know.
fn tell_notes(federation: &mut Federation<'_>, progress: &dyn Teller) {
    federation.take_notes().iter().for_each(|note| progress.message(&format!("note: {note}")));
}

/// What the progress bar calls a run.
fn title(experiment: &Experiment) -> String {
    match experiment.seeds.all() {
        [_] => experiment.name.clone(),
        seeds => format!("{}, {} seeds", experiment.name, seeds.len()),
    }
}

/// What the bar shows of a round.
fn news(figures: &RoundFigures, outcomes: &[Outcome], batch_size: usize) -> News {
    let clients = outcomes.iter().flat_map(|outcome| &outcome.record.clients);
    // Steps come in epochs, whole ones.
    let images = |client: &ClientRecord| client.examples * client.steps / client.examples.div_ceil(batch_size).max(1);
    let images: usize = clients.map(images).sum();
    let seconds = outcomes.first().map_or(f64::NAN, |outcome| outcome.record.seconds.train);
    let accuracy = figures.get(&Figure::Accuracy).map_or(f64::NAN, |accuracy| accuracy.mean);
    News { accuracy, images_per_second: images as f64 / seconds }
}

fn round_line(figures: &RoundFigures, rounds: usize) -> String {
    let RoundFigures { round, seconds, .. } = figures;
    let show = |figure, text: fn(&Estimate) -> String| figures.get(&figure).map(text).unwrap_or_default();
    let (accuracy, trained) =
        (show(Figure::Accuracy, Estimate::percent), show(Figure::TrainedAccuracy, Estimate::percent));
    let loss = show(Figure::Loss, |loss| loss.decimals(3));
    format!("round {round}/{rounds}  accuracy {accuracy:>6}  trained classes {trained:>6}  loss {loss}  {seconds:.1} s")
}
