//! One federation with its circuits: rounds in, records out.

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use super::inputs::{layer_specs, partition};
use super::overlap_means::{Universe, overlap_means};
use crate::circuits::analyses::{Analysed, LocalModel, Subject, analyse};
use crate::circuits::{CircuitResult, Laboratory, Level, OverlapCounts, OverlapResult, PairResult};
use crate::config::{Analysis, Experiment};
use crate::data::{Dataset, partition::class_counts};
use crate::device::{Buffer, Device, View, f32s};
use crate::error::Result;
use crate::federation::{LocalModels, Member, Observer, Pulse, Round, Simulation, Stage};
use crate::model::{Input, Layout, Network, chain, initial_weights, load};
use crate::report::{
    CircuitRecord, ClientRecord, GlobalRecord, ModelSide, OverlapMean, OverlapRecord, RoundRecord, Seconds,
    expected_iou,
};

/// A federation on a device, ready to run its rounds.
///
/// ```no_run
/// # fn main() -> fedcircuit::Result<()> {
/// use fedcircuit::{config::presets, device::Cpu, experiment::{Federation, load_data}};
/// let plan = presets::get("quickstart")?.load(&[])?;
/// let experiment = &plan.variants[0].experiment;
/// let device = Cpu::new(None)?;
/// let (dataset, _) = load_data(&experiment.data, "data".as_ref())?;
/// let mut federation = Federation::new(&device, experiment, &dataset)?;
/// let outcome = federation.round()?;
/// println!("{}", outcome.record.global.accuracy);
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
    class_counts: Vec<Vec<u32>>,
    round: usize,
}

