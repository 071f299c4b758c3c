//! `bootstrap`: every client draws its examples with replacement, so that there may be more clients than examples.
//!
//! A client's draw depends on its own key alone: a population of millions is never dealt, a client's examples are drawn
//! when it takes part.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::check_alpha;
use super::dirichlet::shares;
use crate::data::indices_by_class;
use crate::error::{Error, Result};
use crate::rng::{NO_ROUND, Purpose, stream};

/// How to draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    /// Number of clients K.
    pub num_clients: usize,
    /// Examples of every client, drawn with replacement.
    pub examples_per_client: usize,
    /// Without it, every example of the data is as likely as every other. With it, each client first draws the shares of
    /// its classes from Dir(alpha), the same alpha for every class that the data has, then for each example a class by these
    /// shares and any example of that class. Hsu et al. (2019, arXiv 1909.06335) divide theirs over the classes: of N classes
    /// with a uniform prior, their alpha is N times this one.
    pub alpha: Option<f64>,
}

/// Clients whose examples are drawn when they are asked for.
#[derive(Clone, Debug)]
pub struct Drawn {
    split: Bootstrap,
    seed: u64,
    examples: u32,
    /// The examples of every class that has any; without alpha, not needed and not there.
    classes: Vec<Vec<u32>>,
}

/// Clients that draw from data with these labels, each from its own key under `seed`.
///
/// # Errors
/// `Config` for `partition.num_clients` and `partition.examples_per_client` (zero), `partition.alpha` (not a finite number
/// above zero) and `data.train_examples` (nothing to draw from).
pub fn bootstrap(labels: &[u8], classes: usize, split: &Bootstrap, seed: u64) -> Result<Drawn> {
    let fault = |key: &str, problem: &str, help: &str| Err(Error::config(key, problem, help));
    if split.num_clients == 0 {
        return fault("partition.num_clients", "there are no clients", "give at least 1");
    }
    if split.examples_per_client == 0 {
        let problem = "a client without examples has nothing to train on";
        return fault("partition.examples_per_client", problem, "give at least 1");
    }
    split.alpha.map_or(Ok(()), check_alpha)?;
    if labels.is_empty() {
        return fault("data.train_examples", "there are no examples to draw from", "give at least 1");
    }
    let mut members = if split.alpha.is_some() { indices_by_class(labels, classes) } else { Vec::new() };
    members.retain(|class| !class.is_empty());
    Ok(Drawn { split: *split, seed, examples: labels.len() as u32, classes: members })
}

impl Drawn {
    /// Number of clients K.
    pub fn len(&self) -> usize {
        self.split.num_clients
    }

    /// Whether there are no clients, which is never so.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The examples of every class that is drawn from; empty where no classes are drawn.
    pub(in crate::data) fn classes(&self) -> &[Vec<u32>] {
        &self.classes
    }

    /// Examples of every client.
    pub fn examples_per_client(&self) -> usize {
        self.split.examples_per_client
    }

    /// Draws the examples of `client`: the same ones each time.
    pub fn examples(&self, client: usize) -> Vec<u32> {
        let mut rng = stream(self.seed, NO_ROUND, client as u64, Purpose::Partition);
        match self.split.alpha {
            None => (0..self.split.examples_per_client).map(|_| rng.random_range(0..self.examples)).collect(),
            Some(alpha) => self.by_class(alpha, &mut rng),
        }
    }

