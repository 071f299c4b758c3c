//! Pictures of a run: accuracy and overlap by round, and the channels of every circuit.

pub(super) mod canvas;
mod channel_map;
mod circuits;
mod panel;
mod rounds;
mod series;
mod style;
#[cfg(test)]
pub(super) mod tests;

use std::fs;
use std::io;
use std::path::Path;

use super::figures::RoundFigures;
use super::records::CircuitRecord;
use crate::files::replace_whole;
use crate::{Error, Result};

/// What the pictures show of one run.
#[derive(Clone, Copy, Debug)]
pub struct RunFigures<'a> {
    /// The title.
    pub name: &'a str,
    /// Its rounds, over one seed or several.
    pub rounds: &'a [RoundFigures],
    /// Its circuits; only the last round's are drawn.
    pub circuits: &'a [CircuitRecord],
    /// Channels of each gated layer, in the network's order. Circuits do not tell: a layer missing here is drawn up to
    /// the highest channel in any circuit.
    pub channels: &'a [(String, usize)],
}

/// Draws the global model's accuracy by round, and below it how much local circuits overlap with global ones, layer by
/// layer; several runs stand side by side, and several seeds of a run are a line for their mean in a band for its
/// interval. Writes a PNG file, over an earlier one if there is one, and makes its folder.
///
/// Fails if the file cannot be written. Runs without rounds or circuits get panels that say so.
pub fn draw_rounds(runs: &[RunFigures<'_>], path: &Path) -> Result<()> {
    save(rounds::picture(runs), path)
}

/// Draws which channels the circuits of the last round keep: a row for each client and class, a block for each layer.
/// Writes a PNG file, over an earlier one if there is one, and makes its folder.
///
/// Fails if the file cannot be written. A run without circuits gets a picture that says so.
pub fn draw_circuits(run: &RunFigures<'_>, path: &Path) -> Result<()> {
    save(circuits::picture(run), path)
}

fn save(picture: io::Result<canvas::Canvas>, path: &Path) -> Result<()> {
    let png = picture.and_then(canvas::Canvas::png).map_err(Error::io("draw", path))?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    replace_whole(path, &png)
}
