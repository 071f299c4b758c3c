//! How fast a device is: its peaks, every kernel against them, training, the search for circuits, and a whole round.
//! `fedcircuit bench` prints what is measured here; `cargo bench` runs the same work under criterion.
//!
//! A kernel's times are by the device's own clock where it has one, and else by the host's around many dispatches and one
//! wait for the device, as are those of all larger work.
//! A kernel's bytes are those of all its bindings, each counted once: more than it moves where it touches only a part,
//! less where it updates in place. Where everything fits a cache, it can be faster than the peak, which is that of memory.

mod discovery;
pub mod kernels;
mod report;
mod rounds;
pub mod sample;
mod select;

pub use discovery::Discovery;
pub use report::{Part, Peak, Ratio, Report, Timing};
pub use rounds::Training;
pub use select::{Selection, Work};

use crate::device::{Case, Device, Kernel, Profile, Took};
use crate::error::Result;
use crate::kernels::{peak_copy, peak_fma};
use kernels::{Prepared, sizeable, timed};
use report::Amount;
use rounds::{quickstart, simple_cnn, training_flops};
use sample::{Effort, Runs, Spread, measure};

/// How thorough a benchmark is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Enough samples for a steady median.
    Full,
    /// A sample or two of little work: to see that everything runs. The numbers mean nothing.
    Quick,
}

impl Depth {
    fn kernel(self) -> Effort {
        if self == Self::Quick { Effort::QUICK } else { Effort::KERNEL }
    }

    fn cases(self, kernel: &Kernel) -> Vec<Case> {
        if self == Self::Quick { sizeable(kernel) } else { timed(kernel) }
    }

    fn round(self) -> Effort {
        if self == Self::Quick { Effort::QUICK } else { Effort::ROUND }
    }
}

/// Measures what is selected, after the device's peaks, and tells `each` of every timing as it is there.
///
/// # Errors
/// What the device says.
pub fn run(
    device: &dyn Device,
    selection: &Selection,
    depth: Depth,
    each: &mut dyn FnMut(&Peak, &Timing),
) -> Result<Report> {
    let (mut timings, peak) = peaks(device, depth)?;
    timings.iter().for_each(|timing| each(&peak, timing));
    let mut add = |timing: Timing| {
        each(&peak, &timing);
        timings.push(timing);
    };
    for kernel in &selection.kernels {
        for case in depth.cases(kernel) {
            add(time(device, kernel, case, depth)?.against(&peak));
        }
    }
    let (mut ratios, mut parts) = (Vec::new(), Vec::new());
    for work in &selection.work {
        match work {
            Work::Training => parts.extend(training(device, depth, &peak, &mut add)?),
            Work::Discovery => {
                let (found, shares) = discovery(device, depth, &peak, &mut add)?;
                ratios.extend(found);
                parts.extend(shares);
            }
            Work::Quickstart => {
                let spread = quickstart(device, depth.round(), depth == Depth::Quick)?;
                let case = "3 clients, 3 epochs of 1,200 digits, 18 circuits".into();
                add(Timing::new(work.name(), case, spread, Amount::default()));
            }
        }
    }
    let kernel_clock = if device.has_clock() { "device" } else { "host" };
    let version = env!("CARGO_PKG_VERSION");
    Ok(Report { version, device: device.info().clone(), kernel_clock, depth, peak, timings, ratios, parts })
}

fn time(device: &dyn Device, kernel: &'static Kernel, case: Case, depth: Depth) -> Result<Timing> {
    let prepared = Prepared::new(device, kernel, case)?;
    let spread = measure(depth.kernel(), &mut |repeats| prepared.run(repeats))?;
    let case = prepared.case();
    let amount = Amount { flops: Some(case.flops).filter(|n| *n > 0), bytes: Some(case.bytes()), images: None };
    Ok(Timing::new(kernel.name, case.name.into(), spread, amount))
}

