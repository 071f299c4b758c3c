//! `iid`: shuffle, then equal parts.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{check_clients, even_parts};
use crate::error::Result;

/// Shuffles the examples and gives every client an equal part; sizes differ by at most one.
///
/// # Errors
/// `Config` for `partition.num_clients` if it is zero or above N.
pub fn iid(labels: &[u8], num_clients: usize, rng: &mut ChaCha8Rng) -> Result<Vec<Vec<u32>>> {
    check_clients(num_clients, labels.len())?;
    let mut order: Vec<u32> = (0..labels.len() as u32).collect();
    order.shuffle(rng);
    Ok(even_parts(&order, num_clients).map(<[u32]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{deal_exactly, labels, refused, rng};
    use super::*;

    #[test]
    fn deals_every_example_once_in_equal_parts() {
        for (case, (n, k)) in [(10, 3), (1, 1), (7, 7), (1000, 13)].into_iter().enumerate() {
            let clients = iid(&labels(n, 10), k, &mut rng(case as u64)).unwrap();
            deal_exactly(&clients, 0..n as u32);
            assert_eq!(clients.len(), k);
            assert!(clients.iter().all(|client| client.len() == n / k || client.len() == n / k + 1));
        }
    }

    #[test]
    fn the_stream_decides() {
        let labels = labels(100, 10);
        let deal = |case| iid(&labels, 4, &mut rng(case)).unwrap();
        assert_eq!(deal(1), deal(1));
        assert_ne!(deal(1), deal(2));
        assert!(!deal(1)[0].is_sorted());
    }

    #[test]
    fn refuses_no_clients_and_too_many() {
        refused(iid(&[0, 1], 0, &mut rng(0)), "partition.num_clients", "at least 1");
        refused(iid(&[0, 1], 3, &mut rng(0)), "partition.num_clients", "at most 2");
    }

    /// Results of a seed hold only while its draws stay what they are, on every machine and with every version of a crate.
    #[test]
    fn the_parts_are_these() {
        let parts = iid(&[0; 20], 2, &mut rng(1)).unwrap();
        assert_eq!(parts, [[16, 19, 5, 15, 4, 14, 11, 8, 10, 0], [6, 9, 3, 1, 7, 13, 2, 18, 12, 17]]);
    }
}
