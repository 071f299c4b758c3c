//! How training went.

use std::collections::{BTreeMap, BTreeSet};

use super::super::drawing::axes::Unit;
use super::super::drawing::chart::{Chart, Style};
use super::super::drawing::scene::Paint;
use super::super::reading::losses::Losses;
use super::super::reading::run::{Run, mean};
use super::super::reading::seed::{Round, Seed};
use super::{Figure, bands, nth, present};

/// Lines by class, at most.
const MAX_CLASSES: usize = 14;

/// By round, what `value` says of each.
fn by_round(seed: &Seed, value: impl Fn(&Round) -> Option<f64>) -> BTreeMap<usize, f64> {
    seed.rounds.iter().map(|round| (round.round, value(round).unwrap_or(f64::NAN))).collect()
}

/// The global model's accuracy and loss.
pub fn accuracy(run: &Run) -> Option<Figure> {
    let total = vec![
        run.line("trained classes", Paint::Faded, Style::Dashed, |s| by_round(s, |r| r.global.trained_accuracy)),
        run.line("all classes", Paint::Ink, Style::Solid, |s| by_round(s, |r| r.global.accuracy)),
    ];
    let ceiling = present(vec![run.line("centralised", Paint::Series(2), Style::Dashed, centralised)]);
    let classes = run.seeds.iter().flat_map(|seed| &seed.rounds).map(|r| r.global.per_class_accuracy.len()).max()?;
    let class = |class: usize| {
        let (paint, style) = nth(class);
        let value = move |r: &Round| r.global.per_class_accuracy.get(class).copied().flatten();
        run.line(format!("class {class}"), paint, style, |s| by_round(s, value))
    };
    let by_class = present((0..classes.min(MAX_CLASSES)).map(class).collect());
    let loss = vec![run.line("global model", Paint::Ink, Style::Solid, |s| by_round(s, |r| r.global.loss))];
    let chart = |title, lines| Chart::by_round(title, "test accuracy", Unit::Percent, lines).draw();
    let mut scenes = vec![chart("Test accuracy", present(total))];
    if !by_class.is_empty() {
        scenes.push(chart("Test accuracy by class", by_class));
    }
    let mut beside = "";
    if !ceiling.is_empty() {
        let beneath = run.line("global model", Paint::Ink, Style::Solid, beside_centralised);
        scenes.push(chart("Test accuracy on classes with circuits", [ceiling, vec![beneath]].concat()));
        beside = " Centralised: a model trained on all clients' examples together, for as many steps as a client; known for the \
                  classes with circuits, each counted once, and beside it the global model on the same classes.";
    }
    let loss = Chart { range: None, ..Chart::by_round("Test loss", "mean cross-entropy", Unit::Plain, present(loss)) };
    scenes.push(loss.draw());
    let caption = format!(
        "How well the averaged model classifies test images after each round. “Trained classes” counts only images of \
         classes that some client holds: the difference to “all classes” is what no client could teach.{beside}{}",
        bands(run)
    );
    let left_out = if classes > MAX_CLASSES {
        format!("Of {classes} classes, the first {MAX_CLASSES} have a line.")
    } else {
        String::new()
    };
    Some(Figure::new("accuracy", "Accuracy of the global model", &caption, scenes).without(left_out))
}

/// By round, the mean over classes of accuracies by round and class: a class that several clients have counts once.
fn by_class(accuracies: impl Iterator<Item = (usize, u32, f64)>) -> BTreeMap<usize, f64> {
    let mut by_round: BTreeMap<usize, BTreeMap<u32, f64>> = BTreeMap::new();
    for (round, class, accuracy) in accuracies {
        by_round.entry(round).or_default().insert(class, accuracy);
    }
    by_round.into_iter().map(|(round, classes)| (round, mean(classes.into_values()))).collect()
}

/// The accuracy of the model trained on all examples together, where that control was asked for.
fn centralised(seed: &Seed) -> BTreeMap<usize, f64> {
    let own = seed.controls.iter().filter(|control| control.control == "centralised");
    by_class(own.map(|control| (control.round, control.class, control.accuracy)))
}

/// The global model's on the same classes in the same rounds.
fn beside_centralised(seed: &Seed) -> BTreeMap<usize, f64> {
    let own = seed.controls.iter().filter(|c| c.control == "centralised" && c.accuracy.is_finite());
    let wanted: BTreeSet<(usize, u32)> = own.map(|control| (control.round, control.class)).collect();
    let global = seed.circuits.iter().filter(|c| c.global && wanted.contains(&(c.round, c.class)));
    by_class(global.map(|circuit| (circuit.round, circuit.class, circuit.measure("accuracy"))))
}

/// Training loss over clients, and realised sparsity by layer.
pub fn clients(run: &Run) -> Option<Figure> {
    let over = |pick: fn(&Losses) -> f64| move |seed: &Seed| by_round(seed, |round| Some(pick(&round.losses)));
    let losses = present(vec![
        run.line("highest of the clients", Paint::Series(1), Style::Dotted, over(|losses| losses.highest)),
        run.line("mean over clients", Paint::Ink, Style::Solid, over(|losses| losses.mean)),
        run.line("lowest of the clients", Paint::Series(0), Style::Dotted, over(|losses| losses.lowest)),
    ]);
    let mut scenes = Vec::new();
    if !losses.is_empty() {
        let chart = Chart::by_round("Training loss of the clients", "mean cross-entropy", Unit::Plain, losses);
        scenes.push(Chart { range: None, ..chart }.draw());
    }
    let mut layers: Vec<&String> = run.seeds.iter().flat_map(|s| &s.rounds).flat_map(|r| r.sparsity.keys()).collect();
    layers.sort_unstable();
    layers.dedup();
    let layer = |(i, layer): (usize, &&String)| {
        let (paint, style) = nth(i);
        run.line(layer.as_str(), paint, style, |s| by_round(s, |r| r.sparsity.get(*layer).copied().flatten()))
    };
    let sparsity = present(layers.iter().enumerate().take(14).map(layer).collect());
    if sparsity.iter().any(|line| line.points.iter().any(|point| point.mean > 0.0)) {
        scenes.push(
            Chart::by_round("Zero weights of the clients' models", "share of weights", Unit::Percent, sparsity).draw(),
        );
    }
    let caption = "Training loss: of the clients' models on their own examples in the last local epoch, every batch before the \
         step that it makes. Zero weights: how sparse the layers really are, which a floor on the weights of a filter \
         keeps below the target in small layers.";
    Some(Figure::new("clients", "Local training", caption, scenes))
}
