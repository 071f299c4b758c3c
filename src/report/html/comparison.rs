//! The tables of a report about several runs.

use super::drawing::axes::Unit;
use super::reading::run::Run;
use super::reading::seed::{Circuit, Seed};
use super::reading::swept::{Swept, differing, keys};
use super::tables::{Cell, Table, estimate, number, word};
use crate::report::{Comparison, Estimate};

/// Layers with a column.
const MAX_LAYERS: usize = 6;

/// A column: its name, what it shows of a run, and whether that is a share.
type Column = (String, Box<dyn Fn(&Run) -> Estimate>, bool);

/// Of several runs.
pub fn tables(runs: &[Run]) -> Vec<Table> {
    let mut tables = vec![of_runs(runs)];
    tables.extend(differences(runs));
    tables
}

/// The share of zero weights of a layer in the clients' models, in the last round.
fn zeros(run: &Run, layer: &str) -> Estimate {
    let of = |seed: &Seed| seed.rounds.last()?.sparsity.get(layer).copied().flatten();
    run.estimate(|seed| of(seed).unwrap_or(f64::NAN))
}

fn columns(runs: &[Run]) -> Vec<Column> {
    let column = |name: &str, value: fn(&Run) -> Estimate, share| -> Column { (name.into(), Box::new(value), share) };
    let mut columns = vec![
        column("accuracy", |run| run.accuracy(|global| global.accuracy), true),
        column("trained classes", |run| run.accuracy(|global| global.trained_accuracy), true),
        column("IoU", |run| run.overlap(Comparison::LocalGlobal, false), false),
        column("chance", |run| run.overlap(Comparison::LocalGlobal, true), false),
        column("another class", Run::mismatched, false),
        column("clients' channels", |run| run.of_circuits(false, Circuit::size), false),
        column("global channels", |run| run.of_circuits(true, Circuit::size), false),
        column("sufficiency", |run| run.of_circuits(true, |c| c.measure("sufficiency")), true),
        column("cross", |run| run.of_circuits(true, |c| c.measure("cross")), true),
        column("false positives", |run| run.of_circuits(true, |c| c.measure("false_positive")), true),
    ];
    let mut layers: Vec<String> = Vec::new();
    for layer in
        runs.iter().flat_map(|run| &run.seeds).filter_map(|seed| seed.rounds.last()).flat_map(|r| r.sparsity.keys())
    {
        if !layers.contains(layer) {
            layers.push(layer.clone());
        }
    }
    columns.extend(
        layers
            .into_iter()
            .take(MAX_LAYERS)
            .map(|layer| -> Column { (format!("zeros {layer}"), Box::new(move |run: &Run| zeros(run, &layer)), true) }),
    );
    // Measures that no run has, and layers that are dense in all, say nothing.
    let says = |(name, value, _): &Column| {
        runs.iter().map(value).any(|v| v.mean.is_finite() && (v.mean > 0.0 || !name.starts_with("zeros ")))
    };
    columns.into_iter().filter(says).collect()
}

fn of_runs(runs: &[Run]) -> Table {
    let (swept, columns) = (keys(runs), columns(runs));
    let row = |(i, run): (usize, &Run)| {
        let mut row = vec![word(run.label.clone())];
        row.extend(swept.iter().map(|swept| setting(&swept.values[i])));
        row.push(number(run.seeds.len() as f64, Unit::Count));
        row.push(number(run.last_round() as f64, Unit::Count));
        row.extend(columns.iter().map(|(_, value, share)| estimate(value(run), *share)));
        row
    };
    let rows = runs.iter().enumerate().map(row).collect();
    let names = swept.iter().map(|swept| swept.key.as_str()).chain(["seeds", "rounds"]);
    let names: Vec<&str> =
        std::iter::once("run").chain(names).chain(columns.iter().map(|(name, ..)| name.as_str())).collect();
    let caption = "The last round of each run, and the last with circuits of what is about them. IoU: overlap of a class's circuit \
         in the client's model with the one in the global model; chance: of random circuits as large; another class: with the \
         global circuits of other classes of its client, where that has any. Channels: how many a circuit keeps. Zeros: the share \
         of zero weights in the clients' models. ± is half of the 95% interval over seeds (Student's t).";
    Table::new("runs", "Runs", caption, &names, rows)
}

/// The value of a key, sorted as a number where it is one.
fn setting(value: &str) -> Cell {
    let number = value.parse().ok().filter(|number: &f64| number.is_finite());
    Cell { text: if value.is_empty() { "–".into() } else { value.into() }, value: number }
}

/// Keys of the configuration in which runs differ.
fn differences(runs: &[Run]) -> Option<Table> {
    let row = |Swept { key, values }: Swept| {
        let values = values.into_iter().map(|value| word(if value.is_empty() { "–".into() } else { value }));
        std::iter::once(word(key)).chain(values).collect()
    };
    let rows: Vec<Vec<Cell>> = differing(runs).into_iter().map(row).collect();
    let columns: Vec<&str> = std::iter::once("key").chain(runs.iter().map(|run| run.label.as_str())).collect();
    let caption = "Keys of the configuration in which the runs differ.";
    (!rows.is_empty()).then(|| Table::new("differences", "Differences", caption, &columns, rows))
}
