//! Finding circuits by the configured method: learned gates, or channels cut by rank.
//!
//! The two cheap baselines rank channels once and cut at a given size. Attribution estimates to first order by how much
//! the loss changes without a channel, |sum of activation times gradient| (Molchanov et al., "Pruning Convolutional Neural
//! Networks for Resource Efficient Inference", 2017), which is |dL/dm| at open gates; magnitude is the L1 norm of the
//! channel's filter (Li et al., 2017).

use super::discover::{LearnedGates, Shown, learn_gates, shown};
use super::fill::Fills;
use super::subject::Subject;
use crate::config::{CircuitSize, Circuits, Method};
use crate::device::{Buffer, Device, within};
use crate::error::Result;
use crate::federation::{Orders, Pulse, upload};
use crate::kernels::accumulate::{self, accumulate};
use crate::kernels::cross_entropy::{self, cross_entropy};
use crate::kernels::filter_norm::filter_norm;
use crate::kernels::rank_keys::{Ranking, rank_keys};
use crate::kernels::ranked_gates::{Spans, ranked_gates};
use crate::kernels::shape;
use crate::model::{Depth, Network, Rows, Wants};

/// Minibatches over which attribution is averaged.
const ATTRIBUTION_BATCHES: usize = 20;

/// The circuits of some slots.
#[derive(Debug)]
pub(super) struct Found {
    /// `[slots][G]`: 1 where a channel is kept, else 0.
    pub hard: Buffer,
    /// `[slots][G]`: the lower, the higher the method ranks the channel.
    pub keys: Buffer,
}

/// Finds circuits by the configured method.
#[derive(Debug)]
pub(super) struct Finder {
    circuits: Circuits,
    batch_size: usize,
    /// `[G][2]`: first gate and gates of a gate's layer.
    pub layers: Buffer,
    /// `[G][2]`: first word and words of a gate's filter.
    filters: Buffer,
    /// `[G]`: as many gates open in every layer as the configured share says.
    share: Option<Buffer>,
}

impl Finder {
    pub fn new(device: &dyn Device, network: &Network, circuits: &Circuits, batch_size: usize) -> Result<Self> {
        let (layout, mut filters) = (&network.layout, Vec::new());
        for range in &layout.gates {
            let (at, fan_in) = (layout.place(range.layer).weights_at, network.layers[range.layer].fan_in());
            filters.extend((0..range.channels).flat_map(|c| [(at + c * fan_in) as u32, fan_in as u32]));
        }
        let layers: Vec<u32> =
            layout.gates.iter().flat_map(|g| [g.at as u32, g.channels as u32].repeat(g.channels)).collect();
        let share = match circuits.size {
            CircuitSize::Gates => None,
            CircuitSize::Share(share) => Some(upload(device, "size of circuits", &cut_at(network, share))?),
        };
        Ok(Self {
            circuits: circuits.clone(),
            batch_size,
            layers: upload(device, "layers of gates", &layers)?,
            filters: upload(device, "filters of gates", &filters)?,
            share,
        })
    }

    /// Steps of one search, for the progress bar.
    pub fn steps(circuits: &Circuits) -> usize {
        let learned = circuits.method == Method::Gates || circuits.size == CircuitSize::Gates;
        let attributed = if circuits.method == Method::Attribution { ATTRIBUTION_BATCHES } else { 0 };
        circuits.steps * usize::from(learned) + attributed.min(circuits.steps)
    }

    /// The circuits of the subject's pairs, whose closed channels give what `fills` says.
    pub fn find(&self, subject: &Subject<'_>, fills: &Fills, pulse: &mut Pulse<'_>) -> Result<Found> {
        let (device, circuits) = (subject.stage.device, &self.circuits);
        let shown = shown(subject, circuits, self.batch_size);
        let rows = upload(device, "rows", &subject.rows())?;
        let learn = |pulse: &mut _| learn_gates(subject.stage, circuits, subject.weights, &rows, &shown, fills, pulse);
        let words = subject.pairs.len() * subject.stage.network.layout.gate_words;
        let keys = device.alloc("ranks of channels", words)?;
        if circuits.method == Method::Gates {
            let LearnedGates { logits, hard } = learn(pulse)?;
            rank_keys(device, Ranking::Signed, logits.all(), keys.all())?;
            return Ok(Found { hard, keys });
        }
        let sizes = match &self.share {
            Some(share) => share.clone(),
            None => learn(pulse)?.hard,
        };
        let scores = match circuits.method {
            Method::Attribution => self.attribute(subject, &rows, &shown, pulse)?,
            _ => self.magnitude(subject, &rows)?,
        };
        rank_keys(device, Ranking::Absolute, scores.view(0, words), keys.all())?;
        Ok(Found { hard: self.cut(device, &sizes, &keys)?, keys })
    }

