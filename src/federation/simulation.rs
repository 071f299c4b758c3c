//! The round: waves of local training, the running aggregate, the new global model, its evaluation, one read-back.

use std::time::Instant;

use super::examples::Orders;
use super::local::SUMMARY_WORDS;
use super::strategy::FedAvg;
use super::{Budget, Examples, LocalSummary, LocalTraining, Member, Observer, Pulse, Stage, Waves};
use crate::config::{Experiment, Strategy};
use crate::data::Dataset;
use crate::device::{Buffer, Device, View};
use crate::error::{Error, Result};
use crate::kernels::confusion::{self, confusion};
use crate::model::{Depth, Network, Rows, Survivors, Weights, Workspace};

/// Images of an evaluation batch.
const EVALUATION_BATCH: usize = 256;

/// A federation on a device.
pub struct Simulation<'d> {
    device: &'d dyn Device,
    network: Network,
    clients: Vec<Vec<u32>>,
    held: Vec<bool>,
    train: Examples,
    test: Examples,
    budget: Budget,
    seed: u64,
    lr: f64,
    local: LocalTraining,
    strategy: FedAvg,
    global: Buffer,
    evaluation: Evaluation,
    tensors: Vec<(String, usize)>,
    wave_size: usize,
}

/// What a round gave.
#[derive(Clone, Debug)]
pub struct Round {
    /// One-based.
    pub round: usize,
    /// Where the time went.
    pub seconds: Seconds,
    /// The new global model on the test set.
    pub global: Global,
    /// Every client, by number.
    pub clients: Vec<Client>,
    /// Share of zero weights in each prunable layer of the clients' trained models, averaged over clients.
    pub sparsity: Vec<(String, f64)>,
    /// Read-backs of the round, and their bytes.
    pub readbacks: u64,
    /// Bytes read back.
    pub bytes_read_back: u64,
}

/// Wall-clock seconds of a round's phases.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seconds {
    /// Local training and averaging.
    pub train: f64,
    /// Observers: circuits.
    pub circuits: f64,
    /// Evaluation of the global model.
    pub evaluate: f64,
    /// All, the read-back included.
    pub total: f64,
}

/// The global model on the test set; accuracies are fractions.
#[derive(Clone, Debug)]
pub struct Global {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Over all test images.
    pub accuracy: f64,
    /// Over the test images of classes that some client holds.
    pub trained_accuracy: f64,
    /// By class; a class without test images has none.
    pub per_class_accuracy: Vec<Option<f64>>,
}

/// A client's part in a round.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Its number.
    pub client: usize,
    /// Its training examples.
    pub examples: usize,
    /// Its optimiser steps.
    pub steps: usize,
    /// How its training ended.
    pub summary: LocalSummary,
}

#[derive(Debug)]
struct Evaluation {
    space: Workspace,
    orders: Orders,
    row: Buffer,
    counters: Buffer,
    losses: Buffer,
}

impl Evaluation {
    fn new(device: &dyn Device, network: &Network, images: usize) -> Result<Self> {
        let all: Vec<u32> = (0..images as u32).collect();
        let batches = vec![all.chunks(EVALUATION_BATCH).map(<[u32]>::to_vec).collect()];
        let stride = EVALUATION_BATCH.min(images).next_multiple_of(4);
        Ok(Self {
            space: network.workspace(device, 1, stride, Depth::Forward)?,
            orders: Orders::upload(device, &batches, stride)?,
            row: device.alloc("row", 1)?,
            counters: device.alloc("confusion", network.classes * network.classes)?,
            losses: device.alloc("test loss", 1)?,
        })
    }

    fn run(&self, stage: Stage<'_>, weights: Weights<'_>) -> Result<()> {
        let (device, network, space) = (stage.device, stage.network, &self.space);
        device.clear(self.counters.all())?;
        device.clear(self.losses.all())?;
        for step in 0..self.orders.steps {
            let batch = self.orders.batch(step, 1);
            let from = Rows { weights, rows: self.row.all(), counts: self.orders.counts.all() };
            stage.test.gather(device, &self.orders, step, batch, space)?;
            network.forward(device, space, batch, from, None)?;
            let tally = confusion::Buffers {
                logits: space.logits(),
                targets: space.targets.all(),
                counts: from.counts,
                counters: self.counters.all(),
                losses: self.losses.all(),
            };
            confusion(device, batch, network.classes, &tally)?;
        }
        Ok(())
    }
}

