//! The observer that finds, tests and compares the circuits of a round.

use super::ablate::{self, Ablation};
use super::discover::{self, Model};
use super::edges::{EdgeLayout, Feeds};
use super::masks::MaskLayout;
use crate::config::{CircuitClasses, Circuits};
use crate::data::indices_by_class;
use crate::device::{Buffer, Device, View};
use crate::error::Result;
use crate::federation::{LocalModels, Member, Observer, Pulse, Stage, slots_that_fit, upload};
use crate::kernels::complement::complement;
use crate::kernels::edge_bits::edge_bits;
use crate::kernels::overlap::overlap;
use crate::kernels::pack_bits::pack_bits;
use crate::kernels::shape::Rows;
use crate::model::Network;

/// A circuit is looked for in this client's model for this class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub client: usize,
    pub class: u32,
    /// The client's place in the round.
    pub member: usize,
}

/// One circuit of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct CircuitResult {
    /// Channels kept, of each gated layer, ascending.
    pub channels: Vec<Vec<u32>>,
    /// Edges between them, of each gated layer.
    pub edges: Vec<Vec<Feeds>>,
    /// Accuracy on the class with every other channel zeroed (a fraction; not a number without test images).
    pub sufficiency: f64,
    /// Accuracy on the class with these channels zeroed.
    pub necessity: f64,
}

/// Sizes and intersection of two sets of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverlapCounts {
    /// Channels in both.
    pub intersection: u32,
    /// Channels in the first.
    pub size_a: u32,
    /// Channels in the second.
    pub size_b: u32,
}

/// A client and class: the circuit in the local model, that in the global one, and how they compare.
#[derive(Clone, Debug, PartialEq)]
pub struct PairResult {
    /// The client.
    pub client: usize,
    /// The class.
    pub class: u32,
    /// Found in the client's trained model.
    pub local: CircuitResult,
    /// Found in the new global model with the client's data.
    pub global: CircuitResult,
    /// Accuracy on the class of the global weights under the local circuit's mask.
    pub cross: f64,
    /// Local against global, of each gated layer.
    pub overlap: Vec<OverlapCounts>,
}

/// What is counted of each pair: predictions under one mask of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tally {
    LocalKept,
    LocalCut,
    GlobalKept,
    GlobalCut,
    /// The local circuit's mask on the global weights.
    Cross,
}

impl Tally {
    const COUNT: usize = 5;
}

/// Finds, tests and compares circuits, round after round.
pub struct Laboratory {
    circuits: Circuits,
    batch_size: usize,
    seed: u64,
    round: usize,
    masks: MaskLayout,
    edges: EdgeLayout,
    test_images: Vec<Vec<u32>>,
    pairs: Vec<Pair>,
    buffers: Option<RoundBuffers>,
    results: Vec<PairResult>,
}

/// What a round's circuits leave on the device until it is read.
struct RoundBuffers {
    /// `[pairs][G]`.
    local: Buffer,
    global: Buffer,
    /// Each `[pairs][classes][classes]`.
    tallies: Vec<Buffer>,
    /// `[pairs][W]`.
    local_bits: Buffer,
    global_bits: Buffer,
    /// `[pairs][L][3]`.
    overlaps: Buffer,
    /// `[members][E]` and `[E]`.
    local_edges: Buffer,
    global_edges: Buffer,
}

impl Laboratory {
    /// For the circuits that `circuits` asks for, in clients that train with batches of `batch_size`.
    ///
    /// # Errors
    /// What the device says.
    pub fn new(
        device: &dyn Device,
        network: &Network,
        circuits: &Circuits,
        batch_size: usize,
        seed: u64,
        test_labels: &[u8],
    ) -> Result<Self> {
        Ok(Self {
            circuits: circuits.clone(),
            batch_size,
            seed,
            round: 0,
            masks: MaskLayout::new(device, &network.layout)?,
            edges: EdgeLayout::new(device, network)?,
            test_images: indices_by_class(test_labels, network.classes),
            pairs: Vec::new(),
            buffers: None,
            results: Vec::new(),
        })
    }

    /// The last round's circuits, by client and class.
    pub fn results(&self) -> &[PairResult] {
        &self.results
    }

