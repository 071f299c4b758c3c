//! Everything that can go wrong, in one flat enum. Every variant says what to do about it.

use std::path::{Path, PathBuf};

/// The result of anything that can fail for a reason a user can act on.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, where, and what would be accepted instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key or value of the experiment, or an option of the command line.
    #[error("{key}: {problem}\n  {help}")]
    Config {
        /// Dotted path of the key, or the option as typed.
        key: String,
        /// What is wrong with its value.
        problem: String,
        /// What would be accepted.
        help: String,
    },
    /// A file whose contents are not what its name promises.
    #[error("{}: {problem}\n  {help}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What would be accepted.
        help: String,
    },
    /// The operating system refused to read or write.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "write", "create", ...
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The network refused, or sent something else than expected.
    #[error("{url}: {problem}\n  {help}")]
    Download {
        /// The address asked.
        url: String,
        /// What happened.
        problem: String,
        /// What to do instead.
        help: String,
    },
    /// A device that is absent, ambiguous, lost, or refused some work.
    #[error("{problem}\n  {help}")]
    Device {
        /// What happened.
        problem: String,
        /// What to do about it.
        help: String,
    },
    /// A device that is gone in the middle of its work: pulled out, reset by its driver, ended by a watchdog.
    #[error(
        "{device} was lost: {problem}\n  \
         rounds already done are on disk, and the same command with --resume goes on after them; if it is lost again, lower \
         device.memory or device.max_wave, update its driver, or start the run in another folder with --device cpu"
    )]
    Lost {
        /// Its name.
        device: String,
        /// What is known of the reason.
        problem: String,
    },
    /// Work that does not fit the device.
    #[error("{what} needs {needed}, but {limit}\n  {help}")]
    TooLarge {
        /// What was to be allocated.
        what: String,
        /// How much it needs, with its unit.
        needed: String,
        /// Which limit stands in the way, with its size.
        limit: String,
        /// What would make it fit.
        help: String,
    },
    /// A kernel was called with buffers or sizes that do not match: a fault of the calling code.
    #[error("kernel {kernel}: {problem}\n  this is a fault in the program that calls the kernel, not in your data")]
    Kernel {
        /// The kernel's name.
        kernel: &'static str,
        /// Which shape or size is off.
        problem: String,
    },
    /// Two devices disagree (the shadow device's finding).
    #[error("kernel {kernel}, output {output}: the devices differ\n  {detail}")]
    Mismatch {
        /// The first kernel whose outputs differ.
        kernel: &'static str,
        /// The output buffer's name.
        output: &'static str,
        /// Where, and by how much.
        detail: String,
    },
    /// Training produced a value that is not a number.
    #[error(
        "training diverged in round {round}, {place}: the loss is not finite\n  \
         lower training.lr (now {lr}), or check the data; earlier rounds are on disk"
    )]
    Diverged {
        /// Which of the experiments side by side.
        experiment: usize,
        /// One-based round.
        round: usize,
        /// Of which experiment, where there are several, and seed; which client at which step, both as the user counts them.
        place: String,
        /// The learning rate in use.
        lr: f64,
    },
    /// Ctrl-C, or a termination signal.
    #[error(
        "stopped after round {round} as asked; everything up to there is on disk, and the same command with --resume goes on"
    )]
    Interrupted {
        /// The last round that was finished.
        round: usize,
    },
}

impl Error {
    /// A fault in the experiment or on the command line.
    pub fn config(key: impl Into<String>, problem: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Config { key: key.into(), problem: problem.into(), help: help.into() }
    }

    /// A fault in a file's contents.
    pub fn file(path: impl Into<PathBuf>, problem: impl Into<String>, help: impl Into<String>) -> Self {
        Self::File { path: path.into(), problem: problem.into(), help: help.into() }
    }

    /// An input or output error on `path`; use as `map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// A fault of the device.
    pub fn device(problem: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Device { problem: problem.into(), help: help.into() }
    }

    /// Exit status: 2 for bad usage, configuration or data, 1 for a run that failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config { .. } | Self::File { .. } | Self::TooLarge { .. } => 2,
            Self::Io { action, .. } if *action == "read" => 2,
            Self::Device { .. }
            | Self::Lost { .. }
            | Self::Io { .. }
            | Self::Download { .. }
            | Self::Kernel { .. }
            | Self::Mismatch { .. }
            | Self::Diverged { .. }
            | Self::Interrupted { .. } => 1,
        }
    }
}

/// Bytes as people read them: of what is less than a tenth of a MiB, KiB.
pub(crate) fn mib(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if bytes > 0 && mib < 0.1 { format!("{:.1} KiB", 1024.0 * mib) } else { format!("{mib:.1} MiB") }
}

#[cfg(test)]
mod tests {
    use super::mib;

    #[test]
    fn small_amounts_of_memory_are_not_nothing() {
        let of: Vec<String> = [0, 512, 100_000, 105_000, 3 << 20].into_iter().map(mib).collect();
        assert_eq!(of, ["0.0 MiB", "0.5 KiB", "97.7 KiB", "0.1 MiB", "3.0 MiB"]);
    }
}
