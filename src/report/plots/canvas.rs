//! A white sheet to draw on, in points from its upper left corner; the only file that names the drawing crates.

use std::io;
use std::sync::OnceLock;

use ab_glyph::{Font, FontRef, OutlinedGlyph, PxScale, ScaleFont, point};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::{
    BitMapBackend, Circle, Color, DrawingArea, IntoDrawingArea, PathElement, Polygon, Rectangle, ShapeStyle,
};
pub use plotters::style::RGBColor;

/// Pixels of the picture per point: sharp on screens of double density.
pub const DENSITY: u32 = 2;
/// Drawn this much larger and averaged, as plotters does not smooth the edges of wide lines.
const OVERSAMPLING: u32 = 2;
const SCALE: u32 = DENSITY * OVERSAMPLING;

/// Where a text stands in relation to the point it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// It is centred there.
    Middle,
    /// It ends there.
    End,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stroke {
    /// Its colour.
    pub color: RGBColor,
    /// Its width.
    pub width: f64,
    /// Lengths of its dashes and of the gaps between them; `None` for a solid line.
    pub dash: Option<(f64, f64)>,
}

/// The sheet.
pub struct Canvas {
    /// In points.
    pub width: f64,
    /// In points.
    pub height: f64,
    pixels: Vec<u8>,
    size: (u32, u32),
}

type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

impl Canvas {
    /// A white one.
    pub fn new(width: f64, height: f64) -> Self {
        let size = (width.ceil() as u32 * SCALE, height.ceil() as u32 * SCALE);
        Self { width, height, pixels: vec![255; 3 * size.0 as usize * size.1 as usize], size }
    }

    /// A line through `points`.
    pub fn line(&mut self, points: &[(f64, f64)], stroke: Stroke) -> io::Result<()> {
        let points: Vec<(i32, i32)> = points.iter().map(|&(x, y)| (device(x), device(y))).collect();
        let style = ShapeStyle::from(stroke.color).stroke_width(device(stroke.width).max(1) as u32);
        match stroke.dash {
            None => drawn(self.sheet()?.draw(&PathElement::new(points, style))),
            Some((dash, gap)) => drawn(self.sheet()?.draw(&DashedPathElement::new(
                points,
                device(dash).max(1),
                device(gap).max(1),
                style,
            ))),
        }
    }

    /// A filled shape with these corners, so pale that lines and other shapes show through.
    pub fn area(&mut self, corners: &[(f64, f64)], color: RGBColor) -> io::Result<()> {
        let corners: Vec<(i32, i32)> = corners.iter().map(|&(x, y)| (device(x), device(y))).collect();
        drawn(self.sheet()?.draw(&Polygon::new(corners, color.mix(0.18).filled())))
    }

    /// A filled rectangle.
    pub fn rectangle(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), color: RGBColor) -> io::Result<()> {
        let (from, to) = ((device(x), device(y)), (device(x + width), device(y + height)));
        if to.0 <= from.0 || to.1 <= from.1 {
            return Ok(());
        }
        // Both corners belong to plotters' rectangles.
        drawn(self.sheet()?.draw(&Rectangle::new([from, (to.0 - 1, to.1 - 1)], color.filled())))
    }

    /// A filled circle.
    pub fn dot(&mut self, (x, y): (f64, f64), radius: f64, color: RGBColor) -> io::Result<()> {
        drawn(self.sheet()?.draw(&Circle::new((device(x), device(y)), device(radius), color.filled())))
    }

    /// A line of text; `y` is the middle of its capitals.
    pub fn text(&mut self, text: &str, size: f64, color: RGBColor, at: (f64, f64), anchor: Anchor) -> io::Result<()> {
        let (x, y) = (at.0 * f64::from(SCALE), at.1 * f64::from(SCALE));
        self.set(text, size, color, anchor, |along, below| ((x + along) as i32, (y + below) as i32))
    }

    /// A line of text that reads upwards, centred on a point.
    pub fn text_upwards(&mut self, text: &str, size: f64, color: RGBColor, at: (f64, f64)) -> io::Result<()> {
        let (x, y) = (at.0 * f64::from(SCALE), at.1 * f64::from(SCALE));
        self.set(text, size, color, Anchor::Middle, |along, below| ((x + below) as i32, (y - along) as i32))
    }

    /// Sets a text; `place` turns pixels along it and below its middle into those of the sheet.
    fn set(
        &mut self,
        text: &str,
        size: f64,
        color: RGBColor,
        anchor: Anchor,
        place: impl Fn(f64, f64) -> (i32, i32),
    ) -> io::Result<()> {
        let (glyphs, width) = outlines(&printable(text), size * f64::from(SCALE))?;
        let start = match anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => -width / 2.0,
            Anchor::End => -width,
        };
        let area = self.sheet()?;
        let (columns, rows) = area.dim_in_pixel();
        for glyph in glyphs {
            let bounds = glyph.px_bounds();
            let mut failed = Ok(());
            glyph.draw(|dx, dy, coverage| {
                let along = start + f64::from(bounds.min.x) + f64::from(dx);
                let (x, y) = place(along, f64::from(bounds.min.y) + f64::from(dy));
                // plotters would shift pixels from beyond the edge onto it.
                if x >= 0 && y >= 0 && x < columns as i32 && y < rows as i32 {
                    let pixel = drawn(area.draw_pixel((x, y), &color.mix(f64::from(coverage.min(1.0)))));
                    failed = std::mem::replace(&mut failed, Ok(())).and(pixel);
                }
            });
            failed?;
        }
        Ok(())
    }

    /// The picture as a PNG file's bytes, as few as can be.
    pub fn png(self) -> io::Result<Vec<u8>> {
        let (small, size) = self.small();
        encoded(&small, size, CompressionType::Best)
    }

    /// The same in a tenth of the time, in a larger file, unless that were larger than most pages: for pictures that are
    /// many.
    pub fn quick_png(self) -> io::Result<Vec<u8>> {
        const LARGE: usize = 1 << 20;
        let (small, size) = self.small();
        let quick = encoded(&small, size, CompressionType::Fast)?;
        if quick.len() > LARGE { encoded(&small, size, CompressionType::Best) } else { Ok(quick) }
    }

    /// The pixels of the file, and how many there are.
    fn small(self) -> (Vec<u8>, (u32, u32)) {
        let size = self.size;
        (averaged(&self.pixels, size.0 as usize), (size.0 / OVERSAMPLING, size.1 / OVERSAMPLING))
    }

    fn sheet(&mut self) -> io::Result<Area<'_>> {
        let backend = BitMapBackend::with_buffer_and_format(&mut self.pixels, self.size);
        Ok(backend.map_err(io::Error::other)?.into_drawing_area())
    }
}

