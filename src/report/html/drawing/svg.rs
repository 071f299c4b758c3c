//! Pictures as SVG: inside the page, in whose colours they appear, or as files of their own.

use std::fmt::Write;

use super::scene::{AREA_OPACITY, DASHES, Paint, SERIES, Scene, Shape};
use crate::report::plots::canvas::Anchor;

/// The colours of a light page; of a dark one in `assets/report/report.css`.
pub const LIGHT: &str = "--ink:#222;--faded:#5f6368;--pale:#e4e6e8;--ground:#fff;--s0:#0072b2;--s1:#d55e00;--s2:#009e73;\
    --s3:#cc79a7;--s4:#e69f00;--s5:#56b4e9;--s6:#a39a00";

/// For the page: `id` must be one of its own.
pub fn inline(scene: &Scene, id: &str) -> String {
    let (title, description) = (escaped(&scene.title), escaped(&scene.description));
    let mut svg = format!(
        "<svg class=\"plot\" viewBox=\"0 0 {} {}\" width=\"{}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\
         <title id=\"{id}-t\">{title}</title><desc id=\"{id}-d\">{description}</desc>",
        short(scene.width),
        short(scene.height),
        short(scene.width),
    );
    shapes(&mut svg, scene);
    svg.push_str("</svg>");
    svg
}

/// As a file, in the colours of a light page.
pub fn file(scene: &Scene) -> String {
    let (width, height) = (short(scene.width), short(scene.height));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\"><title>{}</title><desc>{}</desc><style>:root{{{LIGHT}}}{}</style>\
         <rect width=\"{width}\" height=\"{height}\" class=\"fg\"/>\n",
        escaped(&scene.title),
        escaped(&scene.description),
        style(),
    );
    shapes(&mut svg, scene);
    svg.push_str("</svg>\n");
    svg
}

/// What the classes of shapes mean, by the names of colours.
pub fn style() -> String {
    let mut css =
        String::from("text{font-family:system-ui,'DejaVu Sans',sans-serif}.l{fill:none;stroke-linejoin:round}");
    let paints = [Paint::Ink, Paint::Faded, Paint::Pale, Paint::Ground];
    for paint in paints.into_iter().chain((0..SERIES).map(Paint::Series)) {
        let (class, name) = (class(paint), variable(paint));
        let _ = write!(css, ".f{class}{{fill:var(--{name})}}.s{class}{{stroke:var(--{name})}}");
    }
    css
}

fn class(paint: Paint) -> String {
    match paint {
        Paint::Ink => "i".into(),
        Paint::Faded => "d".into(),
        Paint::Pale => "p".into(),
        Paint::Ground => "g".into(),
        Paint::Series(i) => (i % SERIES).to_string(),
    }
}

fn variable(paint: Paint) -> String {
    match paint {
        Paint::Ink => "ink".into(),
        Paint::Faded => "faded".into(),
        Paint::Pale => "pale".into(),
        Paint::Ground => "ground".into(),
        Paint::Series(i) => format!("s{}", i % SERIES),
    }
}

fn shapes(svg: &mut String, scene: &Scene) {
    for shape in &scene.shapes {
        // Writing to a string does not fail.
        let _ = write_shape(svg, shape);
    }
}

