//! What a round gave, from the words that were read back.

use super::local::SUMMARY_WORDS;
use super::{LocalSummary, Member, Replicate};
use crate::data::Dataset;
use crate::error::{Error, Result};

/// What a round gave.
#[derive(Clone, Debug)]
pub struct Round {
    /// One-based.
    pub round: usize,
    /// Where the time went, of all replicates together.
    pub seconds: Seconds,
    /// The federations side by side, in the order of their seeds.
    pub replicates: Vec<ReplicateRound>,
    /// Read-backs of the round.
    pub readbacks: u64,
    /// Of each experiment side by side, the bytes read back that are its own: as many as it reads alone.
    pub bytes_read_back: Vec<u64>,
}

/// One federation's part of a round.
#[derive(Clone, Debug)]
pub struct ReplicateRound {
    /// Its seed.
    pub seed: u64,
    /// Its new global model on the test set.
    pub global: Global,
    /// Every client that took part, by number.
    pub clients: Vec<Client>,
    /// The drawn clients that dropped out, by number.
    pub dropped: Vec<usize>,
    /// Share of zero weights in each prunable layer of the clients' trained models, averaged over clients; not a number
    /// where none took part.
    pub sparsity: Vec<(String, f64)>,
}

/// Wall-clock seconds of a round's phases.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seconds {
    /// Local training and averaging.
    pub train: f64,
    /// Observers' training outside of the federation.
    pub beside: f64,
    /// Observers: circuits.
    pub circuits: f64,
    /// Evaluation of the global model.
    pub evaluate: f64,
    /// All, the read-back included.
    pub total: f64,
}

/// The global model on the test set; accuracies are fractions.
#[derive(Clone, Debug)]
pub struct Global {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Over all test images.
    pub accuracy: f64,
    /// Over the test images of classes that some client holds.
    pub trained_accuracy: f64,
    /// By class; a class without test images has none.
    pub per_class_accuracy: Vec<Option<f64>>,
}

/// A client's part in a round.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Its number.
    pub client: usize,
    /// Its training examples.
    pub examples: usize,
    /// Its optimiser steps.
    pub steps: usize,
    /// How its training ended.
    pub summary: LocalSummary,
}

/// What an error of a round has to name.
#[derive(Clone, Copy)]
struct Place<'a> {
    round: usize,
    of: &'a Replicate,
}

impl Place<'_> {
    fn diverged(self, place: String) -> Error {
        let Replicate { experiment, named, recipe, .. } = self.of;
        Error::Diverged { experiment: *experiment, round: self.round, place: format!("{named}{place}"), lr: recipe.lr }
    }
}

/// Turns the words of a round into results.
#[derive(Debug)]
pub(super) struct Judge {
    /// Which classes some client of each replicate holds.
    pub held: Vec<Vec<bool>>,
    /// Names and sizes of the tensors that are pruned.
    pub tensors: Vec<(String, usize)>,
}