fn encoded(pixels: &[u8], (width, height): (u32, u32), compression: CompressionType) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, compression, FilterType::Adaptive)
        .write_image(pixels, width, height, ExtendedColorType::Rgb8)
        .map_err(io::Error::other)?;
    Ok(bytes)
}

/// The mean of every square of pixels of a picture so many pixels wide, both sides multiples of the square's.
fn averaged(pixels: &[u8], width: usize) -> Vec<u8> {
    const SIDE: usize = OVERSAMPLING as usize;
    let mut small = Vec::with_capacity(pixels.len() / (SIDE * SIDE));
    for rows in pixels.chunks_exact(3 * width * SIDE) {
        for x in 0..width / SIDE {
            for channel in 0..3 {
                let at = |i: usize| u32::from(rows[3 * (width * (i / SIDE) + SIDE * x + i % SIDE) + channel]);
                let sum: u32 = (0..SIDE * SIDE).map(at).sum();
                small.push((sum / (SIDE * SIDE) as u32) as u8);
            }
        }
    }
    small
}

/// How wide a text is, in points.
pub fn text_width(text: &str, size: f64) -> io::Result<f64> {
    Ok(outlines(&printable(text), size)?.1)
}

/// The text, cut and closed with an ellipsis if it is wider than `width`.
pub fn fit(text: &str, size: f64, width: f64) -> io::Result<String> {
    let text = printable(text);
    if text_width(&text, size)? <= width {
        return Ok(text);
    }
    let mut kept: Vec<char> = text.chars().collect();
    while kept.pop().is_some() {
        let cut = format!("{}…", kept.iter().collect::<String>().trim_end());
        if text_width(&cut, size)? <= width {
            return Ok(cut);
        }
    }
    Ok(String::new())
}

/// Line breaks and the like have no glyph.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The glyphs of a text that starts at zero, with the middle of its capitals at zero, and its width. `size` is the
/// font's em.
fn outlines(text: &str, size: f64) -> io::Result<(Vec<OutlinedGlyph>, f64)> {
    let font = font()?;
    let units = font.units_per_em().unwrap_or(2048.0);
    let scale = PxScale::from(size as f32 * font.height_unscaled() / units);
    let scaled = font.as_scaled(scale);
    let capitals = font.outline(font.glyph_id('H')).map_or(0.0, |outline| outline.bounds.height().abs());
    let baseline = capitals * scaled.v_scale_factor() / 2.0;
    let (mut glyphs, mut x) = (Vec::new(), 0.0);
    for character in text.chars() {
        let id = scaled.glyph_id(character);
        glyphs.extend(scaled.outline_glyph(id.with_scale_and_position(scale, point(x, baseline))));
        x += scaled.h_advance(id);
    }
    Ok((glyphs, f64::from(x)))
}

/// The font inside the program: pictures look the same everywhere, also where no fonts are installed.
fn font() -> io::Result<&'static FontRef<'static>> {
    static FONT: OnceLock<Option<FontRef<'static>>> = OnceLock::new();
    let bytes = include_bytes!("../../../assets/fonts/DejaVuSans-subset.ttf");
    let font = FONT.get_or_init(|| FontRef::try_from_slice(bytes).ok());
    font.as_ref().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the built-in font is damaged"))
}

/// Points as pixels to draw on.
fn device(points: f64) -> i32 {
    (points * f64::from(SCALE)).round() as i32
}

fn drawn<E: std::error::Error + Send + Sync + 'static>(result: Result<(), E>) -> io::Result<()> {
    result.map_err(io::Error::other)
}
