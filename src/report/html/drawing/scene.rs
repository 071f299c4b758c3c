//! Pictures as shapes in points from the upper left corner, which become SVG or PNG.

use crate::report::plots::canvas::{self, Anchor};

/// What a shape is painted with: a role, whose colour depends on the page being light or dark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Text and main lines.
    Ink,
    /// Text beside the point, and axes.
    Faded,
    /// Grid lines and empty cells.
    Pale,
    /// What the picture stands on.
    Ground,
    /// One of the colours that tell series apart, counted round.
    Series(usize),
}

/// How many colours tell series apart.
pub const SERIES: usize = 7;

/// A shape. Opacities run from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A line through points.
    Line { points: Vec<(f64, f64)>, paint: Paint, width: f64, dash: Option<(f64, f64)> },
    /// Separate straight lines.
    Segments { ends: Vec<[(f64, f64); 2]>, paint: Paint, width: f64, opacity: f64, dashed: bool },
    /// A filled shape with these corners.
    Area { corners: Vec<(f64, f64)>, paint: Paint },
    /// A filled rectangle: corner, then width and height.
    Rect { at: (f64, f64), size: (f64, f64), paint: Paint, opacity: f64 },
    /// A filled circle.
    Dot { at: (f64, f64), radius: f64, paint: Paint, opacity: f64 },
    /// A line of text; `at` is the middle of its capitals, and `upwards` centres it.
    Text { text: String, size: f64, paint: Paint, at: (f64, f64), anchor: Anchor, upwards: bool },
}

/// How pale areas are, so that lines show through.
pub const AREA_OPACITY: f64 = 0.18;
/// Dashes of separate lines, and the gaps between them.
pub const DASHES: (f64, f64) = (3.0, 3.0);
/// Text size of titles.
pub const TITLE: f64 = 13.0;
/// Text size of everything else.
pub const BODY: f64 = 11.0;

/// A picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scene {
    /// In points.
    pub width: f64,
    /// In points.
    pub height: f64,
    /// What it is, in a few words.
    pub title: String,
    /// What it shows, for those who do not see it.
    pub description: String,
    /// Later ones over earlier ones.
    pub shapes: Vec<Shape>,
}

impl Scene {
    /// An empty one.
    pub fn new(width: f64, height: f64, title: impl Into<String>) -> Self {
        Self { width, height, title: title.into(), ..Self::default() }
    }

    /// A solid line.
    pub fn line(&mut self, points: Vec<(f64, f64)>, paint: Paint, width: f64) {
        self.dashed(points, paint, width, None);
    }

    /// A line, dashed where `dash` gives lengths of dashes and gaps.
    pub fn dashed(&mut self, points: Vec<(f64, f64)>, paint: Paint, width: f64, dash: Option<(f64, f64)>) {
        self.shapes.push(Shape::Line { points, paint, width, dash });
    }

    /// A filled rectangle.
    pub fn rect(&mut self, at: (f64, f64), size: (f64, f64), paint: Paint, opacity: f64) {
        if size.0 > 0.0 && size.1 > 0.0 {
            self.shapes.push(Shape::Rect { at, size, paint, opacity });
        }
    }

    /// A filled circle.
    pub fn dot(&mut self, at: (f64, f64), radius: f64, paint: Paint, opacity: f64) {
        self.shapes.push(Shape::Dot { at, radius, paint, opacity });
    }

    /// A line of text.
    pub fn text(&mut self, text: impl Into<String>, size: f64, paint: Paint, at: (f64, f64), anchor: Anchor) {
        self.shapes.push(Shape::Text { text: text.into(), size, paint, at, anchor, upwards: false });
    }

    /// A line of text that reads upwards, centred on a point.
    pub fn text_upwards(&mut self, text: impl Into<String>, paint: Paint, at: (f64, f64)) {
        let (text, anchor) = (text.into(), Anchor::Middle);
        self.shapes.push(Shape::Text { text, size: BODY, paint, at, anchor, upwards: true });
    }

    /// The shapes of another picture, moved.
    pub fn include(&mut self, other: &Scene, (x, y): (f64, f64)) {
        self.shapes.extend(other.shapes.iter().map(|shape| moved(shape, x, y)));
    }
}

