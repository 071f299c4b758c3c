//! Which layers run over their surviving weights alone, and the lists that they need for it.

use super::{Layer, Network, Op};
use crate::config::Sparsity;
use crate::device::{Buffer, Device, DeviceInfo, View};
use crate::error::Result;
use crate::kernels::conv_input_grad::by_winners;
use crate::kernels::needed::{Blocks, Needed, Next, needed};
use crate::kernels::shape::{Rounding, Rows};
use crate::kernels::sparse::{Filters, ListPlace, Lists, Side};
use crate::kernels::survivors::survivors;

/// Rows of weights, and where their survivors are listed.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// `[rows][P]`.
    pub values: View<'a>,
    /// Lists of the same rows, of the layers that are to run over them; without any, all layers run dense.
    pub survivors: Option<&'a Survivors>,
    /// How sums over the others may round.
    pub rounding: Rounding,
}

impl<'a> From<View<'a>> for Weights<'a> {
    /// Weights of which nothing is known.
    fn from(values: View<'a>) -> Self {
        Self { values, survivors: None, rounding: Rounding::default() }
    }
}

/// At most what share of each layer's weights is not zero. Known on the host from the configuration and the round's
/// members, so that the choice of a path depends on neither the wave nor anything read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Density(Vec<f64>);

impl Density {
    /// Of weights that may all be there.
    pub fn full(network: &Network) -> Self {
        Self(vec![1.0; network.layers.len()])
    }

    /// Of one client's weights after they were pruned to `sparsity`, with the floor of every convolution filter. Equal
    /// magnitudes may keep more; then the path is slower, not wrong.
    pub fn pruned(network: &Network, sparsity: f64, min_alive: usize) -> Self {
        // Filters that the floor fills add to what the threshold leaves in the others.
        let share = |layer: &Layer| (1.0 - sparsity + layer.floor(min_alive)).min(1.0);
        Self(network.layers.iter().map(share).collect())
    }

    /// Of the trained local models of a configuration.
    pub fn trained(network: &Network, sparsity: &Sparsity) -> Self {
        match sparsity.target {
            0.0 => Self::full(network),
            target => Self::pruned(network, target, sparsity.min_alive),
        }
    }

    /// Of the mean of `models` such models, whose survivors may all be different ones.
    pub fn of_mean(&self, models: usize) -> Self {
        Self(self.0.iter().map(|share| (share * models as f64).min(1.0)).collect())
    }

    /// The greater of both in every layer.
    pub fn densest(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a.max(*b)).collect())
    }

    /// Which layers are faster over their survivors on the device.
    pub fn sparse(&self, network: &Network, info: &DeviceInfo) -> Vec<Used> {
        let layer = |(layer, share): (&Layer, &f64)| {
            let side = |side| [false, true].map(|gated| *share <= threshold(info, layer, side, gated));
            Used([Side::Outputs, Side::Inputs].map(side))
        };
        network.layers.iter().zip(&self.0).map(layer).collect()
    }
}

/// Whether the forward pass and the input gradient of a layer follow lists, without gates and with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used([[bool; 2]; 2]);

impl Used {
    fn with(self, side: Side, gated: bool) -> bool {
        self.0[side as usize][usize::from(gated)]
    }

    /// Whether each of the two does without gates.
    fn ungated(self) -> [bool; 2] {
        self.0.map(|[ungated, _]| ungated)
    }
}

/// Whether no layer follows lists.
fn dense(used: &[Used]) -> bool {
    used.iter().all(|used| *used == Used([[false; 2]; 2]))
}

