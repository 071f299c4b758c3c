//! The closing table: accuracy by round, and overlaps of the last round, of one run or of several side by side.

use super::records::{Level, OverlapRecord, RoundRecord};
use super::summary::{Fates, MeanOverlap, mean_overlaps};

/// One run, for the table.
#[derive(Clone, Copy, Debug)]
pub struct RunView<'a> {
    /// What its columns are called where there are several.
    pub label: &'a str,
    /// Its rounds.
    pub rounds: &'a [RoundRecord],
    /// Its overlaps; only the last round's channels are shown.
    pub overlaps: &'a [OverlapRecord],
    /// How the clients' classes fared, by round.
    pub fates: &'a [Fates],
}

/// More rounds than this are thinned out: the table is to fit a screen.
const MAX_ROWS: usize = 12;

/// Aligned plain text that ends with a line break.
pub fn closing_table(runs: &[RunView]) -> String {
    let mut text = align(&accuracy_rows(runs), 0);
    let means: Vec<Vec<MeanOverlap>> = runs.iter().map(|run| node_means(run.overlaps)).collect();
    if means.iter().any(|means| !means.is_empty()) {
        text += "\nOverlap of circuits (IoU) in the last round; in brackets, that of random circuits as large\n";
        text += &align(&overlap_rows(runs, &means), runs.len().min(2));
    }
    if runs.iter().any(|run| !run.fates.is_empty()) {
        text += "\nClasses of clients after averaging: kept, kept through other channels, lost, never learned\n";
        text += &align(&fate_rows(runs), 0);
    }
    text
}

fn fate_rows(runs: &[RunView]) -> Vec<Vec<String>> {
    let columns = ["preserved", "drift", "interference", "not learned"];
    let mut rows = heading(runs, columns);
    let count = runs.iter().map(|run| run.fates.len()).max().unwrap_or(0);
    for i in shown(count) {
        let number = runs.iter().find_map(|run| run.fates.get(i)).map_or(i + 1, |fates| fates.round);
        let cells = runs.iter().flat_map(|run| match run.fates.get(i) {
            Some(f) => {
                [f.preserved, f.structural_drift, f.destructive_interference, f.not_learned].map(|n| n.to_string())
            }
            None => columns.map(|_| "-".to_string()),
        });
        rows.push(std::iter::once(number.to_string()).chain(cells).collect());
    }
    rows
}

/// The rows over a table by round with the same columns for each run.
fn heading(runs: &[RunView], columns: [&str; 4]) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    if runs.len() > 1 {
        // The label of each run over the first of its columns.
        let labels = runs.iter().flat_map(|run| [run.label, "", "", ""]);
        rows.push(std::iter::once("").chain(labels).map(String::from).collect());
    }
    rows.push(std::iter::once("round").chain(runs.iter().flat_map(|_| columns)).map(String::from).collect());
    rows
}

fn accuracy_rows(runs: &[RunView]) -> Vec<Vec<String>> {
    let columns = ["accuracy", "trained", "loss", "seconds"];
    let mut rows = heading(runs, columns);
    let count = runs.iter().map(|run| run.rounds.len()).max().unwrap_or(0);
    for i in shown(count) {
        let number = runs.iter().find_map(|run| run.rounds.get(i)).map_or(i + 1, |record| record.round);
        let cells = runs.iter().flat_map(|run| match run.rounds.get(i) {
            Some(record) => [
                percent(record.global.accuracy),
                percent(record.global.trained_accuracy),
                format!("{:.3}", record.global.loss),
                format!("{:.1}", record.seconds.total),
            ],
            None => columns.map(|_| "-".to_string()),
        });
        rows.push(std::iter::once(number.to_string()).chain(cells).collect());
    }
    rows
}

/// Which of `count` rows are shown: all, or the first, the last and evenly spaced ones between.
fn shown(count: usize) -> Vec<usize> {
    if count <= MAX_ROWS {
        (0..count).collect()
    } else {
        (0..MAX_ROWS).map(|i| i * (count - 1) / (MAX_ROWS - 1)).collect()
    }
}

fn node_means(overlaps: &[OverlapRecord]) -> Vec<MeanOverlap> {
    mean_overlaps(overlaps).into_iter().filter(|mean| mean.level == Level::Node).collect()
}

