//! What the folder of one seed says, as far as reports show it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::circuits_file::{self, RoundCircuits};
use super::losses::Losses;
use super::overlaps::Overlaps;
use super::rows::{Row, each_row};
use crate::config::names_seed;
use crate::report::html::analyses::{self, Analysis};
use crate::{Error, Result};

/// The folder of one seed.
#[derive(Clone, Debug, Default)]
pub struct Seed {
    /// Its number, as its folder has it; empty in a folder of its own, whose name tells nothing of it.
    pub number: String,
    /// By round.
    pub rounds: Vec<Round>,
    /// Examples by client and class.
    pub partition: Vec<(usize, u32, u64)>,
    /// One a row of `circuits.csv`.
    pub circuits: Vec<Circuit>,
    /// How much circuits share.
    pub overlaps: Overlaps,
    /// One a row of `controls.csv`.
    pub controls: Vec<Control>,
    /// One a row of `curve.csv`.
    pub curve: Vec<CurvePoint>,
    /// The channels of the last round's circuits.
    pub last: Option<RoundCircuits>,
    /// Those of the last round that were asked for.
    pub analyses: Vec<Analysis>,
}

/// A line of `rounds.jsonl`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Round {
    /// One-based.
    pub round: usize,
    /// Where the time went.
    #[serde(default)]
    pub seconds: Seconds,
    /// The global model on the test set.
    pub global: Global,
    /// Of those that took part.
    #[serde(default, rename = "clients")]
    pub losses: Losses,
    /// Share of zero weights by layer.
    #[serde(default)]
    pub sparsity: BTreeMap<String, Option<f64>>,
}

/// The global model on the test set.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Global {
    /// Mean cross-entropy.
    pub loss: Option<f64>,
    /// Over all classes.
    pub accuracy: Option<f64>,
    /// Over the classes that some client holds.
    pub trained_accuracy: Option<f64>,
    /// By class.
    #[serde(default)]
    pub per_class_accuracy: Vec<Option<f64>>,
}

/// How long a round took.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
pub struct Seconds {
    /// All of it.
    pub total: Option<f64>,
}

/// A circuit's measures; those that were not measured are not numbers.
#[derive(Clone, Debug, Default)]
pub struct Circuit {
    /// One-based.
    pub round: usize,
    /// Found in the global model, or in the client's.
    pub global: bool,
    /// Its number.
    pub client: usize,
    /// Its number.
    pub class: u32,
    /// What became of it, by the name in the file.
    pub diagnosis: String,
    /// The file's columns, which all circuits share.
    pub columns: Arc<[String]>,
    /// By column; not numbers in those above.
    pub values: Vec<f64>,
}

impl Circuit {
    /// A measure; not a number where there is none.
    pub fn measure(&self, name: &str) -> f64 {
        self.columns.iter().position(|column| column == name).map_or(f64::NAN, |i| self.values[i])
    }

    /// Kept channels by layer, in the file's order.
    pub fn sizes(&self) -> impl Iterator<Item = (&str, f64)> {
        let columns = self.columns.iter().zip(&self.values);
        columns.filter_map(|(column, size)| Some((column.strip_prefix("size_")?, *size)))
    }

    /// Channels of all layers.
    pub fn size(&self) -> f64 {
        self.sizes().map(|(_, size)| size).sum()
    }
}

/// A row of `controls.csv`.
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// One-based.
    pub round: usize,
    /// By the name in the file.
    pub control: String,
    /// Its number.
    pub class: u32,
    /// Overlap with the global model's circuit.
    pub iou: f64,
    /// What chance would give.
    pub chance: f64,
    /// In the control's weights, nothing ablated.
    pub accuracy: f64,
    /// Of its circuit alone.
    pub sufficiency: f64,
    /// Of its circuit alone.
    pub false_positive: f64,
}

/// A row of `curve.csv`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CurvePoint {
    /// One-based.
    pub round: usize,
    /// Of the global model's circuit, or of the client's.
    pub global: bool,
    /// Its class.
    pub class: u32,
    /// Of the network's channels.
    pub share: f64,
    /// With so many of the best channels.
    pub accuracy: f64,
}

