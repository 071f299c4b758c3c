//! What the analyses of the last round found, and why those that were skipped found nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::reading::rows::each_row;
use super::reading::run::Run;
use super::reading::seed::Seed;
use super::tables::{Cell, Table, word};
use crate::{Error, Result};

/// Rows of an analysis that are kept.
const ROWS: usize = 100;

/// An analysis of a seed.
#[derive(Clone, Debug, Default)]
pub struct Analysis {
    /// As its file is called.
    pub name: String,
    /// Names of its columns.
    pub columns: Vec<String>,
    /// Its first rows.
    pub rows: Vec<Vec<String>>,
    /// How many it has besides.
    pub left_out: usize,
    /// Why it found nothing.
    pub skipped: String,
}

/// The analyses by the names of their files, with what they are and how to read them.
const ANALYSES: [(&str, &str, &str); 6] = [
    (
        "patching",
        "Patching",
        "Images that the global model gets wrong, with one channel's activation taken from a client's model that knows the class \
         (or, where no channel is named, a whole layer's): the share that this rescues.",
    ),
    (
        "dominators",
        "Silencing the dominant class",
        "Accuracy by class before and after the channels that only the strongest class's circuit uses are silenced.",
    ),
    (
        "ensemble",
        "Ensemble of circuits",
        "Each class scored by the global model under its own local circuit, the highest score winning, against the global model \
         among the same classes.",
    ),
    (
        "cascade",
        "Assembled model",
        "A model put together from the clients' circuits, channel by channel, against the averaged one.",
    ),
    (
        "centroids",
        "Distances of classes",
        "Cosine distance of the mean features of two classes in the global model, and their norms. Two classes nearer than \
         0.01 are synonyms; of any two, synonyms or not, the one whose norm is larger by more than 5 is predicted to win.",
    ),
    (
        "shared_neurons",
        "Shared channels replaced",
        "Accuracy by class when the channels that several circuits share are overwritten in the global model with one client's.",
    ),
];

/// Those of a seed's folder that found something, or say why not.
///
/// # Errors
/// Files that cannot be read or are broken.
pub fn read(folder: &Path) -> Result<Vec<Analysis>> {
    let mut skipped = skipped(&folder.join("analyses.json"))?;
    let mut analyses = Vec::new();
    for (name, ..) in ANALYSES {
        let skipped = skipped.remove(name).unwrap_or_default();
        let mut found = Analysis { name: name.into(), skipped, ..Analysis::default() };
        each_row(&folder.join("analyses").join(format!("{name}.csv")), &mut |row| {
            found.columns = row.columns().map(str::to_string).collect();
            match found.rows.len() < ROWS {
                true => found.rows.push(row.columns().map(|column| row.text(column).to_string()).collect()),
                false => found.left_out += 1,
            }
            Ok(())
        })?;
        if !found.rows.is_empty() || !found.skipped.is_empty() {
            analyses.push(found);
        }
    }
    Ok(analyses)
}

/// What `analyses.json` says of an analysis, as far as no table says it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Skipped { skipped: String },
    Other(IgnoredAny),
}

/// Why analyses were skipped, by name.
fn skipped(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let said: BTreeMap<String, Said> = serde_json::from_slice(&text).map_err(|error| {
        let problem = format!("line {}, column {}: {error}", error.line(), error.column());
        Error::file(path, problem, "accepted: the file as the run wrote it")
    })?;
    let why = |(name, said)| match said {
        Said::Skipped { skipped } => Some((name, skipped)),
        Said::Other(_) => None,
    };
    Ok(said.into_iter().filter_map(why).collect())
}

/// A table for each analysis that was asked for.
pub fn tables(run: &Run) -> Vec<Table> {
    ANALYSES.iter().filter_map(|(name, title, caption)| table(run, name, title, caption)).collect()
}

fn table<'a>(run: &'a Run, name: &'static str, title: &str, caption: &str) -> Option<Table> {
    let own = |seed: &'a Seed| Some((seed, seed.analyses.iter().find(|found| found.name == name)?));
    let each: Vec<(&Seed, &Analysis)> = run.seeds.iter().filter_map(own).collect();
    let skipped: Vec<(&Seed, &Analysis)> = each.iter().copied().filter(|(_, found)| found.rows.is_empty()).collect();
    let Some((seed, found)) = each.iter().find(|(_, found)| !found.rows.is_empty()) else {
        return why(name, title, caption, &skipped, run.seeds.len() > 1);
    };
    let rows = found.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let columns: Vec<String> = found.columns.iter().map(|column| column.replace('_', " ")).collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut caption = format!("{caption}{}", run.of_seed(seed));
    if let [(first, because), ..] = skipped[..] {
        let (n, all) = (skipped.len(), run.seeds.len());
        caption += &format!(" {n} of {all} seeds skipped it; seed {}: {}.", first.number, because.skipped);
    }
    let table = Table::new(name, title, &caption, &columns, rows);
    Some(Table { left_out: table.left_out + found.left_out, ..table })
}

/// In place of what no seed found.
fn why(name: &'static str, title: &str, caption: &str, skipped: &[(&Seed, &Analysis)], several: bool) -> Option<Table> {
    let row = |(seed, found): &(&Seed, &Analysis)| {
        let own = several.then(|| Cell { text: seed.number.clone(), value: seed.number.parse().ok() });
        own.into_iter().chain([word(found.skipped.clone())]).collect()
    };
    let columns = if several { &["seed", "skipped because"][..] } else { &["skipped because"] };
    let rows = skipped.iter().map(row).collect();
    (!skipped.is_empty()).then(|| Table::new(name, title, caption, columns, rows))
}

/// Counts and names as they stand, measures to three digits.
fn cell(text: &String) -> Cell {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value.fract() != 0.0 => {
            Cell { text: format!("{value:.3}"), value: Some(value) }
        }
        Ok(value) if value.is_finite() => Cell { text: text.clone(), value: Some(value) },
        _ => word(if text.is_empty() { "–" } else { text }),
    }
}
