//! What holds for every input, tried on inputs that nobody chose. The inputs are the same in every run.

use std::collections::BTreeSet;

use fedcircuit::data::Population;
use fedcircuit::data::partition::{
    Bootstrap, ClassAssignment, Dirichlet, InnerDirichlet, Pathological, Shards, bootstrap, by_class, dirichlet, iid,
    inner_dirichlet, pathological, shards,
};
use fedcircuit::device::{Cpu, Device, f32s};
use fedcircuit::kernels::magnitude_threshold::magnitude_threshold;
use fedcircuit::kernels::prune::prune;
use fedcircuit::kernels::shape::Rows;
use fedcircuit::rng::{Purpose, stream};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(20), failure_persistence: None, ..ProptestConfig::default() }
}

const CLASSES: usize = 6;

fn labels() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0..CLASSES as u8, 1..300)
}

fn rng(seed: u64) -> rand_chacha::ChaCha8Rng {
    stream(seed, 0, 0, Purpose::Partition)
}

/// Every example that any client has, and that nobody has one twice, nor a client none.
fn dealt_once(clients: &[Vec<u32>], examples: usize) -> BTreeSet<u32> {
    let all: BTreeSet<u32> = clients.iter().flatten().copied().collect();
    assert_eq!(all.len(), clients.iter().map(Vec::len).sum::<usize>(), "an example is dealt twice");
    assert!(all.last().is_none_or(|last| (*last as usize) < examples));
    assert!(clients.iter().all(|client| !client.is_empty()));
    all
}

fn of_classes(labels: &[u8], owned: &BTreeSet<u8>) -> BTreeSet<u32> {
    (0..).zip(labels).filter(|(_, label)| owned.contains(label)).map(|(example, _)| example).collect()
}

fn classes_of(client: &[u32], labels: &[u8]) -> BTreeSet<u8> {
    client.iter().map(|e| labels[*e as usize]).collect()
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn iid_deals_everything_in_equal_parts(labels in labels(), clients in 1..40usize, seed: u64) {
        prop_assume!(clients <= labels.len());
        let deal = || iid(&labels, clients, &mut rng(seed)).unwrap();
        let dealt = deal();
        prop_assert_eq!(dealt_once(&dealt, labels.len()).len(), labels.len());
        let size = labels.len() / clients;
        prop_assert!(dealt.len() == clients && dealt.iter().all(|c| (size..=size + 1).contains(&c.len())));
        prop_assert_eq!(deal(), dealt);
    }

    #[test]
    fn dirichlet_deals_everything_or_says_why_not(
        labels in labels(), clients in 1..12usize, exponent in -3.0..3.0f64, least in 1..8usize, balanced: bool, seed: u64,
    ) {
        prop_assume!(clients * least <= labels.len());
        let split = Dirichlet {
            num_clients: clients, alpha: 10f64.powf(exponent), min_partition_size: least, self_balancing: balanced,
        };
        let deal = || dirichlet(&labels, CLASSES, &split, &mut rng(seed));
        match deal() {
            Ok(dealt) => {
                prop_assert_eq!(dealt_once(&dealt, labels.len()).len(), labels.len());
                prop_assert!(dealt.len() == clients && dealt.iter().all(|c| c.len() >= least));
                prop_assert_eq!(deal().unwrap(), dealt);
            }
            Err(error) => prop_assert!(error.to_string().contains("10 draws each left one with fewer")),
        }
    }

    #[test]
    fn inner_dirichlet_deals_everything_in_equal_parts(
        labels in labels(), clients in 1..40usize, exponent in -6.0..6.0f64, seed: u64,
    ) {
        prop_assume!(clients <= labels.len());
        let split = InnerDirichlet { num_clients: clients, alpha: 10f64.powf(exponent), examples_per_client: None };
        let deal = || inner_dirichlet(&labels, CLASSES, &split, &mut rng(seed)).unwrap();
        let dealt = deal();
        prop_assert_eq!(dealt_once(&dealt, labels.len()).len(), labels.len());
        let size = labels.len() / clients;
        prop_assert!(dealt.len() == clients && dealt.iter().all(|c| (size..=size + 1).contains(&c.len())));
        prop_assert_eq!(deal(), dealt);
    }

    #[test]
    fn pathological_clients_have_their_number_of_classes(
        labels in labels(), clients in 1..12usize, per_client in 1..=CLASSES, mode in 0..3usize, seed: u64,
    ) {
        let modes = [ClassAssignment::Random, ClassAssignment::Deterministic, ClassAssignment::FirstDeterministic];
        let split = Pathological { num_clients: clients, classes_per_client: per_client, mode: modes[mode] };
        let deal = || pathological(&labels, CLASSES, &split, &mut rng(seed));
        let dealt = match deal() {
            Ok(dealt) => dealt,
            Err(error) => {
                // Too few clients, classes, or examples of a class that several clients need.
                prop_assert_eq!(error.exit_code(), 2);
                let most = labels.iter().map(|label| labels.iter().filter(|l| *l == label).count()).min();
                let classes = labels.iter().collect::<BTreeSet<_>>().len();
                prop_assert!(per_client > classes || most.unwrap() < clients);
                return Ok(());
            }
        };
        let all = dealt_once(&dealt, labels.len());
        let owned: Vec<BTreeSet<u8>> = dealt.iter().map(|client| classes_of(client, &labels)).collect();
        prop_assert!(dealt.len() == clients && owned.iter().all(|classes| classes.len() == per_client));
        prop_assert_eq!(all, of_classes(&labels, &owned.iter().flatten().copied().collect()));
        prop_assert_eq!(deal().unwrap(), dealt);
    }

    #[test]
    fn shards_are_dealt_at_most_once(
        labels in labels(), clients in 1..10usize, each in 1..4usize, size in 1..10usize, seed: u64,
    ) {
        prop_assume!(clients * each * size <= labels.len());
        let split = Shards { num_clients: clients, shards_per_client: each, shard_size: size };
        let dealt = shards(&labels, CLASSES, &split, &mut rng(seed)).unwrap();
        dealt_once(&dealt, labels.len());
        prop_assert!(dealt.iter().all(|client| client.len() == each * size));
        prop_assert_eq!(shards(&labels, CLASSES, &split, &mut rng(seed)).unwrap(), dealt);
    }

    #[test]
    fn by_class_clients_own_whole_classes(
        labels in labels(), map in prop::collection::vec(prop::collection::btree_set(0..CLASSES, 1..4), 1..6),
    ) {
        let map: Vec<Vec<usize>> = map.into_iter().map(|classes| classes.into_iter().collect()).collect();
        match by_class(&labels, CLASSES, &map) {
            Ok(dealt) => for (client, owned) in dealt.iter().zip(&map) {
                let owned = owned.iter().map(|class| *class as u8).collect();
                prop_assert!(client.is_sorted_by(|a, b| a < b));
                prop_assert_eq!(client.iter().copied().collect::<BTreeSet<_>>(), of_classes(&labels, &owned));
            },
            Err(error) => prop_assert!(error.to_string().contains("of which the data has no examples")),
        }
    }

    #[test]
    fn bootstrap_clients_are_drawn_alike_in_any_order(
        labels in labels(), clients in 1..2_000_000usize, each in 1..50usize,
        alpha in prop::option::of(1e-6..1e6f64), who in prop::collection::vec(any::<prop::sample::Index>(), 1..8), seed: u64,
    ) {
        let split = Bootstrap { num_clients: clients, examples_per_client: each, alpha };
        let population = Population::Drawn(bootstrap(&labels, CLASSES, &split, seed).unwrap());
        prop_assert_eq!((population.len(), population.largest()), (clients, each));
        let draw = |who: &prop::sample::Index| population.examples(who.index(clients)).into_owned();
        let (there, mut back): (Vec<_>, Vec<_>) = (who.iter().map(draw).collect(), who.iter().rev().map(draw).collect());
        back.reverse();
        prop_assert!(there.iter().flatten().all(|e| (*e as usize) < labels.len()));
        prop_assert!(there.iter().all(|examples| examples.len() == each));
        prop_assert_eq!(there, back);
    }

    /// Against a sort, with ties, both zeros, and filters that the floor fills.
    #[test]
    fn pruning_keeps_what_a_sort_would(
        values in prop::collection::vec(prop_oneof![-4..=4i32, -1000..1000i32], 1..160),
        filter in 1..12usize, keep in 1..200usize, floor in 0..6usize,
    ) {
        let filter = filter.min(values.len());
        let row: Vec<f32> = values.iter().map(|v| *v as f32 / 7.0).collect();
        let row = &row[..row.len() / filter * filter];
        prop_assert_eq!(pruned(row, filter, keep, floor), sorted(row, filter, keep, floor));
    }
}

