//! Many clients: more than the table of overlaps lists pairs of, and more than whose examples could be held.

use std::collections::{BTreeMap, BTreeSet};

use fedcircuit::device::Cpu;
use fedcircuit::experiment::Federation;
use fedcircuit::report::{CircuitRecord, Comparison, Level, ModelSide, OverlapMean, expected_iou};

use crate::small::{data, linear, run, small};

/// Mean overlap of every two circuits' sets, how many pairs there are, and how many have no overlap.
fn naive(sets: &[BTreeSet<(usize, u32, u32)>]) -> (u64, u64, f64) {
    let (mut pairs, mut undefined, mut sum) = (0, 0, 0.0);
    for (i, a) in sets.iter().enumerate() {
        for b in &sets[i + 1..] {
            let union = a.union(b).count();
            pairs += 1;
            undefined += u64::from(union == 0);
            sum += if union > 0 { a.intersection(b).count() as f64 / union as f64 } else { 0.0 };
        }
    }
    (pairs, undefined, sum / (pairs - undefined) as f64)
}

/// Channels or edges of a circuit in some layers.
pub fn members(circuit: &CircuitRecord, level: Level, layers: std::ops::Range<usize>) -> BTreeSet<(usize, u32, u32)> {
    let of_layer = |l: usize| -> Vec<(usize, u32, u32)> {
        match level {
            Level::Node => circuit.active_nodes[l].1.iter().map(|channel| (l, *channel, 0)).collect(),
            Level::Edge => {
                let edges = circuit.connectivity[l].1.iter();
                edges.flat_map(|(dest, sources)| sources.iter().map(move |s| (l, *dest, *s))).collect()
            }
        }
    };
    layers.flat_map(of_layer).collect()
}

/// Mean of what chance gives every two circuits whose overlap is defined, from their sizes in some layers; a layer has so many
/// channels or edges to choose from.
fn naive_chance(
    circuits: &[&CircuitRecord],
    level: Level,
    layers: std::ops::Range<usize>,
    possible: [usize; 2],
) -> f64 {
    let sizes = |c: &&CircuitRecord| layers.clone().map(|l| members(c, level, l..l + 1).len()).collect::<Vec<_>>();
    let sizes: Vec<Vec<usize>> = circuits.iter().map(sizes).collect();
    let mut couples: BTreeMap<(&[usize], &[usize]), f64> = BTreeMap::new();
    for (i, a) in sizes.iter().enumerate() {
        sizes[i + 1..].iter().for_each(|b| *couples.entry((a.min(b), a.max(b))).or_default() += 1.0);
    }
    let chance = |(a, b): &(&[usize], &[usize])| {
        expected_iou(&layers.clone().zip(a.iter().zip(*b)).map(|(l, (a, b))| (*a, *b, possible[l])).collect::<Vec<_>>())
    };
    let known = couples.iter().filter_map(|(couple, n)| Some((chance(couple)?, *n)));
    let (sum, n) = known.fold((0.0, 0.0), |(sum, all), (chance, n)| (sum + chance * n, all + n));
    sum / n
}

#[test]
fn means_are_over_all_pairs_of_clients() {
    let set = [
        "rounds=1",
        "data={source=\"digits\",train_examples=8500,test_examples=20}",
        "partition={kind=\"iid\",num_clients=340}",
        "training={local_epochs=1,batch_size=5,lr=0.01}",
        "circuits={classes=[7],steps=6,lr=0.5,l0=0.001}",
        "model.layers=[{kind=\"conv\",channels=4,pool=2},{kind=\"conv\",channels=6,pool=2},{kind=\"linear\",features=10}]",
    ];
    let cpu = Cpu::new(Some(2)).unwrap();
    let outcome = run(&cpu, &small(&set)).unwrap().remove(0);
    let sampled =
        [(Comparison::InterClientLocal, ModelSide::Local), (Comparison::InterClientGlobal, ModelSide::Global)];
    for (comparison, side) in sampled {
        let circuits: Vec<_> = outcome.circuits.iter().filter(|c| c.model == side).collect();
        let clients = circuits.len() as u64;
        let listed =
            outcome.overlaps.iter().filter(|o| (o.comparison, o.level) == (comparison, Level::Node)).count() / 3;
        // Of one input channel, and of the first layer's four.
        for (level, possible) in [(Level::Node, [4, 6]), (Level::Edge, [4, 24])] {
            for (layer, range) in [("conv1", 0..1), ("conv2", 1..2), ("all", 0..2)] {
                let sets: Vec<_> = circuits.iter().map(|c| members(c, level, range.clone())).collect();
                let (pairs, undefined, iou) = naive(&sets);
                let mean = |class| -> &OverlapMean {
                    let same = |m: &&OverlapMean| (m.comparison, m.level, m.class) == (comparison, level, class);
                    outcome.overlap_means.iter().filter(same).find(|m| m.layer == layer).unwrap()
                };
                assert_eq!(pairs, clients * (clients - 1) / 2);
                assert!(layer != "all" || (0.02..0.98).contains(&iou), "{comparison:?} {level:?}: {iou} tests little");
                for mean in [mean(Some(7)), mean(None)] {
                    assert_eq!((mean.pairs, mean.undefined), (pairs, undefined), "{comparison:?}, {level:?}, {layer}");
                    let found = mean.iou.unwrap();
                    assert!((found - iou).abs() < 1e-7, "{comparison:?}, {level:?}, {layer}: {found}, not {iou}");
                    let (found, chance) =
                        (mean.chance.unwrap(), naive_chance(&circuits, level, range.clone(), possible));
                    assert!((found - chance).abs() < 1e-9, "{comparison:?}, {level:?}, {layer}: {found}, not {chance}");
                }
            }
        }
        assert!(clients > 200 && (listed as u64) < clients * (clients - 1) / 2, "{clients} clients, {listed} listed");
    }
}

#[test]
fn a_round_is_known_without_the_examples_that_its_clients_draw() {
    let cpu = Cpu::new(Some(1)).unwrap();
    let clients = "partition={kind=\"bootstrap\",num_clients=2000,examples_per_client=20000}";
    let experiment = linear(&["rounds=1", clients, "device.max_wave=2"]);
    let federation = Federation::new(&cpu, &experiment, &data(&experiment)).unwrap();
    let used = allocation_counter::measure(|| {
        // Two epochs of 625 steps.
        assert_eq!(federation.costs(1), (2000 * 1250, 0));
        assert_eq!(federation.plan().clients, 2000);
    });
    // All lists are 160 MB.
    assert!(used.bytes_max < 1 << 20, "{}", used.bytes_max);
}
