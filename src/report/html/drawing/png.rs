//! Pictures as PNG, in the colours of a light page.

use std::io;

use super::scene::{DASHES, Paint, SERIES, Scene, Shape};
use crate::report::plots::canvas::{Canvas, RGBColor, Stroke};

/// As in [`super::svg::LIGHT`].
const COLORS: [RGBColor; SERIES] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xa3, 0x9a, 0x00),
];

/// The file's bytes.
pub fn file(scene: &Scene) -> io::Result<Vec<u8>> {
    let mut canvas = Canvas::new(scene.width, scene.height);
    for shape in &scene.shapes {
        draw(&mut canvas, shape)?;
    }
    canvas.quick_png()
}

fn draw(canvas: &mut Canvas, shape: &Shape) -> io::Result<()> {
    match shape {
        Shape::Line { points, paint, width, dash } => {
            canvas.line(points, Stroke { color: color(*paint, 1.0), width: *width, dash: *dash })
        }
        Shape::Segments { ends, paint, width, opacity, dashed } => {
            let stroke = Stroke { color: color(*paint, *opacity), width: *width, dash: dashed.then_some(DASHES) };
            ends.iter().try_for_each(|ends| canvas.line(ends, stroke))
        }
        Shape::Area { corners, paint } => canvas.area(corners, color(*paint, 1.0)),
        Shape::Rect { at, size, paint, opacity } => canvas.rectangle(*at, *size, color(*paint, *opacity)),
        Shape::Dot { at, radius, paint, opacity } => canvas.dot(*at, *radius, color(*paint, *opacity)),
        Shape::Text { text, size, paint, at, upwards: true, .. } => {
            canvas.text_upwards(text, *size, color(*paint, 1.0), *at)
        }
        Shape::Text { text, size, paint, at, anchor, .. } => canvas.text(text, *size, color(*paint, 1.0), *at, *anchor),
    }
}

/// The paint over white.
fn color(paint: Paint, opacity: f64) -> RGBColor {
    let RGBColor(r, g, b) = match paint {
        Paint::Ink => RGBColor(0x22, 0x22, 0x22),
        Paint::Faded => RGBColor(0x5f, 0x63, 0x68),
        Paint::Pale => RGBColor(0xe4, 0xe6, 0xe8),
        Paint::Ground => RGBColor(0xff, 0xff, 0xff),
        Paint::Series(i) => COLORS[i % SERIES],
    };
    let over = |c: u8| (255.0 - opacity.clamp(0.0, 1.0) * (255.0 - f64::from(c))).round() as u8;
    RGBColor(over(r), over(g), over(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The colours of files in either format are the same.
    #[test]
    fn colors_are_those_of_the_svg() {
        for (i, RGBColor(r, g, b)) in COLORS.into_iter().enumerate() {
            let named = format!("--s{i}:#{r:02x}{g:02x}{b:02x}");
            assert!(super::super::svg::LIGHT.contains(&named), "{named}");
        }
        assert_eq!(color(Paint::Ground, 0.3), RGBColor(255, 255, 255));
        assert_eq!(color(Paint::Series(1), 0.5), RGBColor(234, 175, 128));
    }

    #[test]
    fn a_picture_is_a_png() {
        let mut scene = Scene::new(40.0, 30.0, "a");
        scene.line(vec![(0.0, 0.0), (40.0, 30.0)], Paint::Ink, 1.0);
        scene.text_upwards("a", Paint::Ink, (10.0, 10.0));
        assert!(file(&scene).unwrap().starts_with(b"\x89PNG"));
    }
}
