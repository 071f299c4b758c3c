//! Whose circuits are looked for, and in which weights.

use std::ops::Range;

use super::pair::{Model, Pair};
use crate::config::Circuits;
use crate::federation::{Member, Stage};
use crate::model::Weights;
use crate::rng::Purpose;

/// Some pairs, and the weights in which their circuits are looked for.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub stage: Stage<'a>,
    /// One-based.
    pub round: usize,
    pub model: Model,
    /// What the minibatches are drawn for: `Discovery`, or a control.
    pub purpose: Purpose,
    /// Local: a row for every member; global: a row for every replicate.
    pub weights: Weights<'a>,
    pub pairs: &'a [Pair],
    pub members: &'a [Member<'a>],
    /// The first member's place in the round.
    pub first_member: usize,
}

impl<'a> Subject<'a> {
    /// Whose examples a pair's circuit is looked for with.
    pub fn member(&self, pair: &Pair) -> &'a Member<'a> {
        &self.members[pair.member - self.first_member]
    }

    /// The rows of weights that the pairs use.
    pub fn rows(&self) -> Vec<u32> {
        let row = |pair: &Pair| match self.model {
            Model::Local => (pair.member - self.first_member) as u32,
            Model::Global => pair.replicate as u32,
        };
        self.pairs.iter().map(row).collect()
    }

    /// The root of the draws of a pair's searches.
    pub fn seed(&self, circuits: &Circuits, pair: &Pair) -> u64 {
        circuits.seed.unwrap_or(self.member(pair).seed)
    }

    /// Sets the draws for a pair apart from those for all others of the round.
    pub fn draw_key(&self, pair: &Pair) -> u64 {
        (pair.client as u64) << 17 | u64::from(pair.class) << 1 | self.model as u64
    }

    /// The pairs' classes.
    pub fn classes(&self) -> Vec<u32> {
        self.pairs.iter().map(|p| p.class).collect()
    }

    /// Some of the pairs.
    pub fn part(&self, range: Range<usize>) -> Self {
        Self { pairs: &self.pairs[range], ..*self }
    }
}
