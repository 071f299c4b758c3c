//! Experiments that share waves, or one alone: round after round, each into its own folder.

use std::sync::atomic::AtomicBool;

use super::finished::Finished;
use super::job::{Job, Looked, Run};
use super::plan::{HostMemory, floor, told};
use super::resume::Found;
use super::{Federation, Outcome};
use crate::config::Experiment;
use crate::error::{Error, Result};
use crate::federation::RoundPlan;
use crate::report::{ClientRecord, Estimate, Figure, News, RoundFigures, Teller};

/// Jobs that are run together: one, or several that are alike and have as many rounds behind them.
pub(super) struct Group<'a> {
    jobs: Vec<Job<'a>>,
}

/// A group of which nothing is written yet.
pub(super) struct Begun<'a> {
    federation: Federation<'a>,
    looked: Vec<Looked>,
}

impl Begun<'_> {
    /// What a round will take.
    pub fn plan(&self) -> RoundPlan {
        self.federation.plan()
    }
}

impl<'a> Group<'a> {
    /// Of one job at least.
    pub fn new(jobs: Vec<Job<'a>>) -> Self {
        Self { jobs }
    }

    /// Prepares everything, and looks at what is in the folders; `tell` is told what the user should know of that.
    pub fn begin(&self, tell: &dyn Fn(&str)) -> Result<Begun<'a>> {
        let Job { device, dataset, .. } = self.jobs[0];
        let experiments: Vec<_> = self.jobs.iter().map(Job::in_share).collect();
        let experiments: Vec<&Experiment> = experiments.iter().map(|experiment| &**experiment).collect();
        let federation = Federation::together(device, &experiments, dataset)?;
        let looked = self.jobs.iter().map(|job| job.look(tell)).collect::<Result<_>>()?;
        Ok(Begun { federation, looked })
    }

    /// Runs all rounds that are left, and what follows them. Where one of the experiments fails, all end after the last
    /// round that is whole, and can be gone on with. In an error's place is said which it was, where there are others.
    pub fn run(&self, progress: &dyn Teller, stop: &AtomicBool) -> Result<Vec<Finished>> {
        let mut begun = self.begin(&|line| progress.message(line))?;
        self.tell_plan(&begun, progress);
        if let ([job], [looked @ Looked { found: Found::Finished, .. }]) = (&self.jobs[..], &begun.looked[..]) {
            return Ok(vec![job.recall(looked, progress)?]);
        }
        let states: Vec<_> = begun.looked.iter().filter_map(Looked::state).collect();
        if !states.is_empty() {
            begun.federation.restore_all(&states)?;
        }
        let federation = &mut begun.federation;
        let mut runs = Vec::new();
        for ((job, looked), part) in self.jobs.iter().zip(&begun.looked).zip(federation.parts()) {
            runs.push(job.open(looked, federation, part.start)?);
        }
        let rounds = self.jobs[0].experiment.rounds;
        progress.start_run(&self.title(), rounds);
        if states.is_empty() {
            keep(federation, &mut runs)?;
        } else {
            progress.resume_run(federation.rounds_done());
        }
        federation.take_notes().iter().for_each(|note| progress.once(&format!("note: {note}")));
        while federation.rounds_done() < rounds {
            round(federation, &mut runs, progress, stop)?;
        }
        analyse(federation, &runs, progress, stop)?;
        // Pictures take memory of their own, and the models and waves have done their work.
        drop(begun);
        self.jobs[0].device.wait()?;
        runs.into_iter().map(Run::finish).collect()
    }

    /// What the group will take.
    fn tell_plan(&self, begun: &Begun<'_>, progress: &dyn Teller) {
        let Begun { federation, looked } = begun;
        let (Job { device, dataset, program, .. }, plan) = (&self.jobs[0], federation.plan());
        let experiments: Vec<_> = self.jobs.iter().map(|job| job.experiment).collect();
        let of = (experiments[0], &plan);
        let host = HostMemory::new(*program, *device, of, dataset, federation.populations());
        told(&experiments, &plan, &host).iter().for_each(|line| progress.once(line));
        let floors =
            experiments.iter().zip(looked).filter_map(|(experiment, looked)| floor(experiment, &looked.network));
        floors.for_each(|line| progress.once(&line));
        for (listed, clients) in federation.populations().map(|p| (p.listed(), p.len())).filter(|(l, n)| l < n) {
            progress.once(&format!("note: partition.csv has the first {listed} of {clients} clients"));
        }
    }

    /// What the progress bar calls it.
    fn title(&self) -> String {
        let [Job { experiment, .. }] = &self.jobs[..] else { return format!("{} experiments", self.jobs.len()) };
        match experiment.seeds.all() {
            [_] => experiment.name.clone(),
            seeds => format!("{}, {} seeds", experiment.name, seeds.len()),
        }
    }
}

