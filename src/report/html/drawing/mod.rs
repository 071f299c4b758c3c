//! Charts as shapes, and shapes as SVG or PNG.

pub mod axes;
pub mod bars;
pub mod chart;
pub mod dots;
pub mod png;
pub mod scatter;
pub mod scene;
pub mod svg;
