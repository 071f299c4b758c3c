//! `dirichlet`: each class is divided over the clients in random shares.
//!
//! Two families go by this name. Here a Dirichlet over *clients* is drawn for every class (Yurochkin et al. 2019,
//! arXiv 1905.12022), so clients differ in size as well as in classes; the other draws one over *classes* for every
//! client of a given size (Hsu et al. 2019, arXiv 1909.06335; see `inner_dirichlet`).

use rand::RngExt;
use rand::distr::OpenClosed01;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma};

use super::{check_alpha, check_clients};
use crate::data::indices_by_class;
use crate::error::{Error, Result};

/// Draws before giving up.
const TRIES: usize = 10;

/// From here on shares are equal to within a hundred-thousandth, and far larger values would overflow the logarithms.
const EQUAL_SHARES: f64 = 1e12;

/// How to divide the classes.
#[derive(Clone, Copy, Debug)]
pub struct Dirichlet {
    /// Number of clients K.
    pub num_clients: usize,
    /// Concentration, above zero: small gives each class to few clients, large divides it equally.
    pub alpha: f64,
    /// The fewest examples a client may have, at least 1; Flower's default is 10.
    pub min_partition_size: usize,
    /// Whether a client that already has more than N / K examples gets nothing of the classes that follow.
    pub self_balancing: bool,
}

/// For every class, shuffles its n examples, draws shares p ~ Dir(alpha) over the clients, and cuts at
/// floor(cumsum(p) n). All is drawn again, up to ten times in all, if a client has too few.
///
/// # Errors
/// `Config` for `partition.num_clients` (zero, above N), `partition.alpha` (not a finite number above zero, or no draw
/// that satisfies the minimum) and `partition.min_partition_size` (zero, or too large for N examples).
pub fn dirichlet(labels: &[u8], classes: usize, split: &Dirichlet, rng: &mut ChaCha8Rng) -> Result<Vec<Vec<u32>>> {
    check(split, labels.len())?;
    let members = indices_by_class(labels, classes);
    let mut closest = 0;
    for _ in 0..TRIES {
        let clients = draw(&members, labels.len(), split, rng);
        let smallest = clients.iter().map(Vec::len).min().unwrap_or(0);
        if smallest >= split.min_partition_size {
            return Ok(clients);
        }
        closest = closest.max(smallest);
    }
    let problem = format!(
        "with alpha = {:?} over {} clients, {TRIES} draws each left one with fewer than {} examples (at best {closest})",
        split.alpha, split.num_clients, split.min_partition_size
    );
    let balancing = if split.self_balancing { "" } else { ", or set partition.self_balancing = true" };
    let help = format!(
        "raise partition.alpha, lower partition.min_partition_size or partition.num_clients, or try another seed\
         {balancing}"
    );
    Err(Error::config("partition.alpha", problem, help))
}

fn check(split: &Dirichlet, examples: usize) -> Result<()> {
    check_clients(split.num_clients, examples)?;
    check_alpha(split.alpha)?;
    let most = examples / split.num_clients;
    let problem = match split.min_partition_size {
        0 => "a client without examples has nothing to train on".into(),
        fewest if fewest > most => {
            format!("{} clients with {fewest} examples or more need more than {examples}", split.num_clients)
        }
        _ => return Ok(()),
    };
    Err(Error::config("partition.min_partition_size", problem, format!("give 1 to {most}")))
}

fn draw(members: &[Vec<u32>], examples: usize, split: &Dirichlet, rng: &mut ChaCha8Rng) -> Vec<Vec<u32>> {
    let mut clients = vec![Vec::new(); split.num_clients];
    for class in members.iter().filter(|class| !class.is_empty()) {
        let mut class = class.clone();
        class.shuffle(rng);
        // Somebody has at most the mean, so a share is always left to give.
        let open = |client: &Vec<u32>| !split.self_balancing || client.len() * split.num_clients <= examples;
        let open: Vec<bool> = clients.iter().map(open).collect();
        let shares = shares(split.alpha, &open, rng);
        let last = open.iter().rposition(|open| *open);
        let (mut sum, mut start) = (0.0, 0);
        for (k, (client, share)) in clients.iter_mut().zip(&shares).enumerate() {
            sum += share;
            // Rounding must not lose the last example, nor give it to a closed client.
            let end = match last {
                Some(last) if k >= last => class.len(),
                _ => ((sum * class.len() as f64) as usize).clamp(start, class.len()),
            };
            client.extend(&class[start..end]);
            start = end;
        }
    }
    clients
}

