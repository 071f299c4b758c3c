//! Overlaps: every row of every comparison, its chance, and the means of the rows, computed again from the circuits that the
//! rounds list.

use std::sync::OnceLock;

use fedcircuit::device::Cpu;
use fedcircuit::experiment::Outcome;
use fedcircuit::report::{CircuitRecord, Comparison, Level, ModelSide, OverlapRecord, expected_iou};

use crate::many_clients::members;
use crate::small::{LEARNED, run, small};

/// Channels of each gated layer, and possible edges: of one input channel, and of all channels of the layer before.
const NODES: [usize; 2] = [4, 34];
const EDGES: [usize; 2] = [4, 4 * 34];

/// Client and class of a circuit, then of the one that it is compared with.
type Couple = [(usize, u32); 2];

/// Of a comparison: whether its first circuits are of the round before, and the models of its first and its second ones.
fn sides(comparison: Comparison) -> (bool, ModelSide, ModelSide) {
    use ModelSide::{Global, Local};
    match comparison {
        Comparison::LocalGlobal | Comparison::Mismatched => (false, Local, Global),
        Comparison::InterClientLocal | Comparison::InterClassLocal => (false, Local, Local),
        Comparison::InterClientGlobal | Comparison::InterClassGlobal => (false, Global, Global),
        Comparison::StabilityLocal => (true, Local, Local),
        Comparison::StabilityGlobal => (true, Global, Global),
    }
}

/// The couples that a comparison is of, as it is defined, among circuits of these clients and classes. Where both are of one
/// model and round, the lower comes first.
fn couples(comparison: Comparison, firsts: &[(usize, u32)], seconds: &[(usize, u32)]) -> Vec<Couple> {
    let wanted = |[a, b]: &Couple| match comparison {
        Comparison::LocalGlobal | Comparison::StabilityLocal | Comparison::StabilityGlobal => a == b,
        Comparison::Mismatched => a.0 == b.0 && a.1 != b.1,
        Comparison::InterClientLocal | Comparison::InterClientGlobal => a.1 == b.1 && a.0 < b.0,
        Comparison::InterClassLocal | Comparison::InterClassGlobal => a.0 == b.0 && a.1 < b.1,
    };
    firsts.iter().flat_map(|a| seconds.iter().map(move |b| [*a, *b])).filter(wanted).collect()
}

/// Two rounds of all clients, and three of a few each, computed once for all tests.
fn runs() -> &'static [Vec<Outcome>] {
    static RUNS: OnceLock<Vec<Vec<Outcome>>> = OnceLock::new();
    RUNS.get_or_init(|| {
        let sets = [&[][..], &["cohort.clients_per_round=3", "rounds=3"]];
        let all = |set: &[&str]| run(&Cpu::new(Some(2)).unwrap(), &small(&[&LEARNED[..], set].concat())).unwrap();
        sets.map(all).to_vec()
    })
}

/// The rows of a comparison at a level, in `layer` or in all of them together.
fn rows<'o>(outcome: &'o Outcome, comparison: Comparison, level: Level, layer: &str) -> Vec<&'o OverlapRecord> {
    let of = |o: &&OverlapRecord| (o.comparison, o.level, o.layer.as_str()) == (comparison, level, layer);
    outcome.overlaps.iter().filter(of).collect()
}

