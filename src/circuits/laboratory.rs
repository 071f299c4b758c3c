//! The observer that finds, tests and compares the circuits of a round.

mod memory;
mod study;

use std::ops::Range;

use super::all_pairs::OverlapTotal;
use super::answers::{Answers, probes};
use super::compare::{OverlapResult, iou};
use super::controls::{Control, ControlCounts, ControlModels, Origin};
use super::diagnose::diagnose;
use super::edges::EdgeLayout;
use super::families::Families;
use super::masks::MaskLayout;
use super::notes::{Told, before_the_run, client};
use super::pair::{Model, Pair};
use super::rank::Finder;
use super::results::{CircuitResult, ControlResult, PairResult};
use super::round::{Circuit, Decoded, Layouts, RoundBuffers, Sets, Tally};
use super::subject::Subject;
use crate::config::{CircuitClasses, Circuits, Experiment};
use crate::data::{Dataset, indices_by_class, partition::count_classes};
use crate::device::{Device, View};
use crate::error::Result;
use crate::federation::{LocalModels, Member, Observer, Pulse, Stage, parts};
use crate::model::{Network, Weights};
use crate::rng::Purpose;

pub use memory::Memory;
pub(super) use study::all_open;

/// Examples of a class that a client needs before a circuit is looked for.
const FEWEST_EXAMPLES: u32 = 2;

/// Finds, tests and compares circuits, round after round.
pub struct Laboratory {
    circuits: Circuits,
    /// Ascending.
    clients: Vec<usize>,
    batch_size: usize,
    rounds: usize,
    round: usize,
    classes: usize,
    gate_words: usize,
    masks: MaskLayout,
    edges: EdgeLayout,
    /// For every class the test images that its circuits are tested on: all of its own, some of each other.
    probes: Vec<Vec<u32>>,
    finder: Finder,
    families: Families,
    models: ControlModels,
    /// Of a round whose circuits are found.
    buffers: Option<RoundBuffers>,
    before: Option<Sets>,
    results: Vec<PairResult>,
    overlaps: Vec<OverlapResult>,
    totals: Vec<OverlapTotal>,
    /// The replicates of each experiment side by side.
    parts: Vec<Range<usize>>,
    /// By replicate the seed, where its experiment has several.
    seeds: Vec<Option<u64>>,
    /// Of each experiment, what its user has been told.
    told: Vec<Told>,
    /// With the experiment that each is about.
    notes: Vec<(usize, String)>,
}

