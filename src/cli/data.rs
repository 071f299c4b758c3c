//! `fedcircuit data <list | draw | fetch NAME>`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::{DEFAULT_DATA, check_folder, print};
use crate::config::{Source, did_you_mean};
use crate::data::fetch::fetch_mnist;
use crate::data::{digits, idx};
use crate::files::replace_whole;
use crate::{Error, Result};

/// Flags of `fedcircuit data`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fedcircuit data list           what there is, and how to get it
  fedcircuit data fetch mnist    real MNIST, 11 MB
  fedcircuit data draw           the drawn digits as files, for other programs")]
pub struct DataArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: DataAction,
}

/// What to do with data sets.
#[derive(Debug, Subcommand)]
pub enum DataAction {
    /// List the data sets, and how to get them
    #[command(after_help = "\
Examples:
  fedcircuit data list
  fedcircuit data list | grep mnist    how to get that one")]
    List,
    /// Write the digits that the program draws into files, for other programs
    #[command(after_help = "\
Examples:
  fedcircuit data draw                 to ./data/digits
  fedcircuit data draw --data ~/sets   to ~/sets/digits

The four files are in the format of MNIST's, IDX: 12,000 training and 2,000 test images. An experiment with fewer uses the
first ones. Files of their names are written over.")]
    Draw(DrawArgs),
    /// Download a data set
    #[command(after_help = "\
Examples:
  fedcircuit data fetch mnist                  11 MB, to ./data/mnist
  fedcircuit data fetch mnist --data ~/sets    to ~/sets/mnist: `fedcircuit run NAME --data ~/sets` finds it there

Every file is checked against its known SHA-256. What is there already and right is not fetched again.")]
    Fetch(FetchArgs),
}

/// Flags of `fedcircuit data draw`.
#[derive(Debug, Args)]
pub struct DrawArgs {
    /// Where data sets are kept, such as ~/sets; this one goes to DIR/digits
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA)]
    pub data: PathBuf,
}

/// Flags of `fedcircuit data fetch`.
#[derive(Debug, Args)]
pub struct FetchArgs {
    /// The data set, such as mnist; `fedcircuit data list` has them all
    pub name: String,
    /// Where data sets are kept, such as ~/sets; this one goes to DIR/NAME
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA)]
    pub data: PathBuf,
}

const LIST: &str = "\
mnist   handwritten digits, 28x28, 60,000 + 10,000; `fedcircuit data fetch mnist`, or IDX files in --data DIR
digits  handwritten-looking digits, 28x28, drawn by the program; nothing to fetch, `fedcircuit data draw` writes files
";

/// Lists, writes out or fetches.
pub fn execute(args: DataArgs) -> Result<()> {
    match args.action {
        DataAction::List => print(LIST),
        DataAction::Draw(args) => draw(&args),
        DataAction::Fetch(args) => fetch(&args),
    }
}

fn draw(args: &DrawArgs) -> Result<()> {
    let folder = args.data.join("digits");
    check_folder("--data", &folder)?;
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let dataset = digits::load();
    for (name, split) in [("train", &dataset.train), ("t10k", &dataset.test)] {
        let images = idx::encode(&[dataset.height, dataset.width], &split.pixels);
        replace_whole(&folder.join(format!("{name}-images-idx3-ubyte")), &images)?;
        replace_whole(&folder.join(format!("{name}-labels-idx1-ubyte")), &idx::encode(&[], &split.labels))?;
    }
    print(&format!("digits are in {}\n", folder.display()))
}

fn fetch(args: &FetchArgs) -> Result<()> {
    fetchable(&args.name)?;
    let folder = args.data.join(&args.name);
    check_folder("--data", &folder)?;
    let bar = ProgressBar::no_length().with_style(
        ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let mut show = |file: &str, done: u64, total: Option<u64>| {
        bar.set_message(file.to_string());
        bar.set_position(done);
        if let Some(total) = total {
            bar.set_length(total);
        }
    };
    fetch_mnist(&folder, &[], &mut show)?;
    bar.finish_and_clear();
    print(&format!("{} is in {}\n", args.name, folder.display()))
}

/// The data set called `name`, if it is one that has to be fetched.
fn fetchable(name: &str) -> Result<Source> {
    let source = Source::ALL.into_iter().find(|(known, _)| *known == name);
    match source {
        Some((_, source @ Source::Mnist)) => Ok(source),
        Some((_, Source::Digits)) => Err(Error::config(
            "data fetch",
            "digits are drawn by the program",
            "accepted: mnist; digits need no fetching",
        )),
        None => {
            let help = format!("{}accepted: mnist", did_you_mean(name, &["mnist"]));
            Err(Error::config("data fetch", format!("no data set is called {name:?}"), help))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_fetched_is() {
        assert_eq!(fetchable("mnist").unwrap(), Source::Mnist);
        assert!(fetchable("digits").unwrap_err().to_string().contains("need no fetching"));
        assert!(fetchable("mnits").unwrap_err().to_string().contains("did you mean mnist? accepted: mnist"));
        assert!(Source::ALL.iter().all(|(name, _)| LIST.contains(name)));
    }
}
