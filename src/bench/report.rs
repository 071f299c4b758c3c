//! What a benchmark found, for people and for programs.

use serde::Serialize;

use super::Depth;
use super::sample::Spread;
use crate::device::DeviceInfo;

/// What one repeat of some work does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Amount {
    /// Floating-point operations.
    pub flops: Option<u64>,
    /// Bytes of all bindings.
    pub bytes: Option<u64>,
    /// Images.
    pub images: Option<u64>,
}

/// The most that the device did in any sample of the kernels made for that.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peak {
    /// Billions of floating-point operations a second, in registers.
    pub gflops: f64,
    /// Billions of bytes a second, read and written, copying what exceeds the caches.
    pub gigabytes_per_second: f64,
}

/// How long something took, and how much it did in that time; what does not apply is absent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timing {
    /// A kernel, or work larger than one.
    pub name: &'static str,
    /// With which input.
    pub case: String,
    /// Of one repeat.
    pub seconds: Spread,
    /// Billions of floating-point operations a second, at the median.
    pub gflops: Option<f64>,
    /// The same by the device's peak.
    pub of_peak_gflops: Option<f64>,
    /// Billions of bytes a second, at the median.
    pub gigabytes_per_second: Option<f64>,
    /// The same by the device's peak.
    pub of_peak_bandwidth: Option<f64>,
    /// Images a second, at the median.
    pub images_per_second: Option<f64>,
    #[serde(skip)]
    pub(super) amount: Amount,
}

impl Timing {
    pub(super) fn new(name: &'static str, case: String, seconds: Spread, amount: Amount) -> Self {
        let rate = |n: Option<u64>| n.map(|n| n as f64 / seconds.median);
        Self {
            name,
            case,
            seconds,
            gflops: rate(amount.flops).map(|r| r / 1e9),
            of_peak_gflops: None,
            gigabytes_per_second: rate(amount.bytes).map(|r| r / 1e9),
            of_peak_bandwidth: None,
            images_per_second: rate(amount.images),
            amount,
        }
    }

    /// With its shares of the device's peaks.
    pub(super) fn against(self, peak: &Peak) -> Self {
        Self {
            of_peak_gflops: self.gflops.map(|rate| rate / peak.gflops),
            of_peak_bandwidth: self.gigabytes_per_second.map(|rate| rate / peak.gigabytes_per_second),
            ..self
        }
    }

    /// One line of the table under [`Timing::heading`].
    pub fn line(&self) -> String {
        let number = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.1}"));
        let percent = |share: Option<f64>| share.map_or(String::new(), |s| format!("{:.0}%", 100.0 * s));
        let Spread { median, lower_quartile, upper_quartile, .. } = self.seconds;
        let images = self.images_per_second.map_or(String::new(), |rate| format!("; {rate:.0} images/s"));
        format!(
            "{:<24} {:>9}  {:>19} {:>8} {:>5} {:>7} {:>5}  {}{images}\n",
            self.name,
            time(median),
            format!("{} - {}", time(lower_quartile), time(upper_quartile)),
            number(self.gflops),
            percent(self.of_peak_gflops),
            number(self.gigabytes_per_second),
            percent(self.of_peak_bandwidth),
            self.case,
        )
    }

    /// The names of the columns of [`Timing::line`].
    pub fn heading() -> String {
        let [name, median, half] = ["", "median", "half of the samples"];
        format!("{name:<24} {median:>9}  {half:>19} {:>8} {:>5} {:>7} {:>5}  case\n", "GFLOP/s", "peak", "GB/s", "peak")
    }
}

/// How one time compares with another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Which by which.
    pub what: String,
    /// Of the medians.
    pub value: f64,
}

/// A kernel's part of the time that a device was busy with some work.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// The work.
    pub of: &'static str,
    /// With which input.
    pub case: String,
    /// The kernel.
    pub kernel: &'static str,
    /// How often it was dispatched.
    pub dispatches: usize,
    /// Of all its dispatches, one after the other, by the device's own clock.
    pub seconds: f64,
    /// Of the time of all kernels.
    pub share: f64,
}

impl Part {
    /// One line of a table.
    pub fn line(&self) -> String {
        let Self { kernel, dispatches, seconds, share, .. } = self;
        format!("{kernel:<24} {:>9}  {:>5.1}%  {dispatches} dispatches\n", time(*seconds), 100.0 * share)
    }
}

/// All that a benchmark found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Of this program.
    pub version: &'static str,
    /// What was measured.
    pub device: DeviceInfo,
    /// Whose clock timed the kernels: `device` or `host`. Larger work is timed by the host.
    pub kernel_clock: &'static str,
    /// `full`, or `quick`: then the numbers mean nothing.
    pub depth: Depth,
    /// The device's.
    pub peak: Peak,
    /// In the order of measurement.
    pub timings: Vec<Timing>,
    /// Of timings.
    pub ratios: Vec<Ratio>,
    /// Where the time of larger work goes, on devices with a clock of their own.
    pub parts: Vec<Part>,
}

/// Seconds with three digits and the unit that fits.
fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-3 => (1e6 * s, "us"),
        s if s < 1.0 => (1e3 * s, "ms"),
        s => (s, "s"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(amount: Amount) -> Timing {
        Timing::new("conv", "two clients".into(), Spread::new(vec![0.001, 0.002, 0.003], 10), amount)
    }

    #[test]
    fn rates_are_those_of_the_median_and_shares_those_of_the_peak() {
        let amount = Amount { flops: Some(4_000_000), bytes: Some(2_000_000), images: Some(64) };
        let timing = timing(amount).against(&Peak { gflops: 8.0, gigabytes_per_second: 10.0 });
        assert_eq!((timing.gflops, timing.of_peak_gflops), (Some(2.0), Some(0.25)));
        assert_eq!((timing.gigabytes_per_second, timing.of_peak_bandwidth), (Some(1.0), Some(0.1)));
        assert_eq!(timing.images_per_second, Some(32_000.0));
        let line = timing.line();
        for part in ["conv ", "2.00 ms", "1.50 ms - 2.50 ms", "2.0", "25%", "10%", "two clients; 32000 images/s"] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }

    #[test]
    fn what_does_not_apply_is_left_out() {
        let timing = timing(Amount::default()).against(&Peak { gflops: 8.0, gigabytes_per_second: 10.0 });
        assert_eq!(serde_json::to_value(&timing).unwrap()["gflops"], serde_json::Value::Null);
        assert!(timing.line().ends_with("  two clients\n") && !timing.line().contains('%'), "{}", timing.line());
        assert_eq!(Timing::heading().find("case"), timing.line().find("two clients"));
    }

    #[test]
    fn times_have_three_digits_and_a_unit() {
        let shown = [1.5e-7, 2.346e-5, 0.000_999, 0.0456, 0.5, 12.34].map(time);
        assert_eq!(shown, ["0.15 us", "23.5 us", "999 us", "45.6 ms", "500 ms", "12.3 s"]);
    }

    #[test]
    fn a_part_is_shown_with_its_percentage() {
        let part = Part { of: "w", case: "c".into(), kernel: "adam", dispatches: 3, seconds: 0.002, share: 0.125 };
        let line = part.line();
        assert!(line.starts_with("adam ") && line.contains("2.00 ms") && line.contains(" 12.5%"), "{line}");
        assert!(line.ends_with("3 dispatches\n"), "{line}");
    }
}
