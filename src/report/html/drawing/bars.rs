//! Stacked bars, upright or lying.

use super::axes::{Axis, Unit, from_zero, ticks};
use super::chart::{LEFT, RIGHT, TOP, WIDTH};
use super::scene::{BODY, Paint, SERIES, Scene, TITLE, fit, text_width};
use crate::report::plots::canvas::Anchor;

const HEIGHT: f64 = 170.0;
const LEGEND_LINE: f64 = 16.0;
/// Height of a lying bar with the space to the next.
const ROW: f64 = 18.0;

/// Bars of the same parts.
pub struct Bars {
    /// Above them.
    pub title: String,
    /// What a bar stands for.
    pub x_title: &'static str,
    /// What is counted.
    pub y_title: &'static str,
    /// The parts' names, in the order they are stacked.
    pub parts: Vec<String>,
    /// Each bar's name, and its parts.
    pub bars: Vec<(String, Vec<f64>)>,
}

/// The `i`-th part's colour; further parts take the colours again, paler.
fn look(i: usize) -> (Paint, f64) {
    (Paint::Series(i), if i < SERIES { 1.0 } else { 0.45 })
}

impl Bars {
    fn total(&self) -> f64 {
        let totals = self.bars.iter().map(|(_, parts)| parts.iter().filter(|v| v.is_finite()).sum());
        from_zero(totals).1
    }

    /// One column a bar.
    pub fn upright(&self) -> Scene {
        let bottom = TOP + HEIGHT;
        let mut scene = self.scene(WIDTH, bottom + 38.0);
        let y = Axis { values: (0.0, self.total() / 1.05), ends: (bottom, TOP) };
        for (value, name) in ticks(y.values, 5, Unit::Count) {
            let at = y.at(value);
            scene.line(vec![(LEFT, at), (WIDTH - RIGHT, at)], Paint::Pale, 0.8);
            scene.text(name, BODY, Paint::Faded, (LEFT - 6.0, at), Anchor::End);
        }
        let step = (WIDTH - RIGHT - LEFT) / self.bars.len().max(1) as f64;
        let every = self.bars.len().div_ceil(10).max(1);
        for (i, (name, parts)) in self.bars.iter().enumerate() {
            let width = (0.8 * step).min(40.0);
            let left = LEFT + (i as f64 + 0.5) * step - width / 2.0;
            let mut sum = 0.0;
            for (part, value) in parts.iter().enumerate().filter(|(_, value)| value.is_finite()) {
                let (from, to) = (y.at(sum), y.at(sum + value));
                let (paint, opacity) = look(part);
                scene.rect((left, to), (width, from - to), paint, opacity);
                sum += value;
            }
            if (i + 1).is_multiple_of(every) || every == 1 {
                scene.text(name.as_str(), BODY, Paint::Faded, (left + width / 2.0, bottom + 11.0), Anchor::Middle);
            }
        }
        scene.text(self.x_title, BODY, Paint::Faded, ((LEFT + WIDTH - RIGHT) / 2.0, bottom + 25.0), Anchor::Middle);
        scene.text_upwards(self.y_title, Paint::Faded, (9.0, TOP + HEIGHT / 2.0));
        self.legend(&mut scene);
        scene
    }

