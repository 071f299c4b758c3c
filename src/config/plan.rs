//! What one command runs: a single experiment, or the variants that its `[[compare]]` entries set side by side or that its
//! `[sweep]` asks for.
//!
//! ```toml
//! [[compare]]
//! name = "iid"                                           # the variant's folder and its column in the tables
//! set = { partition = { kind = "iid", num_clients = 10 } }  # keys or whole sections, as --set would change them
//! ```

use toml::{Table, Value};

use super::keys::{Keys, UNKNOWN, refused};
use super::overrides::{collide, within};
use super::sweep::{Point, points};
use super::{Experiment, Override, names_seed, read, seeds};
use crate::{Error, Result};

/// The experiments of one file, in the order in which they run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The file's `name`.
    pub name: String,
    /// One, or as many as the file compares.
    pub variants: Vec<Variant>,
}

/// One experiment of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// The name under `[[compare]]`; `None` where the file compares nothing. The experiment is then called after the
    /// file and the variant, `quickstart-iid`.
    pub label: Option<String>,
    /// The swept keys and what they are set to; empty where nothing is swept.
    pub swept: Vec<Override>,
    /// The resolved experiment.
    pub experiment: Experiment,
}

impl Variant {
    fn alone(experiment: Experiment) -> Self {
        Self { label: None, swept: Vec::new(), experiment }
    }
}

impl Plan {
    /// Where the run goes without `--out`: `runs/<name>-<seed>`, after the first of several seeds. Variants are folders inside it.
    pub fn default_folder(&self) -> std::path::PathBuf {
        let seed = self.variants.first().map_or(0, |variant| variant.experiment.seeds.first());
        format!("runs/{}-{seed}", self.name).into()
    }
}

pub(super) const MAX_VARIANTS: usize = 100;

/// What else is written beside the folders of variants: pictures of all, and what `fedcircuit report` says of some of them.
const TAKEN: [&str; 2] = ["plots", "comparison"];

/// What cannot differ between the experiments of a file.
pub(super) const NOT_VARIED: [&str; 3] = ["name", "compare", "sweep"];

/// Bytes of an experiment, at most: classes for ten thousand clients take half of them. Parsed, a text takes a hundred times
/// as much.
pub const LONGEST: usize = 128 << 10;

/// Reads an experiment file. `origin` is the file's name as messages give it; `overrides` are applied last, to every
/// variant.
pub fn load(text: &str, origin: &str, overrides: &[Override]) -> Result<Plan> {
    check_size(text.len(), origin)?;
    let mut table: Table = toml::from_str(text).map_err(|error| {
        let help = "accepted: a TOML file, see `fedcircuit presets show quickstart`";
        Error::config(origin, format!("is not valid TOML: {}", fault(&error, text)), help)
    })?;
    let blame = |error| blame(error, origin, overrides);
    if let Some(set) = overrides.iter().find(|set| ["compare", "sweep"].iter().any(|key| within(key, &set.key))) {
        let help = "accepted: keys of the experiments; which there are stands in the file";
        return Err(blame(Error::config(set.key.as_str(), "cannot be set", help)));
    }
    let variants = match (&table.remove("compare"), &table.remove("sweep")) {
        (None, None) => resolve(table.clone(), &[], overrides).map(|experiment| vec![Variant::alone(experiment)]),
        (Some(compare), None) => compared(&table, compare, overrides),
        (None, Some(sweep)) => swept(&table, sweep, overrides),
        (Some(_), Some(_)) => {
            Err(Error::config("sweep", "stands beside [[compare]]", "accepted: one of the two in a file"))
        }
    };
    let variants = variants.map_err(blame)?;
    check_threads(&variants).map_err(blame)?;
    check_length(&variants, origin)?;
    let mut base = table;
    for change in overrides {
        change.apply(&mut base).map_err(blame)?;
    }
    let name = base.get("name").and_then(Value::as_str).unwrap_or_default().to_string();
    Ok(Plan { name, variants })
}

