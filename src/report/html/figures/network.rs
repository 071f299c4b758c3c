//! Pictures of circuits: layers as columns, channels as dots, connections between them as lines.

use std::collections::BTreeMap;

use super::super::drawing::scene::{BODY, Paint, Scene, Shape, TITLE, fit};
use super::super::reading::circuits_file::Circuit;
use super::super::reading::run::Run;
use super::super::reading::weights::Weights;
use super::Figure;
use super::maps::{KEPT, Pair, channels_in, legend, pairs};
use crate::report::plots::canvas::Anchor;

/// Pictures in a report.
const MOST: usize = 6;
/// Circuits with more channels in a layer, or more connections, are a blot.
const MAX_CHANNELS: usize = 80;
const MAX_EDGES: usize = 3000;
const WIDTH: f64 = 348.0;
const TOP: f64 = 44.0;
const HEIGHT: f64 = 270.0;
/// Width and least opacity of connections up to a quarter as strong as the strongest, up to a half, and so on.
const LEVELS: [(f64, f64); 4] = [(0.5, 0.15), (1.1, 0.35), (1.9, 0.55), (3.0, 0.8)];
/// Places in [`KEPT`].
const BOTH: usize = 0;
const LOST: usize = 1;
const NEW: usize = 2;

/// The channels of a layer: where each lies in the picture, and whether it is in both circuits.
type Column = BTreeMap<u32, (f64, f64, usize)>;

/// A connection between two channels.
struct Edge {
    from: u32,
    to: u32,
    ends: [(f64, f64); 2],
    /// As channels are.
    kept: usize,
    /// Where it is known.
    strength: Option<f64>,
}

/// Some of the last round's circuits.
pub fn circuits(run: &Run) -> Option<Figure> {
    let seed = run.seeds.first()?;
    let last = seed.last.as_ref()?;
    let all = pairs(last);
    let drawable: Vec<&Pair> = all.iter().filter(|pair| size(pair) > 0 && fits(pair)).collect();
    // One class of every client before the second of any.
    let mut turns: BTreeMap<usize, usize> = BTreeMap::new();
    let mut ordered: Vec<(usize, usize, &Pair)> = Vec::new();
    for (i, pair) in drawable.iter().enumerate() {
        let turn = turns.entry(pair.client).or_default();
        ordered.push((*turn, i, pair));
        *turn += 1;
    }
    ordered.sort_by_key(|(turn, i, _)| (*turn, *i));
    let layers = run.layers();
    let scenes: Vec<Scene> =
        ordered.iter().take(MOST).map(|(_, _, pair)| picture(pair, &layers, &run.weights)).collect();
    let caption = format!(
        "Circuits of round {}: a column for each layer, a dot for each channel in the client's circuit or in the global one, a \
         line for each connection between them that survived pruning. The text's colour: in both (kept). Orange: only in the client's (lost \
         in the average). Light blue: only in the global one (new). {}{}",
        last.round,
        strength(&run.weights),
        run.of_seed(seed)
    );
    let left_out = match (scenes.len() < all.len(), last.left_out) {
        (false, 0) => String::new(),
        _ => format!(
            "Drawn: {} circuits, one class of every client before a second, without those that keep no channel, or more than \
             {MAX_CHANNELS} in a layer, or more than {MAX_EDGES} connections.",
            scenes.len()
        ),
    };
    Some(Figure::new("graphs", "Circuits, drawn", &caption, scenes).without(left_out))
}

/// What the width of a connection says.
fn strength(weights: &Weights) -> &'static str {
    match (weights.global.is_some(), weights.clients.is_empty()) {
        (false, _) => {
            "All lines are equally wide: this round's weights were not saved, so how strong the connections are is not known."
        }
        (true, true) => {
            "The wider a line, the stronger the connection: the sum of the absolute values of its weights in the global model, \
             beside the strongest drawn in its layer. Lost connections are dashed and equally wide: how strong they were in the \
             client's model is not known, as output.save_clients was false."
        }
        (true, false) => {
            "The wider a line, the stronger the connection: the sum of the absolute values of its weights, of lost connections in \
             the client's model and of all others in the global one, beside the strongest drawn in its layer."
        }
    }
}

fn size(pair: &Pair<'_>) -> usize {
    [pair.local, pair.global].iter().flat_map(|circuit| &circuit.channels).map(|(_, channels)| channels.len()).sum()
}

