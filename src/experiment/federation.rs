//! One federation with its circuits, or one for each seed side by side: rounds in, records out.

use std::sync::atomic::AtomicBool;

use super::inputs::{layer_specs, partition};
use super::keeper::Keeper;
use super::records::record;
use super::state::Held;
use crate::circuits::analyses::{Analysed, Subject, analyse};
use crate::circuits::{Laboratory, Origin};
use crate::config::{Analysis, Experiment};
use crate::data::{Dataset, Population};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::federation::{Observer, Pulse, Replicate, ReplicateRound, Round, RoundPlan, Simulation, Stage};
use crate::model::{Input, Layout, Network, chain, initial_weights, load};
use crate::report::{CircuitRecord, ControlRecord, OverlapMean, OverlapRecord, RoundRecord};

/// A federation on a device, ready to run its rounds; or one for each of several seeds, which share the device's batches
/// and nothing else: each has the bits that it has alone.
///
/// ```no_run
/// # fn main() -> fedcircuit::Result<()> {
/// use fedcircuit::{config::presets, device::Cpu, experiment::{Federation, load_data}};
/// let plan = presets::get("quickstart")?.load(&[])?;
/// let experiment = &plan.variants[0].experiment;
/// let device = Cpu::new(None)?;
/// let (dataset, _) = load_data(&experiment.data, "data".as_ref())?;
/// let mut federation = Federation::new(&device, experiment, &dataset)?;
/// for outcome in federation.round()? {
///     println!("seed {}: {}", outcome.seed, outcome.record.global.accuracy);
/// }
/// # Ok(()) }
/// ```
pub struct Federation<'d> {
    pub(super) experiment: Experiment,
    pub(super) simulation: Simulation<'d>,
    pub(super) laboratory: Option<Laboratory>,
    keeper: Keeper,
    layout: Layout,
    pub(super) gated: Vec<(String, usize)>,
    pub(super) class_names: Vec<String>,
    notes: Vec<String>,
    /// Done.
    pub(super) round: usize,
    /// Whether the last round was not finished.
    pub(super) failed: bool,
    /// The state before the next round, where it is kept.
    pub(super) held: Option<Held>,
}

/// What a round gave one federation, as it goes into the run folder.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The federation's.
    pub seed: u64,
    /// Losses, accuracies, and times, which are those of all federations side by side.
    pub record: RoundRecord,
    /// The circuits found, by client and class, local before global.
    pub circuits: Vec<CircuitRecord>,
    /// What the searched controls found, by client and class.
    pub controls: Vec<ControlRecord>,
    /// How the circuits overlap.
    pub overlaps: Vec<OverlapRecord>,
    /// The means of each comparison, over all its pairs.
    pub overlap_means: Vec<OverlapMean>,
    /// The global weights, `[P]`, in rounds that are saved.
    pub weights: Option<Vec<f32>>,
    /// The clients' local weights, by client, in rounds that are saved and where they were asked for.
    pub client_weights: Vec<(usize, Vec<f32>)>,
}

impl<'d> Federation<'d> {
    /// Deals `dataset` to the clients and prepares everything on `device`.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for what the experiment asks and cannot have, [`crate::Error::TooLarge`] when a client
    /// does not fit the device, [`crate::Error::File`] for weights that do not match.
    pub fn new(device: &'d dyn Device, experiment: &Experiment, dataset: &Dataset) -> Result<Self> {
        let Dataset { channels, height, width, classes, .. } = *dataset;
        let input = Input { channels, height, width };
        let network = Network::new(chain(&layer_specs(&experiment.model), input, classes)?, input, classes);
        let given = experiment.model.init_path().map(|path| load(&path, &network.layout)).transpose()?;
        let mut replicates = Vec::new();
        for seed in experiment.seeds.all().iter().copied() {
            let clients =
                partition(&experiment.with_seed(seed), dataset).map_err(|e| with_seed(e, seed, experiment))?;
            replicates.push(Replicate { seed, clients });
        }
        let layout = network.layout.clone();
        let weights = |seed| given.clone().unwrap_or_else(|| initial_weights(&layout, seed));
        let laboratory = experiment.circuits.as_ref().map(|circuits| {
            let origins: Vec<Origin<'_>> =
                replicates.iter().map(|r| Origin { seed: r.seed, clients: &r.clients }).collect();
            Laboratory::new(device, &network, experiment, circuits, dataset, &origins, &weights)
        });
        let laboratory = laboratory.transpose()?;
        let gates = network.layout.gates.iter();
        let gated = gates.map(|g| (network.layers[g.layer].name.clone(), g.channels)).collect();
        let simulation = Simulation::new(device, experiment, network, dataset, replicates, &weights)?;
        if let Some(laboratory) = &laboratory {
            // Here rather than after the first round's training.
            laboratory.fitting(simulation.stage(), 1)?;
        }
        Ok(Self {
            experiment: experiment.clone(),
            laboratory,
            simulation,
            keeper: Keeper::default(),
            layout,
            gated,
            class_names: dataset.class_names.clone(),
            notes: Vec::new(),
            round: 0,
            failed: false,
            held: None,
        })
    }

