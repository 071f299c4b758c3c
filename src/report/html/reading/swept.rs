//! The keys of the configuration that a sweep changed, and what they were in each run.

use std::path::Path;

use super::rows::each_row;
use super::run::Run;
use crate::Result;

/// A key, with what it was in each of several runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Swept {
    /// As in the configuration, such as `training.lr`.
    pub key: String,
    /// By run.
    pub values: Vec<String>,
}

/// A variant's keys with their values.
type Values = Vec<(String, String)>;

/// What `sweep.csv` says of the keys of each variant, in its order; empty where a folder holds no sweep.
///
/// # Errors
/// A table that is broken, with its line.
pub fn read(folder: &Path) -> Result<Vec<(String, Values)>> {
    let mut variants: Vec<(String, Values)> = Vec::new();
    each_row(&folder.join("sweep.csv"), &mut |row| {
        let variant = row.text("variant");
        if variants.last().is_some_and(|(last, _)| last == variant) {
            return Ok(());
        }
        let keys = row.columns().skip(1).take_while(|column| *column != "round");
        let values = keys.map(|key| (key.to_string(), row.text(key).to_string())).collect();
        variants.push((variant.to_string(), values));
        Ok(())
    })?;
    Ok(variants)
}

/// The keys that a sweep changed from run to run; of runs of no sweep, the only key in which they differ.
pub fn keys(runs: &[Run]) -> Vec<Swept> {
    let names = |run: &Run| run.swept.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    let Some(first) = runs.first() else { return Vec::new() };
    let swept = names(first);
    if !swept.is_empty() && runs.iter().all(|run| names(run) == swept) {
        let values = |i: usize| runs.iter().map(|run| run.swept[i].1.clone()).collect();
        let all = swept.into_iter().enumerate().map(|(i, key)| Swept { key, values: values(i) });
        return all.filter(Swept::varies).collect();
    }
    let chosen = |key: &Swept| !["name", "seed", "seeds"].contains(&key.key.as_str());
    match &differing(runs).into_iter().filter(chosen).collect::<Vec<_>>()[..] {
        [only] => vec![only.clone()],
        _ => Vec::new(),
    }
}

/// All keys in which runs differ, sorted.
pub fn differing(runs: &[Run]) -> Vec<Swept> {
    let mut keys = Vec::new();
    runs.iter().for_each(|run| leaves(&run.config, "", &mut keys));
    keys.sort_unstable();
    keys.dedup();
    let swept = |key: String| Swept { values: runs.iter().map(|run| run.setting(&key)).collect(), key };
    keys.into_iter().map(swept).filter(Swept::varies).collect()
}

fn leaves(table: &toml::Table, prefix: &str, keys: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => leaves(inner, &format!("{prefix}{key}."), keys),
            _ => keys.push(format!("{prefix}{key}")),
        }
    }
}

/// Runs that differ in the `key`-th key alone, each with what the other keys were in them. Where no two runs do, as all
/// keys change at once, all runs together.
pub fn groups(swept: &[Swept], key: usize) -> Vec<(String, Vec<usize>)> {
    let runs = swept.first().map_or(0, |swept| swept.values.len());
    let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
    for run in 0..runs {
        let others = swept.iter().enumerate().filter(|(i, _)| *i != key);
        let of = |(_, other): (usize, &Swept)| format!("{} {}", short(&other.key), other.values[run]);
        let label = others.map(of).collect::<Vec<_>>().join(", ");
        match groups.iter_mut().find(|(known, _)| *known == label) {
            Some((_, members)) => members.push(run),
            None => groups.push((label, vec![run])),
        }
    }
    if groups.len() > 1 && groups.len() == runs { vec![(String::new(), (0..runs).collect())] } else { groups }
}

/// The last part of a key.
pub fn short(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// How numbers are laid along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// As they are.
    Linear,
    /// By their logarithm: positive numbers that span a power of ten.
    Log,
    /// By the logarithm of what they lack to 1: shares so near to 1, as sparsities are.
    LogRest,
}

