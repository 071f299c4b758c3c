//! Connectivity: which channels of the layer before feed each channel through surviving weights.

use super::masks::ones;
use crate::device::{Buffer, Device};
use crate::error::Result;
use crate::federation::upload;
use crate::kernels::edge_bits::table;
use crate::model::Network;

/// A channel, and the channels of the layer before that feed it.
pub type Feeds = (u32, Vec<u32>);

/// How a row of parameters becomes a row of edge bits.
#[derive(Debug)]
pub(super) struct EdgeLayout {
    /// E: words of a row.
    pub words: usize,
    /// First word and words a channel, of each gated layer.
    layers: Vec<(usize, usize)>,
    /// `[E][4]` on the device.
    pub table: Buffer,
}

impl EdgeLayout {
    pub fn new(device: &dyn Device, network: &Network) -> Result<Self> {
        let (mut words, mut layers) = (Vec::new(), Vec::new());
        for range in &network.layout.gates {
            let layer = &network.layers[range.layer];
            let sources = match range.layer {
                0 => network.input.channels,
                i => network.layers[i - 1].channels(),
            };
            let taps = layer.fan_in() / sources;
            let at = network.layout.place(range.layer).weights_at;
            layers.push((words.len(), sources.div_ceil(32)));
            words.extend((0..range.channels).flat_map(|c| table(at + c * layer.fan_in(), sources, taps)));
        }
        let flat: Vec<u32> = words.iter().flatten().copied().collect();
        Ok(Self { words: words.len(), layers, table: upload(device, "table of edges", &flat)? })
    }

    /// The edges of a circuit, layer by layer: between its own channels, in the first layer from the images (method.md:
    /// an edge is kept when its destination is in the circuit and, but for the first layer, its source too).
    pub fn within(&self, row: &[u32], channels: &[Vec<u32>]) -> Vec<Vec<Feeds>> {
        let layer = |(i, (at, words)): (usize, &(usize, usize))| {
            let feeds = |dest: &u32| {
                let first = at + *dest as usize * words;
                let mut sources = ones(&row[first..first + words]);
                if i > 0 {
                    sources.retain(|s| channels[i - 1].binary_search(s).is_ok());
                }
                (*dest, sources)
            };
            channels[i].iter().map(feeds).filter(|(_, sources)| !sources.is_empty()).collect()
        };
        self.layers.iter().enumerate().map(layer).collect()
    }
}