/// The greatest density at which a layer runs over its survivors.
///
/// Measured on the layers of simple-cnn, one thread of an EPYC with AVX-512 and software Vulkan (Mesa lavapipe) on the same
/// processor: densities at which both paths take as long, forward and input gradient together. (Componentwise: where sums may
/// round normwise, the CPU engine's dense convolutions are faster than here.)
///
/// | layer | CPU engine | software Vulkan |
/// |---|---|---|
/// | convolution, 32 and 64 input channels | 0.13 to 0.2 | 0.12 to 0.17 |
/// | convolution, 1 input channel | over 0.6 | below 0.4 |
/// | fully connected | 0.04 to 0.09 | 0.05 |
///
/// Input gradients that the CPU engine finds by the winners of pooling windows need no lists: a round of training takes 0.77
/// to 0.84 times as long as over lists, at sparsities of 0.9 to 0.995 (medians of four on an Intel Xeon with AVX-512).
///
/// Where gates apply, a search closes most of them within some 30 of its 200 steps, and closed channels cost the sparse
/// path nothing: there it wins at several times the density, and in both directions. Hardware GPUs take the numbers of
/// software Vulkan, which are from before it had variants of the sparse convolutions, which take about half as long.
fn threshold(info: &DeviceInfo, layer: &Layer, side: Side, gated: bool) -> f64 {
    match layer.op {
        Op::Conv(conv) if side == Side::Inputs && !gated && info.kind == "cpu" && by_winners(&conv) => 0.0,
        Op::Conv(conv) if info.kind == "cpu" && conv.in_channels * conv.kernel < 24 => 0.6,
        Op::Conv(_) if gated => 0.5,
        Op::Conv(_) => 0.12,
        Op::Linear(_) => 0.04,
    }
}

/// Lists of the survivors of `[rows][P]` weights, for the layers that are faster so.
#[derive(Debug)]
pub struct Survivors {
    rows: usize,
    used: Vec<Used>,
    /// `[rows][S]` for the forward pass, and for the input gradients where they are wanted.
    outputs: Buffer,
    inputs: Option<Buffer>,
    places: Vec<[ListPlace; 2]>,
    /// Where in a row of `outputs` a layer has the bits of its blocks that are needed in passes with gates.
    needed_at: Vec<Option<usize>>,
}

impl Survivors {
    /// Words of one row's lists for the forward pass, and for the input gradients: as many as the weights, then a number
    /// of entries for every list; and for the forward pass the bits of what is needed.
    pub fn words(network: &Network) -> [usize; 2] {
        let words = [Side::Outputs, Side::Inputs].map(|side| {
            let lists: usize = network.layers.iter().map(|layer| filters(layer).lists(side)).sum();
            network.layout.words + lists
        });
        let needed: usize = network.layers.iter().map(needed_words).sum();
        [words[0] + needed, words[1]].map(|words| words.next_multiple_of(4))
    }

    /// Words of one row's lists where [`Survivors::new`] makes any for weights of `density`, and else none.
    pub fn room(device: &dyn Device, network: &Network, density: &Density) -> [usize; 2] {
        if dense(&density.sparse(network, device.info())) { [0, 0] } else { Self::words(network) }
    }

    /// Room for the lists of `rows` rows of at most `density`, with those for input gradients where `backward` says so;
    /// nothing where every layer is faster dense. [`Survivors::list`] fills it.
    ///
    /// # Errors
    /// What [`Device::alloc`] says.
    pub fn new(
        device: &dyn Device,
        network: &Network,
        density: &Density,
        rows: usize,
        backward: bool,
    ) -> Result<Option<Self>> {
        let used = density.sparse(network, device.info());
        if dense(&used) {
            return Ok(None);
        }
        let words = Self::words(network);
        let mut counts_at = [network.layout.words; 2];
        let mut places = Vec::new();
        for (i, layer) in network.layers.iter().enumerate() {
            let lists_at = network.layout.place(i).weights_at;
            places.push([0, 1].map(|side| ListPlace { row_words: words[side], lists_at, counts_at: counts_at[side] }));
            counts_at[0] += filters(layer).lists(Side::Outputs);
            counts_at[1] += filters(layer).lists(Side::Inputs);
        }
        let outputs = device.alloc("survivors by output", rows * words[0])?;
        let inputs = backward.then(|| device.alloc("survivors by input", rows * words[1])).transpose()?;
        let mut at = counts_at[0];
        let mut needed_at = vec![None; network.layers.len()];
        for (i, needed_at) in needed_at.iter_mut().enumerate().filter(|(i, _)| backward && known(network, &used, *i)) {
            *needed_at = Some(at);
            at += needed_words(&network.layers[i]);
        }
        Ok(Some(Self { rows, used, outputs, inputs, places, needed_at }))
    }

    /// Room for the lists of as many other rows, of the same layers.
    ///
    /// # Errors
    /// What [`Device::alloc`] says.
    pub fn another(&self, device: &dyn Device) -> Result<Self> {
        let like = |buffer: &Buffer| device.alloc(buffer.label(), buffer.words());
        Ok(Self {
            rows: self.rows,
            used: self.used.clone(),
            outputs: like(&self.outputs)?,
            inputs: self.inputs.as_ref().map(like).transpose()?,
            places: self.places.clone(),
            needed_at: self.needed_at.clone(),
        })
    }