/// The device's peaks: the best sample of each of the two kernels that are written for nothing else.
fn peaks(device: &dyn Device, depth: Depth) -> Result<(Vec<Timing>, Peak)> {
    let largest = |kernel: &'static Kernel| -> Result<Timing> {
        let case = depth.cases(kernel).into_iter().max_by_key(Case::bytes);
        let Some(case) = case else { unreachable!("every kernel has cases") };
        time(device, kernel, case, depth)
    };
    let (fma, copy) = (largest(&peak_fma::KERNEL)?, largest(&peak_copy::KERNEL)?);
    let best = |amount: Option<u64>, spread: &Spread| amount.unwrap_or(0) as f64 / spread.fastest / 1e9;
    let peak = Peak {
        gflops: best(fma.amount.flops, &fma.seconds),
        gigabytes_per_second: best(copy.amount.bytes, &copy.seconds),
    };
    Ok((vec![fma.against(&peak), copy.against(&peak)], peak))
}

/// Clients of the steps that are timed.
const CLIENTS: [usize; 3] = [1, 8, 64];

/// Times steps, and gives the parts of those of most clients.
fn training(device: &dyn Device, depth: Depth, peak: &Peak, add: &mut dyn FnMut(Timing)) -> Result<Vec<Part>> {
    let flops = training_flops(&simple_cnn()?);
    let mut parts = Vec::new();
    let (batch, steps) = if depth == Depth::Quick { (4, 1) } else { (32, 4) };
    for clients in CLIENTS {
        let training = Training { clients, batch, steps };
        let (spread, profile) = training.with(device, |runs| {
            let spread = measure(depth.round(), runs)?;
            Ok((spread, profile_if(device, clients == CLIENTS[2], runs)?))
        })?;
        let images = training.images();
        let amount = Amount { flops: Some(images * flops), bytes: None, images: Some(images) };
        let case = format!("{clients} clients, batch {batch}, simple-cnn, dense, Adam");
        parts = profile.map_or(Vec::new(), |profile| shares(Work::Training, &case, profile));
        add(Timing::new(Work::Training.name(), case, spread, amount).against(peak));
    }
    Ok(parts)
}

/// Where the time of one repeat goes, if that is `wanted` and the device has a clock to tell.
fn profile_if(device: &dyn Device, wanted: bool, runs: Runs<'_>) -> Result<Option<Profile>> {
    if wanted && device.has_clock() { device.profiled(&mut || runs(1).map(drop)) } else { Ok(None) }
}

fn shares(work: Work, case: &str, profile: Profile) -> Vec<Part> {
    let all: f64 = profile.0.iter().map(|took| took.time.as_secs_f64()).sum();
    let part = |took: Took| {
        let Took { kernel, dispatches, time } = took;
        let seconds = time.as_secs_f64();
        Part { of: work.name(), case: case.into(), kernel, dispatches, seconds, share: seconds / all }
    };
    profile.0.into_iter().map(part).collect()
}

