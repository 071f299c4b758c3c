//! What a circuit has to beat: random circuits of its size, and searches that should find something else, or the same.

use super::centralised::Centralised;
use super::masks::MaskLayout;
use super::rank::Found;
use super::subject::Subject;
use crate::config;
use crate::data::Population;
use crate::device::{Buffer, Device, View};
use crate::error::Result;
use crate::federation::{Pulse, Recipe, Stage, upload};
use crate::kernels::pack_bits::pack_bits;
use crate::kernels::pick::pick;
use crate::kernels::shape::Rows;
use crate::model::{Network, Survivors, Weights};
use crate::rng::{NO_CLIENT, NO_ROUND, Purpose, stream};

use rand::seq::SliceRandom;
use serde::{Serialize, Serializer};

/// How a circuit's sufficiency stands among random circuits with as many channels in every layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Against {
    /// Mean sufficiency of the random circuits.
    pub mean: f64,
    /// Share of the random circuits that are less sufficient.
    pub percentile: f64,
    /// (1 + random circuits at least as sufficient) / (1 + random circuits).
    pub p_value: f64,
}

impl Against {
    /// From the sufficiency of the circuit itself and of its random circuits, on the same images; not numbers where that
    /// is none, as without images.
    pub(super) fn new(own: f64, random: &[f64]) -> Self {
        if own.is_nan() {
            return Self { mean: f64::NAN, percentile: f64::NAN, p_value: f64::NAN };
        }
        let n = random.len() as f64;
        let below = random.iter().filter(|s| **s < own).count() as f64;
        Self { mean: random.iter().sum::<f64>() / n, percentile: below / n, p_value: (1.0 + n - below) / (1.0 + n) }
    }
}

/// A search that a circuit of the global model is set beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Control {
    /// In the same weights, with other minibatches: the noise ceiling of every overlap.
    Repeat,
    /// In the weights from which the run started.
    Untrained,
    /// In the same weights, with the client's labels permuted.
    Permuted,
    /// In the same weights, shuffled within every filter.
    Shuffled,
    /// In a model trained on all clients' examples for as many steps as a client.
    Centralised,
}

impl Control {
    /// Every control, in the order of the tables.
    pub const ALL: [Control; 5] =
        [Control::Repeat, Control::Untrained, Control::Permuted, Control::Shuffled, Control::Centralised];

    /// As `controls.csv` has it.
    pub fn name(self) -> &'static str {
        match self {
            Control::Repeat => "repeat",
            Control::Untrained => "untrained",
            Control::Permuted => "permuted",
            Control::Shuffled => "shuffled",
            Control::Centralised => "centralised",
        }
    }

    /// Whether the configuration asks for it.
    pub(super) fn asked(self, controls: &config::Controls) -> bool {
        match self {
            Control::Repeat => controls.repeat,
            Control::Untrained => controls.untrained,
            Control::Permuted => controls.permuted,
            Control::Shuffled => controls.shuffled,
            Control::Centralised => controls.centralised,
        }
    }

    /// What its minibatches are drawn for.
    pub(super) fn purpose(self) -> Purpose {
        match self {
            Control::Repeat => Purpose::Controls,
            Control::Untrained => Purpose::Untrained,
            Control::Permuted => Purpose::Permuted,
            Control::Shuffled => Purpose::Shuffled,
            Control::Centralised => Purpose::Centralised,
        }
    }
}

impl Serialize for Control {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The federations side by side, as their controls need to know them.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// Which of the experiments side by side it is of; those of one follow each other.
    pub experiment: usize,
    /// The federation's seed.
    pub seed: u64,
    /// Every client's training examples.
    pub clients: &'a Population,
    /// How they train.
    pub recipe: &'a Recipe,
}

/// The weights in which the controls search.
pub(super) struct ControlModels {
    /// `[R][P]`, by replicate.
    initial: Option<Buffer>,
    /// `[R][P]`: from which word of the global rows each word of the shuffled rows comes.
    shuffle: Option<Buffer>,
    centralised: Option<Centralised>,
}

