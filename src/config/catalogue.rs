//! Every key of an experiment file, with what it accepts and what it means. Nothing is told here that is told elsewhere:
//! which keys there are and what they accept is what `read.rs` says when it refuses one, and what they mean is the
//! documentation of the fields that they fill; but for what changes from experiment to experiment, see `variants.rs`.

mod documented;
mod variants;

use toml::{Table, Value};

use self::documented::{choices, documented, meaning};
use super::{Override, read};
use crate::error::{Error, Result};

/// The smallest experiment.
const BASE: &str = "name = \"a\"\ndata = { source = \"digits\" }\npartition = { kind = \"iid\", num_clients = 2 }\n";

/// A part of the file: what its heading says after its name, the table it is, the type that documents it, and what makes
/// the smallest experiment have it.
struct Part {
    heading: &'static str,
    path: &'static str,
    kind: &'static str,
    set: &'static str,
}

const fn part(path: &'static str, kind: &'static str, set: &'static str, heading: &'static str) -> Part {
    Part { heading, path, kind, set }
}

const CONV: &str = "model.layers = [{ kind = \"conv\", channels = 4 }, { kind = \"linear\", features = 10 }]";

/// In the order of the documentation.
const PARTS: [Part; 23] = [
    part("", "Experiment", "circuits = {}", ""),
    part("data", "Data", "", ""),
    part("partition", "Partition", "", " of kind iid"),
    part(
        "partition",
        "Partition",
        "partition = { kind = \"dirichlet\", num_clients = 2, alpha = 1.0 }",
        " of kind dirichlet",
    ),
    part(
        "partition",
        "Partition",
        "partition = { kind = \"inner_dirichlet\", num_clients = 2, alpha = 1.0, examples_per_client = 1 }",
        " of kind inner_dirichlet",
    ),
    part("partition", "Partition", "partition = { kind = \"by_class\", classes = [[0]] }", " of kind by_class"),
    part(
        "partition",
        "Partition",
        "partition = { kind = \"pathological\", num_clients = 2, classes_per_client = 1 }",
        " of kind pathological",
    ),
    part(
        "partition",
        "Partition",
        "partition = { kind = \"shards\", num_clients = 2, shards_per_client = 1, shard_size = 1 }",
        " of kind shards",
    ),
    part(
        "partition",
        "Partition",
        "partition = { kind = \"bootstrap\", num_clients = 2, examples_per_client = 1 }",
        " of kind bootstrap",
    ),
    part("cohort", "Cohort", "cohort = {}", ""),
    part("model", "Model", "model = {}", ""),
    part("model.layers.0", "Layer", CONV, ", of a convolution"),
    part("model.layers.1", "Layer", CONV, ", of a linear layer"),
    part("training", "Training", "training = {}", ""),
    part("training", "Training", "training = { optimizer = \"sgd\" }", " with optimizer = \"sgd\""),
    part("sparsity", "Sparsity", "sparsity = {}", ""),
    part("strategy", "Strategy", "strategy = { kind = \"fedavg\" }", ""),
    part("circuits", "Circuits", "circuits = {}", ""),
    part("circuits.measures", "Measures", "circuits = { measures = {} }", ""),
    part("circuits.controls", "Controls", "circuits = { controls = {} }", ""),
    part("circuits.diagnosis", "Thresholds", "circuits = { diagnosis = {} }", ""),
    part("device", "Device", "device = {}", ""),
    part("output", "Output", "output = {}", ""),
];

/// Keys that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// As the file has it, `[training]`, and for which kind of it the keys are; empty for the keys before all sections.
    pub heading: String,
    /// In the order in which they are read.
    pub keys: Vec<Key>,
}

/// A key of an experiment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// As `--set` takes it; that of a layer has no such path.
    pub path: String,
    /// The values it may have.
    pub accepted: String,
    /// What it does, and its default.
    pub meaning: String,
    /// Of a key that names one of a few: each name, and what it stands for.
    pub choices: Vec<(String, String)>,
}

