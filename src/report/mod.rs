//! What a run leaves behind and shows: the run folder, the progress bar, the closing table, the pictures.

pub mod analyses;
pub mod append;
pub mod begin;
pub mod chance;
pub mod circuits_json;
pub mod estimate;
pub mod events;
pub mod figures;
pub mod folder;
pub mod growing;
pub mod history;
pub mod html;
pub mod live;
pub mod parquet;
pub mod plots;
pub mod progress;
pub mod records;
pub mod rows;
pub mod seeds;
pub mod summary;
pub mod sweep;
pub mod table;
mod turns;

pub use begin::Begin;
pub use chance::expected_iou;
pub use estimate::Estimate;
pub use events::Events;
pub use figures::{Figure, RoundFigures, figures};
pub use folder::RunFolder;
pub use growing::RoundRows;
pub use history::{HistoryRound, SeedRound, read_history};
pub use live::Live;
pub use plots::{RunFigures, draw_circuits, draw_rounds};
pub use progress::{News, Progress, Teller};
pub use records::{
    CircuitRecord, ClientRecord, Comparison, Control, ControlRecord, CurvePoint, Edges, GlobalRecord, LackingPair,
    Level, ModelSide, OverlapMean, OverlapRecord, Removals, RoundRecord, Seconds,
};
pub use seeds::{SeedsFolder, SeedsSummary, seed_folder};
pub use summary::{DataRecord, DeviceRecord, Environment, Fates, MeanOverlap, Summary};
pub use sweep::{SweepRun, sweep_table, write_sweep};
pub use table::{RunView, closing_table};
