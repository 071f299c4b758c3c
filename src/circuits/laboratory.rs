//! The observer that finds, tests and compares the circuits of a round.

use std::ops::Range;

use super::ablate::{self, Ablation};
use super::all_pairs::OverlapTotal;
use super::answers::{Answers, probes};
use super::compare::{OverlapResult, iou};
use super::controls::{Against, RandomCircuits};
use super::diagnose::{Diagnosis, diagnose};
use super::discover::{self, Key};
use super::edges::{EdgeLayout, Feeds};
use super::masks::MaskLayout;
use super::pair::{Model, Pair};
use super::round::{Circuit, Decoded, Layouts, RoundBuffers, Sets, Tally};
use crate::config::{CircuitClasses, Circuits};
use crate::data::indices_by_class;
use crate::device::{Buffer, Device, View};
use crate::error::Result;
use crate::federation::{LocalModels, Member, Observer, Pulse, Stage, slots_that_fit, upload};
use crate::kernels::complement::complement;
use crate::kernels::edge_bits::edge_bits;
use crate::model::Network;
use crate::rng::Purpose;

/// One circuit of one model, measured on test images. Accuracies are fractions, and not numbers without images.
#[derive(Clone, Debug, PartialEq)]
pub struct CircuitResult {
    /// Channels kept, of each gated layer, ascending.
    pub channels: Vec<Vec<u32>>,
    /// Edges between them, of each gated layer.
    pub edges: Vec<Vec<Feeds>>,
    /// Accuracy on the class with nothing ablated.
    pub accuracy: f64,
    /// Accuracy on the class with every other channel zeroed.
    pub sufficiency: f64,
    /// Accuracy on the class with these channels zeroed: low where they are necessary.
    pub necessity: f64,
    /// Share of other classes' images that the circuit alone calls its class: high where it says so of anything.
    pub false_positive: f64,
    /// How much accuracy on the other classes falls when these channels are zeroed.
    pub damage: f64,
    /// Against random circuits, where the controls ask for them.
    pub random: Option<Against>,
}

/// A client and class: the circuit in the local model, and that in the global one.
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
    /// What became of the class and its circuit in the average.
    pub diagnosis: Diagnosis,
    /// Overlap (IoU, all layers together) of the global circuit with that of a second search in the same weights, where
    /// the controls ask for it: no other overlap can be expected to exceed it. `None` too where both are empty.
    pub ceiling: Option<f64>,
}

