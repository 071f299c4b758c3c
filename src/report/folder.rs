//! The run folder: never over an earlier one, and whole after every round, even on a disk that fills up.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::growing::{Growing, RoundRows};
use super::summary::{Environment, Summary};
use super::{analyses, rows};
use crate::circuits::analyses::Analysed;
use crate::{Error, Result};

/// A run's folder while the run goes on.
pub struct RunFolder {
    path: PathBuf,
    growing: Growing,
}

/// Refuses a path where something is already: an empty folder, or nothing, is free.
pub fn check_free(path: &Path) -> Result<()> {
    let help = "give another folder with --out, or move this one away: nothing is written over";
    match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::config("--out", format!("{} exists and is not empty", path.display()), help)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(Error::config("--out", format!("{} is not a folder", path.display()), help))
        }
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

impl RunFolder {
    /// Makes the folder, with those above it, and the files that grow by round. `gated_layers` are the layers that
    /// circuits have channels in; without any, no circuit files are made.
    pub fn create(path: &Path, gated_layers: &[String]) -> Result<Self> {
        check_free(path)?;
        fs::create_dir_all(path).map_err(Error::io("create", path))?;
        let growing = Growing::start(path, gated_layers, &mut |path| {
            let file = File::create_new(path).map_err(Error::io("create", path))?;
            Ok(Box::new(file))
        })?;
        Ok(Self { path: path.into(), growing })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `experiment.toml`: the resolved configuration.
    pub fn write_experiment(&self, toml: &str) -> Result<()> {
        write_whole(&self.path.join("experiment.toml"), toml.as_bytes())
    }

    /// `environment.json`.
    pub fn write_environment(&self, environment: &Environment) -> Result<()> {
        write_json(&self.path.join("environment.json"), environment)
    }

    /// `partition.csv`, from how many examples of each class each client holds.
    pub fn write_partition(&self, counts: impl Iterator<Item = Vec<u32>>) -> Result<()> {
        let path = self.path.join("partition.csv");
        write_whole(&path, &rows::partition(counts).map_err(unwritable(&path))?)
    }

    /// `summary.json`.
    pub fn write_summary(&self, summary: &Summary) -> Result<()> {
        write_json(&self.path.join("summary.json"), summary)
    }

    /// `analyses.json`, and `analyses/<name>.csv` for each that found something, after `round`, the last.
    pub fn write_analyses(&self, round: usize, done: &[Analysed]) -> Result<()> {
        let folder = self.path.join("analyses");
        for analysed in done {
            let path = folder.join(format!("{}.csv", analysed.analysis.name()));
            if let Some(table) = analyses::table(analysed).map_err(unwritable(&path))? {
                fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
                write_whole(&path, &table)?;
            }
        }
        let path = self.path.join("analyses.json");
        write_whole(&path, analyses::json(round, done).map_err(unwritable(&path))?.as_bytes())
    }

    /// One round's line and rows in every file. If one of them cannot be written, none has the round.
    pub fn write_round(&mut self, rows: &RoundRows<'_>) -> Result<()> {
        self.growing.write_round(rows)
    }

    /// Saves the global model after `round`: `model/round_0010.safetensors`.
    pub fn write_model(&self, round: usize, safetensors: &[u8]) -> Result<PathBuf> {
        self.write_weights(format!("round_{round:04}.safetensors"), safetensors)
    }

    /// Saves a client's local model of `round`: `model/round_0010_client_0003.safetensors`.
    pub fn write_client_model(&self, round: usize, client: usize, safetensors: &[u8]) -> Result<PathBuf> {
        self.write_weights(format!("round_{round:04}_client_{client:04}.safetensors"), safetensors)
    }

    fn write_weights(&self, name: String, safetensors: &[u8]) -> Result<PathBuf> {
        let folder = self.path.join("model");
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let path = folder.join(name);
        write_whole(&path, safetensors)?;
        Ok(path)
    }
}

/// Writes a value as a JSON file for people to read too, whole or not at all, and never over another.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(unwritable(path))?;
    text.push('\n');
    write_whole(path, text.as_bytes())
}

/// Writes a file that is there as a whole or not at all, and never over another.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        written_beside(path, bytes)?.persist_noclobber(path)?;
        Ok(())
    };
    write().map_err(Error::io("write", path))
}

