//! Local training: every client of a wave, step by step, in the same dispatches. Nothing is read back.

use rand::seq::SliceRandom;

use super::cohort::steps;
use super::examples::{Orders, Taker, upload};
use super::recipe::{Ramps, Recipe, Recipes};
use super::{LocalModels, Member, Pulse, Stage, wave_that_fits};
use crate::config::{Optimizer, Training};
use crate::device::{Buffer, Device, View, within};
use crate::error::Result;
use crate::kernels::adam::{self, Adam, adam};
use crate::kernels::broadcast::broadcast;
use crate::kernels::cross_entropy::{self, cross_entropy};
use crate::kernels::loss_summary::loss_summary;
use crate::kernels::magnitude_threshold::magnitude_threshold;
use crate::kernels::nonzeros::nonzeros;
use crate::kernels::prune::prune;
use crate::kernels::sgd::{self, Sgd, sgd};
use crate::kernels::shape::{self, Rounding};
use crate::model::{Density, Depth, Layout, Network, Op, Rows, Survivors, Wants, Weights, Workspace};
use crate::rng::{Purpose, stream};

/// Words of a client's summary on the device.
pub(super) const SUMMARY_WORDS: usize = 4;

/// The training that every client does in a round.
#[derive(Debug)]
pub struct LocalTraining {
    pub(super) training: Training,
    recipes: Recipes,
    stride: usize,
    tensors: Vec<usize>,
    tensor_table: Buffer,
    filter_table: Buffer,
    /// Slots that a wave has at least: with it, rounds of more and of fewer clients take the same memory.
    room: usize,
    wave: Option<WaveBuffers>,
}

/// Everything a wave of clients owns; kept from round to round while its size does not change.
#[derive(Debug)]
struct WaveBuffers {
    slots: usize,
    weights: Buffer,
    grads: Buffer,
    /// First and second, of which an optimiser that keeps none has a few words to bind.
    moments: [Buffer; 2],
    thresholds: Buffer,
    rows: Buffer,
    summary: Buffer,
    alive: Buffer,
    survivors: Option<Survivors>,
    space: Workspace,
}

/// What a client reports of its training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalSummary {
    /// Mean loss over the last local epoch's images, each at its own step.
    pub loss: f64,
    /// Share of those images that were classified correctly.
    pub accuracy: f64,
    /// One-based first step whose loss was not finite.
    pub diverged: Option<usize>,
}

impl LocalSummary {
    /// From the words of the `loss_summary` kernel.
    pub(super) fn from_words(words: &[u32]) -> Self {
        Self {
            loss: f64::from(f32::from_bits(words[0])),
            accuracy: f64::from(words[1]) / f64::from(words[2].max(1)),
            diverged: (words[3] != u32::MAX).then(|| words[3] as usize + 1),
        }
    }
}

impl LocalTraining {
    /// Prepares training for clients of at most `largest` examples, who train as the recipe of their replicate says and
    /// as `training` does but for its learning rate.
    ///
    /// # Errors
    /// What the device says.
    ///
    /// # Panics
    /// Without any recipe.
    pub fn new(
        device: &dyn Device,
        network: &Network,
        training: &Training,
        recipes: Vec<Recipe>,
        largest: usize,
    ) -> Result<Self> {
        let recipes = Recipes::new(recipes);
        let (table, filters) = pruning_tables(network, recipes.min_alive());
        Ok(Self {
            training: training.clone(),
            recipes,
            // The padded batch depends on the whole population, never on a wave.
            stride: training.batch_size.min(largest).next_multiple_of(4),
            tensors: network.layout.prunable().map(|t| t.words()).collect(),
            tensor_table: upload(device, "table of tensors", &table)?,
            filter_table: upload(device, "table of filters", &filters)?,
            room: 0,
            wave: None,
        })
    }

    /// Optimiser steps of a client with `examples` examples that makes all local epochs of a round.
    pub fn steps(&self, examples: usize) -> usize {
        steps(examples, self.training.batch_size, self.training.local_epochs)
    }

    /// Words of the reports of `clients` clients: their summaries, and their numbers of nonzero weights.
    pub fn report_words(&self, clients: usize) -> (usize, usize) {
        (clients * SUMMARY_WORDS, clients * self.tensors.len())
    }