/// Finds, tests and compares circuits, round after round.
pub struct Laboratory {
    circuits: Circuits,
    batch_size: usize,
    seed: u64,
    round: usize,
    classes: usize,
    gate_words: usize,
    masks: MaskLayout,
    edges: EdgeLayout,
    /// For every class the test images that its circuits are tested on: all of its own, some of each other.
    probes: Vec<Vec<u32>>,
    random: Option<RandomCircuits>,
    buffers: Option<RoundBuffers>,
    before: Option<Sets>,
    results: Vec<PairResult>,
    overlaps: Vec<OverlapResult>,
    totals: Vec<OverlapTotal>,
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
        let masks = MaskLayout::new(device, &network.layout)?;
        let images = indices_by_class(test_labels, network.classes);
        let random = (circuits.controls.random > 0)
            .then(|| RandomCircuits::new(device, &network.layout, &circuits.controls, seed, &images));
        Ok(Self {
            circuits: circuits.clone(),
            batch_size,
            seed,
            round: 0,
            classes: network.classes,
            gate_words: network.layout.gate_words,
            edges: EdgeLayout::new(device, network, &masks, circuits.edges)?,
            masks,
            probes: probes(&images, circuits.other_images),
            random: random.transpose()?,
            buffers: None,
            before: None,
            results: Vec::new(),
            overlaps: Vec::new(),
            totals: Vec::new(),
        })
    }

    /// The last round's circuits, by client and class.
    pub fn results(&self) -> &[PairResult] {
        &self.results
    }

    /// The last round's overlaps, by comparison, level, and circuits.
    pub fn overlaps(&self) -> &[OverlapResult] {
        &self.overlaps
    }

    /// The last round's comparisons of which `overlaps` has only a sample, over all pairs.
    pub fn totals(&self) -> &[OverlapTotal] {
        &self.totals
    }

    /// Possible edges of each gated layer.
    pub fn possible_edges(&self) -> &[usize] {
        &self.edges.possible
    }

    fn layouts(&self) -> Layouts<'_> {
        let Self { masks, edges, gate_words, classes, .. } = self;
        Layouts { masks, edges, gate_words: *gate_words, classes: *classes }
    }

    /// The pairs of `members`, in their order: the chosen classes of which a client has examples.
    fn pairs(&self, stage: Stage<'_>, members: &[Member<'_>]) -> Vec<Pair> {
        let mut pairs = Vec::new();
        for (place, member) in members.iter().enumerate() {
            let mut owned = vec![false; self.classes];
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

    /// Finds and tests the circuits of the pairs in `range` in `subject`, as many at once as fit.
    fn study(&self, stage: Stage<'_>, subject: &Subject<'_>, range: Range<usize>, pulse: &mut Pulse<'_>) -> Result<()> {
        let Some(buffers) = &self.buffers else { unreachable!("a round has begun") };
        let mut at = range.start;
        while at < range.end {
            let pairs = self.chunk(stage, &buffers.sets.pairs[at..range.end])?;
            let range = at..at + pairs.len();
            let rows: Vec<u32> = pairs.iter().map(|p| subject.row(p)).collect();
            let hard = self.search(stage, subject, Purpose::Discovery, pairs, &rows, pulse)?;
            let first = buffers.gate(subject.model, at, self.gate_words);
            stage.device.copy(hard.all(), buffers.gates.view(first, hard.words()))?;
            self.measure(stage, subject, buffers, range.clone(), &rows, &hard)?;
            if let Some(random) = &self.random {
                let classes: Vec<u32> = pairs.iter().map(|p| p.class).collect();
                let counts = random.count(stage, self.round, subject.weights, &rows, &classes, &hard)?;
                buffers.keep_random(stage.device, subject.model, range, counts)?;
            }
            if subject.model == Model::Global && self.circuits.controls.repeat {
                let again = self.search(stage, subject, Purpose::Controls, pairs, &rows, pulse)?;
                stage.device.copy(again.all(), buffers.again.view(at * self.gate_words, again.words()))?;
            }
            at += pairs.len();
        }
        Ok(())
    }

    /// Learns the circuits of `pairs`; pair i uses row `rows[i]` of the subject's weights.
    fn search(
        &self,
        stage: Stage<'_>,
        subject: &Subject<'_>,
        purpose: Purpose,
        pairs: &[Pair],
        rows: &[u32],
        pulse: &mut Pulse<'_>,
    ) -> Result<Buffer> {
        let key = Key { seed: self.seed, round: self.round, model: subject.model, purpose };
        let minibatches = |pair: &Pair| {
            let examples = subject.members[pair.member - subject.first_member].examples;
            discover::batches(stage, &self.circuits, self.batch_size, key, pair, examples)
        };
        let batches: Vec<_> = pairs.iter().map(minibatches).collect();
        let rows = upload(stage.device, "rows", rows)?;
        discover::learn_gates(stage, &self.circuits, subject.weights, &rows, &batches, pulse)
    }

    /// Counts the predictions of the pairs in `range` under every mask that says something about their circuits.
    fn measure(
        &self,
        stage: Stage<'_>,
        subject: &Subject<'_>,
        buffers: &RoundBuffers,
        range: Range<usize>,
        rows: &[u32],
        hard: &Buffer,
    ) -> Result<()> {
        let (device, pairs, at) = (stage.device, range.len(), range.start);
        let rows = upload(device, "rows", rows)?;
        let classes: Vec<u32> = buffers.sets.pairs[range].iter().map(|p| p.class).collect();
        let ablation = Ablation::new(stage, subject.weights, &rows, &classes, &self.probes)?;
        let count =
            |tally: Tally, gates: &Buffer| buffers.keep(device, tally, at, pairs, &ablation.count(stage, gates.all())?);
        let (whole, kept, cut) = subject.model.tallies();
        let gates = device.alloc("ablation gates", hard.words())?;
        device.write(gates.all(), &vec![1.0f32.to_bits(); hard.words()])?;
        count(whole, &gates)?;
        count(kept, hard)?;
        complement(device, hard.all(), gates.all())?;
        count(cut, &gates)?;
        if subject.model == Model::Global {
            let local = buffers.gate(Model::Local, at, self.gate_words);
            device.copy(buffers.gates.view(local, gates.words()), gates.all())?;
            count(Tally::Cross, &gates)?;
        }
        Ok(())
    }

    /// As many of the first `pairs` as fit the device at once.
    fn chunk<'p>(&self, stage: Stage<'_>, pairs: &'p [Pair]) -> Result<&'p [Pair]> {
        Ok(&pairs[..self.fitting(stage, pairs.len())?])
    }

    /// How many of `wanted` pairs fit the device at once.
    ///
    /// # Errors
    /// [`crate::Error::TooLarge`] when not even one does.
    pub fn fitting(&self, stage: Stage<'_>, wanted: usize) -> Result<usize> {
        // A minibatch of one class holds at most a whole batch.
        let search = discover::words(stage, &self.circuits, self.batch_size.next_multiple_of(4));
        let ablation = ablate::words(stage, self.probes.iter().map(Vec::len).max().unwrap_or(0));
        let (total, largest) = (search.0.max(ablation.0), search.1.max(ablation.1));
        let what = format!("the search for one circuit (circuits.steps = {})", self.circuits.steps);
        slots_that_fit(stage.budget, wanted, total, largest, &what)
    }

    /// The result of pair `i` from what was read back.
    fn result(&self, i: usize, pairs: &[Pair], decoded: &Decoded) -> PairResult {
        let (class, cells) = (pairs[i].class, self.classes * self.classes);
        let answers = |tally: Tally| Answers {
            counts: &decoded.tallies[tally as usize][i * cells..(i + 1) * cells],
            classes: self.classes,
            class: class as usize,
        };
        let circuit = |row: usize, model: Model| {
            let (whole, kept, cut) = model.tallies();
            let Circuit { channels, edges } = decoded.circuits[row].clone();
            CircuitResult {
                channels,
                edges,
                accuracy: answers(whole).accuracy(),
                sufficiency: answers(kept).accuracy(),
                necessity: answers(cut).accuracy(),
                false_positive: answers(kept).false_positive(),
                damage: answers(whole).others() - answers(cut).others(),
                random: decoded
                    .random(model, i, cells)
                    .map(|(own, random)| Against::new(own, random, self.classes, class as usize)),
            }
        };
        let local = circuit(i, Model::Local);
        let global = circuit(pairs.len() + i, Model::Global);
        let overlap = iou(&local.channels, &global.channels);
        let ceiling = decoded.again.get(i).and_then(|again| iou(&global.channels, again));
        PairResult {
            client: pairs[i].client,
            class,
            diagnosis: diagnose(local.accuracy, global.accuracy, overlap, &self.circuits.diagnosis),
            local,
            global,
            cross: answers(Tally::Cross).accuracy(),
            ceiling,
        }
    }
}

/// The models in which circuits are looked for.
struct Subject<'a> {
    model: Model,
    /// Local: a row for every member; global: one row.
    weights: View<'a>,
    members: &'a [Member<'a>],
    /// The first member's place in the round.
    first_member: usize,
}

