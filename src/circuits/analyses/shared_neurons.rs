//! Shared channels (the paper, "shared_neurons-pairwise"): the channels that are in local circuits of both of two clients
//! are overwritten in the global model by those of one of them.

use serde::Serialize;

use super::evaluate::winner;
use super::{Found, Scene, union};
use crate::error::Result;

/// Clients of which every ordered pair is tried, at most.
const CLIENTS: usize = 5;

/// What taking the shared channels from one client did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SharedNeurons {
    /// The clients of which every ordered pair was tried: the lowest numbers that have circuits.
    pub clients: Vec<usize>,
    /// Clients with circuits that were not tried.
    pub clients_left_out: usize,
    /// Ordered pairs tried.
    pub pairs: usize,
    /// Ordered pairs whose circuits share no channel, which are not in the table.
    pub pairs_without_shared_channels: usize,
    /// By ordered pair and class, of `shared_neurons.csv`.
    #[serde(skip)]
    pub rows: Vec<SharedRow>,
}

/// One class under one overwritten model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SharedRow {
    /// Whose channels are put into the global model.
    pub from: usize,
    /// With whom they are shared.
    pub with: usize,
    /// Channels overwritten, of all layers.
    pub channels: usize,
    /// The class.
    pub class: u32,
    /// Its test images.
    pub images: usize,
    /// Share of them that the global model gets right.
    pub accuracy_before: f64,
    /// Share of them that the overwritten one gets right.
    pub accuracy_after: f64,
    /// After less before.
    pub change: f64,
}

pub(super) fn run(scene: &Scene<'_>) -> Result<Found<SharedNeurons>> {
    let (pairs, layout) = (scene.subject.pairs, &scene.subject.stage.network.layout);
    let mut clients: Vec<usize> = pairs.iter().map(|p| p.client).collect();
    clients.dedup();
    if clients.len() < 2 {
        let have = if clients.is_empty() { "no client has" } else { "1 client has" };
        return Ok(Err(format!("{have} circuits: it takes two")));
    }
    let left_out = clients.len().saturating_sub(CLIENTS);
    clients.truncate(CLIENTS);
    let circuits: Vec<_> = clients
        .iter()
        .map(|k| union(layout.gates.len(), pairs.iter().filter(|p| p.client == *k).map(|p| &p.local)))
        .collect();
    let global = scene.global_weights()?;
    let mut locals = Vec::new();
    scene.local_weights(&clients, |_, row| locals.push(row.to_vec()))?;
    let (mut tried, mut models) = (Vec::new(), Vec::new());
    for (i, own) in circuits.iter().enumerate() {
        for (j, other) in circuits.iter().enumerate().filter(|(j, _)| *j != i) {
            let both = own.iter().zip(other).map(|(a, b)| a.iter().copied().filter(|c| b.binary_search(c).is_ok()));
            let shared: Vec<Vec<u32>> = both.map(Iterator::collect).collect();
            let count: usize = shared.iter().map(Vec::len).sum();
            if count > 0 {
                tried.push((clients[i], clients[j], count));
                models.push(overwrite(layout, &global, &locals[i], &shared));
            }
        }
    }
    let all = clients.len() * (clients.len() - 1);
    if tried.is_empty() {
        return Ok(Err(format!("no two of the clients {clients:?} have a channel in circuits of both")));
    }
    let images = scene.images.concat();
    let logits = scene.evaluator.logits_of(&models, &images)?;
    let rows = tried.iter().zip(&logits).flat_map(|(tried, logits)| rows(scene, *tried, logits)).collect();
    Ok(Ok(SharedNeurons {
        clients,
        clients_left_out: left_out,
        pairs: all,
        pairs_without_shared_channels: all - tried.len(),
        rows,
    }))
}

/// The global weights with the given channels, weights and biases, of a local model.
fn overwrite(layout: &crate::model::Layout, global: &[f32], local: &[f32], channels: &[Vec<u32>]) -> Vec<f32> {
    let mut row = global.to_vec();
    for (range, channels) in layout.gates.iter().zip(channels) {
        let (weight, bias) = (&layout.tensors[2 * range.layer], &layout.tensors[2 * range.layer + 1]);
        for channel in channels.iter().map(|c| *c as usize) {
            let at = weight.at + channel * weight.fan_in;
            row[at..at + weight.fan_in].copy_from_slice(&local[at..at + weight.fan_in]);
            row[bias.at + channel] = local[bias.at + channel];
        }
    }
    row
}

/// Every class that has test images, before and after; `logits` are of the images class by class.
fn rows(scene: &Scene<'_>, (from, with, channels): (usize, usize, usize), logits: &[f32]) -> Vec<SharedRow> {
    let mut after = logits.chunks_exact(scene.classes());
    let row = |(class, list): (u32, &Vec<u32>)| {
        let right = |logits: &[f32]| winner(logits.iter().copied()) == class as usize;
        let before = list.iter().filter(|image| right(scene.global_logits(**image))).count();
        let after = after.by_ref().take(list.len()).filter(|logits| right(logits)).count();
        let [before, after] = [before, after].map(|n| n as f64 / list.len() as f64);
        SharedRow {
            from,
            with,
            channels,
            class,
            images: list.len(),
            accuracy_before: before,
            accuracy_after: after,
            change: after - before,
        }
    };
    (0..).zip(&scene.images).filter(|(_, list)| !list.is_empty()).map(row).collect()
}
