//! The built program, as a user runs it: what it writes and prints, what it refuses, and how it ends early.

mod bad_input;
mod check_run;
mod early_ends;
mod interfaces;
mod live;
mod memory;
mod presets;
mod python;
mod report;
mod resume;
mod run_folder;
mod same_folders;
mod seeds;
mod shared;
mod sweep;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Small enough to run in a second, and with every file a run can leave: see [`Desk::run`].
const TINY: &str = r#"
name = "tiny"
seed = 3
rounds = 2

[data]
source = "digits"
train_examples = 120
test_examples = 40

[partition]
kind = "iid"
num_clients = 2

[model]
layers = [
    { kind = "conv", channels = 4, pool = 2 },
    { kind = "conv", channels = 6, pool = 2 },
    { kind = "linear", features = 10 },
]

[training]
local_epochs = 1
batch_size = 32

[sparsity]
target = 0.5

[circuits]
classes = [1, 7]
steps = 3
"#;

/// A folder to run the program in.
struct Desk {
    folder: TempDir,
}

/// How a run ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Desk {
    /// With `tiny.toml` on it.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tiny.toml"), TINY).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `program` with the desk as its working folder, and nothing of the tester's own settings.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
        command.env("FEDCIRCUIT_CACHE", std::env::temp_dir().join("fedcircuit-suite"));
        command
    }

    fn fedcircuit(&self, args: &[&str]) -> Ended {
        Ended::from(self.command(env!("CARGO_BIN_EXE_fedcircuit")).args(args).output().unwrap())
    }

    /// `fedcircuit run` on the CPU engine.
    fn run(&self, args: &[&str]) -> Ended {
        self.fedcircuit(&[&["run", "--device", "cpu"], args].concat())
    }

    /// Everything on the desk, files and folders.
    fn entries(&self) -> Vec<String> {
        entries(self.folder.path())
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Every file and folder under `folder`, by its path from there, sorted.
fn entries(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(root).unwrap().to_str().unwrap().replace(std::path::MAIN_SEPARATOR, "/"));
            if path.is_dir() {
                walk(&path, root, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

/// The objects of a `rounds.jsonl`.
fn rounds(folder: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(folder.join("rounds.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