impl<'d> Simulation<'d> {
    /// A federation of `clients` (lists of training examples) that starts from `weights`, `[P]`.
    ///
    /// # Errors
    /// What the device says, and [`Error::TooLarge`] when one client does not fit it.
    pub fn new(
        device: &'d dyn Device,
        experiment: &Experiment,
        network: Network,
        dataset: &Dataset,
        clients: Vec<Vec<u32>>,
        weights: &[f32],
    ) -> Result<Self> {
        let largest = clients.iter().map(Vec::len).max().unwrap_or(0);
        let memory = experiment.device.memory.map(|m| m.0);
        let budget = Budget::new(device.info(), memory, experiment.device.max_wave);
        let (training, sparsity) = (&experiment.training, &experiment.sparsity);
        let local = LocalTraining::new(device, &network, training, sparsity, largest)?;
        let Strategy::FedAvg { weighting } = experiment.strategy;
        let train = Examples::upload(device, dataset, &dataset.train)?;
        let test = Examples::upload(device, dataset, &dataset.test)?;
        let global = device.alloc("global weights", network.layout.words)?;
        device.write(global.all(), bytemuck::cast_slice(weights))?;
        let mut held = vec![false; dataset.classes];
        for example in clients.iter().flatten() {
            held[usize::from(dataset.train.labels[*example as usize])] = true;
        }
        let tensors = network.layout.prunable().map(|t| (network.layers[t.layer].name.clone(), t.words())).collect();
        let mut simulation = Self {
            device,
            strategy: FedAvg::new(device, weighting, network.layout.words)?,
            evaluation: Evaluation::new(device, &network, dataset.test.len())?,
            network,
            clients,
            held,
            train,
            test,
            budget,
            seed: experiment.seed,
            lr: training.lr,
            local,
            global,
            tensors,
            wave_size: 0,
        };
        let longest = simulation.local.steps(largest);
        let clients = simulation.clients.len();
        simulation.wave_size = simulation.local.wave_size(simulation.stage(), clients, longest)?;
        Ok(simulation)
    }

