//! What closed channels give: zero, their mean over the client's training examples, or what they give for others of them.

use std::collections::BTreeMap;

use rand::RngExt;

use super::subject::Subject;
use crate::config::{Ablation, Circuits};
use crate::device::{Buffer, Device, View, within};
use crate::error::Result;
use crate::federation::{Orders, Stage, slots_that_fit, upload};
use crate::kernels::pick::pick;
use crate::kernels::shape::Batch;
use crate::model::{Depth, Fill, Network, PreActivations, Rows, Wants, Weights, Workspace};
use crate::rng::{Purpose, stream};

/// Images of a batch over which means are taken.
const BATCH: usize = 256;

/// What closed channels give in the circuits of a subject's pairs.
#[derive(Debug)]
pub struct Fills {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Zero,
    /// `[pairs][G]`: means before the activation.
    Mean(Buffer),
    Resample(Vec<Donors>),
}

/// Where a pair's donors come from, and what they are drawn by.
#[derive(Clone, Debug)]
pub struct Donors {
    /// Training examples, at least one: each image's donor is any of them.
    pub examples: Vec<u32>,
    /// The root of the draws.
    pub seed: u64,
    /// One-based.
    pub round: u64,
    /// Sets the pair's draws apart from those of others in the round.
    pub who: u64,
}

/// A mask's passes over some batches, ready on the device.
#[derive(Debug)]
pub(super) enum Ready {
    Zero,
    Mean { means: Buffer, before: PreActivations },
    Resample { orders: Orders, space: Box<Workspace>, donors: PreActivations, before: PreActivations, open: Buffer },
}

/// The ablation by whose passes gates are learned. A closed gate feels nothing behind a ReLU that has 0 in front of it, but
/// without one it feels what its channel would give, which passes with zeros do not keep: zero is a mean like any other then.
pub(super) fn learned_by(network: &Network, ablation: Ablation) -> Ablation {
    match ablation {
        Ablation::Zero if !network.layout.gates.iter().all(|g| network.layers[g.layer].relu()) => Ablation::Mean,
        ablation => ablation,
    }
}

/// Words that one slot takes for it beyond its workspace, in all and in the largest buffer.
pub(super) fn words(stage: Stage<'_>, ablation: Ablation, stride: usize, steps: usize) -> (usize, usize) {
    let (before, largest) = stage.network.pre_activation_words(stride);
    match ablation {
        Ablation::Zero => (0, 0),
        Ablation::Mean => (before + stage.network.layout.gate_words, largest),
        Ablation::Resample => {
            let (space, widest) = stage.network.workspace_words(stride, Depth::Forward);
            (2 * before + space + steps * (stride + 1), largest.max(widest))
        }
    }
}

impl Fills {
    /// Zero, for any pairs.
    pub fn zero() -> Self {
        Self { kind: Kind::Zero }
    }

    /// Means of every channel before its activation, over examples and all pixels (the paper, "Mean-ablation option").
    /// Pair s uses row `pairs[s].0` of `weights`, and its means are over the training examples `pairs[s].1`, at least one.
    ///
    /// # Errors
    /// What the device says, and [`crate::Error::TooLarge`] when not even one pair's pass fits.
    pub fn means(stage: Stage<'_>, weights: Weights<'_>, pairs: &[(u32, &[u32])]) -> Result<Self> {
        Ok(Self { kind: Kind::Mean(means(stage, weights, pairs)?) })
    }

    /// What closed channels give for other images, drawn anew for each image: pair s draws from `pairs[s]`.
    pub fn resample(pairs: Vec<Donors>) -> Self {
        Self { kind: Kind::Resample(pairs) }
    }

    /// What the configuration asks for, for the subject's pairs.
    pub(super) fn new(subject: &Subject<'_>, circuits: &Circuits) -> Result<Self> {
        match circuits.ablation {
            Ablation::Zero => Ok(Self::zero()),
            Ablation::Mean => {
                let examples: Vec<_> = subject.pairs.iter().map(|pair| subject.member(pair).examples.get()).collect();
                let pairs: Vec<_> = subject.rows().into_iter().zip(examples.iter().map(AsRef::as_ref)).collect();
                Self::means(subject.stage, subject.weights, &pairs)
            }
            Ablation::Resample => {
                Ok(Self::resample(subject.pairs.iter().map(|pair| Donors::new(subject, circuits, pair)).collect()))
            }
        }
    }

    /// As [`Fills::ready`], for passes by which gates are learned.
    pub(super) fn ready_to_learn(
        &self,
        stage: Stage<'_>,
        pairs: &[usize],
        batches: &[Vec<Vec<u32>>],
        stride: usize,
    ) -> Result<Ready> {
        let (device, network, slots) = (stage.device, stage.network, pairs.len());
        match (&self.kind, learned_by(network, Ablation::Zero)) {
            (Kind::Zero, Ablation::Mean) => Ok(Ready::Mean {
                means: device.alloc("zeros for closed channels", slots * network.layout.gate_words)?,
                before: network.pre_activations(device, slots, stride)?,
            }),
            _ => self.ready(stage, pairs, batches, stride),
        }
    }