impl Laboratory {
    /// For the circuits that `circuits` asks for in the federations of `experiment`, which start as `origins` say from the
    /// `weights` of their seeds; `experiment` is any of several that differ in nothing else.
    ///
    /// # Errors
    /// What the device says, and [`crate::Error::Config`] for clients that are not there.
    pub fn new(
        device: &dyn Device,
        network: &Network,
        experiment: &Experiment,
        circuits: &Circuits,
        dataset: &Dataset,
        origins: &[Origin<'_>],
        weights: &dyn Fn(u64) -> Vec<f32>,
    ) -> Result<Self> {
        let masks = MaskLayout::new(device, &network.layout)?;
        let images = indices_by_class(&dataset.test.labels, network.classes);
        let batch_size = experiment.training.batch_size;
        let clients = circuits.clients.chosen(origins.first().map_or(0, |o| o.clients.len()))?;
        let parts = parts(origins.iter().map(|o| o.experiment));
        let seed = |part: &Range<usize>, i: usize| (part.len() > 1).then_some(origins[i].seed);
        let mut laboratory = Self {
            batch_size,
            rounds: experiment.rounds,
            round: 0,
            classes: network.classes,
            gate_words: network.layout.gate_words,
            edges: EdgeLayout::new(device, network, &masks, circuits.edges)?,
            masks,
            probes: probes(&images, circuits.other_images),
            finder: Finder::new(device, network, circuits, batch_size)?,
            families: Families::new(device, network, circuits, &images)?,
            models: ControlModels::new(device, network, &experiment.training, &circuits.controls, origins, weights)?,
            circuits: circuits.clone(),
            clients,
            buffers: None,
            before: None,
            results: Vec::new(),
            overlaps: Vec::new(),
            totals: Vec::new(),
            notes: Vec::new(),
            told: Vec::new(),
            seeds: parts.iter().flat_map(|part| part.clone().map(|i| seed(part, i))).collect(),
            parts,
        };
        laboratory.told.resize(laboratory.parts.len(), Told::default());
        let owned = |examples: &[u32]| count_classes(examples, &dataset.train.labels, network.classes);
        let chosen = |(o, seed): (&Origin<'_>, &Option<u64>)| {
            laboratory.clients.iter().map(|c| (client(*c, *seed), owned(&o.clients.examples(*c)))).collect()
        };
        let owners: Vec<Vec<(String, Vec<u32>)>> = origins.iter().zip(&laboratory.seeds).map(chosen).collect();
        for (i, part) in laboratory.parts.iter().enumerate() {
            let notes = before_the_run(&circuits.classes, &owners[part.clone()].concat(), &images);
            laboratory.notes.extend(notes.into_iter().map(|note| (i, note)));
        }
        Ok(laboratory)
    }

    /// The last round's circuits, by replicate, client and class; none in rounds that are not studied.
    pub fn results(&self) -> &[PairResult] {
        &self.results
    }

    /// The last round's overlaps, by replicate, comparison, level, and circuits.
    pub fn overlaps(&self) -> &[OverlapResult] {
        &self.overlaps
    }

    /// The last round's comparisons of which `overlaps` has only a sample, over all pairs, by replicate.
    pub fn totals(&self) -> &[OverlapTotal] {
        &self.totals
    }

    /// Client-steps of a round's training without federation.
    pub fn beside(&self) -> u64 {
        self.models.steps() as u64
    }

    /// What the user should know and has not been told yet, each of one of the experiments side by side.
    pub fn take_notes(&mut self) -> Vec<(usize, String)> {
        std::mem::take(&mut self.notes)
    }

    /// Possible edges of each gated layer.
    pub fn possible_edges(&self) -> &[usize] {
        &self.edges.possible
    }

    fn layouts(&self) -> Layouts<'_> {
        let Self { masks, edges, gate_words, classes, .. } = self;
        Layouts { masks, edges, gate_words: *gate_words, classes: *classes }
    }

