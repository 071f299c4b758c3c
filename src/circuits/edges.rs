//! Connectivity as bits: which channels of the layer before feed each channel.

use super::masks::{MaskLayout, ones};
use crate::device::{Buffer, Device};
use crate::error::Result;
use crate::federation::upload;
use crate::kernels::circuit_edges::EVERY_SOURCE;
use crate::kernels::edge_bits::table;
use crate::model::Network;

/// A channel, and the channels of the layer before that feed it.
pub type Feeds = (u32, Vec<u32>);

/// How a row of parameters becomes a row of edge bits.
#[derive(Debug)]
pub(super) struct EdgeLayout {
    /// E: words of a row.
    pub words: usize,
    /// Possible edges of each gated layer.
    pub possible: Vec<usize>,
    /// First word, and words a channel, of each gated layer.
    layers: Vec<(usize, usize)>,
    /// `[E][4]` on the device, for the weights.
    pub weight_table: Buffer,
    /// `[E][4]` on the device, for the masks.
    pub mask_table: Buffer,
    /// `[L][2]` on the device: first word and number of words of each gated layer.
    pub layer_table: Buffer,
}

impl EdgeLayout {
    pub fn new(device: &dyn Device, network: &Network, masks: &MaskLayout) -> Result<Self> {
        let (mut weights, mut ends, mut ranges) = (Vec::new(), Vec::new(), Vec::new());
        let (mut layers, mut possible) = (Vec::new(), Vec::new());
        for (l, range) in network.layout.gates.iter().enumerate() {
            let layer = &network.layers[range.layer];
            let sources = match range.layer {
                0 => network.input.channels,
                i => network.layers[i - 1].channels(),
            };
            let taps = layer.fan_in() / sources;
            let at = network.layout.place(range.layer).weights_at;
            let (first, words) = (weights.len(), sources.div_ceil(32));
            layers.push((first, words));
            possible.push(range.channels * sources);
            for channel in 0..range.channels {
                weights.extend(table(at + channel * layer.fan_in(), sources, taps));
                let dest = [(masks.layers[l].0 + channel / 32) as u32, (channel % 32) as u32];
                ends.extend((0..words).map(|w| {
                    let source = if l == 0 { EVERY_SOURCE } else { (masks.layers[l - 1].0 + w) as u32 };
                    [dest[0], dest[1], source, 0]
                }));
            }
            ranges.extend([first as u32, (range.channels * words) as u32]);
        }
        Ok(Self {
            words: weights.len(),
            possible,
            layers,
            weight_table: upload(device, "table of edges in the weights", weights.as_flattened())?,
            mask_table: upload(device, "table of edges in the masks", ends.as_flattened())?,
            layer_table: upload(device, "table of edge layers", &ranges)?,
        })
    }

    /// The edges in a row of a circuit with these channels, layer by layer.
    pub fn list(&self, row: &[u32], channels: &[Vec<u32>]) -> Vec<Vec<Feeds>> {
        let layer = |((at, words), channels): (&(usize, usize), &Vec<u32>)| {
            let sources = |dest: &u32| ones(&row[at + *dest as usize * words..][..*words]);
            channels.iter().map(|d| (*d, sources(d))).filter(|(_, sources)| !sources.is_empty()).collect()
        };
        self.layers.iter().zip(channels).map(layer).collect()
    }
}