/// One tensor of filters, pruned by the kernels on the CPU engine.
fn pruned(row: &[f32], filter: usize, keep: usize, floor: usize) -> Vec<f32> {
    let cpu = Cpu::new(Some(1)).unwrap();
    let upload = |words: &[u32]| {
        let buffer = cpu.alloc("test", words.len()).unwrap();
        cpu.write(buffer.all(), words).unwrap();
        buffer
    };
    let filters: Vec<u32> =
        (0..row.len() / filter).flat_map(|f| [(f * filter) as u32, filter as u32, 0, floor as u32]).collect();
    let (weights, table) = (upload(bytemuck::cast_slice(row)), upload(&[0, row.len() as u32, 0, 0]));
    let (keeps, filters, thresholds) = (upload(&[keep as u32]), upload(&filters), upload(&[0]));
    let rows = Rows { slots: 1, words: row.len() };
    magnitude_threshold(&cpu, rows, weights.all(), table.all(), keeps.all(), 0, thresholds.all()).unwrap();
    prune(&cpu, rows, 1, filters.all(), thresholds.all(), weights.all()).unwrap();
    f32s(&pollster::block_on(cpu.read(&[weights.all()])).unwrap()[0]).to_vec()
}

/// The same by sorting: the `keep` largest magnitudes of the tensor and all that equal the last of them; of a filter with
/// fewer than `floor` of these, its own `floor` largest and all that equal the last of them. What is cleared is +0.
fn sorted(row: &[f32], filter: usize, keep: usize, floor: usize) -> Vec<f32> {
    let bound = |values: &[f32], keep: usize| {
        let mut magnitudes: Vec<f32> = values.iter().map(|v| v.abs()).collect();
        magnitudes.sort_by(|a, b| b.total_cmp(a));
        magnitudes.get(keep.wrapping_sub(1)).copied().unwrap_or(0.0)
    };
    let all = bound(row, keep);
    let one = |values: &[f32]| {
        let alive = values.iter().filter(|v| v.abs() >= all).count();
        let bound = if alive < floor.min(values.len()) { bound(values, floor) } else { all };
        values.iter().map(|v| if v.abs() >= bound { *v } else { 0.0 }).collect::<Vec<_>>()
    };
    row.chunks(filter).flat_map(one).collect()
}