/// One draw from Dir(alpha) over the clients, with the share of closed ones set to zero and the rest scaled to sum 1.
///
/// Gamma variates of a tiny shape are all zero in floating point, and their ratios undefined. So below alpha = 1 they
/// are kept as logarithms: if G ~ Gamma(alpha + 1) and U is uniform, G U^(1/alpha) ~ Gamma(alpha) (Marsaglia and
/// Tsang 2000). The difference to the largest is taken before dividing by alpha, which keeps it finite for every alpha.
pub(super) fn shares(alpha: f64, open: &[bool], rng: &mut ChaCha8Rng) -> Vec<f64> {
    let alpha = alpha.min(EQUAL_SHARES);
    let (shape, power) = if alpha < 1.0 { (alpha + 1.0, alpha) } else { (alpha, 1.0) };
    let gamma = Gamma::new(shape, 1.0).expect("the shape is finite and above zero");
    let logs: Vec<f64> = (0..open.len())
        .map(|_| {
            let log = gamma.sample(rng).ln() * power;
            if alpha < 1.0 { log + rng.sample::<f64, _>(OpenClosed01).ln() } else { log }
        })
        .collect();
    let largest =
        logs.iter().zip(open).filter(|(_, open)| **open).map(|(log, _)| *log).fold(f64::NEG_INFINITY, f64::max);
    let weight = |(log, open): (&f64, &bool)| if *open { ((log - largest) / power).exp() } else { 0.0 };
    let mut shares: Vec<f64> = logs.iter().zip(open).map(weight).collect();
    let total: f64 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share /= total);
    shares
}

#[cfg(test)]
mod tests {
    use super::super::tests::{class_counts, deal_exactly, labels, refused, rng};
    use super::*;

    const PLAIN: Dirichlet = Dirichlet { num_clients: 5, alpha: 0.5, min_partition_size: 10, self_balancing: false };

    #[test]
    fn deals_every_example_once_and_respects_the_minimum() {
        let labels = labels(3000, 10);
        for case in 0..30 {
            let split = Dirichlet { self_balancing: case % 2 == 0, ..PLAIN };
            let clients = dirichlet(&labels, 10, &split, &mut rng(case)).unwrap();
            deal_exactly(&clients, 0..3000);
            assert_eq!(clients.len(), 5);
            assert!(clients.iter().all(|client| client.len() >= 10));
        }
    }

    #[test]
    fn cuts_at_the_floor_of_the_cumulated_shares() {
        // At a huge alpha every share is 1/4: 10 examples are cut at floor(2.5), floor(5), floor(7.5).
        let split = Dirichlet { num_clients: 4, alpha: f64::MAX, min_partition_size: 1, ..PLAIN };
        let clients = dirichlet(&[0; 10], 1, &split, &mut rng(0)).unwrap();
        let sizes: Vec<usize> = clients.iter().map(Vec::len).collect();
        // The second cut lies at 5 give or take a millionth.
        assert!(sizes == [2, 3, 2, 3] || sizes == [2, 2, 3, 3], "{sizes:?}");
    }

    #[test]
    fn shares_have_the_moments_of_a_dirichlet() {
        for alpha in [0.05, 0.5, 1.0, 3.0] {
            let mut rng = rng(7);
            let (draws, k) = (20_000, 4);
            let (mut mean, mut square) = (0.0, 0.0);
            for _ in 0..draws {
                let shares = shares(alpha, &[true; 4], &mut rng);
                assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                mean += shares[0] / f64::from(draws);
                square += shares[0] * shares[0] / f64::from(draws);
            }
            let k = f64::from(k);
            // Var = (1/k)(1 - 1/k) / (k alpha + 1).
            let variance = (1.0 / k) * (1.0 - 1.0 / k) / (k * alpha + 1.0);
            assert!((mean - 1.0 / k).abs() < 0.015, "alpha {alpha}: mean {mean}");
            assert!((square - mean * mean - variance).abs() < 0.01, "alpha {alpha}: variance {}", square - mean * mean);
        }
    }

    #[test]
    fn tiny_alphas_end() {
        let labels = labels(1000, 10);
        for alpha in [f64::from_bits(1), 1e-300, 1e-12, 1e-3] {
            let shares = shares(alpha, &[true, false, true], &mut rng(1));
            assert!(shares.iter().all(|share| share.is_finite()) && shares[1] == 0.0);
            assert!((shares[0] + shares[2] - 1.0).abs() < 1e-12);
            let split = Dirichlet { num_clients: 20, alpha, min_partition_size: 1, ..PLAIN };
            // Ten classes, each in one piece, cannot reach twenty clients.
            refused(dirichlet(&labels, 10, &split, &mut rng(2)), "partition.alpha", "at best 0");
        }
    }

    #[test]
    fn alpha_governs_the_skew() {
        let labels = labels(5000, 10);
        let largest_share = |alpha| {
            let split = Dirichlet { alpha, min_partition_size: 1, ..PLAIN };
            let clients = dirichlet(&labels, 10, &split, &mut rng(3)).unwrap();
            let counts = class_counts(&clients, &labels, 10);
            let top = |class: usize| counts.iter().map(|client| client[class]).max().unwrap();
            (0..10).map(top).sum::<u32>() as f64 / 5000.0
        };
        assert!(largest_share(0.05) > 0.75);
        assert!(largest_share(1000.0) < 0.25);
    }

    #[test]
    fn self_balancing_closes_clients_above_the_mean() {
        // Alpha so small that each class goes whole to one client. A client with one of the four equal classes is at
        // the mean and may get a second; then it is closed.
        let labels: Vec<u8> = (0..400).map(|i| (i % 4) as u8).collect();
        for case in 0..20 {
            let split = Dirichlet { num_clients: 4, alpha: 1e-6, min_partition_size: 1, self_balancing: true };
            let members = indices_by_class(&labels, 4);
            let clients = draw(&members, 400, &split, &mut rng(case));
            assert!(clients.iter().all(|client| client.len() <= 200));
        }
    }

