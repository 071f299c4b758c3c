//! What became of a class and its circuit when the clients' models were averaged.

use serde::{Serialize, Serializer};

use crate::config::Thresholds;

/// The four fates of a (client, class) in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Diagnosis {
    /// The class works in the global model, through the channels of the local circuit.
    Preserved,
    /// The class works in the global model, but not through these channels: through others, or its circuits are both
    /// empty and say nothing.
    StructuralDrift,
    /// The class worked in the client's model and is lost in the global one.
    DestructiveInterference,
    /// The class did not work in the client's model, whatever it does in the global one.
    NotLearned,
}

impl Diagnosis {
    /// Every diagnosis.
    pub const ALL: [Diagnosis; 4] =
        [Self::Preserved, Self::StructuralDrift, Self::DestructiveInterference, Self::NotLearned];

    /// As `circuits.csv` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preserved => "preserved",
            Self::StructuralDrift => "structural_drift",
            Self::DestructiveInterference => "destructive_interference",
            Self::NotLearned => "not_learned",
        }
    }
}

impl Serialize for Diagnosis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The fate of a class: accuracy on it of the local and the global model, and the overlap of its two circuits (`None`
/// where both are empty, which preserves nothing). `None` where an accuracy is not a number, as without test images.
pub fn diagnose(local: f64, global: f64, overlap: Option<f64>, lines: &Thresholds) -> Option<Diagnosis> {
    if local.is_nan() || global.is_nan() {
        return None;
    }
    Some(if local < lines.accuracy {
        Diagnosis::NotLearned
    } else if global < lines.accuracy {
        Diagnosis::DestructiveInterference
    } else if overlap.is_some_and(|iou| iou >= lines.iou) {
        Diagnosis::Preserved
    } else {
        Diagnosis::StructuralDrift
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fate_by_hand() {
        let lines = Thresholds { accuracy: 0.5, iou: 0.5 };
        let fate = |local, global, overlap| diagnose(local, global, overlap, &lines);
        assert_eq!(fate(0.9, 0.8, Some(0.5)), Some(Diagnosis::Preserved));
        assert_eq!(fate(0.9, 0.8, Some(0.49)), Some(Diagnosis::StructuralDrift));
        assert_eq!(fate(0.9, 0.8, None), Some(Diagnosis::StructuralDrift));
        assert_eq!(fate(0.9, 0.49, Some(1.0)), Some(Diagnosis::DestructiveInterference));
        assert_eq!(fate(0.49, 0.9, Some(1.0)), Some(Diagnosis::NotLearned));
        // At least the share: who lies on a line is above it.
        assert_eq!(fate(0.5, 0.5, Some(0.5)), Some(Diagnosis::Preserved));
        assert_eq!([fate(f64::NAN, 0.9, Some(1.0)), fate(0.9, f64::NAN, Some(1.0))], [None, None]);
    }
}
