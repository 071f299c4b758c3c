//! Circuits: the few channels that suffice for a class, found for many (client, class) pairs in one batched program,
//! tested by ablation, and compared. Everything stays on the device until the round's one read-back.

mod ablate;
mod all_pairs;
pub mod analyses;
mod answers;
mod compare;
mod controls;
mod diagnose;
mod discover;
mod edges;
mod laboratory;
mod masks;
mod pair;
mod round;

pub use ablate::Ablation;
pub use all_pairs::{LayerTotal, OverlapTotal, SizeCount};
pub use compare::{Comparison, Level, OverlapCounts, OverlapResult};
pub use controls::Against;
pub use diagnose::Diagnosis;
pub use discover::learn_gates;
pub use laboratory::{CircuitResult, Laboratory, PairResult};
