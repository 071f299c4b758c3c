//! Federated learning: rounds of local training and averaging, every client of a wave at once.
//!
//! The federation does not know circuits or reports; they observe the round ([`Observer`]).

mod cohort;
mod evaluation;
mod examples;
mod local;
mod memory;
mod observer;
mod plan;
mod recipe;
mod results;
mod sampling;
mod simulation;
mod strategy;

pub use cohort::{Member, OwnExamples, Waves};
pub(crate) use examples::upload;
pub use examples::{Examples, Orders};
pub use local::{LocalSummary, LocalTraining};
pub use memory::{Budget, slots_that_fit, wave_that_fits};
pub use observer::{LocalModels, Observer, Pulse, Stage};
pub use plan::RoundPlan;
pub use recipe::Recipe;
pub use results::{Client, Global, ReplicateRound, Round, Seconds};
pub use sampling::Cohort;
pub use simulation::{Replicate, Simulation};
pub(crate) use simulation::{apart, parts};
