//! Connectivity as bits: which channels of the layer before feed each channel, or which of their weights survive.

use super::masks::{MaskLayout, ones};
use crate::config::EdgeUnit;
use crate::device::{Buffer, Device};
use crate::error::Result;
use crate::federation::upload;
use crate::kernels::circuit_edges::EVERY_SOURCE;
use crate::kernels::edge_bits::{position_table, table};
use crate::model::Network;

/// A channel, and the channels of the layer before that feed it.
pub type Feeds = (u32, Vec<u32>);

/// How a row of parameters becomes a row of edge bits.
///
/// A bit is a source channel, or one of its weights. Weights lie by their position in the filter, the sources of a
/// position in words of their own, so that a word of sources of a circuit's mask cuts each of them. Nothing cuts the
/// sources of the first layer: its weights lie in their own order, packed.
#[derive(Debug)]
pub(super) struct EdgeLayout {
    /// E: words of a row.
    pub words: usize,
    /// Possible edges of each gated layer.
    pub possible: Vec<usize>,
    /// First word and number of words of each gated layer, then of all of them.
    pub ranges: Vec<[u32; 2]>,
    layers: Vec<Block>,
    /// `[E][4]` on the device, for the weights.
    pub weight_table: Buffer,
    /// `[E][4]` on the device, for the masks.
    pub mask_table: Buffer,
    /// `[L][2]` on the device: first word and number of words of each gated layer.
    pub layer_table: Buffer,
}

/// Where the bits of one layer lie.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// First word.
    at: usize,
    /// Words a channel.
    words: usize,
    /// Words after which the sources begin anew.
    turn: usize,
    /// Bits that follow each other and have the same source.
    run: u32,
}

impl Block {
    /// The sources of channel `dest` in a row of edges, ascending.
    fn sources(self, row: &[u32], dest: u32) -> Vec<u32> {
        let own = &row[self.at + dest as usize * self.words..][..self.words];
        let any: Vec<u32> = (0..self.turn).map(|w| own[w..].iter().step_by(self.turn).fold(0, |a, b| a | b)).collect();
        let mut sources: Vec<u32> = ones(&any).iter().map(|bit| bit / self.run).collect();
        sources.dedup();
        sources
    }
}

impl EdgeLayout {
    /// For the gated layers of `network`; `unit` says what an edge is.
    pub fn new(device: &dyn Device, network: &Network, masks: &MaskLayout, unit: EdgeUnit) -> Result<Self> {
        let (mut weights, mut ends, mut ranges) = (Vec::new(), Vec::new(), Vec::new());
        let (mut layers, mut possible) = (Vec::new(), Vec::new());
        for (l, range) in network.layout.gates.iter().enumerate() {
            let layer = &network.layers[range.layer];
            let sources = match range.layer {
                0 => network.input.channels,
                i => network.layers[i - 1].channels(),
            };
            let (size, taps) = (layer.fan_in(), layer.fan_in() / sources);
            let at = network.layout.place(range.layer).weights_at;
            let first = weights.len();
            for dest in 0..range.channels {
                let at = at + dest * size;
                match unit {
                    EdgeUnit::Channel => weights.extend(table(at, sources, taps)),
                    EdgeUnit::Position if l == 0 => weights.extend(table(at, size, 1)),
                    EdgeUnit::Position => weights.extend(position_table(at, sources, taps)),
                }
            }
            let words = (weights.len() - first) / range.channels;
            let (turn, run, edges) = match unit {
                EdgeUnit::Channel => (words, 1, sources),
                EdgeUnit::Position if l == 0 => (words, taps as u32, size),
                EdgeUnit::Position => (sources.div_ceil(32), 1, size),
            };
            layers.push(Block { at: first, words, turn, run });
            possible.push(range.channels * edges);
            for dest in 0..range.channels {
                let [word, bit] = [(masks.layers[l].0 + dest / 32) as u32, (dest % 32) as u32];
                let source = |w: usize| if l == 0 { EVERY_SOURCE } else { (masks.layers[l - 1].0 + w % turn) as u32 };
                ends.extend((0..words).map(|w| [word, bit, source(w), 0]));
            }
            ranges.push([first, range.channels * words].map(|n| n as u32));
        }
        let layer_table = upload(device, "table of edge layers", ranges.as_flattened())?;
        ranges.push([0, weights.len() as u32]);
        Ok(Self {
            words: weights.len(),
            possible,
            ranges,
            layers,
            weight_table: upload(device, "table of edges in the weights", weights.as_flattened())?,
            mask_table: upload(device, "table of edges in the masks", ends.as_flattened())?,
            layer_table,
        })
    }

