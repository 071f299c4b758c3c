//! What a round's circuits leave on the device until it is read.

mod decoded;

use std::ops::Range;

use super::compare::{Comparison, Plan, Sampled};
use super::controls::{Control, ControlCounts};
use super::edges::EdgeLayout;
use super::families::{Counts, Family};
use super::masks::MaskLayout;
use super::pair::{Model, Pair};
use crate::config::Circuits;
use crate::device::{Buffer, Device, View};
use crate::error::Result;
use crate::federation::upload;
use crate::kernels::circuit_edges::{self, circuit_edges};
use crate::kernels::edge_bits::edge_bits;
use crate::kernels::overlap::overlap;
use crate::kernels::pack_bits::pack_bits;
use crate::kernels::shape::Rows;

pub(super) use self::decoded::{Circuit, Decoded};

/// What is counted of each pair: predictions of one model under one mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tally {
    /// Nothing ablated.
    LocalWhole,
    /// Only the circuit left.
    LocalKept,
    /// The circuit ablated.
    LocalCut,
    GlobalWhole,
    GlobalKept,
    GlobalCut,
    /// The local circuit's mask on the global weights.
    Cross,
}

impl Tally {
    const COUNT: usize = 7;
}

impl Model {
    /// Where the counts of the whole model, of the circuit alone, and without it, go.
    pub fn tallies(self) -> (Tally, Tally, Tally) {
        match self {
            Model::Local => (Tally::LocalWhole, Tally::LocalKept, Tally::LocalCut),
            Model::Global => (Tally::GlobalWhole, Tally::GlobalKept, Tally::GlobalCut),
        }
    }
}

/// Sets of circuits as bits, to be compared.
pub(super) struct Sets {
    pub pairs: Vec<Pair>,
    /// `[2Q][W]`: channels, local circuits first.
    pub masks: Buffer,
    /// `[2Q][E]`: connections.
    pub edges: Buffer,
}

/// What a buffer has rows of.
#[derive(Clone, Copy)]
enum Rowed {
    /// One for each pair, or several.
    Pair,
    /// Comparisons within the round.
    Within,
    /// Comparisons with the round before.
    Across,
    /// Tasks of the comparisons of all pairs.
    Task,
}

/// The buffers of one round. Q pairs; rows 0..Q are circuits of local models, Q..2Q of the global one.
pub(super) struct RoundBuffers {
    /// `[2Q][G]`, hard.
    pub gates: Buffer,
    /// Each `[Q][classes][classes]`.
    tallies: Vec<Buffer>,
    /// Members with circuits, ascending.
    studied: Vec<usize>,
    /// `[studied + R][E]`: surviving connections of their local models, then of every replicate's global one.
    alive: Buffer,
    /// For both models: right answers under families of masks.
    pub families: [Counts; 2],
    /// Of the searched controls that this round has.
    pub controls: Vec<ControlCounts>,
    pub sets: Sets,
    plan: Plan,
    /// For within and across the rounds, nodes and edges: `[pairs][L][3]`.
    overlaps: Vec<Buffer>,
    /// Nodes and edges, summed over all pairs: `[tasks][L + 1][3]`.
    totals: [Buffer; 2],
}

impl RoundBuffers {
    /// For the circuits of `pairs`, with those of the round `before`; with these controls, in so many federations.
    pub fn new(
        device: &dyn Device,
        pairs: Vec<Pair>,
        before: &[Pair],
        replicates: usize,
        circuits: &Circuits,
        controls: &[Control],
        sizes: &Layouts<'_>,
    ) -> Result<Self> {
        let (q, studied) = (pairs.len(), studied(&pairs));
        let cells = q * sizes.classes * sizes.classes;
        let plan = Plan::new(&pairs, before);
        let layers = sizes.masks.layers.len();
        let overlaps = [plan.within.len(), plan.across.len()].into_iter().flat_map(|n| [n, n]);
        let control = |c: &Control| ControlCounts::new(device, *c, q, sizes.classes, sizes.masks.words);
        Ok(Self {
            gates: device.alloc("circuits", 2 * q * sizes.gate_words)?,
            tallies: (0..Tally::COUNT).map(|_| device.alloc("tallies", cells)).collect::<Result<_>>()?,
            alive: device.alloc("surviving connections", (studied.len() + replicates) * sizes.edges.words)?,
            studied,
            families: [Counts::new(device, circuits, q)?, Counts::new(device, circuits, q)?],
            controls: controls.iter().map(control).collect::<Result<_>>()?,
            overlaps: overlaps.map(|n| device.alloc("overlaps", n * layers * 3)).collect::<Result<_>>()?,
            totals: [
                device.alloc("overlaps of all pairs", plan.all.out_words(layers))?,
                device.alloc("edge overlaps of all pairs", plan.all.out_words(layers))?,
            ],
            sets: Sets {
                masks: device.alloc("masks of circuits", 2 * q * sizes.masks.words)?,
                edges: device.alloc("edges of circuits", 2 * q * sizes.edges.words)?,
                pairs,
            },
            plan,
        })
    }

