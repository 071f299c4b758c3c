//! What `fedcircuit run` does: every experiment of a plan into its run folder, with progress and a closing table.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::{Federation, Outcome, load_data};
use crate::config::{Experiment, Plan};
use crate::data::Dataset;
use crate::device::{Choice, Device, GpuOptions, open};
use crate::error::Result;
use crate::model::save;
use crate::report::{
    CircuitRecord, Comparison, DeviceRecord, Environment, Fates, Level, OverlapRecord, Progress, RoundRecord,
    RunFigures, RunFolder, RunView, Summary, closing_table, draw_circuits, draw_rounds,
};

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

/// Where the picture of a run, or of a comparison of runs, lies in its folder.
const ROUNDS_PICTURE: &str = "plots/rounds.png";

/// The records of a federation, as far as tables and pictures show them.
struct Finished {
    /// The variant's label; the experiment's name where nothing is compared.
    label: String,
    rounds: Vec<RoundRecord>,
    /// Of the last round: earlier ones are on disk.
    circuits: Vec<CircuitRecord>,
    /// All of the last round, and of earlier ones what the pictures show.
    overlaps: Vec<OverlapRecord>,
    fates: Vec<Fates>,
    /// Those of each layer with circuits; empty where none were looked for.
    channels: Vec<(String, usize)>,
}

impl Finished {
    fn new(label: String, channels: Vec<(String, usize)>) -> Self {
        Self { label, channels, rounds: Vec::new(), circuits: Vec::new(), overlaps: Vec::new(), fates: Vec::new() }
    }

    fn add(&mut self, outcome: Outcome) {
        self.overlaps.retain(|o| o.comparison == Comparison::LocalGlobal && o.level == Level::Node);
        self.overlaps.extend(outcome.overlaps);
        self.fates.extend(Fates::new(&outcome.circuits));
        self.rounds.push(outcome.record);
        self.circuits = outcome.circuits;
    }

    fn view(&self) -> RunView<'_> {
        let Self { label, rounds, overlaps, fates, .. } = self;
        RunView { label, rounds, overlaps, fates }
    }

    fn figures(&self) -> RunFigures<'_> {
        let Self { label, rounds, circuits, overlaps, channels, .. } = self;
        RunFigures { name: label, rounds, circuits, overlaps, channels }
    }

    fn draw(&self, folder: &Path) -> Result<()> {
        draw_rounds(&[self.figures()], &folder.join(ROUNDS_PICTURE))?;
        if self.channels.is_empty() {
            Ok(())
        } else {
            draw_circuits(&self.figures(), &folder.join("plots/circuits.png"))
        }
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
        let done = one(device.as_ref(), experiment, dataset, &folder, label, &progress, stop)?;
        done.draw(&folder)?;
        finished.push(done);
    }
    if finished.len() > 1 {
        let figures: Vec<_> = finished.iter().map(Finished::figures).collect();
        draw_rounds(&figures, &request.out.join(ROUNDS_PICTURE))?;
    }
    progress.done();
    progress.message(&format!("written to {0}; for a picture, see {0}/{ROUNDS_PICTURE}", request.out.display()));
    Ok(closing_table(&finished.iter().map(Finished::view).collect::<Vec<_>>()))
}

fn one(
    device: &dyn Device,
    experiment: &Experiment,
    dataset: &Dataset,
    path: &Path,
    label: String,
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<Finished> {
    let mut federation = Federation::new(device, experiment, dataset)?;
    let channels = experiment.circuits.as_ref().map_or_else(Vec::new, |_| federation.gated_layers().to_vec());
    let gated: Vec<String> = channels.iter().map(|(name, _)| name.clone()).collect();
    let mut folder = RunFolder::create(path, &gated)?;
    folder.write_experiment(&experiment.to_toml()?)?;
    folder.write_environment(&environment(device, federation.wave_size()))?;
    folder.write_partition(federation.class_counts())?;
    let mut done = Finished::new(label, channels);
    progress.start_run(&experiment.name, experiment.rounds);
    let cost = usize::try_from(federation.cost()).unwrap_or(usize::MAX);
    for round in 1..=experiment.rounds {
        progress.start_round(round, cost);
        let outcome = federation.round_with(stop, &mut |steps| progress.advance(steps as usize))?;
        write(&mut folder, &federation, &outcome)?;
        progress.finish_round(&round_line(&outcome, experiment.rounds));
        done.add(outcome);
    }
    analyse(&federation, experiment, &folder, progress, stop)?;
    folder.write_summary(&Summary::new(
        &experiment.name,
        experiment.seed,
        &done.rounds,
        &done.overlaps,
        &done.fates,
    ))?;
    Ok(done)
}

/// What is asked of the finished run, if anything.
fn analyse(
    federation: &Federation<'_>,
    experiment: &Experiment,
    folder: &RunFolder,
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
    for (name, why) in analysed.iter().filter_map(|a| Some((a.analysis.name(), a.findings.as_ref().err()?))) {
        progress.message(&format!("{name} skipped: {why}"));
    }
    folder.write_analyses(experiment.rounds, &analysed)
}

fn write(folder: &mut RunFolder, federation: &Federation<'_>, outcome: &Outcome) -> Result<()> {
    let (layout, round) = (federation.layout(), outcome.record.round);
    // Weights first: a round that stands in rounds.jsonl has all its files.
    if let Some(weights) = &outcome.weights {
        folder.write_model(round, &save(layout, weights)?)?;
    }
    for (client, weights) in &outcome.client_weights {
        folder.write_client_model(round, *client, &save(layout, weights)?)?;
    }
    folder.write_round(&outcome.record, &outcome.circuits, &outcome.overlaps, &outcome.overlap_means)
}

fn round_line(outcome: &Outcome, rounds: usize) -> String {
    let RoundRecord { round, global, seconds, .. } = &outcome.record;
    let (accuracy, trained) = (100.0 * global.accuracy, 100.0 * global.trained_accuracy);
    format!(
        "round {round}/{rounds}  accuracy {accuracy:5.1}%  trained classes {trained:5.1}%  loss {:.3}  {:.1} s",
        global.loss, seconds.total
    )
}

fn environment(device: &dyn Device, wave_size: usize) -> Environment {
    let info = device.info();
    Environment {
        version: env!("CARGO_PKG_VERSION").into(),
        device: DeviceRecord { name: info.name.clone(), backend: info.backend.clone(), driver: info.driver.clone() },
        limits: BTreeMap::from([
            ("max_binding_bytes".to_string(), info.max_binding_bytes),
            ("max_buffer_bytes".to_string(), info.max_buffer_bytes),
        ]),
        wave_size,
        threads: info.threads,
    }
}
