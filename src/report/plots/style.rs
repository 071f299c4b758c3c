//! Colours and sizes that the pictures share.

use super::canvas::{RGBColor, Stroke};

/// Six of the eight colours of Okabe and Ito, which people with any of the common colour blindnesses can tell apart.
/// Yellow is too faint on white, and black stands for what is not a layer.
pub const LAYERS: [RGBColor; 6] = [BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY_BLUE];
const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const GREEN: RGBColor = RGBColor(0x00, 0x9e, 0x73);
const PURPLE: RGBColor = RGBColor(0xcc, 0x79, 0xa7);
const ORANGE: RGBColor = RGBColor(0xe6, 0x9f, 0x00);
/// Okabe and Ito's.
pub const VERMILION: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
/// Okabe and Ito's.
pub const SKY_BLUE: RGBColor = RGBColor(0x56, 0xb4, 0xe9);

/// Text, and lines that are not of a layer.
pub const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
/// The second of two lines that are not of a layer; light enough to show where it runs on top of the first.
pub const GREY: RGBColor = RGBColor(0x93, 0x93, 0x93);
/// Text beside the point.
pub const FADED: RGBColor = RGBColor(0x66, 0x66, 0x66);
/// Grid lines, and cells of channels in no circuit.
pub const PALE: RGBColor = RGBColor(0xe9, 0xe9, 0xe9);

/// Text size of titles.
pub const TITLE: f64 = 13.0;
/// Text size of everything else.
pub const BODY: f64 = 10.5;

/// Measured values.
pub fn solid(color: RGBColor) -> Stroke {
    Stroke { color, width: 1.8, dash: None }
}

/// A second measure beside the solid one.
pub fn dashed(color: RGBColor) -> Stroke {
    Stroke { color, width: 1.8, dash: Some((6.0, 4.0)) }
}

/// What chance would give.
pub fn dotted(color: RGBColor) -> Stroke {
    Stroke { color, width: 1.2, dash: Some((1.2, 2.6)) }
}

/// Axes and grids.
pub fn hairline(color: RGBColor) -> Stroke {
    Stroke { color, width: 0.75, dash: None }
}
