//! The tables of a report.

use super::analyses;
use super::drawing::axes::Unit;
use super::drawing::scene::spread;
use super::figures::FATES;
use super::reading::run::{Run, mean, overlap_means};
use super::reading::seed::Control;
use super::specialists;
use crate::report::estimate::{MARK, is_marked};
use crate::report::{Comparison, Estimate};

/// Rows of a table, at most.
pub const MOST: usize = 200;

/// A cell: what stands there, and what it sorts by where that is a number.
pub struct Cell {
    /// As people read it.
    pub text: String,
    /// Its number.
    pub value: Option<f64>,
}

/// A table.
pub struct Table {
    /// Its place in the page.
    pub id: &'static str,
    /// What it shows.
    pub title: String,
    /// How to read it.
    pub caption: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Cells, as many a row as there are columns.
    pub rows: Vec<Vec<Cell>>,
    /// Rows that are left out.
    pub left_out: usize,
}

impl Table {
    /// Of these rows, or the first of them.
    pub fn new(id: &'static str, title: &str, caption: &str, columns: &[&str], mut rows: Vec<Vec<Cell>>) -> Self {
        let left_out = rows.len().saturating_sub(MOST);
        rows.truncate(MOST);
        let columns = columns.iter().map(|column| column.to_string()).collect();
        let mut caption = caption.to_string();
        if rows.iter().flatten().any(|cell| is_marked(&cell.text)) {
            caption += &format!(" {MARK}.");
        }
        Self { id, title: title.into(), caption, columns, rows, left_out }
    }
}

/// Words.
pub fn word(text: impl Into<String>) -> Cell {
    Cell { text: text.into(), value: None }
}

/// A number.
pub fn number(value: f64, unit: Unit) -> Cell {
    Cell { text: unit.text(value), value: Some(value).filter(|value| value.is_finite()) }
}

/// A mean with its interval.
pub fn estimate(estimate: Estimate, percent: bool) -> Cell {
    let text = if percent { estimate.percent() } else { estimate.decimals(3) };
    Cell {
        text: if text == "-" { "–".into() } else { text },
        value: Some(estimate.mean).filter(|mean| mean.is_finite()),
    }
}

/// Of one run.
pub fn of_run(run: &Run) -> Vec<Table> {
    let own = [rounds(run), controls(run), overlaps(run), specialists::table(run), circuits(run)].into_iter().flatten();
    own.chain(analyses::tables(run)).collect()
}

