//! `[cohort]`: which clients take part in a round, and what may go wrong with them.

use serde::Serialize;

use super::keys::{Keys, Limits};
use super::read::CLIENTS;
use super::{Partition, Training};
use crate::{Error, Result};

/// `[cohort]`: who takes part in a round. Without the section every client does, in every round.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cohort {
    /// Clients drawn in each round, without replacement. Default: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients_per_round: Option<usize>,
    /// The same as a share of the clients, above 0 and at most 1; rounded down, but one client at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fraction_train: Option<f64>,
    /// How likely each client is drawn. Default uniform.
    pub sampling: Sampling,
    /// The probability with which a drawn client drops out, in [0, 1): it is not trained, nothing of it reaches the mean,
    /// and it is named among the round's dropped clients. Default 0.
    pub dropout_rate: f64,
    /// The share of the drawn clients, in [0, 1], that are too slow for all local epochs: each of these makes a number of
    /// epochs drawn uniformly from 1 to `training.local_epochs`, and its partial work counts like any other's (FedProx,
    /// Li et al. 2020, arXiv 1812.06127, section 5.2). Rounded to whole clients. Default 0.
    pub partial_epochs: f64,
}

/// How likely each client is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// All alike.
    Uniform,
    /// One after another, each in proportion to its number of examples among the clients not drawn yet. Clients with many
    /// examples then count twice, unless `strategy.weighting` is uniform; then less than by their examples, unless few are drawn
    /// of many, since none is drawn twice.
    Weighted,
}

impl Default for Cohort {
    fn default() -> Self {
        Self {
            clients_per_round: None,
            fraction_train: None,
            sampling: Sampling::Uniform,
            dropout_rate: 0.0,
            partial_epochs: 0.0,
        }
    }
}

impl Cohort {
    /// How many of `clients` clients are drawn in a round.
    pub fn size(&self, clients: usize) -> usize {
        match (self.clients_per_round, self.fraction_train) {
            (Some(count), _) => count.min(clients),
            // 0.29 * 100 is a little below 29 in floating point, and means 29.
            (None, Some(share)) => ((share * clients as f64 * (1.0 + 1e-12)) as usize).clamp(1, clients.max(1)),
            (None, None) => clients,
        }
    }

    /// How many of `drawn` clients do only some of the local epochs.
    pub fn stragglers(&self, drawn: usize) -> usize {
        (self.partial_epochs * drawn as f64).round() as usize
    }

    /// Refuses what the rest of the experiment makes impossible or idle.
    pub(super) fn check(&self, partition: &Partition, training: &Training) -> Result<()> {
        let clients = partition.num_clients();
        if let Some(count) = self.clients_per_round.filter(|count| *count > clients) {
            let problem = format!("{count} clients cannot be drawn from {clients}");
            let help = format!("accepted: a whole number from 1 to {clients}, the clients of the partition");
            return Err(Error::config("cohort.clients_per_round", problem, help));
        }
        if self.partial_epochs > 0.0 && training.local_epochs == 1 {
            let problem = "does nothing with training.local_epochs = 1: nobody can do fewer";
            let help = "leave it out, or raise training.local_epochs";
            return Err(Error::config("cohort.partial_epochs", problem, help));
        }
        Ok(())
    }
}

const EACH_ROUND: Limits = Limits::new(CLIENTS.min, CLIENTS.max, "no more than there are clients");

pub(super) fn read(mut keys: Keys<'_>) -> Result<Cohort> {
    let clients_per_round = keys.count("clients_per_round", &EACH_ROUND)?;
    let fraction_train = keys.real("fraction_train", "a number above 0, at most 1", |x| x > 0.0 && x <= 1.0)?;
    if clients_per_round.is_some() && fraction_train.is_some() {
        let help = "accepted: one of the two; clients_per_round is a number of clients, fraction_train a share of them";
        return Err(Error::config(keys.path_of("fraction_train"), "is given beside cohort.clients_per_round", help));
    }
    let samplings = [("uniform", Sampling::Uniform), ("weighted", Sampling::Weighted)];
    let sampling = keys.choice("sampling", &samplings)?.unwrap_or(Sampling::Uniform);
    let dropout_rate = keys.real("dropout_rate", "a number from 0 to below 1", |x| (0.0..1.0).contains(&x))?;
    let partial_epochs = keys.real("partial_epochs", "a number from 0 to 1", |x| (0.0..=1.0).contains(&x))?;
    keys.finish("[cohort]")?;
    Ok(Cohort {
        clients_per_round,
        fraction_train,
        sampling,
        dropout_rate: dropout_rate.unwrap_or(0.0),
        partial_epochs: partial_epochs.unwrap_or(0.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_down_to_one_client_at_least() {
        let size = |share: f64, clients| Cohort { fraction_train: Some(share), ..Cohort::default() }.size(clients);
        assert_eq!([size(0.1, 30), size(0.29, 100), size(0.55, 10), size(1.0, 7)], [3, 29, 5, 7]);
        assert_eq!([size(0.001, 10), size(1e-300, 1)], [1, 1]);
        assert_eq!(Cohort::default().size(12), 12);
        assert_eq!(Cohort { clients_per_round: Some(4), ..Cohort::default() }.size(12), 4);
        let stragglers = |share, drawn| Cohort { partial_epochs: share, ..Cohort::default() }.stragglers(drawn);
        assert_eq!([stragglers(0.5, 10), stragglers(0.9, 5), stragglers(1.0, 3), stragglers(0.0, 9)], [5, 5, 3, 0]);
    }

    #[test]
    fn stragglers_are_rounded_to_whole_clients() {
        let stragglers = |share, drawn| Cohort { partial_epochs: share, ..Cohort::default() }.stragglers(drawn);
        assert_eq!([stragglers(0.4, 3), stragglers(0.5, 3), stragglers(0.3, 5), stragglers(0.01, 10)], [1, 2, 2, 0]);
    }
}
