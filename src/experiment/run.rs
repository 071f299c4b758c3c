//! What `fedcircuit run` does: every experiment of a plan into its run folder, with progress and a closing table.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use super::finished::{Finished, ROUNDS_PICTURE};
use super::job::Job;
use super::load_data;
use crate::config::Plan;
use crate::data::Dataset;
use crate::device::{Choice, GpuOptions, open};
use crate::error::Result;
use crate::report::begin::sweep;
use crate::report::{Progress, closing_table, draw_rounds};

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
    let mut datasets: Vec<Dataset> = Vec::new();
    for variant in &request.plan.variants {
        let (dataset, told) = load_data(&variant.experiment.data, &request.data)?;
        if let Some(told) = told.filter(|_| datasets.is_empty()) {
            progress.message(&told);
        }
        datasets.push(dataset);
    }
    let variants = request.plan.variants.iter().zip(&datasets);
    let jobs = variants.map(|(variant, dataset)| Job {
        device: device.as_ref(),
        experiment: &variant.experiment,
        dataset,
        path: request.folder_of(variant.label.as_deref()),
        label: variant.label.as_ref().unwrap_or(&variant.experiment.name),
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
    }
    progress.done();
    progress.message(&format!("written to {0}; for a picture, see {0}/{ROUNDS_PICTURE}", request.out.display()));
    Ok(closing_table(&finished.iter().map(Finished::view).collect::<Vec<_>>()))
}