fn fits(pair: &Pair<'_>) -> bool {
    let each = || [pair.local, pair.global].into_iter();
    let edges: usize = each().flat_map(|c| &c.edges).flat_map(|(_, e)| e).map(|(_, sources)| sources.len()).sum();
    each().flat_map(|c| &c.channels).all(|(_, channels)| channels.len() <= MAX_CHANNELS) && edges <= MAX_EDGES
}

/// Where a channel or connection is: in both circuits, only in the local one, only in the global one.
fn merged<T: Ord + Copy>(local: &[T], global: &[T]) -> BTreeMap<T, usize> {
    let mut merged: BTreeMap<T, usize> = local.iter().map(|item| (*item, 1)).collect();
    for item in global {
        merged.entry(*item).and_modify(|place| *place = 0).or_insert(2);
    }
    merged
}

fn picture(pair: &Pair<'_>, layers: &[String], weights: &Weights) -> Scene {
    let mut scene = Scene::new(WIDTH, TOP + HEIGHT + 40.0, pair.label.clone());
    scene.text(fit(&pair.label, TITLE, WIDTH - 8.0), TITLE, Paint::Ink, (4.0, 12.0), Anchor::Start);
    let step = (WIDTH - 80.0) / layers.len().saturating_sub(1).max(1) as f64;
    let mut columns: Vec<Column> = Vec::new();
    let mut words = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        let channels = merged(&channels_in(pair.local, layer), &channels_in(pair.global, layer));
        let x = if layers.len() > 1 { 40.0 + step * i as f64 } else { WIDTH / 2.0 };
        let apart = HEIGHT / channels.len().max(1) as f64;
        let place = |(n, (channel, kept)): (usize, (u32, usize))| (channel, (x, TOP + apart * (n as f64 + 0.5), kept));
        let counts = [0, 1, 2].map(|kind| channels.values().filter(|kept| **kept == kind).count());
        words.push(format!("{layer}: {} kept, {} lost, {} new", counts[0], counts[1], counts[2]));
        scene.text(fit(layer, BODY, step.max(60.0)), BODY, Paint::Faded, (x, 30.0), Anchor::Middle);
        columns.push(channels.into_iter().enumerate().map(place).collect());
    }
    for (i, layer) in layers.iter().enumerate().skip(1) {
        let edges = edges(pair, layer, weights, &columns[i - 1], &columns[i]);
        let strongest = edges.iter().filter_map(|edge| Some((edge.strength?, edge))).max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((strength, edge)) = strongest.filter(|(strength, _)| *strength > 0.0) {
            words.push(format!("strongest into {layer}: {} to {} with {strength:.2}", edge.from, edge.to));
        }
        draw_edges(&mut scene, &edges, strongest.map_or(0.0, |(strength, _)| strength));
    }
    for column in &columns {
        dots(&mut scene, column);
    }
    legend(&mut scene, TOP + HEIGHT + 22.0);
    scene.description = format!("The circuit of {}. {}.", pair.label, words.join("; "));
    scene
}

fn dots(scene: &mut Scene, column: &Column) {
    let apart = HEIGHT / column.len().max(1) as f64;
    let radius = (apart * 0.42).clamp(1.6, 7.5);
    for (channel, (x, y, kept)) in column {
        scene.dot((*x, *y), radius, KEPT[*kept].0, 1.0);
        if radius > 6.0 {
            let paint = if *kept == 0 { Paint::Ground } else { Paint::Ink };
            let size = if *channel < 100 { 8.0 } else { 6.2 };
            scene.text(channel.to_string(), size, paint, (*x, *y), Anchor::Middle);
        }
    }
}

/// Those of a layer between channels that are drawn.
fn edges(pair: &Pair<'_>, layer: &str, weights: &Weights, before: &Column, after: &Column) -> Vec<Edge> {
    let of = |circuit: &Circuit| -> Vec<(u32, u32)> {
        let layers = circuit.edges.iter().filter(|(name, _)| name == layer);
        let edges = layers.flat_map(|(_, edges)| edges);
        edges.flat_map(|(to, sources)| sources.iter().map(|from| (*from, *to))).collect()
    };
    let edge = |((from, to), kept): ((u32, u32), usize)| {
        let ((x1, y1, _), (x2, y2, _)) = (before.get(&from)?, after.get(&to)?);
        // Where it was lost it was the client's; the client's weights without the global ones would not compare.
        let model = if kept == LOST { weights.clients.get(&pair.client) } else { weights.global.as_ref() };
        let strength = model.filter(|_| weights.global.is_some()).and_then(|model| model.of(layer, from, to));
        Some(Edge { from, to, ends: [(*x1, *y1), (*x2, *y2)], kept, strength })
    };
    merged(&of(pair.local), &of(pair.global)).into_iter().filter_map(edge).collect()
}

