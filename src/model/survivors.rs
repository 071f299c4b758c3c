//! Which layers run over their surviving weights alone, and the lists that they need for it.

use super::{Layer, Network, Op};
use crate::config::Sparsity;
use crate::device::{Buffer, Device, DeviceInfo, View};
use crate::error::Result;
use crate::kernels::shape::Rows;
use crate::kernels::sparse::{Filters, ListPlace, Lists, Side};
use crate::kernels::survivors::survivors;

/// Rows of weights, and where their survivors are listed.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// `[rows][P]`.
    pub values: View<'a>,
    /// Lists of the same rows, of the layers that are to run over them; without any, all layers run dense.
    pub survivors: Option<&'a Survivors>,
}

impl<'a> From<View<'a>> for Weights<'a> {
    /// Weights of which nothing is known.
    fn from(values: View<'a>) -> Self {
        Self { values, survivors: None }
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
        let share = |layer: &Layer| {
            let floor = match layer.op {
                Op::Conv(conv) => min_alive as f64 / (conv.in_channels * conv.kernel * conv.kernel) as f64,
                Op::Linear(_) => 0.0,
            };
            // Filters that the floor fills add to what the threshold leaves in the others.
            (1.0 - sparsity + floor).min(1.0)
        };
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

    /// Which layers are faster over their survivors on the device.
    fn sparse(&self, network: &Network, info: &DeviceInfo) -> Vec<bool> {
        network.layers.iter().zip(&self.0).map(|(layer, share)| *share <= threshold(info, layer)).collect()
    }
}

/// The greatest density at which a layer runs over its survivors.
fn threshold(info: &DeviceInfo, layer: &Layer) -> f64 {
    match (info.kind, layer.op) {
        ("cpu", Op::Conv(_)) => 0.1,
        ("cpu", Op::Linear(_)) => 0.1,
        (_, Op::Conv(_)) => 0.2,
        (_, Op::Linear(_)) => 0.2,
    }
}

/// Lists of the survivors of `[rows][P]` weights, for the layers that are faster so.
#[derive(Debug)]
pub struct Survivors {
    rows: usize,
    /// Whether a layer runs over its survivors.
    used: Vec<bool>,
    /// `[rows][S]` for the forward pass, and for the input gradients where they are wanted.
    outputs: Buffer,
    inputs: Option<Buffer>,
    places: Vec<[ListPlace; 2]>,
}

impl Survivors {
    /// Words of one row's lists for the forward pass, and for the input gradients: as many as the weights, then a number
    /// of entries for every list.
    pub fn words(network: &Network) -> [usize; 2] {
        [Side::Outputs, Side::Inputs].map(|side| {
            let lists: usize = network.layers.iter().map(|layer| filters(layer).lists(side)).sum();
            (network.layout.words + lists).next_multiple_of(4)
        })
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
        if !used.contains(&true) {
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
        Ok(Some(Self { rows, used, outputs, inputs, places }))
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
        })
    }

    /// Whether weights of `density` are sparse enough for every layer that has lists.
    pub fn pay(&self, device: &dyn Device, network: &Network, density: &Density) -> bool {
        density.sparse(network, device.info()) == self.used
    }

    /// Lists the survivors of the first `rows` rows of `weights`, and returns the weights with their lists.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn list<'a>(
        &'a self,
        device: &dyn Device,
        network: &Network,
        rows: usize,
        weights: View<'a>,
    ) -> Result<Weights<'a>> {
        assert!(rows <= self.rows, "{rows} rows, room for {}", self.rows);
        let rows = Rows { slots: rows, words: network.layout.words };
        for (i, layer) in network.layers.iter().enumerate() {
            let (filters, place) = (filters(layer), network.layout.place(i));
            // The images' own gradient is never wanted.
            let sides = if i == 0 { &[Side::Outputs][..] } else { &[Side::Outputs, Side::Inputs] };
            for side in sides {
                if let Some(lists) = self.lists(i, *side) {
                    survivors(device, rows, &filters, *side, (weights, place), lists)?;
                }
            }
        }
        Ok(Weights { values: weights, survivors: Some(self) })
    }

    /// The lists of a layer, if it is to run over them.
    pub(super) fn lists(&self, layer: usize, side: Side) -> Option<Lists<'_>> {
        let buffer = match side {
            Side::Outputs => Some(&self.outputs),
            Side::Inputs => self.inputs.as_ref(),
        };
        let values = buffer.filter(|_| self.used[layer])?.all();
        Some(Lists { values, place: self.places[layer][side as usize] })
    }
}

fn filters(layer: &Layer) -> Filters {
    match layer.op {
        Op::Conv(conv) => (&conv).into(),
        Op::Linear(linear) => (&linear).into(),
    }
}
