//! The experiments of a request on a device: in the same waves where they may share them; else one after the other, or
//! several at a time where small ones would leave it idle, each with its share of threads and memory. No bit depends on it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::finished::Finished;
use super::group::Group;
use super::job::Job;
use super::sharing;
use crate::device::{Device, Share};
use crate::error::{Error, Result};
use crate::federation::RoundPlan;
use crate::report::{Progress, Teller};

/// How the experiments of a request share the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jobs {
    /// On a GPU, in the same waves where they may; on the CPU engine, whose threads take a client each, as many at a time
    /// as keep them busy, and so many at most.
    Suited {
        /// One or more.
        most: usize,
    },
    /// In the same waves where they may, and else one after the other.
    Shared,
    /// So many at a time, one or more, each in waves of its own.
    AtATime(usize),
}

/// What came of jobs that ran together: of one that diverged, its error.
type Done = Vec<Result<Finished>>;

/// Opens the device, with so many threads, and says which it is and why.
pub type Open<'a> = &'a (dyn Fn(Option<usize>) -> Result<(Box<dyn Device>, String)> + Sync);

/// More at a time than this gain nothing on a GPU, which they take turns on.
const MOST_ON_A_GPU: usize = 4;

/// What runs when.
pub(super) struct Order {
    /// Jobs, by number, that share waves.
    pub groups: Vec<Vec<usize>>,
    /// Groups at a time.
    at_once: usize,
}