/// The strongest on top, and of equally strong ones what is kept.
fn draw_edges(scene: &mut Scene, edges: &[Edge], strongest: f64) {
    let crowd = (60.0 / edges.len().max(1) as f64).clamp(0.15, 0.55);
    let level = |edge: &Edge| {
        let share = edge.strength.map(|strength| if strongest > 0.0 { strength / strongest } else { 0.0 });
        share.map(|share| ((share * LEVELS.len() as f64).ceil() as usize).clamp(1, LEVELS.len()) - 1)
    };
    for at in std::iter::once(None).chain((0..LEVELS.len()).map(Some)) {
        for kept in [NEW, LOST, BOTH] {
            let drawn = edges.iter().filter(|edge| edge.kept == kept && level(edge) == at);
            let ends: Vec<[(f64, f64); 2]> = drawn.map(|edge| edge.ends).collect();
            if ends.is_empty() {
                continue;
            }
            let (width, opacity) = at.map_or((0.8, crowd), |at| (LEVELS[at].0, crowd.max(LEVELS[at].1)));
            // Unknown beside known ones.
            let dashed = at.is_none() && strongest > 0.0;
            scene.shapes.push(Shape::Segments { ends, paint: KEPT[kept].0, width, opacity, dashed });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::reading::weights::Strengths;
    use super::*;

    /// The circuits of two networks: 0 feeds 5 in both, 1 only in the local one, 2 only in the global one.
    fn drawn(weights: &Weights) -> Scene {
        let circuit = |channel: u32| Circuit {
            channels: vec![("one".into(), vec![0, channel]), ("two".into(), vec![5])],
            edges: vec![("two".into(), vec![(5, vec![0, channel, 99])])],
            ..Circuit::default()
        };
        let (local, global) = (circuit(1), circuit(2));
        let pair =
            Pair { client: 4, class: "3 - three", label: "client 4, 3 - three".into(), local: &local, global: &global };
        picture(&pair, &["one".into(), "two".into()], weights)
    }

    /// How many lines, in which colour, how wide, and whether dashed.
    fn lines(scene: &Scene) -> Vec<(usize, Paint, f64, bool)> {
        let lines = scene.shapes.iter().filter_map(|shape| match shape {
            Shape::Segments { ends, paint, width, dashed, .. } => Some((ends.len(), *paint, *width, *dashed)),
            _ => None,
        });
        lines.collect()
    }

    #[test]
    fn channels_and_connections_are_kept_lost_or_new() {
        let scene = drawn(&Weights::default());
        assert_eq!(
            scene.description,
            "The circuit of client 4, 3 - three. one: 1 kept, 1 lost, 1 new; two: 1 kept, 0 lost, 0 new."
        );
        // A connection from a channel that is in no circuit is not drawn.
        let equal = |kept: usize| (1, KEPT[kept].0, 0.8, false);
        assert_eq!(lines(&scene), [equal(NEW), equal(LOST), equal(BOTH)]);
    }

    #[test]
    fn stronger_connections_are_wider_and_unknown_ones_dashed() {
        // Of 0, 1 and 2 into 5.
        let strengths = |norms: [f32; 3]| {
            let mut all = vec![0.0; 15];
            all.extend(norms);
            Strengths::of_layer("two", 3, &all)
        };
        let mut weights = Weights { global: Some(strengths([1.0, 9.0, 0.3])), ..Weights::default() };
        let scene = drawn(&weights);
        let wide = |level: usize, kept: usize| (1, KEPT[kept].0, LEVELS[level].0, false);
        assert_eq!(lines(&scene), [(1, KEPT[LOST].0, 0.8, true), wide(1, NEW), wide(3, BOTH)]);
        assert!(scene.description.ends_with("strongest into two: 0 to 5 with 1.00."), "{}", scene.description);
        weights.clients.insert(4, strengths([9.0, 2.0, 9.0]));
        let scene = drawn(&weights);
        assert_eq!(lines(&scene), [wide(0, NEW), wide(1, BOTH), wide(3, LOST)]);
        assert!(scene.description.ends_with("strongest into two: 1 to 5 with 2.00."), "{}", scene.description);
    }
}