/// Every key.
///
/// # Errors
/// None, unless the smallest experiment is none any more.
pub fn catalogue() -> Result<Vec<Section>> {
    let types = documented();
    let mut sections: Vec<Section> = Vec::new();
    for part in &PARTS {
        let mut base: Table = toml::from_str(BASE).unwrap_or_default();
        if !part.set.is_empty() {
            Override::parse(part.set)?.apply(&mut base)?;
        }
        let name = part.path.split(".layers").next().unwrap_or_default();
        let general = if name.is_empty() { String::new() } else { format!("[{name}]") };
        let tag = tag(&mut base, part.path);
        let mut keys = Vec::new();
        for name in names(&base, part.path) {
            let Some(accepted) = refusal(&base, part.path, &name) else { continue };
            let Some(accepted) = accepted.strip_prefix("accepted: ").filter(|text| !text.starts_with("a table,"))
            else {
                continue;
            };
            let prefix = part.path.replace(".0", "[]").replace(".1", "[]");
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            let meaning = meaning(&types, part.kind, &tag, &name).unwrap_or_default();
            let choices = choices(&types, part.kind, &name, accepted);
            let key = Key { path, accepted: accepted.to_string(), meaning, choices };
            // Which kinds there are, and what the section has whatever its kind, is told once.
            let told =
                |section: &Section| (name == "kind" || section.heading == general) && section.keys.contains(&key);
            if !sections.iter().any(told) {
                keys.push(key);
            }
        }
        sections.push(Section { heading: format!("{general}{}", part.heading), keys });
    }
    sections.extend(variants::sections());
    Ok(sections)
}

/// Which kind of its section a table is; empty where it does not say.
fn tag(base: &mut Table, path: &str) -> String {
    let table = at(base, path);
    let kind = table.and_then(|table| table.get("kind").or(table.get("optimizer"))).and_then(Value::as_str);
    kind.unwrap_or_default().to_string()
}

/// The table at a path, in which a number is a place in a list.
fn at<'t>(table: &'t mut Table, path: &str) -> Option<&'t mut Table> {
    let Some((first, rest)) = path.split_once('.').or((!path.is_empty()).then_some((path, ""))) else {
        return Some(table);
    };
    match table.get_mut(first)? {
        Value::Table(inner) => at(inner, rest),
        Value::Array(list) => list.get_mut(rest.parse::<usize>().ok()?)?.as_table_mut(),
        _ => None,
    }
}

/// What the reader says to a date under this key, which it accepts nowhere.
fn refusal(base: &Table, path: &str, key: &str) -> Option<String> {
    let mut table = base.clone();
    let date = "1979-05-27".parse().ok().map(Value::Datetime)?;
    at(&mut table, path)?.insert(key.to_string(), date);
    match read::experiment(&table) {
        Err(Error::Config { help, .. }) => Some(help),
        _ => None,
    }
}

