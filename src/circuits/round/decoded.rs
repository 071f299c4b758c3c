//! How the words that a round's circuits left become results.

use super::{Couples, Layouts, RoundBuffers, Tally};
use crate::circuits::all_pairs::OverlapTotal;
use crate::circuits::compare::{Comparison, Level, OverlapCounts, OverlapResult};
use crate::circuits::controls::ControlCounts;
use crate::circuits::edges::Feeds;
use crate::circuits::families::Family;
use crate::circuits::pair::Pair;

/// A circuit as lists, of each gated layer.
#[derive(Clone)]
pub(in crate::circuits) struct Circuit {
    /// Ascending.
    pub channels: Vec<Vec<u32>>,
    pub edges: Vec<Vec<Feeds>>,
}

/// A round's words as lists.
pub(in crate::circuits) struct Decoded {
    /// By row.
    pub circuits: Vec<Circuit>,
    pub overlaps: Vec<OverlapResult>,
    pub totals: Vec<OverlapTotal>,
    pub tallies: Vec<Vec<u32>>,
    /// For both models, by family.
    pub families: [Vec<Vec<u32>>; 2],
    /// Masks, whole and kept answers, and losses of every control.
    pub controls: Vec<Vec<u32>>,
}

impl RoundBuffers {
    /// From the words of [`RoundBuffers::views`].
    pub fn decode(&self, mut words: Vec<Vec<u32>>, before: &[Pair], sizes: &Layouts<'_>) -> Decoded {
        let controls = words.split_off(words.len() - ControlCounts::VIEWS * self.controls.len());
        let global = words.split_off(words.len() - Family::ALL.len());
        let local = words.split_off(words.len() - Family::ALL.len());
        let (masks, edges) = (&words[0], &words[1]);
        let circuit = |row: usize| {
            let channels = sizes.masks.channels(&masks[row * sizes.masks.words..][..sizes.masks.words]);
            let edges = sizes.edges.list(&edges[row * sizes.edges.words..][..sizes.edges.words], &channels);
            Circuit { channels, edges }
        };
        let mut overlaps = Vec::new();
        let lists = [&self.plan.within, &self.plan.within, &self.plan.across, &self.plan.across];
        for (i, (list, words)) in lists.into_iter().zip(&words[2..6]).enumerate() {
            let level = if i % 2 == 0 { Level::Node } else { Level::Edge };
            let firsts = if i < 2 { &self.sets.pairs } else { before };
            overlaps.extend(results(list, words, level, firsts, &self.sets.pairs, sizes.masks.layers.len()));
        }
        overlaps.sort_by_key(|o| (o.replicate, o.comparison, o.level, o.a, o.b));
        let [node_totals, edge_totals] = [&words[words.len() - 2], &words[words.len() - 1]];
        let all = &self.plan.all;
        let mut totals = all.decode(Level::Node, node_totals, masks, sizes.masks.words, &sizes.masks.ranges);
        totals.extend(all.decode(Level::Edge, edge_totals, edges, sizes.edges.words, &sizes.edges.ranges));
        totals.sort_by_key(|t| t.replicate);
        Decoded {
            circuits: (0..2 * self.sets.pairs.len()).map(circuit).collect(),
            overlaps,
            totals,
            tallies: words[6..6 + Tally::COUNT].to_vec(),
            families: [local, global],
            controls,
        }
    }
}

fn results(
    couples: &Couples,
    words: &[u32],
    level: Level,
    firsts: &[Pair],
    seconds: &[Pair],
    layers: usize,
) -> Vec<OverlapResult> {
    let pair = |pairs: &[Pair], row: u32| pairs[row as usize % pairs.len()];
    let who = |pairs: &[Pair], row: u32| (pair(pairs, row).client, pair(pairs, row).class);
    let one = |((comparison, a, b), words): (&(Comparison, u32, u32), &[u32])| OverlapResult {
        replicate: pair(seconds, *b).replicate,
        comparison: *comparison,
        level,
        a: who(firsts, *a),
        b: who(seconds, *b),
        layers: words
            .chunks_exact(3)
            .map(|c| OverlapCounts { intersection: c[0], size_a: c[1], size_b: c[2] })
            .collect(),
    };
    couples.iter().zip(words.chunks_exact(3 * layers)).map(one).collect()
}
