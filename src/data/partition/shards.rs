//! `shards`: sort by label, cut into equal runs, deal the runs (McMahan et al. 2017, arXiv 1602.05629, section 3).

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::check_clients;
use crate::data::indices_by_class;
use crate::error::{Error, Result};

/// How to cut and deal.
#[derive(Clone, Copy, Debug)]
pub struct Shards {
    /// Number of clients K.
    pub num_clients: usize,
    /// Shards a client gets; 2 in the paper.
    pub shards_per_client: usize,
    /// Examples in a shard (300 in the paper).
    pub shard_size: usize,
}

/// Sorts the examples by label (equal labels in the order of the data), cuts them into shards, deals these at random.
/// A remainder too small for a shard and shards beyond those dealt are left out.
///
/// # Errors
/// `Config` for `partition.num_clients` (zero, above N), `partition.shards_per_client` (zero, or more shards in all
/// than examples) and `partition.shard_size` (zero, or too large for so many shards).
pub fn shards(labels: &[u8], classes: usize, split: &Shards, rng: &mut ChaCha8Rng) -> Result<Vec<Vec<u32>>> {
    let dealt = check(split, labels.len())?;
    let sorted = indices_by_class(labels, classes).concat();
    let mut pieces: Vec<&[u32]> = sorted.chunks_exact(split.shard_size).collect();
    pieces.shuffle(rng);
    Ok(pieces[..dealt].chunks_exact(split.shards_per_client).map(<[&[u32]]>::concat).collect())
}

/// The number of shards that are dealt.
fn check(split: &Shards, examples: usize) -> Result<usize> {
    check_clients(split.num_clients, examples)?;
    let most = examples / split.num_clients;
    if !(1..=most).contains(&split.shards_per_client) {
        let problem = format!(
            "{} shards for each of {} clients cannot be cut from {examples} examples",
            split.shards_per_client, split.num_clients
        );
        return Err(Error::config("partition.shards_per_client", problem, format!("give 1 to {most}")));
    }
    let dealt = split.num_clients * split.shards_per_client;
    let largest = examples / dealt;
    let size = split.shard_size;
    if !(1..=largest).contains(&size) {
        let problem = format!(
            "{dealt} shards of {size} examples are needed ({} clients, {} each), but there are {examples} examples",
            split.num_clients, split.shards_per_client
        );
        return Err(Error::config("partition.shard_size", problem, format!("give 1 to {largest}")));
    }
    Ok(dealt)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{deal_exactly, labels, refused, rng};
    use super::*;

    fn split(num_clients: usize, shards_per_client: usize, shard_size: usize) -> Shards {
        Shards { num_clients, shards_per_client, shard_size }
    }

    #[test]
    fn shards_are_runs_of_the_examples_sorted_by_label() {
        // Sorted by label: 1 4 | 0 3 | 2 5.
        let clients = shards(&[1, 0, 2, 1, 0, 2], 3, &split(3, 1, 2), &mut rng(0)).unwrap();
        let mut sorted = clients.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [[0, 3], [1, 4], [2, 5]]);
        let order = |case| shards(&[1, 0, 2, 1, 0, 2], 3, &split(3, 1, 2), &mut rng(case)).unwrap();
        assert!((1..20).any(|case| order(case) != clients), "the deal is random");
    }

    #[test]
    fn deals_every_example_once() {
        for case in 0..30 {
            let clients = shards(&labels(600, 10), 10, &split(10, 2, 30), &mut rng(case)).unwrap();
            deal_exactly(&clients, 0..600);
            assert!(clients.iter().all(|client| client.len() == 60));
        }
    }

    #[test]
    fn what_does_not_fill_a_shard_is_left_out() {
        let clients = shards(&[0; 11], 1, &split(2, 2, 2), &mut rng(0)).unwrap();
        let mut all = clients.concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!((clients[0].len(), clients[1].len(), all.len()), (4, 4, 8));
        assert!(!all.contains(&10));
    }

    #[test]
    fn refuses_too_few_shards() {
        let deal = |k, s, size| shards(&[0; 12], 1, &split(k, s, size), &mut rng(0));
        refused(deal(0, 1, 1), "partition.num_clients", "no clients");
        refused(deal(13, 1, 1), "partition.num_clients", "at most 12");
        refused(deal(3, 0, 1), "partition.shards_per_client", "give 1 to 4");
        refused(deal(3, usize::MAX, 1), "partition.shards_per_client", "give 1 to 4");
        refused(deal(3, 2, 3), "partition.shard_size", "6 shards of 3 examples are needed");
        refused(deal(3, 2, 0), "partition.shard_size", "give 1 to 2");
    }
}
