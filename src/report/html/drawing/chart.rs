//! Charts of lines.

use super::axes::{Axis, Unit, from_zero, ticks};
use super::scene::{BODY, Paint, Scene, Shape, TITLE, fit, spread, text_width};
use crate::report::plots::canvas::Anchor;

/// As wide as a phone shows without scrolling or shrinking.
pub const WIDTH: f64 = 348.0;
/// Room for the numbers of the vertical axis and its title.
pub const LEFT: f64 = 50.0;
/// Room right of the plane.
pub const RIGHT: f64 = 10.0;
/// Room for the title.
pub const TOP: f64 = 28.0;
const HEIGHT: f64 = 170.0;
/// Room for the numbers of the horizontal axis and its title.
const BELOW: f64 = 38.0;
/// Height of a row of the legend.
pub const LEGEND_LINE: f64 = 16.0;
const INSET: f64 = 8.0;
/// With more points than this, dots on the lines would run together.
const MAX_DOTS: usize = 25;
/// With more points than this, neighbours lie on the same pixel.
const MAX_POINTS: usize = 400;
/// With more lines than this, bands would hide each other.
const MAX_BANDS: usize = 3;
/// Lines that a description spells out.
const MAX_DESCRIBED: usize = 12;

/// One value, with the interval of its mean where there is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Along the horizontal axis.
    pub x: f64,
    /// Along the vertical one; a line is interrupted where it is not a number.
    pub mean: f64,
    /// Lower end of the interval; not a number without one.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// What was measured.
    Solid,
    /// A second measure beside it.
    Dashed,
    /// What chance or noise would give.
    Dotted,
}

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// In the legend.
    pub label: String,
    /// From left to right.
    pub points: Vec<Point>,
    /// Its colour.
    pub paint: Paint,
    /// How it is drawn.
    pub style: Style,
}

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Below the horizontal axis.
    pub x_title: String,
    /// Beside the vertical one.
    pub y_title: &'static str,
    /// How values are written.
    pub unit: Unit,
    /// What the vertical axis spans; from zero to the highest value where not given.
    pub range: Option<(f64, f64)>,
    /// How places along the horizontal axis are written.
    pub x_unit: Unit,
    /// The places that are written there, with what is written; round ones between the first and the last if there are none.
    pub x_ticks: Vec<(f64, String)>,
    /// Later ones over earlier ones.
    pub lines: Vec<Line>,
}

impl Chart {
    /// By round, of fractions between 0 and 1.
    pub fn by_round(title: impl Into<String>, y_title: &'static str, unit: Unit, lines: Vec<Line>) -> Self {
        let (x_title, x_unit, x_ticks) = ("round".into(), Unit::Count, Vec::new());
        Self { title: title.into(), x_title, y_title, unit, range: Some((0.0, 1.0)), x_unit, x_ticks, lines }
    }

    /// Draws it: of very long lines, points evenly spaced.
    pub fn draw(mut self) -> Scene {
        let mut step = 1;
        for line in &mut self.lines {
            let (points, apart) = spread(std::mem::take(&mut line.points), MAX_POINTS);
            (line.points, step) = (points, step.max(apart));
        }
        let mut scene = self.picture();
        if step > 1 {
            scene.description += &format!(" Of each line, every {step} points one is drawn.");
        }
        scene
    }