/// Refuses variants with threads of their own: the device is opened once, before all of them.
fn check_threads(variants: &[Variant]) -> Result<()> {
    let mut threads = variants.iter().map(|variant| variant.experiment.device.threads);
    let first = threads.next();
    if threads.all(|other| Some(other) == first) {
        return Ok(());
    }
    let problem = "differs between variants, for all of which the device is opened once";
    Err(Error::config("device.threads", problem, "accepted: one number for the whole file, in [device] or with --set"))
}

/// Refuses an experiment of more `bytes` than it may have.
pub fn check_size(bytes: usize, origin: &str) -> Result<()> {
    if bytes <= LONGEST {
        return Ok(());
    }
    let help = format!("accepted: an experiment in TOML of at most {LONGEST} bytes");
    Err(Error::config(origin, format!("is longer than {LONGEST} bytes"), help))
}

/// What is wrong with a text, with its line where that can be read.
fn fault(error: &toml::de::Error, text: &str) -> String {
    let shown = error.to_string();
    if shown.lines().all(|line| line.chars().count() <= 200) {
        return shown.trim_end().into();
    }
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let (line, column) =
        (before.matches('\n').count() + 1, before.chars().rev().take_while(|c| *c != '\n').count() + 1);
    format!("line {line}, column {column}: {}", error.message())
}

/// Refuses experiments that, with their defaults spelled out, would be too long to be read again from their folders.
fn check_length(variants: &[Variant], origin: &str) -> Result<()> {
    for variant in variants {
        let length = variant.experiment.to_toml()?.len();
        if length > LONGEST {
            let problem =
                format!("takes {length} bytes with every default and space spelled out, as experiment.toml has it");
            let help =
                format!("accepted: at most {LONGEST} bytes of it: fewer clients, or a partition that lists none");
            return Err(Error::config(origin, problem, help));
        }
    }
    Ok(())
}

fn compared(table: &Table, compare: &Value, overrides: &[Override]) -> Result<Vec<Variant>> {
    let help = "accepted: [[compare]] entries, each with a name and set = { ... }";
    let entries = compare.as_array().ok_or_else(|| refused("compare".into(), compare, help))?;
    if entries.is_empty() || entries.len() > MAX_VARIANTS {
        let help = format!("{help}, 1 to {MAX_VARIANTS} of them");
        return Err(Error::config("compare", format!("has {} entries", entries.len()), help));
    }
    let mut variants: Vec<Variant> = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        let at = format!("compare[{i}]");
        let entry = entry.as_table().ok_or_else(|| refused(at.clone(), entry, help))?;
        let (label, changes) = read_entry(Keys::new(entry, at.as_str()))?;
        // Some file systems know no case.
        let same = |other: &String| other.eq_ignore_ascii_case(&label);
        if variants.iter().any(|variant| variant.label.as_ref().is_some_and(same)) {
            let problem = format!("{label:?} names two variants");
            return Err(Error::config(format!("{at}.name"), problem, "accepted: each name once, in capitals or not"));
        }
        let resolved = resolve(table.clone(), &changes, overrides);
        let mut experiment = resolved.map_err(|error| of_variant(error, &format!("{at}.set"), &changes, overrides))?;
        experiment.name = name_of(&experiment.name, &label)?;
        variants.push(Variant { label: Some(label), swept: Vec::new(), experiment });
    }
    Ok(variants)
}

fn swept(table: &Table, sweep: &Value, overrides: &[Override]) -> Result<Vec<Variant>> {
    let variant = |point: Point| {
        for set in overrides {
            if let Some(swept) = point.changes.iter().find(|change| collide(&set.key, &change.key)) {
                let problem = format!("is swept by the file, as {}", swept.key);
                let help = "accepted: keys that [sweep] does not name; --seed sets seeds, and --rounds rounds";
                return Err(Error::config(set.key.as_str(), problem, help));
            }
        }
        let resolved = resolve(table.clone(), &point.changes, overrides);
        let mut experiment = resolved.map_err(|error| of_variant(error, "sweep", &point.changes, overrides))?;
        experiment.name = name_of(&experiment.name, &point.label)?;
        Ok(Variant { label: Some(point.label), swept: point.changes, experiment })
    };
    points(sweep, MAX_VARIANTS)?.into_iter().map(variant).collect()
}

