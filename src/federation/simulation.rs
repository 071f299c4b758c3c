//! The round: waves of local training, the running aggregates, the new global models, their evaluation, one read-back.
//! Several federations may run side by side, as replicates that share the waves and nothing else.

use std::ops::Range;
use std::time::Instant;

use super::evaluation::Evaluation;
use super::local::SUMMARY_WORDS;
use super::results::{Judge, Round, Seconds, held};
use super::strategy::FedAvg;
use super::{Budget, Cohort, Examples, LocalTraining, Member, Observer, Pulse, Recipe, RoundPlan, Stage, Waves};
use crate::config::{self, Experiment, Strategy};
use crate::data::{Dataset, Population};
use crate::device::{Buffer, Device, View};
use crate::error::{Error, Result};
use crate::model::{Density, Network, Survivors};

/// Federations side by side on a device: one for each seed of each experiment.
pub struct Simulation<'d> {
    device: &'d dyn Device,
    network: Network,
    replicates: Vec<Replicate>,
    cohort: config::Cohort,
    judge: Judge,
    train: Examples,
    test: Examples,
    budget: Budget,
    local: LocalTraining,
    strategy: FedAvg,
    global: Buffer,
    evaluation: Evaluation,
    wave_size: usize,
    notes: Vec<String>,
}

/// One federation, as it begins.
#[derive(Clone, Debug)]
pub struct Replicate {
    /// Which of the experiments side by side it belongs to; those of one follow each other.
    pub experiment: usize,
    /// How an error says which it is, such as `with seed 5, `; empty where there is no other.
    pub named: String,
    /// The root of every draw in it.
    pub seed: u64,
    /// Each client's training examples.
    pub clients: Population,
    /// How they train.
    pub recipe: Recipe,
}

/// The replicates of each experiment, in their order.
pub(crate) fn parts(experiments: impl Iterator<Item = usize>) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    for (i, experiment) in experiments.enumerate() {
        match parts.get_mut(experiment) {
            Some(part) => part.end = i + 1,
            None => parts.push(i..i + 1),
        }
    }
    parts
}

impl<'d> Simulation<'d> {
    /// Federations that start from `weights(seed)`, `[P]` each. They are asked for one at a time, once all are known to
    /// fit the device. Where there are several experiments, `experiment` is one of them, and what a [`Replicate`] has is
    /// all that the others may have otherwise.
    ///
    /// # Errors
    /// What the device says, and [`crate::Error::TooLarge`] when one client, or all global models, do not fit it.
    pub fn new(
        device: &'d dyn Device,
        experiment: &Experiment,
        network: Network,
        dataset: &Dataset,
        replicates: Vec<Replicate>,
        weights: &dyn Fn(u64) -> Vec<f32>,
    ) -> Result<Self> {
        let largest = replicates.iter().map(|r| r.clients.largest()).max().unwrap_or(0);
        let cohort = &experiment.cohort;
        let sizes = replicates.iter().map(|r| cohort.size(r.clients.len()));
        let (clients, most) = (sizes.clone().sum(), sizes.max().unwrap_or(0));
        let count = replicates.len();
        let memory = experiment.device.memory.map(|m| m.0);
        let budget = Budget::new(device.info(), memory, experiment.device.max_wave);
        let budget = budget.beside_models(count, network.layout.words, FedAvg::sums(most))?;
        let recipes = replicates.iter().map(|r| r.recipe.clone()).collect();
        let local = LocalTraining::new(device, &network, &experiment.training, recipes, largest)?;
        let Strategy::FedAvg { weighting } = experiment.strategy;
        let train = Examples::upload(device, dataset, &dataset.train)?;
        let test = Examples::upload(device, dataset, &dataset.test)?;
        let stage = Stage { device, network: &network, train: &train, test: &test, budget, replicates: count };
        let wave_size = local.wave_size(stage, clients, local.steps(largest))?;
        let global = device.alloc("global weights", count * network.layout.words)?;
        for (i, replicate) in replicates.iter().enumerate() {
            let row = global.view(i * network.layout.words, network.layout.words);
            device.write(row, bytemuck::cast_slice(&weights(replicate.seed)))?;
        }
        let tensors = network.layout.prunable().map(|t| (network.layers[t.layer].name.clone(), t.words())).collect();
        Ok(Self {
            device,
            strategy: FedAvg::new(device, weighting, most, (count, network.layout.words))?,
            evaluation: Evaluation::new(device, &network, dataset.test.len(), count, budget)?,
            network,
            judge: Judge { held: held(&replicates, dataset), tensors },
            replicates,
            cohort: cohort.clone(),
            train,
            test,
            budget,
            local,
            global,
            wave_size,
            notes: Vec::new(),
        })
    }

