//! What is asked of a finished run.

use serde::Serialize;

/// An analysis after the last round; `circuits::analyses` says what each computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Analysis {
    /// Do channels of a class's specialist put the global model's mistakes right?
    Patching,
    /// What becomes of the other classes when the strongest one's own channels are silenced?
    Dominators,
    /// Do the specialists' circuits in the global model vote better than it predicts?
    Ensemble,
    /// Is a network put together from the specialists' circuits better than the average?
    Cascade,
    /// Which classes does the global model hardly tell apart, and which of them wins?
    Centroids,
    /// What does it do to the global model to take the channels that two clients share from one of them?
    SharedNeurons,
}

impl Analysis {
    /// Every analysis, by the name the TOML gives it.
    pub const ALL: [(&'static str, Analysis); 6] = [
        ("patching", Analysis::Patching),
        ("dominators", Analysis::Dominators),
        ("ensemble", Analysis::Ensemble),
        ("cascade", Analysis::Cascade),
        ("centroids", Analysis::Centroids),
        ("shared_neurons", Analysis::SharedNeurons),
    ];

    /// As the TOML and the files have it.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}