    /// What observers are given.
    pub fn stage(&self) -> Stage<'_> {
        let Self { device, network, train, test, budget, .. } = self;
        Stage { device: *device, network, train, test, budget: *budget }
    }

    /// Clients of a wave.
    pub fn wave_size(&self) -> usize {
        self.wave_size
    }

    /// The global weights, `[P]`, on the device.
    pub fn global(&self) -> &Buffer {
        &self.global
    }

    /// All clients, in the order of the waves.
    pub fn members(&self) -> Vec<Member<'_>> {
        waves(self.seed, &self.clients, &self.local, self.wave_size).members
    }

    /// Runs one round.
    ///
    /// # Errors
    /// What the device says, [`Error::Diverged`] and [`Error::Interrupted`]. The global model is then not to be used.
    pub fn run_round(&mut self, observers: &mut [&mut dyn Observer], pulse: &mut Pulse<'_>) -> Result<Round> {
        let start = Instant::now();
        let before = self.device.traffic();
        let mut seconds = Seconds::default();
        let Self { device, network, clients, train, test, budget, local, strategy, global, evaluation, .. } = self;
        let device = *device;
        let stage = Stage { device, network, train, test, budget: *budget };
        let waves = waves(self.seed, clients, local, self.wave_size);
        let count = waves.members.len();
        let summaries = device.alloc("summaries of the round", count * SUMMARY_WORDS)?;
        let alive = device.alloc("nonzero weights of the round", count * self.tensors.len())?;
        for observer in observers.iter_mut() {
            observer.before_round(stage, &waves.members, pulse.round)?;
        }
        strategy.begin(device)?;
        for (offset, wave) in waves.iter() {
            let clock = Instant::now();
            let summary = summaries.view(offset * SUMMARY_WORDS, wave.len() * SUMMARY_WORDS);
            let alive = alive.view(offset * self.tensors.len(), wave.len() * self.tensors.len());
            let longest = waves.members.first().map_or(0, |m| m.steps);
            let models = local.train(stage, global, wave, longest, summary, alive, pulse)?;
            strategy.add(device, models.weights.values, wave, &waves.members)?;
            device.wait()?;
            seconds.train += clock.elapsed().as_secs_f64();
            let clock = Instant::now();
            for observer in observers.iter_mut() {
                observer.after_local(stage, models, offset, pulse)?;
            }
            device.wait()?;
            seconds.circuits += clock.elapsed().as_secs_f64();
        }
        strategy.finish(device, global)?;
        let survivors = Survivors::new(device, network, &strategy.density(&local.density(network), count), 1, true)?;
        let weights = match &survivors {
            Some(survivors) => survivors.list(device, network, 1, global.all())?,
            None => global.all().into(),
        };
        let clock = Instant::now();
        for observer in observers.iter_mut() {
            observer.after_aggregate(stage, weights, &waves.members, pulse)?;
        }
        device.wait()?;
        seconds.circuits += clock.elapsed().as_secs_f64();
        let clock = Instant::now();
        evaluation.run(stage, weights)?;
        device.wait()?;
        seconds.evaluate = clock.elapsed().as_secs_f64();

        let mut views: Vec<View<'_>> =
            vec![summaries.all(), alive.all(), evaluation.counters.all(), evaluation.losses.all()];
        let mut parts = vec![views.len()];
        for observer in observers.iter() {
            let wanted = observer.results();
            parts.push(wanted.len());
            views.extend(wanted);
        }
        let mut words = pollster::block_on(device.read(&views))?.into_iter();
        let own: Vec<Vec<u32>> = words.by_ref().take(parts[0]).collect();
        let observed: Vec<Vec<Vec<u32>>> = parts[1..].iter().map(|n| words.by_ref().take(*n).collect()).collect();
        drop(views);
        for (observer, words) in observers.iter_mut().zip(observed) {
            observer.absorb(words)?;
        }
        let clients = summarise(&waves.members, &own[0], pulse.round, self.lr)?;
        let global = self.judge(pulse.round, &own[2], f32::from_bits(own[3][0]))?;
        let traffic = device.traffic();
        seconds.total = start.elapsed().as_secs_f64();
        Ok(Round {
            round: pulse.round,
            seconds,
            global,
            clients,
            sparsity: self.realised(&own[1], count),
            readbacks: traffic.readbacks - before.readbacks,
            bytes_read_back: traffic.bytes_read_back - before.bytes_read_back,
        })
    }

    /// Accuracies from the confusion counts, `[true class][predicted class]`.
    fn judge(&self, round: usize, counters: &[u32], loss_sum: f32) -> Result<Global> {
        if !loss_sum.is_finite() {
            return Err(Error::Diverged { round, place: "in the averaged model".into(), lr: self.lr });
        }
        let classes = self.network.classes;
        let rows: Vec<(u64, u64)> = (0..classes)
            .map(|c| {
                let row = &counters[c * classes..(c + 1) * classes];
                (u64::from(row[c]), row.iter().map(|n| u64::from(*n)).sum())
            })
            .collect();
        let share = |rows: &mut dyn Iterator<Item = &(u64, u64)>| {
            let (right, all) = rows.fold((0, 0), |(r, a), (right, all)| (r + right, a + all));
            right as f64 / all.max(1) as f64
        };
        let images: u64 = rows.iter().map(|(_, all)| all).sum();
        Ok(Global {
            loss: f64::from(loss_sum) / images.max(1) as f64,
            accuracy: share(&mut rows.iter()),
            trained_accuracy: share(&mut rows.iter().zip(&self.held).filter(|(_, held)| **held).map(|(row, _)| row)),
            per_class_accuracy: rows.iter().map(|(r, all)| (*all > 0).then(|| *r as f64 / *all as f64)).collect(),
        })
    }

    fn realised(&self, alive: &[u32], clients: usize) -> Vec<(String, f64)> {
        let count = self.tensors.len();
        let share = |(i, (name, words)): (usize, &(String, usize))| {
            let nonzero: u64 = alive.iter().skip(i).step_by(count).map(|n| u64::from(*n)).sum();
            (name.clone(), 1.0 - nonzero as f64 / (words * clients).max(1) as f64)
        };
        self.tensors.iter().enumerate().map(share).collect()
    }
}

/// Every client takes part.
fn waves<'a>(seed: u64, clients: &'a [Vec<u32>], local: &LocalTraining, size: usize) -> Waves<'a> {
    let members = clients.iter().enumerate();
    let members =
        members.map(|(client, e)| Member { replicate: 0, seed, client, examples: e, steps: local.steps(e.len()) });
    Waves::new(members.collect(), size)
}

/// The clients' summaries, by client number.
fn summarise(members: &[Member<'_>], words: &[u32], round: usize, lr: f64) -> Result<Vec<Client>> {
    let mut clients: Vec<Client> = members
        .iter()
        .zip(words.chunks_exact(SUMMARY_WORDS))
        .map(|(m, words)| Client {
            client: m.client,
            examples: m.examples.len(),
            steps: m.steps,
            summary: LocalSummary::from_words(words),
        })
        .collect();
    clients.sort_by_key(|c| c.client);
    let first = clients.iter().filter_map(|c| c.summary.diverged.map(|step| (step, c.client))).min();
    match first {
        None => Ok(clients),
        Some((step, client)) => Err(Error::Diverged { round, place: format!("at client {client}, step {step}"), lr }),
    }
}
