//! One panel of lines over rounds.

use std::io;

use super::canvas::{Anchor, Canvas, Stroke, fit};
use super::series::{Curve, stretches};
use super::style::{BODY, FADED, INK, PALE, hairline};

/// Room for names to the right of a panel.
pub const LABELS: f64 = 70.0;
/// Rounds on the horizontal axis that are numbered, at most.
const MAX_TICKS: usize = 6;
/// With more rounds than this, dots on the lines would run together.
const MAX_DOTS: usize = 25;
/// Space between the first round and the edge.
const INSET: f64 = 8.0;
/// Distance of names below each other.
const LEADING: f64 = 12.5;

/// Where a panel is, and what its axes span: fractions upwards, rounds to the right.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    /// Left edge of its plane.
    pub left: f64,
    /// Upper edge.
    pub top: f64,
    /// Width of the plane.
    pub width: f64,
    /// Height of the plane.
    pub height: f64,
    /// The first round and the last.
    pub rounds: (usize, usize),
}

/// A line in a panel.
pub struct Line<'a> {
    /// Its values, and the band around them; a line without a label has none.
    pub curve: &'a Curve,
    /// How it is drawn.
    pub stroke: Stroke,
    /// What stands at its end.
    pub label: Option<&'a str>,
}

impl Panel {
    /// Where a value lies; out of range is at the edge.
    fn at(&self, round: f64, value: f64) -> (f64, f64) {
        let (first, last) = (self.rounds.0 as f64, self.rounds.1 as f64);
        let along = if last > first { ((round - first) / (last - first)).clamp(0.0, 1.0) } else { 0.5 };
        let x = self.left + INSET + along * (self.width - 2.0 * INSET);
        (x, self.top + (1.0 - value.clamp(0.0, 1.0)) * self.height)
    }

    /// Draws the grid, and numbers the rounds. `ticks` are values and what they are called; `named` tells whether the
    /// names are written, which once a row is enough.
    pub fn axes(&self, canvas: &mut Canvas, ticks: &[(f64, &str)], named: bool) -> io::Result<()> {
        for &(value, name) in ticks {
            let (_, y) = self.at(0.0, value);
            let color = if value == 0.0 { FADED } else { PALE };
            canvas.line(&[(self.left, y), (self.left + self.width, y)], hairline(color))?;
            if named {
                canvas.text(name, BODY, FADED, (self.left - 6.0, y), Anchor::End)?;
            }
        }
        let bottom = self.top + self.height;
        for round in round_ticks(self.rounds.0, self.rounds.1) {
            let (x, _) = self.at(round as f64, 0.0);
            canvas.line(&[(x, bottom), (x, bottom + 3.0)], hairline(FADED))?;
            canvas.text(&round.to_string(), BODY, FADED, (x, bottom + 11.0), Anchor::Middle)?;
        }
        Ok(())
    }

    /// Draws bands, over them lines, later ones over earlier ones, and the names of those that have one. A name with a dash has no values.
    pub fn lines(&self, canvas: &mut Canvas, lines: &[Line]) -> io::Result<()> {
        for line in lines.iter().filter(|line| line.label.is_some()) {
            self.band(canvas, line)?;
        }
        let mut labels = Vec::new();
        for line in lines {
            let parts = stretches(&line.curve.mean);
            for part in &parts {
                self.stretch(canvas, part, line)?;
            }
            let Some(name) = line.label else { continue };
            labels.push(match parts.last().and_then(|part| part.last()) {
                Some(&(round, value)) => (self.at(round as f64, value).1, name.to_string(), line.stroke),
                // Its colour alone would not tell that it has no values.
                None => (self.top + self.height, format!("{name} –"), line.stroke),
            });
        }
        self.labels(canvas, labels)
    }

    /// The intervals of a line: a band where they follow each other, and an upright line where one stands alone.
    fn band(&self, canvas: &mut Canvas, line: &Line) -> io::Result<()> {
        let pale = hairline(line.stroke.color);
        for (low, high) in stretches(&line.curve.low).iter().zip(stretches(&line.curve.high)) {
            let edge = |part: &[(usize, f64)]| -> Vec<(f64, f64)> {
                part.iter().map(|&(round, value)| self.at(round as f64, value)).collect()
            };
            let (below, above) = (edge(low), edge(&high));
            match (&below[..], &above[..]) {
                ([from], [to]) => canvas.line(&[*from, *to], pale)?,
                _ => canvas.area(&[below, above.into_iter().rev().collect()].concat(), line.stroke.color)?,
            }
        }
        Ok(())
    }