    /// Words of what [`RoundBuffers::new`] makes for `pairs` with so many `controls`, and of as many circuits of the round before,
    /// with which they are compared, in so many federations: in all, and in the largest buffer.
    pub fn words(
        pairs: &[Pair],
        replicates: usize,
        circuits: &Circuits,
        controls: usize,
        sizes: &Layouts<'_>,
    ) -> (usize, usize) {
        let (q, layers, plan) = (pairs.len(), sizes.masks.layers.len(), Plan::new(pairs, pairs));
        let (cells, alive) = (q * sizes.classes * sizes.classes, studied(pairs).len() + replicates);
        let families = Family::ALL.iter().map(|family| (2, q * family.masks(circuits)));
        let all = [
            (1, 2 * q * sizes.gate_words),
            (Tally::COUNT + 2 * controls, cells),
            (controls, q * sizes.masks.words),
            (controls, q),
            (1, alive * sizes.edges.words),
            (2, plan.within.len() * layers * 3),
            (2, plan.across.len() * layers * 3),
            (2, plan.all.out_words(layers)),
            (2, 2 * q * sizes.masks.words),
            (2, 2 * q * sizes.edges.words),
        ];
        // No buffer is empty.
        let all = all.into_iter().chain(families).filter(|(n, _)| *n > 0).map(|(n, words)| (n, words.max(1)));
        all.fold((0, 0), |(total, largest), (buffers, words)| (total + buffers * words, words.max(largest)))
    }

    /// Keeps the surviving connections of those of a wave's `weights`, `[members][P]`, whose models have circuits.
    pub fn keep_local(
        &self,
        device: &dyn Device,
        members: Range<usize>,
        weights: View<'_>,
        layout: &EdgeLayout,
    ) -> Result<()> {
        let place = |member: usize| self.studied.partition_point(|studied| *studied < member);
        let own = place(members.start)..place(members.end);
        if own.is_empty() {
            return Ok(());
        }
        let all = connections(device, members.len(), weights, layout)?;
        let mut at = own.start;
        for run in self.studied[own].chunk_by(|one, next| one + 1 == *next) {
            let words = run.len() * layout.words;
            let from = all.view((run[0] - members.start) * layout.words, words);
            device.copy(from, self.alive.view(at * layout.words, words))?;
            at += run.len();
        }
        Ok(())
    }

    /// Keeps those of the global models, `[R][P]`.
    pub fn keep_global(&self, device: &dyn Device, weights: View<'_>, layout: &EdgeLayout) -> Result<()> {
        let local = self.studied.len() * layout.words;
        let words = self.alive.words() - local;
        let all = connections(device, words / layout.words, weights, layout)?;
        device.copy(all.all(), self.alive.view(local, words))
    }

    /// The comparisons of which only a sample is listed.
    pub fn sampled(&self) -> &[Sampled] {
        &self.plan.sampled
    }

    /// First gate of pair `at`'s circuit in `model`.
    pub fn gate(&self, model: Model, at: usize, gate_words: usize) -> usize {
        let row = match model {
            Model::Local => at,
            Model::Global => self.sets.pairs.len() + at,
        };
        row * gate_words
    }

    /// Puts the counts of `pairs` pairs from pair `at` on where they belong.
    pub fn keep(&self, device: &dyn Device, tally: Tally, at: usize, pairs: usize, counters: &Buffer) -> Result<()> {
        let cells = counters.words() / pairs;
        device.copy(counters.all(), self.tallies[tally as usize].view(at * cells, counters.words()))
    }

    /// Packs all circuits into bits and counts every overlap; `before` are the circuits of the round before.
    pub fn compare(&self, device: &dyn Device, before: Option<&Sets>, sizes: &Layouts<'_>) -> Result<()> {
        let sets = &self.sets;
        let gates = Rows { slots: 2 * sets.pairs.len(), words: sizes.gate_words };
        pack_bits(device, gates, self.gates.all(), sizes.masks.word_table.all(), sets.masks.all())?;
        let local = sets.pairs.iter().map(|p| self.studied.partition_point(|studied| *studied < p.member) as u32);
        let global = sets.pairs.iter().map(|p| (self.studied.len() + p.replicate) as u32);
        let models = upload(device, "models of circuits", &local.chain(global).collect::<Vec<_>>())?;
        let buffers = circuit_edges::Buffers {
            alive: self.alive.all(),
            models: models.all(),
            masks: sets.masks.all(),
            words: sizes.edges.mask_table.all(),
            edges: sets.edges.all(),
        };
        circuit_edges(device, sizes.masks.words, &buffers)?;
        count(device, &self.plan.within, sets, sets, sizes, &self.overlaps[..2])?;
        let (all, [nodes, edges]) = (&self.plan.all, &self.totals);
        all.count(device, &sets.masks, sizes.masks.words, &sizes.masks.ranges, nodes)?;
        all.count(device, &sets.edges, sizes.edges.words, &sizes.edges.ranges, edges)?;
        match before {
            Some(before) => count(device, &self.plan.across, before, sets, sizes, &self.overlaps[2..]),
            None => Ok(()),
        }
    }