    /// The pairs of `members`, in their order: the chosen classes of which a chosen client has examples enough.
    fn pairs(&self, stage: Stage<'_>, members: &[Member<'_>]) -> Vec<Pair> {
        let chosen = |class: u32| match &self.circuits.classes {
            CircuitClasses::Owned => true,
            CircuitClasses::List(list) => list.contains(&class),
        };
        let mut pairs = Vec::new();
        for (place, member) in members.iter().enumerate().filter(|(_, m)| self.clients.binary_search(&m.client).is_ok())
        {
            let owned = count_classes(&member.examples.get(), &stage.train.host_labels, self.classes);
            let classes = (0..).zip(&owned).filter(|(class, n)| **n >= FEWEST_EXAMPLES && chosen(*class));
            let Member { replicate, client, .. } = *member;
            let alone = owned.iter().filter(|n| **n > 0).count() == 1;
            pairs.extend(classes.map(|(class, _)| Pair { replicate, client, class, member: place, alone }));
        }
        pairs
    }

    /// The controls of one-based `round` that take a search each.
    fn searched(&self, round: usize) -> Vec<Control> {
        let due = self.circuits.controls(round, self.rounds);
        Control::ALL.into_iter().filter(|c| due && c.asked(&self.circuits.controls)).collect()
    }

    /// The result of pair `i` from what was read back.
    fn result(&self, i: usize, pairs: &[Pair], controls: &[Control], decoded: &Decoded) -> PairResult {
        let (class, cells) = (pairs[i].class, self.classes * self.classes);
        let table = |words: &'_ [u32]| words[i * cells..(i + 1) * cells].to_vec();
        let answers = |tally: Tally| Answers::new(table(&decoded.tallies[tally as usize]), class);
        let circuit = |row: usize, model: Model| {
            let (whole, kept, cut) = model.tallies();
            let Circuit { channels, edges } = decoded.circuits[row].clone();
            let size = channels.iter().map(Vec::len).sum();
            let measured = self.families.read(&decoded.families[model as usize], i, class, size);
            CircuitResult {
                channels,
                edges,
                accuracy: answers(whole).accuracy(),
                sufficiency: answers(kept).accuracy(),
                necessity: answers(cut).accuracy(),
                false_positive: answers(kept).false_positive(),
                damage: answers(whole).others() - answers(cut).others(),
                random: measured.random,
                removals: measured.removals,
                curve: measured.curve,
            }
        };
        let local = circuit(i, Model::Local);
        let global = circuit(pairs.len() + i, Model::Global);
        let control = |(control, words): (&Control, &[Vec<u32>])| {
            if *control == Control::Centralised && !f32::from_bits(words[3][i]).is_finite() {
                return ControlResult::undefined(*control);
            }
            let channels = self.masks.channels(&words[0][i * self.masks.words..][..self.masks.words]);
            let kept = Answers::new(table(&words[2]), class);
            ControlResult {
                control: *control,
                accuracy: Answers::new(table(&words[1]), class).accuracy(),
                sufficiency: kept.accuracy(),
                false_positive: kept.false_positive(),
                iou: iou(&global.channels, &channels),
                channels,
            }
        };
        // Permuted, the labels of a single class are what they were: a second search, which says nothing of other labels.
        let says = |(control, _): &(&Control, &[Vec<u32>])| !(**control == Control::Permuted && pairs[i].alone);
        let searched = controls.iter().zip(decoded.controls.chunks(ControlCounts::VIEWS));
        let cross = answers(Tally::Cross);
        PairResult {
            replicate: pairs[i].replicate,
            client: pairs[i].client,
            class,
            diagnosis: diagnose(
                local.accuracy,
                global.accuracy,
                iou(&local.channels, &global.channels),
                &self.circuits.diagnosis,
            ),
            controls: searched.filter(says).map(control).collect(),
            local,
            global,
            cross: cross.accuracy(),
            cross_answers: cross.by_prediction().to_vec(),
        }
    }
}