    #[test]
    fn self_balancing_leaves_closed_clients_as_they_are() {
        let labels = labels(2000, 10);
        let members = indices_by_class(&labels, 10);
        let split = Dirichlet { num_clients: 4, self_balancing: true, ..PLAIN };
        let mut closed = 0;
        for case in 0..200 {
            // What clients have before a class is what the same draw gives of the classes before it.
            let after = |classes: usize| draw(&members[..classes], 2000, &split, &mut rng(case));
            for class in 0..10 {
                for (before, after) in after(class).iter().zip(after(class + 1)).filter(|(b, _)| b.len() > 500) {
                    assert_eq!(before, &after, "case {case}, class {class}");
                    closed += 1;
                }
            }
        }
        assert!(closed > 1000, "{closed}");
    }

    #[test]
    fn refuses_values_that_make_no_sense() {
        let labels = labels(100, 10);
        let deal = |split| dirichlet(&labels, 10, &split, &mut rng(0));
        for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            refused(deal(Dirichlet { alpha, ..PLAIN }), "partition.alpha", "finite number above 0");
        }
        refused(deal(Dirichlet { num_clients: 0, ..PLAIN }), "partition.num_clients", "no clients");
        refused(deal(Dirichlet { num_clients: 101, ..PLAIN }), "partition.num_clients", "at most 100");
        refused(deal(Dirichlet { min_partition_size: 21, ..PLAIN }), "partition.min_partition_size", "give 1 to 20");
        refused(deal(Dirichlet { min_partition_size: 0, ..PLAIN }), "partition.min_partition_size", "give 1 to 20");
        let hopeless = Dirichlet { num_clients: 10, alpha: 0.01, ..PLAIN };
        refused(deal(hopeless), "partition.alpha", "partition.self_balancing = true");
    }

    /// The first of ten draws that leaves nobody with too few, whichever that is; and after ten, none.
    #[test]
    fn all_is_drawn_again_until_the_tenth_time() {
        let labels = labels(200, 10);
        let members = indices_by_class(&labels, 10);
        let split = Dirichlet { num_clients: 10, alpha: 0.3, min_partition_size: 7, ..PLAIN };
        let (mut taken, mut refusals) = ([0; 10], 0);
        for case in 0..1000 {
            let mut own = rng(case);
            let smallest = |clients: &[Vec<u32>]| clients.iter().map(Vec::len).min().unwrap();
            let draws: Vec<_> = (0..10).map(|_| draw(&members, 200, &split, &mut own)).collect();
            let dealt = dirichlet(&labels, 10, &split, &mut rng(case));
            match draws.iter().position(|clients| smallest(clients) >= 7) {
                Some(first) => {
                    assert!(dealt.unwrap() == draws[first], "case {case}, draw {first}");
                    taken[first] += 1;
                }
                None => {
                    let best = draws.iter().map(|clients| smallest(clients)).max().unwrap();
                    refused(dealt, "partition.alpha", &format!("fewer than 7 examples (at best {best})"));
                    refusals += 1;
                }
            }
        }
        assert!(taken.iter().all(|n| *n > 0) && refusals > 0, "{taken:?}, {refusals} refused: this tests little");
    }

    #[test]
    fn a_client_of_the_smallest_size_allowed_is_large_enough() {
        let split = Dirichlet { num_clients: 1, min_partition_size: 10, ..PLAIN };
        assert_eq!(dirichlet(&[0; 10], 1, &split, &mut rng(0)).unwrap()[0].len(), 10);
    }

    /// Which examples of a class a client gets is drawn too: not the first ones of the data.
    #[test]
    fn the_examples_of_a_class_are_shuffled() {
        let split = Dirichlet { num_clients: 2, alpha: f64::MAX, min_partition_size: 1, ..PLAIN };
        let clients = dirichlet(&[0; 100], 1, &split, &mut rng(5)).unwrap();
        assert!(clients.iter().all(|client| !client.is_sorted()));
        let late = clients[0].iter().filter(|example| **example >= 50).count();
        assert!((10..40).contains(&late), "{late} of the first client's are from the second half");
    }

    /// At exactly the mean a client is not yet closed.
    #[test]
    fn a_client_at_the_mean_is_open() {
        let labels: Vec<u8> = (0..400).map(|i| (i % 4) as u8).collect();
        let split = Dirichlet { num_clients: 4, alpha: 1e-6, min_partition_size: 1, self_balancing: true };
        let members = indices_by_class(&labels, 4);
        let largest = |case| draw(&members, 400, &split, &mut rng(case)).iter().map(Vec::len).max().unwrap();
        // Four classes that are thrown at four clients fall on four different ones in 4! / 4^4 of all cases.
        let twice = (0..200).filter(|case| largest(*case) == 200).count();
        assert!((150..200).contains(&twice), "{twice} of 200");
    }
}
