//! Who takes part in a round, in which order, and in which waves.

/// A client in a round.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its number in the partition.
    pub client: usize,
    /// Indices of its training examples.
    pub examples: &'a [u32],
    /// Optimiser steps it takes in a round.
    pub steps: usize,
}

/// A round's members, longest first, cut into waves.
#[derive(Clone, Debug)]
pub struct Waves<'a> {
    /// All members in the order of the waves. It depends on the members alone, and so do the sums over them.
    pub members: Vec<Member<'a>>,
    /// Most members of a wave.
    pub size: usize,
}

impl<'a> Waves<'a> {
    /// Sorts by steps (most first, so that those still training are always a prefix), then by client.
    pub fn new(mut members: Vec<Member<'a>>, size: usize) -> Self {
        members.sort_by_key(|m| (std::cmp::Reverse(m.steps), m.client));
        Self { members, size: size.max(1) }
    }

    /// The waves, each with the place of its first member in the round.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[Member<'a>])> {
        self.members.chunks(self.size).enumerate().map(|(i, wave)| (i * self.size, wave))
    }
}

/// Steps of `local_epochs` passes over `examples` in batches of `batch_size`, a last partial batch kept.
pub(super) fn steps(examples: usize, batch_size: usize, local_epochs: usize) -> usize {
    local_epochs * examples.div_ceil(batch_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_do_not_depend_on_the_order_of_the_clients() {
        let member = |client, steps| Member { client, examples: &[], steps };
        let members = [member(0, 3), member(1, 9), member(2, 3), member(3, 1), member(4, 9)];
        let order = |list: Vec<Member<'_>>, size| -> Vec<Vec<usize>> {
            Waves::new(list, size).iter().map(|(_, wave)| wave.iter().map(|m| m.client).collect()).collect()
        };
        assert_eq!(order(members.to_vec(), 2), [vec![1, 4], vec![0, 2], vec![3]]);
        let mut reversed = members.to_vec();
        reversed.reverse();
        assert_eq!(order(reversed, 2), order(members.to_vec(), 2));
        assert_eq!(order(members.to_vec(), 99), [vec![1, 4, 0, 2, 3]]);
    }

    #[test]
    fn the_papers_numbers_of_steps() {
        // method.md: 5 * ceil(n / 256) gives 120, 250 and 365 for 1, 2 and 3 classes.
        assert_eq!(steps(5923, 256, 5), 120);
        assert_eq!(steps(5923 + 6742, 256, 5), 250);
        assert_eq!(steps(5923 + 6742 + 5958, 256, 5), 365);
    }
}