    /// Layers with circuits, and their channels; the layers of all others are never gated.
    pub fn gated_layers(&self) -> &[(String, usize)] {
        &self.gated
    }

    /// Where each tensor lies in a row of weights.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// `[class]`, for one client after the other: training examples in the federation of the i-th seed, counted from 0.
    ///
    /// # Panics
    /// When there are not so many seeds.
    pub fn class_counts(&self, i: usize) -> impl Iterator<Item = Vec<u32>> {
        let Stage { network, train, .. } = self.simulation.stage();
        self.simulation.replicates()[i].clients.class_counts(&train.host_labels, network.classes)
    }

    /// The clients of each seed's federation.
    pub fn populations(&self) -> impl Iterator<Item = &Population> {
        self.simulation.replicates().iter().map(|replicate| &replicate.clients)
    }

    /// What a round will take: waves, and the device's memory.
    pub fn plan(&self) -> RoundPlan {
        self.simulation.plan()
    }

    /// Rounds done.
    pub fn rounds_done(&self) -> usize {
        self.round
    }

    /// Clients computed at once.
    pub fn wave_size(&self) -> usize {
        self.simulation.wave_size()
    }

    /// What the user should know and has not been told yet: of rounds without clients, and of circuits that cannot be
    /// found or mean nothing.
    pub fn take_notes(&mut self) -> Vec<String> {
        let mut notes = std::mem::take(&mut self.notes);
        notes.append(&mut self.simulation.take_notes());
        notes.extend(self.laboratory.iter_mut().flat_map(Laboratory::take_notes));
        notes
    }

    /// Client-steps of the next round, training and circuits: the length of its progress bar.
    pub fn cost(&self) -> u64 {
        let (training, searches) = self.costs(self.round + 1);
        training + searches
    }

    /// Client-steps of one-based `round`: those of training, also without federation, and those of searches for circuits.
    pub fn costs(&self, round: usize) -> (u64, u64) {
        let cohort = self.simulation.cohort(round);
        let members = self.simulation.waves(&cohort).members;
        let training: u64 = members.iter().map(|m| m.steps as u64).sum();
        let Some(laboratory) = &self.laboratory else { return (training, 0) };
        let (all, beside) = (laboratory.cost(self.simulation.stage(), &members, round), laboratory.beside());
        (training + beside, all - beside)
    }

    /// Bytes of the device's memory that the searches of the first round take at once.
    pub fn search_bytes(&self) -> u64 {
        let Some(laboratory) = &self.laboratory else { return 0 };
        let cohort = self.simulation.cohort(1);
        laboratory.search_bytes(self.simulation.stage(), &self.simulation.waves(&cohort).members)
    }

    /// Runs the next round and gives an outcome for each seed, in their order.
    ///
    /// # Errors
    /// As [`Federation::round_with`].
    pub fn round(&mut self) -> Result<Vec<Outcome>> {
        self.round_with(&AtomicBool::new(false), &mut |_| {})
    }

