//! How much the channels of whole clients have in common: the paper's “specialist distinctness”.

use std::collections::BTreeSet;

use super::reading::circuits_file::{CLIENTS, Classes};
use super::reading::run::{Run, mean};
use super::tables::{Table, estimate, word};
use crate::report::Estimate;

/// Mean overlap over pairs of clients of the channels that any circuit of a client keeps in a layer; pairs without any
/// channel are left out.
fn overlap(clients: &[(usize, Classes)], layer: &str) -> f64 {
    let channels = |(_, classes): &(usize, Classes)| -> BTreeSet<u32> {
        let layers = classes.iter().flat_map(|(_, circuit)| &circuit.channels).filter(|(name, _)| name == layer);
        layers.flat_map(|(_, channels)| channels.iter().copied()).collect()
    };
    let sets: Vec<BTreeSet<u32>> = clients.iter().map(channels).collect();
    let pairs = sets.iter().enumerate().flat_map(|(i, a)| sets[i + 1..].iter().map(move |b| (a, b)));
    mean(pairs.map(|(a, b)| a.intersection(b).count() as f64 / a.union(b).count() as f64))
}

/// Layers in which it is defined, each with what it is in the clients' models and in the global one.
pub fn by_layer(run: &Run) -> Vec<(String, Estimate, Estimate)> {
    let round = run.seeds.iter().filter_map(|seed| seed.last.as_ref()).map(|last| last.round).max();
    let row = |layer: String| {
        let of = |global: bool| {
            run.estimate(|seed| {
                let of_last = seed.last.as_ref().filter(|last| Some(last.round) == round);
                let sides = of_last.map(|last| if global { &last.global } else { &last.local });
                sides.map_or(f64::NAN, |clients| overlap(clients, &layer))
            })
        };
        let (local, global) = (of(false), of(true));
        (local.mean.is_finite() || global.mean.is_finite()).then_some((layer, local, global))
    };
    run.layers().into_iter().filter_map(row).collect()
}

/// How to read it.
pub fn caption() -> String {
    format!(
        "Overlap (IoU) between clients of the channels that any circuit of a client keeps, in the last round, over at most the \
         first {CLIENTS} clients: low where clients with different classes use different channels."
    )
}

/// By layer, in the clients' models and in the global one.
pub fn table(run: &Run) -> Option<Table> {
    let row = |(layer, local, global): (String, Estimate, Estimate)| {
        vec![word(layer), estimate(local, false), estimate(global, false)]
    };
    let rows: Vec<_> = by_layer(run).into_iter().map(row).collect();
    let columns = ["layer", "clients' models", "global model"];
    (!rows.is_empty()).then(|| Table::new("specialists", "Whole clients", &caption(), &columns, rows))
}

#[cfg(test)]
mod tests {
    use super::super::reading::circuits_file::Circuit;
    use super::*;

    #[test]
    fn clients_are_compared_by_the_union_of_their_circuits() {
        let client = |number: usize, circuits: &[&[u32]]| {
            let circuit = |channels: &&[u32]| {
                ("a".to_string(), Circuit { channels: vec![("one".into(), channels.to_vec())], ..Circuit::default() })
            };
            (number, circuits.iter().map(circuit).collect::<Classes>())
        };
        // {1, 2, 3} and {3, 4}: 1 of 4. With the empty client 0 of 3 and 0 of 2.
        let clients = [client(0, &[&[1, 2], &[2, 3]]), client(1, &[&[3, 4]]), client(2, &[&[]])];
        assert_eq!(overlap(&clients[..2], "one"), 0.25);
        assert_eq!(overlap(&clients, "one"), 0.25 / 3.0);
        assert!(overlap(&clients, "two").is_nan() && overlap(&clients[..1], "one").is_nan());
    }
}