/// What a round gave, as it goes into the run folder.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Losses, accuracies, times.
    pub record: RoundRecord,
    /// The circuits found, by client and class, local before global.
    pub circuits: Vec<CircuitRecord>,
    /// How they overlap.
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
        let clients = partition(experiment, dataset)?;
        let weights = match experiment.model.init_path() {
            Some(path) => load(&path, &network.layout)?,
            None => initial_weights(&network.layout, experiment.seed),
        };
        let laboratory = experiment.circuits.as_ref().map(|circuits| {
            let (batch, labels) = (experiment.training.batch_size, &dataset.test.labels);
            Laboratory::new(device, &network, circuits, batch, experiment.seed, labels)
        });
        let laboratory = laboratory.transpose()?;
        let gates = network.layout.gates.iter();
        let gated = gates.map(|g| (network.layers[g.layer].name.clone(), g.channels)).collect();
        let layout = network.layout.clone();
        let class_counts = class_counts(&clients, &dataset.train.labels, classes);
        let simulation = Simulation::new(device, experiment, network, dataset, clients, &weights)?;
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

    /// `[client][class]`: training examples.
    pub fn class_counts(&self) -> &[Vec<u32>] {
        &self.class_counts
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

    /// Runs the next round.
    ///
    /// # Errors
    /// As [`Federation::round_with`].
    pub fn round(&mut self) -> Result<Outcome> {
        self.round_with(&AtomicBool::new(false), &mut |_| {})
    }

    /// Runs the next round; `advance` is told of every client-step done, and `stop` ends the round after the step
    /// under way.
    ///
    /// # Errors
    /// [`crate::Error::Diverged`], [`crate::Error::Interrupted`], and what the device says.
    pub fn round_with(&mut self, stop: &AtomicBool, advance: &mut dyn FnMut(u64)) -> Result<Outcome> {
        let round = self.round + 1;
        let output = &self.experiment.output;
        self.keeper.wanted = output.saves(round, self.experiment.rounds);
        self.keeper.clients = output.save_clients;
        self.keeper.stays = round == self.experiment.rounds && !self.analyses().is_empty();
        let mut observers: Vec<&mut dyn Observer> = vec![&mut self.keeper];
        if let Some(laboratory) = &mut self.laboratory {
            observers.push(laboratory);
        }
        let outcome = self.simulation.run_round(&mut observers, &mut Pulse { stop, round, advance })?;
        self.round = round;
        let pairs = self.laboratory.as_ref().map(Laboratory::results).unwrap_or_default();
        let overlaps = self.laboratory.as_ref().map(|l| self.overlaps(round, l)).unwrap_or_default();
        Ok(Outcome {
            record: record(&outcome),
            circuits: self.circuits(round, pairs),
            overlap_means: self.laboratory.as_ref().map(|l| self.means(round, l, &overlaps)).unwrap_or_default(),
            overlaps,
            weights: self.keeper.global_words.take(),
            client_weights: std::mem::take(&mut self.keeper.client_words),
        })
    }

    /// The analyses that follow the last round.
    fn analyses(&self) -> &[Analysis] {
        self.experiment.circuits.as_ref().map_or(&[], |circuits| &circuits.analyses)
    }

    /// Does the analyses that the experiment asks for, on the last round's models and circuits; before the last round is
    /// done there are none. They read back of their own, outside of any round.
    ///
    /// # Errors
    /// What the device says, and [`crate::Error::Interrupted`].
    pub fn analyse(&self, stop: &AtomicBool) -> Result<Vec<Analysed>> {
        let Some(laboratory) = self.laboratory.as_ref().filter(|_| self.keeper.stays) else { return Ok(Vec::new()) };
        let subject = Subject {
            stage: self.simulation.stage(),
            global: self.simulation.global(),
            locals: &self.keeper.locals(self.layout.words),
            pairs: laboratory.results(),
            class_counts: &self.class_counts,
        };
        analyse(subject, self.analyses(), &mut Pulse { stop, round: self.round + 1, advance: &mut |_| {} })
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

    fn overlaps(&self, round: usize, laboratory: &Laboratory) -> Vec<OverlapRecord> {
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
        laboratory.overlaps().iter().flat_map(rows).collect()
    }

    fn means(&self, round: usize, laboratory: &Laboratory, overlaps: &[OverlapRecord]) -> Vec<OverlapMean> {
        let layers: Vec<&str> = self.gated.iter().map(|(name, _)| name.as_str()).collect();
        let nodes: Vec<usize> = self.gated.iter().map(|(_, channels)| *channels).collect();
        let universe = Universe { layers: &layers, nodes: &nodes, edges: laboratory.possible_edges() };
        overlap_means(round, overlaps, laboratory.totals(), universe)
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

fn record(round: &Round) -> RoundRecord {
    let Round { seconds, global, .. } = round;
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
        clients: round
            .clients
            .iter()
            .map(|c| ClientRecord {
                client: c.client,
                examples: c.examples,
                steps: c.steps,
                loss: c.summary.loss,
                accuracy: c.summary.accuracy,
            })
            .collect(),
        sparsity: round.sparsity.clone(),
        readbacks: round.readbacks,
        bytes_read_back: round.bytes_read_back,
    }
}

/// Brings weights back with the round's read-back, in the rounds that are saved, and leaves the local models of the last
/// round on the device where there is something to do with them.
#[derive(Default)]
struct Keeper {
    wanted: bool,
    clients: bool,
    stays: bool,
    members: Vec<usize>,
    /// One copy a wave, so that none exceeds the device's largest buffer.
    waves: Vec<Buffer>,
    global: Option<Buffer>,
    global_words: Option<Vec<f32>>,
    client_words: Vec<(usize, Vec<f32>)>,
}

impl Keeper {
    /// The local models on the device, of `words` words each, by client.
    fn locals(&self, words: usize) -> Vec<LocalModel<'_>> {
        let rows = self.waves.iter().flat_map(|wave| (0..wave.words() / words).map(move |row| (wave.all(), row)));
        let models = self.members.iter().zip(rows);
        let mut locals: Vec<LocalModel<'_>> =
            models.map(|(client, (weights, row))| LocalModel { client: *client, weights, row }).collect();
        locals.sort_by_key(|local| local.client);
        locals
    }
}

impl Observer for Keeper {
    fn cost(&self, _: Stage<'_>, _: &[Member<'_>]) -> u64 {
        0
    }

    fn before_round(&mut self, _: Stage<'_>, members: &[Member<'_>], _: usize) -> Result<()> {
        self.members = members.iter().map(|m| m.client).collect();
        self.waves.clear();
        self.global = None;
        Ok(())
    }

    fn after_local(&mut self, stage: Stage<'_>, models: LocalModels<'_>, _: usize, _: &mut Pulse<'_>) -> Result<()> {
        if self.stays || (self.wanted && self.clients) {
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
        let waves = if self.wanted && self.clients { &self.waves[..] } else { &[] };
        self.global.iter().chain(waves).map(Buffer::all).collect()
    }

    fn absorb(&mut self, words: Vec<Vec<u32>>) -> Result<()> {
        let mut words = words.into_iter();
        self.global_words = words.next().map(|w| f32s(&w).to_vec());
        let row = self.global_words.as_ref().map_or(1, Vec::len);
        let rows = words.flat_map(|wave| wave.chunks(row).map(|w| f32s(w).to_vec()).collect::<Vec<_>>());
        self.client_words = self.members.iter().copied().zip(rows).collect();
        self.client_words.sort_by_key(|(client, _)| *client);
        if !self.stays {
            self.waves.clear();
        }
        Ok(())
    }
}
