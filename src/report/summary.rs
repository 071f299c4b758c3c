//! What describes a run as a whole: its environment, its final figures, its mean overlaps.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::records::{
    CircuitRecord, Comparison, Diagnosis, GlobalRecord, Level, ModelSide, OverlapMean, RoundRecord, Seconds,
};

/// What [`Environment`] is written to.
pub(crate) const ENVIRONMENT: &str = "environment.json";

/// `environment.json`: where the run happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Environment {
    /// fedcircuit's.
    pub version: String,
    /// What computed.
    pub device: DeviceRecord,
    /// The device's limits in use, by name.
    pub limits: BTreeMap<String, u64>,
    /// Clients computed at once, at most.
    pub wave_size: usize,
    /// Threads of the CPU engine; none on a GPU.
    pub threads: Option<usize>,
    /// What was computed on.
    pub data: DataRecord,
}

impl Environment {
    /// Whether the folder's `environment.json` is of this version, device and data: what may be otherwise in a run that goes
    /// on is told of where it began.
    pub fn is_told_in(&self, folder: &Path) -> bool {
        let told = || {
            let told: serde_json::Value =
                serde_json::from_slice(&std::fs::read(folder.join(ENVIRONMENT)).ok()?).ok()?;
            let own = serde_json::to_value(self).ok()?;
            Some(["version", "device", "data"].into_iter().all(|key| told.get(key) == own.get(key)))
        };
        told().unwrap_or(false)
    }
}

/// The data set that was read, which is another than the experiment's source where its fallback took its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRecord {
    /// As `data.source` names it.
    pub source: String,
    /// Of its images and labels, SHA-256 in hexadecimal digits.
    pub checksum: String,
}

/// What computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// The adapter's name, or `CPU engine`.
    pub name: String,
    /// `vulkan`, `metal` or `dx12`, and `rayon` for the CPU engine.
    pub backend: String,
    /// The driver and its version, or the instructions that the CPU engine uses.
    pub driver: String,
}

/// `summary.json`: final figures and totals.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The experiment's.
    pub name: String,
    /// The experiment's.
    pub seed: u64,
    /// Rounds done.
    pub rounds: usize,
    /// The last global model on the test set.
    pub global: GlobalRecord,
    /// Over all rounds.
    pub seconds: Seconds,
    /// Over all rounds.
    pub readbacks: u64,
    /// Over all rounds.
    pub bytes_read_back: u64,
    /// Mean overlaps of the last round, by comparison, level and layer.
    pub overlap: Vec<MeanOverlap>,
    /// How the clients' classes fared, by round; none where no circuits were looked for.
    pub diagnoses: Vec<Fates>,
}

/// How many classes of clients had each diagnosis in a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fates {
    /// One-based.
    pub round: usize,
    /// They work in the global model, through the local circuits' channels.
    pub preserved: usize,
    /// They work there, but not through these.
    pub structural_drift: usize,
    /// They worked in the client's model only.
    pub destructive_interference: usize,
    /// They did not work in the client's model, whatever they do in the global one.
    pub not_learned: usize,
}

impl Fates {
    /// Counts the diagnoses of a round's circuits, each pair of local and global circuit once, where one is known; `None`
    /// without circuits.
    pub fn new(circuits: &[CircuitRecord]) -> Option<Self> {
        let mut fates = Self { round: circuits.first()?.round, ..Self::default() };
        for circuit in circuits.iter().filter(|c| c.model == ModelSide::Global) {
            match circuit.diagnosis {
                Some(Diagnosis::Preserved) => fates.preserved += 1,
                Some(Diagnosis::StructuralDrift) => fates.structural_drift += 1,
                Some(Diagnosis::DestructiveInterference) => fates.destructive_interference += 1,
                Some(Diagnosis::NotLearned) => fates.not_learned += 1,
                None => {}
            }
        }
        Some(fates)
    }
}

/// Overlaps of one kind, averaged over the pairs for which they are defined.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeanOverlap {
    /// What is compared.
    pub comparison: Comparison,
    /// What is counted.
    pub level: Level,
    /// A layer's name, or `all`.
    pub layer: String,
    /// Pairs averaged over.
    pub pairs: u64,
    /// Mean overlap.
    pub iou: f64,
    /// Mean of what chance gives the same pairs.
    pub chance: f64,
}