impl Subject<'_> {
    /// The row of weights that a pair uses.
    fn row(&self, pair: &Pair) -> u32 {
        match self.model {
            Model::Local => (pair.member - self.first_member) as u32,
            Model::Global => 0,
        }
    }
}

impl Observer for Laboratory {
    fn cost(&self, stage: Stage<'_>, members: &[Member<'_>]) -> u64 {
        let searches = 2 + usize::from(self.circuits.controls.repeat);
        (searches * self.pairs(stage, members).len() * self.circuits.steps) as u64
    }

    fn before_round(&mut self, stage: Stage<'_>, members: &[Member<'_>], round: usize) -> Result<()> {
        self.round = round;
        let pairs = self.pairs(stage, members);
        let before = self.before.as_ref().map_or(&[][..], |sets| &sets.pairs);
        self.buffers = Some(RoundBuffers::new(
            stage.device,
            pairs,
            before,
            members.len(),
            self.circuits.controls,
            &self.layouts(),
        )?);
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
        let alive = device.alloc("surviving connections of a wave", rows * self.edges.words)?;
        edge_bits(device, rows, words, models.weights, self.edges.weight_table.all(), alive.all())?;
        device.copy(alive.all(), buffers.alive.view(offset * self.edges.words, alive.words()))?;
        let place = |member: usize| buffers.sets.pairs.partition_point(|p| p.member < member);
        let range = place(offset)..place(offset + rows);
        let (weights, members) = (models.weights, models.members);
        let subject = Subject { model: Model::Local, weights, members, first_member: offset };
        self.study(stage, &subject, range, pulse)
    }

    fn after_aggregate(
        &mut self,
        stage: Stage<'_>,
        global: &Buffer,
        members: &[Member<'_>],
        pulse: &mut Pulse<'_>,
    ) -> Result<()> {
        let Some(buffers) = self.buffers.as_ref().filter(|b| !b.sets.pairs.is_empty()) else { return Ok(()) };
        let subject = Subject { model: Model::Global, weights: global.all(), members, first_member: 0 };
        self.study(stage, &subject, 0..buffers.sets.pairs.len(), pulse)?;
        let device = stage.device;
        let alive = device.alloc("surviving connections", self.edges.words)?;
        edge_bits(device, 1, global.words(), global.all(), self.edges.weight_table.all(), alive.all())?;
        device.copy(alive.all(), buffers.alive.view(members.len() * self.edges.words, alive.words()))?;
        buffers.compare(device, self.before.as_ref(), members.len(), &self.layouts())
    }

    fn results(&self) -> Vec<View<'_>> {
        let buffers = self.buffers.as_ref().filter(|b| !b.sets.pairs.is_empty());
        buffers.map(RoundBuffers::views).unwrap_or_default()
    }

    fn absorb(&mut self, words: Vec<Vec<u32>>) -> Result<()> {
        self.results.clear();
        self.overlaps.clear();
        self.totals.clear();
        let Some(buffers) = self.buffers.take().filter(|b| !b.sets.pairs.is_empty()) else { return Ok(()) };
        let before = self.before.as_ref().map_or(&[][..], |sets| &sets.pairs);
        let decoded = buffers.decode(&words, before, &self.layouts());
        let pairs = &buffers.sets.pairs;
        self.results = (0..pairs.len()).map(|i| self.result(i, pairs, &decoded)).collect();
        self.results.sort_by_key(|r| (r.client, r.class));
        self.overlaps = decoded.overlaps;
        self.totals = decoded.totals;
        self.before = Some(buffers.sets);
        Ok(())
    }
}
