//! Dealing the training examples to clients: one file a kind, defined as in Flower Datasets where it has the kind.
//!
//! Every kind takes the labels `[N]` and returns, client by client, the positions of its examples; `bootstrap` returns them
//! when a client is asked for. No client is empty. Within a client the order carries no meaning: training shuffles it.

mod bootstrap;
mod by_class;
mod dirichlet;
mod iid;
mod inner_dirichlet;
mod pathological;
mod shards;

pub use bootstrap::{Bootstrap, Drawn, bootstrap};
pub use by_class::by_class;
pub use dirichlet::{Dirichlet, dirichlet};
pub use iid::iid;
pub use inner_dirichlet::{InnerDirichlet, inner_dirichlet};
pub use pathological::{ClassAssignment, Pathological, pathological};
pub use shards::{Shards, shards};

use crate::error::{Error, Result};

/// `[class]`: how many of `examples` belong to each class.
pub fn count_classes(examples: &[u32], labels: &[u8], classes: usize) -> Vec<u32> {
    let mut counts = vec![0; classes];
    for &index in examples {
        counts[usize::from(labels[index as usize])] += 1;
    }
    counts
}

/// Refuses a federation of nobody, or of more clients than there are examples.
fn check_clients(num_clients: usize, examples: usize) -> Result<()> {
    if num_clients == 0 {
        return Err(Error::config("partition.num_clients", "there are no clients", "give at least 1"));
    }
    if num_clients > examples {
        let problem = format!("{num_clients} clients cannot share {examples} examples");
        return Err(Error::config("partition.num_clients", problem, format!("give at most {examples}")));
    }
    Ok(())
}

/// Refuses what is no concentration of a Dirichlet distribution.
fn check_alpha(alpha: f64) -> Result<()> {
    if alpha.is_finite() && alpha > 0.0 {
        return Ok(());
    }
    let help = "give a finite number above 0, for example 0.5";
    Err(Error::config("partition.alpha", format!("alpha is {alpha:?}"), help))
}

/// Cuts `items` into `parts` runs whose lengths differ by at most one, the longer ones first (numpy's `array_split`).
fn even_parts(items: &[u32], parts: usize) -> impl Iterator<Item = &[u32]> {
    let (length, longer) = (items.len() / parts, items.len() % parts);
    let start = move |part: usize| part * length + part.min(longer);
    (0..parts).map(move |part| &items[start(part)..start(part + 1)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use rand_chacha::ChaCha8Rng;

    /// A stream for test number `case`.
    pub fn rng(case: u64) -> ChaCha8Rng {
        stream(case, 0, 0, Purpose::Partition)
    }

    /// How many examples of each class each client has: `[clients][classes]`.
    pub fn class_counts(clients: &[Vec<u32>], labels: &[u8], classes: usize) -> Vec<Vec<u32>> {
        clients.iter().map(|examples| count_classes(examples, labels, classes)).collect()
    }

    /// `n` labels over `classes` classes, in an order that is neither sorted nor periodic.
    pub fn labels(n: usize, classes: usize) -> Vec<u8> {
        (0..n).map(|i| ((i * i + i / 3) % classes) as u8).collect()
    }

    /// Holds if the clients have every one of `expected` exactly once between them, and none is empty.
    pub fn deal_exactly(clients: &[Vec<u32>], expected: impl Iterator<Item = u32>) {
        assert!(clients.iter().all(|client| !client.is_empty()));
        let mut all: Vec<u32> = clients.iter().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!(all, expected.collect::<Vec<u32>>());
    }

    /// Holds if the result is a configuration error for `key` whose text has `what`.
    pub fn refused<T: std::fmt::Debug>(result: Result<T>, key: &str, what: &str) {
        match result {
            Err(Error::Config { key: found, problem, help }) => {
                assert_eq!(found, key);
                assert!(format!("{problem}\n{help}").contains(what), "{problem}\n{help}");
            }
            other => panic!("expected an error for {key}, got {other:?}"),
        }
    }

    #[test]
    fn counts_by_client_and_class() {
        let clients = [vec![0, 1, 4], vec![2, 3]];
        assert_eq!(class_counts(&clients, &[2, 0, 1, 1, 2], 3), [[1, 0, 2], [0, 2, 0]]);
    }

    #[test]
    fn even_parts_are_numpys() {
        let parts: Vec<&[u32]> = even_parts(&[0, 1, 2, 3, 4, 5, 6], 3).collect();
        assert_eq!(parts, [&[0, 1, 2][..], &[3, 4], &[5, 6]]);
    }
}
