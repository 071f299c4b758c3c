//! `fedcircuit data <list | fetch NAME>`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::{DEFAULT_DATA, print};
use crate::config::{Source, did_you_mean};
use crate::data::fetch::fetch_mnist;
use crate::{Error, Result};

/// Flags of `fedcircuit data`.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: DataAction,
}

/// What to do with data sets.
#[derive(Debug, Subcommand)]
pub enum DataAction {
    /// List the data sets, and how to get them
    List,
    /// Download a data set
    Fetch(FetchArgs),
}

/// Flags of `fedcircuit data fetch`.
#[derive(Debug, Args)]
pub struct FetchArgs {
    /// The data set
    pub name: String,
    /// Where data sets are kept; this one goes to DIR/NAME
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA)]
    pub data: PathBuf,
}

const LIST: &str = "\
mnist   handwritten digits, 28x28, 60,000 + 10,000; `fedcircuit data fetch mnist`, or IDX files in --data DIR
digits  handwritten-looking digits, 28x28, drawn by the program; nothing to fetch
";

/// Lists or fetches.
pub fn execute(args: DataArgs) -> Result<()> {
    match args.action {
        DataAction::List => print(LIST),
        DataAction::Fetch(args) => fetch(&args),
    }
}

fn fetch(args: &FetchArgs) -> Result<()> {
    fetchable(&args.name)?;
    let folder = args.data.join(&args.name);
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
