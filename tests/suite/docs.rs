//! The documentation: every command in it works, and every file that it names is there.

mod commands;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use commands::{Block, blocks, chained};

/// What is done with a command of the documentation.
#[derive(Clone, Copy, Debug)]
enum How {
    /// Run with these appended, so that it takes a moment.
    With(&'static [&'static str]),
    /// Not run, for this reason.
    Not(&'static str),
}

/// Options that make any experiment small; which of its keys it has does not matter.
const SMALL: &str = "--device cpu --set data.source=digits --set data.train_examples=240 --set data.test_examples=60 \
    --set training.local_epochs=1 --set training.batch_size=40 --set rounds=1 --set seeds=[1] \
    --set 'model={layers=[{kind=\"conv\",channels=4,pool=2},{kind=\"conv\",channels=6},{kind=\"linear\",features=10}]}'";
/// The same with a few steps of search.
const FEW_STEPS: &str = "--set circuits.steps=3 --set circuits.measures.removals=2 --set circuits.controls.random=2 \
    --set circuits.other_images=2";

/// Commands by how they begin; the first that fits counts. Those that fit none run as they stand.
const COMMANDS: &[(&str, How)] = &[
    ("./tests/run.sh", How::Not("runs this suite")),
    ("pip ", How::Not("downloads PyTorch or JAX")),
    ("python benches/", How::Not("needs PyTorch or JAX, and minutes")),
    ("fedcircuit data fetch", How::Not("downloads")),
    ("fedcircuit run benches/", How::With(&[SMALL])),
    ("fedcircuit run ", How::With(&[SMALL, FEW_STEPS])),
    ("fedcircuit sweep ", How::With(&[SMALL, FEW_STEPS])),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// README.md and the pages in docs/.
fn documents() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    found.push(root().join("README.md"));
    found.sort();
    found
}

/// What is done with a command, and which line of [`COMMANDS`] says so.
fn how(command: &str) -> Option<(usize, How)> {
    COMMANDS.iter().enumerate().find(|(_, (begins, _))| command.starts_with(begins)).map(|(i, (_, how))| (i, *how))
}

/// Runs a command in `folder`, where earlier ones of the same document left their files.
fn run(command: &str, more: &[&str], folder: &Path) -> Result<(), String> {
    let mut words = commands::words(command);
    let program = words.remove(0);
    if program == "cat" {
        return words.iter().try_for_each(|file| match folder.join(file).is_file() {
            true => Ok(()),
            false => Err(format!("{file} is not there")),
        });
    }
    if program != "fedcircuit" {
        return Err("is not a command of ours: say in tests/suite/docs.rs why it is not run".into());
    }
    // Files of the repository are there for its readers.
    for word in &mut words {
        let own = root().join(&*word);
        if word.contains('/') && own.is_file() {
            *word = own.to_str().unwrap().into();
        }
    }
    // What the document says already stands.
    words.extend(commands::without_repeated(&words, &commands::words(&more.join(" "))));
    let output = Command::new(env!("CARGO_BIN_EXE_fedcircuit"))
        .args(&words)
        .current_dir(folder)
        .env_remove("RUST_LOG")
        .env("FEDCIRCUIT_CACHE", std::env::temp_dir().join("fedcircuit-suite"))
        .output()
        .unwrap();
    match output.status.code() {
        Some(0) => Ok(()),
        code => Err(format!("{code:?}\n{}", String::from_utf8_lossy(&output.stderr))),
    }
}

#[test]
fn every_command_runs_or_says_why_not() {
    let mut used = vec![false; COMMANDS.len()];
    let mut ran = 0;
    for document in documents() {
        let folder = tempfile::tempdir().unwrap();
        let text = fs::read_to_string(&document).unwrap();
        for Block { line, command } in blocks(&text) {
            for command in chained(&command) {
                let found = how(&command);
                found.iter().for_each(|(i, _)| used[*i] = true);
                let more = match found.map(|(_, how)| how) {
                    Some(How::Not(why)) => {
                        println!("not run: {command}: {why}");
                        continue;
                    }
                    Some(How::With(more)) => more,
                    None => &[],
                };
                if let Err(why) = run(&command, more, folder.path()) {
                    panic!("{}, line {line}: {command}: {why}", document.display());
                }
                ran += 1;
            }
        }
    }
    assert!(ran > 5, "only {ran} commands were found");
    for ((begins, how), used) in COMMANDS.iter().zip(used) {
        assert!(used, "no document has a command that begins with {begins:?} any more: {how:?}");
    }
}

/// Links and code such as `src/rng.rs` lead to files.
#[test]
fn every_file_that_is_named_is_there() {
    let mut checked = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for (line, path) in commands::links(&text).chain(commands::paths(&text)) {
            let near = document.parent().unwrap().join(path);
            let found = near.exists() || root().join(path).exists();
            assert!(found, "{}, line {line}: {path} does not exist", document.display());
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} were found");
}
