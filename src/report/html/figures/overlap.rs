//! How much circuits share.

use std::collections::BTreeMap;

use super::super::drawing::axes::Unit;
use super::super::drawing::chart::{Chart, Line, Style};
use super::super::drawing::dots::Dots;
use super::super::drawing::scene::{Paint, Scene};
use super::super::reading::overlaps::Mean;
use super::super::reading::run::{Run, circuit_means, overlap_means, point};
use super::super::reading::seed::Seed;
use super::super::specialists;
use super::{Figure, bands, nth, present};
use crate::report::{Comparison, Estimate};

/// Clients' classes with a picture of their own.
const MAX_PAIRS: usize = 12;
/// What the dotted lines are beside those of both models, whose circuits have sizes of their own.
const CHANCE: &str = "Dotted, in the colour of what they belong to: random circuits of the same sizes.";
/// Layers with a picture of their own.
const MAX_LAYERS: usize = 8;

/// All layers together, then each layer.
fn layers(run: &Run) -> Vec<(String, String)> {
    let each = run.layers().into_iter().take(MAX_LAYERS).map(|layer| (layer.clone(), layer));
    std::iter::once(("all".to_string(), "All layers together".to_string())).chain(each).collect()
}

fn mean_line(run: &Run, label: &str, look: (Paint, Style), comparison: Comparison, layer: &str) -> Line {
    run.line(label, look.0, look.1, |seed| overlap_means(seed, comparison, layer, false))
}

/// What chance gives of a comparison, in the colour of what is to be held against it.
fn chance_line(run: &Run, label: &str, paint: Paint, comparison: Comparison, layer: &str) -> Line {
    run.line(label, paint, Style::Dotted, |seed| overlap_means(seed, comparison, layer, true))
}

fn chart(title: String, lines: Vec<Line>) -> Option<Scene> {
    let lines = present(lines);
    (!lines.is_empty()).then(|| Chart::by_round(title, "IoU of channels", Unit::Plain, lines).draw())
}

/// Local circuits against global ones, with everything that they must be held against.
pub fn local_global(run: &Run) -> Option<Figure> {
    use Comparison::{LocalGlobal, Mismatched};
    let panel = |(layer, title): (String, String)| {
        let mut lines = vec![
            chance_line(run, "chance, another class", Paint::Series(1), Mismatched, &layer),
            chance_line(run, "chance", Paint::Series(0), LocalGlobal, &layer),
            mean_line(run, "another class", (Paint::Series(1), Style::Dashed), Mismatched, &layer),
            mean_line(run, "same class", (Paint::Series(0), Style::Solid), LocalGlobal, &layer),
        ];
        if layer == "all" {
            let ceiling = |seed: &_| circuit_means(seed, true, |circuit| circuit.measure("ceiling"));
            let ceiling = run.line("noise ceiling", Paint::Series(2), Style::Dotted, ceiling);
            // Rounds without the control do not interrupt it.
            let points = ceiling.points.into_iter().filter(|point| point.mean.is_finite()).collect();
            lines.insert(0, Line { points, ..ceiling });
        }
        chart(title, lines)
    };
    let caption = format!(
        "Does averaging keep a circuit where the client had it? Solid: mean intersection over union (IoU) of the channels \
         of a class's circuit in the client's model and in the new global model; 1 is the same channels, 0 no channel in \
         common. Read it against the other lines. Dotted, in the colour of what they belong to: random circuits of \
         the same sizes. Dashed: the local circuit against the global circuit of another class of the same client: what \
         channels of general use share anyway; clients of one class are not among them. \
         Noise ceiling: a second search in the same global weights with other minibatches; what it is short of 1 is the \
         search's own noise. It is known for all layers together, and only in rounds with controls.{}",
        bands(run)
    );
    let scenes = layers(run).into_iter().filter_map(panel).collect();
    Some(Figure::new("local-global", "Local circuits against global ones", &caption, scenes))
}

/// A value of each round.
fn by_round(means: Option<&BTreeMap<usize, Mean>>, value: fn(&Mean) -> f64) -> BTreeMap<usize, f64> {
    means.into_iter().flatten().map(|(round, mean)| (*round, value(mean))).collect()
}

