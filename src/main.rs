//! Parse, run, exit code: 0 done, 1 the run failed, 2 bad usage or configuration.

use std::io::{IsTerminal, stderr};
use std::process::ExitCode;

use clap::Parser;
use fedcircuit::cli::{Cli, execute, tell};
use tracing_subscriber::EnvFilter;

/// Warnings, and of drivers and wgpu failures alone. `RUST_LOG` says otherwise.
const LOG: &str = "warn,wgpu_core=error,wgpu_hal=error,naga=error";

fn main() -> ExitCode {
    let cli = Cli::parse();
    let log = if cli.quiet() { "error" } else { LOG };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(log));
    let colour = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let format = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(colour);
    // A log that cannot be written is no reason to stop a run: told where it cannot be either, that would be a panic.
    format.without_time().with_target(false).log_internal_errors(false).init();
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
