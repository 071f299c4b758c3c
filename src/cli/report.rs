//! `fedcircuit report`: the page about a run that is on disk.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::report::html;
use crate::{Error, Result};

/// The flags of `fedcircuit report`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Writes report.html, one file that needs no network, and its figures as SVG and PNG in plots/, from the files of the run's
folder alone. Earlier reports there are replaced, and of their figures those go that the new one lacks; a report.html
that is none is left, and refused.

Examples:
  fedcircuit report runs/quickstart-42          one run, or one of several seeds
  fedcircuit report runs/iid runs/one-class     two runs beside each other
  fedcircuit report runs/*-42 --out both        the same for many, elsewhere")]
pub struct ReportArgs {
    /// A run's folder, such as runs/quickstart-42; several are compared
    #[arg(required = true, value_name = "RUN FOLDER")]
    pub folders: Vec<PathBuf>,
    /// Where the report goes, such as talks/figures [default: the run's folder; for several, comparison/ beside the first]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// The folder in which `folder` lies, also of `.` and `..`.
fn beside(folder: &Path) -> PathBuf {
    match folder.file_name() {
        Some(_) => folder.parent().unwrap_or(Path::new("")).into(),
        None => folder.join(".."),
    }
}

/// Writes the report and says where it is.
pub fn execute(args: ReportArgs) -> Result<()> {
    if let Some(file) = args.folders.iter().find(|folder| folder.is_file()) {
        let help = "accepted: the folder that a run was written to, such as runs/quickstart-42";
        return Err(Error::file(file, "is a file", help));
    }
    let out = args.out.unwrap_or_else(|| match &args.folders[..] {
        [one] => one.clone(),
        several => beside(&several[0]).join("comparison"),
    });
    super::check_folder("--out", &out)?;
    let page = html::write(&args.folders, &out)?;
    super::print(&format!("{}\n", page.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_stands_beside_the_first_run_from_within_it_too() {
        for (folder, parent) in [("runs/a", "runs"), ("runs/a/", "runs"), ("a", ""), (".", "./.."), ("..", "../..")] {
            assert_eq!(beside(Path::new(folder)), Path::new(parent), "{folder}");
        }
    }
}