impl Judge {
    /// Each replicate's results, with the clients that dropped out of it. `words` are the summaries of all members, their
    /// numbers of nonzero weights, and for as many replicates as were evaluated at once the confusion counts and the sums
    /// of losses.
    ///
    /// # Errors
    /// [`Error::Diverged`].
    pub fn round(
        &self,
        replicates: &[Replicate],
        (members, dropped): (&[Member<'_>], &[Vec<usize>]),
        words: &[Vec<u32>],
        round: usize,
    ) -> Result<Vec<ReplicateRound>> {
        let places = places(members, replicates.len());
        let evaluated = |part: &[Vec<u32>]| -> Vec<(Vec<u32>, f32)> {
            let cells = part[0].len() / part[1].len();
            let losses = part[1].iter().map(|loss| f32::from_bits(*loss));
            part[0].chunks_exact(cells).map(<[u32]>::to_vec).zip(losses).collect()
        };
        let evaluated = words[2..].chunks_exact(2).flat_map(evaluated);
        let one = |(i, (counters, loss)): (usize, (Vec<u32>, f32))| {
            let at = Place { round, of: &replicates[i] };
            Ok(ReplicateRound {
                seed: at.of.seed,
                clients: summarise(members, &places[i], &words[0], at)?,
                dropped: dropped[i].clone(),
                global: Global::new(&counters, loss, &self.held[i], at)?,
                sparsity: realised(&self.tensors, &places[i], &words[1]),
            })
        };
        evaluated.enumerate().map(one).collect()
    }
}

/// Which classes some client of each replicate holds.
pub(super) fn held(replicates: &[Replicate], dataset: &Dataset) -> Vec<Vec<bool>> {
    replicates.iter().map(|replicate| replicate.clients.held(&dataset.train.labels, dataset.classes)).collect()
}

impl Global {
    /// From the confusion counts, `[true class][predicted class]`, and the sum of the losses; `held` are the classes
    /// that some client holds.
    ///
    /// # Errors
    /// [`Error::Diverged`] when the loss is not finite.
    fn new(counters: &[u32], loss_sum: f32, held: &[bool], at: Place<'_>) -> Result<Self> {
        if !loss_sum.is_finite() {
            return Err(at.diverged("in the averaged model".into()));
        }
        let row = |(class, row): (usize, &[u32])| (u64::from(row[class]), row.iter().map(|n| u64::from(*n)).sum());
        let rows: Vec<(u64, u64)> = counters.chunks_exact(held.len()).enumerate().map(row).collect();
        let share = |rows: &mut dyn Iterator<Item = &(u64, u64)>| {
            let (right, all) = rows.fold((0, 0), |(r, a), (right, all)| (r + right, a + all));
            // Not a number without images, as nothing is known then.
            right as f64 / all as f64
        };
        let images: u64 = rows.iter().map(|(_, all)| all).sum();
        Ok(Self {
            loss: f64::from(loss_sum) / images.max(1) as f64,
            accuracy: share(&mut rows.iter()),
            trained_accuracy: share(&mut rows.iter().zip(held).filter(|(_, held)| **held).map(|(row, _)| row)),
            per_class_accuracy: rows.iter().map(|(r, all)| (*all > 0).then(|| *r as f64 / *all as f64)).collect(),
        })
    }
}

/// The places in the round of each replicate's members.
fn places(members: &[Member<'_>], replicates: usize) -> Vec<Vec<usize>> {
    let mut places = vec![Vec::new(); replicates];
    members.iter().enumerate().for_each(|(place, member)| places[member.replicate].push(place));
    places
}

/// The summaries of the members at `places` of the round, by client number; `words` are those of all members.
///
/// # Errors
/// [`Error::Diverged`] naming the first step with a loss that is not finite, and its client.
fn summarise(members: &[Member<'_>], places: &[usize], words: &[u32], at: Place<'_>) -> Result<Vec<Client>> {
    let client = |place: &usize| Client {
        client: members[*place].client,
        examples: members[*place].examples.len(),
        steps: members[*place].steps,
        summary: LocalSummary::from_words(&words[place * SUMMARY_WORDS..][..SUMMARY_WORDS]),
    };
    let mut clients: Vec<Client> = places.iter().map(client).collect();
    clients.sort_by_key(|c| c.client);
    let first = clients.iter().filter_map(|c| c.summary.diverged.map(|step| (step, c.client))).min();
    match first {
        None => Ok(clients),
        Some((step, client)) => Err(at.diverged(format!("at client {client}, step {step}"))),
    }
}

/// The share of zero weights in each of `tensors`, over the members at `places`; `alive` has every member's numbers of
/// nonzero weights.
fn realised(tensors: &[(String, usize)], places: &[usize], alive: &[u32]) -> Vec<(String, f64)> {
    let share = |(i, (name, words)): (usize, &(String, usize))| {
        let nonzero: u64 = places.iter().map(|place| u64::from(alive[place * tensors.len() + i])).sum();
        (name.clone(), 1.0 - nonzero as f64 / (words * places.len()) as f64)
    };
    tensors.iter().enumerate().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{OwnExamples, Recipe};
    use super::*;
    use crate::config::Sparsity;
    use crate::data::Population;

    fn replicate() -> Replicate {
        let sparsity = Sparsity { target: 0.0, anneal: 0.5, min_alive: 4 };
        let recipe = Recipe { lr: 0.25, sparsity };
        let clients = Population::from(Vec::<Vec<u32>>::new());
        Replicate { experiment: 3, named: "with seed 5, ".into(), seed: 5, clients, recipe }
    }

    fn member(replicate: usize, client: usize) -> Member<'static> {
        Member { replicate, seed: 5, client, examples: OwnExamples::Listed(&[0; 8]), steps: 2, longest: 2 }
    }

    /// A loss, right answers, images, and the zero-based step that diverged, as the kernel leaves them.
    fn summary(loss: f32, right: u32, images: u32, diverged: u32) -> [u32; SUMMARY_WORDS] {
        [loss.to_bits(), right, images, diverged]
    }

    #[test]
    fn accuracies_are_shares_of_the_images_and_the_mean_loss_is_of_all() {
        let of = replicate();
        let at = Place { round: 4, of: &of };
        // Rows are true classes: 3 of 4 right, 1 of 2, no image, 0 of 2.
        let counters = [3, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0];
        let global = Global::new(&counters, 10.0, &[true, false, true, true], at).unwrap();
        assert_eq!((global.loss, global.accuracy, global.trained_accuracy), (1.25, 0.5, 0.5));
        assert_eq!(global.per_class_accuracy, [Some(0.75), Some(0.5), None, Some(0.0)]);
        let first = Global::new(&counters, 10.0, &[true, false, false, false], at).unwrap();
        assert_eq!((first.accuracy, first.trained_accuracy), (0.5, 0.75));
        assert!(Global::new(&counters, 10.0, &[false; 4], at).unwrap().trained_accuracy.is_nan(), "nothing is known");
    }

    #[test]
    fn a_loss_that_is_not_finite_names_the_round_the_seed_and_the_rate() {
        let of = replicate();
        for loss in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = Global::new(&[1], loss, &[true], Place { round: 4, of: &of }).unwrap_err();
            let Error::Diverged { experiment: 3, round: 4, place, lr: 0.25 } = error else { panic!("{error}") };
            assert_eq!(place, "with seed 5, in the averaged model");
        }
    }

    #[test]
    fn clients_are_summed_up_by_number() {
        let of = replicate();
        let members = [member(0, 7), member(1, 1), member(0, 2)];
        let never = u32::MAX;
        let words = [summary(0.5, 3, 4, never), summary(9.0, 0, 1, never), summary(0.25, 1, 8, never)].concat();
        let clients = summarise(&members, &[0, 2], &words, Place { round: 1, of: &of }).unwrap();
        let found: Vec<_> = clients.iter().map(|c| (c.client, c.summary.loss, c.summary.accuracy)).collect();
        assert_eq!(found, [(2, 0.25, 0.125), (7, 0.5, 0.75)]);
    }

    /// Whatever the order of the wave, and although others diverged later or at the same step.
    #[test]
    fn the_first_step_that_diverged_is_named_and_of_its_clients_the_first() {
        let of = replicate();
        let members = [member(0, 1), member(0, 9), member(0, 5)];
        let words = [summary(0.5, 0, 4, 6), summary(0.5, 0, 4, 2), summary(0.5, 0, 4, 2)].concat();
        let error = summarise(&members, &[0, 1, 2], &words, Place { round: 8, of: &of }).unwrap_err();
        let Error::Diverged { round: 8, place, .. } = error else { panic!("{error}") };
        assert_eq!(place, "with seed 5, at client 5, step 3");
    }

    #[test]
    fn sparsity_is_the_mean_share_of_zeros_over_a_replicates_own_clients() {
        let tensors = [("conv".to_string(), 10), ("fc".to_string(), 100)];
        // Nonzero weights of three members, of whom the second is another federation's.
        let alive = [4, 50, 10, 100, 2, 25];
        let share =
            |places: &[usize]| realised(&tensors, places, &alive).into_iter().map(|(_, s)| s).collect::<Vec<_>>();
        let found = share(&[0, 2]);
        assert!((found[0] - 0.7).abs() < 1e-12 && (found[1] - 0.625).abs() < 1e-12, "{found:?}");
        assert!(share(&[]).iter().all(|s| s.is_nan()), "of nobody nothing is known");
    }
}
