//! Circuits as bits: each gated layer starts a new word.

use crate::device::{Buffer, Device};
use crate::error::Result;
use crate::federation::upload;
use crate::model::Layout;

/// How a row of gates becomes a row of words.
#[derive(Debug)]
pub(super) struct MaskLayout {
    /// W: words of a row.
    pub words: usize,
    /// First word and number of words of each gated layer.
    pub layers: Vec<(usize, usize)>,
    /// First word and number of words of each gated layer, then of all of them.
    pub ranges: Vec<[u32; 2]>,
    /// `[W][2]` on the device: first gate and number of gates of each word.
    pub word_table: Buffer,
    /// `[L][2]` on the device: as `layers`.
    pub layer_table: Buffer,
}

impl MaskLayout {
    pub fn new(device: &dyn Device, layout: &Layout) -> Result<Self> {
        let (mut table, mut layers) = (Vec::new(), Vec::new());
        for range in &layout.gates {
            layers.push((table.len() / 2, range.channels.div_ceil(32)));
            for first in (0..range.channels).step_by(32) {
                table.extend([(range.at + first) as u32, (range.channels - first).min(32) as u32]);
            }
        }
        let mut ranges: Vec<[u32; 2]> = layers.iter().map(|(at, n)| [*at as u32, *n as u32]).collect();
        let layer_table = upload(device, "table of mask layers", ranges.as_flattened())?;
        ranges.push([0, table.len() as u32 / 2]);
        Ok(Self {
            words: table.len() / 2,
            ranges,
            layers,
            word_table: upload(device, "table of mask words", &table)?,
            layer_table,
        })
    }

    /// The channels set in a row, layer by layer, ascending.
    pub fn channels(&self, row: &[u32]) -> Vec<Vec<u32>> {
        self.layers.iter().map(|(at, words)| ones(&row[*at..at + words])).collect()
    }
}

/// Positions of the set bits.
pub(super) fn ones(words: &[u32]) -> Vec<u32> {
    (0..)
        .zip(words)
        .flat_map(|(i, word)| (0..32).filter(move |b| word >> b & 1 == 1).map(move |b| 32 * i + b))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_bits_are_listed_in_order() {
        assert_eq!(ones(&[0b1001, 0, 1 << 31]), [0, 3, 95]);
        assert!(ones(&[]).is_empty());
    }
}
