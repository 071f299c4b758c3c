//! Parse, run, exit code: 0 done, 1 the run failed, 2 bad usage or configuration.

use std::process::ExitCode;

use clap::Parser;
use fedcircuit::cli::{Cli, execute};

fn main() -> ExitCode {
    match execute(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