impl ControlModels {
    pub fn new(
        device: &dyn Device,
        network: &Network,
        training: &config::Training,
        controls: &config::Controls,
        origins: &[Origin<'_>],
        weights: &dyn Fn(u64) -> Vec<f32>,
    ) -> Result<Self> {
        let initial = controls.untrained.then(|| first_weights(device, network, origins, weights)).transpose()?;
        let centralised =
            controls.centralised.then(|| Centralised::new(device, network, training, origins, weights)).transpose()?;
        Ok(Self {
            initial,
            shuffle: controls.shuffled.then(|| shuffles(device, network, origins)).transpose()?,
            centralised,
        })
    }

    /// One more round of what is trained beside the federation, if there is any.
    pub fn train(&mut self, stage: Stage<'_>, pulse: &mut Pulse<'_>) -> Result<bool> {
        self.centralised.as_mut().map_or(Ok(()), |centralised| centralised.round(stage, pulse))?;
        Ok(self.centralised.is_some())
    }

    /// The weights trained so, `[R][P]`.
    pub fn trained(&self) -> Option<&Buffer> {
        self.centralised.as_ref().map(Centralised::weights)
    }

    /// Steps of a round of that training, for the progress bar.
    pub fn steps(&self) -> usize {
        self.centralised.as_ref().map_or(0, Centralised::steps)
    }

    /// The rows in which `control` searches, `[R][P]`, where it has weights of its own, and room for the lists of their
    /// survivors where that pays; `global` are the new global weights.
    pub fn weights(
        &self,
        stage: Stage<'_>,
        control: Control,
        global: Weights<'_>,
    ) -> Result<Option<(Buffer, Option<Survivors>)>> {
        let device = stage.device;
        match control {
            Control::Repeat | Control::Permuted => Ok(None),
            Control::Untrained => Ok(self.initial.clone().map(|weights| (weights, None))),
            Control::Centralised => {
                self.centralised.as_ref().map(|c| Ok((c.weights().clone(), c.survivors(stage)?))).transpose()
            }
            Control::Shuffled => {
                let Some(places) = &self.shuffle else { return Ok(None) };
                let rows = device.alloc("shuffled weights", global.values.words)?;
                pick(device, global.values, places.all(), rows.all())?;
                let survivors = global.survivors.map(|survivors| survivors.another(device)).transpose()?;
                Ok(Some((rows, survivors)))
            }
        }
    }
}

/// `[R][P]`: the weights that the federations start from, those of a seed as `weights` gives them.
pub(super) fn first_weights(
    device: &dyn Device,
    network: &Network,
    origins: &[Origin<'_>],
    weights: &dyn Fn(u64) -> Vec<f32>,
) -> Result<Buffer> {
    let words = network.layout.words;
    let rows = device.alloc("first weights", origins.len() * words)?;
    for (row, origin) in origins.iter().enumerate() {
        device.write(rows.view(row * words, words), bytemuck::cast_slice(&weights(origin.seed)))?;
    }
    Ok(rows)
}

/// `[R][P]`: [`shuffled`] of every federation.
fn shuffles(device: &dyn Device, network: &Network, origins: &[Origin<'_>]) -> Result<Buffer> {
    let places: Vec<u32> = (0..).zip(origins).flat_map(|(row, o)| shuffled(network, o.seed, row)).collect();
    upload(device, "places of shuffled weights", &places)
}

/// For each word of row `row`, the word of the same filter that comes in its place; biases stay.
fn shuffled(network: &Network, seed: u64, row: usize) -> Vec<u32> {
    let layout = &network.layout;
    let mut rng = stream(seed, NO_ROUND, NO_CLIENT, Purpose::Shuffled);
    let mut places: Vec<u32> = (0..layout.words as u32).map(|w| (row * layout.words) as u32 + w).collect();
    for tensor in layout.prunable() {
        let filter = tensor.words() / tensor.shape[0];
        places[tensor.at..][..tensor.words()].chunks_exact_mut(filter).for_each(|f| f.shuffle(&mut rng));
    }
    places
}

/// What one control found for the pairs of a round.
#[derive(Debug)]
pub(super) struct ControlCounts {
    pub control: Control,
    /// `[Q][W]`: the circuits' channels as bits.
    pub masks: Buffer,
    /// `[Q][classes][classes]`: predictions with nothing ablated.
    pub whole: Buffer,
    /// `[Q][classes][classes]`: predictions of the circuits alone.
    pub kept: Buffer,
    /// `[Q]`: sums of the losses with nothing ablated.
    pub losses: Buffer,
}

impl ControlCounts {
    /// Buffers whose views are read back for each control, in this order.
    pub const VIEWS: usize = 4;

    pub fn new(device: &dyn Device, control: Control, pairs: usize, classes: usize, mask_words: usize) -> Result<Self> {
        let cells = pairs * classes * classes;
        Ok(Self {
            control,
            masks: device.alloc("masks of a control", pairs * mask_words)?,
            whole: device.alloc("answers of a control", cells)?,
            kept: device.alloc("answers of a control's circuits", cells)?,
            losses: device.alloc("losses of a control", pairs)?,
        })
    }

    pub fn views(&self) -> [View<'_>; Self::VIEWS] {
        [self.masks.all(), self.whole.all(), self.kept.all(), self.losses.all()]
    }

    /// Puts what was found for the subject's pairs, `at..` of the round, where it belongs.
    pub fn keep(
        &self,
        subject: &Subject<'_>,
        layout: &MaskLayout,
        found: &Found,
        at: usize,
        (whole, losses, kept): (&Buffer, &Buffer, &Buffer),
    ) -> Result<()> {
        let (device, slots) = (subject.stage.device, subject.pairs.len());
        let gates = Rows { slots, words: found.hard.words() / slots };
        let masks = device.alloc("some masks of a control", slots * layout.words)?;
        pack_bits(device, gates, found.hard.all(), layout.word_table.all(), masks.all())?;
        let found = [(&masks, &self.masks), (whole, &self.whole), (kept, &self.kept), (losses, &self.losses)];
        for (from, to) in found {
            device.copy(from.all(), to.view(at * (from.words() / slots), from.words()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Input, LayerSpec, SpecKind, chain};

    #[test]
    fn a_circuit_is_ranked_among_random_ones() {
        let against = Against::new(0.75, &[0.25, 0.75, 1.0, 0.0]);
        assert_eq!(against, Against { mean: 0.5, percentile: 0.5, p_value: 0.6 });
        let unknown = Against::new(f64::NAN, &[f64::NAN, f64::NAN]);
        assert!(unknown.mean.is_nan() && unknown.percentile.is_nan() && unknown.p_value.is_nan());
    }

    #[test]
    fn weights_are_shuffled_within_their_filters_and_biases_stay() {
        let input = Input { channels: 2, height: 8, width: 8 };
        let conv = SpecKind::Conv { channels: 16, kernel: 3, padding: 1, pool: 2 };
        let spec = |name: &str, kind, relu| LayerSpec { name: name.into(), kind, relu };
        let specs = [spec("conv", conv, true), spec("fc", SpecKind::Linear { features: 10 }, false)];
        let network = Network::new(chain(&specs, input, 10).unwrap(), input, 10);
        let (layout, places) = (&network.layout, shuffled(&network, 3, 2));
        let start = (2 * layout.words) as u32;
        let mut moved = 0;
        for tensor in &layout.tensors {
            let own = &places[tensor.at..][..tensor.words()];
            let filter = if tensor.is_bias() { 1 } else { tensor.words() / tensor.shape[0] };
            for (f, filter_places) in own.chunks(filter).enumerate() {
                let first = start + (tensor.at + f * filter) as u32;
                let mut sorted = filter_places.to_vec();
                sorted.sort_unstable();
                assert_eq!(sorted, (first..first + filter as u32).collect::<Vec<_>>());
                moved += filter_places.iter().zip(first..).filter(|(place, own)| **place != *own).count();
            }
        }
        assert!(moved > 2700, "{moved} of 2,874 moved");
    }
}