    /// Circuits as large as those in `sizes`, of the channels that rank highest.
    fn cut(&self, device: &dyn Device, sizes: &Buffer, keys: &Buffer) -> Result<Buffer> {
        let hard = device.alloc("circuits by rank", keys.words())?;
        let spans = Spans { circuit: 1, keys: 1 };
        ranked_gates(device, spans, sizes.all(), keys.all(), self.layers.all(), hard.all())?;
        Ok(hard)
    }

    fn magnitude(&self, subject: &Subject<'_>, rows: &Buffer) -> Result<Buffer> {
        let (device, layout) = (subject.stage.device, &subject.stage.network.layout);
        let scores = device.alloc("filter norms", rows.words() * layout.gate_words)?;
        let models = shape::Rows { slots: subject.weights.values.words / layout.words, words: layout.words };
        filter_norm(device, models, subject.weights.values, rows.all(), self.filters.all(), scores.all())?;
        Ok(scores)
    }

    /// The sum over some minibatches of dL/dm at open gates, whose size is the attribution.
    fn attribute(&self, subject: &Subject<'_>, rows: &Buffer, shown: &Shown, pulse: &mut Pulse<'_>) -> Result<Buffer> {
        let stage = subject.stage;
        let (device, network, slots) = (stage.device, stage.network, rows.words());
        let stride = shown.stride();
        let orders = Orders::upload(device, &shown.batches, stride)?;
        let targets = shown.upload_targets(device, stride)?;
        let space = network.workspace(device, slots, stride, Depth::Gates)?;
        // Sums run over whole vec4s.
        let words = (slots * network.layout.gate_words).next_multiple_of(4);
        let (grads, sum) = (device.alloc("gate gradients", words)?, device.alloc("attributions", words)?);
        let stats = device.alloc("losses", 2 * slots)?;
        let open = super::laboratory::all_open(device, slots * network.layout.gate_words)?;
        let wants = Wants::Gates { hard: open.all(), grads: grads.all() };
        // One row is added to one sum, as it is.
        let one = upload(device, "scale", &[1.0f32.to_bits()])?;
        let (starts, slot) = (upload(device, "bounds of the sum", &[0, 1])?, upload(device, "row to add", &[0])?);
        let adding = accumulate::Buffers {
            rows: grads.all(),
            scales: one.all(),
            starts: starts.all(),
            slots: slot.all(),
            sums: sum.all(),
        };
        let from = Rows { weights: subject.weights, rows: rows.all(), counts: orders.counts.all() };
        let loss = cross_entropy::Buffers {
            logits: space.logits(),
            targets: targets.all(),
            counts: from.counts,
            grad: space.logits_grad(),
            stats: stats.all(),
        };
        for step in 0..orders.steps.min(ATTRIBUTION_BATCHES) {
            let batch = orders.batch(step, slots);
            within(device, || {
                stage.train.gather(device, &orders, step, batch, &space)?;
                network.forward(device, &space, batch, from, None)?;
                cross_entropy(device, batch, network.classes, 0, &loss)?;
                network.backward(device, &space, batch, from, wants)?;
                accumulate(device, words, &adding)
            })?;
            pulse.beat(slots)?;
        }
        Ok(sum)
    }
}

/// `[G]` hard gates of which every layer has a share open, rounded up: a size to cut circuits at.
pub(super) fn cut_at(network: &Network, share: f64) -> Vec<u32> {
    // 0.07 * 100 is a little above 7 in floating point, and means 7.
    let open = |channels: usize| ((share * channels as f64 * (1.0 - 1e-12)).ceil() as usize).clamp(1, channels);
    let layer = |channels: usize| (0..channels).map(move |c| if c < open(channels) { 1.0f32 } else { 0.0 }.to_bits());
    network.layout.gates.iter().flat_map(|g| layer(g.channels)).collect()
}
