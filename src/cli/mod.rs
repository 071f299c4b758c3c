//! The command line: one file a subcommand. Each reads its flags, calls the library, and prints.

mod bench;
mod completions;
mod data;
mod devices;
mod export;
mod keys;
mod man;
mod presets;
mod report;
mod run;

use std::path::Path;

use clap::{Parser, Subcommand};

use crate::Result;

pub use bench::BenchArgs;
pub use completions::CompletionsArgs;
pub use data::DataArgs;
pub use devices::DevicesArgs;
pub use export::ExportArgs;
pub use keys::KeysArgs;
pub use man::ManArgs;
pub use presets::PresetsArgs;
pub use report::ReportArgs;
pub use run::{RunArgs, SweepArgs, prepare};

/// Where data sets are kept unless `--data` says otherwise.
const DEFAULT_DATA: &str = "data";

/// Simulates federated learning on one GPU and finds the circuits inside the clients' networks.
#[derive(Debug, Parser)]
#[command(
    name = "fedcircuit",
    version,
    arg_required_else_help = true,
    after_help = "\
From a first run to a report of your own:
  fedcircuit run quickstart                    two small federations side by side; nothing is downloaded
  fedcircuit presets                           what else comes with the program, and what it costs here
  fedcircuit data fetch mnist                  real MNIST, 11 MB
  fedcircuit run paper-3-classes               an experiment of the paper, on it
  fedcircuit presets show paper-iid > my.toml  the start of an experiment of your own: edit it
  fedcircuit keys                              what may stand in it
  fedcircuit run my.toml --set training.lr=0.01
  fedcircuit report runs/paper-iid-42 runs/paper-3-classes-42   two runs beside each other

Every run leaves a folder, runs/NAME-SEED, with its tables, weights and report.html, which a browser opens. A subcommand's
--help explains its options and gives examples; -h is the short form."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Whether nothing but errors is to be printed.
    pub fn quiet(&self) -> bool {
        match &self.command {
            Command::Run(args) => args.quiet,
            Command::Sweep(args) => args.run.quiet,
            _ => false,
        }
    }
}

/// A subcommand with its flags.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an experiment: a preset by name, or a TOML file
    #[command(after_help = run::EXAMPLES)]
    Run(RunArgs),
    /// Run an experiment once for each point of its sweep section, and put the results in one table
    #[command(after_help = run::SWEEP_EXAMPLES)]
    Sweep(SweepArgs),
    /// Write the page about a run, or one that compares runs
    Report(ReportArgs),
    /// Write the tables of a run as Parquet, for other programs
    Export(ExportArgs),
    /// List the experiments that come with the program, or show one
    Presets(PresetsArgs),
    /// List the keys of an experiment file: what each accepts, means, and is by default
    Keys(KeysArgs),
    /// List the devices that can compute, with the limits that matter
    Devices(DevicesArgs),
    /// Measure a device: its peaks, every kernel against them, training, and whole rounds
    Bench(BenchArgs),
    /// List, download or write out data sets
    Data(DataArgs),
    /// Print what makes a shell complete fedcircuit's subcommands and options
    Completions(CompletionsArgs),
    /// Print the manual page, or write those of all subcommands into a folder
    Man(ManArgs),
}

/// Does what was asked.
pub fn execute(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Run(args) => run::execute(args),
        Command::Sweep(args) => run::sweep(args),
        Command::Report(args) => report::execute(args),
        Command::Export(args) => export::execute(args),
        Command::Presets(args) => presets::execute(args),
        Command::Keys(args) => keys::execute(args),
        Command::Devices(args) => devices::execute(args),
        Command::Bench(args) => bench::execute(args),
        Command::Data(args) => data::execute(args),
        Command::Completions(args) => completions::execute(args),
        Command::Man(args) => man::execute(args),
    }
}

/// Tells of an error that ends the program, or is why it fails in the end. Whoever reads none has the exit code.
pub fn tell(error: &crate::Error) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "error: {error}");
}

/// Refuses a folder to write to that is a file, or would lie in one.
fn check_folder(named_by: &str, folder: &Path) -> Result<()> {
    let Some(file) = folder.ancestors().find(|path| path.is_file()) else { return Ok(()) };
    let help = "accepted: a folder, which is made if it is not there";
    Err(crate::Error::config(named_by, format!("{} is a file", file.display()), help))
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

    /// Every command with subcommands of its own after it, but for those that clap adds.
    fn all(command: clap::Command, found: &mut Vec<clap::Command>) {
        let below: Vec<_> = command.get_subcommands().filter(|below| below.get_name() != "help").cloned().collect();
        found.push(command);
        below.into_iter().for_each(|below| all(below, found));
    }

    #[test]
    fn every_subcommand_has_examples_that_are_right() {
        let mut commands = Vec::new();
        all(Cli::command(), &mut commands);
        for command in commands.iter().filter(|command| !command.has_subcommands() || command.get_name() == "presets") {
            let help = command.clone().render_long_help().to_string();
            let examples: Vec<&str> = help.lines().filter(|line| line.starts_with("  fedcircuit ")).collect();
            assert!(examples.len() > 1, "{}: {help}", command.get_name());
            for example in examples {
                // What follows two spaces explains; what follows these is for the shell.
                let line = example.trim().split("  ").next().unwrap().split(['>', '|']).next().unwrap();
                let words: Vec<&str> = line.split_whitespace().map(|word| word.trim_matches('\'')).collect();
                assert!(words.contains(&command.get_name()), "{example}");
                Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{example}: {error}"));
            }
        }
    }

    #[test]
    fn every_option_says_what_it_takes_for_example_and_its_default() {
        let mut commands = Vec::new();
        all(Cli::command(), &mut commands);
        let own = |arg: &&clap::Arg| !["help", "version"].contains(&arg.get_id().as_str());
        for command in &commands {
            for arg in command.get_arguments().filter(own) {
                let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
                let name = format!("{} {}: {help}", command.get_name(), arg.get_id());
                assert!(help.len() > 20, "{name}");
                if arg.get_action().takes_values() {
                    let example = ["such as", "for example"].iter().any(|words| help.contains(words));
                    assert!(example || !arg.get_possible_values().is_empty(), "{name}");
                    let default = !arg.get_default_values().is_empty() || help.contains("[default: ");
                    assert!(default || arg.is_required_set() || help.contains("Without it"), "{name}");
                }
            }
        }
    }

    #[test]
    fn bad_usage_is_named_and_exits_with_2() {
        for (line, kind, says) in [
            ("run", ErrorKind::MissingRequiredArgument, "<PRESET|FILE.toml>"),
            ("rum quickstart", ErrorKind::InvalidSubcommand, "'run'"),
            ("run quickstart --rounds 0", ErrorKind::ValueValidation, "--rounds"),
            ("run quickstart --rounds -3", ErrorKind::ValueValidation, "a whole number from 1 to 1000000"),
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