    /// What to read back; [`RoundBuffers::decode`] takes it in this order.
    pub fn views(&self) -> Vec<View<'_>> {
        self.rows().into_iter().map(|(view, _)| view).collect()
    }

    /// The same, with what each has rows of.
    fn rows(&self) -> Vec<(View<'_>, Rowed)> {
        let mut rows = vec![(self.sets.masks.all(), Rowed::Pair), (self.sets.edges.all(), Rowed::Pair)];
        let overlaps = [Rowed::Within, Rowed::Within, Rowed::Across, Rowed::Across];
        rows.extend(self.overlaps.iter().map(Buffer::all).zip(overlaps));
        rows.extend(self.tallies.iter().map(|tally| (tally.all(), Rowed::Pair)));
        rows.extend(self.totals.iter().map(|total| (total.all(), Rowed::Task)));
        rows.extend(self.families.iter().flat_map(Counts::views).map(|view| (view, Rowed::Pair)));
        rows.extend(self.controls.iter().flat_map(ControlCounts::views).map(|view| (view, Rowed::Pair)));
        rows
    }

    /// How many words of these are of `replicates`, which are one experiment's: as many as its pairs alone would have.
    /// `before` are the pairs of the round before.
    pub fn words_of(&self, replicates: &Range<usize>, before: &[Pair]) -> usize {
        let (pairs, plan) = (&self.sets.pairs, &self.plan);
        let own = |pair: &Pair| replicates.contains(&pair.replicate);
        let couples = |list: &Couples, of: &[Pair]| {
            let own = list.iter().filter(|(_, first, _)| own(&of[*first as usize % of.len()])).count();
            (own, list.len())
        };
        let pair = (pairs.iter().filter(|pair| own(pair)).count(), pairs.len());
        let (within, across) = (couples(&plan.within, pairs), couples(&plan.across, before));
        let task = (plan.all.tasks_of(replicates), plan.all.tasks_of(&(0..usize::MAX)));
        // An empty buffer has one word.
        let share = |(view, rowed): (View<'_>, Rowed)| {
            let (own, all) = match rowed {
                Rowed::Pair => pair,
                Rowed::Within => within,
                Rowed::Across => across,
                Rowed::Task => task,
            };
            (view.words / all.max(1) * own).max(1)
        };
        if pair.0 == 0 { 0 } else { self.rows().into_iter().map(share).sum() }
    }
}

/// The members of `pairs`, which go by member.
fn studied(pairs: &[Pair]) -> Vec<usize> {
    let mut members: Vec<usize> = pairs.iter().map(|pair| pair.member).collect();
    members.dedup();
    members
}

/// The surviving connections, `[models][E]`, of `weights`, `[models][P]`.
fn connections(device: &dyn Device, models: usize, weights: View<'_>, layout: &EdgeLayout) -> Result<Buffer> {
    let bits = device.alloc("surviving connections of models", models * layout.words)?;
    edge_bits(device, models, weights.words / models, weights, layout.weight_table.all(), bits.all())?;
    Ok(bits)
}

/// How circuits lie in words.
#[derive(Clone, Copy)]
pub(super) struct Layouts<'a> {
    pub masks: &'a MaskLayout,
    pub edges: &'a EdgeLayout,
    pub gate_words: usize,
    pub classes: usize,
}

type Couples = [(Comparison, u32, u32)];

fn count(
    device: &dyn Device,
    couples: &Couples,
    a: &Sets,
    b: &Sets,
    sizes: &Layouts<'_>,
    out: &[Buffer],
) -> Result<()> {
    if couples.is_empty() {
        return Ok(());
    }
    let rows: Vec<u32> = couples.iter().flat_map(|(_, a, b)| [*a, *b]).collect();
    let rows = upload(device, "couples", &rows)?;
    let nodes = sizes.masks.layer_table.all();
    overlap(device, sizes.masks.words, a.masks.all(), b.masks.all(), rows.all(), nodes, out[0].all())?;
    let edges = sizes.edges.layer_table.all();
    overlap(device, sizes.edges.words, a.edges.all(), b.edges.all(), rows.all(), edges, out[1].all())
}

#[cfg(test)]
mod tests;
