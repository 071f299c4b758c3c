//! The mean overlaps of a round: over the rows of the table where it lists every pair, else over the sums of all pairs.

use std::collections::BTreeMap;

use crate::circuits::{Comparison, LayerTotal, Level, OverlapTotal};
use crate::report::{OverlapMean, OverlapRecord, expected_iou};

/// The layers with circuits, and how many channels and edges each has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Universe<'a> {
    pub layers: &'a [&'a str],
    pub nodes: &'a [usize],
    pub edges: &'a [usize],
}

impl Universe<'_> {
    /// The name of layer `l`, and how many channels or edges it has; after the last layer come all together.
    fn part(&self, level: Level, l: usize) -> (&str, &[usize]) {
        let possible = match level {
            Level::Node => self.nodes,
            Level::Edge => self.edges,
        };
        if l < self.layers.len() { (self.layers[l], &possible[l..=l]) } else { ("all", possible) }
    }
}

/// Comparison, level, number of the layer, class.
type Key = (Comparison, Level, usize, Option<u32>);

/// Overlaps summed.
#[derive(Clone, Copy, Debug)]
struct Sums {
    pairs: u64,
    defined: u64,
    iou: f64,
    /// `None` where it is not known.
    chance: Option<f64>,
}

impl Sums {
    const NOTHING: Self = Self { pairs: 0, defined: 0, iou: 0.0, chance: Some(0.0) };

    fn add(&mut self, other: Self) {
        self.pairs += other.pairs;
        self.defined += other.defined;
        self.iou += other.iou;
        self.chance = self.chance.zip(other.chance).map(|(a, b)| a + b);
    }
}

/// The means of a round's comparisons: by class where both circuits of each pair have the same, and over all pairs.
/// `rows` are the round's overlaps, and `totals` the comparisons of which they are only a sample.
pub(super) fn overlap_means(
    round: usize,
    rows: &[OverlapRecord],
    totals: &[OverlapTotal],
    universe: Universe<'_>,
) -> Vec<OverlapMean> {
    let listed = from_rows(rows, universe.layers);
    let mut sums: BTreeMap<Key, Sums> = BTreeMap::new();
    for (key, part) in &listed {
        if !totals.iter().any(|t| t.comparison == key.0) {
            sums.insert(*key, *part);
        }
    }
    for total in totals {
        for (l, layer) in total.layers.iter().enumerate() {
            let key = (total.comparison, total.level, l, total.class);
            let chance = chance(layer, universe.part(total.level, l).1).or_else(|| {
                let sample = listed.get(&key).filter(|s| s.defined > 0)?;
                sample.chance.map(|sum| sum / sample.defined as f64 * layer.defined as f64)
            });
            let part = Sums { pairs: total.pairs, defined: layer.defined, iou: layer.sum, chance };
            sums.entry((key.0, key.1, l, None)).or_insert(Sums::NOTHING).add(part);
            if total.class.is_some() {
                sums.insert(key, part);
            }
        }
    }
    let mean = |((comparison, level, l, class), sums): (Key, Sums)| OverlapMean {
        round,
        comparison,
        level,
        layer: universe.part(level, l).0.into(),
        class,
        pairs: sums.pairs,
        undefined: sums.pairs - sums.defined,
        iou: (sums.defined > 0).then(|| sums.iou / sums.defined as f64),
        chance: sums.chance.filter(|_| sums.defined > 0).map(|sum| sum / sums.defined as f64),
    };
    sums.into_iter().map(mean).collect()
}

/// Sums of the rows, by class and over all classes.
fn from_rows(rows: &[OverlapRecord], layers: &[&str]) -> BTreeMap<Key, Sums> {
    let mut sums = BTreeMap::new();
    for row in rows {
        let l = layers.iter().position(|name| *name == row.layer).unwrap_or(layers.len());
        let defined = u64::from(row.iou.is_some());
        let part = Sums {
            pairs: 1,
            defined,
            iou: row.iou.unwrap_or(0.0),
            chance: if defined == 1 { row.chance } else { Some(0.0) },
        };
        let class = row.comparison.same_class().then_some(row.class_a);
        for class in [None].into_iter().chain(class.map(Some)) {
            sums.entry((row.comparison, row.level, l, class)).or_insert(Sums::NOTHING).add(part);
        }
    }
    sums
}

