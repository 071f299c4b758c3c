//! Those who take part in a round: in which order, and in which waves.

use std::borrow::Cow;
use std::cmp::Reverse;

use crate::data::Population;

/// A client in a round.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Which of the federations side by side it belongs to.
    pub replicate: usize,
    /// That federation's seed: the root of every draw made for this member.
    pub seed: u64,
    /// Its number in the partition.
    pub client: usize,
    /// Its training examples.
    pub examples: OwnExamples<'a>,
    /// Optimiser steps it takes in the round: whole epochs, of a straggler fewer than of others.
    pub steps: usize,
    /// Steps of the longest client of its replicate in the round.
    pub longest: usize,
}

/// Positions of a member's training examples in the data. A round holds none of those that clients draw for themselves, but
/// of the clients at work.
#[derive(Clone, Copy, Debug)]
pub enum OwnExamples<'a> {
    /// These.
    Listed(&'a [u32]),
    /// Those of one client.
    Client(&'a Population, usize),
}

impl<'a> OwnExamples<'a> {
    /// How many they are; draws none.
    pub fn len(self) -> usize {
        match self {
            Self::Listed(list) => list.len(),
            Self::Client(clients, client) => clients.size(client),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The same ones each time, drawn anew where the client draws its own.
    pub fn get(self) -> Cow<'a, [u32]> {
        match self {
            Self::Listed(list) => Cow::Borrowed(list),
            Self::Client(clients, client) => clients.examples(client),
        }
    }
}

/// A round's members, longest first, cut into waves.
#[derive(Clone, Debug)]
pub struct Waves<'a> {
    /// All members in the order of the waves. It depends on the members alone, and so do the sums over them.
    pub members: Vec<Member<'a>>,
    /// First member of every wave, and the end of the last.
    bounds: Vec<usize>,
}

impl<'a> Waves<'a> {
    /// Sorts by steps (most first, so that those still training are always a prefix), then by replicate and client: the
    /// clients of a replicate are in the order they would have alone. Waves have at most `size` members; with `apart`,
    /// replicates whose longest clients differ in their steps share none.
    pub fn new(mut members: Vec<Member<'a>>, size: usize, apart: bool) -> Self {
        let group = |m: &Member<'_>| if apart { m.longest } else { 0 };
        members.sort_by_key(|m| (Reverse(group(m)), Reverse(m.steps), m.replicate, m.client));
        let mut bounds = vec![0];
        for same in members.chunk_by(|a, b| group(a) == group(b)) {
            let start = bounds[bounds.len() - 1];
            let ends = (1..=same.len().div_ceil(size.max(1))).map(|wave| start + (wave * size.max(1)).min(same.len()));
            bounds.extend(ends);
        }
        Self { members, bounds }
    }

    /// Half the size of the largest wave, where that has two members or more.
    pub fn half(&self) -> Option<usize> {
        let largest = self.iter().map(|(_, wave)| wave.len()).max().unwrap_or(0);
        (largest > 1).then(|| largest.div_ceil(2))
    }

    /// The waves, each with the place of its first member in the round.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[Member<'a>])> {
        self.bounds.windows(2).map(|wave| (wave[0], &self.members[wave[0]..wave[1]]))
    }
}

/// Steps of `epochs` passes over `examples` in batches of `batch_size`, a last partial batch kept.
pub(super) fn steps(examples: usize, batch_size: usize, epochs: usize) -> usize {
    epochs * examples.div_ceil(batch_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_do_not_depend_on_the_order_of_the_clients() {
        let member = |client, steps| Member {
            replicate: 0,
            seed: 1,
            client,
            examples: OwnExamples::Listed(&[]),
            steps,
            longest: 9,
        };
        let members = [member(0, 3), member(1, 9), member(2, 3), member(3, 1), member(4, 9)];
        let order = |list: Vec<Member<'_>>, size| -> Vec<Vec<usize>> {
            Waves::new(list, size, true).iter().map(|(_, wave)| wave.iter().map(|m| m.client).collect()).collect()
        };
        assert_eq!(order(members.to_vec(), 2), [vec![1, 4], vec![0, 2], vec![3]]);
        let mut reversed = members.to_vec();
        reversed.reverse();
        assert_eq!(order(reversed, 2), order(members.to_vec(), 2));
        assert_eq!(order(members.to_vec(), 99), [vec![1, 4, 0, 2, 3]]);
    }

    #[test]
    fn replicates_share_waves_and_keep_the_order_of_their_clients() {
        let member = |(replicate, client, steps)| Member {
            replicate,
            seed: 1,
            client,
            examples: OwnExamples::Listed(&[]),
            steps,
            longest: 9,
        };
        let members = [(0, 0, 3), (0, 1, 9), (0, 2, 3), (1, 0, 9), (1, 1, 3), (1, 2, 9)].map(member);
        let order = |list: Vec<Member<'_>>| -> Vec<(usize, usize)> {
            Waves::new(list, 4, true).members.iter().map(|m| (m.replicate, m.client)).collect()
        };
        let all = order(members.to_vec());
        assert_eq!(all, [(0, 1), (1, 0), (1, 2), (0, 0), (0, 2), (1, 1)]);
        for (replicate, alone) in members.chunks(3).enumerate() {
            let of: Vec<_> = all.iter().copied().filter(|(r, _)| *r == replicate).collect();
            assert_eq!(of, order(alone.to_vec()));
        }
    }

    #[test]
    fn replicates_that_train_for_different_times_can_be_kept_apart() {
        let member = |(replicate, client, steps, longest)| Member {
            replicate,
            seed: 1,
            client,
            examples: OwnExamples::Listed(&[]),
            steps,
            longest,
        };
        let members = [(0, 0, 3, 5), (0, 1, 5, 5), (1, 0, 7, 7), (1, 1, 2, 7), (2, 0, 5, 5)].map(member);
        let waves = |apart| -> Vec<Vec<(usize, usize)>> {
            let waves = Waves::new(members.to_vec(), 2, apart);
            waves.iter().map(|(_, wave)| wave.iter().map(|m| (m.replicate, m.client)).collect()).collect()
        };
        assert_eq!(waves(true), [vec![(1, 0), (1, 1)], vec![(0, 1), (2, 0)], vec![(0, 0)]]);
        assert_eq!(waves(false), [vec![(1, 0), (0, 1)], vec![(2, 0), (0, 0)], vec![(1, 1)]]);
    }

    #[test]
    fn the_papers_numbers_of_steps() {
        // arXiv 2512.23043: 5 * ceil(n / 256) gives 120, 250 and 365 for 1, 2 and 3 classes.
        assert_eq!(steps(5923, 256, 5), 120);
        assert_eq!(steps(5923 + 6742, 256, 5), 250);
        assert_eq!(steps(5923 + 6742 + 5958, 256, 5), 365);
    }

    #[test]
    fn half_of_a_wave_is_rounded_up_and_one_client_has_no_half() {
        let member =
            |client| Member { replicate: 0, seed: 1, client, examples: OwnExamples::Listed(&[]), steps: 1, longest: 1 };
        let half = |clients, size| Waves::new((0..clients).map(member).collect(), size, false).half();
        assert_eq!(
            [half(9, 5), half(4, 4), half(2, 9), half(1, 9), half(0, 9)],
            [Some(3), Some(2), Some(1), None, None]
        );
    }
}
