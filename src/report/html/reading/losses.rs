//! The training losses of a round's clients, of whom there may be any number: read one at a time, kept as three numbers.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

/// Over the clients that report one; not numbers where none does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Losses {
    /// The lowest.
    pub lowest: f64,
    /// Mean.
    pub mean: f64,
    /// The highest.
    pub highest: f64,
}

impl Default for Losses {
    fn default() -> Self {
        Self { lowest: f64::NAN, mean: f64::NAN, highest: f64::NAN }
    }
}

impl<'de> Deserialize<'de> for Losses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Clients)
    }
}

/// A client's training, as far as it is read.
#[derive(Deserialize)]
struct Client {
    loss: Option<f64>,
}

struct Clients;

impl<'de> Visitor<'de> for Clients {
    type Value = Losses;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of clients")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut clients: A) -> Result<Losses, A::Error> {
        let (mut losses, mut sum, mut n) = (Losses::default(), 0.0, 0.0);
        while let Some(client) = clients.next_element::<Client>()? {
            let Some(loss) = client.loss else { continue };
            losses.lowest = losses.lowest.min(loss);
            losses.highest = losses.highest.max(loss);
            (sum, n) = (sum + loss, n + 1.0);
        }
        Ok(Losses { mean: sum / n, ..losses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_without_a_loss_count_for_nothing() {
        let read = |text: &str| serde_json::from_str::<Losses>(text);
        let three = read(r#"[{"loss": 0.5, "accuracy": 1}, {"loss": null}, {}, {"loss": 2.0}]"#).unwrap();
        assert_eq!(three, Losses { lowest: 0.5, mean: 1.25, highest: 2.0 });
        let none = read("[]").unwrap();
        assert!([none.lowest, none.mean, none.highest].iter().all(|v| v.is_nan()));
        assert!(read("[1]").is_err() && read("{}").is_err());
    }
}