    /// One row a bar, its parts named where there is room.
    pub fn lying(&self, width: f64) -> Scene {
        let widest = self.bars.iter().map(|(name, _)| text_width(name, BODY)).fold(0.0, f64::max);
        let left = 12.0 + widest.min(120.0);
        let bottom = TOP + ROW * self.bars.len() as f64;
        let mut scene = self.scene(width, bottom + 38.0);
        let x = Axis { values: (0.0, self.total() / 1.05), ends: (left, width - 20.0) };
        for (value, name) in ticks(x.values, 5, Unit::Count) {
            let at = x.at(value);
            scene.line(vec![(at, TOP), (at, bottom)], Paint::Pale, 0.8);
            scene.text(name, BODY, Paint::Faded, (at, bottom + 10.0), Anchor::Middle);
        }
        for (i, (name, parts)) in self.bars.iter().enumerate() {
            let top = TOP + ROW * i as f64;
            let middle = top + ROW / 2.0;
            scene.text(fit(name, BODY, 120.0), BODY, Paint::Ink, (left - 6.0, middle), Anchor::End);
            let mut sum = 0.0;
            for (part, value) in parts.iter().enumerate().filter(|(_, value)| value.is_finite()) {
                let (from, to) = (x.at(sum), x.at(sum + value));
                let (paint, opacity) = look(part);
                scene.rect((from, top + 2.0), (to - from, ROW - 4.0), paint, opacity);
                sum += value;
            }
        }
        let title = (left + width - 20.0) / 2.0;
        scene.text(self.y_title, BODY, Paint::Faded, (title, bottom + 25.0), Anchor::Middle);
        self.legend(&mut scene);
        scene
    }

    fn scene(&self, width: f64, height: f64) -> Scene {
        let mut scene = Scene::new(width, height, self.title.clone());
        scene.text(fit(&self.title, TITLE, width - 8.0), TITLE, Paint::Ink, (4.0, 12.0), Anchor::Start);
        scene.description = self.description();
        scene
    }

    /// Every bar's parts in words, as far as that can be read.
    fn description(&self) -> String {
        const MOST: usize = 12;
        let mut text = format!("Stacked bars of {} by {}.", self.y_title, self.x_title);
        for (name, values) in self.bars.iter().take(MOST) {
            let parts = self.parts.iter().zip(values).filter(|(_, value)| **value > 0.0);
            let parts: Vec<String> =
                parts.map(|(part, value)| format!("{part} {}", Unit::Count.text(*value))).collect();
            text += &format!(" {name}: {}.", if parts.is_empty() { "none".into() } else { parts.join(", ") });
        }
        if self.bars.len() > MOST {
            text += &format!(" And {} more bars.", self.bars.len() - MOST);
        }
        text
    }

    fn legend(&self, scene: &mut Scene) {
        let mut at = (8.0, scene.height + 4.0);
        for (i, part) in self.parts.iter().enumerate() {
            let (paint, opacity) = look(i);
            let needed = 16.0 + text_width(part, BODY) + 12.0;
            if at.0 + needed > scene.width && at.0 > 8.0 {
                at = (8.0, at.1 + LEGEND_LINE);
            }
            scene.rect((at.0, at.1 - 5.0), (10.0, 10.0), paint, opacity);
            scene.text(fit(part, BODY, scene.width - 32.0), BODY, Paint::Ink, (at.0 + 15.0, at.1), Anchor::Start);
            at.0 += needed;
        }
        scene.height = at.1 + 12.0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::Shape;
    use super::*;

    #[test]
    fn parts_stack_without_gaps_in_their_order() {
        let bars = Bars {
            title: "fates".into(),
            x_title: "round",
            y_title: "circuits",
            parts: vec!["kept".into(), "lost".into()],
            bars: vec![("1".into(), vec![3.0, 1.0]), ("2".into(), vec![0.0, f64::NAN])],
        };
        for scene in [bars.upright(), bars.lying(300.0)] {
            let rects: Vec<_> = scene
                .shapes
                .iter()
                .filter_map(|shape| match shape {
                    Shape::Rect { at, size, paint, .. } => Some((*at, *size, *paint)),
                    _ => None,
                })
                .collect();
            let [(_, kept, Paint::Series(0)), (_, lost, Paint::Series(1)), ..] = rects[..] else { panic!("{rects:?}") };
            let ratio = (kept.0 * kept.1) / (lost.0 * lost.1);
            assert!((ratio - 3.0).abs() < 1e-9, "{ratio}");
            // Two parts, and two squares in the legend.
            assert_eq!(rects.len(), 4);
            assert_eq!(scene.description, "Stacked bars of circuits by round. 1: kept 3, lost 1. 2: none.");
        }
    }
}