    /// Which channels feed which, layer by layer, in a row of edges of a circuit with these channels.
    pub fn list(&self, row: &[u32], channels: &[Vec<u32>]) -> Vec<Vec<Feeds>> {
        let layer = |(block, channels): (&Block, &Vec<u32>)| {
            channels
                .iter()
                .map(|dest| (*dest, block.sources(row, *dest)))
                .filter(|(_, sources)| !sources.is_empty())
                .collect()
        };
        self.layers.iter().zip(channels).map(layer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;
    use crate::kernels::edge_bits::edge_bits;
    use crate::model::{Input, LayerSpec, SpecKind, chain};

    /// Two image channels, a convolution with 34 channels, another with 3, a linear layer of 5 units, and the logits.
    fn network() -> Network {
        let spec = |name: &str, kind| LayerSpec { name: name.into(), kind, relu: name != "fc" };
        let conv = |channels| SpecKind::Conv { channels, kernel: 3, padding: 1, pool: 2 };
        let specs = [
            spec("conv1", conv(34)),
            spec("conv2", conv(3)),
            spec("hidden", SpecKind::Linear { features: 5 }),
            spec("fc", SpecKind::Linear { features: 2 }),
        ];
        let input = Input { channels: 2, height: 8, width: 8 };
        Network::new(chain(&specs, input, 2).unwrap(), input, 2)
    }

    /// Both units, against a reading of the weights: which sources feed each channel, and how many bits are set.
    #[test]
    fn bits_equal_a_reading_of_the_weights() {
        let (network, cpu) = (network(), Cpu::new(Some(1)).unwrap());
        let masks = MaskLayout::new(&cpu, &network.layout).unwrap();
        let alive = |i: usize| i.wrapping_mul(2_654_435_761) >> 7 & 15 == 0;
        let row: Vec<u32> = (0..network.layout.words).map(|i| u32::from(alive(i)) * 1.0f32.to_bits()).collect();
        let weights = upload(&cpu, "weights", &row).unwrap();
        for unit in [EdgeUnit::Channel, EdgeUnit::Position] {
            let layout = EdgeLayout::new(&cpu, &network, &masks, unit).unwrap();
            let edges = cpu.alloc("edges", layout.words).unwrap();
            let table = layout.weight_table.all();
            edge_bits(&cpu, 1, network.layout.words, weights.all(), table, edges.all()).unwrap();
            let bits = pollster::block_on(cpu.read(&[edges.all()])).unwrap().remove(0);
            let every: Vec<Vec<u32>> = network.layout.gates.iter().map(|g| (0..g.channels as u32).collect()).collect();
            let found = layout.list(&bits, &every);
            for (l, sources) in [2, 34, 3].into_iter().enumerate() {
                let tensor = &network.layout.tensors[2 * l];
                let (size, taps) = (tensor.fan_in, tensor.fan_in / sources);
                let at = |dest: usize, s: usize| tensor.at + dest * size + s * taps;
                let feeds = |dest: usize| -> Vec<u32> {
                    (0..sources).filter(|s| (at(dest, *s)..at(dest, s + 1)).any(alive)).map(|s| s as u32).collect()
                };
                let want: Vec<Feeds> = (0..tensor.shape[0]).map(|d| (d as u32, feeds(d))).collect();
                let want: Vec<Feeds> = want.into_iter().filter(|(_, s)| !s.is_empty()).collect();
                assert_eq!(found[l], want, "{unit:?}, layer {l}");
                let [first, words] = layout.ranges[l].map(|n| n as usize);
                let set: u32 = bits[first..first + words].iter().map(|w| w.count_ones()).sum();
                let (count, possible) = match unit {
                    EdgeUnit::Channel => (want.iter().map(|(_, s)| s.len()).sum(), tensor.shape[0] * sources),
                    EdgeUnit::Position => {
                        (row[tensor.at..][..tensor.words()].iter().filter(|w| **w != 0).count(), tensor.words())
                    }
                };
                assert_eq!((set as usize, layout.possible[l]), (count, possible), "{unit:?}, layer {l}");
                assert!(count > 0 && count < possible);
            }
        }
    }
}