    /// Unbroken values. A single one has no line: it is a dot, or a dash where the line has no dots.
    fn stretch(&self, canvas: &mut Canvas, part: &[(usize, f64)], line: &Line) -> io::Result<()> {
        let points: Vec<(f64, f64)> = part.iter().map(|&(round, value)| self.at(round as f64, value)).collect();
        let dots = line.label.is_some();
        match points[..] {
            [(x, y)] if !dots => canvas.line(&[(x - INSET, y), (x + INSET, y)], line.stroke)?,
            [_] => {}
            _ => canvas.line(&points, line.stroke)?,
        }
        if dots && (points.len() == 1 || line.curve.mean.len() <= MAX_DOTS) {
            for point in points {
                canvas.dot(point, 2.3, line.stroke.color)?;
            }
        }
        Ok(())
    }

    /// Names at the right, each at the height of its line's end as far as the others let it, with a piece of the line.
    fn labels(&self, canvas: &mut Canvas, mut labels: Vec<(f64, String, Stroke)>) -> io::Result<()> {
        labels.sort_by(|a, b| a.0.total_cmp(&b.0));
        let wanted: Vec<f64> = labels.iter().map(|label| label.0).collect();
        let heights = spread(&wanted, LEADING, self.top, self.top + self.height);
        let left = self.left + self.width;
        for ((_, text, stroke), y) in labels.into_iter().zip(heights) {
            canvas.line(
                &[(left + 1.0, y), (left + 11.0, y)],
                Stroke { dash: stroke.dash.map(|_| (4.0, 2.0)), ..stroke },
            )?;
            let text = fit(&text, BODY, LABELS - 16.0)?;
            canvas.text(&text, BODY, INK, (left + 15.0, y), Anchor::Start)?;
        }
        Ok(())
    }

    /// Says why the panel is empty, between two lines of the grid.
    pub fn remark(&self, canvas: &mut Canvas, text: &str) -> io::Result<()> {
        let middle = (self.left + self.width / 2.0, self.top + self.height * 0.375);
        canvas.text(&fit(text, BODY, self.width)?, BODY, FADED, middle, Anchor::Middle)
    }
}

/// Round numbers to write below the axis: multiples of 1, 2 or 5 times a power of ten.
fn round_ticks(first: usize, last: usize) -> Vec<usize> {
    let steps =
        (0..u32::MAX).flat_map(|power| [1, 2, 5].map(|digit| 10usize.saturating_pow(power).saturating_mul(digit)));
    let ticks = |step: usize| (first.div_ceil(step)..=last / step).map(move |i| i * step);
    let fits = |step: &usize| ticks(*step).take(MAX_TICKS + 1).count() <= MAX_TICKS;
    steps.into_iter().find(fits).map(|step| ticks(step).collect()).unwrap_or_default()
}

/// Heights in the order of the `wanted` ones, which ascend, moved as little as keeps them `apart` and between the
/// edges. Where there are too many, the lower edge gives way.
fn spread(wanted: &[f64], apart: f64, top: f64, bottom: f64) -> Vec<f64> {
    let mut heights = wanted.to_vec();
    let mut limit = bottom;
    for height in heights.iter_mut().rev() {
        *height = height.min(limit);
        limit = *height - apart;
    }
    let mut limit = top;
    for height in &mut heights {
        *height = height.max(limit);
        limit = *height + apart;
    }
    heights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_numbered_in_steps_that_people_count_in() {
        assert_eq!(round_ticks(1, 1), [1]);
        assert_eq!(round_ticks(1, 4), [1, 2, 3, 4]);
        assert_eq!(round_ticks(1, 10), [2, 4, 6, 8, 10]);
        assert_eq!(round_ticks(1, 100), [20, 40, 60, 80, 100]);
        assert_eq!(round_ticks(0, 0), [0]);
        assert!(round_ticks(0, usize::MAX).len() <= MAX_TICKS);
    }

    #[test]
    fn names_keep_their_order_their_distance_and_the_panel() {
        assert_eq!(spread(&[10.0, 50.0], 10.0, 0.0, 100.0), [10.0, 50.0]);
        assert_eq!(spread(&[50.0, 50.0, 50.0], 10.0, 0.0, 100.0), [30.0, 40.0, 50.0]);
        assert_eq!(spread(&[0.0, 0.0, 95.0, 120.0], 10.0, 0.0, 100.0), [0.0, 10.0, 90.0, 100.0]);
        assert!(spread(&[], 10.0, 0.0, 100.0).is_empty());
    }
}
