//! What a run is the run of: with the same of all this, and only then, another process gives the same bits.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toml::{Table, Value};

use super::super::inputs::unread;
use crate::config::Experiment;
use crate::data::hex;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::report::DeviceRecord;

/// What determines a run's bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::experiment) struct Origin {
    /// fedcircuit's.
    pub version: String,
    /// What computes.
    pub device: DeviceRecord,
    /// SHA-256 of the data set.
    pub data: String,
    /// SHA-256 of the file with the first weights, where there is one.
    pub first_weights: Option<String>,
    /// The resolved experiment, in TOML.
    #[serde(skip)]
    pub experiment: String,
}

impl Origin {
    /// Of a run that begins now, on a data set with this checksum.
    ///
    /// # Errors
    /// [`Error::Io`] when the first weights cannot be read.
    pub fn new(device: &dyn Device, experiment: &Experiment, data: &str) -> Result<Self> {
        let info = device.info();
        let sum = |path: &Path| std::fs::read(path).map(|b| hex(&Sha256::digest(&b))).map_err(Error::io("read", path));
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").into(),
            device: DeviceRecord {
                name: info.name.clone(),
                backend: info.backend.clone(),
                driver: info.driver.clone(),
            },
            data: data.into(),
            first_weights: experiment.model.init_path().map(|path| sum(&path).map_err(unread)).transpose()?,
            experiment: experiment.to_toml()?,
        })
    }

    /// Refuses the checkpoint `file`, of `other`, where that would go on with other bits.
    ///
    /// # Errors
    /// [`Error::Config`] that says what differs.
    pub fn check(&self, other: &Origin, file: &Path) -> Result<()> {
        let refused = |what: String| {
            let help = "go on with what the run began with, or start it in another folder";
            Err(Error::config("--resume", format!("{} is of another run: {what}", file.display()), help))
        };
        let device = |d: &DeviceRecord| format!("{} ({} {})", d.name, d.backend, d.driver);
        if self.version != other.version {
            return refused(format!("fedcircuit {} wrote it, and this is {}", other.version, self.version));
        }
        if self.device != other.device {
            return refused(format!("{} computed it, and now {} would", device(&other.device), device(&self.device)));
        }
        if self.data != other.data {
            return refused(format!("its data set has SHA-256 {}, and this one {}", other.data, self.data));
        }
        if self.first_weights != other.first_weights {
            return refused("the file of model.init was another".into());
        }
        match difference(&self.experiment, &other.experiment) {
            Some(what) => refused(what),
            None => Ok(()),
        }
    }

    /// Refuses a run's `experiment.toml` that is not this one's. Returns whether that run was to have fewer rounds.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub fn check_experiment(&self, text: &str, file: &Path) -> Result<bool> {
        let Some(what) = difference(&self.experiment, text) else {
            return Ok(rounds(text) != rounds(&self.experiment));
        };
        let help = "give the experiment and options that the run began with, or start another run with another --out; rounds \
                    may be more than before";
        Err(Error::config("--resume", format!("not the experiment of {}: {what}", file.display()), help))
    }
}

/// The rounds of an experiment.
fn rounds(experiment: &str) -> Option<i64> {
    experiment.parse::<Table>().ok()?.get("rounds")?.as_integer()
}

/// The first key with another value in two experiments, apart from `[device]`, which changes no result, and from rounds of
/// which there are more in ours: until the last one, which is studied and saved as no other is, nothing depends on how many
/// follow.
fn difference(ours: &str, theirs: &str) -> Option<String> {
    let more = rounds(ours) > rounds(theirs);
    let read = |text: &str| -> std::result::Result<Table, String> {
        let mut table: Table = text.parse().map_err(|e| format!("it is not TOML ({e})"))?;
        table.remove("device");
        if more {
            table.remove("rounds");
        }
        Ok(table)
    };
    match (read(ours), read(theirs)) {
        (Ok(ours), Ok(theirs)) => differing("", &ours, &theirs),
        (ours, theirs) => ours.err().or(theirs.err()),
    }
}

fn differing(path: &str, ours: &Table, theirs: &Table) -> Option<String> {
    let mut keys: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter().find_map(|key| {
        let name = format!("{path}{key}");
        match (ours.get(key), theirs.get(key)) {
            (Some(Value::Table(ours)), Some(Value::Table(theirs))) => differing(&format!("{name}."), ours, theirs),
            (ours, theirs) if ours == theirs => None,
            (ours, theirs) => Some(format!("{name} was {}, and is {}", shown(theirs), shown(ours))),
        }
    })
}

/// A value as a message shows it.
fn shown(value: Option<&Value>) -> String {
    match value {
        None => "not given".into(),
        Some(Value::Table(_)) => "given".into(),
        Some(value) => {
            let text = value.to_string();
            if text.chars().count() <= 60 { text } else { text.chars().take(57).chain("...".chars()).collect() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_that_differs_is_named() {
        let ours = "rounds = 3\nname = \"a\"\n[device]\nmax_wave = 2\n[training]\nlr = 0.5\nbatch_size = 8\n";
        for (theirs, says) in [
            (ours.replace("max_wave = 2", "threads = 1"), None),
            (ours.replace("lr = 0.5", "lr = 0.25"), Some("training.lr was 0.25, and is 0.5")),
            (ours.replace("batch_size = 8\n", ""), Some("training.batch_size was not given, and is 8")),
            (format!("{ours}[circuits]\nsteps = 3\n"), Some("circuits was given, and is not given")),
            (ours.replace("\"a\"", &format!("{:?}", "é".repeat(80))), Some("...")),
            (ours.replace("rounds = 3", "rounds = "), Some("it is not TOML")),
            (ours.replace("rounds = 3", "rounds = 2"), None),
            (ours.replace("rounds = 3", "rounds = 4"), Some("rounds was 4, and is 3")),
        ] {
            let found = difference(ours, &theirs);
            let fits = match (says, &found) {
                (None, None) => true,
                (Some(says), Some(found)) => found.contains(says),
                _ => false,
            };
            assert!(fits, "{found:?}, not {says:?}");
        }
    }
}
