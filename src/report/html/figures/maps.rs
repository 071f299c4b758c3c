//! Which channels circuits keep, and how much every two circuits share.

use super::super::drawing::scene::{BODY, Paint, Scene, Shape, TITLE, fit, text_width};
use super::super::reading::circuits_file::{Circuit, RoundCircuits};
use super::super::reading::run::Run;
use super::Figure;
use crate::report::plots::canvas::Anchor;

/// Rows of a matrix whose numbers can still be read.
const MAX_MATRIX: usize = 16;
/// Rows of the channel map.
const MAX_ROWS: usize = 48;
/// Square points of a channel map's panels: a picture of as many takes a hundred megabytes to draw.
const MAX_AREA: f64 = 2e6;
const HEAD: f64 = 28.0;

/// A client's class with its circuits in both models.
pub struct Pair<'a> {
    /// The client's number.
    pub client: usize,
    /// The class's number and name.
    pub class: &'a str,
    /// The client's number and the class.
    pub label: String,
    /// In the client's model.
    pub local: &'a Circuit,
    /// In the global one.
    pub global: &'a Circuit,
}

/// The clients' classes that have a circuit in both models.
pub fn pairs(last: &RoundCircuits) -> Vec<Pair<'_>> {
    let mut pairs = Vec::new();
    for (client, classes) in &last.local {
        let Some((_, others)) = last.global.iter().find(|(other, _)| other == client) else { continue };
        for (class, local) in classes {
            if let Some((_, global)) = others.iter().find(|(other, _)| other == class) {
                pairs.push(Pair { client: *client, class, label: format!("client {client}, {class}"), local, global });
            }
        }
    }
    pairs
}

/// Channels of one layer, or of all of them, each with its layer.
fn kept<'a>(circuit: &'a Circuit, layer: Option<&'a str>) -> impl Iterator<Item = (&'a str, u32)> {
    let wanted = circuit.channels.iter().filter(move |(name, _)| layer.is_none_or(|layer| layer == name));
    wanted.flat_map(|(name, channels)| channels.iter().map(move |channel| (name.as_str(), *channel)))
}

/// Shared over united; `None` where both are empty.
fn iou(a: &Circuit, b: &Circuit, layer: Option<&str>) -> Option<f64> {
    let a: std::collections::BTreeSet<_> = kept(a, layer).collect();
    let b: std::collections::BTreeSet<_> = kept(b, layer).collect();
    let united = a.union(&b).count();
    (united > 0).then(|| a.intersection(&b).count() as f64 / united as f64)
}

/// Matrices of overlaps in the last round.
pub fn overlaps(run: &Run) -> Option<Figure> {
    let seed = run.seeds.first()?;
    let last = seed.last.as_ref()?;
    let all = pairs(last);
    if all.len() < 2 {
        return None;
    }
    let shown = &all[..all.len().min(MAX_MATRIX)];
    let mut scenes = Vec::new();
    let layers = run.layers();
    let wanted = std::iter::once(None).chain(layers.iter().take(4).map(|layer| Some(layer.as_str())));
    for layer in wanted {
        let name = layer.unwrap_or("all layers");
        scenes.push(matrix(&format!("Clients' models, {name}"), shown, layer, |pair| pair.local));
        scenes.push(matrix(&format!("Global model, {name}"), shown, layer, |pair| pair.global));
    }
    let caption = format!(
        "Overlap (IoU) of every two circuits of round {}, each a class of a client: the stronger the colour, the more they share. Columns have the rows' order. Blocks along the \
         diagonal are the classes of one client; equal classes of different clients share much where clients agree. Empty \
         cells: both circuits keep no channel.{}",
        last.round,
        run.of_seed(seed)
    );
    Some(Figure::new("overlap-matrices", "Every two circuits", &caption, scenes).without(left_out(
        run,
        shown.len(),
        all.len(),
    )))
}

/// What the picture has no room for.
fn left_out(run: &Run, shown: usize, read: usize) -> String {
    let clients = run.seeds.first().and_then(|seed| seed.last.as_ref()).map_or(0, |last| last.left_out);
    match (shown < read, clients) {
        (false, 0) => String::new(),
        (true, 0) => format!("The first {shown} of {read} circuits; circuits.json has them all."),
        (_, clients) => format!("The first {shown} circuits; {clients} more clients are in circuits.json only."),
    }
}

/// An overlap in two digits, where only equal circuits have 1.
fn short(iou: f64) -> String {
    if (0.995..1.0).contains(&iou) { "0.99+".into() } else { format!("{iou:.2}") }
}

