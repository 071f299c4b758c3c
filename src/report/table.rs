//! The closing table: accuracy by round, and overlaps of the last round, of one run or of several side by side. A run
//! over several seeds shows means, each with the half-width of its interval.

use super::estimate::{Estimate, MARK, is_marked};
use super::figures::{Figure, RoundFigures};
use super::records::{Comparison, Control, Diagnosis, Level};

/// One run, for the table.
#[derive(Clone, Copy, Debug)]
pub struct RunView<'a> {
    /// What its columns are called where there are several.
    pub label: &'a str,
    /// Its seeds.
    pub seeds: usize,
    /// Its rounds; of the overlaps, only the last one's between channels are shown.
    pub rounds: &'a [RoundFigures],
}

impl RunView<'_> {
    /// Mean overlaps of the last round's channels, with what chance gives the same pairs, where they are defined.
    fn overlaps(&self) -> Vec<Overlap> {
        let Some(round) = self.rounds.last() else { return Vec::new() };
        let overlap = |(figure, found): &(Figure, Estimate)| match figure {
            Figure::Overlap(comparison, Level::Node, layer) if found.n > 0 => {
                let chance = round.get(&Figure::Chance(*comparison, Level::Node, layer.clone()));
                Some((*comparison, layer.clone(), *found, chance.map_or(f64::NAN, |chance| chance.mean)))
            }
            _ => None,
        };
        let found = round.figures.iter().filter_map(overlap);
        found.map(|(comparison, layer, iou, chance)| Overlap { comparison, layer, iou, chance }).collect()
    }

    fn has_diagnoses(&self) -> bool {
        let any = |round: &RoundFigures| round.figures.iter().any(|(f, _)| matches!(f, Figure::Diagnoses(_)));
        self.rounds.iter().any(any)
    }
}

/// A mean overlap of the last round.
struct Overlap {
    comparison: Comparison,
    layer: String,
    iou: Estimate,
    chance: f64,
}

/// More rounds than this are thinned out: the table is to fit a screen.
const MAX_ROWS: usize = 12;

/// Aligned plain text that ends with a line break.
pub fn closing_table(runs: &[RunView]) -> String {
    let mut text = String::new();
    if let Some(over) = over(runs) {
        text += &format!("Means over {over} ± half the width of their 95% intervals\n");
    }
    text += &align(&accuracy_rows(runs), 0);
    let overlaps: Vec<Vec<Overlap>> = runs.iter().map(RunView::overlaps).collect();
    if overlaps.iter().any(|overlaps| !overlaps.is_empty()) {
        text += "\nOverlap of circuits (IoU) in the last round; in brackets, that of random circuits as large\n";
        text += &align(&overlap_rows(runs, &overlaps), runs.len().min(2));
    }
    let controls = control_rows(runs);
    if controls.len() > 1 {
        text += "\nControls: circuits that searches found which should find others, or the same again; overlap (IoU) with \
                 the circuits\nof the global model and in brackets that of random circuits as large, then how they answer\n";
        text += &align(&controls, runs.len().min(2));
    }
    if runs.iter().any(RunView::has_diagnoses) {
        text += "\nClasses of clients after averaging: kept, kept but not in the same channels, lost, not learned by the client\n";
        text += &align(&fate_rows(runs), 0);
    }
    if is_marked(&text) {
        text += &format!("\n{MARK}\n");
    }
    text
}

/// What means are over, where any run has several seeds.
fn over(runs: &[RunView]) -> Option<String> {
    let most = runs.iter().map(|run| run.seeds).max().filter(|most| *most > 1)?;
    if runs.iter().all(|run| run.seeds == most) {
        return Some(format!("{most} seeds"));
    }
    let each: Vec<String> = runs.iter().map(|run| format!("{}: {}", run.label, run.seeds)).collect();
    Some(format!("the seeds of each ({})", each.join(", ")))
}

const FATES: [Diagnosis; 4] =
    [Diagnosis::Preserved, Diagnosis::StructuralDrift, Diagnosis::DestructiveInterference, Diagnosis::NotLearned];

fn fate_rows(runs: &[RunView]) -> Vec<Vec<String>> {
    by_round(runs, ["preserved", "drift", "interference", "not learned"], |round| {
        FATES.map(|fate| {
            let count = round.get(&Figure::Diagnoses(fate));
            // A count of one run is a whole number, a mean over seeds need not be.
            count.map_or("-".into(), |count| count.decimals(usize::from(count.n > 1)))
        })
    })
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
    by_round(runs, ["accuracy", "trained", "loss", "seconds"], |round| {
        let cell = |figure, text: fn(&Estimate) -> String| round.get(&figure).map_or("-".into(), text);
        [
            cell(Figure::Accuracy, Estimate::percent),
            cell(Figure::TrainedAccuracy, Estimate::percent),
            cell(Figure::Loss, |loss| loss.decimals(3)),
            format!("{:.1}", round.seconds),
        ]
    })
}