/// How those of `jobs` that are `left`, by number, run. All but the first are tried, so that their faults come to light
/// before its hours of work.
///
/// # Errors
/// Whatever stands in the way of one of them.
pub(super) fn order(jobs: &[Job<'_>], left: &[usize], asked: Jobs) -> Result<Order> {
    let alone = || left.iter().map(|i| vec![*i]).collect();
    let [first, others @ ..] = left else { return Ok(Order { groups: Vec::new(), at_once: 1 }) };
    // Whether waves may be shared; and how many run at a time where they are not, whether that was told or is the most.
    let (shared, most, told) = match asked {
        Jobs::Suited { most } => (jobs[*first].device.info().kind == "gpu", most, false),
        Jobs::Shared => (true, 1, true),
        Jobs::AtATime(n) => (false, n, true),
    };
    if shared && !others.is_empty() {
        let groups = sharing::groups(jobs, left)?;
        if groups.len() < left.len() {
            return Ok(Order { groups, at_once: 1 });
        }
    }
    let most = most.min(left.len());
    let begin = |job: Job<'_>| Group::new(vec![job]).begin(&|_| ()).map(|begun| begun.plan());
    if most == 1 {
        others.iter().try_for_each(|i| begin(jobs[*i].clone()).map(drop))?;
        return Ok(Order { groups: alone(), at_once: 1 });
    }
    let plans = left.iter().map(|i| begin(jobs[*i].clone())).collect::<Result<Vec<_>>>()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let n = if told { most } else { suits(jobs[*first].device, cores, &plans).min(most) };
    if n > 1 {
        // In its share of the memory.
        left.iter().try_for_each(|i| begin(Job { share: n, ..jobs[*i].clone() }).map(drop))?;
    }
    Ok(Order { groups: alone(), at_once: n })
}

/// How many experiments of these plans the device does at a time without more waves than one alone takes: on the CPU
/// engine, whose threads take a client each, as many as keep them busy; on a GPU a few, whose hosts have something to do
/// while another's work is done; in software, where the host does the work too, one.
fn suits(device: &dyn Device, cores: usize, plans: &[RoundPlan]) -> usize {
    let info = device.info();
    let clients = plans.iter().map(|plan| plan.wave_size).max().unwrap_or(1).max(1);
    let busy = match info.kind {
        "cpu" => info.threads / clients,
        "gpu" if !info.software => MOST_ON_A_GPU.min(cores / 2),
        _ => 1,
    };
    let fits = |plan: &RoundPlan| if plan.waves > 1 { 1 } else { plan.budget / plan.wave().max(1) };
    let fit = plans.iter().map(fits).min().unwrap_or(1);
    busy.min(usize::try_from(fit).unwrap_or(usize::MAX)).max(1)
}

/// Runs `jobs` in this order, and puts each with those that are `finished`.
///
/// # Errors
/// The first fault in their order; those that were under way are ended after their step, as by a signal. One that diverges is
/// no such fault: it is put among the finished, and the others go on.
pub(super) fn run_all(
    jobs: &[Job<'_>],
    finished: &mut [Option<Result<Finished>>],
    order: &Order,
    open: Open<'_>,
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<()> {
    let Order { groups, at_once } = order;
    let several = jobs.len() > 1;
    let mut put = |group: &[usize], done: Done| {
        group.iter().zip(done).for_each(|(i, done)| finished[*i] = Some(done));
    };
    if *at_once <= 1 {
        for group in groups {
            put(group, run_group(group.iter().map(|i| jobs[*i].clone()).collect(), several, progress, stop)?);
        }
        return Ok(());
    }
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results: Vec<Mutex<Option<Result<Done>>>> = groups.iter().map(|_| Mutex::new(None)).collect();
    let together = progress.together(groups.len());
    let worker = || {
        while !failed.load(Ordering::Relaxed) {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(group) = groups.get(place) else { break };
            let result = run_one(&jobs[group[0]], *at_once, open, &together.run(place), stop);
            if let Err(error) = &result {
                failed.store(true, Ordering::Relaxed);
                // Work on a lost device ends by itself.
                if !matches!(error, Error::Interrupted { .. } | Error::Lost { .. }) {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            *results[place].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            together.end(place);
        }
    };
    std::thread::scope(|scope| (0..*at_once).for_each(|_| drop(scope.spawn(worker))));
    // Those that were not begun have nothing to say.
    (0..groups.len()).for_each(|place| together.end(place));
    let mut faults = Vec::new();
    for (group, result) in groups.iter().zip(results) {
        match result.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(Ok(done)) => put(group, done),
            Some(Err(error)) => faults.push(error),
            None => {}
        }
    }
    // What ended the others before what ended with them.
    let first = faults.iter().position(|error| !matches!(error, Error::Interrupted { .. })).unwrap_or(0);
    if faults.is_empty() { Ok(()) } else { Err(faults.swap_remove(first)) }
}

/// The error of a job that diverged, which names it where there are `several`; any other ends them all.
fn diverged(error: Error, job: &Job<'_>, several: bool, progress: &dyn Teller) -> Result<Error> {
    let Error::Diverged { experiment, round, mut place, lr } = error else { return Err(error) };
    let of = format!("in {}, ", job.experiment.name);
    if several && !place.starts_with(&of) {
        place.insert_str(0, &of);
    }
    if several {
        progress.message(&format!("note: training diverged in round {round}, {place}; the other experiments go on"));
    }
    Ok(Error::Diverged { experiment, round, place, lr })
}

/// Runs jobs that share waves. Where the device has less memory for them than was planned, they go on in halves, and where one
/// diverges the others go on without it.
fn run_group(jobs: Vec<Job<'_>>, several: bool, progress: &Progress, stop: &AtomicBool) -> Result<Done> {
    match Group::new(jobs.clone()).run(progress, stop) {
        Err(Error::TooLarge { what, .. }) if jobs.len() > 1 => {
            let half = jobs.len().div_ceil(2);
            progress.message(&format!("note: no memory for {what}; goes on with {half} experiments in a wave"));
            let mut jobs = resumed(jobs);
            let others = jobs.split_off(half);
            let mut done = run_group(jobs, several, progress, stop)?;
            done.extend(run_group(others, several, progress, stop)?);
            Ok(done)
        }
        Err(error @ Error::Diverged { experiment, .. }) => {
            let error = diverged(error, &jobs[experiment], several, progress)?;
            let mut jobs = resumed(jobs);
            jobs.remove(experiment);
            let mut done = if jobs.is_empty() { Vec::new() } else { run_group(jobs, several, progress, stop)? };
            done.insert(experiment, Err(error));
            Ok(done)
        }
        done => done.map(|done| done.into_iter().map(Ok).collect()),
    }
}

/// The same, to go on from what is in their folders.
fn resumed(jobs: Vec<Job<'_>>) -> Vec<Job<'_>> {
    jobs.into_iter().map(|job| Job { resume: true, ..job }).collect()
}

/// Runs one of several jobs in its share of the device: of the CPU engine's threads, or of a GPU's time.
fn run_one(job: &Job<'_>, n: usize, open: Open<'_>, told: &dyn Teller, stop: &AtomicBool) -> Result<Done> {
    let info = job.device.info();
    let (own, share);
    let device: &dyn Device = if info.kind == "cpu" {
        own = open(Some((info.threads / n).max(1)))?.0;
        own.as_ref()
    } else {
        share = Share::new(job.device);
        &share
    };
    match Group::new(vec![Job { device, share: n, ..job.clone() }]).run(told, stop) {
        Ok(done) => Ok(done.into_iter().map(Ok).collect()),
        Err(error) => Ok(vec![Err(diverged(error, job, true, told)?)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;

    #[test]
    fn small_experiments_share_a_device_that_they_leave_idle() {
        let cpu = Cpu::new(Some(12)).unwrap();
        let plan = RoundPlan {
            clients: 3,
            waves: 1,
            wave_size: 3,
            client_bytes: 1 << 20,
            budget: 30 << 20,
            images: 0,
            models: 0,
            evaluation: 0,
            kept: 0,
        };
        let n = |plans: &[RoundPlan]| suits(&cpu, 12, plans);
        assert_eq!(n(&[plan, plan]), 4);
        // The largest counts.
        assert_eq!(n(&[plan, RoundPlan { wave_size: 6, ..plan }]), 2);
        assert_eq!(n(&[RoundPlan { wave_size: 20, client_bytes: 1, ..plan }]), 1);
        // Where memory is short, less than the threads would do.
        assert_eq!(n(&[RoundPlan { budget: 6 << 20, ..plan }]), 2);
        assert_eq!(n(&[RoundPlan { waves: 2, ..plan }]), 1);
    }
}