    /// For slots of which slot s belongs to pair `pairs[s]` and is shown batches as large as `batches[s]`.
    pub(super) fn ready(
        &self,
        stage: Stage<'_>,
        pairs: &[usize],
        batches: &[Vec<Vec<u32>>],
        stride: usize,
    ) -> Result<Ready> {
        let (device, network, slots) = (stage.device, stage.network, pairs.len());
        let width = network.layout.gate_words;
        match &self.kind {
            Kind::Zero => Ok(Ready::Zero),
            Kind::Mean(means) => {
                let means = chosen_rows(device, means, pairs, width)?;
                Ok(Ready::Mean { means, before: network.pre_activations(device, slots, stride)? })
            }
            Kind::Resample(pools) => {
                let donors: Vec<_> = pairs.iter().zip(batches).map(|(pair, list)| pools[*pair].draw(list)).collect();
                Ok(Ready::Resample {
                    orders: Orders::upload(device, &donors, stride)?,
                    space: Box::new(network.workspace(device, slots, stride, Depth::Forward)?),
                    donors: network.pre_activations(device, slots, stride)?,
                    before: network.pre_activations(device, slots, stride)?,
                    open: super::laboratory::all_open(device, slots * width)?,
                })
            }
        }
    }
}

impl Donors {
    fn new(subject: &Subject<'_>, circuits: &Circuits, pair: &super::pair::Pair) -> Self {
        Self {
            examples: subject.member(pair).examples.get().into_owned(),
            seed: subject.seed(circuits, pair),
            round: subject.round as u64,
            who: key(subject.draw_key(pair), subject.purpose),
        }
    }

    /// As many donors as each batch has images. Every call draws the same: all masks of a pair that one search finds, or that are
    /// made of what it finds, meet the same donors.
    fn draw(&self, batches: &[Vec<u32>]) -> Vec<Vec<u32>> {
        let mut rng = stream(self.seed, self.round, self.who, Purpose::Donors);
        let mut draw = || self.examples[rng.random_range(0..self.examples.len())];
        batches.iter().map(|batch| batch.iter().map(|_| draw()).collect()).collect()
    }
}

/// What a pair's donors are drawn by: a search that is done again meets others, or what it agrees in with the first would not
/// be the search's own doing.
fn key(pair: u64, purpose: Purpose) -> u64 {
    pair | (purpose as u64) << 56
}

impl Ready {
    /// From the images of batch `step` in `space` to the logits, under `gates`, `[slots][G]`.
    pub fn forward(
        &self,
        stage: Stage<'_>,
        space: &Workspace,
        (step, batch): (usize, Batch),
        from: Rows<'_>,
        gates: View<'_>,
    ) -> Result<()> {
        let (device, network) = (stage.device, stage.network);
        match self {
            Ready::Zero => network.forward(device, space, batch, from, Some(gates)),
            Ready::Mean { means, before } => {
                network.forward_ablated(device, space, before, batch, from, gates, Fill::Means(means.all()))
            }
            Ready::Resample { orders, space: other, donors, before, open } => {
                stage.train.gather(device, orders, step, batch, other)?;
                // With all gates open nothing is filled in.
                let nothing = Fill::Means(open.all());
                let same = Rows { counts: orders.counts.all(), ..from };
                network.forward_ablated(device, other, donors, batch, same, open.all(), nothing)?;
                network.forward_ablated(device, space, before, batch, from, gates, Fill::Donors(donors))
            }
        }
    }

    /// Closes those of `gates`, `[slots][G]`, on which neither logits nor gradients depend in this pass under them.
    pub fn reach(&self, stage: Stage<'_>, slots: usize, from: Rows<'_>, gates: View<'_>) -> Result<()> {
        match self {
            Ready::Zero => stage.network.reach(stage.device, slots, from, gates),
            // Closed channels have values too, which take as long.
            Ready::Mean { .. } | Ready::Resample { .. } => Ok(()),
        }
    }

    /// From the gradient of the logits to those of the gates; follows [`Ready::forward`].
    pub fn backward(
        &self,
        stage: Stage<'_>,
        space: &Workspace,
        batch: Batch,
        from: Rows<'_>,
        gates: View<'_>,
        grads: View<'_>,
    ) -> Result<()> {
        let (device, network) = (stage.device, stage.network);
        let (before, fill) = match self {
            Ready::Zero => return network.backward(device, space, batch, from, Wants::Gates { hard: gates, grads }),
            Ready::Mean { means, before } => (before, Fill::Means(means.all())),
            Ready::Resample { donors, before, .. } => (before, Fill::Donors(donors)),
        };
        network.backward_ablated(device, space, before, batch, from, gates, fill, grads)
    }
}