    /// Runs the next round; `advance` is told of every client-step done, and `stop` ends the round after the step
    /// under way.
    ///
    /// # Errors
    /// [`crate::Error::Diverged`], [`crate::Error::Interrupted`], and what the device says.
    pub fn round_with(&mut self, stop: &AtomicBool, advance: &mut dyn FnMut(u64)) -> Result<Vec<Outcome>> {
        let round = self.round + 1;
        let output = &self.experiment.output;
        self.keeper.wanted = output.saves(round, self.experiment.rounds);
        self.keeper.clients = output.save_clients;
        self.keeper.stays = round == self.experiment.rounds && !self.analyses().is_empty();
        let mut observers: Vec<&mut dyn Observer> = vec![&mut self.keeper];
        if let Some(laboratory) = &mut self.laboratory {
            observers.push(laboratory);
        }
        self.failed = true;
        let outcome = self.simulation.run_round(&mut observers, &mut Pulse { stop, round, advance })?;
        (self.round, self.failed, self.held) = (round, false, None);
        self.notes.extend(outcome.replicates.iter().filter_map(|r| lost(&outcome, r)));
        let mut kept = std::mem::take(&mut self.keeper.words).into_iter();
        let each = outcome.replicates.iter().enumerate().map(|(i, replicate)| {
            let (weights, client_weights) = kept.next().unwrap_or_default();
            let laboratory = self.laboratory.as_ref();
            let pairs = laboratory.map(|l| of_replicate(l.results(), i, |p| p.replicate)).unwrap_or_default();
            let overlaps = laboratory.map(|l| self.overlaps(round, l, i)).unwrap_or_default();
            Outcome {
                seed: replicate.seed,
                record: record(&outcome, replicate),
                circuits: self.circuits(round, pairs),
                controls: self.controls(round, pairs),
                overlap_means: laboratory.map(|l| self.means(round, l, i, &overlaps)).unwrap_or_default(),
                overlaps,
                weights,
                client_weights,
            }
        });
        Ok(each.collect())
    }

    /// The analyses that follow the last round.
    fn analyses(&self) -> &[Analysis] {
        self.experiment.circuits.as_ref().map_or(&[], |circuits| &circuits.analyses)
    }

    /// Does the analyses that the experiment asks for, on the last round's models and circuits of each seed, in their
    /// order; before the last round is done there are none. They read back of their own, outside of any round.
    ///
    /// # Errors
    /// What the device says, and [`crate::Error::Interrupted`].
    pub fn analyse(&self, stop: &AtomicBool) -> Result<Vec<Vec<Analysed>>> {
        let Some(laboratory) = self.laboratory.as_ref().filter(|_| self.keeper.stays) else { return Ok(Vec::new()) };
        let (stage, words) = (self.simulation.stage(), self.layout.words);
        let each = self.simulation.replicates().iter().enumerate().map(|(i, Replicate { clients, .. })| {
            let global = stage.device.alloc("global weights of a seed", words)?;
            stage.device.copy(self.simulation.global().view(i * words, words), global.all())?;
            let subject = Subject {
                stage,
                global: &global,
                locals: &self.keeper.locals(i, words),
                pairs: of_replicate(laboratory.results(), i, |p| p.replicate),
                clients,
            };
            analyse(subject, self.analyses(), &mut Pulse { stop, round: self.round + 1, advance: &mut |_| {} })
        });
        each.collect()
    }
}

/// Those of one replicate among results sorted by replicate.
pub(super) fn of_replicate<T>(results: &[T], replicate: usize, of: impl Fn(&T) -> usize) -> &[T] {
    let start = results.partition_point(|r| of(r) < replicate);
    let end = results.partition_point(|r| of(r) <= replicate);
    &results[start..end]
}

/// What to tell of a round of which nobody's update arrived.
fn lost(round: &Round, replicate: &ReplicateRound) -> Option<String> {
    let of = if round.replicates.len() > 1 { format!(" of seed {}", replicate.seed) } else { String::new() };
    replicate.clients.is_empty().then(|| {
        let (round, count) = (round.round, replicate.dropped.len());
        format!("round {round}: all {count} drawn clients{of} dropped out, so the global model stays as it was")
    })
}

/// Says which seed an error of the configuration came up with, where there are several.
fn with_seed(error: Error, seed: u64, experiment: &Experiment) -> Error {
    match error {
        Error::Config { key, problem, help } if experiment.seeds.several() => {
            Error::Config { key, problem: format!("with seed {seed}, {problem}"), help }
        }
        other => other,
    }
}
