//! What circuits are worth, how large they are, and what becomes of them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::drawing::axes::Unit;
use super::super::drawing::bars::Bars;
use super::super::drawing::chart::{Chart, Line, Style};
use super::super::drawing::scatter::Scatter;
use super::super::drawing::scene::{Paint, Scene, spread};
use super::super::reading::run::{Run, circuit_means, mean, point};
use super::super::reading::seed::{Circuit, CurvePoint, Seed};
use super::{Figure, bands, present};
use crate::report::Estimate;

/// Rounds with a bar.
const MAX_BARS: usize = 60;

/// The four fates, by their names in the files.
pub const FATES: [(&str, &str); 4] = [
    ("preserved", "preserved"),
    ("structural_drift", "structural drift"),
    ("destructive_interference", "destructive interference"),
    ("not_learned", "not learned"),
];

/// Classes of clients by fate, mean over the seeds that have circuits then: by round.
pub fn fates(run: &Run) -> BTreeMap<usize, Vec<f64>> {
    let mut counts: BTreeMap<usize, (BTreeSet<usize>, Vec<f64>)> = BTreeMap::new();
    for (i, seed) in run.seeds.iter().enumerate() {
        for circuit in seed.circuits.iter().filter(|circuit| circuit.global) {
            let (seeds, counts) = counts.entry(circuit.round).or_default();
            counts.resize(FATES.len(), 0.0);
            seeds.insert(i);
            if let Some(place) = FATES.iter().position(|(name, _)| *name == circuit.diagnosis) {
                counts[place] += 1.0;
            }
        }
    }
    let mean = |(seeds, counts): (BTreeSet<usize>, Vec<f64>)| counts.iter().map(|n| n / seeds.len() as f64).collect();
    counts.into_iter().map(|(round, of)| (round, mean(of))).collect()
}

/// What became of the clients' classes, by round.
pub fn diagnoses(run: &Run) -> Option<Figure> {
    let bars = fates(run).into_iter().map(|(round, counts)| (round.to_string(), counts)).collect();
    let (bars, step) = spread(bars, MAX_BARS);
    if bars.is_empty() {
        return None;
    }
    let parts = FATES.map(|(_, words)| words.to_string()).to_vec();
    let bars =
        Bars { title: "Clients' classes by fate".into(), x_title: "round", y_title: "clients' classes", parts, bars };
    let threshold =
        |key: &str| Some(run.setting(key)).filter(|value| !value.is_empty()).unwrap_or_else(|| "0.5".into());
    let caption = format!(
        "What became of each class of each client when the models were averaged. Not learned: the client's own model \
         classifies it with less than {accuracy} accuracy. Destructive interference: the client's model did, the average does \
         not. Structural drift: the average does, but not through the same channels (IoU below {iou}, or neither circuit has \
         any). Preserved: the average does, through the client's channels. Classes without test images have no fate. The \
         thresholds are choices, not facts: see the configuration.{}",
        if run.seeds.len() > 1 { " Means over seeds with circuits." } else { "" },
        accuracy = threshold("circuits.diagnosis.accuracy"),
        iou = threshold("circuits.diagnosis.iou"),
    );
    let left_out =
        if step > 1 { format!("Of the rounds with circuits, every {step} has a bar.") } else { String::new() };
    Some(Figure::new("diagnoses", "What became of the circuits", &caption, vec![bars.upright()]).without(left_out))
}

fn line(run: &Run, label: &str, look: (Paint, Style), global: bool, value: impl Fn(&Circuit) -> f64 + Copy) -> Line {
    let line = run.line(label, look.0, look.1, |seed| circuit_means(seed, global, value));
    // A measure that is not taken in every round does not interrupt its line.
    let points = line.points.iter().copied().filter(|point| point.mean.is_finite()).collect();
    Line { points, ..line }
}

