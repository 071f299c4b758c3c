//! Circuits: the few channels that suffice for a class, found for many (client, class) pairs in one batched program,
//! tested by ablation, and compared. Everything stays on the device until the round's one read-back.

mod ablate;
mod all_pairs;
pub mod analyses;
mod answers;
mod centralised;
mod compare;
mod controls;
mod diagnose;
mod discover;
mod edges;
mod families;
mod fill;
mod laboratory;
mod masks;
mod notes;
mod pair;
mod rank;
mod results;
mod round;
mod subject;

pub use ablate::Ablation;
pub use all_pairs::{LayerTotal, OverlapTotal, SizeCount};
pub use compare::{Comparison, Level, OverlapCounts, OverlapResult};
pub use controls::{Against, Control, Origin};
pub use diagnose::Diagnosis;
pub use discover::{LearnedGates, Shown, learn_gates, search_words};
pub use fill::{Donors, Fills};
pub use laboratory::{Laboratory, Memory};
pub use results::{CircuitResult, ControlResult, CurvePoint, PairResult, Removals, area};
