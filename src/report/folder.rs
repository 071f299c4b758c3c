//! The run folder: never over an earlier one, and whole after every round, even on a disk that fills up.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::append::Mark;
use super::begin::{Begin, EXPERIMENT, sync_folder};
use super::growing::{Growing, RoundRows};
use super::summary::{ENVIRONMENT, Environment, Summary};
use super::{analyses, rows};
use crate::circuits::analyses::Analysed;
use crate::files::{replace_whole, write_whole};
use crate::{Error, Result};

/// A run's folder while the run goes on.
pub struct RunFolder {
    path: PathBuf,
    growing: Growing,
    /// Whether files of an ended run may be there, which this one leaves as that one would have.
    over: bool,
    /// Whether there are new files since the last sync.
    named: bool,
}

/// Refuses a path where something is already: an empty folder, or nothing, is free.
pub fn check_free(path: &Path) -> Result<()> {
    let run = path.join(EXPERIMENT).is_file();
    let on = if run { "go on with the run in it with --resume, " } else { "" };
    let help = format!("{on}give another folder with --out, or move this one away: nothing is written over");
    match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::config("--out", format!("{} exists and is not empty", path.display()), help)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Systems differ in what they call a file that is to be listed.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory || path.is_file() => {
            Err(Error::config("--out", format!("{} is not a folder", path.display()), help))
        }
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

impl RunFolder {
    /// Makes the folder, with those above it, `experiment.toml` from the resolved configuration, and the files that grow
    /// by round; or finds them as an ended run left them. `gated_layers` are the layers that circuits have channels in;
    /// without any, no circuit files are made.
    pub fn create(path: &Path, experiment: &str, gated_layers: &[String], begin: Begin<'_>) -> Result<Self> {
        begin.claim(path)?;
        // First of all: a folder with an experiment and no rounds is one in which the run can begin again.
        begin.first(&path.join(EXPERIMENT), experiment.as_bytes())?;
        let growing = Growing::start(path, gated_layers, begin, &mut |path| begin.open(path))?;
        Ok(Self { path: path.into(), growing, over: begin.over(), named: true })
    }

    /// Refuses a folder whose growing files are not as these marks of an earlier [`RunFolder::marks`] say.
    pub fn check(path: &Path, gated_layers: &[String], marks: &[Mark]) -> Result<()> {
        Growing::check(path, gated_layers, marks)
    }

    /// What each growing file holds, as [`Begin::At`] takes it.
    pub fn marks(&mut self) -> Vec<Mark> {
        self.growing.marks()
    }

    /// Waits until everything written so far would survive a failure of power.
    pub fn sync(&mut self) -> Result<()> {
        self.growing.sync()?;
        // A folder takes as long as a file, and hardly ever changes.
        if std::mem::take(&mut self.named) {
            let model = self.path.join("model");
            [&self.path, &model].into_iter().filter(|path| path.exists()).try_for_each(|path| sync_folder(path))?;
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `environment.json`.
    pub fn write_environment(&self, environment: &Environment) -> Result<()> {
        self.put(&self.path.join(ENVIRONMENT), &json(environment)?)
    }

    /// `partition.csv`, from how many examples of each class each client holds.
    pub fn write_partition(&self, counts: impl Iterator<Item = Vec<u32>>) -> Result<()> {
        let path = self.path.join("partition.csv");
        self.put(&path, &rows::partition(counts).map_err(unwritable(&path))?)
    }

    /// `summary.json`.
    pub fn write_summary(&self, summary: &Summary) -> Result<()> {
        self.put(&self.path.join("summary.json"), &json(summary)?)
    }

    /// `analyses.json`, and `analyses/<name>.csv` for each that found something, after `round`, the last.
    pub fn write_analyses(&self, round: usize, done: &[Analysed]) -> Result<()> {
        let folder = self.path.join("analyses");
        for analysed in done {
            let path = folder.join(format!("{}.csv", analysed.analysis.name()));
            if let Some(table) = analyses::table(analysed).map_err(unwritable(&path))? {
                fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
                self.put(&path, &table)?;
            }
        }
        let path = self.path.join("analyses.json");
        self.put(&path, analyses::json(round, done).map_err(unwritable(&path))?.as_bytes())
    }

    /// One round's line and rows in every file. If one of them cannot be written, none has the round.
    pub fn write_round(&mut self, rows: &RoundRows<'_>) -> Result<()> {
        self.growing.write_round(rows)
    }

    /// Saves the global model after `round`: `model/round_0010.safetensors`.
    pub fn write_model(&mut self, round: usize, safetensors: &[u8]) -> Result<PathBuf> {
        self.write_weights(format!("round_{round:04}.safetensors"), safetensors)
    }

    /// Saves a client's local model of `round`: `model/round_0010_client_0003.safetensors`.
    pub fn write_client_model(&mut self, round: usize, client: usize, safetensors: &[u8]) -> Result<PathBuf> {
        self.write_weights(format!("round_{round:04}_client_{client:04}.safetensors"), safetensors)
    }

    fn write_weights(&mut self, name: String, safetensors: &[u8]) -> Result<PathBuf> {
        let folder = self.path.join("model");
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let path = folder.join(name);
        self.put(&path, safetensors)?;
        self.named = true;
        Ok(path)
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        put(path, bytes, self.over)
    }
}

/// Writes a whole file, over an earlier one only where that may be.
pub(super) fn put(path: &Path, bytes: &[u8], over: bool) -> Result<()> {
    if over { replace_whole(path, bytes) } else { write_whole(path, bytes) }
}

/// A value as JSON for people to read too.
pub(super) fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_string_pretty(value).map_err(unwritable(Path::new("JSON")))?;
    text.push('\n');
    Ok(text.into_bytes())
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
        let mut folder = RunFolder::create(&parent.path().join("runs/a-1"), "", &gated(), Begin::New).unwrap();
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
        let mut folder = RunFolder::create(&parent.path().join("a"), "name = \"a\"\n", &[], Begin::New).unwrap();
        folder.write_partition([vec![3]].into_iter()).unwrap();
        folder.write_summary(&Summary::new("a", 1, &[], &[], &[])).unwrap();
        assert!(folder.write_model(10, b"w").unwrap().ends_with("model/round_0010.safetensors"));
        assert!(folder.write_client_model(10, 3, b"w").unwrap().ends_with("model/round_0010_client_0003.safetensors"));
        folder.write_partition([vec![4]].into_iter()).unwrap_err();
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
            let error = RunFolder::create(path, "", &[], Begin::New).err().unwrap();
            assert_eq!(error.exit_code(), 2);
            let message = error.to_string();
            assert!(message.starts_with("--out: ") && message.contains("nothing is written over"), "{message}");
        }
        assert_eq!(fs::read_to_string(taken.join("rounds.jsonl")).unwrap(), "precious");
        RunFolder::create(&empty, "", &[], Begin::New).unwrap();
    }

    /// Whatever an ended run wrote after the checkpoint is gone, and written again as if it had never been.
    #[test]
    fn a_folder_goes_on_from_its_marks() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a");
        let mut folder = RunFolder::create(&path, "toml", &gated(), Begin::New).unwrap();
        let rounds: Vec<_> = (1..=3).map(round).collect();
        let circuits: Vec<_> = (1..=3).map(circuit).collect();
        let write = |folder: &mut RunFolder, n: usize| {
            let circuits = &circuits[n - 1..n];
            folder.write_round(&RoundRows { circuits, ..RoundRows::of(&rounds[n - 1]) }).unwrap();
            folder.write_model(n, b"w").unwrap();
        };
        let names = ["circuits.json", "circuits.csv", "metrics.csv", "rounds.jsonl"];
        let mut marks = vec![folder.marks()];
        (1..=3).for_each(|n| {
            write(&mut folder, n);
            folder.sync().unwrap();
            marks.push(folder.marks());
        });
        let whole = names.map(|name| read(&folder, name));
        drop(folder);
        for (done, marks) in marks.iter().enumerate() {
            fs::write(path.join("model/.writing-abc"), "half").unwrap();
            RunFolder::check(&path, &gated(), marks).unwrap();
            let mut folder = RunFolder::create(&path, "toml", &gated(), Begin::At(marks)).unwrap();
            assert_eq!(read(&folder, "rounds.jsonl").lines().count(), done);
            assert!(!path.join("model/.writing-abc").exists());
            (done + 1..=3).for_each(|n| write(&mut folder, n));
            assert_eq!(names.map(|name| read(&folder, name)), whole);
        }
        fs::write(path.join("circuits.csv"), "").unwrap();
        for result in [
            RunFolder::check(&path, &gated(), &marks[1]),
            RunFolder::create(&path, "toml", &gated(), Begin::At(&marks[1])).map(drop),
            RunFolder::check(&path, &gated(), &[]),
        ] {
            assert_eq!(result.unwrap_err().exit_code(), 2);
        }
        // Before the first checkpoint it begins again.
        let folder = RunFolder::create(&path, "toml", &gated(), Begin::Again).unwrap();
        assert_eq!((read(&folder, "rounds.jsonl").as_str(), read(&folder, "circuits.json").as_str()), ("", "{\n}\n"));
    }
}
