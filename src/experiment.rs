//! An experiment from its configuration to its results: the only place that wires all the rest together.
//!
//! [`Federation`] is the library's door: open a device, load a data set, run rounds. [`run()`] is what the command line
//! does with it: a run folder, progress, tables and pictures.

mod alike;
mod batch;
mod checkpoint;
mod federation;
mod finished;
mod folders;
mod forecast;
mod group;
mod inputs;
mod job;
mod journal;
mod keeper;
mod overlap_means;
mod plan;
mod records;
mod resume;
mod run;
mod sharing;
mod state;

pub use batch::{Jobs, Open};
pub use federation::{Federation, Outcome};
pub use forecast::{Forecast, Trial, forecast};
pub use inputs::{layer_specs, load_data, partition};
pub use plan::{peak_memory, resident_memory};
pub use resume::check_resumable;
pub use run::{LiveRequest, Ran, Request, Stop, run, run_on};
pub use state::State;