#[test]
fn every_row_is_of_the_circuits_that_it_names_and_chance_is_of_their_sizes() {
    let mut partial = [0; 8];
    for (i, outcome, rounds) in
        runs().iter().flat_map(|rounds| rounds.iter().enumerate().map(move |(i, outcome)| (i, outcome, rounds)))
    {
        let before = if i > 0 { &rounds[i - 1].circuits[..] } else { &[] };
        for (comparison, partial) in Comparison::ALL.into_iter().zip(&mut partial) {
            let (earlier, of_first, of_second) = sides(comparison);
            let firsts = if earlier { before } else { &outcome.circuits };
            let found = |list: &'static [CircuitRecord], side, who: (usize, u32)| {
                list.iter().find(|c| (c.model, (c.client, c.class)) == (side, who)).unwrap()
            };
            let names = |list: &[CircuitRecord], side| -> Vec<(usize, u32)> {
                list.iter().filter(|c| c.model == side).map(|c| (c.client, c.class)).collect()
            };
            let mut want = couples(comparison, &names(firsts, of_first), &names(&outcome.circuits, of_second));
            want.sort_unstable();
            for (level, possible) in [(Level::Node, NODES), (Level::Edge, EDGES)] {
                for (layer, range) in [("conv1", 0..1), ("conv2", 1..2), ("all", 0..2)] {
                    let mut got = Vec::new();
                    for row in rows(outcome, comparison, level, layer) {
                        let (a, b) = ((row.client_a, row.class_a), (row.client_b, row.class_b));
                        got.push([a, b]);
                        let both = [found(firsts, of_first, a), found(&outcome.circuits, of_second, b)];
                        let sets = both.map(|circuit| members(circuit, level, range.clone()));
                        let (shared, union) = (sets[0].intersection(&sets[1]).count(), sets[0].union(&sets[1]).count());
                        assert_eq!([row.size_a, row.size_b], sets.each_ref().map(|set| set.len()), "{row:?}");
                        assert_eq!(row.iou, (union > 0).then(|| shared as f64 / union as f64), "{row:?}");
                        let size = |circuit: &CircuitRecord, l: usize| members(circuit, level, l..l + 1).len();
                        let sizes = range.clone().map(|l| (size(both[0], l), size(both[1], l), possible[l]));
                        assert_eq!(row.chance, expected_iou(&sizes.collect::<Vec<_>>()), "{row:?}");
                        assert_eq!(row.round, i + 1);
                        *partial += usize::from(shared > 0 && shared < union && row.size_a != row.size_b);
                    }
                    got.sort_unstable();
                    assert_eq!(got, want, "{comparison:?}, {level:?}, {layer}");
                }
            }
        }
    }
    assert!(partial.iter().all(|n| *n > 10), "circuits that are equal or apart test little: {partial:?}");
}

#[test]
fn means_are_over_the_rows_of_a_class_and_over_all_of_them() {
    let mut some = 0;
    for outcome in runs().iter().flatten() {
        let mut known = 0;
        for comparison in Comparison::ALL {
            let classes = (0..10).map(Some).filter(|_| comparison.same_class());
            for (level, layer, class) in [Level::Node, Level::Edge]
                .into_iter()
                .flat_map(|level| ["conv1", "conv2", "all"].map(|layer| (level, layer)))
                .flat_map(|(level, layer)| classes.clone().chain([None]).map(move |class| (level, layer, class)))
            {
                let rows = rows(outcome, comparison, level, layer);
                let own: Vec<_> = rows.iter().filter(|row| class.is_none_or(|class| row.class_a == class)).collect();
                let found = outcome
                    .overlap_means
                    .iter()
                    .find(|m| (m.comparison, m.level, m.layer.as_str(), m.class) == (comparison, level, layer, class));
                let Some(mean) = found else {
                    assert!(own.is_empty(), "{comparison:?}, {level:?}, {layer}, {class:?}");
                    continue;
                };
                let defined: Vec<_> = own.iter().filter_map(|row| Some((row.iou?, row.chance?))).collect();
                let counts = (own.len() as u64, (own.len() - defined.len()) as u64);
                assert_eq!((mean.round, mean.pairs, mean.undefined), (outcome.record.round, counts.0, counts.1));
                let n = defined.len() as f64;
                let sums = defined.iter().fold((0.0, 0.0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
                for (got, sum) in [(mean.iou, sums.0), (mean.chance, sums.1)] {
                    match got {
                        None => assert!(defined.is_empty(), "{mean:?}"),
                        Some(got) => assert!((got - sum / n).abs() < 1e-12, "{mean:?}, not {}", sum / n),
                    }
                }
                (known, some) = (known + 1, some + usize::from(mean.undefined > 0 && mean.iou.is_some()));
            }
        }
        assert_eq!(known, outcome.overlap_means.len(), "no mean is of anything else");
    }
    assert!(some > 0, "no mean is over some of its pairs");
}
