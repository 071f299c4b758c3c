//! Dots with their intervals, a row for each of some names.

use super::axes::{Axis, Unit, from_zero, ticks};
use super::chart::{LEGEND_LINE, Line, Point, Style, TOP, WIDTH, draw_legend, legend_rows};
use super::scene::{BODY, Paint, Scene, TITLE, fit, text_width};
use crate::report::plots::canvas::Anchor;

/// Height of what one line has in a row.
const STEP: f64 = 9.0;
/// White between rows.
const GAP: f64 = 10.0;
/// Width of the longest name.
const NAME: f64 = 130.0;
/// Rows that a description spells out.
const MAX_DESCRIBED: usize = 12;

/// Dots of several measures.
pub struct Dots<'a> {
    /// Above them.
    pub title: &'a str,
    /// What is measured.
    pub x_title: &'static str,
    /// How values are written.
    pub unit: Unit,
    /// What the axis spans; from zero to the highest value where not given.
    pub range: Option<(f64, f64)>,
    /// The rows' names.
    pub names: &'a [String],
    /// What is measured: the places of its points are rows.
    pub lines: &'a [Line],
}

impl Dots<'_> {
    /// Draws them.
    pub fn draw(&self) -> Scene {
        let legend = legend_rows(self.lines);
        let rows: Vec<usize> = (0..self.lines.len()).map(|line| self.row(line)).collect();
        let steps = rows.iter().max().map_or(0, |last| last + 1);
        let row = GAP + STEP * steps as f64;
        let bottom = TOP + row * self.names.len() as f64;
        let mut scene = Scene::new(WIDTH, bottom + 38.0 + LEGEND_LINE * legend.len() as f64, self.title);
        scene.description = self.description();
        scene.text(fit(self.title, TITLE, WIDTH - 8.0), TITLE, Paint::Ink, (4.0, 12.0), Anchor::Start);
        let widest = self.names.iter().map(|name| text_width(name, BODY)).fold(0.0, f64::max).min(NAME);
        let ends = (16.0 + widest, WIDTH - 16.0);
        let tops = self.lines.iter().flat_map(|line| &line.points).flat_map(|p| [p.mean, p.high]);
        let x = Axis { values: self.range.unwrap_or_else(|| from_zero(tops)), ends };
        for (value, name) in ticks(x.values, 5, self.unit) {
            scene.line(vec![(x.at(value), TOP), (x.at(value), bottom)], Paint::Pale, 0.8);
            scene.text(name, BODY, Paint::Faded, (x.at(value), bottom + 10.0), Anchor::Middle);
        }
        for (i, name) in self.names.iter().enumerate() {
            let middle = TOP + row * (i as f64 + 0.5);
            scene.text(fit(name, BODY, NAME), BODY, Paint::Ink, (ends.0 - 8.0, middle), Anchor::End);
            for (line, nth) in self.lines.iter().zip(&rows) {
                let y = middle + STEP * (*nth as f64 - (steps - 1) as f64 / 2.0);
                let found = line.points.iter().filter(|p| p.x == i as f64 && p.mean.is_finite());
                found.for_each(|point| mark(&mut scene, line, point, &x, y));
            }
        }
        let title = if self.unit == Unit::Percent { format!("{} (%)", self.x_title) } else { self.x_title.to_string() };
        scene.text(title, BODY, Paint::Faded, ((ends.0 + ends.1) / 2.0, bottom + 25.0), Anchor::Middle);
        for (i, row) in legend.iter().enumerate() {
            draw_legend(&mut scene, row, bottom + 38.0 + LEGEND_LINE * i as f64);
        }
        scene
    }

    /// Below how many others of a name a line has its place. One without a label, such as what chance gives another, has the
    /// place of the other of its colour.
    fn row(&self, line: usize) -> usize {
        let labelled = || self.lines.iter().enumerate().filter(|(_, other)| !other.label.is_empty());
        let Line { label, paint, .. } = &self.lines[line];
        labelled().position(|(i, other)| if label.is_empty() { other.paint == *paint } else { i == line }).unwrap_or(0)
    }

    /// Every row's values in words.
    fn description(&self) -> String {
        let mut text = format!("Dots of {}.", self.x_title);
        for (i, name) in self.names.iter().enumerate().take(MAX_DESCRIBED) {
            let value = |line: &Line| {
                if line.label.is_empty() {
                    return None;
                }
                let point = line.points.iter().find(|p| p.x == i as f64 && p.mean.is_finite())?;
                Some(format!("{} {}", line.label, self.unit.text(point.mean)))
            };
            let values: Vec<String> = self.lines.iter().filter_map(value).collect();
            text += &format!(" {name}: {}.", if values.is_empty() { "no values".into() } else { values.join(", ") });
        }
        match self.names.len().saturating_sub(MAX_DESCRIBED) {
            0 => text,
            more => format!("{text} And {more} more rows."),
        }
    }
}