    /// The pairs of `members`, in their order: the chosen classes of which a client has examples.
    fn pairs(&self, stage: Stage<'_>, members: &[Member<'_>]) -> Vec<Pair> {
        let mut pairs = Vec::new();
        for (place, member) in members.iter().enumerate() {
            let mut owned = vec![false; stage.network.classes];
            member.examples.iter().for_each(|e| owned[usize::from(stage.train.host_labels[*e as usize])] = true);
            let chosen = |class: u32| match &self.circuits.classes {
                CircuitClasses::Owned => true,
                CircuitClasses::List(list) => list.contains(&class),
            };
            let classes = (0..).zip(&owned).filter(|(class, owned)| **owned && chosen(*class)).map(|(class, _)| class);
            pairs.extend(classes.map(|class| Pair { client: member.client, class, member: place }));
        }
        pairs
    }

    /// Finds and tests the circuits of `pairs[from..to]` in `model`, as many at once as fit.
    #[allow(clippy::too_many_arguments)]
    fn study(
        &self,
        stage: Stage<'_>,
        model: Model,
        weights: View<'_>,
        members: &[Member<'_>],
        first_member: usize,
        range: std::ops::Range<usize>,
        pulse: &mut Pulse<'_>,
    ) -> Result<()> {
        let (device, width) = (stage.device, stage.network.layout.gate_words);
        let Some(buffers) = &self.buffers else { unreachable!("a round has begun") };
        let key = (self.seed, self.round, model);
        let mut at = range.start;
        while at < range.end {
            let pairs = self.chunk(stage, &self.pairs[at..range.end])?;
            let batches: Vec<_> = pairs
                .iter()
                .map(|p| {
                    let examples = members[p.member - first_member].examples;
                    discover::batches(stage, &self.circuits, self.batch_size, key, p, examples)
                })
                .collect();
            let row = |p: &Pair| if model == Model::Local { (p.member - first_member) as u32 } else { 0 };
            let rows = upload(device, "rows", &pairs.iter().map(row).collect::<Vec<_>>())?;
            let hard = discover::learn(stage, &self.circuits, weights, &rows, &batches, pulse)?;
            let words = pairs.len() * width;
            let kept = if model == Model::Local { &buffers.local } else { &buffers.global };
            device.copy(hard.all(), kept.view(at * width, words))?;

            let classes: Vec<u32> = pairs.iter().map(|p| p.class).collect();
            let ablation = Ablation::new(stage, &classes, &self.test_images)?;
            let gates = device.alloc("ablation gates", words)?;
            let (kept, cut) = if model == Model::Local {
                (Tally::LocalKept, Tally::LocalCut)
            } else {
                (Tally::GlobalKept, Tally::GlobalCut)
            };
            self.tally(stage, &ablation, weights, &rows, hard.all(), &buffers.tallies[kept as usize], at)?;
            complement(device, hard.all(), gates.all())?;
            self.tally(stage, &ablation, weights, &rows, gates.all(), &buffers.tallies[cut as usize], at)?;
            if model == Model::Global {
                device.copy(buffers.local.view(at * width, words), gates.all())?;
                self.tally(stage, &ablation, weights, &rows, gates.all(), &buffers.tallies[Tally::Cross as usize], at)?;
            }
            at += pairs.len();
        }
        Ok(())
    }

    /// As many of the first `pairs` as fit the device at once.
    fn chunk<'p>(&self, stage: Stage<'_>, pairs: &'p [Pair]) -> Result<&'p [Pair]> {
        // A minibatch of one class holds at most a whole batch.
        let search = discover::words(stage, &self.circuits, self.batch_size.next_multiple_of(4));
        let ablation = ablate::words(stage, &self.test_images);
        let (total, largest) = (search.0.max(ablation.0), search.1.max(ablation.1));
        let fit = slots_that_fit(stage.budget, pairs.len(), total, largest, "the search for one circuit")?;
        Ok(&pairs[..fit])
    }

    #[allow(clippy::too_many_arguments)]
    fn tally(
        &self,
        stage: Stage<'_>,
        ablation: &Ablation,
        weights: View<'_>,
        rows: &Buffer,
        gates: View<'_>,
        into: &Buffer,
        at: usize,
    ) -> Result<()> {
        let cells = stage.network.classes * stage.network.classes;
        let counters = stage.device.alloc("ablated predictions", rows.words() * cells)?;
        ablation.count(stage, weights, rows, gates, counters.all())?;
        stage.device.copy(counters.all(), into.view(at * cells, counters.words()))
    }

    /// Accuracy of pair `i` on its class.
    fn accuracy(&self, tallies: &[u32], i: usize, classes: usize) -> f64 {
        let class = self.pairs[i].class as usize;
        let row = &tallies[(i * classes + class) * classes..][..classes];
        f64::from(row[class]) / f64::from(row.iter().sum::<u32>())
    }
}