fn matrix<'a>(title: &str, pairs: &'a [Pair<'a>], layer: Option<&str>, of: fn(&'a Pair<'a>) -> &'a Circuit) -> Scene {
    const CELL: f64 = 24.0;
    let widest = pairs.iter().map(|pair| text_width(&pair.label, BODY)).fold(0.0, f64::max).min(150.0);
    let (left, n) = (10.0 + widest, pairs.len() as f64);
    let mut scene = Scene::new((left + CELL * n + 8.0).max(200.0), HEAD + CELL * n + 22.0, title);
    scene.text(fit(title, TITLE, scene.width - 8.0), TITLE, Paint::Ink, (4.0, 12.0), Anchor::Start);
    let mut least_and_most: Option<(f64, f64)> = None;
    for (i, row) in pairs.iter().enumerate() {
        let top = HEAD + CELL * i as f64;
        scene.text(fit(&row.label, BODY, widest), BODY, Paint::Ink, (left - 6.0, top + CELL / 2.0), Anchor::End);
        scene.text(
            (i + 1).to_string(),
            BODY,
            Paint::Faded,
            (left + CELL * (i as f64 + 0.5), scene.height - 12.0),
            Anchor::Middle,
        );
        for (j, column) in pairs.iter().enumerate() {
            let at = (left + CELL * j as f64, top);
            let Some(value) = iou(of(row), of(column), layer) else { continue };
            // Never so full that the number could not be read, on a light page or a dark one.
            scene.rect(at, (CELL - 1.0, CELL - 1.0), Paint::Series(0), 0.04 + 0.56 * value);
            let text = if value == 1.0 { "1".to_string() } else { short(value).replacen('0', "", 1) };
            scene.text(text, 9.5, Paint::Ink, (at.0 + CELL / 2.0, top + CELL / 2.0), Anchor::Middle);
            if i != j {
                let (least, most) = least_and_most.unwrap_or((value, value));
                least_and_most = Some((least.min(value), most.max(value)));
            }
        }
    }
    let span = least_and_most
        .map_or("none defined".into(), |(least, most)| format!("from {} to {}", short(least), short(most)));
    scene.description = format!(
        "A matrix of {} circuits in the order {}; overlaps of different circuits: {span}.",
        pairs.len(),
        pairs.iter().map(|pair| pair.label.as_str()).collect::<Vec<_>>().join("; "),
    );
    scene
}

/// Which channels the last round's circuits keep.
pub fn channels_of_layers(run: &Run) -> Vec<(String, u32)> {
    let circuits = run.seeds.iter().filter_map(|seed| seed.last.as_ref()).flat_map(|l| l.local.iter().chain(&l.global));
    let mut layers: Vec<(String, u32)> = run.layers().into_iter().map(|layer| (layer, 0)).collect();
    for (_, circuit) in circuits.flat_map(|(_, classes)| classes) {
        for (name, channels) in &circuit.channels {
            if let Some((_, count)) = layers.iter_mut().find(|(layer, _)| layer == name) {
                *count = channels.iter().max().map_or(0, |highest| highest.saturating_add(1)).max(*count);
            }
        }
    }
    layers
}

/// Which channels the last round's circuits keep, lose and gain.
pub fn channels(run: &Run) -> Option<Figure> {
    let seed = run.seeds.first()?;
    let last = seed.last.as_ref()?;
    let all = pairs(last);
    let shown = &all[..all.len().min(MAX_ROWS)];
    if shown.is_empty() {
        return None;
    }
    let layers = channels_of_layers(run);
    let mut scenes: Vec<Scene> = Vec::new();
    let mut area = 0.0;
    // A layer of thousands of channels would be wider than any page, and its cells too many.
    for (layer, count) in layers.iter().filter(|(_, count)| (1..=1024).contains(count)) {
        let panel = rows(layer, *count, shown);
        area += panel.width * panel.height;
        if area > MAX_AREA && !scenes.is_empty() {
            break;
        }
        scenes.push(panel);
    }
    let mut without = left_out(run, shown.len(), all.len());
    let with_channels = layers.iter().filter(|(_, count)| *count > 0).count();
    if scenes.len() < with_channels {
        without += &format!(" Channels of {} of {with_channels} layers.", scenes.len());
    }
    let caption = format!(
        "A row for each class of each client in round {}, a column for each channel up to the highest in any circuit. The text's colour: in the client's circuit and \
         in the global one (kept). Orange: only in the client's (lost in the average). Light blue: only in the global one \
         (new). Columns filled from top to bottom are channels that everything uses.{}",
        last.round,
        run.of_seed(seed)
    );
    Some(Figure::new("channels", "Channels kept, lost and new", &caption, scenes).without(without.trim()))
}

/// Kept in both, only local, only global, as colours.
pub const KEPT: [(Paint, &str); 3] =
    [(Paint::Ink, "in both (kept)"), (Paint::Series(1), "only local (lost)"), (Paint::Series(5), "only global (new)")];

/// A legend of [`KEPT`] at a height.
pub fn legend(scene: &mut Scene, y: f64) {
    let mut x = 8.0;
    for (paint, words) in KEPT {
        scene.rect((x, y - 5.0), (10.0, 10.0), paint, 1.0);
        scene.text(words, BODY, Paint::Ink, (x + 15.0, y), Anchor::Start);
        x += 15.0 + text_width(words, BODY) + 14.0;
    }
}