    fn picture(&self) -> Scene {
        let legend = legend_rows(&self.lines);
        let bottom = TOP + HEIGHT;
        let mut scene = Scene::new(WIDTH, bottom + BELOW + LEGEND_LINE * legend.len() as f64, self.title.clone());
        scene.description = self.description();
        scene.text(fit(&self.title, TITLE, WIDTH - 8.0), TITLE, Paint::Ink, (4.0, 12.0), Anchor::Start);
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let least = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::INFINITY, f64::min);
        let xs = (least(&mut points().map(|p| p.x)), -least(&mut points().map(|p| -p.x)));
        let tops = points().flat_map(|p| [p.mean, p.high]);
        let x = Axis { values: xs, ends: (LEFT + INSET, WIDTH - RIGHT - INSET) };
        let y = Axis { values: self.range.unwrap_or_else(|| from_zero(tops)), ends: (bottom, TOP) };
        self.axes(&mut scene, &x, &y);
        let measured = self.lines.iter().filter(|line| line.style != Style::Dotted);
        // Values chosen one by one have nothing between them that a band could be about.
        if !self.x_ticks.is_empty() {
            self.lines.iter().for_each(|line| draw_intervals(&mut scene, line, &x, &y));
        } else if measured.count() <= MAX_BANDS {
            self.lines.iter().for_each(|line| draw_band(&mut scene, line, &x, &y));
        }
        self.lines.iter().for_each(|line| draw_line(&mut scene, line, &x, &y));
        for (i, row) in legend.iter().enumerate() {
            draw_legend(&mut scene, row, bottom + BELOW + LEGEND_LINE * i as f64);
        }
        scene
    }

    fn axes(&self, scene: &mut Scene, x: &Axis, y: &Axis) {
        let bottom = y.ends.0;
        for (value, name) in ticks(y.values, 6, self.unit) {
            let at = y.at(value);
            let paint = if value == 0.0 { Paint::Faded } else { Paint::Pale };
            scene.line(vec![(LEFT, at), (WIDTH - RIGHT, at)], paint, 0.8);
            scene.text(name, BODY, Paint::Faded, (LEFT - 6.0, at), Anchor::End);
        }
        let round = || ticks(x.values, 7, self.x_unit);
        let places = if self.x_ticks.is_empty() { round() } else { self.x_ticks.clone() };
        let mut free = 0.0;
        for (value, name) in places {
            let (at, half) = (x.at(value), text_width(&name, BODY) / 2.0);
            scene.line(vec![(at, bottom), (at, bottom + 3.0)], Paint::Faded, 0.8);
            if at - half >= free {
                scene.text(name, BODY, Paint::Faded, (at, bottom + 11.0), Anchor::Middle);
                free = at + half + 3.0;
            }
        }
        let percent =
            |title: &str, unit| if unit == Unit::Percent { format!("{title} (%)") } else { title.to_string() };
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        let x_title = fit(&percent(&self.x_title, self.x_unit), BODY, WIDTH - RIGHT - LEFT);
        scene.text(x_title, BODY, Paint::Faded, (middle, bottom + 25.0), Anchor::Middle);
        scene.text_upwards(percent(self.y_title, self.unit), Paint::Faded, (9.0, TOP + HEIGHT / 2.0));
    }

    /// A place along the horizontal axis in words.
    fn place(&self, x: f64) -> String {
        let tick = self.x_ticks.iter().find(|(value, _)| *value == x);
        tick.map_or_else(|| self.x_unit.text(x), |(_, name)| name.clone())
    }

    /// What it shows, in words: every line's first and last value.
    fn description(&self) -> String {
        let mut text = format!("{} by {}.", self.y_title, self.x_title);
        for line in self.lines.iter().take(MAX_DESCRIBED) {
            let defined: Vec<&Point> = line.points.iter().filter(|point| point.mean.is_finite()).collect();
            let value = |p: &Point| format!("{} at {}", self.unit.text(p.mean), self.place(p.x));
            text += &match defined[..] {
                [] => format!(" {}: no values.", line.label),
                [only] => format!(" {}: {}.", line.label, value(only)),
                [first, .., last] => format!(" {}: {}, {}.", line.label, value(first), value(last)),
            };
        }
        match self.lines.len().saturating_sub(MAX_DESCRIBED) {
            0 => text,
            more => format!("{text} And {more} more lines."),
        }
    }
}

fn dash(style: Style) -> Option<(f64, f64)> {
    match style {
        Style::Solid => None,
        Style::Dashed => Some((6.0, 4.0)),
        Style::Dotted => Some((2.0, 3.0)),
    }
}

fn width(style: Style) -> f64 {
    if style == Style::Dotted { 2.0 } else { 1.8 }
}

/// The intervals of what was measured.
fn draw_band(scene: &mut Scene, line: &Line, x: &Axis, y: &Axis) {
    let at = |point: &Point, value: f64| (x.at(point.x), y.at(value));
    if line.style == Style::Dotted {
        return;
    }
    for part in line.points.split(|point| !(point.low.is_finite() && point.high.is_finite())) {
        match part {
            [] => {}
            [p] => scene.line(vec![at(p, p.low), at(p, p.high)], line.paint, 0.8),
            _ => {
                let below = part.iter().map(|p| at(p, p.low));
                let above = part.iter().rev().map(|p| at(p, p.high));
                scene.shapes.push(Shape::Area { corners: below.chain(above).collect(), paint: line.paint });
            }
        }
    }
}

fn draw_line(scene: &mut Scene, line: &Line, x: &Axis, y: &Axis) {
    let at = |point: &Point, value: f64| (x.at(point.x), y.at(value));
    for part in line.points.split(|point| !point.mean.is_finite()).filter(|part| !part.is_empty()) {
        let places: Vec<(f64, f64)> = part.iter().map(|p| at(p, p.mean)).collect();
        match places[..] {
            // What chance or noise would give is a mark for everything beside it, where all is known at one place.
            [(_, y)] if line.style == Style::Dotted && x.values.0 == x.values.1 => {
                let across = vec![(x.ends.0 - INSET, y), (x.ends.1 + INSET, y)];
                scene.dashed(across, line.paint, width(line.style), dash(line.style));
            }
            [(x, y)] if line.style == Style::Dotted => {
                scene.dashed(vec![(x - INSET, y), (x + INSET, y)], line.paint, width(line.style), dash(line.style));
            }
            [_] => {}
            _ => scene.dashed(places.clone(), line.paint, width(line.style), dash(line.style)),
        }
        if line.style != Style::Dotted && (places.len() == 1 || line.points.len() <= MAX_DOTS) {
            places.into_iter().for_each(|place| scene.dot(place, 2.4, line.paint, 1.0));
        }
    }
}

