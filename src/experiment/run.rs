//! What `fedcircuit run` does: every experiment of a plan into its run folder, with progress and a closing table.

use std::io::{Write, stderr};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use super::batch::{Jobs, Open, order, run_all};
use super::finished::{Finished, ROUNDS_PICTURE};
use super::inputs::{instead, load_data};
use super::job::Job;
use super::plan::{peak_memory, resident_memory};
use super::sharing::told;
use crate::config::{Data, Override, Plan, Variant};
use crate::data::{Dataset, hex};
use crate::device::{Choice, Device, GpuOptions, open};
use crate::error::{Error, Result, mib};
use crate::report::begin::sweep;
use crate::report::{
    DataRecord, Live, Progress, SweepRun, Teller, closing_table, draw_rounds, html, sweep_table, write_sweep,
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
    /// The run's folder: free when this was made, unless the run in it is resumed.
    pub out: PathBuf,
    /// Whether to go on with what was ended there.
    pub resume: bool,
    /// Whether to print errors only.
    pub quiet: bool,
    /// How the experiments share the device.
    pub jobs: Jobs,
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

/// What came of a request's experiments.
#[derive(Debug)]
pub struct Ran {
    /// The closing table, of those that were finished.
    pub table: String,
    /// The errors of those that diverged.
    pub diverged: Vec<Error>,
}

/// What a run asks for, once it has its data, to learn from it when it is to end. Before, nothing is there that a signal could
/// leave undone.
pub type Stop<'a> = &'a dyn Fn() -> Result<&'a AtomicBool>;

/// Runs every experiment of the request. One that diverges does not keep others from being finished. The flag that `stop`
/// gives ends the run after the step under way; it is set where one of several experiments at a time fails.
///
/// # Errors
/// Whatever is wrong with the experiment or its data is found before anything is written; afterwards a failed round
/// leaves the earlier ones on disk. [`Error::Diverged`] where no experiment was finished.
pub fn run(request: &Request, stop: Stop<'_>) -> Result<Ran> {
    run_on(request, stop, &|threads| open(&request.device, GpuOptions::default(), threads))
}

/// The same on whatever `open` opens: the CPU engine once for each of several experiments at a time, and a device that is
/// lost once more, to go on from the last checkpoints.
///
/// # Errors
/// As [`run`].
pub fn run_on(request: &Request, stop: Stop<'_>, open: Open<'_>) -> Result<Ran> {
    let progress = progress(request)?;
    let threads = request.plan.variants.first().and_then(|v| v.experiment.device.threads);
    let (mut device, why) = open(threads)?;
    progress.message(&format!("device: {why}"));
    let program = resident_memory();
    let sets = datasets(request, &progress)?;
    let stop = stop()?;
    let mut finished: Vec<Option<Result<Finished>>> = request.plan.variants.iter().map(|_| None).collect();
    let mut again = false;
    loop {
        let jobs = jobs(request, device.as_ref(), &sets, program, request.resume || again);
        let left: Vec<usize> = (0..jobs.len()).filter(|i| finished[*i].is_none()).collect();
        let done = order(&jobs, &left, request.jobs).and_then(|order| {
            told(&jobs, &order.groups).iter().for_each(|line| progress.once(line));
            run_all(&jobs, &mut finished, &order, open, &progress, stop)
        });
        match done {
            Err(Error::Lost { device: name, problem }) if !again => {
                let help = "opened once more, to go on from the last checkpoint";
                progress.message(&format!("note: {name} was lost: {problem}\n  {help}"));
                drop(device);
                (device, again) = (open(threads)?.0, true);
            }
            done => break done?,
        }
    }
    let (mut runs, mut diverged) = (Vec::new(), Vec::new());
    for (variant, result) in request.plan.variants.iter().zip(finished.into_iter().flatten()) {
        match result {
            Ok(done) => runs.push((variant, done)),
            Err(error) => diverged.push(error),
        }
    }
    if runs.is_empty() && !diverged.is_empty() {
        return Err(diverged.swap_remove(0));
    }
    let swept = swept(&runs);
    let finished: Vec<&Finished> = runs.iter().map(|(_, done)| done).collect();
    // In folders of their own inside the run's, which has a page about all, be they one.
    let inside = request.plan.variants.iter().any(|variant| variant.label.is_some());
    if request.resume && inside {
        sweep(&request.out)?;
    }
    // Before the page, which looks up the swept keys in the table.
    if !swept.is_empty() {
        write_sweep(&request.out, &swept)?;
    }
    if inside {
        let figures: Vec<_> = finished.iter().map(|done| done.figures()).collect();
        draw_rounds(&figures, &request.out.join(ROUNDS_PICTURE))?;
        html::write(std::slice::from_ref(&request.out), &request.out)?;
    }
    progress.done();
    if let Some(bytes) = peak_memory() {
        progress.message(&format!("memory: {} resident at most", mib(bytes)));
    }
    progress.message(&format!("written to {0}; to read it, open {0}/{1}", request.out.display(), html::PAGE));
    progress.written();
    if swept.is_empty() {
        let table = closing_table(&finished.iter().map(|done| done.view()).collect::<Vec<_>>());
        return Ok(Ran { table, diverged });
    }
    let table = sweep_table(&swept, &finished.iter().map(|done| done.seeds.len()).collect::<Vec<_>>());
    Ok(Ran { table, diverged })
}

/// Progress, also on a page where the request asks for one.
fn progress(request: &Request) -> Result<Progress> {
    let progress = Progress::new(request.quiet);
    let Some(LiveRequest { port, open }) = request.live else { return Ok(progress) };
    let live = Live::start(&request.out, port)?;
    let told = format!("live: {}", live.address());
    match request.quiet {
        // Nobody could find it else.
        true => drop(writeln!(stderr(), "{told}")),
        false => progress.message(&told),
    }
    if let Some(error) = open.then(|| open::that_detached(live.address())).and_then(std::result::Result::err) {
        progress.message(&format!("note: no browser was opened: {error}"));
    }
    Ok(progress.followed_by(live))
}

/// A data set, and what the run's folder says of it.
struct Checked<'a> {
    data: &'a Data,
    dataset: Dataset,
    record: DataRecord,
}

