//! Who has which examples: dealt beforehand, or drawn for a client when it is asked for.

use std::borrow::Cow;

use super::partition::{Drawn, count_classes};

/// Clients that a table of all has, of however many.
const LISTED: usize = 100_000;
/// Examples that are drawn for such a table: about a second's work.
const DRAWN: usize = 100_000_000;

/// The clients of a federation and their training examples, as positions in the data.
#[derive(Clone, Debug)]
pub enum Population {
    /// Dealt: every client's examples.
    Dealt(Vec<Vec<u32>>),
    /// Drawn by each client from its own key.
    Drawn(Drawn),
}

impl From<Vec<Vec<u32>>> for Population {
    fn from(clients: Vec<Vec<u32>>) -> Self {
        Self::Dealt(clients)
    }
}

impl Population {
    /// Number of clients.
    pub fn len(&self) -> usize {
        match self {
            Self::Dealt(clients) => clients.len(),
            Self::Drawn(drawn) => drawn.len(),
        }
    }

    /// Whether there are no clients.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of examples of `client`; never draws them.
    ///
    /// # Panics
    /// When there is no such client among those that were dealt to.
    pub fn size(&self, client: usize) -> usize {
        match self {
            Self::Dealt(clients) => clients[client].len(),
            Self::Drawn(drawn) => drawn.examples_per_client(),
        }
    }

    /// Number of examples of the client with most of them.
    pub fn largest(&self) -> usize {
        match self {
            Self::Dealt(clients) => clients.iter().map(Vec::len).max().unwrap_or(0),
            Self::Drawn(drawn) => drawn.examples_per_client(),
        }
    }

    /// How many clients a table of all has, the first ones: what is in such a table can be drawn again at any time.
    pub fn listed(&self) -> usize {
        let most = match self {
            Self::Dealt(_) => LISTED,
            Self::Drawn(drawn) => LISTED.min((DRAWN / drawn.examples_per_client().max(1)).max(1)),
        };
        most.min(self.len())
    }

    /// The examples of `client`: the same ones each time.
    ///
    /// # Panics
    /// When there is no such client among those that were dealt to.
    pub fn examples(&self, client: usize) -> Cow<'_, [u32]> {
        match self {
            Self::Dealt(clients) => Cow::Borrowed(&clients[client]),
            Self::Drawn(drawn) => Cow::Owned(drawn.examples(client)),
        }
    }

    /// Every client's examples, one client at a time.
    pub fn iter(&self) -> impl Iterator<Item = Cow<'_, [u32]>> {
        (0..self.len()).map(|client| self.examples(client))
    }

    /// `[class]`, for one client after the other: how many of its examples belong to each class.
    pub fn class_counts(&self, labels: &[u8], classes: usize) -> impl Iterator<Item = Vec<u32>> {
        self.iter().map(move |examples| count_classes(&examples, labels, classes))
    }

    /// `[class]`: whether some client has an example of it. Stops at the client with whom all classes of the data are found.
    pub fn held(&self, labels: &[u8], classes: usize) -> Vec<bool> {
        let marked = |examples: &mut dyn Iterator<Item = u8>, held: &mut Vec<bool>| {
            examples.for_each(|label| held[usize::from(label)] = true);
        };
        let (mut held, mut present) = (vec![false; classes], vec![false; classes]);
        marked(&mut labels.iter().copied(), &mut present);
        for examples in self.iter() {
            marked(&mut examples.iter().map(|e| labels[*e as usize]), &mut held);
            if held == present {
                break;
            }
        }
        held
    }

    /// Bytes of memory that the lists take, those of the classes that are drawn from included.
    pub fn bytes(&self) -> u64 {
        let lists = match self {
            Self::Dealt(clients) => clients,
            Self::Drawn(drawn) => drawn.classes(),
        };
        let bytes = |list: &Vec<u32>| size_of_val(list) + 4 * list.capacity();
        lists.iter().map(|list| bytes(list) as u64).sum()
    }

    /// The examples of all clients, each once, ascending.
    pub fn pool(&self) -> Vec<u32> {
        let mut held: Vec<bool> = Vec::new();
        for examples in self.iter() {
            let end = examples.iter().max().map_or(0, |last| *last as usize + 1);
            held.resize(held.len().max(end), false);
            examples.iter().for_each(|e| held[*e as usize] = true);
        }
        (0..).zip(held).filter_map(|(example, held)| held.then_some(example)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::partition::{Bootstrap, bootstrap};
    use super::*;

    #[test]
    fn dealt_clients_are_as_they_were_dealt() {
        let population = Population::from(vec![vec![5, 1], vec![0, 2, 1]]);
        assert_eq!((population.len(), population.size(1), population.largest()), (2, 3, 3));
        assert_eq!(*population.examples(0), [5, 1]);
        assert_eq!(population.listed(), 2);
        let counts: Vec<_> = population.class_counts(&[0, 1, 1, 2, 2, 2], 4).collect();
        assert_eq!(counts, [[0, 1, 1, 0], [1, 2, 0, 0]]);
        assert_eq!(population.held(&[0, 1, 1, 2, 2, 2], 4), [true, true, true, false]);
    }

    #[test]
    fn a_pool_holds_shared_examples_once() {
        assert_eq!(Population::from(vec![vec![5, 1], vec![], vec![1, 2]]).pool(), [1, 2, 5]);
    }

    #[test]
    fn drawn_clients_have_sizes_without_being_drawn() {
        let split = Bootstrap { num_clients: 1 << 40, examples_per_client: 3, alpha: None };
        let labels = [1, 1, 3];
        let population = Population::Drawn(bootstrap(&labels, 4, &split, 1).unwrap());
        assert_eq!((population.len(), population.size(1 << 39), population.largest()), (1 << 40, 3, 3));
        assert_eq!(population.examples(1 << 39).len(), 3);
        assert_eq!(population.listed(), 100_000);
        let large = Bootstrap { examples_per_client: 3_000_000, ..split };
        assert_eq!(Population::Drawn(bootstrap(&labels, 4, &large, 1).unwrap()).listed(), 33);
        // Ends, although there are a million millions of them: all classes of the data are soon found.
        assert_eq!(population.held(&labels, 4), [false, true, false, true]);
    }

    #[test]
    fn a_table_of_dealt_clients_ends_and_lists_are_counted_in_bytes() {
        let many = Population::from(vec![Vec::new(); 100_001]);
        assert_eq!((many.len(), many.listed()), (100_001, 100_000));
        let mut list = Vec::with_capacity(10);
        list.extend([1, 2, 3]);
        let lists = size_of::<Vec<u32>>() as u64;
        assert_eq!(Population::from(vec![list, vec![]]).bytes(), 40 + 2 * lists);
    }
}