    /// Whether a pass without gates over weights of `density` should follow the lists: some layers do, and for all of them
    /// the weights are sparse enough.
    pub fn pay(&self, device: &dyn Device, network: &Network, density: &Density) -> bool {
        let now = density.sparse(network, device.info());
        let some = self.used.iter().any(|used| used.ungated() != [false; 2]);
        some && self.used.iter().zip(now).all(|(used, now)| used.ungated() == now.ungated())
    }

    /// Lists the survivors of the first `rows` rows of `weights`, for passes without gates and, where `gates` says so, with
    /// them; returns the weights with their lists.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn list<'a>(
        &'a self,
        device: &dyn Device,
        network: &Network,
        rows: usize,
        weights: View<'a>,
        gates: bool,
    ) -> Result<Weights<'a>> {
        assert!(rows <= self.rows, "{rows} rows, room for {}", self.rows);
        let rows = Rows { slots: rows, words: network.layout.words };
        for (i, layer) in network.layers.iter().enumerate() {
            let (filters, place) = (filters(layer), network.layout.place(i));
            // The images' own gradient is never wanted.
            let sides = if i == 0 { &[Side::Outputs][..] } else { &[Side::Outputs, Side::Inputs] };
            for side in sides {
                if let Some(lists) = self.lists(i, *side, false).or(self.lists(i, *side, true).filter(|_| gates)) {
                    survivors(device, rows, &filters, *side, (weights, place), lists)?;
                }
            }
        }
        if gates {
            self.mark_needed(device, network, rows.slots)?;
        }
        Ok(Weights { survivors: Some(self), ..weights.into() })
    }

    /// Says of the blocks of every layer for which it can be known whether anything needs them, from the last layer to the first.
    fn mark_needed(&self, device: &dyn Device, network: &Network, rows: usize) -> Result<()> {
        for (i, layer) in network.layers.iter().enumerate().rev() {
            let lists = || self.lists(i + 1, Side::Inputs, true);
            if let (Op::Conv(conv), Some(at)) = (layer.op, self.needed_at[i])
                && let Some(lists) = lists()
            {
                let next = match network.layers[i + 1].op {
                    Op::Conv(conv) => Next::Conv(conv, self.needed_at[i + 1]),
                    Op::Linear(linear) => Next::Linear(linear),
                };
                let row_words = self.places[i][Side::Outputs as usize].row_words;
                needed(device, rows, &conv, (next, lists), Needed { values: self.outputs.all(), row_words, at })?;
            }
        }
        Ok(())
    }

    /// The lists of a layer, if it is to run over them with or without gates.
    pub(super) fn lists(&self, layer: usize, side: Side, gated: bool) -> Option<Lists<'_>> {
        let buffer = match side {
            Side::Outputs => Some(&self.outputs),
            Side::Inputs => self.inputs.as_ref(),
        };
        let values = buffer.filter(|_| self.used[layer].with(side, gated))?.all();
        let needed_at = self.needed_at[layer].filter(|_| gated && side == Side::Outputs);
        Some(Lists { values, place: self.places[layer][side as usize], needed_at })
    }
}

/// Whether it can be known which blocks of layer `i` anything needs in passes with gates: a convolution that follows lists,
/// as what reads it does. Of the first layer nearly all are.
fn known(network: &Network, used: &[Used], i: usize) -> bool {
    let conv = |i: usize| matches!(network.layers[i].op, Op::Conv(_));
    let follow = |i: usize, side| used.get(i).is_some_and(|used| used.with(side, true));
    i > 0 && conv(i) && follow(i, Side::Outputs) && follow(i + 1, Side::Outputs) && follow(i + 1, Side::Inputs)
}

/// Words of a layer's bits of what is needed.
fn needed_words(layer: &Layer) -> usize {
    match layer.op {
        Op::Conv(conv) => conv.out_channels * Blocks::of(&conv).words(),
        Op::Linear(_) => 0,
    }
}

