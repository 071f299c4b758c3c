//! `pathological`: every client has the same small number of classes (Li et al. 2021, arXiv 2102.02079).

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{check_clients, even_parts};
use crate::data::indices_by_class;
use crate::error::{Error, Result};

/// How classes are assigned to clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassAssignment {
    /// Each client draws its classes at random, without replacement.
    #[default]
    Random,
    /// Client k has the classes k, k + 1, ..., counted around the circle of classes.
    Deterministic,
    /// The first class of client k is k, counted around the circle; the others are drawn at random.
    FirstDeterministic,
}

/// How to divide the classes.
#[derive(Clone, Copy, Debug)]
pub struct Pathological {
    /// Number of clients K.
    pub num_clients: usize,
    /// Different classes a client has, 1 to the number of classes in the data.
    pub classes_per_client: usize,
    /// Which ones.
    pub mode: ClassAssignment,
}

/// Assigns classes to clients, then divides every class equally at random among the clients that have it. "Class k" is
/// the k-th class that occurs in the data. A class that nobody was assigned is left out.
///
/// # Errors
/// `Config` for `partition.num_clients` (zero, above N) and `partition.classes_per_client` (zero, above the number of
/// classes, or a class with fewer examples than clients that need it).
pub fn pathological(
    labels: &[u8],
    classes: usize,
    split: &Pathological,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Vec<u32>>> {
    check_clients(split.num_clients, labels.len())?;
    let members = indices_by_class(labels, classes);
    let present: Vec<usize> = (0..classes).filter(|&class| !members[class].is_empty()).collect();
    if !(1..=present.len()).contains(&split.classes_per_client) {
        let problem = format!("{} classes for a client of data with {}", split.classes_per_client, present.len());
        return Err(fault(problem, format!("give 1 to {}", present.len())));
    }
    let mut owners = vec![Vec::new(); classes];
    for client in 0..split.num_clients {
        for class in assign(client, &present, split, rng) {
            owners[class].push(client);
        }
    }
    deal(members, &owners, split.num_clients, rng)
}

/// The classes of one client.
fn assign(client: usize, present: &[usize], split: &Pathological, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut circle = present.to_vec();
    match split.mode {
        ClassAssignment::Deterministic => circle.rotate_left(client % present.len()),
        ClassAssignment::Random => circle.shuffle(rng),
        ClassAssignment::FirstDeterministic => {
            circle.rotate_left(client % present.len());
            circle[1..].shuffle(rng);
        }
    }
    circle.truncate(split.classes_per_client);
    circle
}

fn deal(
    members: Vec<Vec<u32>>,
    owners: &[Vec<usize>],
    num_clients: usize,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Vec<u32>>> {
    let mut clients = vec![Vec::new(); num_clients];
    for (class, mut examples) in members.into_iter().enumerate() {
        let owners = &owners[class];
        if owners.len() > examples.len() {
            let problem =
                format!("class {class} has {} examples, but {} clients need one", examples.len(), owners.len());
            return Err(fault(problem, "lower partition.classes_per_client or partition.num_clients".into()));
        }
        if owners.is_empty() {
            continue;
        }
        examples.shuffle(rng);
        for (&client, part) in owners.iter().zip(even_parts(&examples, owners.len())) {
            clients[client].extend(part);
        }
    }
    Ok(clients)
}

fn fault(problem: String, help: String) -> Error {
    Error::config("partition.classes_per_client", problem, help)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{class_counts, deal_exactly, labels, refused, rng};
    use super::*;
    use ClassAssignment::{Deterministic, FirstDeterministic, Random};

    fn split(num_clients: usize, classes_per_client: usize, mode: ClassAssignment) -> Pathological {
        Pathological { num_clients, classes_per_client, mode }
    }

    /// The classes each client has.
    fn owned(clients: &[Vec<u32>], labels: &[u8], classes: usize) -> Vec<Vec<usize>> {
        let has = |counts: &Vec<u32>| (0..classes).filter(|&class| counts[class] > 0).collect();
        class_counts(clients, labels, classes).iter().map(has).collect()
    }

    #[test]
    fn deterministic_classes_go_around_the_circle() {
        let labels = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2];
        let clients = pathological(&labels, 3, &split(4, 2, Deterministic), &mut rng(0)).unwrap();
        assert_eq!(owned(&clients, &labels, 3), [[0, 1], [1, 2], [0, 2], [0, 1]]);
        // Class 0 goes to clients 0, 2 and 3; class 1 to 0, 1 and 3; class 2, with four examples, to 1 and 2.
        assert_eq!(class_counts(&clients, &labels, 3), [[1, 1, 0], [0, 1, 2], [1, 0, 2], [1, 1, 0]]);
        deal_exactly(&clients, 0..10);
    }

    #[test]
    fn every_client_has_exactly_its_number_of_classes() {
        let labels = labels(2000, 7);
        let present: Vec<usize> = (0..7).filter(|&class| labels.contains(&(class as u8))).collect();
        for case in 0..40 {
            for mode in [Random, Deterministic, FirstDeterministic] {
                let per_client = 1 + case as usize % present.len();
                let clients = pathological(&labels, 7, &split(12, per_client, mode), &mut rng(case)).unwrap();
                let owned = owned(&clients, &labels, 7);
                assert!(owned.iter().all(|classes| classes.len() == per_client));
                let used = |label: u8| owned.iter().any(|classes| classes.contains(&usize::from(label)));
                deal_exactly(&clients, (0..2000).filter(|&index| used(labels[index as usize])));
                if mode != Random {
                    assert!(present.iter().all(|&class| used(class as u8)));
                    let first = |client: usize| present[client % present.len()];
                    assert!((0..12).all(|client| owned[client].contains(&first(client))));
                }
            }
        }
    }

    #[test]
    fn random_classes_come_from_the_whole_circle() {
        let labels: Vec<u8> = (0..4000).map(|i| (i % 4) as u8).collect();
        for (mode, first_fixed) in [(Random, false), (FirstDeterministic, true)] {
            let clients = pathological(&labels, 4, &split(400, 2, mode), &mut rng(5)).unwrap();
            // Of clients 0, 4, 8, ... so many have each class: all or a half of 100 have class 0.
            let owned = owned(&clients, &labels, 4);
            let with = |class| owned.iter().step_by(4).filter(|classes| classes.contains(&class)).count();
            assert!(if first_fixed { with(0) == 100 } else { (30..70).contains(&with(0)) }, "{mode:?}: {}", with(0));
            assert!((1..4).all(|class| (15..75).contains(&with(class))), "{mode:?}");
        }
    }

    #[test]
    fn classes_that_do_not_occur_are_skipped() {
        let labels = [1, 1, 4, 4];
        let clients = pathological(&labels, 6, &split(2, 1, Deterministic), &mut rng(0)).unwrap();
        assert_eq!(owned(&clients, &labels, 6), [[1], [4]]);
    }

    #[test]
    fn refuses_what_cannot_be_dealt() {
        let key = "partition.classes_per_client";
        let deal = |labels: &[u8], k, c| pathological(labels, 3, &split(k, c, Deterministic), &mut rng(0));
        refused(deal(&[0, 1, 2], 0, 1), "partition.num_clients", "no clients");
        refused(deal(&[0, 1, 2], 4, 1), "partition.num_clients", "at most 3");
        refused(deal(&[0, 1, 1], 2, 3), key, "give 1 to 2");
        refused(deal(&[0, 1, 2], 2, 0), key, "give 1 to 3");
        refused(deal(&[0, 1, 1, 2], 3, 2), key, "class 0 has 1 examples, but 2 clients need one");
    }

    #[test]
    fn modes_are_spelled_as_in_the_experiment_file() {
        let spelled = |mode| serde_json::to_string(&mode).unwrap();
        assert_eq!(spelled(FirstDeterministic), "\"first_deterministic\"");
        assert_eq!((spelled(Random), spelled(Deterministic)), ("\"random\"".into(), "\"deterministic\"".into()));
    }

    /// Which examples of a class a client gets is drawn too: not the first ones of the data.
    #[test]
    fn the_examples_of_a_class_are_shuffled() {
        let split = Pathological { num_clients: 2, classes_per_client: 1, mode: Deterministic };
        let clients = pathological(&[0; 100], 1, &split, &mut rng(5)).unwrap();
        let late = clients[0].iter().filter(|example| **example >= 50).count();
        assert!(clients[0].len() == 50 && (10..40).contains(&late), "{late} of 50 are from the second half");
    }
}