/// What a variant's experiment is called. Refused where `experiment.toml` in its folder could not be read again.
fn name_of(name: &str, label: &str) -> Result<String> {
    let whole = format!("{name}-{label}");
    if whole.len() > read::MAX_NAME {
        let problem = format!("makes {whole:?}, of {} characters, with the variant's name", whole.len());
        let most = read::MAX_NAME;
        let help = format!("accepted: at most {most} characters for both and the - between them: shorten one of them");
        return Err(Error::config("name", problem, help));
    }
    Ok(whole)
}

fn read_entry(mut keys: Keys<'_>) -> Result<(String, Vec<Override>)> {
    let accepted = "a name of at most 40 letters, digits, - and _";
    let help = format!("accepted: {accepted}");
    let label = keys.text("name", accepted)?.ok_or_else(|| keys.missing("name", &help))?;
    let plain = label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if !plain || label.is_empty() || label.len() > 40 {
        return Err(Error::config(keys.path_of("name"), format!("{label:?} cannot name a folder"), help));
    }
    // Some file systems know no case.
    if names_seed(&label.to_lowercase()) || TAKEN.iter().any(|taken| taken.eq_ignore_ascii_case(label)) {
        let problem = format!("{label:?} is what a folder of the run's own is called");
        let help = "accepted: another name than seed_N, plots and comparison, such as one that says what differs";
        return Err(Error::config(keys.path_of("name"), problem, help));
    }
    let path = keys.path_of("set");
    let help = "accepted: a table of dotted keys, such as { \"training.lr\" = 0.01 }";
    let set = match keys.value("set") {
        None => return Err(keys.missing("set", help)),
        Some(Value::Table(set)) => set,
        Some(other) => return Err(refused(path, other, help)),
    };
    keys.finish("[[compare]]")?;
    if let Some(key) = set.keys().find(|key| NOT_VARIED.iter().any(|taken| within(taken, key))) {
        return Err(Error::config(format!("{path}.{key}"), "cannot differ between variants", help));
    }
    // Set one after the other, the list would silently take the seed's place.
    if set.contains_key("seed") && set.get("seeds").is_some_and(Value::is_array) {
        return Err(seeds::beside(&format!("{path}.seeds")));
    }
    Ok((label.to_string(), set.iter().map(|(key, value)| Override::new(key, value.clone())).collect()))
}

fn resolve(mut table: Table, changes: &[Override], overrides: &[Override]) -> Result<Experiment> {
    for change in changes.iter().chain(overrides) {
        change.apply(&mut table)?;
    }
    read::experiment(&table)
}

/// Whether one of these sets `key`, a section that it is in, or something in it.
fn concerns(set: &[Override], key: &str) -> bool {
    set.iter().any(|o| within(&o.key, key) || within(key, &o.key))
}

/// Puts before a faulty key which variant's it is, where its value is among the variant's `changes`, which stand at `at`, and
/// not the command line's.
fn of_variant(error: Error, at: &str, changes: &[Override], overrides: &[Override]) -> Error {
    let Error::Config { key, problem, help } = error else { return error };
    let key = if concerns(changes, &key) && !concerns(overrides, &key) { format!("{at}.{key}") } else { key };
    Error::Config { key, problem, help }
}

/// Puts before a faulty key where its value came from: the command line or the file.
fn blame(error: Error, origin: &str, overrides: &[Override]) -> Error {
    let Error::Config { key, problem, help } = error else { return error };
    if concerns(overrides, &key) {
        return Error::Config { key: format!("--set {key}"), problem, help };
    }
    // A kind that the command line sets leaves the keys of the file's kind where they are.
    let section = key.rsplit_once('.').map(|(section, _)| section).filter(|_| problem == UNKNOWN);
    let beside = overrides.iter().find(|o| section.is_some() && o.key.rsplit_once('.').map(|(of, _)| of) == section);
    let help = match (section, beside) {
        (Some(section), Some(set)) => {
            let set = &set.key;
            format!("{help}; beside --set {set}: --set '{section}={{ ... }}' replaces all that the file has in it")
        }
        _ => help,
    };
    Error::Config { key: format!("{origin}: {key}"), problem, help }
}

#[cfg(test)]
mod tests;