/// What was measured is a dot in its interval; what chance or noise would give, an upright stroke.
fn mark(scene: &mut Scene, line: &Line, point: &Point, x: &Axis, y: f64) {
    if line.style == Style::Dotted {
        return scene.line(
            vec![(x.at(point.mean), y - STEP / 2.0), (x.at(point.mean), y + STEP / 2.0)],
            line.paint,
            2.0,
        );
    }
    if point.low.is_finite() && point.high.is_finite() {
        scene.line(vec![(x.at(point.low), y), (x.at(point.high), y)], line.paint, 1.2);
    }
    scene.dot((x.at(point.mean), y), 3.4, line.paint, 1.0);
}

#[cfg(test)]
mod tests {
    use super::super::scene::Shape;
    use super::*;

    #[test]
    fn what_has_no_label_lies_beside_what_it_belongs_to() {
        let line = |label: &str, paint| Line { label: label.into(), points: vec![], paint, style: Style::Dotted };
        let [a, b] = [Paint::Series(0), Paint::Series(1)];
        let lines = [line("", a), line("", b), line("a", a), line("b", b)];
        let (unit, range) = (Unit::Plain, None);
        let dots = Dots { title: "", x_title: "", unit, range, names: &[], lines: &lines };
        assert_eq!([0, 1, 2, 3].map(|i| dots.row(i)), [0, 1, 0, 1]);
    }

    #[test]
    fn every_row_has_its_dots_and_chance_is_a_stroke() {
        let point = |x: f64, mean: f64| Point { x, mean, low: mean - 0.1, high: mean + 0.1 };
        let line = |label: &str, style, points| Line { label: label.into(), points, paint: Paint::Ink, style };
        let lines = [
            line("chance", Style::Dotted, vec![point(0.0, 0.25)]),
            line("same class", Style::Solid, vec![point(0.0, 0.5), point(1.0, f64::NAN)]),
        ];
        let names = ["iid".to_string(), "by_class".to_string()];
        let (unit, range) = (Unit::Plain, Some((0.0, 1.0)));
        let scene = Dots { title: "overlap", x_title: "IoU", unit, range, names: &names, lines: &lines }.draw();
        let dots: Vec<f64> = scene
            .shapes
            .iter()
            .filter_map(|shape| match shape {
                Shape::Dot { at, .. } => Some(at.0),
                _ => None,
            })
            .collect();
        let [middle] = dots[..] else { panic!("{dots:?}") };
        // Half-way along the axis, whose first and last numbers are 0 and 1.
        let tick = |name: &str| {
            let found = scene.shapes.iter().find_map(|shape| match shape {
                Shape::Text { text, at, .. } if text == name => Some(at.0),
                _ => None,
            });
            found.unwrap()
        };
        assert!((2.0 * middle - tick("0") - tick("1")).abs() < 1e-9, "{middle}");
        assert_eq!(scene.description, "Dots of IoU. iid: chance 0.25, same class 0.50. by_class: no values.");
    }
}
