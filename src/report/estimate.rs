//! A figure over several seeds: its mean, how it spreads, and where its expectation lies.

use super::history::number;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// The probability that an interval covers the expectation, if the figure is normally distributed over seeds.
pub const CONFIDENCE: f64 = 0.95;

/// What some seeds say of a figure. What is undefined is not a number: `null` in JSON, an empty cell in CSV.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Over the seeds for which the figure is defined.
    #[serde(deserialize_with = "number")]
    pub mean: f64,
    /// Sample standard deviation, with n - 1 in the denominator; undefined for fewer than two seeds.
    #[serde(deserialize_with = "number")]
    pub std: f64,
    /// Lower end of the 95% interval, mean - t std / sqrt(n), t the 97.5% point of Student's distribution with n - 1
    /// degrees of freedom; undefined for fewer than two seeds.
    #[serde(deserialize_with = "number")]
    pub low: f64,
    /// Its upper end.
    #[serde(deserialize_with = "number")]
    pub high: f64,
    /// Seeds for which the figure is defined.
    pub n: usize,
    /// Seeds for which it is not: they do not enter the mean.
    pub undefined: usize,
}

impl Estimate {
    /// From a value a seed; those that are not finite are undefined.
    pub fn new(values: &[f64]) -> Self {
        let defined: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        let n = defined.len();
        let mean = if n > 0 { defined.iter().sum::<f64>() / n as f64 } else { f64::NAN };
        let (mut std, mut half) = (f64::NAN, f64::NAN);
        if n > 1 {
            std = (defined.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64).sqrt();
            half = quantile(n - 1) * std / (n as f64).sqrt();
        }
        Self { mean, std, low: mean - half, high: mean + half, n, undefined: values.len() - n }
    }

    /// Half the width of the interval.
    pub fn half(&self) -> f64 {
        (self.high - self.low) / 2.0
    }

    /// As if there were no seeds for which it is undefined: for sentences that name them themselves.
    pub fn unmarked(self) -> Self {
        Self { undefined: 0, ..self }
    }

    /// A fraction in percent, with the half-width in points where there is an interval, and the mark of seeds for which it is
    /// undefined: `97.5% ± 0.4 [2 of 3]`.
    pub fn percent(&self) -> String {
        self.text(percent(self.mean), format!("{:.1}", 100.0 * self.half()))
    }

    /// With so many decimals, and the same: `0.50 ± 0.04 [2 of 3]`.
    pub fn decimals(&self, places: usize) -> String {
        self.text(format!("{:.places$}", self.mean), format!("{:.places$}", self.half()))
    }

    fn text(&self, mean: String, half: String) -> String {
        let text = match (self.mean.is_finite(), self.half().is_finite()) {
            (false, _) => return "-".into(),
            (true, false) => mean,
            (true, true) => format!("{mean} ± {half}"),
        };
        match self.undefined {
            0 => text,
            undefined => format!("{text} [{} of {}]", self.n, self.n + undefined),
        }
    }
}

/// A fraction in percent, where only all of it is 100.
pub fn percent(fraction: f64) -> String {
    let text = format!("{:.1}%", 100.0 * fraction);
    if fraction < 1.0 && text == "100.0%" { ">99.9%".into() } else { text }
}

/// What the mark of an estimate means.
pub const MARK: &str = "[n of N]: a mean over the n of N seeds for which it is defined";

/// Whether an estimate in a text has the mark of seeds for which it is undefined.
pub fn is_marked(text: &str) -> bool {
    let is_mark = |mark: &str| mark.split(" of ").filter(|count| count.parse::<usize>().is_ok()).count() == 2;
    text.split('[').skip(1).filter_map(|rest| rest.split(']').next()).any(is_mark)
}

