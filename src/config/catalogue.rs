//! Every key of an experiment file, with what it accepts and what it means. Nothing is told here that is told elsewhere:
//! which keys there are and what they accept is what `read.rs` says when it refuses one, and what they mean is the
//! documentation of the fields that they fill.

use toml::{Table, Value};

use super::{Override, read};
use crate::error::{Error, Result};

/// Where the fields are documented.
const SOURCES: [&str; 5] = [
    include_str!("mod.rs"),
    include_str!("analysis.rs"),
    include_str!("circuits.rs"),
    include_str!("cohort.rs"),
    include_str!("model.rs"),
];

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
    part("strategy", "Strategy", "strategy = {}", ""),
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
        let mut keys = Vec::new();
        for name in names(&base, part.path) {
            let Some(accepted) = refusal(&base, part.path, &name) else { continue };
            let Some(accepted) = accepted.strip_prefix("accepted: ").filter(|text| !text.starts_with("a table,"))
            else {
                continue;
            };
            let prefix = part.path.replace(".0", "[]").replace(".1", "[]");
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            let meaning = meaning(&types, part.kind, &name).unwrap_or_default();
            let choices = choices(&types, part.kind, &name, accepted);
            let key = Key { path, accepted: accepted.to_string(), meaning, choices };
            // What another kind of the section has too is told once.
            if !sections.iter().any(|section| section.keys.contains(&key)) {
                keys.push(key);
            }
        }
        let name = part.path.split(".layers").next().unwrap_or_default();
        let heading = if name.is_empty() { String::new() } else { format!("[{name}]{}", part.heading) };
        sections.push(Section { heading, keys });
    }
    sections.retain(|section| !section.keys.is_empty());
    Ok(sections)
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

/// A struct or an enum as it is documented.
#[derive(Debug, Default)]
struct Documented {
    name: String,
    doc: String,
    fields: Vec<Field>,
    /// Names and documentation.
    variants: Vec<(String, String)>,
}

/// A field of it, or of a variant of it.
#[derive(Debug)]
struct Field {
    name: String,
    kind: String,
    doc: String,
    flat: bool,
}

/// The types of the configuration, from their source as rustfmt leaves it.
fn documented() -> Vec<Documented> {
    let mut types: Vec<Documented> = Vec::new();
    let (mut doc, mut flat) = (String::new(), false);
    for line in SOURCES.iter().flat_map(|source| source.lines()) {
        let text = line.trim();
        if let Some(more) = text.strip_prefix("///") {
            doc = format!("{doc}{more}");
            continue;
        }
        if text.starts_with('#') {
            flat |= text.contains("flatten");
            continue;
        }
        let said = std::mem::take(&mut doc).trim().to_string();
        let declared = text.strip_prefix("pub struct ").or(text.strip_prefix("pub enum "));
        let word = text.trim_start_matches("pub ").split([':', ' ', ',', '(']).next().unwrap_or_default().to_string();
        if let Some(name) = declared.and_then(|rest| rest.strip_suffix(" {")) {
            types.push(Documented { name: name.into(), doc: said, ..Documented::default() });
        } else if let Some(of) = types.last_mut().filter(|_| !said.is_empty()) {
            match text.split_once(": ") {
                Some((_, kind)) => {
                    let kind = kind.trim_end_matches(',').trim_start_matches("Option<").trim_start_matches("Vec<");
                    let kind = kind.trim_end_matches('>').into();
                    of.fields.push(Field { name: word, kind, doc: said, flat });
                }
                None => of.variants.push((word.to_lowercase(), said)),
            }
        }
        flat = false;
    }
    types
}

/// What the documentation of the type `kind` says of `key`.
fn meaning(types: &[Documented], kind: &str, key: &str) -> Option<String> {
    let of = types.iter().find(|of| of.name == kind)?;
    let found = of.fields.iter().find(|field| field.name == key).map(|field| field.doc.clone());
    found
        .or_else(|| {
            // What is flattened into the table: keys of its own, one for each variant, or the name of the variant.
            of.fields.iter().filter(|field| field.flat).find_map(|field| {
                let inner = types.iter().find(|of| of.name == field.kind);
                let variant = inner.is_some_and(|inner| inner.variants.iter().any(|(variant, _)| variant == key));
                let named = variant || field.name.starts_with(key);
                meaning(types, &field.kind, key).or_else(|| named.then(|| field.doc.clone()))
            })
        })
        .or_else(|| (key == "kind").then(|| of.doc.clone()))
}

/// The names that a key accepts, with what the type that they stand for says of each: both are in the same order.
fn choices(types: &[Documented], kind: &str, key: &str, accepted: &str) -> Vec<(String, String)> {
    let find = |name: &str| types.iter().find(|of| of.name == name);
    let flat = |of: &Documented| of.fields.iter().filter(|field| field.flat).find_map(|field| find(&field.kind));
    let Some(of) = find(kind) else { return Vec::new() };
    let own = of.fields.iter().find(|field| field.name == key).and_then(|field| find(&field.kind));
    // `kind` and `optimizer` tell the variants of their table, or of what is flattened into it.
    let tag = || if key == "kind" && of.fields.iter().all(|field| !field.flat) { Some(of) } else { flat(of) };
    let names: Vec<&str> = accepted.split('"').skip(1).step_by(2).collect();
    let Some(of) = own.or_else(tag).filter(|of| !names.is_empty() && of.variants.len() == names.len()) else {
        return Vec::new();
    };
    names.into_iter().zip(&of.variants).map(|(name, (_, doc))| (name.to_string(), doc.clone())).collect()
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
