//! What the classes' logits take from the channels that circuits share.

use std::collections::BTreeMap;

use super::super::drawing::scene::{BODY, Paint, Scene, TITLE, fit, text_width};
use super::super::reading::circuits_file::class_digits;
use super::super::reading::run::Run;
use super::super::reading::weights::Readout;
use super::Figure;
use super::maps::{channels_in, pairs};
use crate::report::plots::canvas::Anchor;

/// Channels with a row.
const MOST: usize = 24;
/// Classes with a column.
const MAX_CLASSES: usize = 20;
const CELL: (f64, f64) = (34.0, 18.0);
const HEAD: f64 = 44.0;
/// Of a row's name, in points.
const WIDEST: f64 = 300.0;

/// A channel of the last layer, with the classes whose local circuits keep it.
type Shared = (u32, Vec<String>);

/// The weights from shared channels to the logits, in the global model.
pub fn shared(run: &Run) -> Option<Figure> {
    let readout = run.weights.global.as_ref()?.readout.as_ref()?;
    let seed = run.seeds.first()?;
    let last = seed.last.as_ref()?;
    let layer = run.layers().pop()?;
    let mut users: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for pair in pairs(last) {
        let class = class_digits(pair.class).to_string();
        for channel in channels_in(pair.local, &layer) {
            let of_channel = users.entry(channel).or_default();
            if !of_channel.contains(&class) {
                of_channel.push(class.clone());
            }
        }
    }
    let fits = |(channel, classes): &Shared| classes.len() > 1 && (*channel as usize) < readout.channels;
    let mut all: Vec<Shared> = users.into_iter().filter(fits).collect();
    all.sort_by_key(|(channel, classes)| (std::cmp::Reverse(classes.len()), *channel));
    if all.is_empty() {
        return None;
    }
    let shown = &all[..all.len().min(MOST)];
    let caption = format!(
        "Channels of {layer} that the local circuits of several classes keep, most shared first, and what each class's logit takes \
         from them in the global model of round {}: the mean of the weights from the channel's pixels. Blue speaks for the class, \
         orange against it; the stronger the colour, the larger the weight; empty where pruning left none. Two classes with the same signs all the way down \
         are hard to tell apart by these channels.{}",
        last.round,
        run.of_seed(seed)
    );
    let mut left_out = Vec::new();
    if shown.len() < all.len() {
        left_out.push(format!("The first {} of {} shared channels.", shown.len(), all.len()));
    }
    if readout.means.len() > MAX_CLASSES {
        left_out.push(format!("The first {MAX_CLASSES} of {} classes.", readout.means.len()));
    }
    let figure = Figure::new("readout", "What shared channels say", &caption, vec![matrix(&layer, shown, readout)]);
    Some(figure.without(left_out.join(" ")))
}