/// Pictures side by side and below each other, as one under a title, with notes below.
pub fn sheet(title: &str, scenes: &[Scene], notes: &str) -> Scene {
    const GAP: f64 = 16.0;
    const HEAD: f64 = 36.0;
    let columns = match scenes.len() {
        0..=3 => scenes.len().max(1),
        4 => 2,
        _ => 3,
    };
    let across = |row: &[Scene]| row.iter().map(|scene| scene.width + GAP).sum::<f64>();
    let width = GAP + scenes.chunks(columns).map(across).fold(360.0, f64::max);
    let mut sheet = Scene::new(width, HEAD, title);
    sheet.text(fit(title, TITLE, width - 2.0 * GAP), TITLE, Paint::Ink, (GAP, HEAD / 2.0), Anchor::Start);
    for row in scenes.chunks(columns) {
        let mut left = GAP;
        for scene in row {
            sheet.include(scene, (left, sheet.height));
            left += scene.width + GAP;
        }
        sheet.height += row.iter().map(|scene| scene.height + GAP).fold(0.0, f64::max);
    }
    for line in wrapped(notes, width - 2.0 * GAP) {
        sheet.text(line, BODY, Paint::Faded, (GAP, sheet.height), Anchor::Start);
        sheet.height += 15.0;
    }
    sheet.height += 4.0;
    sheet.description = scenes.iter().map(|scene| scene.description.as_str()).collect::<Vec<_>>().join(" ");
    sheet
}

/// At most so many of these, evenly spaced up to the last, and how far apart they were.
pub fn spread<T>(items: Vec<T>, most: usize) -> (Vec<T>, usize) {
    let (count, step) = (items.len(), items.len().div_ceil(most).max(1));
    let kept = |(i, item): (usize, T)| (count - 1 - i).is_multiple_of(step).then_some(item);
    (items.into_iter().enumerate().filter_map(kept).collect(), step)
}

/// A text in lines that are no wider than `width` points, broken between words.
pub fn wrapped(text: &str, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), BODY) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

/// How wide a text is, in points, as far as the font inside the program tells; other fonts are mostly narrower.
pub fn text_width(text: &str, size: f64) -> f64 {
    canvas::text_width(text, size).unwrap_or(0.6 * size * text.chars().count() as f64)
}

/// The text, cut and closed with an ellipsis if it is wider than `width`.
pub fn fit(text: &str, size: f64, width: f64) -> String {
    // Longer than any picture is wide, and quick to cut.
    let head: String = text.chars().take(300).collect();
    canvas::fit(&head, size, width).unwrap_or(head)
}

fn moved(shape: &Shape, x: f64, y: f64) -> Shape {
    let by = |points: &mut Vec<(f64, f64)>| points.iter_mut().for_each(|p| *p = (p.0 + x, p.1 + y));
    let mut shape = shape.clone();
    match &mut shape {
        Shape::Line { points, .. } | Shape::Area { corners: points, .. } => by(points),
        Shape::Segments { ends, .. } => ends.iter_mut().flatten().for_each(|p| *p = (p.0 + x, p.1 + y)),
        Shape::Rect { at, .. } | Shape::Dot { at, .. } | Shape::Text { at, .. } => *at = (at.0 + x, at.1 + y),
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_break_between_words_and_long_words_stand_alone() {
        assert_eq!(wrapped("a bb ccc", 1000.0), ["a bb ccc"]);
        assert_eq!(wrapped("a bb  ccc", 1.0), ["a", "bb", "ccc"]);
        assert!(wrapped(" ", 10.0).is_empty());
        assert!(text_width("iiii", 10.0) < text_width("MMMM", 10.0));
        assert!(fit(&"M".repeat(1000), BODY, 100.0).chars().count() < 20);
    }

    #[test]
    fn what_is_spread_keeps_the_last() {
        assert_eq!(spread((1..=7).collect(), 3), (vec![1, 4, 7], 3));
        assert_eq!(spread((1..=6).collect(), 3), (vec![2, 4, 6], 2));
        assert_eq!(spread(vec![1, 2], 3), (vec![1, 2], 1));
        assert!(spread(Vec::<u8>::new(), 3).0.is_empty());
    }

    #[test]
    fn a_sheet_holds_all_its_pictures_apart() {
        let mut one = Scene::new(100.0, 50.0, "one");
        one.rect((0.0, 0.0), (100.0, 50.0), Paint::Ink, 1.0);
        let sheet = sheet("all", &vec![one; 5], "a note");
        let corners: Vec<(f64, f64)> = sheet
            .shapes
            .iter()
            .filter_map(|shape| match shape {
                Shape::Rect { at, .. } => Some(*at),
                _ => None,
            })
            .collect();
        assert_eq!(corners, [(16.0, 36.0), (132.0, 36.0), (248.0, 36.0), (16.0, 102.0), (132.0, 102.0)]);
        assert!(sheet.width >= 364.0 && sheet.height >= 168.0, "{} {}", sheet.width, sheet.height);
    }
}
