//! One federation with its circuits, or one for each seed of each experiment side by side: rounds in, records out.

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use super::alike::check_alike;
use super::inputs::{network, partition, unassigned, unread};
use super::keeper::{self, Keeper};
use super::records::record;
use super::state::Held;
use crate::circuits::analyses::{Analysed, Subject, analyse};
use crate::circuits::{Laboratory, Origin};
use crate::config::{Analysis, Experiment};
use crate::data::{Dataset, Population};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::federation::{Observer, Pulse, Recipe, Replicate, ReplicateRound, RoundPlan, Simulation, Stage, parts};
use crate::model::{Layout, initial_weights, load};
use crate::report::{CircuitRecord, ControlRecord, OverlapMean, OverlapRecord, RoundRecord};

/// A federation on a device, ready to run its rounds; or one for each of several seeds, of one experiment or of several,
/// which share the device's batches and nothing else: each has the bits that it has alone.
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
    /// The first of the experiments side by side: what is asked of it holds for all.
    pub(super) experiment: Experiment,
    names: Vec<String>,
    pub(super) simulation: Simulation<'d>,
    pub(super) laboratory: Option<Laboratory>,
    keeper: Keeper,
    /// Bytes of local models that stay to the end of a round, in those that are saved or analysed.
    kept: u64,
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
        Self::together(device, &[experiment], dataset)
    }

    /// The same for several experiments side by side, which may differ in name, seeds, partition (of as many clients),
    /// learning rate, and how sparse their networks become: on the CPU engine not at all in the latter, and on a GPU as
    /// long as the same layers run over their surviving weights.
    ///
    /// # Errors
    /// As [`Federation::new`]; and [`crate::Error::Config`] for experiments that differ in more.
    ///
    /// # Panics
    /// Without any experiment.
    pub fn together(device: &'d dyn Device, experiments: &[&Experiment], dataset: &Dataset) -> Result<Self> {
        let experiment = experiments[0];
        let network = network(experiment, dataset)?;
        check_alike(device.info(), &network, experiments)?;
        let given =
            experiment.model.init_path().map(|path| load(&path, &network.layout).map_err(unread)).transpose()?;
        if experiment.circuits.is_some() && network.layout.gates.is_empty() {
            let problem = "the model has no hidden layer, and so no channels of which a circuit could be made";
            return Err(Error::config("circuits", problem, "give [model] a hidden layer, or leave [circuits] out"));
        }
        let replicates = replicates(experiments, dataset)?;
        let layout = network.layout.clone();
        let weights = |seed| given.clone().unwrap_or_else(|| initial_weights(&layout, seed));
        let laboratory = experiment.circuits.as_ref().map(|circuits| {
            let origins = replicates.iter().map(|r| Origin {
                experiment: r.experiment,
                seed: r.seed,
                clients: &r.clients,
                recipe: &r.recipe,
            });
            let origins: Vec<Origin<'_>> = origins.collect();
            Laboratory::new(device, &network, experiment, circuits, dataset, &origins, &weights)
        });
        let laboratory = laboratory.transpose()?;
        let gated = network.gated_layers();
        let simulation = Simulation::new(device, experiment, network, dataset, replicates, &weights)?;
        if let Some(laboratory) = &laboratory {
            // Here rather than after the first round's training.
            laboratory.fitting(simulation.stage(), 1)?;
            laboratory.check_circuits(simulation.stage(), &simulation.waves(&simulation.cohort(1)).members)?;
        }
        let kept = keeper::kept_bytes(simulation.stage(), experiment, || simulation.plan().clients)?;
        let mut federation = Self {
            experiment: experiment.clone(),
            names: experiments.iter().map(|experiment| experiment.name.clone()).collect(),
            laboratory,
            simulation,
            keeper: Keeper::default(),
            kept,
            layout,
            gated,
            class_names: dataset.class_names.clone(),
            notes: Vec::new(),
            round: 0,
            failed: false,
            held: None,
        };
        for (of, part) in federation.parts().into_iter().enumerate() {
            let note = unassigned(experiments[of], dataset, &federation.simulation.replicates()[part]);
            federation.notes.extend(note.map(|note| federation.noted(of, note)));
        }
        Ok(federation)
    }

    /// Layers with circuits, and their channels; the layers of all others are never gated.
    pub fn gated_layers(&self) -> &[(String, usize)] {
        &self.gated
    }

    /// Where each tensor lies in a row of weights.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Of each experiment, which of all the federations side by side are its seeds'.
    pub fn parts(&self) -> Vec<Range<usize>> {
        parts(self.simulation.replicates().iter().map(|replicate| replicate.experiment))
    }

    /// `[class]`, for one client after the other, as many as are listed: training examples in the i-th federation, counted
    /// from 0.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn class_counts(&self, i: usize) -> impl Iterator<Item = Vec<u32>> {
        let Stage { network, train, .. } = self.simulation.stage();
        let clients = &self.simulation.replicates()[i].clients;
        clients.class_counts(&train.host_labels, network.classes).take(clients.listed())
    }

    /// The clients of each federation.
    pub fn populations(&self) -> impl Iterator<Item = &Population> {
        self.simulation.replicates().iter().map(|replicate| &replicate.clients)
    }

    /// What a round will take: waves, and the device's memory.
    pub fn plan(&self) -> RoundPlan {
        RoundPlan { kept: self.kept, ..self.simulation.plan() }
    }

    /// Rounds done.
    pub fn rounds_done(&self) -> usize {
        self.round
    }

    /// Clients computed at once.
    pub fn wave_size(&self) -> usize {
        self.simulation.wave_size()
    }

    /// What the user should know and has not been told yet: of classes without clients, of rounds without clients, and of
    /// circuits that cannot be found or mean nothing.
    pub fn take_notes(&mut self) -> Vec<String> {
        let mut notes = std::mem::take(&mut self.notes);
        notes.append(&mut self.simulation.take_notes());
        let of_circuits = self.laboratory.as_mut().map(Laboratory::take_notes).unwrap_or_default();
        notes.extend(of_circuits.into_iter().map(|(experiment, note)| self.noted(experiment, note)));
        notes
    }

    /// A note on one of the experiments.
    fn noted(&self, experiment: usize, note: String) -> String {
        if self.names.len() > 1 { format!("{}: {note}", self.names[experiment]) } else { note }
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

    /// Runs the next round and gives an outcome for each seed of each experiment, in their order.
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
        let mut kept = std::mem::take(&mut self.keeper.words).into_iter();
        for (of, part) in self.parts().into_iter().enumerate() {
            let seeds = &outcome.replicates[part];
            let lost = seeds.iter().filter_map(|seed| lost(round, seed, seeds.len() > 1));
            let notes: Vec<_> = lost.map(|note| self.noted(of, note)).collect();
            self.notes.extend(notes);
        }
        let each = outcome.replicates.iter().enumerate().map(|(i, replicate)| {
            let (weights, client_weights) = kept.next().unwrap_or_default();
            let laboratory = self.laboratory.as_ref();
            let pairs = laboratory.map(|l| of_replicate(l.results(), i, |p| p.replicate)).unwrap_or_default();
            let overlaps = laboratory.map(|l| self.overlaps(round, l, i)).unwrap_or_default();
            Outcome {
                seed: replicate.seed,
                record: record(&outcome, replicate, self.simulation.replicates()[i].experiment),
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

/// One for each seed of each experiment.
fn replicates(experiments: &[&Experiment], dataset: &Dataset) -> Result<Vec<Replicate>> {
    let mut replicates = Vec::new();
    for (i, experiment) in experiments.iter().enumerate() {
        for seed in experiment.seeds.all().iter().copied() {
            let of = if experiments.len() > 1 { format!("in {}, ", experiment.name) } else { String::new() };
            let with = if experiment.seeds.several() { format!("with seed {seed}, ") } else { String::new() };
            let named = of + &with;
            let clients = partition(&experiment.with_seed(seed), dataset).map_err(|error| blamed(error, &named))?;
            replicates.push(Replicate { experiment: i, named, seed, clients, recipe: Recipe::of(experiment) });
        }
    }
    Ok(replicates)
}

/// What to tell of a round of which nobody's update arrived.
fn lost(round: usize, replicate: &ReplicateRound, several: bool) -> Option<String> {
    let of = if several { format!(" of seed {}", replicate.seed) } else { String::new() };
    replicate.clients.is_empty().then(|| {
        let count = replicate.dropped.len();
        format!("round {round}: all {count} drawn clients{of} dropped out, so the global model stays as it was")
    })
}

/// Says which federation an error of the configuration came up with, where there are several.
fn blamed(error: Error, named: &str) -> Error {
    match error {
        Error::Config { key, problem, help } => Error::Config { key, problem: format!("{named}{problem}"), help },
        other => other,
    }
}
