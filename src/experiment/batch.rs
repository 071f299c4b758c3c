//! The experiments of a request on a device: one after the other, or several at a time where small ones would leave it idle,
//! each with its share of threads and memory. No bit depends on how many.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::finished::Finished;
use super::job::Job;
use crate::device::{Device, Share};
use crate::error::{Error, Result};
use crate::federation::RoundPlan;
use crate::report::{Progress, Teller};

/// Opens the device, with so many threads, and says which it is and why.
pub type Open<'a> = &'a (dyn Fn(Option<usize>) -> Result<(Box<dyn Device>, String)> + Sync);

/// More at a time than this gain nothing on a GPU, which they take turns on.
const MOST_ON_A_GPU: usize = 4;

/// How many of `jobs` run at a time: as many as `asked`, or as suit the device. All but the first are tried, so that their
/// faults come to light before its hours of work.
///
/// # Errors
/// Whatever stands in the way of one of them.
pub(super) fn at_once(jobs: &[Job<'_>], asked: Option<usize>) -> Result<usize> {
    let Some(first) = jobs.first() else { return Ok(1) };
    let most = asked.unwrap_or(usize::MAX).min(jobs.len());
    if most == 1 {
        return jobs.iter().skip(1).try_for_each(|job| job.begin(&|_| ()).map(drop)).map(|()| 1);
    }
    let plans = jobs.iter().map(|job| job.begin(&|_| ()).map(|begun| begun.plan())).collect::<Result<Vec<_>>>()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let n = if asked.is_some() { most } else { suits(first.device, cores, &plans).min(most) };
    if n > 1 {
        // In its share of the memory.
        jobs.iter().try_for_each(|job| Job { share: n, ..job.clone() }.begin(&|_| ()).map(drop))?;
    }
    Ok(n)
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

/// Runs those of `jobs` that are not `finished` yet, `n` at a time.
///
/// # Errors
/// The first fault in their order; those that were under way are ended after their step, as by a signal.
pub(super) fn run_all(
    jobs: &[Job<'_>],
    finished: &mut [Option<Finished>],
    n: usize,
    open: Open<'_>,
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<()> {
    let left: Vec<usize> = (0..jobs.len()).filter(|i| finished[*i].is_none()).collect();
    if n <= 1 {
        for i in left {
            finished[i] = Some(jobs[i].run(progress, stop)?);
        }
        return Ok(());
    }
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results: Vec<Mutex<Option<Result<Finished>>>> = left.iter().map(|_| Mutex::new(None)).collect();
    let together = progress.together(left.len());
    let worker = || {
        while !failed.load(Ordering::Relaxed) {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(i) = left.get(place) else { break };
            let result = run_one(&jobs[*i], n, open, &together.run(place), stop);
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
    std::thread::scope(|scope| (0..n).for_each(|_| drop(scope.spawn(worker))));
    // Those that were not begun have nothing to say.
    (0..left.len()).for_each(|place| together.end(place));
    let mut faults = Vec::new();
    for (i, result) in left.into_iter().zip(results) {
        match result.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(Ok(done)) => finished[i] = Some(done),
            Some(Err(error)) => faults.push(error),
            None => {}
        }
    }
    // What ended the others before what ended with them.
    let first = faults.iter().position(|error| !matches!(error, Error::Interrupted { .. })).unwrap_or(0);
    if faults.is_empty() { Ok(()) } else { Err(faults.swap_remove(first)) }
}

/// Runs a job in its share of the device: of the CPU engine's threads, or of a GPU's time.
fn run_one(job: &Job<'_>, n: usize, open: Open<'_>, told: &dyn Teller, stop: &AtomicBool) -> Result<Finished> {
    let info = job.device.info();
    if info.kind == "cpu" {
        let (own, _) = open(Some((info.threads / n).max(1)))?;
        return Job { device: own.as_ref(), share: n, ..job.clone() }.run(told, stop);
    }
    Job { device: &Share::new(job.device), share: n, ..job.clone() }.run(told, stop)
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