/// The same for each client and class.
pub fn by_pair(run: &Run) -> Option<Figure> {
    let mut pairs: Vec<(usize, u32)> =
        run.seeds.iter().flat_map(|s| s.overlaps.pairs.keys().map(|key| (key.0, key.1))).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let layers = run.layers();
    let panel = |&(client, class): &(usize, u32)| {
        let of = |layer: &str, value: fn(&Mean) -> f64| {
            let key = (client, class, layer.to_string());
            move |seed: &Seed| by_round(seed.overlaps.pairs.get(&key), value)
        };
        let line = |(i, layer): (usize, &String)| {
            let (paint, style) = nth(i);
            run.line(layer.as_str(), paint, style, of(layer, |mean| mean.iou))
        };
        let other = |seed: &Seed| by_round(seed.overlaps.mismatched.get(&(client, class)), |mean| mean.iou);
        let mut lines = vec![
            run.line("chance, all layers", Paint::Faded, Style::Dotted, of("all", |mean| mean.chance)),
            run.line("another class, all layers", Paint::Faded, Style::Dashed, other),
        ];
        lines.extend(layers.iter().enumerate().take(MAX_LAYERS).map(line));
        lines.push(run.line("all layers", Paint::Ink, Style::Solid, of("all", |mean| mean.iou)));
        chart(format!("Client {client}, class {class}"), lines)
    };
    let scenes: Vec<Scene> = pairs.iter().take(MAX_PAIRS).filter_map(panel).collect();
    let left_out = match pairs.len().saturating_sub(MAX_PAIRS) {
        0 => String::new(),
        more => format!("The first {MAX_PAIRS} of {} pairs; {more} are in overlap.csv only.", pairs.len()),
    };
    let caption = format!(
        "Overlap (IoU) of the local circuit with the global one, a picture for each client and class, a line for each layer. \
         Dotted: what random circuits of the same sizes would share. Dashed grey: the same local circuit with the global ones of \
         the client's other classes. Where both circuits are empty there is no value and the line is interrupted: the paper counts that as 1.{}{}",
        if run.seeds.len() > 1 { " Means over seeds, in each of which the client holds other images." } else { "" },
        bands(run)
    );
    Some(Figure::new("local-global-pairs", "The same by client and class", &caption, scenes).without(left_out))
}

/// A picture for each layer of the clients' models and the global one.
fn both_models(run: &Run, local: Comparison, global: Comparison) -> Vec<Scene> {
    let panel = |(layer, title): (String, String)| {
        chart(
            title,
            vec![
                chance_line(run, "chance, clients' models", Paint::Series(1), local, &layer),
                chance_line(run, "chance, global model", Paint::Series(0), global, &layer),
                mean_line(run, "clients' models", (Paint::Series(1), Style::Solid), local, &layer),
                mean_line(run, "global model", (Paint::Series(0), Style::Solid), global, &layer),
            ],
        )
    };
    layers(run).into_iter().filter_map(panel).collect()
}

/// One class at two clients.
pub fn clients(run: &Run) -> Option<Figure> {
    let scenes = both_models(run, Comparison::InterClientLocal, Comparison::InterClientGlobal);
    let caption = format!(
        "The same class at two clients, mean over all pairs of clients: high where clients agree on where a class lives. \
         Orange: in their own models. Blue: in the global model, found with the data of each. {CHANCE}{}",
        bands(run)
    );
    Some(Figure::new("between-clients", "One class at two clients", &caption, scenes))
}

/// Two classes of one client.
pub fn classes(run: &Run) -> Option<Figure> {
    let scenes = both_models(run, Comparison::InterClassLocal, Comparison::InterClassGlobal);
    let caption = format!(
        "Two classes of one client, mean over all pairs of its classes: low where classes have channels of their own. Orange: in \
         the clients' own models. Blue: in the global model. {CHANCE}{}",
        bands(run)
    );
    Some(Figure::new("between-classes", "Two classes of one client", &caption, scenes))
}

/// All channels that a client's circuits keep, at two clients.
pub fn specialists(run: &Run) -> Option<Figure> {
    let found = specialists::by_layer(run);
    let line = |label: &str, paint: Paint, value: fn(&(String, Estimate, Estimate)) -> Estimate| {
        let points = found.iter().enumerate().map(|(i, row)| point(i as f64, value(row))).collect();
        Line { label: label.into(), points, paint, style: Style::Solid }
    };
    let lines = present(vec![
        line("clients' models", Paint::Series(1), |row| row.1),
        line("global model", Paint::Series(0), |row| row.2),
    ]);
    let names: Vec<String> = found.iter().map(|(layer, ..)| layer.clone()).collect();
    let (title, x_title, range) = ("Whole clients", "IoU of channels", Some((0.0, 1.0)));
    let dots = Dots { title, x_title, unit: Unit::Plain, range, names: &names, lines: &lines };
    let scenes = if lines.is_empty() { vec![] } else { vec![dots.draw()] };
    let several = if run.seeds.len() > 1 { " Bars are 95% intervals of the mean over seeds." } else { "" };
    let caption = format!("{}{several}", specialists::caption());
    Some(Figure::new("whole-clients", "Specialists' channels", &caption, scenes))
}

/// From round to round.
pub fn stability(run: &Run) -> Option<Figure> {
    let scenes = both_models(run, Comparison::StabilityLocal, Comparison::StabilityGlobal);
    let caption = format!(
        "The same client and class in a round and in the one before it with circuits: rising lines mean that circuits settle. \
         {CHANCE}{}",
        bands(run)
    );
    Some(Figure::new("stability", "From round to round", &caption, scenes))
}