/// `[pairs][G]`: the means of pairs given as rows of `weights` with the examples they are shown.
fn means(stage: Stage<'_>, weights: Weights<'_>, pairs: &[(u32, &[u32])]) -> Result<Buffer> {
    let (device, width) = (stage.device, stage.network.layout.gate_words);
    // Pairs of a client in one model share their means.
    let mut models: BTreeMap<(u32, &[u32]), usize> = BTreeMap::new();
    let mut distinct = Vec::new();
    for pair in pairs {
        models.entry(*pair).or_insert_with(|| {
            distinct.push(*pair);
            distinct.len() - 1
        });
    }
    let longest = distinct.iter().map(|(_, examples)| examples.len()).max().unwrap_or(1);
    let stride = BATCH.min(longest).next_multiple_of(4);
    let (space, largest) = stage.network.workspace_words(stride, Depth::Forward);
    let (before, widest) = stage.network.pre_activation_words(stride);
    let total = space + before + longest + width;
    let fit = slots_that_fit(stage.budget, distinct.len(), total, largest.max(widest), "the means of one client")?;
    let all = device.alloc("means of the models", distinct.len() * width)?;
    for (i, some) in distinct.chunks(fit).enumerate() {
        let sums = means_of(stage, weights, some, stride)?;
        device.copy(sums.all(), all.view(i * fit * width, sums.words()))?;
    }
    let rows: Vec<usize> = pairs.iter().map(|pair| models[pair]).collect();
    chosen_rows(device, &all, &rows, width)
}

/// Rows of `means`, of `width` words each, in the order given.
fn chosen_rows(device: &dyn Device, means: &Buffer, rows: &[usize], width: usize) -> Result<Buffer> {
    let places: Vec<u32> = rows.iter().flat_map(|row| (row * width..(row + 1) * width).map(|p| p as u32)).collect();
    let chosen = device.alloc("chosen means", places.len())?;
    pick(device, means.all(), upload(device, "places of means", &places)?.all(), chosen.all())?;
    Ok(chosen)
}

/// `[models][G]`, of models given as rows of `weights` with the examples they are shown.
fn means_of(stage: Stage<'_>, weights: Weights<'_>, models: &[(u32, &[u32])], stride: usize) -> Result<Buffer> {
    let (device, network, slots) = (stage.device, stage.network, models.len());
    let batches: Vec<Vec<Vec<u32>>> =
        models.iter().map(|(_, e)| e.chunks(stride).map(<[u32]>::to_vec).collect()).collect();
    let orders = Orders::upload(device, &batches, stride)?;
    let rows = upload(device, "rows", &models.iter().map(|(row, _)| *row).collect::<Vec<_>>())?;
    let share = |pixels: usize| {
        let scale = |(_, examples): &(u32, &[u32])| (1.0 / (pixels * examples.len()) as f32).to_bits();
        upload(device, "shares of an image", &models.iter().map(scale).collect::<Vec<_>>())
    };
    let scales: Vec<Buffer> = network.pixels().into_iter().map(share).collect::<Result<_>>()?;
    let space = network.workspace(device, slots, stride, Depth::Forward)?;
    let before = network.pre_activations(device, slots, stride)?;
    let open = super::laboratory::all_open(device, slots * network.layout.gate_words)?;
    let sums = device.alloc("means", slots * network.layout.gate_words)?;
    let from = Rows { weights, rows: rows.all(), counts: orders.counts.all() };
    within(device, || {
        (0..orders.steps).try_for_each(|step| {
            let batch = orders.batch(step, slots);
            stage.train.gather(device, &orders, step, batch, &space)?;
            network.forward_ablated(device, &space, &before, batch, from, open.all(), Fill::Means(open.all()))?;
            network.sum_channels(device, &before, batch, &scales, sums.all())
        })
    })?;
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_that_is_done_again_draws_donors_of_its_own() {
        let batches = [vec![0; 7], vec![0; 5]];
        let draw = |pair, purpose| {
            Donors { examples: (0..1000).collect(), seed: 1, round: 2, who: key(pair, purpose) }.draw(&batches)
        };
        let first = draw(3, Purpose::Discovery);
        assert_eq!(first.iter().map(Vec::len).collect::<Vec<_>>(), [7, 5]);
        assert_eq!(first, draw(3, Purpose::Discovery));
        for others in [draw(3, Purpose::Controls), draw(3, Purpose::Untrained), draw(4, Purpose::Discovery)] {
            assert!(first.concat().iter().zip(others.concat()).filter(|(a, b)| **a == *b).count() < 4);
        }
    }
}