/// A bar from end to end of the interval of each point that was measured.
fn draw_intervals(scene: &mut Scene, line: &Line, x: &Axis, y: &Axis) {
    if line.style == Style::Dotted {
        return;
    }
    for point in line.points.iter().filter(|p| p.low.is_finite() && p.high.is_finite()) {
        let (at, low, high) = (x.at(point.x), y.at(point.low), y.at(point.high));
        scene.line(vec![(at, low), (at, high)], line.paint, 1.0);
        for end in [low, high] {
            scene.line(vec![(at - 3.0, end), (at + 3.0, end)], line.paint, 1.0);
        }
    }
}

/// Labels that fit beside each other, with where each begins.
pub fn legend_rows(lines: &[Line]) -> Vec<Vec<(f64, &Line)>> {
    let mut rows: Vec<Vec<(f64, &Line)>> = Vec::new();
    let mut x = f64::INFINITY;
    for line in lines.iter().filter(|line| !line.label.is_empty()) {
        let needed = 24.0 + text_width(&line.label, BODY).min(WIDTH - 40.0);
        if x + needed > WIDTH {
            rows.push(Vec::new());
            x = 8.0;
        }
        if let Some(row) = rows.last_mut() {
            row.push((x, line));
        }
        x += needed + 14.0;
    }
    rows
}

/// Draws one of [`legend_rows`] at a height.
pub fn draw_legend(scene: &mut Scene, row: &[(f64, &Line)], y: f64) {
    for (x, line) in row {
        let (from, to) = ((*x, y + 4.0), (x + 18.0, y + 4.0));
        scene.dashed(vec![from, to], line.paint, width(line.style), dash(line.style));
        let text = fit(&line.label, BODY, WIDTH - 40.0);
        scene.text(text, BODY, Paint::Ink, (x + 23.0, y + 4.0), Anchor::Start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(means: &[f64]) -> Chart {
        let point =
            |(i, mean): (usize, &f64)| Point { x: i as f64 + 1.0, mean: *mean, low: mean - 0.1, high: f64::NAN };
        let points = means.iter().enumerate().map(point).collect();
        let line = Line { label: "all".into(), points, paint: Paint::Ink, style: Style::Solid };
        Chart::by_round("accuracy", "test accuracy", Unit::Percent, vec![line])
    }

    #[test]
    fn a_value_that_is_no_number_interrupts_the_line() {
        let scene = chart(&[0.25, 0.5, f64::NAN, 0.75]).draw();
        let lines =
            |shape: &&Shape| matches!(shape, Shape::Line { paint: Paint::Ink, points, .. } if points.len() == 2);
        // The first two rounds, and the legend; the last round is a dot.
        assert_eq!(scene.shapes.iter().filter(lines).count(), 2);
        assert_eq!(scene.shapes.iter().filter(|shape| matches!(shape, Shape::Dot { .. })).count(), 3);
        assert_eq!(scene.description, "test accuracy by round. all: 25.0% at 1, 75.0% at 4.");
    }

    /// A ceiling measured in the last round says nothing of the rounds before.
    #[test]
    fn what_is_known_in_one_round_is_drawn_there_alone() {
        let widths = |rounds: &[f64]| {
            let measured = chart(rounds).lines.remove(0);
            let last = measured.points.last().copied().into_iter().collect();
            let ceiling = Line { label: String::new(), points: last, paint: Paint::Series(2), style: Style::Dotted };
            let scene = Chart { lines: vec![measured, ceiling], ..chart(&[]) }.draw();
            let width = |shape: &Shape| match shape {
                Shape::Line { paint: Paint::Series(2), points, .. } => Some(points[1].0 - points[0].0),
                _ => None,
            };
            scene.shapes.iter().filter_map(width).collect::<Vec<_>>()
        };
        assert_eq!(widths(&[0.25, 0.5, 0.75]), [2.0 * INSET]);
        assert_eq!(widths(&[0.25]), [WIDTH - RIGHT - LEFT]);
    }

    #[test]
    fn charts_without_values_can_be_drawn() {
        assert!(chart(&[]).draw().description.ends_with("all: no values."));
        assert!(chart(&[f64::NAN]).draw().height > HEIGHT);
        let many = Chart { lines: vec![chart(&[0.5]).lines[0].clone(); 30], ..chart(&[]) };
        assert!(many.draw().description.ends_with("And 18 more lines."));
    }
}