    /// Clients that fit the device at once, of at most `most`, the longest of whom takes `steps` steps.
    ///
    /// # Errors
    /// [`crate::Error::TooLarge`] when not even one does.
    pub fn wave_size(&self, stage: Stage<'_>, most: usize, steps: usize) -> Result<usize> {
        let (total, largest) = self.client_words(stage, steps);
        let what = format!("one client of batch size {}", self.training.batch_size);
        wave_that_fits(stage.budget, most, total, largest, &what)
    }

    /// Words that one client of `steps` steps takes in a wave: in all, and in its largest buffer.
    pub fn client_words(&self, stage: Stage<'_>, steps: usize) -> (usize, usize) {
        let (network, tensors) = (stage.network, self.tensors.len());
        let (space, largest) = network.workspace_words(self.stride, Depth::Weights);
        let (words, order) = (network.layout.words, steps * self.stride);
        let lists = Survivors::room(stage.device, network, &self.density(network));
        let rows = 2 + self.moments();
        // Beside the order of its examples: their numbers, losses and right answers, a step's size, and what to keep of
        // every tensor.
        let steps = steps * (1 + 2 + 1 + tensors) + tensors;
        let reports = SUMMARY_WORDS + 2 * tensors + 1;
        let total = space + rows * words + order + steps + reports + lists[0] + lists[1];
        (total, [largest, words, order, steps, lists[0], lists[1]].into_iter().max().unwrap_or(0))
    }

    /// Numbers that the optimiser keeps of every weight.
    fn moments(&self) -> usize {
        match self.training.optimizer {
            Optimizer::Adam => 2,
            Optimizer::Sgd { momentum, .. } => usize::from(momentum > 0.0),
        }
    }

    /// How the sums of a step may round.
    fn rounding(&self) -> Rounding {
        match self.training.optimizer {
            Optimizer::Adam => Rounding::Componentwise,
            Optimizer::Sgd { .. } => Rounding::Normwise,
        }
    }

