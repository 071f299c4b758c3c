//! Comparisons of more pairs than a table can list: their mean overlaps over all pairs, without a list of them.

use std::collections::HashMap;
use std::ops::Range;

use super::compare::{Comparison, Level};
use crate::device::{Buffer, Device};
use crate::error::Result;
use crate::federation::upload;
use crate::kernels::overlap_all::{self, FRACTION_BITS, NONE, overlap_all, triangle};

/// Overlaps of many pairs of circuits, summed in one layer or in all of them together.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTotal {
    /// Sum of the overlaps (IoU), each rounded down to a multiple of 2^-24.
    pub sum: f64,
    /// Pairs that have one: of two empty circuits it is undefined.
    pub defined: u64,
    /// How often each couple of sizes occurs among all pairs, layer by layer (one size where the total is of one layer);
    /// `None` where there are too many different ones to tell apart.
    pub sizes: Option<Vec<SizeCount>>,
}

/// The sizes of two circuits, in either order, and how many pairs have them.
pub type SizeCount = (Vec<u32>, Vec<u32>, u64);

/// All pairs of a comparison that is too large to list.
#[derive(Clone, Debug, PartialEq)]
pub struct OverlapTotal {
    /// Which of the federations side by side the circuits belong to.
    pub replicate: usize,
    /// What they are compared for.
    pub comparison: Comparison,
    /// What is counted.
    pub level: Level,
    /// The class, where both circuits of every pair have the same.
    pub class: Option<u32>,
    /// How many pairs there are.
    pub pairs: u64,
    /// Of each gated layer, then of all of them together.
    pub layers: Vec<LayerTotal>,
}

/// Different sizes that a group's circuits may have in a layer before its couples of sizes are no longer told apart.
const MOST_SIZES: usize = 100;

/// What [`overlap_all()`] is asked: groups of tasks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct AllPairs {
    groups: Vec<Group>,
    /// Row, first partner, end of partners, partner left out.
    tasks: Vec<[u32; 4]>,
    partners: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq)]
struct Group {
    /// Replicate and comparison.
    what: (usize, Comparison),
    class: Option<u32>,
    tasks: Range<usize>,
}

impl AllPairs {
    /// Adds a replicate's comparison of every two of the rows of each list; a `class` has a group of its own, lists without one are
    /// a single group.
    pub fn within(&mut self, what: (usize, Comparison), lists: &[(Option<u32>, Vec<u32>)]) {
        for (class, rows) in lists {
            let first = self.partners.len();
            self.partners.extend(rows);
            self.add(what, *class, triangle(rows, first));
        }
    }

    /// Adds a replicate's comparison of each row of a list with the rows that follow it by `offset`, but for its own.
    pub fn crosswise(&mut self, what: (usize, Comparison), lists: &[(Option<u32>, Vec<u32>)], offset: u32) {
        for (class, rows) in lists {
            let first = self.partners.len() as u32;
            self.partners.extend(rows.iter().map(|row| row + offset));
            let end = self.partners.len() as u32;
            self.add(what, *class, rows.iter().zip(first..).map(|(row, own)| [*row, first, end, own]));
        }
    }

    fn add(&mut self, what: (usize, Comparison), class: Option<u32>, tasks: impl Iterator<Item = [u32; 4]>) {
        let start = self.tasks.len();
        self.tasks.extend(tasks);
        let end = self.tasks.len();
        match self.groups.last_mut().filter(|g| (g.what, g.class, class) == (what, None, None)) {
            Some(group) => group.tasks.end = end,
            None => self.groups.push(Group { what, class, tasks: start..end }),
        }
    }

    /// Words of what [`AllPairs::count`] writes, for so many layers and all of them together.
    pub fn out_words(&self, layers: usize) -> usize {
        3 * self.tasks.len() * (layers + 1)
    }

    /// Tasks of these replicates.
    pub fn tasks_of(&self, replicates: &Range<usize>) -> usize {
        let own = self.groups.iter().filter(|group| replicates.contains(&group.what.0));
        own.map(|group| group.tasks.len()).sum()
    }