fn write_shape(svg: &mut String, shape: &Shape) -> std::fmt::Result {
    match shape {
        Shape::Line { points, paint, width, dash } => {
            let (class, path, dash) = (class(*paint), path(points), dashes(*dash));
            write!(svg, "<path class=\"l s{class}\" stroke-width=\"{}\"{dash} d=\"{path}\"/>", short(*width))
        }
        Shape::Segments { ends, paint, width, opacity, dashed } => {
            let path: String = ends.iter().map(|ends| path(ends)).collect();
            let look = dashes(dashed.then_some(DASHES)) + &faint("stroke", *opacity);
            let class = class(*paint);
            write!(svg, "<path class=\"l s{class}\" stroke-width=\"{}\"{look} d=\"{path}\"/>", short(*width))
        }
        Shape::Area { corners, paint } => {
            let (class, path) = (class(*paint), path(corners));
            write!(svg, "<path class=\"f{class}\" fill-opacity=\"{AREA_OPACITY}\" d=\"{path}z\"/>")
        }
        Shape::Rect { at, size, paint, opacity } => write!(
            svg,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" class=\"f{}\"{}/>",
            short(at.0),
            short(at.1),
            short(size.0),
            short(size.1),
            class(*paint),
            faint("fill", *opacity),
        ),
        Shape::Dot { at, radius, paint, opacity } => write!(
            svg,
            "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" class=\"f{}\"{}/>",
            short(at.0),
            short(at.1),
            short(*radius),
            class(*paint),
            faint("fill", *opacity),
        ),
        Shape::Text { text, size, paint, at, anchor, upwards } => {
            let anchor = match anchor {
                Anchor::Start => "",
                Anchor::Middle => " text-anchor=\"middle\"",
                Anchor::End => " text-anchor=\"end\"",
            };
            // Capitals are about 0.72 of the font's size high.
            let drop = 0.36 * size;
            let place = match upwards {
                true => format!("transform=\"translate({} {}) rotate(-90)\"", short(at.0 + drop), short(at.1)),
                false => format!("x=\"{}\" y=\"{}\"", short(at.0), short(at.1 + drop)),
            };
            let (class, size, text) = (class(*paint), short(*size), escaped(text));
            write!(svg, "<text {place} font-size=\"{size}\" class=\"f{class}\"{anchor}>{text}</text>")
        }
    }
}

fn dashes(dash: Option<(f64, f64)>) -> String {
    dash.map_or_else(String::new, |(on, off)| format!(" stroke-dasharray=\"{on} {off}\""))
}

fn faint(what: &str, opacity: f64) -> String {
    let rounded = (opacity * 1000.0).round() / 1000.0;
    if rounded < 1.0 { format!(" {what}-opacity=\"{rounded}\"") } else { String::new() }
}

fn path(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (i, (x, y)) in points.iter().enumerate() {
        let _ = write!(path, "{}{} {}", if i == 0 { 'M' } else { 'L' }, short(*x), short(*y));
    }
    path
}

/// A length to a tenth of a point.
fn short(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    if rounded.is_finite() { format!("{rounded}") } else { "0".into() }
}

/// Text as SVG and HTML need it; control characters, which XML forbids, become spaces.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        let mut scene = Scene::new(10.0, 10.0, "</title><script>alert(1)</script>");
        scene.description = "a\u{0}\"b'".into();
        scene.text("<image href='x'>&", 10.0, Paint::Ink, (0.0, 0.0), Anchor::End);
        for svg in [inline(&scene, "f1"), file(&scene)] {
            assert!(!svg.contains("<script") && !svg.contains("<image") && !svg.contains('\u{0}'), "{svg}");
            assert!(svg.contains("&lt;/title&gt;") && svg.contains("a &quot;b&#39;"), "{svg}");
            assert!(svg.contains("role=\"img\""), "{svg}");
        }
    }

    #[test]
    fn numbers_are_short_and_what_is_no_number_does_not_break_the_file() {
        assert_eq!(path(&[(0.0, 1.25), (f64::NAN, 3.0)]), "M0 1.3L0 3");
        let mut scene = Scene::new(10.0, 10.0, "");
        scene.rect((0.0, 0.0), (f64::NAN, 1.0), Paint::Series(9), 0.5);
        assert!(scene.shapes.is_empty());
        scene.rect((0.0, 0.0), (2.0, 1.0), Paint::Series(9), 0.5);
        assert!(file(&scene).contains("height=\"1\" class=\"f2\" fill-opacity=\"0.5\""), "{}", file(&scene));
    }
}