/// Sufficiency, necessity, and what they must be held against.
pub fn measures(run: &Run) -> Option<Figure> {
    use Style::{Dashed, Dotted, Solid};
    let side = |title: &str, global: bool| {
        let measure = |label: &str, look, name: &'static str| line(run, label, look, global, move |c| c.measure(name));
        let lines = present(vec![
            measure("nothing ablated", (Paint::Ink, Dotted), "accuracy"),
            measure("random circuits as large", (Paint::Faded, Dotted), "random_sufficiency"),
            measure("false positives", (Paint::Series(1), Dashed), "false_positive"),
            measure("necessity", (Paint::Series(2), Solid), "necessity"),
            measure("cross: local mask", (Paint::Series(3), Solid), "cross"),
            measure("sufficiency", (Paint::Series(0), Solid), "sufficiency"),
        ]);
        (!lines.is_empty()).then(|| Chart::by_round(title, "accuracy on the class", Unit::Percent, lines).draw())
    };
    let gap = vec![line(run, "sufficiency − cross", (Paint::Series(0), Solid), true, |c| c.measure("drift_gap"))];
    let gap = present(gap);
    let range = Some((-1.0, 1.0));
    let gap = (!gap.is_empty())
        .then(|| Chart { range, ..Chart::by_round("Drift gap", "points of accuracy", Unit::Percent, gap) }.draw());
    let scenes: Vec<Scene> =
        [side("Circuits of the clients' models", false), side("Circuits of the global model", true), gap]
            .into_iter()
            .flatten()
            .collect();
    let caption = format!(
        "Sufficiency: accuracy on the class with all other channels ablated. Necessity: accuracy with the circuit ablated; low \
         means that the class needs it. Cross: the client's circuit as a mask on the global weights. Drift gap: how much better \
         the global model's own circuit serves the class than the client's does there. False positives: how many images of other classes the circuit \
         alone calls its class; a circuit that says one class to everything is perfectly sufficient and worth nothing, so \
         sufficiency near a high line of false positives is no evidence.{}",
        bands(run)
    );
    Some(Figure::new("measures", "What the circuits are worth", &caption, scenes))
}

/// Channels kept, by layer.
pub fn sizes(run: &Run) -> Option<Figure> {
    let of = |layer: &str, circuit: &Circuit| {
        circuit.sizes().find(|(name, _)| *name == layer).map_or(f64::NAN, |(_, size)| size)
    };
    let panel = |title: String, layer: Option<&str>| {
        let size = |circuit: &Circuit| layer.map_or_else(|| circuit.size(), |layer| of(layer, circuit));
        let lines = present(vec![
            line(run, "clients' models", (Paint::Series(1), Style::Solid), false, size),
            line(run, "global model", (Paint::Series(0), Style::Solid), true, size),
        ]);
        let chart = Chart::by_round(title, "channels", Unit::Plain, lines);
        (!chart.lines.is_empty()).then(|| Chart { range: None, ..chart }.draw())
    };
    let layers = run.layers();
    let all = std::iter::once(panel("All layers together".into(), None));
    let scenes: Vec<Scene> =
        all.chain(layers.iter().take(8).map(|layer| panel(layer.clone(), Some(layer)))).flatten().collect();
    let caption = format!(
        "Mean number of channels in a circuit. Larger circuits in the global model than in the clients' (“bloat”) mean that \
         averaging spreads a class over more channels. Size also follows how well the class is learned: a class with a low loss \
         gives small circuits, so read it beside the accuracy.{}",
        bands(run)
    );
    Some(Figure::new("sizes", "Sizes of circuits", &caption, scenes))
}