    /// Sums the overlaps of the rows of `masks`, of `words` words each and divided as `ranges` says, into `out`.
    pub fn count(
        &self,
        device: &dyn Device,
        masks: &Buffer,
        words: usize,
        ranges: &[[u32; 2]],
        out: &Buffer,
    ) -> Result<()> {
        let Some(longest) = self.tasks.iter().map(|t| (t[2] - t[1]) as usize).max() else { return Ok(()) };
        let tasks = upload(device, "tasks of overlaps", self.tasks.as_flattened())?;
        let partners = upload(device, "partners of overlaps", &self.partners)?;
        let layers = upload(device, "layers of overlaps", ranges.as_flattened())?;
        let (tasks, partners, layers) = (tasks.all(), partners.all(), layers.all());
        let buffers = overlap_all::Buffers { masks: masks.all(), tasks, partners, layers, out: out.all() };
        overlap_all(device, words, longest, &buffers)
    }

    /// From the words that [`AllPairs::count`] wrote and the rows of masks it read.
    pub fn decode(
        &self,
        level: Level,
        out: &[u32],
        masks: &[u32],
        words: usize,
        ranges: &[[u32; 2]],
    ) -> Vec<OverlapTotal> {
        if self.tasks.is_empty() {
            return Vec::new();
        }
        let count = |row: &[u32], [at, n]: [u32; 2]| -> u32 {
            row[at as usize..(at + n) as usize].iter().map(|w| w.count_ones()).sum()
        };
        let layers = ranges.len() - 1;
        let sizes: Vec<Vec<u32>> =
            masks.chunks_exact(words).map(|row| ranges[..layers].iter().map(|r| count(row, *r)).collect()).collect();
        let group = |group: &Group| {
            let words = &out[3 * ranges.len() * group.tasks.start..3 * ranges.len() * group.tasks.end];
            let total = |l: usize| {
                let of_layer = words.chunks_exact(3).skip(l).step_by(ranges.len());
                let (sum, defined) = of_layer.fold((0u64, 0u64), |(sum, defined), w| {
                    (sum + (u64::from(w[0]) | u64::from(w[1]) << 32), defined + u64::from(w[2]))
                });
                let chosen = if l < layers { l..l + 1 } else { 0..layers };
                let sum = sum as f64 / f64::from(1 << FRACTION_BITS);
                LayerTotal {
                    sum,
                    defined,
                    sizes: self.sizes(group, sizes.len(), |row| &sizes[row as usize][chosen.clone()]),
                }
            };
            OverlapTotal {
                replicate: group.what.0,
                comparison: group.what.1,
                level,
                class: group.class,
                pairs: self.tasks[group.tasks.clone()].iter().map(|t| self.partners_of(t).count() as u64).sum(),
                layers: (0..ranges.len()).map(total).collect(),
            }
        };
        self.groups.iter().map(group).collect()
    }

    fn partners_of(&self, task: &[u32; 4]) -> impl Iterator<Item = u32> {
        let [_, first, end, left_out] = *task;
        debug_assert!(left_out == NONE || (first..end).contains(&left_out));
        (first..end).filter(move |place| *place != left_out).map(|place| self.partners[place as usize])
    }

