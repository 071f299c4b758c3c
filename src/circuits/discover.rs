//! Finding a circuit: one gate a channel, learned with frozen weights (method.md, "Circuit discovery").
//!
//! Each gate logit g starts at 2. Forward, the channel before its ReLU is multiplied by 1[g > 0]; backward, the
//! gradient passes as if by sigmoid(g). The loss is the mean cross-entropy on images of the class plus
//! `l0 * sum sigmoid(g)`. Every pair is a slot of the batch; slots share the weights of their client.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::pair::{Model, Pair};
use crate::config::Circuits;
use crate::device::Buffer;
use crate::error::Result;
use crate::federation::{Orders, Pulse, Stage};
use crate::kernels::adam::Adam;
use crate::kernels::cross_entropy::{self, cross_entropy};
use crate::kernels::gate_step::{self, gate_step};
use crate::model::{Depth, Rows, Wants, Weights};
use crate::rng::{Purpose, stream};

/// Where the gates start.
const FIRST_LOGIT: f32 = 2.0;

/// Which minibatches a search draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub seed: u64,
    pub round: usize,
    pub model: Model,
    /// `Discovery`, or `Controls` for the search done again.
    pub purpose: Purpose,
}

/// The minibatches of one search: for each step, the images of the pair's class among the first batch of the client's
/// shuffled examples that has any (method.md: the loader is made anew in every step).
pub(super) fn batches(
    stage: Stage<'_>,
    circuits: &Circuits,
    batch_size: usize,
    key: Key,
    pair: &Pair,
    examples: &[u32],
) -> Vec<Vec<u32>> {
    let who = (pair.client as u64) << 17 | u64::from(pair.class) << 1 | key.model as u64;
    let mut rng = stream(key.seed, key.round as u64, who, key.purpose);
    let labels = &stage.train.host_labels;
    let mut order = examples.to_vec();
    let wanted = |e: &u32| u32::from(labels[*e as usize]) == pair.class;
    (0..circuits.steps).map(|_| first_batch_with(&mut order, batch_size, &mut rng, wanted)).collect()
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
pub(super) fn words(stage: Stage<'_>, circuits: &Circuits, stride: usize) -> (usize, usize) {
    let (space, largest) = stage.network.workspace_words(stride, Depth::Gates);
    let orders = circuits.steps * stride;
    (space + orders + 5 * stage.network.layout.gate_words, largest.max(orders))
}

/// Learns the gates of all slots at once and returns the hard gates, `[slots][G]`. Slot s uses row `rows[s]` of
/// `weights`, `[rows][P]`, and the minibatches `batches[s]`: for each step, training examples of its class.
///
/// # Errors
/// What the device says, and [`crate::Error::Interrupted`].
pub fn learn_gates(
    stage: Stage<'_>,
    circuits: &Circuits,
    weights: Weights<'_>,
    rows: &Buffer,
    batches: &[Vec<Vec<u32>>],
    pulse: &mut Pulse<'_>,
) -> Result<Buffer> {
    let (device, network) = (stage.device, stage.network);
    let (slots, width) = (batches.len(), network.layout.gate_words);
    let stride = batches.iter().flatten().map(Vec::len).max().unwrap_or(1).next_multiple_of(4);
    let orders = Orders::upload(device, batches, stride)?;
    let space = network.workspace(device, slots, stride, Depth::Gates)?;
    let gates = |label: &str| device.alloc(label, slots * width);
    let (logits, first, second) = (gates("gate logits")?, gates("first moments")?, gates("second moments")?);
    let (grads, hard) = (gates("gate gradients")?, gates("hard gates")?);
    let stats = device.alloc("losses", 2 * slots)?;
    device.write(logits.all(), &vec![FIRST_LOGIT.to_bits(); slots * width])?;
    device.write(hard.all(), &vec![1.0f32.to_bits(); slots * width])?;
    let from = Rows { weights, rows: rows.all(), counts: orders.counts.all() };
    for step in 0..orders.steps {
        let batch = orders.batch(step, slots);
        stage.train.gather(device, &orders, step, batch, &space)?;
        network.forward(device, &space, batch, from, Some(hard.all()))?;
        let loss = cross_entropy::Buffers {
            logits: space.logits(),
            targets: space.targets.all(),
            counts: from.counts,
            grad: space.logits_grad(),
            stats: stats.all(),
        };
        cross_entropy(device, batch, network.classes, 0, &loss)?;
        let wants = Wants::Gates { hard: hard.all(), grads: grads.all() };
        network.backward(device, &space, batch, from, wants)?;
        let gates = gate_step::Buffers {
            gate_grads: grads.all(),
            logits: logits.all(),
            first: first.all(),
            second: second.all(),
            hard: hard.all(),
        };
        gate_step(device, Adam::new(circuits.lr), step as u32 + 1, circuits.l0, &gates)?;
        pulse.beat(slots)?;
    }
    Ok(hard)
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