/// Accuracy against size, in the last round that measured it.
pub fn curves(run: &Run) -> Option<Figure> {
    let last = run.seeds.iter().flat_map(|seed| &seed.curve).map(|point| point.round).max()?;
    let line = |label: &str, paint, global: bool, class: Option<u32>| {
        let wanted =
            |p: &&CurvePoint| p.round == last && p.global == global && class.is_none_or(|class| p.class == class);
        let of_seed = |seed: &Seed| {
            let mut by_share: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
            for point in seed.curve.iter().filter(wanted).filter(|point| point.share >= 0.0) {
                // Bits of positive numbers sort as the numbers do.
                by_share.entry(point.share.to_bits()).or_default().push(point.accuracy);
            }
            by_share.into_iter().map(|(share, values)| (share, mean(values.into_iter()))).collect::<BTreeMap<_, _>>()
        };
        let each: Vec<_> = run.seeds.iter().map(of_seed).collect();
        let mut shares: Vec<u64> = each.iter().flat_map(|by_share| by_share.keys().copied()).collect();
        shares.sort_unstable();
        shares.dedup();
        let value =
            |share: &u64| -> Vec<f64> { each.iter().map(|by| by.get(share).copied().unwrap_or(f64::NAN)).collect() };
        let points = shares.iter().map(|share| point(f64::from_bits(*share), Estimate::new(&value(share)))).collect();
        Line { label: label.into(), points, paint, style: Style::Solid }
    };
    let mut classes: Vec<u32> = run.seeds.iter().flat_map(|seed| &seed.curve).map(|point| point.class).collect();
    classes.sort_unstable();
    classes.dedup();
    let panel = |title: String, class: Option<u32>| {
        let lines = present(vec![
            line("clients' models", Paint::Series(1), false, class),
            line("global model", Paint::Series(0), true, class),
        ]);
        let chart = Chart::by_round(title, "accuracy on the class", Unit::Percent, lines);
        Chart { x_title: "channels kept".into(), x_unit: Unit::Percent, ..chart }.draw()
    };
    let mut scenes = vec![panel("All classes".into(), None)];
    scenes.extend(classes.iter().take(11).map(|class| panel(format!("Class {class}"), Some(*class))));
    let caption = format!(
        "Channels in the order in which the search ranks them: accuracy on the class when only the first of them are kept, in \
         round {last}. A class that few channels carry rises early. A curve that is already high at nearly no channels belongs \
         to a network that calls everything this class.{}",
        bands(run)
    );
    Some(Figure::new("curve", "Accuracy against size", &caption, scenes))
}

/// Whether overlap or size goes with accuracy.
pub fn scatter(run: &Run) -> Option<Figure> {
    const MOST: usize = 600;
    let circuits: Vec<&Circuit> = run.seeds.iter().flat_map(|seed| &seed.circuits).filter(|c| c.global).collect();
    let mut overlap = Vec::new();
    for seed in &run.seeds {
        for circuit in seed.circuits.iter().filter(|circuit| circuit.global) {
            let pair = seed.overlaps.pairs.get(&(circuit.client, circuit.class, "all".to_string()));
            if let Some(found) = pair.and_then(|by_round| by_round.get(&circuit.round)) {
                overlap.push((found.iou, circuit.measure("accuracy")));
            }
        }
    }
    let size: Vec<(f64, f64)> = circuits.iter().map(|c| (c.size(), c.measure("accuracy"))).collect();
    let total = size.len().max(overlap.len());
    let thin = |points: Vec<(f64, f64)>| -> Vec<(f64, f64)> {
        let step = points.len().div_ceil(MOST).max(1);
        points.into_iter().step_by(step).collect()
    };
    let plot = |title: &str, x_title, range, unit, all: Vec<(f64, f64)>| {
        let scatter = Scatter::new(title, x_title, "accuracy on the class", range, unit, &all);
        scatter.map(|scatter| scatter.draw(&thin(all)))
    };
    let scenes: Vec<Scene> = [
        plot("Overlap and accuracy", "IoU of local and global circuit", Some((0.0, 1.0)), Unit::Plain, overlap),
        plot("Size and accuracy", "channels in the global circuit", None, Unit::Count, size),
    ]
    .into_iter()
    .flatten()
    .collect();
    let caption = "Each dot is a class of a client in a round; accuracy is the global model's on that class. r is the \
         correlation over all dots, which are not independent: rounds follow from each other. If overlap mattered for \
         accuracy, the cloud of overlap would rise to the right.";
    let left_out = if total > MOST {
        format!("At most {MOST} of {total} dots are drawn, evenly spaced; r is over all.")
    } else {
        String::new()
    };
    Some(Figure::new("scatter", "Does overlap go with accuracy?", caption, scenes).without(left_out))
}
