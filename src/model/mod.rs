//! The network: layers that chain, where their parameters lie, how they start, and the pass forward and backward as a
//! sequence of kernel calls.

mod ablated;
mod init;
mod layers;
mod layout;
mod network;
mod reach;
mod survivors;
mod weights;
mod workspace;

pub use ablated::{Fill, PreActivations};
pub use init::initial_weights;
pub use layers::{Input, Layer, LayerSpec, Op, SpecKind, chain};
pub use layout::{GateRange, Layout, Tensor};
pub use network::{Network, Rows, Wants};
pub use survivors::{Density, Survivors, Weights};
pub use weights::{load, save};
pub use workspace::{Depth, Workspace};
