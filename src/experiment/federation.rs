//! One federation with its circuits, or one for each seed side by side: rounds in, records out.

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use super::inputs::{layer_specs, partition};
use crate::circuits::{CircuitResult, Laboratory, Level, OverlapCounts, OverlapResult, PairResult};
use crate::config::Experiment;
use crate::data::{Dataset, partition::class_counts};
use crate::device::{Buffer, Device, View, f32s};
use crate::error::{Error, Result};
use crate::federation::{
    LocalModels, Member, Observer, Pulse, Replicate, ReplicateRound, Round, Simulation, Stage, replicates,
};
use crate::model::{Input, Layout, Network, chain, initial_weights, load};
use crate::report::{
    CircuitRecord, ClientRecord, GlobalRecord, ModelSide, OverlapRecord, RoundRecord, Seconds, expected_iou,
};

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
    experiment: Experiment,
    simulation: Simulation<'d>,
    laboratory: Option<Laboratory>,
    keeper: Keeper,
    layout: Layout,
    gated: Vec<(String, usize)>,
    class_names: Vec<String>,
    /// By replicate.
    class_counts: Vec<Vec<Vec<u32>>>,
    round: usize,
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
    /// How they overlap.
    pub overlaps: Vec<OverlapRecord>,
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
        let laboratory = experiment.circuits.as_ref().map(|circuits| {
            let (batch, labels) = (experiment.training.batch_size, &dataset.test.labels);
            Laboratory::new(device, &network, circuits, batch, labels)
        });
        let laboratory = laboratory.transpose()?;
        let gates = network.layout.gates.iter();
        let gated = gates.map(|g| (network.layers[g.layer].name.clone(), g.channels)).collect();
        let layout = network.layout.clone();
        let counts = |replicate: &Replicate| class_counts(&replicate.clients, &dataset.train.labels, classes);
        let class_counts = replicates.iter().map(counts).collect();
        let weights = |seed| given.clone().unwrap_or_else(|| initial_weights(&layout, seed));
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
            class_counts,
            round: 0,
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

    /// `[client][class]`: training examples in the federation of the i-th seed, counted from 0.
    ///
    /// # Panics
    /// When there are not so many seeds.
    pub fn class_counts(&self, i: usize) -> &[Vec<u32>] {
        &self.class_counts[i]
    }

    /// Clients computed at once.
    pub fn wave_size(&self) -> usize {
        self.simulation.wave_size()
    }

    /// Client-steps of a round, training and circuits: the length of its progress bar.
    pub fn cost(&self) -> u64 {
        let members = self.simulation.members();
        let training: u64 = members.iter().map(|m| m.steps as u64).sum();
        training + self.laboratory.as_ref().map_or(0, |l| l.cost(self.simulation.stage(), &members))
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
        let mut observers: Vec<&mut dyn Observer> = vec![&mut self.keeper];
        if let Some(laboratory) = &mut self.laboratory {
            observers.push(laboratory);
        }
        let outcome = self.simulation.run_round(&mut observers, &mut Pulse { stop, round, advance })?;
        self.round = round;
        let mut kept = std::mem::take(&mut self.keeper.words).into_iter();
        let each = outcome.replicates.iter().enumerate().map(|(i, replicate)| {
            let (weights, client_weights) = kept.next().unwrap_or_default();
            let laboratory = self.laboratory.as_ref();
            let pairs = laboratory.map(|l| of_replicate(l.results(), i, |p| p.replicate)).unwrap_or_default();
            Outcome {
                seed: replicate.seed,
                record: record(&outcome, replicate),
                circuits: self.circuits(round, pairs),
                overlaps: laboratory.map(|l| self.overlaps(round, l, i)).unwrap_or_default(),
                weights,
                client_weights,
            }
        });
        Ok(each.collect())
    }

    fn circuits(&self, round: usize, pairs: &[PairResult]) -> Vec<CircuitRecord> {
        let one = |pair: &PairResult, model: ModelSide, circuit: &CircuitResult, cross: Option<f64>| {
            let names = self.gated.iter().map(|(name, _)| name.clone());
            let edges = circuit.edges.iter().cloned().chain([Vec::new()]);
            let layers = self.simulation.stage().network.layers.iter().map(|l| l.name.clone());
            CircuitRecord {
                round,
                model,
                client: pair.client,
                class: pair.class,
                class_name: self.class_names.get(pair.class as usize).cloned().unwrap_or_default(),
                active_nodes: names.zip(circuit.channels.iter().cloned()).collect(),
                connectivity: layers.zip(edges).collect(),
                sufficiency: circuit.sufficiency,
                necessity: circuit.necessity,
                cross,
                false_positive: circuit.false_positive,
                diagnosis: pair.diagnosis,
                accuracy: circuit.accuracy,
                damage: circuit.damage,
                random: circuit.random,
                ceiling: pair.ceiling.filter(|_| model == ModelSide::Global),
            }
        };
        let both = |pair: &PairResult| {
            let global = one(pair, ModelSide::Global, &pair.global, Some(pair.cross));
            [one(pair, ModelSide::Local, &pair.local, None), global]
        };
        pairs.iter().flat_map(both).collect()
    }

    fn overlaps(&self, round: usize, laboratory: &Laboratory, replicate: usize) -> Vec<OverlapRecord> {
        let nodes: Vec<usize> = self.gated.iter().map(|(_, channels)| *channels).collect();
        let names = || self.gated.iter().map(|(name, _)| name.as_str());
        let rows = |overlap: &OverlapResult| {
            let universe = match overlap.level {
                Level::Node => &nodes[..],
                Level::Edge => laboratory.possible_edges(),
            };
            let layers = names().enumerate().map(|(i, name)| row(round, overlap, name, i..i + 1, universe));
            layers.chain([row(round, overlap, "all", 0..nodes.len(), universe)]).collect::<Vec<_>>()
        };
        of_replicate(laboratory.overlaps(), replicate, |o| o.replicate).iter().flat_map(rows).collect()
    }
}