fn overlap_rows(runs: &[RunView], means: &[Vec<MeanOverlap>]) -> Vec<Vec<String>> {
    let mut layers: Vec<&str> = Vec::new();
    let mut comparisons = Vec::new();
    for mean in means.iter().flatten() {
        if !layers.contains(&mean.layer.as_str()) {
            layers.push(&mean.layer);
        }
        if !comparisons.contains(&mean.comparison) {
            comparisons.push(mean.comparison);
        }
    }
    // Runs below each other: side by side, two runs of a few layers are too wide for a terminal.
    let row = |comparison: &str, run: &str, cells: Vec<String>| {
        let names = [comparison, run].into_iter().take(runs.len().min(2));
        names.map(String::from).chain(cells).collect::<Vec<_>>()
    };
    let mut rows = vec![row("", "", layers.iter().map(|layer| layer.to_string()).collect())];
    for comparison in comparisons {
        for (run, means) in runs.iter().zip(means) {
            let cell = |layer: &&str| {
                let mean = means.iter().find(|mean| mean.comparison == comparison && mean.layer == *layer);
                mean.map_or("-".to_string(), |mean| format!("{:.2} ({:.2})", mean.iou, mean.chance))
            };
            rows.push(row(&comparison.name().replace('_', " "), run.label, layers.iter().map(cell).collect()));
        }
    }
    rows
}

fn percent(fraction: f64) -> String {
    if fraction.is_finite() { format!("{:.1}%", 100.0 * fraction) } else { "-".into() }
}

/// Columns two spaces apart, the first `left` of them flush left, the others flush right.
fn align(rows: &[Vec<String>], left: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells =
            row.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| {
                if i < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::records::{Comparison, GlobalRecord, Seconds};
    use super::*;

    fn round(round: usize, accuracy: f64) -> RoundRecord {
        RoundRecord {
            round,
            seconds: Seconds { total: 2.25, ..Seconds::default() },
            global: GlobalRecord { loss: 0.5, accuracy, trained_accuracy: f64::NAN, per_class_accuracy: vec![] },
            clients: vec![],
            sparsity: vec![],
            readbacks: 1,
            bytes_read_back: 0,
        }
    }

    fn overlap(comparison: Comparison, layer: &str, iou: f64) -> OverlapRecord {
        OverlapRecord {
            round: 2,
            comparison,
            level: Level::Node,
            layer: layer.into(),
            client_a: 0,
            class_a: 0,
            client_b: 0,
            class_b: 0,
            size_a: 1,
            size_b: 1,
            iou: Some(iou),
            chance: Some(0.125),
        }
    }

    #[test]
    fn one_run() {
        let rounds = [round(1, 0.1), round(2, 0.975)];
        let overlaps = [overlap(Comparison::LocalGlobal, "conv1", 1.0), overlap(Comparison::LocalGlobal, "all", 0.5)];
        let expected = "\
round  accuracy  trained   loss  seconds
    1     10.0%        -  0.500      2.2
    2     97.5%        -  0.500      2.2

Overlap of circuits (IoU) in the last round; in brackets, that of random circuits as large
                    conv1          all
local global  1.00 (0.12)  0.50 (0.12)
";
        assert_eq!(
            closing_table(&[RunView { label: "a", rounds: &rounds, overlaps: &overlaps, fates: &[] }]),
            expected
        );
        let silent = closing_table(&[RunView { label: "a", rounds: &rounds, overlaps: &[], fates: &[] }]);
        assert!(expected.starts_with(&silent));
    }

    #[test]
    fn two_runs_side_by_side() {
        let long = [round(1, 0.1), round(2, 0.975)];
        let (here, there) =
            ([overlap(Comparison::LocalGlobal, "conv1", 1.0)], [overlap(Comparison::Mismatched, "conv1", 0.0)]);
        let fates = [1, 2].map(|round| Fates { round, preserved: 7 - round, not_learned: 11, ..Fates::default() });
        let found = closing_table(&[
            RunView { label: "iid", rounds: &long, overlaps: &here, fates: &fates },
            RunView { label: "one-class", rounds: &long[..1], overlaps: &there, fates: &fates[..1] },
        ]);
        let expected = "\
\x20           iid                           one-class
round  accuracy  trained   loss  seconds   accuracy  trained   loss  seconds
    1     10.0%        -  0.500      2.2      10.0%        -  0.500      2.2
    2     97.5%        -  0.500      2.2          -        -      -        -

Overlap of circuits (IoU) in the last round; in brackets, that of random circuits as large
                               conv1
local global  iid        1.00 (0.12)
local global  one-class            -
mismatched    iid                  -
mismatched    one-class  0.00 (0.12)

Classes of clients after averaging: kept, kept through other channels, lost, never learned
             iid                                    one-class
round  preserved  drift  interference  not learned  preserved  drift  interference  not learned
    1          6      0             0           11          6      0             0           11
    2          5      0             0           11          -      -             -            -
";
        assert_eq!(found, expected);
    }

    #[test]
    fn many_rounds_keep_the_first_and_the_last() {
        let rows = shown(1000);
        assert_eq!((rows.len(), rows[0], rows[11]), (MAX_ROWS, 0, 999));
        assert_eq!(shown(3), [0, 1, 2]);
    }
}
