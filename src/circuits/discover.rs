//! Finding a circuit: one gate a channel, learned with frozen weights (the paper, "Circuit discovery").
//!
//! Each gate logit g starts at 2. Forward, the channel before its activation is multiplied by `1[g > 0]`; backward, the
//! gradient passes as if by sigmoid(g). The loss is the mean cross-entropy on images of the class plus
//! `l0 * sum sigmoid(g)`. Every pair is a slot of the batch; slots share the weights of their client.

use std::collections::HashSet;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::fill::{self, Fills};
use super::laboratory::all_open;
use super::pair::Pair;
use super::subject::Subject;
use crate::config::Circuits;
use crate::device::{Buffer, Device, within};
use crate::error::Result;
use crate::federation::{Orders, Pulse, Stage, upload};
use crate::kernels::cross_entropy::{self, cross_entropy};
use crate::kernels::gate_step::{self, gate_step};
use crate::model::{Depth, Rows, Weights};
use crate::rng::{NO_ROUND, Purpose, stream};

/// Where the gates start.
const FIRST_LOGIT: f32 = 2.0;

/// What the slots of a search are shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// For each slot and step, training examples.
    pub batches: Vec<Vec<Vec<u32>>>,
    /// Of each slot, the class that its images are to be called.
    pub targets: Vec<u32>,
}

/// What the circuits of the subject's pairs are looked for with: for each step, the images of the pair's class among the
/// first batch of the client's shuffled examples that has any, as the paper's code makes its loader anew in every step.
pub(super) fn shown(subject: &Subject<'_>, circuits: &Circuits, batch_size: usize) -> Shown {
    let batches = subject.pairs.iter().map(|pair| batches(subject, circuits, batch_size, pair)).collect();
    Shown { batches, targets: subject.classes() }
}

fn batches(subject: &Subject<'_>, circuits: &Circuits, batch_size: usize, pair: &Pair) -> Vec<Vec<u32>> {
    let examples = subject.member(pair).examples.get();
    let (seed, who) = (subject.seed(circuits, pair), subject.draw_key(pair));
    let mut rng = stream(seed, subject.round as u64, who, subject.purpose);
    let labels = &subject.stage.train.host_labels;
    let of_class = |e: &u32| u32::from(labels[*e as usize]) == pair.class;
    let mut order = examples.to_vec();
    let mut draw = |wanted: &dyn Fn(&u32) -> bool| -> Vec<Vec<u32>> {
        (0..circuits.steps).map(|_| first_batch_with(&mut order, batch_size, &mut rng, wanted)).collect()
    };
    if subject.purpose == Purpose::Permuted {
        // Labels permuted among the client's examples: as many carry the class, whatever they show. A bootstrap client
        // has some more than once: those are one here, or far more of what it sees would carry the class.
        let mut seen = HashSet::new();
        let mut mixed: Vec<u32> = examples.iter().copied().filter(|e| seen.insert(*e)).collect();
        let count = mixed.iter().filter(|e| of_class(e)).count();
        mixed.shuffle(&mut stream(seed, NO_ROUND, who, Purpose::Permuted));
        let renamed: HashSet<u32> = mixed[..count].iter().copied().collect();
        return draw(&|e| renamed.contains(e));
    }
    draw(&of_class)
}

/// Shuffles `order` batch by batch until a batch holds a wanted example, and returns the wanted ones of that batch.
///
/// The shuffle continues on the last step's order: a Fisher-Yates shuffle is uniform from wherever it starts.
fn first_batch_with(
    order: &mut [u32],
    batch_size: usize,
    rng: &mut ChaCha8Rng,
    wanted: impl Fn(&u32) -> bool,
) -> Vec<u32> {
    let mut start = 0;
    while start < order.len() {
        let end = (start + batch_size).min(order.len());
        for i in start..end {
            order.swap(i, rng.random_range(i..order.len()));
        }
        let found: Vec<u32> = order[start..end].iter().copied().filter(&wanted).collect();
        if !found.is_empty() {
            return found;
        }
        start = end;
    }
    Vec::new()
}

/// Words of one slot's search, in all and in its largest buffer, for batches of at most `stride` images.
pub fn search_words(stage: Stage<'_>, circuits: &Circuits, stride: usize) -> (usize, usize) {
    let (space, largest) = stage.network.workspace_words(stride, Depth::Gates);
    let ablation = fill::learned_by(stage.network, circuits.ablation);
    let (more, widest) = fill::words(stage, ablation, stride, circuits.steps);
    let orders = circuits.steps * stride;
    (space + more + orders + 7 * stage.network.layout.gate_words, largest.max(widest).max(orders))
}

