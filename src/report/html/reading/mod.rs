//! What the files of runs' folders say, as far as reports show it.

pub mod circuits_file;
pub mod losses;
pub mod overlaps;
pub mod rows;
pub mod run;
pub mod seed;
pub mod swept;
pub mod weights;
