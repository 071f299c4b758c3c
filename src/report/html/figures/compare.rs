//! Several runs beside each other.

use std::collections::BTreeMap;

use super::super::drawing::axes::Unit;
use super::super::drawing::bars::Bars;
use super::super::drawing::chart::{Chart, Line, Style};
use super::super::drawing::scene::{Paint, Scene};
use super::super::reading::run::{Run, circuit_means, overlap_means};
use super::super::reading::seed::{Round, Seed};
use super::{FATES, Figure, fates, nth, present};
use crate::report::Comparison;

/// Runs with a line.
const MOST: usize = 14;

fn line_per_run(runs: &[Run], value: impl Fn(&Seed) -> BTreeMap<usize, f64>) -> Vec<Line> {
    let line = |(i, run): (usize, &Run)| {
        let (paint, style) = nth(i);
        let line = run.line(run.label.clone(), paint, style, &value);
        let points = line.points.iter().copied().filter(|point| point.mean.is_finite()).collect();
        Line { points, ..line }
    };
    present(runs.iter().take(MOST).enumerate().map(line).collect())
}

fn chart(title: &str, y_title: &'static str, unit: Unit, lines: Vec<Line>) -> Option<Scene> {
    (!lines.is_empty()).then(|| Chart::by_round(title, y_title, unit, lines).draw())
}

fn left_out(runs: &[Run]) -> String {
    if runs.len() > MOST { format!("The first {MOST} of {} runs.", runs.len()) } else { String::new() }
}

/// Accuracy by round.
pub fn accuracy(runs: &[Run]) -> Option<Figure> {
    let of = |pick: fn(&Round) -> Option<f64>| {
        line_per_run(runs, |seed| seed.rounds.iter().map(|r| (r.round, pick(r).unwrap_or(f64::NAN))).collect())
    };
    let loss = of(|round| round.global.loss);
    let loss = (!loss.is_empty())
        .then(|| Chart { range: None, ..Chart::by_round("Test loss", "mean cross-entropy", Unit::Plain, loss) }.draw());
    let scenes = [
        chart("Test accuracy, all classes", "test accuracy", Unit::Percent, of(|round| round.global.accuracy)),
        chart(
            "Test accuracy, trained classes",
            "test accuracy",
            Unit::Percent,
            of(|round| round.global.trained_accuracy),
        ),
        loss,
    ];
    let caption = "The averaged model on test images after each round, a line for each run. Bands are 95% intervals of the \
         mean over seeds, where there are several.";
    let figure =
        Figure::new("accuracy", "Accuracy of the global models", caption, scenes.into_iter().flatten().collect());
    Some(figure.without(left_out(runs)))
}

/// Overlap of local and global circuits by round.
pub fn overlap(runs: &[Run]) -> Option<Figure> {
    let mut layers: Vec<String> = Vec::new();
    for layer in runs.iter().flat_map(Run::layers) {
        if !layers.contains(&layer) {
            layers.push(layer);
        }
    }
    let panel = |layer: &str, title: &str| {
        let mut lines = line_per_run(runs, |seed| overlap_means(seed, Comparison::LocalGlobal, layer, false));
        let chance = |(i, run): (usize, &Run)| {
            let paint = Paint::Series(i);
            run.line("", paint, Style::Dotted, |seed| overlap_means(seed, Comparison::LocalGlobal, layer, true))
        };
        lines.splice(0..0, present(runs.iter().take(MOST).enumerate().map(chance).collect()));
        chart(title, "IoU of channels", Unit::Plain, lines)
    };
    let all = std::iter::once(panel("all", "All layers together"));
    let scenes = all.chain(layers.iter().take(8).map(|layer| panel(layer, layer))).flatten().collect();
    let caption = "Mean overlap (IoU) of a class's circuit in the client's model with the one in the new global model. The dotted \
         line of the same colour is what random circuits of the same sizes would have: only the distance to it counts.";
    Some(Figure::new("local-global", "Local circuits against global ones", caption, scenes).without(left_out(runs)))
}

/// Sizes and worth of circuits by round.
pub fn circuits(runs: &[Run]) -> Option<Figure> {
    let measure = |global: bool, name: &'static str| {
        line_per_run(runs, |seed| circuit_means(seed, global, |circuit| circuit.measure(name)))
    };
    let size = line_per_run(runs, |seed| circuit_means(seed, true, |circuit| circuit.size()));
    let size = (!size.is_empty()).then(|| {
        Chart { range: None, ..Chart::by_round("Size of global circuits", "channels", Unit::Plain, size) }.draw()
    });
    let share = |title, lines| chart(title, "accuracy on the class", Unit::Percent, lines);
    let scenes = [
        share("Sufficiency, clients' models", measure(false, "sufficiency")),
        share("Sufficiency, global model", measure(true, "sufficiency")),
        share("Local mask on global weights", measure(true, "cross")),
        chart("False positives, global model", "share of other images", Unit::Percent, measure(true, "false_positive")),
        size,
    ];
    let caption = "What circuits are worth, a line for each run. Sufficiency beside a high share of false positives is no \
         evidence: such a circuit calls everything its class.";
    let scenes = scenes.into_iter().flatten().collect();
    Some(Figure::new("measures", "What the circuits are worth", caption, scenes).without(left_out(runs)))
}

/// Fates in the last round.
pub fn diagnoses(runs: &[Run]) -> Option<Figure> {
    let bar = |run: &Run| Some((run.label.clone(), fates(run).into_values().next_back()?));
    let bars: Vec<_> = runs.iter().take(MOST).filter_map(bar).collect();
    if bars.is_empty() {
        return None;
    }
    let parts = FATES.map(|(_, words)| words.to_string()).to_vec();
    let title = "Clients' classes by fate, last round".into();
    let bars = Bars { title, x_title: "run", y_title: "clients' classes", parts, bars };
    let caption = "What became of each class of each client in the last round with circuits: not learned by the client, lost in \
         the average, kept but not in the same channels (structural drift), or preserved.";
    let figure = Figure::new("diagnoses", "What became of the circuits", caption, vec![bars.lying(348.0)]);
    Some(figure.without(left_out(runs)))
}
