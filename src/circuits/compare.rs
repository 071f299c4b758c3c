//! Which circuits are compared with which, and their overlaps as counts.

use std::collections::{BTreeMap, HashMap};

use serde::{Serialize, Serializer};

use super::all_pairs::AllPairs;
use super::pair::Pair;

/// What two circuits are compared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Comparison {
    /// The same client and class, local model against global.
    LocalGlobal,
    /// A local circuit against the global circuits of the client's other classes: what generic channels alone share.
    Mismatched,
    /// The same class of two clients, local models.
    InterClientLocal,
    /// The same class found with two clients' data in the global model.
    InterClientGlobal,
    /// Two classes of a client, local model.
    InterClassLocal,
    /// Two classes found with a client's data in the global model.
    InterClassGlobal,
    /// The same client and class, local models of the round before and of this one.
    StabilityLocal,
    /// The same client and class, global models of the round before and of this one.
    StabilityGlobal,
}

impl Comparison {
    /// Every comparison, in the order of the tables.
    pub const ALL: [Comparison; 8] = [
        Comparison::LocalGlobal,
        Comparison::Mismatched,
        Comparison::InterClientLocal,
        Comparison::InterClientGlobal,
        Comparison::InterClassLocal,
        Comparison::InterClassGlobal,
        Comparison::StabilityLocal,
        Comparison::StabilityGlobal,
    ];

    /// As `overlap.csv` has it.
    pub fn name(self) -> &'static str {
        match self {
            Comparison::LocalGlobal => "local_global",
            Comparison::Mismatched => "mismatched",
            Comparison::InterClientLocal => "inter_client_local",
            Comparison::InterClientGlobal => "inter_client_global",
            Comparison::InterClassLocal => "inter_class_local",
            Comparison::InterClassGlobal => "inter_class_global",
            Comparison::StabilityLocal => "stability_local",
            Comparison::StabilityGlobal => "stability_global",
        }
    }
}

impl Comparison {
    /// Whether the two circuits are always of the same class.
    pub fn same_class(self) -> bool {
        use Comparison::{InterClassGlobal, InterClassLocal, Mismatched};
        !matches!(self, Mismatched | InterClassLocal | InterClassGlobal)
    }
}

impl Serialize for Comparison {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What an overlap counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Channels.
    Node,
    /// Surviving connections between channels of the circuit.
    Edge,
}

impl Level {
    /// As `overlap.csv` has it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Node => "node",
            Level::Edge => "edge",
        }
    }
}

/// Sizes and intersection of two circuits in one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverlapCounts {
    /// In both.
    pub intersection: u32,
    /// In the first.
    pub size_a: u32,
    /// In the second.
    pub size_b: u32,
}

/// Two circuits side by side, layer by layer.
#[derive(Clone, Debug, PartialEq)]
pub struct OverlapResult {
    /// Which of the federations side by side both circuits belong to.
    pub replicate: usize,
    /// What they are compared for.
    pub comparison: Comparison,
    /// What is counted.
    pub level: Level,
    /// Client and class of the first.
    pub a: (usize, u32),
    /// Client and class of the second.
    pub b: (usize, u32),
    /// Of each gated layer.
    pub layers: Vec<OverlapCounts>,
}

/// Shared over united channels of two circuits, all layers together; `None` where both are empty.
pub(super) fn iou(a: &[Vec<u32>], b: &[Vec<u32>]) -> Option<f64> {
    let both: usize = a.iter().zip(b).map(|(a, b)| a.iter().filter(|c| b.binary_search(c).is_ok()).count()).sum();
    let size = |circuit: &[Vec<u32>]| circuit.iter().map(Vec::len).sum::<usize>();
    let union = size(a) + size(b) - both;
    (union > 0).then(|| both as f64 / union as f64)
}

/// Pairs of one comparison beyond which only an even sample of them is taken: a table of millions of rows helps nobody.
const MOST_PAIRS: usize = 20_000;

/// A comparison of `count` pairs in a replicate, of which one in `stride` is listed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sampled {
    pub replicate: usize,
    pub comparison: Comparison,
    pub stride: usize,
    pub count: usize,
}

/// Rows of masks to compare. A round's circuits are rows 0..Q in the local models and Q..2Q in the global one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Both rows of this round.
    pub within: Vec<(Comparison, u32, u32)>,
    /// A row of the round before, and one of this.
    pub across: Vec<(Comparison, u32, u32)>,
    /// The comparisons of which `within` has a sample, and all of their pairs.
    pub sampled: Vec<Sampled>,
    pub all: AllPairs,
}