/// Those of one replicate among results sorted by replicate.
fn of_replicate<T>(results: &[T], replicate: usize, of: impl Fn(&T) -> usize) -> &[T] {
    let start = results.partition_point(|r| of(r) < replicate);
    let end = results.partition_point(|r| of(r) <= replicate);
    &results[start..end]
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

/// One row of the overlap table, for the given layers together, of which layer i has `universe[i]` channels or edges.
fn row(round: usize, overlap: &OverlapResult, name: &str, layers: Range<usize>, universe: &[usize]) -> OverlapRecord {
    let counts = &overlap.layers[layers.clone()];
    let sum = |part: fn(&OverlapCounts) -> u32| counts.iter().map(|c| part(c) as usize).sum::<usize>();
    let (both, size_a, size_b) = (sum(|c| c.intersection), sum(|c| c.size_a), sum(|c| c.size_b));
    let union = size_a + size_b - both;
    let sizes: Vec<_> =
        counts.iter().zip(&universe[layers]).map(|(c, n)| (c.size_a as usize, c.size_b as usize, *n)).collect();
    OverlapRecord {
        round,
        comparison: overlap.comparison,
        level: overlap.level,
        layer: name.into(),
        client_a: overlap.a.0,
        class_a: overlap.a.1,
        client_b: overlap.b.0,
        class_b: overlap.b.1,
        size_a,
        size_b,
        iou: (union > 0).then(|| both as f64 / union as f64),
        chance: expected_iou(&sizes),
    }
}

fn record(round: &Round, replicate: &ReplicateRound) -> RoundRecord {
    let (seconds, ReplicateRound { global, clients, sparsity, .. }) = (round.seconds, replicate);
    RoundRecord {
        round: round.round,
        seconds: Seconds {
            train: seconds.train,
            circuits: seconds.circuits,
            evaluate: seconds.evaluate,
            total: seconds.total,
        },
        global: GlobalRecord {
            loss: global.loss,
            accuracy: global.accuracy,
            trained_accuracy: global.trained_accuracy,
            per_class_accuracy: global.per_class_accuracy.iter().map(|a| a.unwrap_or(f64::NAN)).collect(),
        },
        clients: clients
            .iter()
            .map(|c| ClientRecord {
                client: c.client,
                examples: c.examples,
                steps: c.steps,
                loss: c.summary.loss,
                accuracy: c.summary.accuracy,
            })
            .collect(),
        sparsity: sparsity.clone(),
        readbacks: round.readbacks,
        bytes_read_back: round.bytes_read_back,
    }
}

/// A replicate's global weights, and its clients' by number, as far as they were kept.
type Kept = (Option<Vec<f32>>, Vec<(usize, Vec<f32>)>);

/// Brings weights back with the round's read-back, in the rounds that are saved.
#[derive(Default)]
struct Keeper {
    wanted: bool,
    clients: bool,
    /// P.
    row: usize,
    /// Replicate and client, in the order of the waves.
    members: Vec<(usize, usize)>,
    /// One copy a wave, so that none exceeds the device's largest buffer.
    waves: Vec<Buffer>,
    global: Option<Buffer>,
    /// By replicate; none in rounds that are not saved.
    words: Vec<Kept>,
}

impl Observer for Keeper {
    fn cost(&self, _: Stage<'_>, _: &[Member<'_>]) -> u64 {
        0
    }

    fn before_round(&mut self, stage: Stage<'_>, members: &[Member<'_>], _: usize) -> Result<()> {
        self.row = stage.network.layout.words;
        self.members = members.iter().map(|m| (m.replicate, m.client)).collect();
        self.words = vec![Kept::default(); replicates(members)];
        self.waves.clear();
        self.global = None;
        Ok(())
    }

    fn after_local(&mut self, stage: Stage<'_>, models: LocalModels<'_>, _: usize, _: &mut Pulse<'_>) -> Result<()> {
        if self.wanted && self.clients {
            let copy = stage.device.alloc("kept local weights", models.weights.words)?;
            stage.device.copy(models.weights, copy.all())?;
            self.waves.push(copy);
        }
        Ok(())
    }

    fn after_aggregate(&mut self, _: Stage<'_>, global: &Buffer, _: &[Member<'_>], _: &mut Pulse<'_>) -> Result<()> {
        self.global = self.wanted.then(|| global.clone());
        Ok(())
    }

    fn results(&self) -> Vec<View<'_>> {
        self.global.iter().chain(&self.waves).map(Buffer::all).collect()
    }

    fn absorb(&mut self, words: Vec<Vec<u32>>) -> Result<()> {
        let mut words = words.into_iter();
        let rows = |words: Vec<u32>| words.chunks(self.row).map(|w| f32s(w).to_vec()).collect::<Vec<_>>();
        for (kept, row) in self.words.iter_mut().zip(words.next().into_iter().flat_map(rows)) {
            kept.0 = Some(row);
        }
        for ((replicate, client), row) in self.members.iter().zip(words.flat_map(rows)) {
            self.words[*replicate].1.push((*client, row));
        }
        self.words.iter_mut().for_each(|kept| kept.1.sort_by_key(|(client, _)| *client));
        self.waves.clear();
        Ok(())
    }
}
