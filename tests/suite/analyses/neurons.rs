//! Channels that circuits share: taken from another model, and patched.

use std::collections::{BTreeMap, BTreeSet};

use fedcircuit::circuits::analyses::{Patching, SharedNeurons};
use fedcircuit::report::ModelSide;

use super::tally::{Tally, best};
use super::{Run, close, every, nodes};
use crate::reference::pass;

pub fn shared_neurons(run: &Run, found: &SharedNeurons) {
    let global = run.global();
    assert_eq!((found.clients.len(), found.pairs), (5, 20));
    let mut couples: Vec<(usize, usize)> = found.rows.iter().map(|row| (row.from, row.with)).collect();
    couples.dedup();
    assert_eq!((found.clients_left_out, found.pairs_without_shared_channels), (0, 20 - couples.len()));
    for rows in found.rows.chunk_by(|a, b| (a.from, a.with) == (b.from, b.with)).step_by(6) {
        let shared: Vec<_> = run.channels(rows[0].from).intersection(&run.channels(rows[0].with)).copied().collect();
        let (mut after, local) = (global.clone(), run.local(rows[0].from));
        for (layer, channel) in &shared {
            run.places(*layer, *channel as usize).iter().for_each(|i| after[*i] = local[*i]);
        }
        assert_eq!(rows.len(), 10);
        for row in rows {
            assert_eq!(row.channels, shared.len());
            close(row.change, row.accuracy_after - row.accuracy_before, "change");
            for (weights, share) in [(&global, row.accuracy_before), (&after, row.accuracy_after)] {
                let mut tally = Tally::default();
                for image in run.images(row.class) {
                    tally.add(best(&run.logits(weights, image, &every)), row.class as usize);
                }
                tally.expect(share, "accuracy");
            }
        }
    }
}

/// What taking a channel, or a layer, from the specialist's model changes.
pub fn patching(run: &Run, found: &Patching) {
    let global = run.global();
    let names: Vec<&String> = run.outcome.circuits[0].active_nodes.iter().map(|(name, _)| name).collect();
    for row in found.rows.iter().step_by(3).chain(found.rows.iter().filter(|r| r.channel.is_none())) {
        assert_eq!(Some(row.source_client), run.specialist(row.class));
        let (source, at) = (run.local(row.source_client), names.iter().position(|n| **n == row.layer).unwrap());
        let users = run.outcome.circuits.iter().filter(|c| c.model == ModelSide::Global);
        let users = users.filter(|c| row.channel.is_some_and(|ch| c.active_nodes[at].1.contains(&ch)));
        let users: BTreeSet<usize> = users.map(|c| c.client).collect();
        assert!(row.users.is_none_or(|n| n == users.len() && n > 1));
        let (mut tally, channels) = (Tally::default(), run.layout.gates[at].channels);
        for image in run.images(row.class) {
            let (guess, unsure) = best(&run.logits(&global, image, &every));
            assert!(!unsure, "this run has a prediction too near a tie to tell");
            if guess == row.class as usize {
                continue;
            }
            let mut taken = Vec::new();
            pass(&run.layout, &source, &run.picture(image), &every, &mut |layer, values| {
                if layer == at {
                    taken = values.to_vec();
                }
            });
            let patched = pass(&run.layout, &global, &run.picture(image), &every, &mut |layer, values| {
                if layer == at {
                    let pixels = values.len() / channels;
                    let part = row.channel.map_or(0..values.len(), |c| c as usize * pixels..(c as usize + 1) * pixels);
                    values[part.clone()].copy_from_slice(&taken[part]);
                }
            });
            tally.add(best(&patched), row.class as usize);
        }
        assert_eq!(row.images as f64, tally.all);
        tally.expect(row.rescue_rate, "rescue rate");
    }
    let mut users: BTreeMap<(usize, u32), BTreeSet<usize>> = BTreeMap::new();
    for circuit in run.outcome.circuits.iter().filter(|c| c.model == ModelSide::Global) {
        for node in nodes(circuit) {
            users.entry(node).or_default().insert(circuit.client);
        }
    }
    users.retain(|_, clients| clients.len() > 1);
    let mut ranked: Vec<(usize, u32)> = users.keys().copied().collect();
    ranked.sort_by_key(|node| (std::cmp::Reverse(users[node].len()), *node));
    ranked.truncate(64);
    assert_eq!((found.shared_channels, found.channels_tried), (users.len(), ranked.len()));
    for class in &found.classes {
        let tried = found.rows.iter().filter(|row| row.class == *class);
        let place = |name: &String| names.iter().position(|other| *other == name).unwrap();
        let tried: Vec<_> = tried.filter_map(|row| Some((place(&row.layer), row.channel?))).collect();
        assert_eq!(tried, ranked, "channels with most users, by layer and channel among equals");
    }
    let rescued: usize = found.rows.iter().map(|r| r.rescued).sum();
    let by_layer: usize = found.layers.iter().map(|l| l.channel_rescued + l.layer_rescued).sum();
    assert!(rescued == by_layer && rescued > 0 && found.rows.len() > 10);
}