impl Plan {
    /// All comparisons among `pairs`, and with those of the round `before`; none is between two replicates.
    pub fn new(pairs: &[Pair], before: &[Pair]) -> Self {
        let q = pairs.len() as u32;
        let mut plan = Self::default();
        let mut by_replicate: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for (i, pair) in (0..).zip(pairs) {
            plan.within.push((Comparison::LocalGlobal, i, q + i));
            by_replicate.entry(pair.replicate).or_default().push(i);
        }
        by_replicate.iter().for_each(|(replicate, rows)| plan.among(pairs, *replicate, rows));
        let key = |p: &Pair| (p.replicate, p.client, p.class);
        let earlier: HashMap<_, u32> = before.iter().map(key).zip(0..).collect();
        let then = before.len() as u32;
        for (i, pair) in (0..).zip(pairs) {
            if let Some(j) = earlier.get(&key(pair)) {
                plan.across.push((Comparison::StabilityLocal, *j, i));
                plan.across.push((Comparison::StabilityGlobal, then + j, q + i));
            }
        }
        plan
    }

    /// The comparisons between clients and between classes among the `rows` of `pairs` that belong to one replicate.
    fn among(&mut self, pairs: &[Pair], replicate: usize, rows: &[u32]) {
        let q = pairs.len() as u32;
        let mut by_class: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut by_client: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for i in rows {
            let pair = pairs[*i as usize];
            by_class.entry(pair.class).or_default().push(*i);
            by_client.entry(pair.client).or_default().push(*i);
        }
        // Waves have clients by their steps; of two that are compared, the lower one comes first.
        by_class.values_mut().for_each(|rows| rows.sort_by_key(|i| pairs[*i as usize].client));
        let by_class: Vec<_> = by_class.into_iter().map(|(class, rows)| (Some(class), rows)).collect();
        let by_client: Vec<_> = by_client.into_values().map(|rows| (None, rows)).collect();
        self.add((replicate, Comparison::Mismatched), &by_client, (0, q));
        self.add((replicate, Comparison::InterClientLocal), &by_class, (0, 0));
        self.add((replicate, Comparison::InterClientGlobal), &by_class, (q, q));
        self.add((replicate, Comparison::InterClassLocal), &by_client, (0, 0));
        self.add((replicate, Comparison::InterClassGlobal), &by_client, (q, q));
    }

    /// Compares every two rows of each list, the first moved by `offset.0` and the second by `offset.1`, in both orders
    /// where these differ. Each list is of a class or of a client.
    fn add(&mut self, what: (usize, Comparison), lists: &[(Option<u32>, Vec<u32>)], offset: (u32, u32)) {
        let (replicate, comparison) = what;
        let orders = if offset.0 == offset.1 { 1 } else { 2 };
        let count: usize = lists.iter().map(|(_, rows)| orders * rows.len() * (rows.len() - 1) / 2).sum();
        let stride = count.div_ceil(MOST_PAIRS).max(1);
        // Couples are left out in both orders, or one of two classes would always come first.
        let couples = lists.iter().flat_map(|(_, rows)| couples(rows)).step_by(stride);
        let couples = couples.flat_map(|(i, j)| [(i, j), (j, i)].into_iter().take(orders));
        self.within.extend(couples.map(|(a, b)| (comparison, offset.0 + a, offset.1 + b)));
        if stride == 1 {
            return;
        }
        self.sampled.push(Sampled { replicate, comparison, stride, count });
        let moved = |(class, rows): &(Option<u32>, Vec<u32>)| (*class, rows.iter().map(|row| offset.0 + row).collect());
        let lists: Vec<_> = lists.iter().map(moved).collect();
        match offset.1 - offset.0 {
            0 => self.all.within(what, &lists),
            apart => self.all.crosswise(what, &lists, apart),
        }
    }
}