/// Gates at the end of a search.
#[derive(Debug)]
pub struct LearnedGates {
    /// `[slots][G]`.
    pub logits: Buffer,
    /// `[slots][G]`: 1 where the logit is positive, else 0.
    pub hard: Buffer,
}

/// Learns the gates of all slots at once. Slot s uses row `rows[s]` of `weights`, `[rows][P]`, and what closed channels
/// give is that of pair s of `fills`.
///
/// # Errors
/// What the device says, and [`crate::Error::Interrupted`].
pub fn learn_gates(
    stage: Stage<'_>,
    circuits: &Circuits,
    weights: Weights<'_>,
    rows: &Buffer,
    shown: &Shown,
    fills: &Fills,
    pulse: &mut Pulse<'_>,
) -> Result<LearnedGates> {
    let (device, network) = (stage.device, stage.network);
    let (slots, width) = (shown.batches.len(), network.layout.gate_words);
    let stride = shown.stride();
    let orders = Orders::upload(device, &shown.batches, stride)?;
    let targets = shown.upload_targets(device, stride)?;
    let pass = fills.ready_to_learn(stage, &(0..slots).collect::<Vec<_>>(), &shown.batches, stride)?;
    let space = network.workspace(device, slots, stride, Depth::Gates)?;
    let gates = |label: &str| device.alloc(label, slots * width);
    let (logits, first, second) = (gates("gate logits")?, gates("first moments")?, gates("second moments")?);
    let (grads, shown) = (gates("gate gradients")?, gates("gates of a pass")?);
    let stats = device.alloc("losses", 2 * slots)?;
    device.write(logits.all(), &vec![FIRST_LOGIT.to_bits(); slots * width])?;
    let from = Rows { weights, rows: rows.all(), counts: orders.counts.all() };
    // What channels reach is asked once, with all gates open: those that reach nothing feel the price of a gate alone, and are
    // among the first to close.
    let (hard, reaching) = (all_open(device, slots * width)?, all_open(device, slots * width)?);
    pass.reach(stage, slots, from, reaching.all())?;
    device.copy(reaching.all(), shown.all())?;
    let loss = cross_entropy::Buffers {
        logits: space.logits(),
        targets: targets.all(),
        counts: from.counts,
        grad: space.logits_grad(),
        stats: stats.all(),
    };
    let gates = gate_step::Buffers {
        gate_grads: grads.all(),
        reaching: reaching.all(),
        logits: logits.all(),
        first: first.all(),
        second: second.all(),
        hard: hard.all(),
        shown: shown.all(),
    };
    for step in 0..orders.steps {
        let batch = orders.batch(step, slots);
        within(device, || {
            stage.train.gather(device, &orders, step, batch, &space)?;
            pass.forward(stage, &space, (step, batch), from, shown.all())?;
            cross_entropy(device, batch, network.classes, 0, &loss)?;
            pass.backward(stage, &space, batch, from, shown.all(), grads.all())?;
            gate_step(device, circuits.lr, step as u32 + 1, circuits.l0, &gates)
        })?;
        pulse.beat(slots)?;
    }
    Ok(LearnedGates { logits, hard })
}

impl Shown {
    /// B: images of the largest batch, padded.
    pub(super) fn stride(&self) -> usize {
        self.batches.iter().flatten().map(Vec::len).max().unwrap_or(1).max(1).next_multiple_of(4)
    }

    /// `[slots][B]`: the classes that the images are to be called, of all images alike.
    pub(super) fn upload_targets(&self, device: &dyn Device, stride: usize) -> Result<Buffer> {
        let all: Vec<u32> = self.targets.iter().flat_map(|class| vec![*class; stride]).collect();
        upload(device, "classes to find", &all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_holds_the_wanted_examples_of_the_first_batch_that_has_any() {
        let mut rng = stream(1, 1, 1, Purpose::Discovery);
        let mut order: Vec<u32> = (0..1000).collect();
        let mut seen = vec![0u32; 1000];
        for _ in 0..400 {
            let found = first_batch_with(&mut order, 100, &mut rng, |e| e % 10 == 0);
            assert!(!found.is_empty() && found.iter().all(|e| e % 10 == 0));
            found.iter().for_each(|e| seen[*e as usize] += 1);
        }
        // 400 batches of a tenth of the examples: each wanted one is expected 40 times, give or take 6.
        assert!(seen.iter().step_by(10).all(|n| (15..70).contains(n)), "{seen:?}");
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_rare_class_is_found_in_a_later_batch_and_an_absent_one_not_at_all() {
        let mut rng = stream(2, 1, 1, Purpose::Discovery);
        let mut order: Vec<u32> = (0..95).collect();
        assert_eq!(first_batch_with(&mut order, 10, &mut rng, |e| *e == 77), [77]);
        assert!(first_batch_with(&mut order, 10, &mut rng, |_| false).is_empty());
    }
}
