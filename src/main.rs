//! Parse, run, exit code: 0 done, 1 the run failed, 2 bad usage or configuration.

use std::process::ExitCode;

use clap::Parser;
use fedcircuit::cli::{Cli, execute};
use tracing_subscriber::EnvFilter;

/// Our own warnings; drivers and wgpu only when they fail. `RUST_LOG` says otherwise.
const LOG: &str = "warn,wgpu_core=error,wgpu_hal=error,naga=error";

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    match execute(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