/// Every unordered couple of `rows`.
fn couples(rows: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    rows.iter().enumerate().flat_map(|(i, a)| rows[i + 1..].iter().map(move |b| (*a, *b)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn pairs(list: &[(usize, u32)]) -> Vec<Pair> {
        let pair = |&(client, class)| Pair { replicate: 0, client, class, member: 0, alone: false };
        list.iter().map(pair).collect()
    }

    #[test]
    fn every_comparison_has_the_pairs_its_definition_says() {
        // Clients 0 and 1 both own class 5; client 1 also owns class 6.
        let now = pairs(&[(0, 5), (1, 5), (1, 6)]);
        let before = pairs(&[(1, 6), (0, 5)]);
        let plan = Plan::new(&now, &before);
        let of = |comparison| -> Vec<(u32, u32)> {
            let all = plan.within.iter().chain(&plan.across);
            all.filter(|(c, ..)| *c == comparison).map(|(_, a, b)| (*a, *b)).collect()
        };
        assert_eq!(of(Comparison::LocalGlobal), [(0, 3), (1, 4), (2, 5)]);
        assert_eq!(of(Comparison::Mismatched), [(1, 5), (2, 4)]);
        assert_eq!(of(Comparison::InterClientLocal), [(0, 1)]);
        assert_eq!(of(Comparison::InterClientGlobal), [(3, 4)]);
        assert_eq!(of(Comparison::InterClassLocal), [(1, 2)]);
        assert_eq!(of(Comparison::InterClassGlobal), [(4, 5)]);
        assert_eq!(of(Comparison::StabilityLocal), [(1, 0), (0, 2)]);
        assert_eq!(of(Comparison::StabilityGlobal), [(3, 3), (2, 5)]);
    }

    /// Two federations with the same clients and classes: every pair of circuits of one, and nothing between the two.
    #[test]
    fn replicates_are_compared_as_if_each_were_alone() {
        let alone = pairs(&[(0, 5), (1, 5), (1, 6)]);
        let other = alone.iter().map(|p| Pair { replicate: 1, ..*p });
        // Mixed, as the order of the waves mixes them.
        let both: Vec<Pair> = alone.iter().copied().zip(other).flat_map(|(a, b)| [a, b]).collect();
        let (one, two) = (Plan::new(&alone, &alone), Plan::new(&both, &both));
        for (one, two) in [(one.within, two.within), (one.across, two.across)] {
            assert_eq!(two.len(), 2 * one.len());
            for replicate in 0..2 {
                // Row i of the replicate alone is row 2 i + replicate of both, in the local half and in the global one.
                let moved = one.iter().map(|(c, a, b)| (*c, 2 * a + replicate, 2 * b + replicate));
                assert!(moved.into_iter().all(|couple| two.contains(&couple)));
            }
        }
    }

    #[test]
    fn overlap_of_lists_by_hand() {
        assert_eq!(iou(&[vec![1, 2, 3], vec![7]], &[vec![2, 3, 4], vec![]]), Some(0.4));
        assert_eq!(iou(&[vec![]], &[vec![]]), None);
    }

    #[test]
    fn too_many_pairs_are_sampled_evenly() {
        let crowd: Vec<_> = (0..300).map(|client| (client, 0)).collect();
        let plan = Plan::new(&pairs(&crowd), &[]);
        let count = plan.within.iter().filter(|(c, ..)| *c == Comparison::InterClientLocal).count();
        // 300 * 299 / 2 = 44,850 pairs: every third.
        assert_eq!(count, 14_950);
        // All of them are counted too, a task for each circuit of either model.
        assert_eq!(plan.all.out_words(0), 3 * 600);
        let sampled = plan.sampled.iter().map(|s| (s.comparison, s.stride, s.count)).collect::<Vec<_>>();
        let both = [Comparison::InterClientLocal, Comparison::InterClientGlobal];
        assert_eq!(sampled, both.map(|comparison| (comparison, 3, 44_850)));
        let few = Plan::new(&pairs(&crowd[..200]), &[]);
        assert!(few.all == AllPairs::default() && few.sampled.is_empty());
    }

    /// 240 clients of ten classes: 21,600 pairs of two classes, of which each is there in both orders or in none.
    #[test]
    fn a_sample_has_both_orders_of_two_classes() {
        let crowd: Vec<_> = (0..240).flat_map(|client| (0..10).map(move |class| (client, class))).collect();
        let (plan, q) = (Plan::new(&pairs(&crowd), &[]), crowd.len() as u32);
        let mismatched = plan.within.iter().filter(|(c, ..)| *c == Comparison::Mismatched);
        let sampled: HashSet<_> = mismatched.map(|(_, local, global)| (*local, global - q)).collect();
        assert_eq!(sampled.len(), 10_800);
        assert!(sampled.iter().all(|(a, b)| sampled.contains(&(*b, *a))));
    }
}