/// The sum of what chance gives the pairs, where their sizes are known; layer i has `possible[i]` channels or edges.
fn chance(layer: &LayerTotal, possible: &[usize]) -> Option<f64> {
    let of = |(a, b, pairs): &(Vec<u32>, Vec<u32>, u64)| {
        let sizes: Vec<_> = a.iter().zip(b).zip(possible).map(|((a, b), n)| (*a as usize, *b as usize, *n)).collect();
        expected_iou(&sizes).unwrap_or(0.0) * *pairs as f64
    };
    layer.sizes.as_ref().map(|sizes| sizes.iter().map(of).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIVERSE: Universe<'_> = Universe { layers: &["conv1", "conv2"], nodes: &[4, 8], edges: &[16, 32] };

    fn row(comparison: Comparison, layer: &str, classes: (u32, u32), iou: Option<f64>, chance: f64) -> OverlapRecord {
        OverlapRecord {
            round: 3,
            comparison,
            level: Level::Node,
            layer: layer.into(),
            client_a: 0,
            class_a: classes.0,
            client_b: 1,
            class_b: classes.1,
            size_a: 1,
            size_b: 1,
            iou,
            chance: iou.map(|_| chance),
        }
    }

    /// Comparison, layer, class, pairs, undefined, overlap, chance.
    type Brief<'m> = (&'m str, &'m str, Option<u32>, u64, u64, Option<f64>, Option<f64>);

    fn brief(means: &[OverlapMean]) -> Vec<Brief<'_>> {
        means
            .iter()
            .map(|m| (m.comparison.name(), m.layer.as_str(), m.class, m.pairs, m.undefined, m.iou, m.chance))
            .collect()
    }

    #[test]
    fn listed_pairs_are_averaged_by_class_and_together() {
        use Comparison::{InterClassLocal, LocalGlobal};
        let rows = [
            row(LocalGlobal, "conv1", (5, 5), Some(0.5), 0.25),
            row(LocalGlobal, "conv1", (5, 5), Some(1.0), 0.75),
            row(LocalGlobal, "conv1", (6, 6), None, 0.0),
            row(InterClassLocal, "all", (5, 6), Some(0.25), 0.125),
        ];
        let means = overlap_means(3, &rows, &[], UNIVERSE);
        assert!(means.iter().all(|m| m.round == 3));
        let want = [
            ("local_global", "conv1", None, 3, 1, Some(0.75), Some(0.5)),
            ("local_global", "conv1", Some(5), 2, 0, Some(0.75), Some(0.5)),
            ("local_global", "conv1", Some(6), 1, 1, None, None),
            ("inter_class_local", "all", None, 1, 0, Some(0.25), Some(0.125)),
        ];
        assert_eq!(brief(&means), want);
    }

    #[test]
    fn totals_take_the_place_of_the_sample() {
        let comparison = Comparison::InterClientLocal;
        // One of four twice has the overlap 1 with probability 1/4; two of four and one of four share one in half the
        // cases, and then have the overlap 1/2.
        let sizes = vec![(vec![1], vec![1], 2), (vec![2], vec![1], 1), (vec![0], vec![0], 3)];
        let layer = |sum: f64, defined: u64, sizes| LayerTotal { sum, defined, sizes };
        let total = |class, layers: Vec<LayerTotal>| OverlapTotal {
            replicate: 0,
            comparison,
            level: Level::Node,
            class: Some(class),
            pairs: 6,
            layers,
        };
        let totals = [total(1, vec![layer(1.5, 3, Some(sizes))]), total(2, vec![layer(4.0, 5, None)])];
        let sample =
            [row(comparison, "conv1", (2, 2), Some(0.9), 0.5), row(comparison, "conv1", (1, 1), Some(0.9), 0.9)];
        let means = overlap_means(3, &sample, &totals, UNIVERSE);
        let known = (2.0 / 4.0 + 0.5 / 2.0) / 3.0;
        let want = [
            ("inter_client_local", "conv1", None, 12, 4, Some(5.5 / 8.0), Some((3.0 * known + 2.5) / 8.0)),
            ("inter_client_local", "conv1", Some(1), 6, 3, Some(0.5), Some(known)),
            ("inter_client_local", "conv1", Some(2), 6, 1, Some(0.8), Some(0.5)),
        ];
        assert_eq!(brief(&means), want);
    }
}