    fn by_class(&self, alpha: f64, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let mut ends = shares(alpha, &vec![true; self.classes.len()], rng);
        let mut sum = 0.0;
        for end in &mut ends {
            sum += *end;
            *end = sum;
        }
        let draw = |_| {
            let at: f64 = rng.random();
            // Rounding may leave the last end below 1, and classes of share 0 end where the one before them does.
            let class = ends.partition_point(|end| *end <= at * sum).min(ends.len() - 1);
            let members = &self.classes[class];
            members[rng.random_range(0..members.len())]
        };
        (0..self.split.examples_per_client).map(draw).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{labels, refused};
    use super::*;

    const PLAIN: Bootstrap = Bootstrap { num_clients: 1_000_000, examples_per_client: 40, alpha: None };

    fn clients(labels: &[u8], split: &Bootstrap, seed: u64) -> Drawn {
        bootstrap(labels, 10, split, seed).unwrap()
    }

    /// Pearson's statistic of counts that should all be equal.
    fn chi_square(counts: &[u32]) -> f64 {
        let expected = counts.iter().sum::<u32>() as f64 / counts.len() as f64;
        counts.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum()
    }

    #[test]
    fn every_example_is_equally_likely_and_may_come_twice() {
        let labels = labels(50, 10);
        let drawn = clients(&labels, &PLAIN, 3);
        let mut counts = vec![0u32; 50];
        let mut repeated = 0;
        for client in 0..5_000 {
            let mut own = drawn.examples(client);
            assert_eq!(own.len(), 40);
            own.iter().for_each(|e| counts[*e as usize] += 1);
            own.sort_unstable();
            own.dedup();
            repeated += usize::from(own.len() < 40);
        }
        // 49 degrees of freedom: 85.4 is exceeded once in a thousand times.
        assert!(chi_square(&counts) < 85.4, "{}", chi_square(&counts));
        assert!(repeated > 4_990, "40 of 50 without a repetition: about one in ten million");
    }

    #[test]
    fn a_client_is_the_same_each_time_and_unlike_any_other() {
        let labels = labels(5000, 10);
        let (a, b) = (clients(&labels, &PLAIN, 1), clients(&labels, &PLAIN, 2));
        let few = clients(&labels, &Bootstrap { num_clients: 10, ..PLAIN }, 1);
        assert_eq!(a.examples(7), a.examples(7));
        assert_eq!(a.examples(7), few.examples(7), "however many others there are");
        assert_ne!(a.examples(7), a.examples(999_999));
        assert_ne!(a.examples(7), b.examples(7));
        assert_eq!((a.len(), a.examples_per_client()), (1_000_000, 40));
    }

    /// Of Dir(alpha) over k classes, the sum of squared shares is on average (alpha + 1) / (k alpha + 1).
    #[test]
    fn alpha_governs_the_classes_of_a_client() {
        let labels: Vec<u8> = (0..3000).map(|i| [0, 1, 2, 2, 5][i % 5]).collect();
        for alpha in [1e-3, 0.1, 1.0, 50.0] {
            let split = Bootstrap { examples_per_client: 200, alpha: Some(alpha), ..PLAIN };
            let drawn = clients(&labels, &split, 5);
            let (mut squares, mut of_class) = (0.0, [0u32; 10]);
            let number = 2_000;
            for client in 0..number {
                let mut counts = [0u32; 10];
                drawn.examples(client).iter().for_each(|e| counts[usize::from(labels[*e as usize])] += 1);
                // Unbiased for the sum of squared shares: pairs of two draws that are of one class.
                let pairs: u32 = counts.iter().map(|n| n * n.saturating_sub(1)).sum();
                squares += f64::from(pairs) / (200.0 * 199.0) / number as f64;
                of_class.iter_mut().zip(counts).for_each(|(all, own)| *all += own);
            }
            let expected = (alpha + 1.0) / (4.0 * alpha + 1.0);
            assert!((squares - expected).abs() < 0.02, "alpha {alpha}: {squares} instead of {expected}");
            let total: u32 = of_class.iter().sum();
            for class in [0, 1, 2, 5] {
                let share = f64::from(of_class[class]) / f64::from(total);
                assert!((share - 0.25).abs() < 0.04, "alpha {alpha}: class {class} has {share}");
            }
        }
    }

    #[test]
    fn within_a_class_every_example_is_equally_likely() {
        let labels: Vec<u8> = (0..60).map(|i| u8::from(i % 3 == 0)).collect();
        let drawn = clients(&labels, &Bootstrap { alpha: Some(0.5), ..PLAIN }, 9);
        let mut counts = vec![0u32; 60];
        (0..5_000).for_each(|client| drawn.examples(client).iter().for_each(|e| counts[*e as usize] += 1));
        let of = |class: u8| -> Vec<u32> { (0..60).filter(|i| labels[*i] == class).map(|i| counts[i]).collect() };
        // 39 and 19 degrees of freedom, exceeded once in a thousand times.
        assert!(chi_square(&of(0)) < 72.1 && chi_square(&of(1)) < 43.8, "{counts:?}");
    }

    #[test]
    fn extreme_alphas_end() {
        let labels = labels(500, 10);
        for alpha in [f64::MIN_POSITIVE, f64::MAX] {
            let drawn = clients(&labels, &Bootstrap { alpha: Some(alpha), ..PLAIN }, 1);
            assert!(drawn.examples(0).iter().all(|e| *e < 500));
        }
    }

    #[test]
    fn refuses_what_cannot_be_drawn() {
        let draw = |split: Bootstrap| bootstrap(&[0, 1], 2, &split, 1);
        refused(draw(Bootstrap { num_clients: 0, ..PLAIN }), "partition.num_clients", "no clients");
        let empty = Bootstrap { examples_per_client: 0, ..PLAIN };
        refused(draw(empty), "partition.examples_per_client", "at least 1");
        for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            refused(draw(Bootstrap { alpha: Some(alpha), ..PLAIN }), "partition.alpha", "above 0");
        }
        refused(bootstrap(&[], 2, &PLAIN, 1), "data.train_examples", "no examples");
    }

    /// Results of a seed hold only while its draws stay what they are, on every machine and with every version of a crate.
    #[test]
    fn the_draws_of_a_client_are_these() {
        let split = Bootstrap { num_clients: 10, examples_per_client: 8, alpha: None };
        let drawn = clients(&labels(1000, 10), &split, 9);
        assert_eq!(drawn.examples(7), [948, 723, 628, 221, 936, 919, 40, 659]);
    }

    /// Classes that the data lack are not drawn, and have no part in the shares.
    #[test]
    fn a_class_without_examples_is_no_class() {
        let (gaps, none) = ([0, 9, 0, 9, 0, 9], [0, 1, 0, 1, 0, 1]);
        let split = Bootstrap { num_clients: 10, examples_per_client: 50, alpha: Some(0.5) };
        let [with, without] =
            [bootstrap(&gaps, 10, &split, 4), bootstrap(&none, 2, &split, 4)].map(|drawn| drawn.unwrap());
        (0..10).for_each(|client| assert_eq!(with.examples(client), without.examples(client)));
        assert_eq!(with.classes(), [[0, 2, 4], [1, 3, 5]]);
    }
}