fn rounds(run: &Run) -> Option<Table> {
    let rounds: std::collections::BTreeSet<usize> = run.seeds.iter().flat_map(|s| &s.rounds).map(|r| r.round).collect();
    let rows = rounds.into_iter().map(|n| {
        let of = |pick: fn(&super::reading::seed::Round) -> Option<f64>| {
            run.estimate(|seed| seed.rounds.iter().find(|r| r.round == n).and_then(pick).unwrap_or(f64::NAN))
        };
        vec![
            number(n as f64, Unit::Count),
            estimate(of(|r| r.global.accuracy), true),
            estimate(of(|r| r.global.trained_accuracy), true),
            estimate(of(|r| r.global.loss), false),
            number(of(|r| r.seconds.total).mean, Unit::Count),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let all = rows.len();
    let (rows, _) = spread(rows, MOST);
    let left_out = all - rows.len();
    let columns = ["round", "accuracy", "trained classes", "loss", "seconds"];
    let caption = "The global model on the test images after each round. ± is half of the 95% interval over seeds.";
    (!rows.is_empty()).then(|| Table { left_out, ..Table::new("rounds", "Rounds", caption, &columns, rows) })
}

/// What each control is, by its name in the files.
const CONTROLS: [(&str, &str); 5] = [
    ("repeat", "repeated: the same weights, other minibatches"),
    ("untrained", "untrained: the weights from which the run started"),
    ("permuted", "permuted: the same weights, the client's labels permuted"),
    ("shuffled", "shuffled: the same weights, shuffled within each filter"),
    ("centralised", "centralised: a model trained on all clients' examples"),
];

fn controls(run: &Run) -> Option<Table> {
    let mut rows = Vec::new();
    let blank = || word("–");
    let random = run.of_circuits(true, |c| c.measure("random_sufficiency"));
    if random.mean.is_finite() {
        rows.push(vec![
            word("random circuits of the same sizes, in the global model"),
            blank(),
            blank(),
            estimate(random, true),
            blank(),
            estimate(run.of_circuits(true, |c| c.measure("random_percentile")), true),
            estimate(run.of_circuits(true, |c| c.measure("random_p")), false),
        ]);
    }
    let mismatched = run.overlap(Comparison::Mismatched, false);
    if mismatched.mean.is_finite() {
        let mut row = vec![word("another class of the same client (mismatched)")];
        row.extend([mismatched, run.overlap(Comparison::Mismatched, true)].map(|value| estimate(value, false)));
        row.extend((0..4).map(|_| blank()));
        rows.push(row);
    }
    for (name, words) in CONTROLS {
        let last = run.seeds.iter().flat_map(|s| &s.controls).filter(|c| c.control == name).map(|c| c.round).max();
        let Some(last) = last else { continue };
        let of = |pick: fn(&Control) -> f64| {
            run.estimate(|s| mean(s.controls.iter().filter(|c| c.control == name && c.round == last).map(pick)))
        };
        let mut row = vec![word(words), estimate(of(|c| c.iou), false), estimate(of(|c| c.chance), false)];
        row.extend([estimate(of(|c| c.sufficiency), true), estimate(of(|c| c.false_positive), true), blank(), blank()]);
        rows.push(row);
    }
    let columns = ["control", "IoU", "chance", "sufficiency", "false positives", "percentile", "p"];
    let caption = "Searches that should find less, or the same, in the last round that ran them; IoU is the overlap with the circuit of the \
         global model. Percentile: the share of random circuits that are less sufficient than the found one; p: the chance that a \
         random circuit does as well, mean over circuits.";
    (!rows.is_empty()).then(|| Table::new("controls", "Controls", caption, &columns, rows))
}

fn words(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::LocalGlobal => "same client and class, local against global",
        Comparison::Mismatched => "another class of the client, local against global",
        Comparison::InterClientLocal => "two clients, local models",
        Comparison::InterClientGlobal => "two clients, global model",
        Comparison::InterClassLocal => "two classes, local models",
        Comparison::InterClassGlobal => "two classes, global model",
        Comparison::StabilityLocal => "the round before, local models",
        Comparison::StabilityGlobal => "the round before, global model",
    }
}

fn overlaps(run: &Run) -> Option<Table> {
    let mut rows = Vec::new();
    let layers = run.layers();
    for comparison in Comparison::ALL {
        for layer in std::iter::once("all").chain(layers.iter().map(String::as_str)) {
            let of = |chance| run.last_of(|seed| overlap_means(seed, comparison, layer, chance));
            let (iou, chance) = (of(false), of(true));
            if iou.mean.is_finite() {
                let times = iou.mean / chance.mean;
                rows.push(vec![
                    word(words(comparison)),
                    word(layer),
                    estimate(iou, false),
                    estimate(chance, false),
                    number(times, Unit::Count),
                ]);
            }
        }
    }
    let columns = ["comparison", "layer", "IoU", "chance", "times chance"];
    let caption = "Mean overlaps of channels in the last round that has them.";
    (!rows.is_empty()).then(|| Table::new("overlaps", "Overlaps", caption, &columns, rows))
}

fn circuits(run: &Run) -> Option<Table> {
    let several = run.seeds.len() > 1;
    let mut rows = Vec::new();
    let layers = run.layers();
    for seed in &run.seeds {
        for c in run.last_circuits(seed) {
            let of_seed = || Cell { text: seed.number.clone(), value: seed.number.parse().ok() };
            let mut row = if several { vec![of_seed()] } else { vec![] };
            row.extend([number(c.client as f64, Unit::Count), number(f64::from(c.class), Unit::Count)]);
            row.push(word(if c.global { "global" } else { "client's" }));
            let size = |layer: &String| c.sizes().find(|(name, _)| name == layer).map_or(f64::NAN, |(_, size)| size);
            row.extend(layers.iter().map(|layer| number(size(layer), Unit::Count)));
            let percents = ["accuracy", "sufficiency", "necessity", "cross", "false_positive", "random_percentile"];
            row.extend(percents.map(|name| number(c.measure(name), Unit::Percent)));
            // Two digits would round 1 of 21 up to the level of significance.
            let p = c.measure("random_p");
            let text = if p.is_finite() { format!("{p:.3}") } else { "–".into() };
            row.push(Cell { text, value: Some(p).filter(|p| p.is_finite()) });
            let fate =
                FATES.iter().find(|(name, _)| *name == c.diagnosis).map_or(c.diagnosis.as_str(), |(_, words)| words);
            row.push(word(fate));
            rows.push(row);
        }
    }
    let mut columns = if several { vec!["seed"] } else { vec![] };
    columns.extend(["client", "class", "model"]);
    columns.extend(layers.iter().map(String::as_str));
    columns.extend(["accuracy", "sufficiency", "necessity", "cross", "false positives", "percentile", "p", "fate"]);
    let caption =
        "The last round's circuits: channels kept in each layer, and what they are worth, as in the figures above.";
    (!rows.is_empty()).then(|| Table::new("circuit-table", "Circuits", caption, &columns, rows))
}