/// Writes a file as a whole over an earlier one: for what can be made again from the other files, such as pictures.
pub fn replace_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        written_beside(path, bytes)?.persist(path)?;
        Ok(())
    };
    write().map_err(Error::io("write", path))
}

/// A temporary file with these bytes, ready to be renamed to `path`.
fn written_beside(path: &Path, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let mut file = new_beside(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_data()?;
    Ok(file)
}

/// A temporary file with the rights of an ordinary one: the default lets no one but the owner read the results.
fn new_beside(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    let builder = {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666))
    };
    builder.prefix(".writing-").tempfile_in(folder)
}

/// A record that its format cannot hold, as an error of the file it was meant for.
pub(super) fn unwritable<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> Error {
    let path = path.to_path_buf();
    move |error| Error::Io { action: "write", path, source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::super::growing::tests::{circuit, round};
    use super::*;

    fn gated() -> Vec<String> {
        vec!["conv1".into()]
    }

    fn read(folder: &RunFolder, name: &str) -> String {
        fs::read_to_string(folder.path().join(name)).unwrap()
    }

    #[test]
    fn every_file_is_whole_after_every_round() {
        let parent = tempfile::tempdir().unwrap();
        let mut folder = RunFolder::create(&parent.path().join("runs/a-1"), &gated()).unwrap();
        assert_eq!(read(&folder, "circuits.json"), "{\n}\n");
        for n in 1..=2 {
            folder.write_round(&RoundRows { circuits: &[circuit(n)], ..RoundRows::of(&round(n)) }).unwrap();
            let json: serde_json::Value = serde_json::from_str(&read(&folder, "circuits.json")).unwrap();
            assert_eq!(json.as_object().unwrap().len(), n);
            let nodes = &json[format!("round_{n}")]["clients_local_model"]["client_0"]["0 - zero"]["active_nodes"];
            assert_eq!(nodes["conv1"], serde_json::json!([1]));
            assert_eq!(read(&folder, "rounds.jsonl").lines().count(), n);
            assert_eq!(read(&folder, "circuits.csv").lines().count(), n + 1);
            assert_eq!(read(&folder, "metrics.csv").lines().count(), n + 1);
        }
        assert_eq!(read(&folder, "overlap.csv"), rows::OVERLAP);
    }

    #[test]
    fn whole_files_carry_their_names_and_are_never_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(&parent.path().join("a"), &[]).unwrap();
        folder.write_experiment("name = \"a\"\n").unwrap();
        folder.write_partition([vec![3]].into_iter()).unwrap();
        folder.write_summary(&Summary::new("a", 1, &[], &[], &[])).unwrap();
        assert!(folder.write_model(10, b"w").unwrap().ends_with("model/round_0010.safetensors"));
        assert!(folder.write_client_model(10, 3, b"w").unwrap().ends_with("model/round_0010_client_0003.safetensors"));
        folder.write_experiment("another").unwrap_err();
        assert_eq!(read(&folder, "experiment.toml"), "name = \"a\"\n");
        let names = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut found: Vec<String> = fs::read_dir(folder.path()).unwrap().map(names).collect();
        found.sort();
        let expected = ["experiment.toml", "metrics.csv", "model", "partition.csv", "rounds.jsonl", "summary.json"];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_folder_or_file_that_is_there_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let (taken, empty, file) =
            (parent.path().join("taken"), parent.path().join("empty"), parent.path().join("file"));
        fs::create_dir(&taken).unwrap();
        fs::write(taken.join("rounds.jsonl"), "precious").unwrap();
        fs::create_dir(&empty).unwrap();
        fs::write(&file, "precious").unwrap();
        for path in [&taken, &file] {
            let error = RunFolder::create(path, &[]).err().unwrap();
            assert_eq!(error.exit_code(), 2);
            let message = error.to_string();
            assert!(message.starts_with("--out: ") && message.contains("nothing is written over"), "{message}");
        }
        assert_eq!(fs::read_to_string(taken.join("rounds.jsonl")).unwrap(), "precious");
        RunFolder::create(&empty, &[]).unwrap();
    }
}