/// The next round of all runs.
fn round(
    federation: &mut Federation<'_>,
    runs: &mut [Run<'_>],
    progress: &dyn Teller,
    stop: &AtomicBool,
) -> Result<()> {
    progress.start_round(federation.rounds_done() + 1, usize::try_from(federation.cost()).unwrap_or(usize::MAX));
    let outcomes = match federation.round_with(stop, &mut |steps| progress.advance(steps as usize)) {
        Err(error) if goes_on(&error, runs) => {
            interrupted(federation, runs)?;
            // They are part of the checkpoint, and would not be told by the process that goes on with it.
            tell_notes(federation, progress);
            return Err(error);
        }
        outcomes => outcomes?,
    };
    let (several, mut lines) = (runs.len() > 1, Vec::new());
    for (run, part) in runs.iter_mut().zip(federation.parts()) {
        let (label, rounds) = (run.job.label, run.job.experiment.rounds);
        let line = round_line(run.land(federation, &outcomes[part])?, rounds);
        lines.push(if several { format!("{label}: {line}") } else { line });
    }
    let last = lines.pop().unwrap_or_default();
    lines.iter().for_each(|line| progress.message(line));
    progress.finish_round(&last, news(runs, &outcomes));
    let last = federation.rounds_done() == runs[0].job.experiment.rounds;
    for run in runs.iter_mut() {
        run.journal.after_round(&run.done, last)?;
    }
    if !last {
        keep(federation, runs)?;
    }
    tell_notes(federation, progress);
    Ok(())
}

fn tell_notes(federation: &mut Federation<'_>, progress: &dyn Teller) {
    federation.take_notes().iter().for_each(|note| progress.message(&format!("note: {note}")));
}

/// Writes the checkpoints of all runs, or holds their state where none are due.
fn keep(federation: &mut Federation<'_>, runs: &mut [Run<'_>]) -> Result<()> {
    let Experiment { output, rounds, .. } = runs[0].job.experiment;
    if !output.checkpoints(federation.rounds_done(), *rounds) {
        return federation.hold();
    }
    save(federation, runs)
}

/// Writes the checkpoints of all runs.
fn save(federation: &Federation<'_>, runs: &mut [Run<'_>]) -> Result<()> {
    for (run, state) in runs.iter_mut().zip(federation.states()?) {
        run.journal.save(state, &mut run.folders)?;
    }
    Ok(())
}

/// Whether there is something to go on with after an error: what a signal ended, or the others where one diverged.
fn goes_on(error: &Error, runs: &[Run<'_>]) -> bool {
    matches!(error, Error::Interrupted { .. }) || (runs.len() > 1 && matches!(error, Error::Diverged { .. }))
}

/// After a round that was ended early: the state before it becomes a checkpoint, where it is none yet.
fn interrupted(federation: &Federation<'_>, runs: &mut [Run<'_>]) -> Result<()> {
    let done = federation.rounds_done();
    if runs.iter().all(|run| run.journal.last() == Some(done)) {
        return Ok(());
    }
    save(federation, runs)
}

/// What is asked of the finished runs, if anything.
fn analyse(federation: &Federation<'_>, runs: &[Run<'_>], progress: &dyn Teller, stop: &AtomicBool) -> Result<()> {
    let Experiment { circuits, rounds, .. } = runs[0].job.experiment;
    let wanted = circuits.as_ref().map_or(&[][..], |circuits| &circuits.analyses);
    if wanted.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = wanted.iter().map(|analysis| analysis.name()).collect();
    progress.message(&format!("analyses of the last round: {}", names.join(", ")));
    let analysed = federation.analyse(stop)?;
    for (run, part) in runs.iter().zip(federation.parts()) {
        // Before the last round is done there are none.
        let own = analysed.get(part).unwrap_or_default();
        let of = if runs.len() > 1 { format!("{}: ", run.job.label) } else { String::new() };
        let seeds = run.job.experiment.seeds.all();
        for (seed, analyses) in seeds.iter().zip(own) {
            let of = if seeds.len() > 1 { format!("{of}seed {seed}: ") } else { of.clone() };
            for (name, why) in analyses.iter().filter_map(|a| Some((a.analysis.name(), a.findings.as_ref().err()?))) {
                progress.message(&format!("{of}{name} skipped: {why}"));
            }
        }
        run.folders.write_analyses(*rounds, own)?;
    }
    Ok(())
}

/// What the bar shows of a round.
fn news(runs: &[Run<'_>], outcomes: &[Outcome]) -> News {
    let batch_size = runs[0].job.experiment.training.batch_size;
    let clients = outcomes.iter().flat_map(|outcome| &outcome.record.clients);
    // Steps come in epochs, whole ones.
    let images = |client: &ClientRecord| client.examples * client.steps / client.examples.div_ceil(batch_size).max(1);
    let images: usize = clients.map(images).sum();
    let seconds = outcomes.first().map_or(f64::NAN, |outcome| outcome.record.seconds.train);
    let accuracy = outcomes.iter().map(|outcome| outcome.record.global.accuracy).sum::<f64>() / outcomes.len() as f64;
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