/// Times steps over all weights and over the survivors: the first fifty of a search, in which most of its gates close, and the
/// two hundred of the paper's. Gives for both lengths the time over all weights by that over the survivors, and the parts of
/// the first fifty over the survivors.
fn discovery(
    device: &dyn Device,
    depth: Depth,
    peak: &Peak,
    add: &mut dyn FnMut(Timing),
) -> Result<(Vec<Ratio>, Vec<Part>)> {
    let quick = depth == Depth::Quick;
    let (clients, images, lengths) = if quick { (1, 4, [2, 3]) } else { (5, 26, [50, 200]) };
    let (mut ratios, mut parts) = (Vec::new(), Vec::new());
    for steps in lengths {
        let search = Discovery { clients, images, steps };
        let mut medians = Vec::new();
        for (sparse, how) in [(false, "all weights"), (true, "survivors")] {
            let (spread, profile) = search.with(device, sparse, |runs| {
                let spread = measure(depth.round(), runs)?;
                Ok((spread, profile_if(device, sparse && steps == lengths[0], runs)?))
            })?;
            medians.push(spread.median);
            let amount = Amount { images: Some(search.images()), ..Amount::default() };
            let case = format!("{} searches of {images} images, 99.5% pruned, over {how}, {steps} steps", 4 * clients);
            parts.extend(profile.map_or(Vec::new(), |profile| shares(Work::Discovery, &case, profile)));
            add(Timing::new(Work::Discovery.name(), case, spread, amount).against(peak));
        }
        let what = format!("discovery-step: time over all weights / over survivors, 99.5% pruned, {steps} steps");
        ratios.push(Ratio { what, value: medians[0] / medians[1] });
    }
    Ok((ratios, parts))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::device::Cpu;

    fn near(got: f64, want: f64) -> bool {
        (got / want - 1.0).abs() < 1e-9
    }

    /// Every number of the report from what was measured, worked out once more.
    #[test]
    fn rates_and_peaks_are_those_of_the_work_that_was_timed() {
        let cpu = Cpu::new(Some(1)).unwrap();
        let report = run(&cpu, &Selection::new("adam").unwrap(), Depth::Quick, &mut |_, _| {}).unwrap();
        assert_eq!(report.kernel_clock, "host");
        let case = |kernel: &Kernel, name: &str| (kernel.cases)().into_iter().find(|case| case.name == name).unwrap();
        let [fma, copy, adam] = &report.timings[..] else { panic!("{report:?}") };
        for (timing, kernel) in
            [(fma, &peak_fma::KERNEL), (copy, &peak_copy::KERNEL), (adam, &crate::kernels::adam::KERNEL)]
        {
            let case = case(kernel, &timing.case);
            let bytes: usize = case.buffers.iter().map(|words| 4 * words.len()).sum();
            let rate = timing.gigabytes_per_second.unwrap();
            assert!(near(rate * timing.seconds.median * 1e9, bytes as f64), "{timing:?}");
            assert!(near(timing.of_peak_bandwidth.unwrap(), rate / report.peak.gigabytes_per_second), "{timing:?}");
            if let Some(rate) = timing.gflops {
                assert!(near(rate * timing.seconds.median * 1e9, case.flops as f64), "{timing:?}");
            }
        }
        // The best sample of the largest case.
        for (timing, kernel, peak) in
            [(fma, &peak_fma::KERNEL, report.peak.gflops), (copy, &peak_copy::KERNEL, report.peak.gigabytes_per_second)]
        {
            let all = sizeable(kernel);
            assert_eq!(case(kernel, &timing.case).bytes(), all.iter().map(Case::bytes).max().unwrap());
            let rate = if timing.name == "peak_fma" { timing.gflops } else { timing.gigabytes_per_second };
            assert!(near(peak * timing.seconds.fastest, rate.unwrap() * timing.seconds.median), "{timing:?}, {peak}");
        }
    }

    #[test]
    fn rates_of_steps_are_over_all_images_of_all_clients() {
        let cpu = Cpu::new(Some(1)).unwrap();
        let report = run(&cpu, &Selection::new("-step").unwrap(), Depth::Quick, &mut |_, _| {}).unwrap();
        let flops = training_flops(&simple_cnn().unwrap()) as f64;
        let of = |name: &str| report.timings.iter().filter(|t| t.name == name).cloned().collect::<Vec<_>>();
        let (training, discovery) = (of("training-step"), of("discovery-step"));
        assert_eq!((training.len(), discovery.len()), (3, 4));
        for (timing, clients) in training.iter().zip(CLIENTS) {
            // Batches of four.
            assert!(near(timing.images_per_second.unwrap() * timing.seconds.median, 4.0 * clients as f64));
            assert!(near(timing.gflops.unwrap() * 1e9, timing.images_per_second.unwrap() * flops), "{timing:?}");
        }
        for timing in &discovery {
            // Four searches of four images.
            assert!(near(timing.images_per_second.unwrap() * timing.seconds.median, 16.0), "{timing:?}");
        }
        for (ratio, pair) in report.ratios.iter().zip(discovery.chunks(2)) {
            assert!(pair[0].case.contains("all weights") && pair[1].case.contains("survivors"));
            assert!(near(ratio.value, pair[0].seconds.median / pair[1].seconds.median), "{ratio:?}");
        }
    }

    #[test]
    fn parts_are_shares_of_the_time_of_all_kernels() {
        let took = |kernel, dispatches, ms| Took { kernel, dispatches, time: Duration::from_millis(ms) };
        let parts = shares(Work::Training, "case", Profile(vec![took("conv", 2, 60), took("adam", 5, 20)]));
        let found: Vec<_> = parts.iter().map(|p| (p.of, p.kernel, p.dispatches, p.share)).collect();
        assert_eq!(found, [("training-step", "conv", 2, 0.75), ("training-step", "adam", 5, 0.25)]);
        assert!(near(parts[0].seconds, 0.06) && near(parts[1].seconds, 0.02));
    }
}