    /// What observers are given.
    pub fn stage(&self) -> Stage<'_> {
        let Self { device, network, train, test, budget, replicates, .. } = self;
        Stage { device: *device, network, train, test, budget: *budget, replicates: replicates.len() }
    }

    /// What a round takes when nobody drops out of it: the first one's waves, and bytes.
    pub fn plan(&self) -> RoundPlan {
        let all = config::Cohort { dropout_rate: 0.0, ..self.cohort.clone() };
        let cohort = Cohort::draw(&self.replicates, &all, &self.local.training, 1);
        let waves = self.waves(&cohort);
        let (stage, network) = (self.stage(), &self.network);
        let largest = self.replicates.iter().map(|r| r.clients.largest()).max().unwrap_or(0);
        let (words, _) = self.local.client_words(stage, self.local.steps(largest));
        let lists =
            Survivors::room(self.device, network, &self.density()).iter().sum::<usize>() * self.replicates.len();
        RoundPlan {
            clients: waves.members.len(),
            waves: waves.iter().count(),
            wave_size: waves.iter().map(|(_, wave)| wave.len()).max().unwrap_or(0),
            client_bytes: 4 * words as u64,
            budget: self.budget.bytes,
            images: self.train.bytes() + self.test.bytes(),
            models: self.global.bytes() + self.strategy.bytes() + 4 * lists as u64,
            evaluation: self.evaluation.bytes(network),
            kept: 0,
        }
    }

    /// Of new global models: a mean is zero where all local models are. It is that of as many as are drawn, of whom some
    /// may drop out, and so the same in every round.
    fn density(&self) -> Density {
        let sizes = self.replicates.iter().map(|r| self.cohort.size(r.clients.len()));
        self.local.density(&self.network).of_mean(sizes.max().unwrap_or(0))
    }

    /// Clients of a wave.
    pub fn wave_size(&self) -> usize {
        self.wave_size
    }

    /// The global weights, `[R][P]`, on the device.
    pub fn global(&self) -> &Buffer {
        &self.global
    }

    /// The federations, as they began.
    pub fn replicates(&self) -> &[Replicate] {
        &self.replicates
    }

    /// The clients of one-based `round`, in all replicates.
    pub fn cohort(&self, round: usize) -> Cohort<'_> {
        Cohort::draw(&self.replicates, &self.cohort, &self.local.training, round)
    }

    /// A round's clients in the waves in which they are computed.
    pub fn waves<'a>(&self, cohort: &'a Cohort<'_>) -> Waves<'a> {
        cohort.waves(self.wave_size, apart(self.device))
    }

    /// What the user should know of the rounds so far and has not been told.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Runs one round. Where a wave finds less memory than planned, the round begins again, once, in waves of half the size:
    /// that changes no bit.
    ///
    /// # Errors
    /// What the device says, [`crate::Error::Diverged`] and [`crate::Error::Interrupted`]. The global models are then not to be used.
    pub fn run_round(&mut self, observers: &mut [&mut dyn Observer], pulse: &mut Pulse<'_>) -> Result<Round> {
        let start = Instant::now();
        let before = self.device.traffic().readbacks;
        let density = self.density();
        let Self {
            device, network, replicates, train, test, budget, local, strategy, global, evaluation, judge, ..
        } = self;
        let (device, models) = (*device, replicates.len());
        let stage = Stage { device, network, train, test, budget: *budget, replicates: models };
        let cohort = Cohort::draw(replicates, &self.cohort, &local.training, pulse.round);
        local.keep_room(self.wave_size);
        let mut waves = cohort.waves(self.wave_size, apart(device));
        let reports = Reports::new(device, waves.members.len(), judge.tensors.len())?;
        let mut trained = train_waves(stage, (local, strategy, global), &waves, &reports, observers, pulse);
        if let (Err(Error::TooLarge { what, .. }), Some(half)) = (&trained, waves.half()) {
            let round = pulse.round;
            self.notes.push(format!("round {round}: no memory for {what}; goes on in waves of {half} clients"));
            local.release();
            local.keep_room(half);
            self.wave_size = half;
            waves = cohort.waves(half, apart(device));
            trained = train_waves(stage, (local, strategy, global), &waves, &reports, observers, pulse);
        }
        let mut seconds = trained?;
        train_beside(stage, observers, pulse, &mut seconds)?;
        strategy.finish(device, global)?;
        judge_global(stage, (global, &density), &waves.members, evaluation, observers, pulse, &mut seconds)?;

        let words_of = |part: &Range<usize>| {
            let observed = observers.iter().map(|observer| observer.words_of(part)).sum::<usize>();
            reports.words_of(part, &waves.members) + Evaluation::words(network, part.len()) + observed
        };
        let read = parts(replicates.iter().map(|r| r.experiment)).iter().map(words_of).collect::<Vec<_>>();
        let own = reports.views().into_iter().chain(evaluation.results()).collect();
        let own = read_back(device, own, observers)?;
        let replicates = judge.round(replicates, (&waves.members, &cohort.dropped), &own, pulse.round)?;
        seconds.total = start.elapsed().as_secs_f64();
        Ok(Round {
            round: pulse.round,
            seconds,
            replicates,
            readbacks: device.traffic().readbacks - before,
            bytes_read_back: read.into_iter().map(|words| 4 * words as u64).collect(),
        })
    }
}