impl Scale {
    /// For these values.
    pub fn of(values: &[f64]) -> Self {
        let spans = |of: fn(f64) -> f64| {
            let (mut least, mut most) = (f64::INFINITY, 0.0f64);
            for value in values.iter().map(|value| of(*value)) {
                (least, most) = (least.min(value), most.max(value));
            }
            // With room for what 1 less a decimal fraction loses.
            least > 0.0 && most / least >= 10.0 * (1.0 - 1e-9)
        };
        if values.iter().all(|v| (0.0..1.0).contains(v)) && spans(|v| 1.0 - v) {
            Self::LogRest
        } else if spans(|v| v) {
            Self::Log
        } else {
            Self::Linear
        }
    }

    /// Where a value lies.
    pub fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.log10(),
            Self::LogRest => -(1.0 - value).log10(),
        }
    }

    /// What to write beside the axis of a key.
    pub fn title(self, key: &str) -> String {
        match self {
            Self::Linear => key.to_string(),
            Self::Log => format!("{key}, logarithmic"),
            Self::LogRest => format!("{key}, by the logarithm of 1 − value"),
        }
    }
}

impl Swept {
    fn varies(&self) -> bool {
        self.values.windows(2).any(|pair| pair[0] != pair[1])
    }

    /// The values as numbers, if all of them are.
    pub fn numbers(&self) -> Option<Vec<f64>> {
        let number = |text: &String| text.parse().ok().filter(|value: &f64| value.is_finite());
        self.values.iter().map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swept(key: &str, values: &[&str]) -> Swept {
        Swept { key: key.into(), values: values.iter().map(|value| value.to_string()).collect() }
    }

    #[test]
    fn runs_are_grouped_by_what_the_other_keys_were() {
        let crossed = [swept("a.x", &["1", "1", "2", "2"]), swept("b.lr", &["5", "6", "5", "6"])];
        assert_eq!(groups(&crossed, 0), [("lr 5".to_string(), vec![0, 2]), ("lr 6".to_string(), vec![1, 3])]);
        assert_eq!(groups(&crossed, 1), [("x 1".to_string(), vec![0, 1]), ("x 2".to_string(), vec![2, 3])]);
        assert_eq!(groups(&crossed[..1], 0), [(String::new(), vec![0, 1, 2, 3])]);
        let zipped = [swept("a", &["1", "2"]), swept("b", &["3", "4"])];
        assert_eq!(groups(&zipped, 0), [(String::new(), vec![0, 1])]);
    }

    #[test]
    fn axes_are_logarithmic_where_values_span_a_power_of_ten() {
        assert_eq!(Scale::of(&[0.95, 0.97, 0.99, 0.995, 0.997]), Scale::LogRest);
        assert_eq!(Scale::of(&[0.0, 0.9]), Scale::LogRest);
        assert_eq!(Scale::of(&[0.05, 0.1, 0.5]), Scale::Log);
        assert_eq!(Scale::of(&[0.0005, 0.001, 0.002]), Scale::Linear);
        assert_eq!(Scale::of(&[0.0, 10.0, 20.0]), Scale::Linear);
        assert_eq!(Scale::of(&[-1.0, 100.0]), Scale::Linear);
        assert!((Scale::LogRest.place(0.99) - 2.0).abs() < 1e-12 && (Scale::Log.place(0.1) + 1.0).abs() < 1e-12);
    }

    #[test]
    fn only_numbers_are_numbers() {
        assert_eq!(swept("a", &["0.5", "1e-3"]).numbers(), Some(vec![0.5, 0.001]));
        for other in ["adam", "", "inf", "nan", "[1, 2]"] {
            assert_eq!(swept("a", &["1", other]).numbers(), None, "{other}");
        }
    }
}