/// The point of Student's distribution that splits off (1 - 0.95) / 2 above it.
fn quantile(freedom: usize) -> f64 {
    let student = StudentsT::new(0.0, 1.0, freedom as f64);
    student.map_or(f64::NAN, |student| student.inverse_cdf(0.5 + CONFIDENCE / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published table (NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, column 0.975).
    #[test]
    fn quantiles_are_those_of_the_table() {
        for (freedom, t) in [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (29, 2.045), (100, 1.984)] {
            let got = quantile(freedom);
            assert!((got - t).abs() <= 5.1e-4, "{freedom} degrees of freedom: {got}, not {t}");
        }
        // With one degree of freedom it is Cauchy's distribution, whose quantile is tan(pi (p - 1/2)).
        assert!((quantile(1) - (std::f64::consts::PI * 0.475).tan()).abs() < 1e-6, "{}", quantile(1));
        assert!((quantile(999) - 1.962_341).abs() < 1e-5, "{}", quantile(999));
    }

    #[test]
    fn an_interval_by_hand() {
        // Mean 3, squared deviations 4 + 1 + 0 + 1 + 4 over 4: variance 2.5. Half-width 2.776445 sqrt(2.5 / 5).
        let five = Estimate::new(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!((five.mean, five.std, five.n, five.undefined), (3.0, 2.5f64.sqrt(), 5, 0));
        assert!((five.half() - 2.776_445 * 0.5f64.sqrt()).abs() < 1e-6, "{five:?}");
        assert!((five.low - 1.036_757).abs() < 1e-6 && (five.high - 4.963_243).abs() < 1e-6, "{five:?}");
        // Two seeds: mean 0.5, deviation 0.1 sqrt(2), so that the half-width is 12.7062 / 10.
        let two = Estimate::new(&[0.4, 0.6]);
        assert!((two.half() - 1.270_62).abs() < 1e-5, "{two:?}");
        let equal = Estimate::new(&[0.25; 7]);
        assert_eq!((equal.mean, equal.std, equal.low, equal.high), (0.25, 0.0, 0.25, 0.25));
    }

    #[test]
    fn what_is_undefined_is_counted_and_left_out() {
        let some = Estimate::new(&[f64::NAN, 1.0, f64::INFINITY, 3.0]);
        assert_eq!((some.mean, some.n, some.undefined), (2.0, 2, 2));
        let one = Estimate::new(&[0.5, f64::NAN]);
        assert!(one.mean == 0.5 && one.std.is_nan() && one.low.is_nan() && one.high.is_nan(), "{one:?}");
        let none = Estimate::new(&[f64::NAN]);
        assert!(none.mean.is_nan() && none.n == 0 && none.undefined == 1, "{none:?}");
        let json = serde_json::to_string(&one).unwrap();
        assert_eq!(json, r#"{"mean":0.5,"std":null,"low":null,"high":null,"n":1,"undefined":1}"#);
    }

    #[test]
    fn intervals_are_shown_where_there_are_any() {
        let interval = Estimate { mean: 0.975, std: 0.0, low: 0.971, high: 0.979, n: 3, undefined: 0 };
        assert_eq!((interval.percent().as_str(), interval.decimals(2).as_str()), ("97.5% ± 0.4", "0.97 ± 0.00"));
        assert_eq!(Estimate::new(&[0.5]).percent(), "50.0%");
        assert_eq!([1.0, 0.9996, 0.9994].map(|all| Estimate::new(&[all]).percent()), ["100.0%", ">99.9%", "99.9%"]);
        assert_eq!(Estimate::new(&[1.0, 0.9998]).percent(), ">99.9% ± 0.1");
        assert_eq!(Estimate::new(&[]).decimals(3), "-");
    }

    #[test]
    fn what_some_seeds_lack_is_marked() {
        let [some, none] = [[0.5, f64::NAN, 0.5], [f64::NAN; 3]].map(|values| Estimate::new(&values));
        assert_eq!(
            (some.decimals(2).as_str(), some.unmarked().percent().as_str()),
            ("0.50 ± 0.00 [2 of 3]", "50.0% ± 0.0")
        );
        assert_eq!(none.percent(), "-");
        assert!(is_marked(&format!("[a] {} (0.12)", some.percent())));
        assert!(!is_marked("50.0%") && !is_marked("[one of two] [3]") && !is_marked("1 of 2"));
    }
}