/// Every data set that the variants use, once.
fn datasets<'a>(request: &'a Request, progress: &Progress) -> Result<Vec<Checked<'a>>> {
    let (mut sets, mut said): (Vec<Checked<'_>>, Vec<String>) = (Vec::new(), Vec::new());
    for variant in &request.plan.variants {
        let data = &variant.experiment.data;
        if sets.iter().any(|known| known.data == data) {
            continue;
        }
        let (mut source, instead) = (data.source, instead(data, &request.data));
        if let Some((other, told)) = instead {
            source = other.source;
            // Several sets may want the same files.
            if !said.contains(&told) {
                progress.message(&told);
                said.push(told);
            }
        }
        let (dataset, _) = load_data(data, &request.data)?;
        let record = DataRecord { source: source.name().into(), checksum: hex(&dataset.checksum()) };
        sets.push(Checked { data, record, dataset });
    }
    Ok(sets)
}

/// A job for each variant.
fn jobs<'a>(
    request: &'a Request,
    device: &'a dyn Device,
    sets: &'a [Checked<'a>],
    program: Option<u64>,
    resume: bool,
) -> Vec<Job<'a>> {
    let job = |variant: &'a Variant| {
        let experiment = &variant.experiment;
        let set = sets.iter().find(|set| *set.data == experiment.data).unwrap_or(&sets[0]);
        Job {
            device,
            experiment,
            dataset: &set.dataset,
            data: &set.record,
            share: 1,
            path: request.folder_of(variant.label.as_deref()),
            label: variant.label.as_ref().unwrap_or(&experiment.name),
            program,
            resume,
        }
    };
    request.plan.variants.iter().map(job).collect()
}

/// The experiments of a sweep, with what their last rounds gave.
fn swept<'a>(runs: &'a [(&Variant, Finished)]) -> Vec<SweepRun<'a>> {
    let run = |(variant, done): &'a (&Variant, Finished)| {
        let value = |set: &Override| (set.key.clone(), set.value.as_str().map_or(set.value.to_string(), String::from));
        let label = variant.label.as_deref().filter(|_| !variant.swept.is_empty())?;
        Some(SweepRun { label, values: variant.swept.iter().map(value).collect(), last: done.rounds.last()? })
    };
    runs.iter().filter_map(run).collect()
}