    /// The couples of sizes of a group's pairs, in order of first appearance, where there are not too many; row r has the
    /// sizes `of(r)`.
    fn sizes<'s>(&self, group: &Group, rows: usize, of: impl Fn(u32) -> &'s [u32]) -> Option<Vec<SizeCount>> {
        const UNKNOWN: usize = usize::MAX;
        let tasks = &self.tasks[group.tasks.clone()];
        let mut different: Vec<&[u32]> = Vec::new();
        let mut known: HashMap<&[u32], usize> = HashMap::new();
        let mut kinds = vec![UNKNOWN; rows];
        let partners = tasks.iter().flat_map(|t| &self.partners[t[1] as usize..t[2] as usize]);
        for row in tasks.iter().map(|t| &t[0]).chain(partners) {
            let kind = &mut kinds[*row as usize];
            if *kind != UNKNOWN {
                continue;
            }
            let next = different.len();
            *kind = *known.entry(of(*row)).or_insert(next);
            if *kind == next {
                different.push(of(*row));
            }
            if different.len() > MOST_SIZES {
                return None;
            }
        }
        let n = different.len();
        let mut counts = vec![0u64; n * n];
        for task in tasks {
            let own = kinds[task[0] as usize];
            for other in self.partners_of(task).map(|partner| kinds[partner as usize]) {
                counts[own.min(other) * n + own.max(other)] += 1;
            }
        }
        let couples = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        Some(couples.map(|(i, count)| (different[i / n].to_vec(), different[i % n].to_vec(), *count)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;

    /// Rows of two layers of one word each.
    fn totals(all: &AllPairs, masks: &[u32]) -> Vec<OverlapTotal> {
        let (cpu, ranges) = (Cpu::new(Some(1)).unwrap(), [[0, 1], [1, 1], [0, 2]]);
        let buffer = upload(&cpu, "masks", masks).unwrap();
        let out = cpu.alloc("out", all.out_words(2)).unwrap();
        all.count(&cpu, &buffer, 2, &ranges, &out).unwrap();
        let words = pollster::block_on(cpu.read(&[out.all()])).unwrap().remove(0);
        all.decode(Level::Node, &words, masks, 2, &ranges)
    }

    #[test]
    fn groups_by_class_and_over_all_clients_by_hand() {
        // Rows 0 and 1 are local circuits, 2 and 3 the global ones of the same classes.
        let masks = [0b11, 0, 0b01, 0b1, 0b11, 0, 0b10, 0];
        let mut all = AllPairs::default();
        all.within((0, Comparison::InterClientLocal), &[(Some(4), vec![0, 1]), (Some(7), vec![2, 3, 0])]);
        all.crosswise((0, Comparison::Mismatched), &[(None, vec![0, 1]), (None, vec![0])], 2);
        let [four, seven, mismatched] = &totals(&all, &masks)[..] else { panic!("three groups") };
        let brief = |t: &OverlapTotal| t.layers.iter().map(|l| (l.sum, l.defined)).collect::<Vec<_>>();
        assert_eq!((four.class, four.pairs, four.comparison), (Some(4), 1, Comparison::InterClientLocal));
        // One of two channels, none of one, and together one of three.
        let third = f64::from((1 << 24) / 3) / f64::from(1 << 24);
        assert_eq!(brief(four), [(0.5, 1), (0.0, 1), (third, 1)]);
        assert_eq!(four.layers[2].sizes, Some(vec![(vec![2, 0], vec![1, 1], 1)]));
        // Rows 2 and 3, 2 and 0, 3 and 0; nothing in the second layer.
        assert_eq!((seven.pairs, brief(seven)), (3, vec![(2.0, 3), (0.0, 0), (2.0, 3)]));
        assert_eq!(seven.layers[0].sizes, Some(vec![(vec![2], vec![2], 1), (vec![2], vec![1], 2)]));
        // Row 0 with 3 and row 1 with 2; the lone row has no other class to be compared with.
        assert_eq!((mismatched.class, mismatched.pairs), (None, 2));
        assert_eq!(brief(mismatched), [(1.0, 2), (0.0, 1), (0.5 + third, 2)]);
    }

    #[test]
    fn too_many_sizes_are_not_told_apart() {
        let masks: Vec<u32> = (0..200).flat_map(|i| [u32::MAX >> (i % 32), u32::MAX >> (i / 32)]).collect();
        let mut all = AllPairs::default();
        all.within((0, Comparison::InterClientLocal), &[(Some(0), (0..200).collect())]);
        let total = totals(&all, &masks).remove(0);
        assert_eq!(total.layers[0].sizes.as_ref().map(|s| s.iter().map(|(.., n)| n).sum::<u64>()), Some(199 * 100));
        assert!(total.layers[1].sizes.is_some() && total.layers[2].sizes.is_none());
    }
}