    /// Trains each member of `wave` from its replicate's row of `global`, `[R][P]`, and leaves its models on the device.
    /// The wave's summaries, `[wave][4]`, and numbers of nonzero weights, `[wave][tensors]`, go to the given views.
    ///
    /// Steps run over the survivors once the weights of all clients of the wave's replicates are sparse enough, whether
    /// in the wave or not, so that a client's bits do not depend on its wave.
    ///
    /// # Errors
    /// What the device says, and [`crate::Error::Interrupted`].
    pub fn train<'a>(
        &'a mut self,
        stage: Stage<'_>,
        global: &Buffer,
        wave: &'a [Member<'a>],
        summary: View<'_>,
        alive: View<'_>,
        pulse: &mut Pulse<'_>,
    ) -> Result<LocalModels<'a>> {
        let device = stage.device;
        let slots = wave.len();
        self.reserve(stage, slots)?;
        let this = &*self;
        let Some(buffers) = &this.wave else { unreachable!("reserved above") };
        let longest = wave.iter().map(|m| m.steps).max().unwrap_or(0);
        let orders = Orders::made(device, [slots, longest], this.stride, |slot, take| {
            this.batches(&wave[slot], pulse.round, take)
        })?;
        let keeps = upload(device, "survivors to keep", &this.recipes.keeps(wave, orders.steps, &this.tensors))?;
        let sizes = this.recipes.step_sizes(wave, this.training.optimizer, orders.steps);
        let sizes = upload(device, "sizes of the steps", &sizes)?;
        let stats = device.alloc("losses of the steps", 2 * orders.steps * slots)?;
        let weights = buffers.weights.view(0, slots * stage.network.layout.words);
        let which: Vec<u32> = wave.iter().map(|m| m.replicate as u32).collect();
        let which = upload(device, "replicates of the wave", &which)?;
        broadcast(device, stage.network.layout.words, global.all(), which.all(), weights)?;
        let ramps = this.recipes.ramps(wave);
        buffers.moments.iter().try_for_each(|moments| device.clear(moments.all()))?;
        for step in 0..orders.steps {
            let active = wave.partition_point(|m| m.steps > step);
            let sparse = buffers.survivors.as_ref().filter(|s| this.sparse_at(stage, s, &ramps, step));
            within(device, || {
                let weights = match sparse {
                    Some(survivors) => survivors.list(device, stage.network, active, buffers.weights.all(), false)?,
                    None => buffers.weights.all().into(),
                };
                this.step(stage, buffers, weights, (&orders, &sizes), stats.all(), (step, active))?;
                this.prune(stage, buffers, &keeps, step * slots, active)
            })?;
            pulse.beat(active)?;
        }
        this.prune(stage, buffers, &keeps, orders.steps * slots, slots)?;
        this.summarise(stage, buffers, wave, &orders, &stats)?;
        device.copy(buffers.summary.view(0, summary.words), summary)?;
        device.copy(buffers.alive.view(0, alive.words), alive)?;
        let weights = match &buffers.survivors {
            Some(survivors) => survivors.list(device, stage.network, slots, weights, true)?,
            None => weights.into(),
        };
        Ok(LocalModels { weights, members: wave })
    }

    /// Of the trained local models that have the most weights left.
    pub fn density(&self, network: &Network) -> Density {
        self.recipes.trained(network)
    }

    /// Waves have room for `slots` clients from now on, whether there are so many or not.
    pub fn keep_room(&mut self, slots: usize) {
        self.room = slots;
    }

    /// Whether all clients' weights are sparse enough in `step` for a pass over their survivors: those of the client that
    /// has the most left are, as the prune after the step before left them.
    fn sparse_at(&self, stage: Stage<'_>, survivors: &Survivors, ramps: &Ramps<'_>, step: usize) -> bool {
        let density = ramps.before(stage.network, step);
        density.is_some_and(|density| survivors.pay(stage.device, stage.network, &density))
    }

    fn step(
        &self,
        stage: Stage<'_>,
        buffers: &WaveBuffers,
        weights: Weights<'_>,
        (orders, sizes): (&Orders, &Buffer),
        stats: View<'_>,
        (step, active): (usize, usize),
    ) -> Result<()> {
        let (device, network, space) = (stage.device, stage.network, &buffers.space);
        let batch = orders.batch(step, active);
        let weights = Weights { rounding: self.rounding(), ..weights };
        let from = Rows { weights, rows: buffers.rows.all(), counts: orders.counts.all() };
        stage.train.gather(device, orders, step, batch, space)?;
        network.forward(device, space, batch, from, None)?;
        let loss = cross_entropy::Buffers {
            logits: space.logits(),
            targets: space.targets.all(),
            counts: from.counts,
            grad: space.logits_grad(),
            stats,
        };
        cross_entropy(device, batch, network.classes, 2 * step * orders.slots, &loss)?;
        network.backward(device, space, batch, from, Wants::Weights(buffers.grads.all()))?;
        let rows = shape::Rows { slots: active, words: network.layout.words };
        let (grads, weights, sizes) = (buffers.grads.all(), buffers.weights.all(), sizes.all());
        let [first, second] = [0, 1].map(|i| buffers.moments[i].all());
        match self.training.optimizer {
            Optimizer::Adam => {
                let b = adam::Buffers { step_sizes: sizes, grads, weights, first, second };
                adam(device, Adam::default(), step as u32 + 1, rows, step * orders.slots, &b)
            }
            Optimizer::Sgd { momentum, weight_decay } => {
                let b = sgd::Buffers { rates: sizes, grads, weights, velocity: first };
                sgd(device, Sgd { momentum, weight_decay }, step as u32 + 1, rows, &b)
            }
        }
    }

    /// Prunes the first `active` clients' weights to the numbers of survivors in row `at` of `keeps`.
    fn prune(&self, stage: Stage<'_>, buffers: &WaveBuffers, keeps: &Buffer, at: usize, active: usize) -> Result<()> {
        if !self.recipes.prune() {
            return Ok(());
        }
        let (device, words, tensors) = (stage.device, stage.network.layout.words, self.tensors.len());
        let weights = buffers.weights.view(0, active * words);
        let rows = shape::Rows { slots: active, words };
        let (table, thresholds) = (self.tensor_table.all(), buffers.thresholds.all());
        magnitude_threshold(device, rows, weights, table, keeps.all(), at * tensors, thresholds)?;
        prune(device, rows, tensors, self.filter_table.all(), thresholds, weights)
    }

    fn summarise(
        &self,
        stage: Stage<'_>,
        buffers: &WaveBuffers,
        wave: &[Member<'_>],
        orders: &Orders,
        stats: &Buffer,
    ) -> Result<()> {
        let device = stage.device;
        let all: Vec<u32> = wave.iter().map(|m| m.steps as u32).collect();
        let epoch = |m: &Member<'_>| steps(m.examples.len(), self.training.batch_size, 1);
        let last: Vec<u32> = wave.iter().map(|m| (m.steps - epoch(m)) as u32).collect();
        let (steps, last) = (upload(device, "steps", &all)?, upload(device, "last epochs", &last)?);
        let (counts, out) = (orders.counts.all(), buffers.summary.all());
        loss_summary(device, wave.len(), stats.all(), counts, steps.all(), last.all(), out)?;
        let weights = buffers.weights.view(0, wave.len() * stage.network.layout.words);
        let rows = shape::Rows { slots: wave.len(), words: stage.network.layout.words };
        nonzeros(device, rows, self.tensor_table.all(), weights, buffers.alive.all())
    }

    /// A member's batches: every epoch its examples in a new order, a last partial batch kept.
    fn batches(&self, member: &Member<'_>, round: usize, take: Taker<'_>) -> Result<()> {
        let mut rng = stream(member.seed, round as u64, member.client as u64, Purpose::Shuffle);
        let mut order = member.examples.get().into_owned();
        let epoch = steps(order.len(), self.training.batch_size, 1);
        for _ in (0..member.steps).step_by(epoch.max(1)) {
            order.shuffle(&mut rng);
            order.chunks(self.training.batch_size).try_for_each(&mut *take)?;
        }
        Ok(())
    }

    /// Gives a wave's memory back.
    pub(super) fn release(&mut self) {
        self.wave = None;
    }

    fn reserve(&mut self, stage: Stage<'_>, slots: usize) -> Result<()> {
        if self.wave.as_ref().is_some_and(|w| w.slots >= slots) {
            return Ok(());
        }
        self.wave = None;
        let slots = slots.max(self.room);
        let (device, network) = (stage.device, stage.network);
        let words = slots * network.layout.words;
        let identity: Vec<u32> = (0..slots as u32).collect();
        let moment = |label, i| device.alloc(label, if i < self.moments() { words } else { 4 });
        self.wave = Some(WaveBuffers {
            slots,
            weights: device.alloc("local weights", words)?,
            grads: device.alloc("gradients", words)?,
            moments: [moment("first moments", 0)?, moment("second moments", 1)?],
            thresholds: device.alloc("thresholds", slots * self.tensors.len())?,
            rows: upload(device, "rows", &identity)?,
            summary: device.alloc("summaries", slots * SUMMARY_WORDS)?,
            alive: device.alloc("nonzero weights", slots * self.tensors.len())?,
            survivors: Survivors::new(device, network, &self.density(network), slots, true)?,
            space: network.workspace(device, slots, self.stride, Depth::Weights)?,
        });
        Ok(())
    }
}

/// The tables of the pruning kernels: `[tensors][4]` (at, words, 0, 0) and `[filters][4]` (at, words, tensor, floor).
/// A filter is an output channel's weights; only those of convolutions have a floor.
fn pruning_tables(network: &Network, min_alive: usize) -> (Vec<u32>, Vec<u32>) {
    let Layout { tensors, .. } = &network.layout;
    let (mut table, mut filters) = (Vec::new(), Vec::new());
    for (number, tensor) in tensors.iter().filter(|t| !t.is_bias()).enumerate() {
        table.extend([tensor.at as u32, tensor.words() as u32, 0, 0]);
        let size = tensor.words() / tensor.shape[0];
        let floor = match network.layers[tensor.layer].op {
            Op::Conv(_) => min_alive.min(size),
            Op::Linear(_) => 0,
        };
        for filter in 0..tensor.shape[0] {
            filters.extend([(tensor.at + filter * size) as u32, size as u32, number as u32, floor as u32]);
        }
    }
    (table, filters)
}

#[cfg(test)]
pub(crate) mod tests;
