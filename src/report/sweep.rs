//! What a sweep found: the last round of each of its experiments, a row each.

use std::path::Path;

use super::estimate::{Estimate, MARK, is_marked};
use super::figures::{Figure, RoundFigures};
use super::folder::unwritable;
use super::records::{Comparison, Level};
use super::rows;
use super::table::align;
use crate::Result;
use crate::files::replace_whole;

/// An experiment of a sweep.
#[derive(Clone, Debug)]
pub struct SweepRun<'a> {
    /// The name of its folder.
    pub label: &'a str,
    /// The swept keys with their values here, the same keys for all.
    pub values: Vec<(String, String)>,
    /// Its last round.
    pub last: &'a RoundFigures,
}

/// Writes `sweep.csv` into `folder`: every figure of every experiment's last round, beside the values of the swept keys.
///
/// # Errors
/// [`crate::Error::Io`] when it cannot be written.
pub fn write_sweep(folder: &Path, runs: &[SweepRun<'_>]) -> Result<()> {
    let path = folder.join("sweep.csv");
    replace_whole(&path, &rows::sweep(runs).map_err(unwritable(&path))?)
}

/// A column of the table: its name, what it shows, and how.
type Column = (&'static str, Figure, fn(&Estimate) -> String);

/// Aligned plain text with a line for each experiment, which have so many seeds.
pub fn sweep_table(runs: &[SweepRun<'_>], seeds: &[usize]) -> String {
    let iou = |comparison| Figure::Overlap(comparison, Level::Node, "all".into());
    let chance = Figure::Chance(Comparison::LocalGlobal, Level::Node, "all".into());
    let columns: [Column; 6] = [
        ("accuracy", Figure::Accuracy, Estimate::percent),
        ("trained", Figure::TrainedAccuracy, Estimate::percent),
        ("loss", Figure::Loss, |loss| loss.decimals(3)),
        ("local-global", iou(Comparison::LocalGlobal), |iou| iou.decimals(2)),
        ("by chance", chance, |iou| iou.decimals(2)),
        ("mismatched", iou(Comparison::Mismatched), |iou| iou.decimals(2)),
    ];
    let shown: Vec<_> = columns.iter().filter(|(_, f, _)| runs.iter().any(|run| run.last.get(f).is_some())).collect();
    let keys = runs.first().map(|run| run.values.iter().map(|(key, _)| key.clone()).collect()).unwrap_or_default();
    let mut table: Vec<Vec<String>> = vec![keys];
    table[0].extend(shown.iter().map(|(name, ..)| (*name).to_string()));
    for run in runs {
        let mut row: Vec<String> = run.values.iter().map(|(_, value)| value.clone()).collect();
        let cell =
            |(_, figure, text): &&Column| run.last.get(figure).filter(|found| found.n > 0).map_or("-".into(), text);
        row.extend(shown.iter().map(cell));
        table.push(row);
    }
    let most = seeds.iter().copied().max().unwrap_or(0);
    let over = match seeds.iter().all(|seeds| *seeds == most) {
        _ if most < 2 => String::new(),
        true => format!(", means over {most} seeds ± half the width of their 95% intervals"),
        // Then they are swept, and a column tells of them.
        false => ", means over the seeds of each ± half the width of their 95% intervals".into(),
    };
    let circuits = match shown.iter().any(|(_, figure, _)| matches!(figure, Figure::Overlap(..))) {
        true => "; local-global and mismatched are overlaps of circuits (IoU)",
        false => "",
    };
    let what = format!("The last round{over}{circuits}\n");
    let text = what + &align(&table, 0);
    if is_marked(&text) { format!("{text}\n{MARK}\n") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(accuracy: f64) -> RoundFigures {
        RoundFigures::new(3, 1.0, &[vec![(Figure::Accuracy, accuracy)]])
    }

    #[test]
    fn every_experiment_has_a_row_with_the_values_of_its_keys() {
        let (one, two) = (round(0.5), round(0.75));
        let run =
            |label, value: &str, last| SweepRun { label, values: vec![("training.lr".into(), value.into())], last };
        let runs = [run("lr-0.1", "0.1", &one), run("lr-0.2", "0.2", &two)];
        let folder = tempfile::tempdir().unwrap();
        write_sweep(folder.path(), &runs).unwrap();
        write_sweep(folder.path(), &runs).unwrap();
        let text = std::fs::read_to_string(folder.path().join("sweep.csv")).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "variant,training.lr,round,figure,mean,std,low,high,n,undefined");
        assert!(
            lines[1].starts_with("lr-0.1,0.1,3,accuracy,0.5,") && lines[2].starts_with("lr-0.2,0.2,3,accuracy,0.75,")
        );
        assert!(sweep_table(&runs, &[2, 2]).starts_with("The last round, means over 2 seeds ± half"));
        assert!(sweep_table(&runs, &[1, 2]).starts_with("The last round, means over the seeds of each ± half"));
        let partly = RoundFigures::new(3, 1.0, &[vec![(Figure::Accuracy, 0.5)], vec![(Figure::Accuracy, f64::NAN)]]);
        let table = sweep_table(&[run("lr-0.1", "0.1", &partly)], &[2]);
        assert!(table.contains("50.0% [1 of 2]\n\n[n of N]: a mean over the n of N seeds"), "{table}");
        let table = sweep_table(&runs, &[1, 1]);
        let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows, [vec!["training.lr", "accuracy"], vec!["0.1", "50.0%"], vec!["0.2", "75.0%"]]);
    }
}
