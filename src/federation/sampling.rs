//! Who takes part in a round. Every draw comes from a key of the seed, the round and the purpose (and the client, where it
//! is the client's own): a round's cohort needs nothing of any other round.

use std::collections::BinaryHeap;

use rand::RngExt;
use rand::distr::OpenClosed01;
use rand::seq::index;

use super::cohort::steps;
use super::{Member, OwnExamples, Replicate, Waves};
use crate::config::{self, Sampling, Training};
use crate::data::Population;
use crate::rng::{NO_CLIENT, Purpose, stream};

/// The clients of one round, in all the federations side by side.
#[derive(Clone, Debug)]
pub struct Cohort<'a> {
    /// By replicate and client.
    participants: Vec<Member<'a>>,
    /// By replicate, ascending: the drawn clients that dropped out.
    pub dropped: Vec<Vec<usize>>,
}

impl<'a> Cohort<'a> {
    /// Draws the clients of one-based `round`.
    pub(super) fn draw(
        replicates: &'a [Replicate],
        cohort: &config::Cohort,
        training: &Training,
        round: usize,
    ) -> Self {
        let mut all = Self { participants: Vec::new(), dropped: Vec::new() };
        for (replicate, Replicate { seed, clients, .. }) in replicates.iter().enumerate() {
            let key = Key { seed: *seed, round: round as u64 };
            let drawn = key.clients(clients, cohort.sampling, cohort.size(clients.len()));
            let epochs = key.epochs(&drawn, cohort.stragglers(drawn.len()), training.local_epochs);
            let taking = |client: usize, epochs: usize| -> Member<'a> {
                let examples = OwnExamples::Client(clients, client);
                let steps = steps(examples.len(), training.batch_size, epochs);
                Member { replicate, seed: *seed, client, examples, steps, longest: 0 }
            };
            let lost = |client: &usize| cohort.dropout_rate > 0.0 && key.drops(*client, cohort.dropout_rate);
            let (first, mut dropped) = (all.participants.len(), Vec::new());
            for (client, epochs) in drawn.into_iter().zip(epochs) {
                match lost(&client) {
                    true => dropped.push(client),
                    false => all.participants.push(taking(client, epochs)),
                }
            }
            let own = &mut all.participants[first..];
            let longest = own.iter().map(|p| p.steps).max().unwrap_or(0);
            own.iter_mut().for_each(|p| p.longest = longest);
            all.dropped.push(dropped);
        }
        all
    }

    /// The clients that take part, in waves as [`Waves::new`] cuts them.
    pub fn waves(&self, size: usize, apart: bool) -> Waves<'a> {
        Waves::new(self.participants.clone(), size, apart)
    }
}

/// What a round's draws hang on.
#[derive(Clone, Copy)]
struct Key {
    seed: u64,
    round: u64,
}

impl Key {
    /// `count` different clients, ascending.
    fn clients(self, population: &Population, sampling: Sampling, count: usize) -> Vec<usize> {
        if count == population.len() {
            return (0..count).collect();
        }
        let mut rng = stream(self.seed, self.round, NO_CLIENT, Purpose::Cohort);
        let mut drawn = match sampling {
            Sampling::Uniform => index::sample(&mut rng, population.len(), count).into_vec(),
            Sampling::Weighted => {
                let sizes = (0..population.len()).map(|client| population.size(client));
                weighted(sizes.map(|size| (size, rng.sample(OpenClosed01))), count)
            }
        };
        drawn.sort_unstable();
        drawn
    }

    /// Local epochs of each of the `drawn` clients: all of `most`, but for so many stragglers.
    fn epochs(self, drawn: &[usize], stragglers: usize, most: usize) -> Vec<usize> {
        let mut epochs = vec![most; drawn.len()];
        let mut rng = stream(self.seed, self.round, NO_CLIENT, Purpose::Straggling);
        for at in index::sample(&mut rng, drawn.len(), stragglers) {
            let mut own = stream(self.seed, self.round, drawn[at] as u64, Purpose::Straggling);
            epochs[at] = own.random_range(1..=most);
        }
        epochs
    }

    /// Whether a client drops out, which it does with probability `rate`.
    fn drops(self, client: usize, rate: f64) -> bool {
        stream(self.seed, self.round, client as u64, Purpose::Dropout).random::<f64>() < rate
    }
}