impl Summary {
    /// Sums up the rounds done; `overlaps` are the last round's. Without those that are undefined for all their pairs.
    pub fn new(name: &str, seed: u64, rounds: &[RoundRecord], overlaps: &[OverlapMean], diagnoses: &[Fates]) -> Self {
        Self {
            name: name.into(),
            seed,
            rounds: rounds.len(),
            global: rounds.last().map(|record| record.global.clone()).unwrap_or_default(),
            seconds: total_seconds(rounds),
            readbacks: rounds.iter().map(|record| record.readbacks).sum(),
            bytes_read_back: rounds.iter().map(|record| record.bytes_read_back).sum(),
            overlap: mean_overlaps(overlaps).into_iter().filter(|mean| mean.pairs > 0).collect(),
            diagnoses: diagnoses.to_vec(),
        }
    }
}

/// Where the time of all these rounds went.
pub(super) fn total_seconds(rounds: &[RoundRecord]) -> Seconds {
    let total = |part: fn(&Seconds) -> f64| rounds.iter().map(|record| part(&record.seconds)).sum();
    Seconds {
        train: total(|s| s.train),
        centralised: total(|s| s.centralised),
        circuits: total(|s| s.circuits),
        evaluate: total(|s| s.evaluate),
        total: total(|s| s.total),
    }
}

/// A round's overlaps of all classes together; those that are undefined for all their pairs are not numbers.
pub(super) fn mean_overlaps(overlaps: &[OverlapMean]) -> Vec<MeanOverlap> {
    let mean = |of: &OverlapMean| MeanOverlap {
        comparison: of.comparison,
        level: of.level,
        layer: of.layer.clone(),
        pairs: of.pairs - of.undefined,
        iou: of.iou.unwrap_or(f64::NAN),
        chance: of.chance.unwrap_or(f64::NAN),
    };
    overlaps.iter().filter(|of| of.class.is_none()).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_over_all_rounds_and_figures_the_last_ones() {
        let round = |round, accuracy| RoundRecord {
            round,
            seconds: Seconds { train: 1.5, centralised: 0.25, circuits: 3.0, evaluate: 0.5, total: 6.0 },
            global: GlobalRecord { accuracy, ..GlobalRecord::default() },
            clients: vec![],
            dropped: vec![],
            sparsity: vec![],
            readbacks: round as u64,
            bytes_read_back: 64,
        };
        let summary = Summary::new("a", 3, &[round(1, 0.25), round(2, 0.5)], &[], &[]);
        assert_eq!((summary.rounds, summary.readbacks, summary.bytes_read_back), (2, 3, 128));
        let seconds = Seconds { train: 3.0, centralised: 0.5, circuits: 6.0, evaluate: 1.0, total: 12.0 };
        assert_eq!((summary.seconds, summary.global.accuracy), (seconds, 0.5));
    }

    #[test]
    fn every_pair_of_circuits_is_diagnosed_once() {
        use super::super::plots::tests::circuit;
        let one = |model, diagnosis| CircuitRecord { round: 4, diagnosis, ..circuit(model, 0, 0, Vec::new()) };
        let both = |diagnosis| [one(ModelSide::Local, diagnosis), one(ModelSide::Global, diagnosis)];
        let fates = [Some(Diagnosis::NotLearned), Some(Diagnosis::Preserved), Some(Diagnosis::NotLearned), None];
        let fates = fates.map(both).concat();
        let expected = Fates { round: 4, preserved: 1, not_learned: 2, ..Fates::default() };
        assert_eq!(Fates::new(&fates), Some(expected));
        assert_eq!(Fates::new(&[]), None);
    }

    #[test]
    fn overlaps_are_those_of_all_pairs_and_the_undefined_are_left_out() {
        use super::super::plots::tests::overlap;
        let of = |pairs, undefined, class, iou: Option<f64>| OverlapMean {
            pairs,
            undefined,
            class,
            ..overlap(2, "conv1", iou, iou.map(|_| 0.125))
        };
        let means = [of(9, 2, None, Some(0.25)), of(4, 0, Some(1), Some(0.5)), of(3, 3, None, None)];
        let summary = Summary::new("a", 3, &[], &means, &[]);
        let brief: Vec<_> = summary.overlap.iter().map(|m| (m.comparison, m.pairs, m.iou, m.chance)).collect();
        assert_eq!(brief, [(Comparison::LocalGlobal, 7, 0.25, 0.125)]);
    }
}
