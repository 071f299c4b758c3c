//! A network put together from circuits (the paper, "cascade"): each channel is the mean of the clients whose local
//! circuits use it, and each class's row of the last layer comes from its specialist, cut down to the circuit's channels.

use serde::Serialize;

use super::ensemble::Right;
use super::evaluate::winner;
use super::{Expert, Found, Scene, union};
use crate::error::Result;
use crate::model::Layout;

/// The assembled network against the global model, both choosing among the same classes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cascade {
    /// The classes that have a circuit, among which is chosen.
    pub classes: Vec<u32>,
    /// Clients whose circuits give channels.
    pub clients: usize,
    /// Channels that some circuit uses, of each gated layer; the others are zero.
    #[serde(serialize_with = "super::as_map")]
    pub channels: Vec<(String, usize)>,
    /// Test images of these classes.
    pub images: usize,
    /// Share of them that the assembled network gets right.
    pub cascade_accuracy: f64,
    /// Share of them that the global model gets right, choosing among these classes only.
    pub global_accuracy: f64,
    /// By class, of `cascade.csv`.
    #[serde(skip)]
    pub rows: Vec<CascadeRow>,
}

/// One class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CascadeRow {
    /// The class.
    pub class: u32,
    /// Its specialist.
    pub client: usize,
    /// Its test images.
    pub images: usize,
    /// Share of them that the assembled network gets right.
    pub cascade_accuracy: Option<f64>,
    /// Share of them that the global model gets right.
    pub global_accuracy: Option<f64>,
}

pub(super) fn run(scene: &Scene<'_>) -> Result<Found<Cascade>> {
    let experts = match scene.rivals() {
        Ok(experts) => experts,
        Err(why) => return Ok(Err(why)),
    };
    let contested = scene.contested(experts);
    if contested.is_empty() {
        return Ok(Err("no class with a circuit has test images".into()));
    }
    let (pairs, layout) = (scene.subject.pairs, &scene.subject.stage.network.layout);
    let mut clients: Vec<usize> = pairs.iter().map(|p| p.client).collect();
    clients.dedup();
    let mut assembly = Assembly::new(layout);
    scene.local_weights(&clients, |client, row| {
        let own = union(layout.gates.len(), pairs.iter().filter(|p| p.client == client).map(|p| &p.local));
        assembly.add_channels(&own, row);
        experts.iter().filter(|e| e.client == client).for_each(|e| assembly.set_class(e, row));
    })?;
    let users = layout.gates.iter().map(|g| assembly.users[g.at..g.at + g.channels].iter().filter(|n| **n > 0).count());
    let channels = scene.gated().map(String::from).zip(users).collect();
    let images: Vec<u32> = contested.iter().map(|(_, image)| *image).collect();
    let logits = scene.evaluator.logits_of(&[assembly.finish()], &images)?.remove(0);
    let vote = |i: usize| winner(experts.iter().map(|e| logits[i * scene.classes() + e.class as usize]));
    let right = Right::count(scene, experts, &contested, vote);
    let rows = right.accuracies(experts).map(|(class, client, images, cascade_accuracy, global_accuracy)| CascadeRow {
        class,
        client,
        images,
        cascade_accuracy,
        global_accuracy,
    });
    let (cascade_accuracy, global_accuracy) = right.overall();
    Ok(Ok(Cascade {
        classes: experts.iter().map(|e| e.class).collect(),
        clients: clients.len(),
        channels,
        images: images.len(),
        cascade_accuracy,
        global_accuracy,
        rows: rows.collect(),
    }))
}

/// A row of parameters being put together.
struct Assembly<'a> {
    layout: &'a Layout,
    sums: Vec<f64>,
    /// `[G]`: clients whose circuits use a channel.
    users: Vec<u32>,
}

impl<'a> Assembly<'a> {
    fn new(layout: &'a Layout) -> Self {
        Self { layout, sums: vec![0.0; layout.words], users: vec![0; layout.gate_words] }
    }

    /// Adds the given channels, weights and biases, of a client's row.
    fn add_channels(&mut self, channels: &[Vec<u32>], row: &[f32]) {
        for (range, channels) in self.layout.gates.iter().zip(channels) {
            let (weight, bias) = (&self.layout.tensors[2 * range.layer], &self.layout.tensors[2 * range.layer + 1]);
            for channel in channels.iter().map(|c| *c as usize) {
                self.users[range.at + channel] += 1;
                let at = weight.at + channel * weight.fan_in;
                for i in (at..at + weight.fan_in).chain([bias.at + channel]) {
                    self.sums[i] += f64::from(row[i]);
                }
            }
        }
    }

    /// Takes a class's row of the last layer from its specialist: the columns of the circuit's last channels, and the bias.
    fn set_class(&mut self, expert: &Expert<'_>, row: &[f32]) {
        let [.., weight, bias] = &self.layout.tensors[..] else { return };
        let class = expert.class as usize;
        let pixels = self.layout.gates.last().map_or(1, |g| weight.fan_in / g.channels);
        let channels = expert.circuit.channels.last().map(Vec::as_slice).unwrap_or_default();
        for channel in channels {
            let at = weight.at + class * weight.fan_in + *channel as usize * pixels;
            (at..at + pixels).for_each(|i| self.sums[i] = f64::from(row[i]));
        }
        self.sums[bias.at + class] = f64::from(row[bias.at + class]);
    }

    /// The means over each channel's users.
    fn finish(self) -> Vec<f32> {
        let mut row: Vec<f32> = self.sums.iter().map(|sum| *sum as f32).collect();
        for range in &self.layout.gates {
            let (weight, bias) = (&self.layout.tensors[2 * range.layer], &self.layout.tensors[2 * range.layer + 1]);
            for channel in 0..range.channels {
                let users = f64::from(self.users[range.at + channel].max(1));
                let at = weight.at + channel * weight.fan_in;
                for i in (at..at + weight.fan_in).chain([bias.at + channel]) {
                    row[i] = (self.sums[i] / users) as f32;
                }
            }
        }
        row
    }
}