/// The weights of a layer, as its lists have them.
pub(super) fn filters(layer: &Layer) -> Filters {
    match layer.op {
        Op::Conv(conv) => (&conv).into(),
        Op::Linear(linear) => (&linear).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Cpu, f32s};
    use crate::model::layers::tests::simple_cnn;
    use crate::model::{Input, Network};

    fn network() -> Network {
        Network::new(simple_cnn(), Input { channels: 1, height: 28, width: 28 }, 10)
    }

    #[test]
    fn densities_are_bounds() {
        let network = network();
        let sparsity = Sparsity { target: 0.995, anneal: 0.5, min_alive: 4 };
        let Density(local) = Density::trained(&network, &sparsity);
        // Four weights of 9, 288, 576; and the last layer has no floor.
        let want = [4.0 / 9.0, 4.0 / 288.0, 4.0 / 576.0, 0.0].map(|floor| floor + 0.005);
        assert!(local.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12), "{local:?}");
        let Density(mean) = Density(local).of_mean(5);
        assert!(mean[0] == 1.0 && (mean[3] - 0.025).abs() < 1e-12, "{mean:?}");
        assert_eq!(Density::trained(&network, &Sparsity { target: 0.0, ..sparsity }), Density::full(&network));
    }

    #[test]
    fn dense_weights_get_no_lists_and_a_ramp_follows_them_once_it_is_through() {
        let (network, cpu) = (network(), Cpu::new(Some(1)).unwrap());
        let new = |density: &Density| Survivors::new(&cpu, &network, density, 1, true).unwrap();
        assert!(new(&Density::full(&network)).is_none());
        let survivors = new(&Density::pruned(&network, 0.995, 4)).unwrap();
        let pay = |sparsity| survivors.pay(&cpu, &network, &Density::pruned(&network, sparsity, 4));
        assert!(pay(0.995) && pay(0.98) && !pay(0.8) && !pay(0.0));
    }

    #[test]
    fn gradients_by_winners_need_no_lists_unless_gates_close_channels() {
        let (network, cpu) = (network(), Cpu::new(Some(1)).unwrap());
        let density = Density::pruned(&network, 0.995, 4);
        let of = |kind| {
            let used = density.sparse(&network, &DeviceInfo { kind, ..cpu.info().clone() });
            used.iter().map(|used| [false, true].map(|gated| used.with(Side::Inputs, gated))).collect::<Vec<_>>()
        };
        // The last layer has 0.5% of its weights on any device.
        assert_eq!(of("cpu")[1..], [[false, true], [false, true], [true, true]]);
        assert_eq!(of("gpu")[1..], [[true; 2]; 3]);
    }

    #[test]
    fn lists_hold_the_survivors_of_every_layer() {
        let (network, cpu) = (network(), Cpu::new(Some(1)).unwrap());
        let mut row = vec![0.0f32; network.layout.words];
        // One weight of conv2: output 3, input 2, place (1, 2); one of fc: output 9, input 1151.
        row[network.layout.place(1).weights_at + (3 * 32 + 2) * 9 + 5] = 1.0;
        row[network.layout.place(3).weights_at + 9 * 1152 + 1151] = 2.0;
        let weights = crate::federation::upload(&cpu, "weights", bytemuck::cast_slice(&row)).unwrap();
        let survivors = Survivors::new(&cpu, &network, &Density::pruned(&network, 0.995, 0), 1, true).unwrap().unwrap();
        let listed = survivors.list(&cpu, &network, 1, weights.all(), true).unwrap();
        assert_eq!(f32s(&pollster::block_on(cpu.read(&[listed.values])).unwrap()[0]), row);
        let first = |layer, side, list: usize, longest: usize| {
            let lists = survivors.lists(layer, side, true).unwrap();
            let words = pollster::block_on(cpu.read(&[lists.values])).unwrap().remove(0);
            (words[lists.place.counts_at + list], words[lists.place.lists_at + list * longest])
        };
        assert_eq!(first(1, Side::Outputs, 3, 32 * 9), (1, 2 << 8 | 1 << 4 | 2));
        assert_eq!(first(1, Side::Outputs, 4, 32 * 9).0, 0);
        assert_eq!(first(1, Side::Inputs, 2, 64 * 9), (1, 3 << 8 | 1 << 4 | 2));
        assert_eq!(first(3, Side::Outputs, 9, 1152), (1, 1151 << 8));
        assert_eq!(first(3, Side::Inputs, 1151, 10), (1, 9 << 8));
    }
}
