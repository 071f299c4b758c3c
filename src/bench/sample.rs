//! Timing: how often, and what is said of the samples.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::Result;

/// How much time a measurement may take.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// A sample repeats the work until it takes as long: many dispatches then share one wait.
    pub sample: Duration,
    /// Samples, at most.
    pub samples: usize,
    /// No sample begins after so much time.
    pub total: Duration,
}

impl Effort {
    /// For a kernel, in a benchmark.
    pub const KERNEL: Self =
        Self { sample: Duration::from_millis(20), samples: 25, total: Duration::from_millis(1500) };
    /// For a round, in a benchmark.
    pub const ROUND: Self = Self { sample: Duration::ZERO, samples: 5, total: Duration::from_secs(10) };
    /// To see that it runs.
    pub const QUICK: Self = Self { sample: Duration::ZERO, samples: 2, total: Duration::from_millis(1) };
}

/// Work that repeats itself as often as it is told, waits for the device, and says how long that took.
pub type Runs<'a> = &'a mut dyn FnMut(u64) -> Result<Duration>;

/// Seconds that one repeat of the work takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the samples took less.
    pub median: f64,
    /// A quarter took less.
    pub lower_quartile: f64,
    /// A quarter took more.
    pub upper_quartile: f64,
    /// The least.
    pub fastest: f64,
    /// The most.
    pub slowest: f64,
    /// How many samples there are.
    pub samples: usize,
    /// How often each sample repeats the work.
    pub repeats: u64,
}

impl Spread {
    /// Of `samples` (at least one), each the mean of so many `repeats`. Quantiles between two samples are interpolated.
    pub fn new(mut samples: Vec<f64>, repeats: u64) -> Self {
        samples.sort_by(f64::total_cmp);
        let quantile = |q: f64| {
            let at = q * (samples.len() - 1) as f64;
            let (below, above) = (samples[at.floor() as usize], samples[at.ceil() as usize]);
            below + at.fract() * (above - below)
        };
        Self {
            median: quantile(0.5),
            lower_quartile: quantile(0.25),
            upper_quartile: quantile(0.75),
            fastest: quantile(0.0),
            slowest: quantile(1.0),
            samples: samples.len(),
            repeats,
        }
    }
}

/// Times `work`. The first call, in which kernels are compiled and memory is touched for the first time, is not counted.
///
/// # Errors
/// Those of `work`.
pub fn measure(effort: Effort, work: Runs<'_>) -> Result<Spread> {
    work(1)?;
    let start = Instant::now();
    let mut repeats = 1;
    let mut took = work(repeats)?;
    while took < effort.sample {
        let short = effort.sample.as_secs_f64() / took.as_secs_f64().max(1e-9);
        // Short samples mislead: twice to ten times as many at once, until they fill the time.
        repeats = (repeats as f64 * (1.1 * short).clamp(2.0, 10.0)) as u64;
        took = work(repeats)?;
    }
    let mut samples = vec![took];
    while samples.len() < effort.samples && start.elapsed() < effort.total {
        samples.push(work(repeats)?);
    }
    Ok(Spread::new(samples.iter().map(|took| took.as_secs_f64() / repeats as f64).collect(), repeats))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_samples_in_any_order() {
        let spread = Spread::new(vec![5.0, 1.0, 2.0, 4.0, 3.0], 7);
        assert_eq!((spread.median, spread.lower_quartile, spread.upper_quartile), (3.0, 2.0, 4.0));
        assert_eq!((spread.fastest, spread.slowest, spread.samples, spread.repeats), (1.0, 5.0, 5, 7));
        let spread = Spread::new(vec![2.0, 1.0], 1);
        assert_eq!((spread.median, spread.lower_quartile, spread.upper_quartile), (1.5, 1.25, 1.75));
    }

    #[test]
    fn work_is_repeated_until_a_sample_is_long_enough_and_the_first_call_is_not_counted() {
        let effort = Effort { sample: Duration::from_millis(8), samples: 4, total: Duration::from_secs(60) };
        let mut calls = Vec::new();
        let spread = measure(effort, &mut |n| {
            calls.push(n);
            // The clock is made up: a millisecond a repeat, and ten seconds for the first call.
            Ok(if calls.len() == 1 { Duration::from_secs(10) } else { Duration::from_millis(n) })
        })
        .unwrap();
        assert_eq!(calls, [1, 1, 8, 8, 8, 8]);
        assert_eq!((spread.samples, spread.repeats), (4, 8));
        assert!((spread.slowest - 1e-3).abs() < 1e-12 && (spread.fastest - 1e-3).abs() < 1e-12, "{spread:?}");
    }

    /// One short sample says little of how many fill the time: of ten times as many at most it is tried again.
    #[test]
    fn repeats_grow_tenfold_at_most() {
        let effort = Effort { sample: Duration::from_millis(20), samples: 1, total: Duration::from_secs(60) };
        let mut calls = Vec::new();
        measure(effort, &mut |n| {
            calls.push(n);
            Ok(Duration::from_micros(10 * n))
        })
        .unwrap();
        assert_eq!(calls, [1, 1, 10, 100, 1000, 2200]);
    }
}