/// The places of `count` items, of which each comes with its weight and a uniform number u from (0, 1]. The smallest
/// -ln(u) / w are those that drawing one item after another gives, in proportion to the weights of the items not drawn yet
/// (Efraimidis and Spirakis 2006, "Weighted random sampling with a reservoir", algorithm A). Holds `count` items at a time.
fn weighted(items: impl Iterator<Item = (usize, f64)>, count: usize) -> Vec<usize> {
    // Of positive numbers, the bits are in the order of the values.
    let wait = |weight: usize, u: f64| (u.ln() / weight as f64).abs().to_bits();
    let mut kept: BinaryHeap<(u64, usize)> = BinaryHeap::with_capacity(count);
    for (place, (weight, u)) in items.enumerate() {
        let item = (wait(weight, u), place);
        if kept.len() < count {
            kept.push(item);
        } else if let Some(mut last) = kept.peek_mut()
            && item < *last
        {
            *last = item;
        }
    }
    kept.into_iter().map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;
    use super::*;
    use crate::config::{Optimizer, Sparsity};
    use crate::data::partition::{Bootstrap, bootstrap};
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    fn training(local_epochs: usize) -> Training {
        Training { local_epochs, batch_size: 4, optimizer: Optimizer::Adam, lr: 0.001 }
    }

    /// Clients of so many examples each.
    fn population(sizes: &[usize]) -> Population {
        sizes.iter().map(|n| (0..*n as u32).collect::<Vec<_>>()).collect::<Vec<_>>().into()
    }

    fn replicate(seed: u64, clients: Population) -> Replicate {
        let sparsity = Sparsity { target: 0.0, anneal: 0.5, min_alive: 4 };
        let recipe = Recipe { lr: 0.001, sparsity };
        Replicate { experiment: 0, named: String::new(), seed, clients, recipe }
    }

    fn key(round: u64) -> Key {
        Key { seed: 5, round }
    }

    fn counts(population: &Population, sampling: Sampling, count: usize, rounds: u64) -> Vec<f64> {
        let mut counts = vec![0.0; population.len()];
        for round in 1..=rounds {
            let drawn = key(round).clients(population, sampling, count);
            assert!(drawn.len() == count && drawn.is_sorted_by(|a, b| a < b), "{drawn:?}");
            drawn.iter().for_each(|client| counts[*client] += 1.0);
        }
        counts
    }

    #[test]
    fn everyone_takes_part_unless_asked_otherwise() {
        let replicates = [(7, [3, 9]), (8, [5, 1])].map(|(seed, sizes)| replicate(seed, population(&sizes)));
        let cohort = Cohort::draw(&replicates, &config::Cohort::default(), &training(2), 1);
        let waves = cohort.waves(9, true);
        let who: Vec<_> =
            waves.members.iter().map(|m| (m.seed, m.client, m.examples.len(), m.steps, m.longest)).collect();
        // Two epochs in batches of 4: 9 examples are 6 steps, 5 are 4, 3 and 1 are 2.
        assert_eq!(who, [(7, 1, 9, 6, 6), (7, 0, 3, 2, 6), (8, 0, 5, 4, 4), (8, 1, 1, 2, 4)]);
        assert_eq!(cohort.dropped, [[0; 0], []]);
    }

    #[test]
    fn every_client_is_drawn_equally_often() {
        // Each of the sampler's ways: few of few, few of many, and many of many.
        for (clients, count, rounds) in [(10, 3, 4000), (40, 20, 2000), (1000, 5, 4000), (600, 300, 400)] {
            let counts = counts(&population(&vec![1; clients]), Sampling::Uniform, count, rounds);
            let expected = (count as u64 * rounds) as f64 / clients as f64;
            let chi: f64 = counts.iter().map(|n| (n - expected).powi(2) / expected).sum();
            // Without replacement the counts of a round are negatively correlated: the statistic is (1 - count / clients)
            // times chi-square with one degree of freedom fewer than there are clients; bounds are four deviations.
            let freedom = clients as f64 - 1.0;
            let scaled = chi / (1.0 - count as f64 / clients as f64) * (freedom / clients as f64);
            assert!((scaled - freedom).abs() < 4.0 * (2.0 * freedom).sqrt() + 6.0, "{clients}, {count}: {scaled}");
        }
    }

    /// Two of three clients with 1, 2 and 5 examples, one after the other: all probabilities by hand.
    #[test]
    fn weighted_draws_have_the_exact_probabilities() {
        let (sizes, rounds) = ([1, 2, 5], 60_000u64);
        let total = 8.0;
        let first = |i: usize| sizes[i] as f64 / total;
        let second = |i: usize, after: usize| sizes[i] as f64 / (total - sizes[after] as f64);
        let counts = counts(&population(&sizes), Sampling::Weighted, 2, rounds);
        for (i, found) in counts.iter().map(|n| n / rounds as f64).enumerate() {
            let later: f64 = (0..3).filter(|j| *j != i).map(|j| first(j) * second(i, j)).sum();
            let expected = first(i) + later;
            let deviation = (expected * (1.0 - expected) / rounds as f64).sqrt();
            assert!((found - expected).abs() < 4.0 * deviation, "client {i}: {found} instead of {expected}");
        }
    }

    #[test]
    fn the_least_waits_are_kept() {
        // Waits of 2 ln 2, 0.1 ln 10, 0, and 3 ln 2.
        let items = [(1, 0.25), (10, 0.1), (3, 1.0), (1, 0.125)];
        let kept = |count| {
            let mut kept = weighted(items.into_iter(), count);
            kept.sort_unstable();
            kept
        };
        assert_eq!([kept(1), kept(2), kept(3)], [vec![2], vec![1, 2], vec![0, 1, 2]]);
        assert_eq!(kept(4), [0, 1, 2, 3]);
    }

    #[test]
    fn rounds_and_seeds_draw_afresh_and_repeatably() {
        let population = population(&[1; 50]);
        for sampling in [Sampling::Uniform, Sampling::Weighted] {
            let draw = |key: Key| key.clients(&population, sampling, 10);
            assert_eq!(draw(key(3)), draw(key(3)));
            assert_ne!(draw(key(3)), draw(key(4)));
            assert_ne!(draw(key(3)), draw(Key { seed: 6, round: 3 }));
        }
    }

    #[test]
    fn a_million_clients_cost_what_is_drawn_of_them() {
        let split = Bootstrap { num_clients: 1 << 40, examples_per_client: 6, alpha: None };
        let clients = Population::Drawn(bootstrap(&[0; 100], 1, &split, 1).unwrap());
        let replicates = [replicate(1, clients)];
        let asked = config::Cohort { clients_per_round: Some(1000), ..config::Cohort::default() };
        let cohort = Cohort::draw(&replicates, &asked, &training(1), 9);
        let members = cohort.waves(1000, true).members;
        assert!(members.len() == 1000 && members.iter().all(|m| m.examples.len() == 6 && m.steps == 2));
        assert!(members.iter().any(|m| m.client > 1 << 39));
    }

    #[test]
    fn drop_outs_are_named_and_train_nothing() {
        let replicates = [replicate(3, population(&[8; 200]))];
        let asked =
            |dropout_rate| config::Cohort { fraction_train: Some(0.5), dropout_rate, ..config::Cohort::default() };
        let (mut dropped, rounds) = (0, 50);
        for round in 1..=rounds {
            let all = Cohort::draw(&replicates, &asked(0.0), &training(1), round);
            let some = Cohort::draw(&replicates, &asked(0.3), &training(1), round);
            let clients = |c: &Cohort<'_>| c.participants.iter().map(|p| p.client).collect::<Vec<_>>();
            let mut again = [clients(&some), some.dropped[0].clone()].concat();
            again.sort_unstable();
            assert_eq!(again, clients(&all), "the draw itself is the same");
            assert_eq!(all.dropped, [[0; 0]]);
            dropped += some.dropped[0].len();
        }
        // 5,000 draws at 0.3: a deviation is 32.
        assert!((dropped as f64 - 1500.0).abs() < 130.0, "{dropped}");
        let none = Cohort::draw(&replicates, &asked(1.0 - f64::EPSILON), &training(1), 1);
        assert!(none.participants.is_empty() && none.dropped[0].len() == 100);
    }

    #[test]
    fn stragglers_make_from_one_to_all_epochs() {
        let replicates = [replicate(3, population(&[8; 100]))];
        let asked = config::Cohort { partial_epochs: 0.9, ..config::Cohort::default() };
        let mut made = [0.0; 6];
        for round in 1..=40 {
            let cohort = Cohort::draw(&replicates, &asked, &training(5), round);
            assert!(cohort.participants.iter().all(|p| p.longest <= 10));
            cohort.participants.iter().for_each(|p| made[p.steps / 2] += 1.0);
        }
        // Of 4,000, 400 are not chosen, and of the others a fifth makes each number of epochs.
        assert_eq!(made.iter().sum::<f64>(), 4000.0);
        assert_eq!(made[0], 0.0);
        for (epochs, made) in made.iter().enumerate().skip(1) {
            let expected = if epochs == 5 { 1120.0 } else { 720.0 };
            assert!((made - expected).abs() < 100.0, "{epochs} epochs: {made}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 200, rng_seed: RngSeed::Fixed(20), failure_persistence: None, ..ProptestConfig::default()
        })]

        /// Whoever is drawn is drawn once, again and again the same, and either takes part or dropped out; in which order
        /// seeds stand makes no difference to a seed.
        #[test]
        fn cohorts_are_drawn_without_replacement(
            sizes in prop::collection::vec(1..40usize, 1..60), share in 0.001..1.0f64, weighted: bool,
            dropout_rate in 0.0..0.9f64, partial_epochs in 0.0..1.0f64, epochs in 1..6usize, round in 1..1000usize,
        ) {
            let replicate = |seed| replicate(seed, population(&sizes));
            let asked = config::Cohort {
                fraction_train: Some(share),
                sampling: if weighted { Sampling::Weighted } else { Sampling::Uniform },
                dropout_rate,
                partial_epochs,
                ..config::Cohort::default()
            };
            let (two, swapped) = ([replicate(1), replicate(2)], [replicate(2), replicate(1)]);
            let cohort = Cohort::draw(&two, &asked, &training(epochs), round);
            let other = Cohort::draw(&swapped, &asked, &training(epochs), round);
            for at in 0..2 {
                let who = |c: &Cohort<'_>, at| -> Vec<(usize, usize, usize)> {
                    let own = c.participants.iter().filter(|p| p.replicate == at);
                    own.map(|p| (p.client, p.steps, p.longest)).collect()
                };
                let own = who(&cohort, at);
                prop_assert_eq!((&own, &cohort.dropped[at]), (&who(&other, 1 - at), &other.dropped[1 - at]));
                let mut drawn: Vec<usize> = own.iter().map(|(client, ..)| *client).chain(cohort.dropped[at].clone()).collect();
                drawn.sort_unstable();
                prop_assert!(drawn.is_sorted_by(|a, b| a < b) && drawn.last().is_none_or(|last| *last < sizes.len()));
                prop_assert_eq!(drawn.len(), asked.size(sizes.len()));
                let longest = own.iter().map(|(_, steps, _)| *steps).max();
                for (client, steps, of_longest) in own {
                    let epoch = sizes[client].div_ceil(4);
                    prop_assert!(steps % epoch == 0 && (1..=epochs).contains(&(steps / epoch)));
                    prop_assert_eq!(Some(of_longest), longest);
                }
            }
        }
    }

    /// Whoever else is drawn, and in whichever place: a straggler's epochs and a drop-out are the client's own, and of one
    /// round.
    #[test]
    fn what_befalls_a_client_hangs_on_its_own_number() {
        let epochs = |drawn: &[usize], round| key(round).epochs(drawn, drawn.len(), 1000);
        let [all, few] = [epochs(&[3, 8, 20, 41], 2), epochs(&[20, 41], 2)];
        assert_eq!(all[2..], few);
        assert_ne!(all[2..], epochs(&[20, 41], 3));
        assert!(all[0] != all[1] && all[1] != all[2], "{all:?}");
        let lost = |round| (0..200).filter(|client| key(round).drops(*client, 0.5)).collect::<Vec<_>>();
        assert!(lost(1) != lost(2) && (60..140).contains(&lost(1).len()));
        // Neither says anything of the other, nor of who is drawn.
        let late = |round: u64| -> Vec<usize> {
            let epochs = key(round).epochs(&(0..200).collect::<Vec<_>>(), 100, 2);
            (0..200).filter(|client| epochs[*client] == 1).collect()
        };
        let both = |round| late(round).iter().filter(|client| lost(round).contains(client)).count();
        let shares: Vec<usize> = (1..=40).map(both).collect();
        // A quarter of the clients makes one epoch of two, and half of those drop out: 25 of 200, 1000 of 8000.
        let total: usize = shares.iter().sum();
        assert!((850..1150).contains(&total), "{total}");
    }

    /// Rounds are drawn by number, stragglers among them: the second round of a run is not its first once more.
    #[test]
    fn stragglers_are_others_in_each_round() {
        let drawn: Vec<usize> = (0..100).collect();
        let slow = |round| {
            let epochs = key(round).epochs(&drawn, 30, 1000);
            drawn.iter().filter(|client| epochs[**client] < 1000).copied().collect::<Vec<_>>()
        };
        assert!(slow(1) != slow(2) && slow(1) == slow(1));
        // Who is slow is not who would be drawn: those 30 of 100.
        assert_ne!(slow(1), key(1).clients(&population(&[1; 100]), Sampling::Uniform, 30));
    }

    /// Results of a seed hold only while its draws stay what they are, on every machine and with every version of a crate.
    #[test]
    fn the_draws_of_a_round_are_these() {
        let clients = key(3).clients(&population(&[1; 1000]), Sampling::Uniform, 6);
        let epochs = key(3).epochs(&[0, 1, 2, 3, 4, 5, 6, 7], 5, 9);
        let dropped: Vec<usize> = (0..30).filter(|client| key(3).drops(*client, 0.2)).collect();
        let (replicates, asked) = (
            [replicate(5, population(&[1; 1000]))],
            config::Cohort { clients_per_round: Some(6), ..config::Cohort::default() },
        );
        let cohort = Cohort::draw(&replicates, &asked, &training(1), 3);
        assert!(
            cohort.participants.iter().map(|p| p.client).eq(clients.iter().copied()),
            "the third round is the third"
        );
        assert_eq!(
            (clients, epochs, dropped),
            (vec![6, 213, 310, 441, 894, 997], vec![9, 6, 2, 7, 9, 9, 1, 6], vec![4, 5, 6, 19, 24])
        );
    }
}
