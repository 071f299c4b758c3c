//! The command line: one file a subcommand. Each reads its flags, calls the library, and prints.

mod bench;
mod data;
mod devices;
mod presets;
mod report;
mod run;

use clap::{Parser, Subcommand};

use crate::Result;

pub use bench::BenchArgs;
pub use data::DataArgs;
pub use devices::DevicesArgs;
pub use presets::PresetsArgs;
pub use report::ReportArgs;
pub use run::{RunArgs, SweepArgs, prepare};

/// Where data sets are kept unless `--data` says otherwise.
const DEFAULT_DATA: &str = "data";

/// Simulates federated learning on one GPU and finds the circuits inside the clients' networks.
#[derive(Debug, Parser)]
#[command(name = "fedcircuit", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// A subcommand with its flags.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an experiment: a preset by name, or a TOML file
    Run(RunArgs),
    /// Run an experiment once for each point of its [sweep], and put the results in one table
    Sweep(SweepArgs),
    /// Write the page about a run, or one that compares runs
    Report(ReportArgs),
    /// List the experiments that come with the program, or show one
    Presets(PresetsArgs),
    /// List the devices that can compute, with the limits that matter
    Devices(DevicesArgs),
    /// Measure a device: its peaks, every kernel against them, training, and whole rounds
    Bench(BenchArgs),
    /// List data sets, or download one
    Data(DataArgs),
}

/// Does what was asked.
pub fn execute(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Run(args) => run::execute(args),
        Command::Sweep(args) => run::sweep(args),
        Command::Report(args) => report::execute(args),
        Command::Presets(args) => presets::execute(args),
        Command::Devices(args) => devices::execute(args),
        Command::Bench(args) => bench::execute(args),
        Command::Data(args) => data::execute(args),
    }
}

/// Prints to standard output. A reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> Result<()> {
    use std::io::{ErrorKind, Write, stdout};
    match stdout().write_all(text.as_bytes()).and_then(|()| stdout().flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(crate::Error::io("write", "standard output")(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bad_usage_is_named_and_exits_with_2() {
        for (line, kind, says) in [
            ("run", ErrorKind::MissingRequiredArgument, "<PRESET|FILE.toml>"),
            ("rum quickstart", ErrorKind::InvalidSubcommand, "'run'"),
            ("run quickstart --rounds 0", ErrorKind::ValueValidation, "--rounds"),
            ("run quickstart --rounds -3", ErrorKind::ValueValidation, "-3 is not in 1..=1000000"),
            ("run quickstart --rounds many", ErrorKind::ValueValidation, "--rounds"),
            ("sweep a.toml --jobs 0", ErrorKind::ValueValidation, "--jobs"),
            ("run quickstart --jobs 2", ErrorKind::UnknownArgument, "--jobs"),
            ("run quickstart --seed -1", ErrorKind::ValueValidation, "--seed"),
            ("run quickstart --seed 1.5", ErrorKind::ValueValidation, "--seed"),
            ("run quickstart --sed 1", ErrorKind::UnknownArgument, "--seed"),
            ("run quickstart --seed 1 --seed 2", ErrorKind::ArgumentConflict, "--seed"),
            ("presets show", ErrorKind::MissingRequiredArgument, "<NAME>"),
            ("data fetch", ErrorKind::MissingRequiredArgument, "<NAME>"),
            ("report", ErrorKind::MissingRequiredArgument, "<RUN FOLDER>"),
        ] {
            let words = std::iter::once("fedcircuit").chain(line.split(' '));
            let error = Cli::try_parse_from(words).unwrap_err();
            assert_eq!((error.kind(), error.exit_code()), (kind, 2), "{line}: {error}");
            assert!(error.to_string().contains(says), "{line}: {error}");
        }
    }
}
