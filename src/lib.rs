//! fedcircuit: a laboratory for circuits in federated learning.
//!
//! Every client of a simulated federation trains at the same time, in the same kernels, on one device; the circuits
//! inside the clients' networks are found, ablated and compared there, and one small buffer comes back a round.
//!
//! # A federation in a page
//!
//! ```
//! use fedcircuit::config;
//! use fedcircuit::device::Cpu;
//! use fedcircuit::experiment::{Federation, load_data};
//! use fedcircuit::report::ModelSide;
//!
//! # fn main() -> fedcircuit::Result<()> {
//! let text = r#"
//!     name = "tour"
//!     rounds = 1
//!     data = { source = "digits", train_examples = 120, test_examples = 40 }
//!     partition = { kind = "by_class", classes = [[0, 1], [2, 3]] }
//!     training = { batch_size = 32 }
//!     sparsity = { target = 0.5 }
//!     circuits = { steps = 3 }
//!     [model]
//!     layers = [
//!         { kind = "conv", channels = 4, pool = 2 },
//!         { kind = "conv", channels = 6, pool = 2 },
//!         { kind = "linear", features = 10 },
//!     ]
//! "#;
//! // Plain data: every key checked, every default filled in.
//! let plan = config::load(text, "tour.toml", &[])?;
//! let experiment = &plan.variants[0].experiment;
//! let (dataset, _) = load_data(&experiment.data, "data".as_ref())?;
//! // The same kernels run on a GPU: see `device::open`.
//! let device = Cpu::new(None)?;
//! let mut federation = Federation::new(&device, experiment, &dataset)?;
//! // All clients train, are averaged, and their circuits are found; one outcome for each seed.
//! let outcome = federation.round()?.remove(0);
//! assert_eq!(outcome.record.clients.len(), 2);
//! // Two classes of two clients, each in the client's model and in the average.
//! let global = outcome.circuits.iter().filter(|circuit| circuit.model == ModelSide::Global);
//! for circuit in global {
//!     println!("client {}, {}: {:?}", circuit.client, circuit.class_name, circuit.active_nodes);
//! }
//! assert_eq!(outcome.circuits.len(), 8);
//! // A circuit in a client's model beside the average's, and beside what chance would give.
//! let overlap = &outcome.overlaps[0];
//! println!("{:?}: {:?}, by chance {:?}", overlap.comparison, overlap.iou, overlap.chance);
//! # Ok(())
//! # }
//! ```
//!
//! # The tour
//!
//! From the outside in; modules import those below them in this list and never above.
//!
//! 1. [`cli`]: what `fedcircuit` the program does, a file a subcommand. [`bench`](mod@bench) measures a device.
//! 2. [`experiment`]: the only place that wires all the rest together. [`experiment::run()`] is what `fedcircuit run` does,
//!    with folders, progress, checkpoints and reports; [`experiment::Federation`] is the library's door: a round at a time,
//!    outcomes in memory.
//! 3. [`report`]: what a run leaves behind. [`report::records`] is the plain data of a round, [`report::html`] makes the
//!    page from a folder's files alone.
//! 4. [`circuits`]: circuits are found ([`config::Method`]), measured, compared with each other and with chance, and held
//!    against controls. What the numbers mean, and what they cannot tell, is in `docs/science.md`.
//! 5. [`federation`]: the round. [`federation::Simulation`] samples a cohort, cuts it into waves that fit the device,
//!    trains each, streams the models into a strategy's running sums, and lets a [`federation::Observer`] look at local and
//!    global models. It knows nothing of circuits: they are an observer.
//! 6. [`model`]: layers that chain, where each parameter lies in a client's row, and the passes forward and backward as
//!    kernel calls, written once for all devices. [`data`]: sources of examples, and how they are dealt to clients.
//! 7. [`kernels`]: every kernel beside its shader: declaration, checked call, plain Rust twin, test cases.
//!    [`kernels::ALL`] is the table that tests and benchmarks go through.
//! 8. [`device`]: a GPU through wgpu, the CPU engine, and a shadow device that runs both and names the first kernel whose
//!    outputs differ. A [`device::Device`] owns buffers and runs kernels in the order of their calls; nothing comes back
//!    until it is read, once a round.
//! 9. [`config`]: the experiment as plain data, every key with its meaning, default and range; [`rng`]: chance, from
//!    (seed, round, client, purpose), so that no draw depends on the order of any other; [`error`](mod@error); and files, which are
//!    written whole or not at all.
//!
//! Four rules hold everywhere. Clients are the leading axis of every buffer, so one call of a kernel serves all of them. All
//! chance comes from the host, and sums run in a fixed order: the same seed on the same device gives the same bits, whatever
//! the wave size or the number of threads. Every kernel has a twin that it is tested against. One read-back a round.
//!
//! `docs/extending.md` says how to add a kernel, a strategy, a data set or a measure, `docs/experiments.md` what partitions
//! and files of several experiments are, and `docs/files.md` what the files of a run hold.

pub mod bench;
pub mod circuits;
pub mod cli;
pub mod config;
pub mod data;
pub mod device;
pub mod error;
pub mod experiment;
pub mod federation;
mod files;
pub mod kernels;
pub mod model;
pub mod report;
pub mod rng;

pub use error::{Error, Result};

/// The README's example, compiled and run with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