impl Observer for Laboratory {
    fn cost(&self, stage: Stage<'_>, members: &[Member<'_>]) -> u64 {
        2 * (self.pairs(stage, members).len() * self.circuits.steps) as u64
    }

    fn before_round(&mut self, stage: Stage<'_>, members: &[Member<'_>], round: usize) -> Result<()> {
        self.round = round;
        self.pairs = self.pairs(stage, members);
        let device = stage.device;
        let (pairs, width) = (self.pairs.len(), stage.network.layout.gate_words);
        let cells = stage.network.classes * stage.network.classes;
        self.buffers = Some(RoundBuffers {
            local: device.alloc("local circuits", pairs * width)?,
            global: device.alloc("global circuits", pairs * width)?,
            tallies: (0..Tally::COUNT).map(|_| device.alloc("tallies", pairs * cells)).collect::<Result<_>>()?,
            local_bits: device.alloc("local masks", pairs * self.masks.words)?,
            global_bits: device.alloc("global masks", pairs * self.masks.words)?,
            overlaps: device.alloc("overlaps", pairs * self.masks.layers.len() * 3)?,
            local_edges: device.alloc("local edges", members.len() * self.edges.words)?,
            global_edges: device.alloc("global edges", self.edges.words)?,
        });
        Ok(())
    }

    fn after_local(
        &mut self,
        stage: Stage<'_>,
        models: LocalModels<'_>,
        offset: usize,
        pulse: &mut Pulse<'_>,
    ) -> Result<()> {
        let Some(buffers) = &self.buffers else { unreachable!("a round has begun") };
        let (device, rows, words) = (stage.device, models.members.len(), stage.network.layout.words);
        let edges = device.alloc("edges of a wave", rows * self.edges.words)?;
        edge_bits(device, rows, words, models.weights, self.edges.table.all(), edges.all())?;
        device.copy(edges.all(), buffers.local_edges.view(offset * self.edges.words, edges.words()))?;
        let from = self.pairs.partition_point(|p| p.member < offset);
        let to = self.pairs.partition_point(|p| p.member < offset + rows);
        self.study(stage, Model::Local, models.weights, models.members, offset, from..to, pulse)
    }

    fn after_aggregate(
        &mut self,
        stage: Stage<'_>,
        global: &Buffer,
        members: &[Member<'_>],
        pulse: &mut Pulse<'_>,
    ) -> Result<()> {
        let pairs = self.pairs.len();
        if pairs == 0 {
            return Ok(());
        }
        self.study(stage, Model::Global, global.all(), members, 0, 0..pairs, pulse)?;
        let Some(buffers) = &self.buffers else { unreachable!("a round has begun") };
        let (device, width) = (stage.device, stage.network.layout.gate_words);
        edge_bits(device, 1, global.words(), global.all(), self.edges.table.all(), buffers.global_edges.all())?;
        let gates = Rows { slots: pairs, words: width };
        let table = self.masks.word_table.all();
        pack_bits(device, gates, buffers.local.all(), table, buffers.local_bits.all())?;
        pack_bits(device, gates, buffers.global.all(), table, buffers.global_bits.all())?;
        let same: Vec<u32> = (0..pairs as u32).flat_map(|i| [i, i]).collect();
        let same = upload(device, "pairs to compare", &same)?;
        let (a, b) = (buffers.local_bits.all(), buffers.global_bits.all());
        overlap(device, self.masks.words, a, b, same.all(), self.masks.layer_table.all(), buffers.overlaps.all())
    }

    fn results(&self) -> Vec<View<'_>> {
        let Some(b) = self.buffers.as_ref().filter(|_| !self.pairs.is_empty()) else { return Vec::new() };
        let mut views = vec![b.local_bits.all(), b.global_bits.all(), b.overlaps.all()];
        views.extend([b.local_edges.all(), b.global_edges.all()]);
        views.extend(b.tallies.iter().map(Buffer::all));
        views
    }

    fn absorb(&mut self, words: Vec<Vec<u32>>) -> Result<()> {
        self.buffers = None;
        self.results.clear();
        if self.pairs.is_empty() {
            return Ok(());
        }
        let [local_bits, global_bits, overlaps, local_edges, global_edges] = [0, 1, 2, 3, 4].map(|i| &words[i]);
        let tallies = &words[5..];
        let classes = self.test_images.len();
        let (mask, edge, layers) = (self.masks.words, self.edges.words, self.masks.layers.len());
        let circuit = |i: usize, bits: &[u32], edges: &[u32], kept: Tally, cut: Tally| {
            let channels = self.masks.channels(&bits[i * mask..(i + 1) * mask]);
            CircuitResult {
                edges: self.edges.within(edges, &channels),
                channels,
                sufficiency: self.accuracy(&tallies[kept as usize], i, classes),
                necessity: self.accuracy(&tallies[cut as usize], i, classes),
            }
        };
        let mut results = Vec::new();
        for (i, pair) in self.pairs.iter().enumerate() {
            let own_edges = &local_edges[pair.member * edge..(pair.member + 1) * edge];
            let counts = overlaps[i * layers * 3..(i + 1) * layers * 3].chunks_exact(3);
            results.push(PairResult {
                client: pair.client,
                class: pair.class,
                local: circuit(i, local_bits, own_edges, Tally::LocalKept, Tally::LocalCut),
                global: circuit(i, global_bits, global_edges, Tally::GlobalKept, Tally::GlobalCut),
                cross: self.accuracy(&tallies[Tally::Cross as usize], i, classes),
                overlap: counts.map(|c| OverlapCounts { intersection: c[0], size_a: c[1], size_b: c[2] }).collect(),
            });
        }
        results.sort_by_key(|r| (r.client, r.class));
        self.results = results;
        Ok(())
    }
}
