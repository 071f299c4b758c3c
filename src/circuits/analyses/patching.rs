//! Activation patching (the paper, "patching"): on test images that the global model gets wrong, one channel, or a whole
//! layer, takes the values it has in the model of the class's specialist. How many images come right?

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::answers::evenly;
use super::evaluate::winner;
use super::{Found, LocalModel, Scene, share};
use crate::device::{Buffer, View};
use crate::error::Result;
use crate::federation::{Orders, Pulse, Stage, slots_that_fit, upload};
use crate::kernels::confusion::{self, confusion};
use crate::kernels::patch_channels::{self, patch_channels};
use crate::kernels::shape::{Batch, Gates};
use crate::model::{Depth, Rows, Workspace};

/// Misclassified images of a class that are patched, at most: evenly taken.
const IMAGES: usize = 50;
/// Channels that are patched one by one, at most: those with most users.
const CHANNELS: usize = 64;

/// How often a patch put the global model right.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Patching {
    /// Misclassified images of a class that were patched, at most.
    pub images_per_class: usize,
    /// Channels that circuits of two clients or more use in the global model.
    pub shared_channels: usize,
    /// Of them, those patched one by one: the ones with most users.
    pub channels_tried: usize,
    /// Classes with misclassified test images and a specialist.
    pub classes: Vec<u32>,
    /// By gated layer.
    pub layers: Vec<LayerRescues>,
    /// By patch and class, of `patching.csv`.
    #[serde(skip)]
    pub rows: Vec<PatchRow>,
}

/// A gated layer, over all classes. An image counts once for every patch that was tried on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LayerRescues {
    /// Its name.
    pub layer: String,
    /// Images times single channels tried.
    pub channel_trials: usize,
    /// How often the patch made an image right.
    pub channel_rescued: usize,
    /// Their ratio; undefined where no channel of the layer was tried.
    pub channel_rate: Option<f64>,
    /// Images on which the whole layer was tried.
    pub layer_trials: usize,
    /// Images it made right.
    pub layer_rescued: usize,
    /// Their ratio.
    pub layer_rate: Option<f64>,
}

/// One patch on one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PatchRow {
    /// The gated layer.
    pub layer: String,
    /// The channel; empty for the whole layer.
    pub channel: Option<u32>,
    /// The class of the images.
    pub class: u32,
    /// Clients whose circuits use the channel in the global model; empty for the whole layer.
    pub users: Option<usize>,
    /// The class's specialist, from whose model the values come.
    pub source_client: usize,
    /// Misclassified images tried.
    pub images: usize,
    /// Images that came right.
    pub rescued: usize,
    /// Their ratio.
    pub rescue_rate: f64,
}

/// What is patched: a channel of a gated layer with its users, or all of the layer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Patch {
    layer: usize,
    channel: Option<(u32, usize)>,
}

