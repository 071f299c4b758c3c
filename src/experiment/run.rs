//! What `fedcircuit run` does: every experiment of a plan into its run folder, with progress and a closing table.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;

use super::finished::{Finished, ROUNDS_PICTURE};
use super::folders::{Folders, LISTED_CLIENTS, folder_of};
use super::plan::{HostMemory, mib, peak_memory, resident_memory, told};
use super::{Federation, load_data};
use crate::config::{Experiment, Plan};
use crate::data::Dataset;
use crate::device::{Choice, Device, GpuOptions, open};
use crate::error::Result;
use crate::report::{Estimate, Figure, Progress, RoundFigures, closing_table, draw_rounds, html};

/// What a run needs to know, with nothing left to look up.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The experiments; variants go into folders of their own inside `out`.
    pub plan: Plan,
    /// What computes.
    pub device: Choice,
    /// Where data sets are looked for.
    pub data: PathBuf,
    /// The run's folder: free when this was made.
    pub out: PathBuf,
    /// Whether to print errors only.
    pub quiet: bool,
}

impl Request {
    /// The folder of a variant: `out` itself where nothing is compared.
    pub fn folder_of(&self, label: Option<&str>) -> PathBuf {
        label.map_or_else(|| self.out.clone(), |label| self.out.join(label))
    }
}

/// Runs every experiment of the request and returns the closing table. `stop` ends the run after the step under way.
///
/// # Errors
/// Whatever is wrong with the experiment or its data is found before anything is written; afterwards a failed round
/// leaves the earlier ones on disk.
pub fn run(request: &Request, stop: &AtomicBool) -> Result<String> {
    let progress = Progress::new(request.quiet);
    let threads = request.plan.variants.first().and_then(|v| v.experiment.device.threads);
    let (device, why) = open(&request.device, GpuOptions::default(), threads)?;
    progress.message(&format!("device: {why}"));
    let program = resident_memory();
    let mut datasets: Vec<Dataset> = Vec::new();
    for variant in &request.plan.variants {
        let (dataset, told) = load_data(&variant.experiment.data, &request.data)?;
        if let Some(told) = told.filter(|_| datasets.is_empty()) {
            progress.message(&told);
        }
        // A trial of every later variant: its faults come to light before the first one's hours of work.
        if !datasets.is_empty() {
            Federation::new(device.as_ref(), &variant.experiment, &dataset)?;
        }
        datasets.push(dataset);
    }
    let mut finished = Vec::new();
    for (variant, dataset) in request.plan.variants.iter().zip(&datasets) {
        let folder = request.folder_of(variant.label.as_deref());
        let experiment = &variant.experiment;
        let label = variant.label.as_ref().unwrap_or(&experiment.name).clone();
        let begin = || {
            let federation = Federation::new(device.as_ref(), experiment, dataset)?;
            let host = HostMemory::new(program, device.as_ref(), dataset, federation.populations());
            told(experiment, &federation.plan(), &host).iter().for_each(|line| progress.message(line));
            Ok(federation)
        };
        let done = one(begin()?, device.as_ref(), experiment, &folder, label, &progress, stop)?;
        done.draw(experiment, &folder)?;
        report(experiment, &folder)?;
        finished.push(done);
    }
    if finished.len() > 1 {
        let figures: Vec<_> = finished.iter().map(Finished::figures).collect();
        draw_rounds(&figures, &request.out.join(ROUNDS_PICTURE))?;
        html::write(std::slice::from_ref(&request.out), &request.out)?;
    }
    progress.done();
    if let Some(bytes) = peak_memory() {
        progress.message(&format!("memory: {} resident at most", mib(bytes)));
    }
    progress.message(&format!("written to {0}; to read it, open {0}/{1}", request.out.display(), html::PAGE));
    Ok(closing_table(&finished.iter().map(Finished::view).collect::<Vec<_>>()))
}

/// The page of a run, made from the files of its folder; where there are several seeds, each has one too.
fn report(experiment: &Experiment, folder: &Path) -> Result<()> {
    let mut folders = vec![folder.to_path_buf()];
    if experiment.seeds.several() {
        folders.extend((0..experiment.seeds.all().len()).map(|i| folder_of(experiment, i, folder)));
    }
    folders.par_iter().try_for_each(|folder| html::write(std::slice::from_ref(folder), folder).map(drop))
}

fn one(
    mut federation: Federation<'_>,
    device: &dyn Device,
    experiment: &Experiment,
    path: &Path,
    label: String,
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<Finished> {
    let channels = experiment.circuits.as_ref().map_or_else(Vec::new, |_| federation.gated_layers().to_vec());
    let gated: Vec<String> = channels.iter().map(|(name, _)| name.clone()).collect();
    let mut folders = Folders::create(path, device, experiment, &federation, &gated)?;
    let mut done = Finished::new(label, channels);
    if experiment.partition.num_clients() > LISTED_CLIENTS {
        let all = experiment.partition.num_clients();
        progress.message(&format!("note: partition.csv has the first {LISTED_CLIENTS} of {all} clients"));
    }
    progress.start_run(&title(experiment), experiment.rounds);
    tell(&mut federation, progress);
    for round in 1..=experiment.rounds {
        progress.start_round(round, usize::try_from(federation.cost()).unwrap_or(usize::MAX));
        let outcomes = federation.round_with(stop, &mut |steps| progress.advance(steps as usize))?;
        let figures = done.add(&outcomes);
        folders.write_round(&federation, &outcomes, figures)?;
        progress.finish_round(&round_line(figures, experiment.rounds));
        tell(&mut federation, progress);
    }
    analyse(&federation, experiment, &folders, progress, stop)?;
    folders.write_summaries(experiment, &done)?;
    Ok(done)
}

/// What is asked of the finished run, if anything.
fn analyse(
    federation: &Federation<'_>,
    experiment: &Experiment,
    folders: &Folders,
    progress: &Progress,
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
fn tell(federation: &mut Federation<'_>, progress: &Progress) {
    federation.take_notes().iter().for_each(|note| progress.message(&format!("note: {note}")));
}

/// What the progress bar calls a run.
fn title(experiment: &Experiment) -> String {
    match experiment.seeds.all() {
        [_] => experiment.name.clone(),
        seeds => format!("{}, {} seeds", experiment.name, seeds.len()),
    }
}

fn round_line(figures: &RoundFigures, rounds: usize) -> String {
    let RoundFigures { round, seconds, .. } = figures;
    let show = |figure, text: fn(&Estimate) -> String| figures.get(&figure).map(text).unwrap_or_default();
    let (accuracy, trained) =
        (show(Figure::Accuracy, Estimate::percent), show(Figure::TrainedAccuracy, Estimate::percent));
    let loss = show(Figure::Loss, |loss| loss.decimals(3));
    format!("round {round}/{rounds}  accuracy {accuracy:>6}  trained classes {trained:>6}  loss {loss}  {seconds:.1} s")
}
