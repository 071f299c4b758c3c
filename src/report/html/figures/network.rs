//! Pictures of circuits: layers as columns, channels as dots, connections between them as lines.

use std::collections::BTreeMap;

use super::super::run::Run;
use super::super::scene::{BODY, Paint, Scene, Shape, TITLE, fit};
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

/// Some of the last round's circuits.
pub fn circuits(run: &Run) -> Option<Figure> {
    let last = run.seeds.first()?.last.as_ref()?;
    let all = pairs(last);
    let drawable: Vec<&Pair> = all.iter().filter(|pair| size(pair) > 0 && fits(pair)).collect();
    // One class of every client before the second of any.
    let mut turns: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ordered: Vec<(usize, usize, &Pair)> = Vec::new();
    for (i, pair) in drawable.iter().enumerate() {
        let client = pair.label.split(',').next().unwrap_or_default();
        let turn = turns.entry(client).or_default();
        ordered.push((*turn, i, pair));
        *turn += 1;
    }
    ordered.sort_by_key(|(turn, i, _)| (*turn, *i));
    let layers = run.layers();
    let scenes: Vec<Scene> = ordered.iter().take(MOST).map(|(_, _, pair)| picture(pair, &layers)).collect();
    let caption = format!(
        "Circuits of round {}: a column for each layer, a dot for each channel in the client's circuit or in the global one, a \
         line for each connection between them that survived pruning. The text's colour: in both (kept). Orange: only in the client's (lost \
         in the average). Light blue: only in the global one (new).{}",
        last.round,
        if run.seeds.len() > 1 { " Of the first seed." } else { "" }
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

fn picture(pair: &Pair<'_>, layers: &[String]) -> Scene {
    let mut scene = Scene::new(WIDTH, TOP + HEIGHT + 40.0, pair.label.clone());
    scene.text(fit(&pair.label, TITLE, WIDTH - 8.0), TITLE, Paint::Ink, (4.0, 12.0), Anchor::Start);
    let step = (WIDTH - 80.0) / layers.len().saturating_sub(1).max(1) as f64;
    let mut columns: Vec<BTreeMap<u32, (f64, f64, usize)>> = Vec::new();
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
        edges(&mut scene, pair, layer, &columns[i - 1], &columns[i]);
    }
    for column in &columns {
        dots(&mut scene, column);
    }
    legend(&mut scene, TOP + HEIGHT + 22.0);
    scene.description = format!("The circuit of {}. {}.", pair.label, words.join("; "));
    scene
}

fn dots(scene: &mut Scene, column: &BTreeMap<u32, (f64, f64, usize)>) {
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

fn edges(
    scene: &mut Scene,
    pair: &Pair<'_>,
    layer: &str,
    before: &BTreeMap<u32, (f64, f64, usize)>,
    after: &BTreeMap<u32, (f64, f64, usize)>,
) {
    let of = |circuit: &super::super::circuits_file::Circuit| -> Vec<(u32, u32)> {
        let layers = circuit.edges.iter().filter(|(name, _)| name == layer);
        let edges = layers.flat_map(|(_, edges)| edges);
        edges.flat_map(|(to, sources)| sources.iter().map(|from| (*from, *to))).collect()
    };
    let mut ends: [Vec<[(f64, f64); 2]>; 3] = Default::default();
    for ((from, to), kept) in merged(&of(pair.local), &of(pair.global)) {
        if let (Some((x1, y1, _)), Some((x2, y2, _))) = (before.get(&from), after.get(&to)) {
            ends[kept].push([(*x1, *y1), (*x2, *y2)]);
        }
    }
    let opacity = (60.0 / ends.iter().map(Vec::len).sum::<usize>().max(1) as f64).clamp(0.15, 0.55);
    // What is kept, on top.
    for kept in [2, 1, 0] {
        let ends = std::mem::take(&mut ends[kept]);
        if !ends.is_empty() {
            scene.shapes.push(Shape::Segments { ends, paint: KEPT[kept].0, width: 0.8, opacity });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::circuits_file::Circuit;
    use super::*;

    #[test]
    fn channels_and_connections_are_kept_lost_or_new() {
        let circuit = |channel: u32| Circuit {
            channels: vec![("one".into(), vec![0, channel]), ("two".into(), vec![5])],
            edges: vec![("two".into(), vec![(5, vec![0, channel, 99])])],
        };
        let (local, global) = (circuit(1), circuit(2));
        let pair = Pair { label: "client 0, 3 - three".into(), local: &local, global: &global };
        let scene = picture(&pair, &["one".into(), "two".into()]);
        assert_eq!(
            scene.description,
            "The circuit of client 0, 3 - three. one: 1 kept, 1 lost, 1 new; two: 1 kept, 0 lost, 0 new."
        );
        let lines = scene.shapes.iter().filter_map(|shape| match shape {
            Shape::Segments { ends, paint, .. } => Some((ends.len(), *paint)),
            _ => None,
        });
        // A connection from a channel that is in no circuit is not drawn.
        assert_eq!(lines.collect::<Vec<_>>(), [(1, KEPT[2].0), (1, KEPT[1].0), (1, KEPT[0].0)]);
    }
}