pub(super) fn run(scene: &Scene<'_>, pulse: &mut Pulse<'_>) -> Result<Found<Patching>> {
    let clients = scene.subject.locals.len();
    if clients < 2 {
        let took_part = if clients == 0 { "no client" } else { "1 client" };
        return Ok(Err(format!("{took_part} took part in the last round: no circuits of two can share a channel")));
    }
    let shared = shared_channels(scene);
    if shared.is_empty() {
        return Ok(Err("no channel is in circuits of two clients in the global model".into()));
    }
    let wrong: Vec<(u32, LocalModel<'_>, Vec<u32>)> = scene
        .specialists
        .iter()
        .map(|(class, source)| (*class, *source, evenly(&misclassified(scene, *class), IMAGES)))
        .filter(|(.., images)| !images.is_empty())
        .collect();
    if wrong.is_empty() {
        return Ok(Err("the global model gets every test image of the clients' classes right".into()));
    }
    let gated = scene.subject.stage.network.layout.gates.len();
    let mut patches = shared[..shared.len().min(CHANNELS)].to_vec();
    patches.extend((0..gated).map(|layer| Patch { layer, channel: None }));
    let mut counted = Vec::new();
    for (class, source, images) in &wrong {
        let trial = Trial::new(scene, source, images)?;
        for part in patches.chunks(trial.fitting(patches.len())?) {
            counted.push((*class, source.client, images.len(), part, trial.count(scene, part)?));
            pulse.beat(0)?;
        }
    }
    let views: Vec<View<'_>> = counted.iter().map(|(.., counters)| counters.all()).collect();
    let read = pollster::block_on(scene.subject.stage.device.read(&views))?;
    let names: Vec<&str> = scene.gated().collect();
    let cells = scene.classes() * scene.classes();
    let mut rows = Vec::new();
    for ((class, source_client, images, part, _), counters) in counted.iter().zip(&read) {
        let right = *class as usize * (scene.classes() + 1);
        rows.extend(part.iter().zip(counters.chunks_exact(cells)).map(|(patch, counters)| PatchRow {
            layer: names[patch.layer].into(),
            channel: patch.channel.map(|(channel, _)| channel),
            class: *class,
            users: patch.channel.map(|(_, users)| users),
            source_client: *source_client,
            images: *images,
            rescued: counters[right] as usize,
            rescue_rate: f64::from(counters[right]) / *images as f64,
        }));
    }
    Ok(Ok(Patching {
        images_per_class: IMAGES,
        shared_channels: shared.len(),
        channels_tried: shared.len().min(CHANNELS),
        classes: wrong.iter().map(|(class, ..)| *class).collect(),
        layers: names.iter().map(|name| by_layer(name, &rows)).collect(),
        rows,
    }))
}

/// The channels that circuits of two clients or more use in the global model, most users first.
fn shared_channels(scene: &Scene<'_>) -> Vec<Patch> {
    let mut users: BTreeMap<(usize, u32), Vec<usize>> = BTreeMap::new();
    for pair in scene.subject.pairs {
        for (layer, channels) in pair.global.channels.iter().enumerate() {
            for channel in channels {
                let clients = users.entry((layer, *channel)).or_default();
                // Pairs come by client.
                if clients.last() != Some(&pair.client) {
                    clients.push(pair.client);
                }
            }
        }
    }
    let shared = users.into_iter().filter(|(_, clients)| clients.len() > 1);
    let mut shared: Vec<Patch> =
        shared.map(|((layer, channel), clients)| Patch { layer, channel: Some((channel, clients.len())) }).collect();
    // Stable: by layer and channel among equals.
    shared.sort_by_key(|patch| std::cmp::Reverse(patch.channel.map(|(_, users)| users)));
    shared
}

/// Test images of the class that the global model calls something else.
fn misclassified(scene: &Scene<'_>, class: u32) -> Vec<u32> {
    let guess = |image: &&u32| winner(scene.global_logits(**image).iter().copied()) != class as usize;
    scene.images[class as usize].iter().filter(guess).copied().collect()
}

fn by_layer(name: &str, rows: &[PatchRow]) -> LayerRescues {
    let sum = |whole: bool, part: fn(&PatchRow) -> usize| -> usize {
        rows.iter().filter(|row| row.layer == name && row.channel.is_none() == whole).map(part).sum()
    };
    let [trials, rescued] = [sum(false, |r| r.images), sum(false, |r| r.rescued)];
    let [whole, whole_rescued] = [sum(true, |r| r.images), sum(true, |r| r.rescued)];
    LayerRescues {
        layer: name.into(),
        channel_trials: trials,
        channel_rescued: rescued,
        channel_rate: share(rescued, trials),
        layer_trials: whole,
        layer_rescued: whole_rescued,
        layer_rate: share(whole_rescued, whole),
    }
}

/// Some images of a class, with the specialist's model ready to give its values on them.
struct Trial<'a> {
    stage: Stage<'a>,
    source: &'a LocalModel<'a>,
    images: &'a [u32],
    stride: usize,
    orders: Orders,
    row: Buffer,
    space: Workspace,
}

impl<'a> Trial<'a> {
    fn new(scene: &Scene<'a>, source: &'a LocalModel<'a>, images: &'a [u32]) -> Result<Self> {
        let stage = scene.subject.stage;
        let stride = images.len().next_multiple_of(4);
        Ok(Self {
            orders: Orders::upload(stage.device, &[vec![images.to_vec()]], stride)?,
            row: upload(stage.device, "row", &[source.row as u32])?,
            space: stage.network.workspace(stage.device, 1, stride, Depth::Forward)?,
            stage,
            source,
            images,
            stride,
        })
    }

    /// How many of `wanted` patches fit the device at once.
    fn fitting(&self, wanted: usize) -> Result<usize> {
        let (space, largest) = self.stage.network.workspace_words(self.stride, Depth::Forward);
        let total = space + self.stride + self.stage.network.layout.gate_words;
        slots_that_fit(self.stage.budget, wanted, total, largest, "one patched model")
    }