fn matrix(layer: &str, shown: &[Shared], readout: &Readout) -> Scene {
    let classes = &readout.means[..readout.means.len().min(MAX_CLASSES)];
    let name = |(channel, classes): &Shared| fit(&format!("{channel}: used for {}", listed(classes)), BODY, WIDEST);
    let names: Vec<String> = shown.iter().map(name).collect();
    let left = 12.0 + names.iter().map(|name| text_width(name, BODY)).fold(0.0, f64::max);
    let size = (left + CELL.0 * classes.len() as f64 + 8.0, HEAD + CELL.1 * shown.len() as f64 + 8.0);
    let title = format!("{layer} to the logits");
    let mut scene = Scene::new(size.0, size.1, title.clone());
    scene.text(title, TITLE, Paint::Ink, (4.0, 12.0), Anchor::Start);
    let value = |class: usize, channel: u32| f64::from(classes[class][channel as usize]);
    let all = || shown.iter().flat_map(|(channel, _)| (0..classes.len()).map(move |class| (class, *channel)));
    let most = all().map(|(class, channel)| value(class, channel).abs()).filter(|v| v.is_finite()).fold(0.0, f64::max);
    for class in 0..classes.len() {
        let at = (left + CELL.0 * (class as f64 + 0.5), HEAD - 9.0);
        scene.text(class.to_string(), BODY, Paint::Faded, at, Anchor::Middle);
    }
    for (i, ((channel, _), name)) in shown.iter().zip(names).enumerate() {
        let top = HEAD + CELL.1 * i as f64;
        scene.text(name, BODY, Paint::Ink, (left - 6.0, top + CELL.1 / 2.0), Anchor::End);
        for class in 0..classes.len() {
            let (at, value) = (left + CELL.0 * class as f64, value(class, *channel));
            // Pruned away, every one of them.
            if !value.is_finite() || value == 0.0 {
                continue;
            }
            let strength = if most > 0.0 { value.abs() / most } else { 0.0 };
            let paint = Paint::Series(usize::from(value < 0.0));
            // Never so full that the number could not be read, on a light page or a dark one.
            scene.rect((at, top), (CELL.0 - 1.0, CELL.1 - 1.0), paint, 0.04 + 0.56 * strength);
            let middle = (at + CELL.0 / 2.0, top + CELL.1 / 2.0);
            scene.text(short(value), 9.0, Paint::Ink, middle, Anchor::Middle);
        }
    }
    let extreme = |sign: f64| all().max_by(|a, b| (sign * value(a.0, a.1)).total_cmp(&(sign * value(b.0, b.1))));
    let words = |what: &str, found: Option<(usize, u32)>| {
        found.map_or_else(String::new, |(class, channel)| {
            format!(" {what}: channel {channel} for class {class}, {}.", short(value(class, channel)))
        })
    };
    scene.description = format!(
        "A matrix of {} channels by {} classes.{}{}",
        shown.len(),
        classes.len(),
        words("Highest", extreme(1.0)),
        words("Lowest", extreme(-1.0))
    );
    scene
}

/// Classes by number, as many as there is room for.
fn listed(classes: &[String]) -> String {
    match classes {
        [first @ .., _, _] if classes.len() > 5 => format!("{} and {} more", first[..4].join(", "), classes.len() - 4),
        all => all.join(", "),
    }
}

/// A weight in few characters, with its sign.
fn short(value: f64) -> String {
    let text = format!("{:.3}", value.abs()).replacen('0', "", usize::from(value.abs() < 1.0));
    if value < 0.0 { format!("−{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::super::drawing::scene::Shape;
    use super::*;

    #[test]
    fn weights_for_and_against_a_class_differ_in_colour_and_sign() {
        let readout =
            Readout { channels: 3, means: vec![vec![0.5, 0.0, -0.25], vec![9.0, 0.0, 0.125], vec![1.0, 0.0, 0.0]] };
        let scene = matrix("conv3", &[(2, vec!["0".into(), "1".into()])], &readout);
        let cells: Vec<(Paint, f64)> = scene
            .shapes
            .iter()
            .filter_map(|shape| match shape {
                Shape::Rect { paint, opacity, .. } => Some((*paint, *opacity)),
                _ => None,
            })
            .collect();
        assert_eq!(cells.iter().map(|cell| cell.0).collect::<Vec<_>>(), [Paint::Series(1), Paint::Series(0)]);
        assert!((cells[0].1 - 0.6).abs() < 1e-9 && (cells[1].1 - 0.32).abs() < 1e-9, "{cells:?}");
        assert_eq!(
            scene.description,
            "A matrix of 1 channels by 3 classes. Highest: channel 2 for class 1, .125. Lowest: channel 2 for class 0, −.250."
        );
        assert_eq!((short(1.5), short(0.0)), ("1.500".into(), ".000".into()));
        let many: Vec<String> = (0..7).map(|i| i.to_string()).collect();
        assert_eq!((listed(&many), listed(&many[..5])), ("0, 1, 2, 3 and 3 more".into(), "0, 1, 2, 3, 4".into()));
    }
}