impl Seed {
    /// Reads the folder; files that it lacks are empty here.
    ///
    /// # Errors
    /// Files that cannot be read or are broken, with the line.
    pub fn read(folder: &Path) -> Result<Self> {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = if names_seed(name) { name.trim_start_matches("seed_").to_string() } else { String::new() };
        let mut seed = Self { number, rounds: rounds(&folder.join("rounds.jsonl"))?, ..Self::default() };
        each_row(&folder.join("partition.csv"), &mut |row| {
            seed.partition.push((row.whole("client")?, row.whole("class")?, row.whole("examples")?));
            Ok(())
        })?;
        let (mut columns, mut answers) = (None::<Arc<[String]>>, BTreeMap::new());
        each_row(&folder.join("circuits.csv"), &mut |row| {
            let columns = columns.get_or_insert_with(|| row.columns().map(str::to_string).collect());
            let circuit = circuit(row, columns)?;
            if circuit.global {
                // Later rounds come later, and theirs are wanted.
                answers.insert((circuit.client, circuit.class), called(row.text("cross_answers")));
            }
            seed.circuits.push(circuit);
            Ok(())
        })?;
        each_row(&folder.join("controls.csv"), &mut |row| {
            seed.controls.push(control(row)?);
            Ok(())
        })?;
        each_row(&folder.join("curve.csv"), &mut |row| {
            let (round, class) = (row.whole("round")?, row.whole("class")?);
            let (share, accuracy) = (row.number("share")?, row.number("accuracy")?);
            seed.curve.push(CurvePoint { round, global: row.text("model") == "global", class, share, accuracy });
            Ok(())
        })?;
        seed.overlaps = Overlaps::read(folder)?;
        seed.analyses = analyses::read(folder)?;
        seed.last = circuits_file::read(&folder.join("circuits.json"))?;
        if let Some(last) = &mut seed.last {
            last.take_answers(answers);
        }
        Ok(seed)
    }
}

/// `rounds.jsonl`, without which a folder is no run's.
fn rounds(path: &Path) -> Result<Vec<Round>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(Error::file(path, "is not text in UTF-8", "accepted: the file as the run wrote it"));
        }
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let mut rounds: Vec<Round> = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let round = serde_json::from_str(line).map_err(|error| {
            // Which line of the one that it saw is no news.
            let said = error.to_string();
            let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
            let problem = format!("line {}, column {}: {said}", i + 1, error.column());
            Error::file(path, problem, "accepted: an object a line, as the run wrote it")
        })?;
        rounds.push(round);
    }
    rounds.sort_by_key(|round| round.round);
    if let Some(pair) = rounds.windows(2).find(|pair| pair[0].round == pair[1].round) {
        let problem = format!("round {} is there twice", pair[0].round);
        return Err(Error::file(path, problem, "accepted: a line a round, as the run wrote it"));
    }
    Ok(rounds)
}

fn circuit(row: &Row<'_>, columns: &Arc<[String]>) -> Result<Circuit> {
    const OTHERS: [&str; 6] = ["round", "model", "client", "class", "diagnosis", "cross_answers"];
    let value = |column: &String| if OTHERS.contains(&column.as_str()) { Ok(f64::NAN) } else { row.number(column) };
    Ok(Circuit {
        round: row.whole("round")?,
        global: row.text("model") == "global",
        client: row.whole("client")?,
        class: row.whole("class")?,
        diagnosis: row.text("diagnosis").to_string(),
        values: columns.iter().map(value).collect::<Result<_>>()?,
        columns: columns.clone(),
    })
}

/// Images by the class they were called, from `3:10 5:2`; what is written otherwise says nothing.
fn called(text: &str) -> BTreeMap<u32, u32> {
    let pair = |pair: &str| pair.split_once(':').and_then(|(class, n)| Some((class.parse().ok()?, n.parse().ok()?)));
    text.split(' ').filter_map(pair).collect()
}

fn control(row: &Row<'_>) -> Result<Control> {
    Ok(Control {
        round: row.whole("round")?,
        control: row.text("control").to_string(),
        class: row.whole("class")?,
        iou: row.number("iou")?,
        chance: row.number("chance")?,
        accuracy: row.number("accuracy")?,
        sufficiency: row.number("sufficiency")?,
        false_positive: row.number("false_positive")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: &str = r#"{"round":2,"seconds":{"total":1.5},"global":{"loss":null,"accuracy":0.5,"trained_accuracy":1.0,
        "per_class_accuracy":[1.0,null]},"clients":[{"client":0,"loss":0.5,"accuracy":1.0}],"sparsity":{"fc":0.5}}"#;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("rounds.jsonl"), ROUND.replace('\n', "")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn circuits_keep_every_column() {
        let text = "round,model,client,class,size_conv1,sufficiency,cross,diagnosis\n4,global,1,2,3,0.5,,preserved\n";
        let seed = Seed::read(folder(&[("circuits.csv", text)]).path()).unwrap();
        let [circuit] = &seed.circuits[..] else { panic!("one") };
        assert_eq!((circuit.size(), circuit.measure("sufficiency"), circuit.global), (3.0, 0.5, true));
        assert!(circuit.measure("cross").is_nan() && circuit.measure("nothing").is_nan());
    }

    #[test]
    fn a_broken_line_is_named_and_so_is_a_round_that_comes_again() {
        let folder = folder(&[]);
        let fails = |text: &str, names: &str| {
            fs::write(folder.path().join("rounds.jsonl"), text).unwrap();
            let error = Seed::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(names), "{error}");
        };
        fails("\n{\"round\": \"one\"}\n", "rounds.jsonl: line 2, column");
        fails("\n\n?\n", "rounds.jsonl: line 3, column 1: expected value\n");
        let line = ROUND.replace('\n', "");
        let third = line.replacen("\"round\":2", "\"round\":3", 1);
        fails(&format!("{line}\n{third}\n{line}\n"), "rounds.jsonl: round 2 is there twice");
    }
}