fn rows(layer: &str, count: u32, pairs: &[Pair<'_>]) -> Scene {
    const ROW: f64 = 15.0;
    let cell = (560.0 / f64::from(count)).clamp(3.0, 12.0);
    let widest = pairs.iter().map(|pair| text_width(&pair.label, BODY)).fold(0.0, f64::max).min(150.0);
    let (left, bottom) = (10.0 + widest, HEAD + ROW * pairs.len() as f64);
    let title = format!("{layer}, channels 0 to {}", count - 1);
    let mut scene = Scene::new((left + cell * f64::from(count) + 10.0).max(348.0), bottom + 34.0, title.clone());
    scene.text(title, TITLE, Paint::Ink, (4.0, 12.0), Anchor::Start);
    let mut totals = [0usize; 3];
    // As lines as wide as a row is high: a rectangle each would take several times as much of the page.
    let mut cells: [Vec<[(f64, f64); 2]>; 3] = Default::default();
    let gap = if cell > 4.0 { 0.6 } else { 0.0 };
    for (i, pair) in pairs.iter().enumerate() {
        let top = HEAD + ROW * i as f64;
        scene.text(fit(&pair.label, BODY, widest), BODY, Paint::Ink, (left - 6.0, top + ROW / 2.0), Anchor::End);
        scene.rect((left, top), (cell * f64::from(count), ROW - 2.0), Paint::Pale, 0.6);
        let of = |circuit| channels_in(circuit, layer);
        let (local, global) = (of(pair.local), of(pair.global));
        for channel in 0..count {
            let place = match (local.contains(&channel), global.contains(&channel)) {
                (true, true) => 0,
                (true, false) => 1,
                (false, true) => 2,
                (false, false) => continue,
            };
            totals[place] += 1;
            let (from, y) = (left + cell * f64::from(channel), top + ROW / 2.0 - 1.0);
            cells[place].push([(from, y), (from + cell - gap, y)]);
        }
    }
    for (ends, (paint, _)) in cells.into_iter().zip(KEPT).filter(|(ends, _)| !ends.is_empty()) {
        scene.shapes.push(Shape::Segments { ends, paint, width: ROW - 2.0, opacity: 1.0, dashed: false });
    }
    scene.text("0", BODY, Paint::Faded, (left, bottom + 6.0), Anchor::Start);
    let end = left + cell * f64::from(count);
    scene.text((count - 1).to_string(), BODY, Paint::Faded, (end, bottom + 6.0), Anchor::End);
    legend(&mut scene, bottom + 23.0);
    let [kept, lost, new] = totals;
    scene.description =
        format!("{} classes of clients in {layer}: {kept} channels kept, {lost} lost, {new} new.", pairs.len());
    scene
}

/// Channels of one layer.
pub fn channels_in(circuit: &Circuit, layer: &str) -> Vec<u32> {
    kept(circuit, Some(layer)).map(|(_, channel)| channel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit(channels: &[(&str, &[u32])]) -> Circuit {
        let channels = channels.iter().map(|(layer, channels)| (layer.to_string(), channels.to_vec())).collect();
        Circuit { channels, ..Circuit::default() }
    }

    #[test]
    fn channels_of_different_layers_are_different() {
        let (a, b) = (circuit(&[("one", &[1, 2]), ("two", &[])]), circuit(&[("one", &[2]), ("two", &[1])]));
        assert_eq!(iou(&a, &b, None), Some(1.0 / 3.0));
        assert_eq!((iou(&a, &b, Some("one")), iou(&a, &b, Some("two"))), (Some(0.5), Some(0.0)));
        assert_eq!(iou(&a, &a, Some("two")), None);
    }

    #[test]
    fn only_equal_circuits_have_a_one() {
        let all: Vec<u32> = (0..500).collect();
        let (a, b) = (circuit(&[("one", &all)]), circuit(&[("one", &all[1..])]));
        let pair = |local| Pair { client: 0, class: "3", label: "client 0, 3".into(), local, global: local };
        let scene = matrix("m", &[pair(&a), pair(&b)], None, |pair| pair.local);
        let text = |shape: &Shape| match shape {
            Shape::Text { text, size, .. } if *size == 9.5 => Some(text.clone()),
            _ => None,
        };
        assert_eq!(scene.shapes.iter().filter_map(text).collect::<Vec<_>>(), ["1", ".99+", ".99+", "1"]);
        assert!(scene.description.ends_with("from 0.99+ to 0.99+."), "{}", scene.description);
    }

    #[test]
    fn a_row_says_what_was_kept_lost_and_new() {
        let (local, global) = (circuit(&[("one", &[0, 1, 2])]), circuit(&[("one", &[2, 4])]));
        let pair =
            Pair { client: 0, class: "3 - three", label: "client 0, 3 - three".into(), local: &local, global: &global };
        let scene = rows("one", 5, std::slice::from_ref(&pair));
        assert_eq!(scene.description, "1 classes of clients in one: 1 channels kept, 2 lost, 1 new.");
        let matrix = matrix("m", &[pair], None, |pair| pair.local);
        assert!(matrix.description.contains("none defined"), "{}", matrix.description);
    }
}