/// What local training reports, by member in the order of the waves.
struct Reports {
    /// `[members][4]`.
    summaries: Buffer,
    /// `[members][tensors]`: nonzero weights.
    alive: Buffer,
    tensors: usize,
}

impl Reports {
    fn new(device: &dyn Device, members: usize, tensors: usize) -> Result<Self> {
        let summaries = device.alloc("summaries of the round", members * SUMMARY_WORDS)?;
        Ok(Self { summaries, alive: device.alloc("nonzero weights of the round", members * tensors)?, tensors })
    }

    /// Those of a wave.
    fn of(&self, offset: usize, members: usize) -> (View<'_>, View<'_>) {
        let summaries = self.summaries.view(offset * SUMMARY_WORDS, members * SUMMARY_WORDS);
        (summaries, self.alive.view(offset * self.tensors, members * self.tensors))
    }

    /// Words of them that are of `replicates`; an empty buffer has one.
    fn words_of(&self, replicates: &Range<usize>, members: &[Member<'_>]) -> usize {
        let members = members.iter().filter(|member| replicates.contains(&member.replicate)).count();
        (members * SUMMARY_WORDS).max(1) + (members * self.tensors).max(1)
    }

    fn views(&self) -> [View<'_>; 2] {
        [self.summaries.all(), self.alive.all()]
    }
}

/// What observers train that takes no part in the federation.
fn train_beside(
    stage: Stage<'_>,
    observers: &mut [&mut dyn Observer],
    pulse: &mut Pulse<'_>,
    seconds: &mut Seconds,
) -> Result<()> {
    for observer in observers.iter_mut() {
        let clock = Instant::now();
        if observer.train_beside(stage, pulse)? {
            stage.device.wait()?;
            seconds.beside = clock.elapsed().as_secs_f64();
        }
    }
    Ok(())
}

/// Shows the new global models, `[R][P]` of at most `density`, to the observers, and runs them over the test examples.
fn judge_global(
    stage: Stage<'_>,
    (global, density): (&Buffer, &Density),
    members: &[Member<'_>],
    evaluation: &Evaluation,
    observers: &mut [&mut dyn Observer],
    pulse: &mut Pulse<'_>,
    seconds: &mut Seconds,
) -> Result<()> {
    let (device, network, models) = (stage.device, stage.network, stage.replicates);
    let survivors = Survivors::new(device, network, density, models, true)?;
    let weights = match &survivors {
        Some(survivors) => survivors.list(device, network, models, global.all(), true)?,
        None => global.all().into(),
    };
    let clock = Instant::now();
    for observer in observers.iter_mut() {
        observer.after_aggregate(stage, weights, members, pulse)?;
    }
    device.wait()?;
    seconds.circuits += clock.elapsed().as_secs_f64();
    let clock = Instant::now();
    evaluation.run(stage, weights)?;
    device.wait()?;
    seconds.evaluate = clock.elapsed().as_secs_f64();
    Ok(())
}

/// Local training, wave after wave, into the running aggregates. Gives the time that it took, and the observers.
fn train_waves(
    stage: Stage<'_>,
    (local, strategy, global): (&mut LocalTraining, &mut FedAvg, &Buffer),
    waves: &Waves<'_>,
    reports: &Reports,
    observers: &mut [&mut dyn Observer],
    pulse: &mut Pulse<'_>,
) -> Result<Seconds> {
    let (device, mut seconds) = (stage.device, Seconds::default());
    for observer in observers.iter_mut() {
        observer.before_round(stage, &waves.members, pulse.round)?;
    }
    strategy.begin(device, &waves.members)?;
    for (offset, wave) in waves.iter() {
        let clock = Instant::now();
        let (summary, alive) = reports.of(offset, wave.len());
        let models = local.train(stage, global, wave, summary, alive, pulse)?;
        strategy.add(device, models.weights.values, wave)?;
        device.wait()?;
        seconds.train += clock.elapsed().as_secs_f64();
        let clock = Instant::now();
        for observer in observers.iter_mut() {
            observer.after_local(stage, models, offset, pulse)?;
        }
        device.wait()?;
        seconds.circuits += clock.elapsed().as_secs_f64();
    }
    Ok(seconds)
}

/// The round's one read-back: gives observers what they asked for, and returns the words of `own`.
fn read_back(device: &dyn Device, own: Vec<View<'_>>, observers: &mut [&mut dyn Observer]) -> Result<Vec<Vec<u32>>> {
    let mut parts = vec![own.len()];
    let mut views = own;
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
    Ok(own)
}

/// Whether replicates whose clients train for different times stay in waves of their own: where a pass over survivors and a
/// dense one differ in rounding, a wave has to change from one to the other in a single step.
pub(crate) fn apart(device: &dyn Device) -> bool {
    device.info().kind == "cpu"
}
