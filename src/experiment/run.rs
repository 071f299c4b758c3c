//! What `fedcircuit run` does: every experiment of a plan into its run folder, with progress and a closing table.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use super::finished::{Finished, ROUNDS_PICTURE};
use super::job::Job;
use super::load_data;
use super::plan::{mib, peak_memory, resident_memory};
use crate::config::{Data, Override, Plan, Variant};
use crate::data::Dataset;
use crate::device::{Choice, GpuOptions, open};
use crate::error::Result;
use crate::report::begin::sweep;
use crate::report::{Live, Progress, SweepRun, closing_table, draw_rounds, html, sweep_table, write_sweep};

/// What a run needs to know, with nothing left to look up.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The experiments; variants go into folders of their own inside `out`.
    pub plan: Plan,
    /// What computes.
    pub device: Choice,
    /// Where data sets are looked for.
    pub data: PathBuf,
    /// The run's folder: free when this was made, unless the run in it is resumed.
    pub out: PathBuf,
    /// Whether to go on with what was ended there.
    pub resume: bool,
    /// Whether to print errors only.
    pub quiet: bool,
    /// How the growing report is served, if it is.
    pub live: Option<LiveRequest>,
}

/// How a report is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveRequest {
    /// On the loopback; 0 is any that is free.
    pub port: u16,
    /// Whether a browser is opened with it.
    pub open: bool,
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
    let progress = progress(request)?;
    let threads = request.plan.variants.first().and_then(|v| v.experiment.device.threads);
    let (device, why) = open(&request.device, GpuOptions::default(), threads)?;
    progress.message(&format!("device: {why}"));
    let program = resident_memory();
    let datasets = datasets(request, &progress)?;
    let jobs = request.plan.variants.iter().map(|variant| Job {
        device: device.as_ref(),
        experiment: &variant.experiment,
        dataset: datasets.iter().find(|(data, _)| **data == variant.experiment.data).map_or(&datasets[0].1, |(_, d)| d),
        path: request.folder_of(variant.label.as_deref()),
        label: variant.label.as_ref().unwrap_or(&variant.experiment.name),
        program,
        resume: request.resume,
    });
    let jobs: Vec<Job> = jobs.collect();
    // A trial of every later variant: its faults come to light before the first one's hours of work.
    jobs.iter().skip(1).try_for_each(|job| job.begin(&|_| ()).map(drop))?;
    let finished = jobs.iter().map(|job| job.run(&progress, stop)).collect::<Result<Vec<Finished>>>()?;
    if finished.len() > 1 {
        if request.resume {
            sweep(&request.out)?;
        }
        let figures: Vec<_> = finished.iter().map(Finished::figures).collect();
        draw_rounds(&figures, &request.out.join(ROUNDS_PICTURE))?;
        html::write(std::slice::from_ref(&request.out), &request.out)?;
    }
    progress.done();
    if let Some(bytes) = peak_memory() {
        progress.message(&format!("memory: {} resident at most", mib(bytes)));
    }
    progress.message(&format!("written to {0}; to read it, open {0}/{1}", request.out.display(), html::PAGE));
    let swept = swept(request, &finished);
    if !swept.is_empty() {
        write_sweep(&request.out, &swept)?;
    }
    progress.written();
    if swept.is_empty() {
        return Ok(closing_table(&finished.iter().map(Finished::view).collect::<Vec<_>>()));
    }
    Ok(sweep_table(&swept, finished.iter().map(|done| done.seeds.len()).max().unwrap_or(1)))
}

/// Progress, also on a page where the request asks for one.
fn progress(request: &Request) -> Result<Progress> {
    let progress = Progress::new(request.quiet);
    let Some(LiveRequest { port, open }) = request.live else { return Ok(progress) };
    let live = Live::start(&request.out, port)?;
    progress.message(&format!("live: {}", live.address()));
    if let Some(error) = open.then(|| open::that_detached(live.address())).and_then(std::result::Result::err) {
        progress.message(&format!("note: no browser was opened: {error}"));
    }
    Ok(progress.followed_by(live))
}

/// Every data set that the variants use, once.
fn datasets<'a>(request: &'a Request, progress: &Progress) -> Result<Vec<(&'a Data, Dataset)>> {
    let mut datasets: Vec<(&Data, Dataset)> = Vec::new();
    for variant in &request.plan.variants {
        let data = &variant.experiment.data;
        if datasets.iter().any(|(known, _)| *known == data) {
            continue;
        }
        let (dataset, told) = load_data(data, &request.data)?;
        if let Some(told) = told.filter(|_| datasets.is_empty()) {
            progress.message(&told);
        }
        datasets.push((data, dataset));
    }
    Ok(datasets)
}

/// The experiments of a sweep, with what their last rounds gave.
fn swept<'a>(request: &'a Request, finished: &'a [Finished]) -> Vec<SweepRun<'a>> {
    let run = |(variant, done): (&'a Variant, &'a Finished)| {
        let value = |set: &Override| (set.key.clone(), set.value.as_str().map_or(set.value.to_string(), String::from));
        let label = variant.label.as_deref().filter(|_| !variant.swept.is_empty())?;
        Some(SweepRun { label, values: variant.swept.iter().map(value).collect(), last: done.rounds.last()? })
    };
    request.plan.variants.iter().zip(finished).filter_map(run).collect()
}
