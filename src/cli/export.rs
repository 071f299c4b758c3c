//! `fedcircuit export`: the tables of runs that are on disk, for other programs.

use std::path::PathBuf;

use clap::Args;

use super::print;
use crate::Result;
use crate::report::parquet;

/// The flags of `fedcircuit export`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Writes x.parquet beside each x.csv of the folder and the folders in it: the same rows and columns, typed, with nulls for
empty cells. Of a run that goes on or was ended, as far as it got. Earlier Parquet files there are replaced.

Examples:
  fedcircuit export runs/quickstart-42               one run, with its variants and seeds
  fedcircuit export runs/paper-sparsity-42 runs/a    two

In Python, pandas.read_parquet(\"runs/quickstart-42/iid/overlap.parquet\") reads one.")]
pub struct ExportArgs {
    /// A run's folder, such as runs/quickstart-42
    #[arg(required = true, value_name = "RUN FOLDER")]
    pub folders: Vec<PathBuf>,
}

/// Writes the tables and says where they are.
pub fn execute(args: ExportArgs) -> Result<()> {
    for folder in &args.folders {
        let paths = parquet::export(folder)?;
        print(&paths.iter().map(|path| format!("{}\n", path.display())).collect::<String>())?;
    }
    Ok(())
}