impl Observer for Laboratory {
    fn cost(&self, stage: Stage<'_>, members: &[Member<'_>], round: usize) -> u64 {
        if !self.circuits.studies(round, self.rounds) {
            return self.beside();
        }
        let searches = 2 + self.searched(round).len();
        self.beside() + (searches * self.pairs(stage, members).len() * Finder::steps(&self.circuits)) as u64
    }

    fn before_round(&mut self, stage: Stage<'_>, members: &[Member<'_>], round: usize) -> Result<()> {
        self.round = round;
        if !self.circuits.studies(round, self.rounds) {
            return Ok(());
        }
        let pairs = self.pairs(stage, members);
        for (i, (part, told)) in self.parts.iter().zip(&mut self.told).enumerate() {
            if !pairs.iter().any(|pair| part.contains(&pair.replicate)) {
                let mut own = members.iter().filter(|m| part.contains(&m.replicate));
                let anyone = own.any(|m| self.clients.binary_search(&m.client).is_ok());
                let note = told.of_cohort(round, round == self.rounds, anyone);
                self.notes.extend(note.map(|note| (i, note)));
            }
        }
        if pairs.is_empty() {
            // Circuits are compared with those of the studied round before, and now that one has none.
            self.before = None;
            return Ok(());
        }
        let before = self.before.as_ref().map_or(&[][..], |sets| &sets.pairs);
        let (replicates, controls) = (stage.replicates, self.searched(round));
        let (circuits, layouts) = (&self.circuits, self.layouts());
        let buffers = RoundBuffers::new(stage.device, pairs, before, replicates, circuits, &controls, &layouts)?;
        self.buffers = Some(buffers);
        Ok(())
    }

    fn after_local(
        &mut self,
        stage: Stage<'_>,
        models: LocalModels<'_>,
        offset: usize,
        pulse: &mut Pulse<'_>,
    ) -> Result<()> {
        let Some(buffers) = &self.buffers else { return Ok(()) };
        let members = offset..offset + models.members.len();
        buffers.keep_local(stage.device, members.clone(), models.weights.values, &self.edges)?;
        let place = |member: usize| buffers.sets.pairs.partition_point(|p| p.member < member);
        let range = place(members.start)..place(members.end);
        let subject = Subject {
            stage,
            round: self.round,
            model: Model::Local,
            purpose: Purpose::Discovery,
            weights: models.weights,
            pairs: &buffers.sets.pairs[range.clone()],
            members: models.members,
            first_member: offset,
        };
        self.study(&subject, buffers, range.start, pulse)
    }

    fn train_beside(&mut self, stage: Stage<'_>, pulse: &mut Pulse<'_>) -> Result<bool> {
        self.models.train(stage, pulse)
    }

    fn after_aggregate(
        &mut self,
        stage: Stage<'_>,
        global: Weights<'_>,
        members: &[Member<'_>],
        pulse: &mut Pulse<'_>,
    ) -> Result<()> {
        let Some(buffers) = &self.buffers else { return Ok(()) };
        let subject = Subject {
            stage,
            round: self.round,
            model: Model::Global,
            purpose: Purpose::Discovery,
            weights: global,
            pairs: &buffers.sets.pairs,
            members,
            first_member: 0,
        };
        self.study(&subject, buffers, 0, pulse)?;
        for counts in &buffers.controls {
            self.control(&subject, counts, pulse)?;
        }
        buffers.keep_global(stage.device, global.values, &self.edges)?;
        buffers.compare(stage.device, self.before.as_ref(), &self.layouts())
    }

    fn results(&self) -> Vec<View<'_>> {
        self.buffers.as_ref().map(RoundBuffers::views).unwrap_or_default()
    }

    fn words_of(&self, replicates: &Range<usize>) -> usize {
        let before = self.before.as_ref().map_or(&[][..], |sets| &sets.pairs);
        self.buffers.as_ref().map_or(0, |buffers| buffers.words_of(replicates, before))
    }

    fn absorb(&mut self, words: Vec<Vec<u32>>) -> Result<()> {
        self.results.clear();
        self.overlaps.clear();
        self.totals.clear();
        let Some(buffers) = self.buffers.take() else { return Ok(()) };
        let before = self.before.as_ref().map_or(&[][..], |sets| &sets.pairs);
        let decoded = buffers.decode(words, before, &self.layouts());
        let pairs = &buffers.sets.pairs;
        let controls: Vec<Control> = buffers.controls.iter().map(|c| c.control).collect();
        self.results = (0..pairs.len()).map(|i| self.result(i, pairs, &controls, &decoded)).collect();
        self.results.sort_by_key(|r| (r.replicate, r.client, r.class));
        let last = self.round == self.rounds;
        for (i, (part, told)) in self.parts.iter().zip(&mut self.told).enumerate() {
            let [start, end] =
                [part.start, part.end].map(|bound| self.results.partition_point(|r| r.replicate < bound));
            let sampled = buffers.sampled().iter().filter(|s| part.contains(&s.replicate));
            let mut notes = told.of_round(self.round, last, &self.results[start..end], &self.seeds);
            notes.extend(told.of_comparisons(self.round, sampled));
            self.notes.extend(notes.into_iter().map(|note| (i, note)));
        }
        self.overlaps = decoded.overlaps;
        self.totals = decoded.totals;
        self.before = Some(buffers.sets);
        Ok(())
    }
}