/// A row a round, with the same four columns for each run.
fn by_round(runs: &[RunView], columns: [&str; 4], cells: impl Fn(&RoundFigures) -> [String; 4]) -> Vec<Vec<String>> {
    let mut rows = heading(runs, columns);
    let count = runs.iter().map(|run| run.rounds.len()).max().unwrap_or(0);
    for i in shown(count) {
        let number = runs.iter().find_map(|run| run.rounds.get(i)).map_or(i + 1, |round| round.round);
        let of_run = |run: &RunView| run.rounds.get(i).map_or(columns.map(|_| "-".to_string()), &cells);
        rows.push(std::iter::once(number.to_string()).chain(runs.iter().flat_map(of_run)).collect());
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

fn overlap_rows(runs: &[RunView], overlaps: &[Vec<Overlap>]) -> Vec<Vec<String>> {
    let mut layers: Vec<&str> = Vec::new();
    let mut comparisons = Vec::new();
    for Overlap { layer, comparison, .. } in overlaps.iter().flatten() {
        if !layers.contains(&layer.as_str()) {
            layers.push(layer);
        }
        if !comparisons.contains(comparison) {
            comparisons.push(*comparison);
        }
    }
    // Runs below each other: side by side, two runs of a few layers are too wide for a terminal.
    let row = |comparison: &str, run: &str, cells: Vec<String>| {
        let names = [comparison, run].into_iter().take(runs.len().min(2));
        names.map(String::from).chain(cells).collect::<Vec<_>>()
    };
    let mut rows = vec![row("", "", layers.iter().map(|layer| layer.to_string()).collect())];
    for comparison in comparisons {
        for (run, overlaps) in runs.iter().zip(overlaps) {
            let cell = |layer: &&str| {
                let found = overlaps.iter().find(|o| o.comparison == comparison && o.layer == *layer);
                found.map_or("-".to_string(), |o| format!("{} ({:.2})", o.iou.decimals(2), o.chance))
            };
            rows.push(row(&comparison.name().replace('_', " "), run.label, layers.iter().map(cell).collect()));
        }
    }
    rows
}

/// A row a control and run, of the last round; a heading alone where there is none.
fn control_rows(runs: &[RunView]) -> Vec<Vec<String>> {
    let names = |control: &str, run: &str| {
        [control, run].into_iter().take(runs.len().min(2)).map(String::from).collect::<Vec<_>>()
    };
    let mut rows = vec![[names("", ""), ["all", "sufficiency", "false positives"].map(String::from).to_vec()].concat()];
    for control in Control::ALL {
        for run in runs {
            let get = |column| run.rounds.last().and_then(|round| round.get(&Figure::Control(control, column)));
            let Some(iou) = get("iou") else { continue };
            let chance = get("chance").map_or(f64::NAN, |chance| chance.mean);
            let percent = |column| get(column).map_or("-".into(), Estimate::percent);
            let overlap = match iou.n {
                0 => "-".to_string(),
                _ => format!("{} ({chance:.2})", iou.decimals(2)),
            };
            let cells = [overlap, percent("sufficiency"), percent("false_positive")];
            rows.push([names(control.name(), run.label), cells.to_vec()].concat());
        }
    }
    rows
}

/// Columns two spaces apart, the first `left` of them flush left, the others flush right.
pub(super) fn align(rows: &[Vec<String>], left: usize) -> String {
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
    use super::*;

    fn round(round: usize, seeds: &[Vec<(Figure, f64)>]) -> RoundFigures {
        RoundFigures::new(round, 2.25, seeds)
    }

    fn seed(accuracy: f64) -> Vec<(Figure, f64)> {
        vec![(Figure::Loss, 0.5), (Figure::Accuracy, accuracy), (Figure::TrainedAccuracy, f64::NAN)]
    }

    fn overlap(comparison: Comparison, layer: &str, iou: f64) -> [(Figure, f64); 2] {
        let key = || (comparison, Level::Node, layer.to_string());
        let (a, b) = (key(), key());
        [(Figure::Overlap(a.0, a.1, a.2), iou), (Figure::Chance(b.0, b.1, b.2), 0.125)]
    }

    fn fates(counts: [f64; 4]) -> Vec<(Figure, f64)> {
        FATES.map(Figure::Diagnoses).into_iter().zip(counts).collect()
    }

    #[test]
    fn one_run() {
        let here = |layer, iou| overlap(Comparison::LocalGlobal, layer, iou);
        let last = [&seed(0.975)[..], &here("conv1", 1.0), &here("conv2", f64::NAN), &here("all", 0.5)].concat();
        let rounds = [round(1, &[seed(0.1)]), round(2, &[last])];
        let expected = "\
round  accuracy  trained   loss  seconds
    1     10.0%        -  0.500      2.2
    2     97.5%        -  0.500      2.2

Overlap of circuits (IoU) in the last round; in brackets, that of random circuits as large
                    conv1          all
local global  1.00 (0.12)  0.50 (0.12)
";
        assert_eq!(closing_table(&[RunView { label: "a", seeds: 1, rounds: &rounds }]), expected);
        let plain = [round(1, &[seed(0.1)]), round(2, &[seed(0.975)])];
        assert!(expected.starts_with(&closing_table(&[RunView { label: "a", seeds: 1, rounds: &plain }])));
    }

    #[test]
    fn controls_follow_the_overlaps() {
        let control = |control, values: [f64; 4]| {
            ["iou", "chance", "sufficiency", "false_positive"]
                .map(|column| Figure::Control(control, column))
                .into_iter()
                .zip(values)
        };
        let mut last = seed(0.5);
        last.extend(control(Control::Repeat, [0.9375, 0.125, 1.0, 0.5]));
        last.extend(control(Control::Shuffled, [f64::NAN, f64::NAN, 0.25, 0.0]));
        let mut first = seed(0.25);
        first.extend(control(Control::Repeat, [0.25, 0.5, 0.0, 0.0]));
        let rounds = [round(1, &[first]), round(2, &[last])];
        let table = closing_table(&[RunView { label: "a", seeds: 1, rounds: &rounds }]);
        let rows: Vec<&str> = table.lines().skip_while(|line| !line.starts_with("Controls")).skip(2).collect();
        let expected = [
            "                  all  sufficiency  false positives",
            "repeat    0.94 (0.12)       100.0%            50.0%",
            "shuffled            -        25.0%             0.0%",
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn two_runs_side_by_side() {
        let with = |accuracy, preserved, overlap: &[(Figure, f64)]| {
            vec![[&seed(accuracy)[..], overlap, &fates([preserved, 0.0, 0.0, 11.0])].concat()]
        };
        let here = overlap(Comparison::LocalGlobal, "conv1", 1.0);
        let there = overlap(Comparison::Mismatched, "conv1", 0.0);
        let long = [round(1, &with(0.1, 6.0, &here)), round(2, &with(0.975, 5.0, &here))];
        let short = [round(1, &with(0.1, 6.0, &there))];
        let found = closing_table(&[
            RunView { label: "iid", seeds: 1, rounds: &long },
            RunView { label: "one-class", seeds: 1, rounds: &short },
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

Classes of clients after averaging: kept, kept but not in the same channels, lost, not learned by the client
             iid                                    one-class
round  preserved  drift  interference  not learned  preserved  drift  interference  not learned
    1          6      0             0           11          6      0             0           11
    2          5      0             0           11          -      -             -            -
";
        assert_eq!(found, expected);
    }

    /// Two seeds that differ by 2 d: the half-width is 12.706 d.
    #[test]
    fn several_seeds_show_means_and_intervals() {
        let of = |accuracy, iou, preserved| {
            let parts = [seed(accuracy), overlap(Comparison::LocalGlobal, "all", iou).to_vec()];
            [&parts.concat()[..], &fates([preserved, 0.0, 0.0, 1.0])].concat()
        };
        let rounds = [round(1, &[of(0.49, 0.5, 2.0), of(0.51, 0.52, 3.0)])];
        let expected = "\
Means over 2 seeds ± half the width of their 95% intervals
round      accuracy  trained           loss  seconds
    1  50.0% ± 12.7        -  0.500 ± 0.000      2.2

Overlap of circuits (IoU) in the last round; in brackets, that of random circuits as large
                             all
local global  0.51 ± 0.13 (0.12)

Classes of clients after averaging: kept, kept but not in the same channels, lost, not learned by the client
round  preserved      drift  interference  not learned
    1  2.5 ± 6.4  0.0 ± 0.0     0.0 ± 0.0    1.0 ± 0.0
";
        assert_eq!(closing_table(&[RunView { label: "a", seeds: 2, rounds: &rounds }]), expected);
    }

    #[test]
    fn runs_of_different_numbers_of_seeds_and_means_over_some_of_them_say_so() {
        let one = [round(1, &[seed(0.5)])];
        let overlaps = [0.25, f64::NAN].map(|iou| [seed(0.5), overlap(Comparison::LocalGlobal, "all", iou).to_vec()]);
        let many = [round(1, &overlaps.map(|parts| parts.concat()))];
        let views =
            [RunView { label: "one", seeds: 1, rounds: &one }, RunView { label: "many", seeds: 2, rounds: &many }];
        let expected = "\
Means over the seeds of each (one: 1, many: 2) ± half the width of their 95% intervals
\x20           one                                  many
round  accuracy  trained   loss  seconds     accuracy  trained           loss  seconds
    1     50.0%        -  0.500      2.2  50.0% ± 0.0        -  0.500 ± 0.000      2.2

Overlap of circuits (IoU) in the last round; in brackets, that of random circuits as large
                                     all
local global  one                      -
local global  many  0.25 [1 of 2] (0.12)

[n of N]: a mean over the n of N seeds for which it is defined
";
        assert_eq!(closing_table(&views), expected);
    }

    #[test]
    fn many_rounds_keep_the_first_and_the_last() {
        let rows = shown(1000);
        assert_eq!((rows.len(), rows[0], rows[11]), (MAX_ROWS, 0, 999));
        assert_eq!(shown(3), [0, 1, 2]);
    }
}
