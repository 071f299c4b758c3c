//! `by_class`: a client owns every example of its classes (the paper's split into specialists).

use crate::data::indices_by_class;
use crate::error::{Error, Result};

const KEY: &str = "partition.classes";

/// Gives client k every example whose class is in `map[k]`, in the order of the data. A class that several clients own
/// is duplicated, not divided; a class that nobody owns is left out.
///
/// # Errors
/// `Config` for `partition.classes` if there are no clients, or a client has no classes, a class twice, a class out of
/// range, or one without examples.
pub fn by_class(labels: &[u8], classes: usize, map: &[Vec<usize>]) -> Result<Vec<Vec<u32>>> {
    if map.is_empty() {
        return Err(Error::config(KEY, "there are no clients", "give each client its classes: [[0, 1, 2], [3, 4, 5]]"));
    }
    let members = indices_by_class(labels, classes);
    map.iter().enumerate().map(|(client, owned)| one_client(client, owned, &members)).collect()
}

fn one_client(client: usize, owned: &[usize], members: &[Vec<u32>]) -> Result<Vec<u32>> {
    let fault = |problem: String| {
        let help =
            format!("give every client one or more different classes from 0 to {}", members.len().saturating_sub(1));
        Err(Error::config(KEY, problem, help))
    };
    if owned.is_empty() {
        return fault(format!("client {client} has no classes, so no examples"));
    }
    for (at, &class) in owned.iter().enumerate() {
        match members.get(class) {
            None => return fault(format!("client {client} has class {class}, which does not exist")),
            Some(examples) if examples.is_empty() => {
                return fault(format!("client {client} has class {class}, of which the data has no examples"));
            }
            Some(_) if owned[..at].contains(&class) => {
                return fault(format!("client {client} has class {class} twice"));
            }
            Some(_) => {}
        }
    }
    let mut indices: Vec<u32> = owned.iter().flat_map(|&class| &members[class]).copied().collect();
    indices.sort_unstable();
    Ok(indices)
}

#[cfg(test)]
mod tests {
    use super::super::tests::refused;
    use super::*;

    const LABELS: [u8; 7] = [2, 0, 1, 0, 2, 3, 0];

    #[test]
    fn clients_own_whole_classes_and_share_by_duplication() {
        let clients = by_class(&LABELS, 5, &[vec![2, 0], vec![0], vec![3]]).unwrap();
        assert_eq!(clients, [vec![0, 1, 3, 4, 6], vec![1, 3, 6], vec![5]]);
    }

    #[test]
    fn refuses_what_has_no_examples() {
        let deal = |map: &[Vec<usize>]| by_class(&LABELS, 5, map);
        refused(deal(&[]), KEY, "no clients");
        refused(deal(&[vec![0], vec![]]), KEY, "client 1 has no classes");
        refused(
            deal(&[vec![5]]),
            KEY,
            "class 5, which does not exist\ngive every client one or more different classes from 0 to 4",
        );
        refused(deal(&[vec![4]]), KEY, "class 4, of which the data has no examples");
        refused(deal(&[vec![1, 2, 1]]), KEY, "class 1 twice");
    }
}