/// The keys of a table, from what the reader says to one that is none.
fn names(base: &Table, path: &str) -> Vec<String> {
    let help = refusal(base, path, "?").unwrap_or_default();
    let list = help.split_once("accepted in ").and_then(|(_, list)| list.split_once(": "));
    list.map(|(_, list)| list.split(", ").map(String::from).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(sections: &[Section], path: &str) -> Key {
        let key = sections.iter().flat_map(|section| &section.keys).find(|key| key.path == path);
        key.unwrap_or_else(|| panic!("{path}")).clone()
    }

    #[test]
    fn every_key_has_a_meaning_and_says_what_it_accepts() {
        let sections = catalogue().unwrap();
        for key in sections.iter().flat_map(|section| &section.keys) {
            assert!(key.meaning.len() > 3 && key.accepted.len() > 3, "{key:?}");
        }
        let epochs = find(&sections, "training.local_epochs");
        assert_eq!(epochs.accepted, "a whole number from 1 to 10000");
        assert_eq!(epochs.meaning, "Passes over a client's examples in each round. Default 5.");
        assert_eq!(find(&sections, "partition.alpha").accepted, "a number above 0, at most 1000000");
        assert_eq!(find(&sections, "model.layers[].kernel").accepted, "a whole number from 3 to 5 (3 or 5)");
        for path in
            ["seed", "seeds", "training.momentum", "circuits.controls.random", "output.tensorboard", "data.source"]
        {
            find(&sections, path);
        }
    }

    /// What two kinds call the same may be two things.
    #[test]
    fn every_kind_of_partition_is_told_with_all_its_keys() {
        let sections = catalogue().unwrap();
        let kinds = find(&sections, "partition.kind").choices;
        assert_eq!(kinds.len(), 7);
        for (i, (kind, _)) in kinds.iter().enumerate() {
            let heading = format!("[partition] of kind {kind}");
            let section = sections.iter().find(|section| section.heading == heading).unwrap();
            let part = PARTS.iter().find(|part| part.heading == format!(" of kind {kind}")).unwrap();
            let mut base: Table = toml::from_str(BASE).unwrap();
            if !part.set.is_empty() {
                Override::parse(part.set).unwrap().apply(&mut base).unwrap();
            }
            let all: Vec<String> = names(&base, "partition").iter().map(|name| format!("partition.{name}")).collect();
            let told: Vec<String> = section.keys.iter().map(|key| key.path.clone()).collect();
            assert_eq!(told, all[usize::from(i > 0)..], "{kind}: which kinds there are is told in the first");
        }
        let alpha = |kind: &str| {
            let mut of = sections.iter().filter(|section| section.heading.ends_with(kind));
            find(std::slice::from_ref(of.next().unwrap()), "partition.alpha").meaning
        };
        assert_eq!(alpha(" dirichlet"), "Concentration, above 0. Required.");
        assert!(alpha(" bootstrap").ends_with("Without it, all examples are equally likely."));
    }

    #[test]
    fn every_name_that_a_key_accepts_is_explained() {
        let sections = catalogue().unwrap();
        let mut explained = 0;
        for key in sections.iter().flat_map(|section| &section.keys) {
            let names: Vec<&str> = key.accepted.split('"').skip(1).step_by(2).collect();
            let rest = key.accepted.split('"').step_by(2).collect::<String>().replace("a list of", "");
            if !names.is_empty() && rest.trim_matches([',', ' ']).is_empty() {
                let told: Vec<&str> = key.choices.iter().map(|(name, _)| name.as_str()).collect();
                assert!(told == names && key.choices.iter().all(|(_, what)| what.len() > 3), "{key:?}");
                explained += 1;
            }
        }
        assert!(explained > 15, "{explained}");
        assert!(find(&sections, "model.preset").choices[0].1.starts_with("The paper's: three 3x3 convolutions"));
        assert_eq!(find(&sections, "model.layers").choices, []);
        assert_eq!(find(&sections, "circuits.clients").choices, [("all".into(), "Every client.".into())]);
    }

    /// A table or a kind that is new has a part here, or its keys would be missing.
    #[test]
    fn every_table_and_kind_is_a_part() {
        let table = |set: &str| {
            let mut base: Table = toml::from_str(BASE).unwrap();
            Override::parse(set).unwrap().apply(&mut base).unwrap();
            base
        };
        let base = table("circuits = {}");
        for path in ["", "circuits"] {
            for name in names(&base, path) {
                let full = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                if refusal(&base, path, &name).is_some_and(|help| help.starts_with("accepted: a table,")) {
                    assert!(PARTS.iter().any(|part| part.path == full), "{full} has no part");
                }
            }
        }
        for (path, key) in [("partition", "kind"), ("training", "optimizer"), ("strategy", "kind")] {
            let accepted = refusal(&table("training = {}"), path, key).or(refusal(&table("strategy = {}"), path, key));
            let own: Vec<&Part> = PARTS.iter().filter(|part| part.path == path).collect();
            let kinds = accepted.unwrap().matches(", ").count() + 1;
            assert_eq!(own.len(), kinds, "{path}.{key} has a kind that has no part, or one that is none");
        }
    }

    /// Where the documentation gives a default that is a number, a flag or a word, it is the one that is used.
    #[test]
    fn documented_defaults_are_the_real_ones() {
        let mut base: Table = toml::from_str(BASE).unwrap();
        base.insert("circuits".into(), Value::Table(Table::new()));
        let resolved: Table = toml::from_str(&read::experiment(&base).unwrap().to_toml().unwrap()).unwrap();
        let mut checked = 0;
        for key in catalogue().unwrap().iter().flat_map(|section| &section.keys) {
            let Some((_, said)) = key.meaning.split_once("Default ") else { continue };
            let said = said.split([' ', ',', ';']).next().unwrap().trim_end_matches('.');
            let mut parts = key.path.split('.');
            let value = parts.next().and_then(|part| resolved.get(part));
            let Some(value) = parts.fold(value, |value, part| value?.get(part)) else { continue };
            let real = value.as_str().map_or(value.to_string(), String::from);
            if value.is_array() || said.parse::<f64>().is_err() && !value.is_str() && !value.is_bool() {
                continue;
            }
            assert!(
                real == said || real.parse::<f64>().ok() == said.parse().ok() && said.parse::<f64>().is_ok(),
                "{key:?}: {real}"
            );
            checked += 1;
        }
        assert!(checked > 25, "{checked}");
    }
}
