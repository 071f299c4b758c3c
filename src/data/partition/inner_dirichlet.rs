//! `inner_dirichlet`: every client has its number of examples, in class shares of its own.
//!
//! The other family that goes by Dirichlet's name (Hsu et al. 2019, arXiv 1909.06335): here a Dirichlet over *classes* is
//! drawn for every client, so clients differ in classes and not in size; see [`super::dirichlet()`] for the one over
//! clients. Every class has alpha for its own here; Hsu et al. divide theirs over the classes: of N classes with a uniform
//! prior, their alpha is N times this one.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::dirichlet::shares;
use super::{check_alpha, check_clients};
use crate::data::indices_by_class;
use crate::error::{Error, Result};

/// How to divide the examples.
#[derive(Clone, Copy, Debug)]
pub struct InnerDirichlet {
    /// Number of clients K.
    pub num_clients: usize,
    /// Concentration, above zero: small gives each client few classes, large all of them in equal shares.
    pub alpha: f64,
    /// Examples of each client; without it all are dealt, in sizes that differ by one at most.
    pub examples_per_client: Option<usize>,
}

/// Draws shares p ~ Dir(alpha) over the classes for every client. Then one client after the other, drawn at random among
/// those that are not full, takes an example of a class drawn by its shares among the classes that have any left. So no
/// example is dealt twice, and what is left at the end is spread over all clients.
///
/// # Errors
/// `Config` for `partition.num_clients` (zero, above N), `partition.alpha` (not a finite number above zero) and
/// `partition.examples_per_client` (zero, or K times it above N).
pub fn inner_dirichlet(
    labels: &[u8],
    classes: usize,
    split: &InnerDirichlet,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Vec<u32>>> {
    let mut room = sizes(split, labels.len())?;
    let mut left = indices_by_class(labels, classes);
    left.iter_mut().for_each(|class| class.shuffle(rng));
    let every = vec![true; classes];
    let mut wanted: Vec<Vec<f64>> = room.iter().map(|_| shares(split.alpha, &every, rng)).collect();
    let mut clients = vec![Vec::new(); split.num_clients];
    let mut open: Vec<usize> = (0..split.num_clients).collect();
    while !open.is_empty() {
        let place = rng.random_range(0..open.len());
        let client = open[place];
        let class = draw(&mut wanted[client], &left, split.alpha, rng);
        clients[client].extend(left[class].pop());
        room[client] -= 1;
        if room[client] == 0 {
            open.swap_remove(place);
        }
    }
    Ok(clients)
}

/// How many examples each client gets.
fn sizes(split: &InnerDirichlet, examples: usize) -> Result<Vec<usize>> {
    check_clients(split.num_clients, examples)?;
    check_alpha(split.alpha)?;
    let most = examples / split.num_clients;
    match split.examples_per_client {
        None => {
            let one_more = examples % split.num_clients;
            Ok((0..split.num_clients).map(|client| most + usize::from(client < one_more)).collect())
        }
        Some(size) if (1..=most).contains(&size) => Ok(vec![size; split.num_clients]),
        Some(size) => {
            let problem = format!("{} clients with {size} examples each, but there are {examples}", split.num_clients);
            Err(Error::config("partition.examples_per_client", problem, format!("give 1 to {most}")))
        }
    }
}

/// A class that has examples left, by a client's shares of the classes. Where the client wants none of those, it has new
/// shares of them from then on.
fn draw(wanted: &mut Vec<f64>, left: &[Vec<u32>], alpha: f64, rng: &mut ChaCha8Rng) -> usize {
    let there: Vec<bool> = left.iter().map(|class| !class.is_empty()).collect();
    let sum = |wanted: &[f64]| wanted.iter().zip(&there).filter(|(_, there)| **there).map(|(p, _)| p).sum::<f64>();
    if sum(wanted) <= 0.0 {
        *wanted = shares(alpha, &there, rng);
    }
    let mut at = rng.random::<f64>() * sum(wanted);
    let mut last = 0;
    for class in (0..left.len()).filter(|class| there[*class] && wanted[*class] > 0.0) {
        last = class;
        if at < wanted[class] {
            break;
        }
        at -= wanted[class];
    }
    last
}

#[cfg(test)]
mod tests {
    use super::super::tests::{class_counts, deal_exactly, labels, refused, rng};
    use super::*;

    const PLAIN: InnerDirichlet = InnerDirichlet { num_clients: 7, alpha: 0.3, examples_per_client: None };

    #[test]
    fn deals_every_example_once_in_equal_sizes() {
        let labels = labels(3000, 10);
        for case in 0..10 {
            let split = InnerDirichlet { alpha: [1e-6, 0.1, 1.0, 1e6][case % 4], ..PLAIN };
            let clients = inner_dirichlet(&labels, 10, &split, &mut rng(case as u64)).unwrap();
            deal_exactly(&clients, 0..3000);
            // 3000 = 7 * 428 + 4.
            assert_eq!(clients.iter().map(Vec::len).collect::<Vec<_>>(), [429, 429, 429, 429, 428, 428, 428]);
        }
    }

    #[test]
    fn sizes_may_be_given_and_no_example_is_dealt_twice() {
        let split = InnerDirichlet { examples_per_client: Some(20), ..PLAIN };
        let clients = inner_dirichlet(&labels(3000, 10), 10, &split, &mut rng(1)).unwrap();
        assert!(clients.iter().all(|client| client.len() == 20));
        let mut all = clients.concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 140);
    }

    /// With examples in plenty, the classes of a client are as its shares: those of Dir(alpha) have the mean 1 / C and the
    /// variance (C - 1) / (C^2 (C alpha + 1)).
    #[test]
    fn shares_have_the_moments_of_a_dirichlet() {
        let (classes, each) = (4, 100);
        let labels = labels(400_000, classes);
        for alpha in [0.2, 1.0, 5.0] {
            let split = InnerDirichlet { num_clients: 400, alpha, examples_per_client: Some(each) };
            let clients = inner_dirichlet(&labels, classes, &split, &mut rng(3)).unwrap();
            let share = |counts: &Vec<u32>| counts.iter().map(|n| f64::from(*n) / each as f64).collect::<Vec<_>>();
            let shares: Vec<f64> = class_counts(&clients, &labels, classes).iter().flat_map(share).collect();
            let mean = shares.iter().sum::<f64>() / shares.len() as f64;
            let variance = shares.iter().map(|p| (p - mean).powi(2)).sum::<f64>() / shares.len() as f64;
            let c = classes as f64;
            let of_shares = (c - 1.0) / (c * c * (c * alpha + 1.0));
            // Counting a hundred draws adds E[p (1 - p)] / 100.
            let expected = of_shares + (1.0 / c - 1.0 / (c * c) - of_shares) / each as f64;
            assert!(
                (mean - 0.25).abs() < 1e-12 && (variance / expected - 1.0).abs() < 0.15,
                "{alpha}: {variance} {expected}"
            );
        }
    }

    #[test]
    fn a_seed_is_a_partition() {
        let (labels, deal) =
            (labels(500, 10), |seed| inner_dirichlet(&labels(500, 10), 10, &PLAIN, &mut rng(seed)).unwrap());
        assert_eq!(deal(4), inner_dirichlet(&labels, 10, &PLAIN, &mut rng(4)).unwrap());
        assert_ne!(deal(4), deal(5));
    }

    #[test]
    fn what_cannot_be_dealt_is_refused() {
        let labels = labels(100, 10);
        let deal = |split: InnerDirichlet| inner_dirichlet(&labels, 10, &split, &mut rng(0));
        refused(deal(InnerDirichlet { num_clients: 0, ..PLAIN }), "partition.num_clients", "at least 1");
        refused(deal(InnerDirichlet { num_clients: 101, ..PLAIN }), "partition.num_clients", "at most 100");
        for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            refused(deal(InnerDirichlet { alpha, ..PLAIN }), "partition.alpha", "above 0");
        }
        for size in [0, 15] {
            let split = InnerDirichlet { examples_per_client: Some(size), ..PLAIN };
            refused(deal(split), "partition.examples_per_client", "give 1 to 14");
        }
    }

    /// Which examples of a class a client gets is drawn too: not the last ones of the data.
    #[test]
    fn the_examples_of_a_class_are_shuffled() {
        let split = InnerDirichlet { num_clients: 1, alpha: 1.0, examples_per_client: Some(50) };
        let client = inner_dirichlet(&[0; 100], 1, &split, &mut rng(5)).unwrap().remove(0);
        let late = client.iter().filter(|example| **example >= 50).count();
        assert!((10..40).contains(&late), "{late} of 50 are from the second half");
    }

    /// Of the classes that are left, in proportion to what the client wants of each.
    #[test]
    fn classes_that_are_used_up_leave_the_others_their_proportions() {
        let (left, mut rng) = ([vec![], vec![0], vec![1], vec![2]], rng(2));
        let mut counts = [0; 4];
        for _ in 0..8000 {
            let mut wanted = vec![0.8, 0.1, 0.05, 0.05];
            counts[draw(&mut wanted, &left, 0.5, &mut rng)] += 1;
            assert_eq!(wanted, [0.8, 0.1, 0.05, 0.05]);
        }
        let near = |n: i32, want: i32| (n - want).abs() < 250;
        assert!(
            counts[0] == 0 && near(counts[1], 4000) && near(counts[2], 2000) && near(counts[3], 2000),
            "{counts:?}"
        );
    }

    /// A client that wants nothing of what is left draws anew from Dir(alpha) over that, and keeps to it.
    #[test]
    fn a_client_whose_classes_are_used_up_has_new_shares() {
        let (left, mut rng) = ([vec![], vec![0], vec![1]], rng(2));
        let mut first = 0;
        for _ in 0..400 {
            let mut wanted = vec![1.0, 0.0, 0.0];
            let class = draw(&mut wanted, &left, 1e-3, &mut rng);
            assert_eq!(wanted[0], 0.0);
            // So small an alpha gives one class nearly all, and that is the one that is taken.
            first += usize::from(wanted[class] > 0.99 && wanted[3 - class] < 0.01);
        }
        assert!(first > 380, "{first} of 400");
    }
}