    /// Counts the global model's predictions under each patch: `[patches][classes][classes]`.
    fn count(&self, scene: &Scene<'_>, patches: &[Patch]) -> Result<Buffer> {
        let Stage { device, network, test, .. } = self.stage;
        let slots = patches.len();
        let orders = Orders::upload(device, &vec![vec![self.images.to_vec()]; slots], self.stride)?;
        let space = network.workspace(device, slots, self.stride, Depth::Forward)?;
        let zeros = device.alloc("rows", slots)?;
        let gates: Vec<u32> = patches.iter().flat_map(|p| self.gates(*p)).map(f32::to_bits).collect();
        let gates = upload(device, "patches", &gates)?;
        let donor =
            Rows { weights: self.source.weights.into(), rows: self.row.all(), counts: self.orders.counts.all() };
        let taker = Rows { weights: scene.subject.global.all().into(), rows: zeros.all(), counts: orders.counts.all() };
        let (one, batch) = (self.orders.batch(0, 1), orders.batch(0, slots));
        test.gather(device, &self.orders, 0, one, &self.space)?;
        test.gather(device, &orders, 0, batch, &space)?;
        for layer in 0..network.layers.len() {
            network.forward_layer(device, &self.space, one, donor, None, layer)?;
            network.forward_layer(device, &space, batch, taker, None, layer)?;
            self.patch(layer, &space, zeros.all(), gates.all())?;
        }
        self.predictions(&space, batch, &orders)
    }

    /// Lets the gated channels of a layer take the specialist's values.
    fn patch(&self, layer: usize, space: &Workspace, donors: View<'_>, values: View<'_>) -> Result<()> {
        let network = self.stage.network;
        let Some(range) = network.layout.gates_of(layer) else { return Ok(()) };
        let plane = network.layers[layer].sizes().1 / range.channels * self.stride;
        let buffers = patch_channels::Buffers {
            donor: self.space.output(layer),
            donors,
            gates: Gates { values, row_words: network.layout.gate_words, at: range.at },
            output: space.output(layer),
        };
        patch_channels(self.stage.device, range.channels, plane, &buffers)
    }

    fn predictions(&self, space: &Workspace, batch: Batch, orders: &Orders) -> Result<Buffer> {
        let Stage { device, network, .. } = self.stage;
        let counters =
            device.alloc("predictions of patched models", batch.slots * network.classes * network.classes)?;
        let losses = device.alloc("losses", batch.slots)?;
        let buffers = confusion::Buffers {
            logits: space.logits(),
            targets: space.targets.all(),
            counts: orders.counts.all(),
            counters: counters.all(),
            losses: losses.all(),
        };
        confusion(device, batch, network.classes, &buffers)?;
        Ok(counters)
    }

    /// 1 for the channels that the patch replaces.
    fn gates(&self, patch: Patch) -> Vec<f32> {
        let layout = &self.stage.network.layout;
        let range = &layout.gates[patch.layer];
        let mut gates = vec![0.0; layout.gate_words];
        match patch.channel {
            Some((channel, _)) => gates[range.at + channel as usize] = 1.0,
            None => gates[range.at..range.at + range.channels].fill(1.0),
        }
        gates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_counts_its_channels_and_the_whole_of_it_apart() {
        let row = |layer: &str, channel: Option<u32>, images: usize, rescued: usize| PatchRow {
            layer: layer.into(),
            channel,
            class: 3,
            users: channel.map(|_| 2),
            source_client: 1,
            images,
            rescued,
            rescue_rate: rescued as f64 / images as f64,
        };
        let rows = [
            row("conv1", Some(4), 10, 1),
            row("conv1", Some(6), 10, 4),
            row("conv2", Some(4), 10, 9),
            row("conv1", None, 10, 8),
            row("conv2", None, 5, 5),
        ];
        let want = LayerRescues {
            layer: "conv1".into(),
            channel_trials: 20,
            channel_rescued: 5,
            channel_rate: Some(0.25),
            layer_trials: 10,
            layer_rescued: 8,
            layer_rate: Some(0.8),
        };
        assert_eq!(by_layer("conv1", &rows), want);
        // Of a layer without shared channels, only the whole is tried.
        let whole = by_layer("conv2", &rows[4..]);
        assert_eq!((whole.channel_trials, whole.channel_rate, whole.layer_rate), (0, None, Some(1.0)));
    }
}
