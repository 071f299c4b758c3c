//! What a run leaves behind and shows: the run folder, the progress bar, the closing table, the pictures.

pub mod analyses;
pub mod append;
pub mod chance;
pub mod circuits_json;
pub mod folder;
pub mod plots;
pub mod progress;
pub mod records;
pub mod rows;
pub mod summary;
pub mod table;

pub use chance::expected_iou;
pub use folder::RunFolder;
pub use plots::{RunFigures, draw_circuits, draw_rounds};
pub use progress::Progress;
pub use records::{
    CircuitRecord, ClientRecord, Comparison, Edges, GlobalRecord, Level, ModelSide, OverlapMean, OverlapRecord,
    RoundRecord, Seconds,
};
pub use summary::{DeviceRecord, Environment, Fates, MeanOverlap, Summary, mean_overlaps};
pub use table::{RunView, closing_table};
