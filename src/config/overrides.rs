//! `--set key.path=value`: one key of the experiment, changed on the command line.

use toml::{Table, Value};

use super::plan::LONGEST;
use crate::{Error, Result};

/// Sections around a key, at most; the deepest key there is has three.
const DEEPEST: usize = 16;

/// A dotted key and the value it gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// The dotted path, such as `sparsity.target`.
    pub key: String,
    /// The value, as TOML understands it.
    pub value: Value,
}

impl Override {
    /// An override by the program itself, such as the one `--seed` stands for.
    pub fn new(key: &str, value: impl Into<Value>) -> Self {
        Self { key: key.into(), value: value.into() }
    }

    /// Reads `key.path=value`. The value is TOML; a bare word that is not, such as `mnist`, is taken as text.
    pub fn parse(argument: &str) -> Result<Self> {
        let help = "accepted: key.path=value, such as sparsity.target=0.97";
        if argument.len() > LONGEST {
            let problem = format!("an argument of {} bytes", argument.len());
            return Err(Error::config("--set", problem, format!("{help}, of at most {LONGEST} bytes")));
        }
        let (key, text) = argument
            .split_once('=')
            .ok_or_else(|| Error::config("--set", format!("{argument:?} has no \"=\""), help))?;
        let (key, text) = (key.trim(), text.trim());
        if key.split('.').any(str::is_empty) {
            return Err(Error::config("--set", format!("{key:?} is not a key"), help));
        }
        let value = read_value(text).map_err(|problem| {
            let help =
                "accepted: a TOML value such as 3, 0.5, true, \"text\", [0, 1] or { kind = \"iid\" }, or a bare word";
            Error::config(format!("--set {key}"), problem, help)
        })?;
        Ok(Self { key: key.into(), value })
    }

    /// Writes the value into `table`, making the sections on the way. A seed and a list of seeds exclude each other:
    /// the later one stays.
    pub(super) fn apply(&self, table: &mut Table) -> Result<()> {
        let mut segments: Vec<&str> = self.key.split('.').collect();
        let last = segments.pop().unwrap_or_default();
        if segments.len() > DEEPEST {
            let key: String = self.key.chars().take(40).chain("...".chars()).collect();
            let problem = format!("lies in {} sections", segments.len());
            return Err(Error::config(key, problem, format!("accepted: the path of a key, in at most {DEEPEST}")));
        }
        let mut at = &mut *table;
        for segment in segments {
            let next = at.entry(segment).or_insert_with(|| Value::Table(Table::new()));
            at = next.as_table_mut().ok_or_else(|| {
                Error::config(self.key.as_str(), format!("{segment} is not a section"), "accepted: the path of a key")
            })?;
        }
        at.insert(last.into(), self.value.clone());
        match (self.key.as_str(), table.get("seeds")) {
            ("seed", Some(Value::Array(_))) => drop(table.remove("seeds")),
            ("seeds", Some(Value::Array(_))) => drop(table.remove("seed")),
            _ => {}
        }
        Ok(())
    }
}

/// Whether the dotted key `inner` is `outer` or lies in it.
pub(super) fn within(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Whether setting one of two keys may undo what the other sets: `seed` and `seeds` are two names of one thing.
pub(super) fn collide(one: &str, other: &str) -> bool {
    let seeds = |key: &str| ["seed", "seeds"].contains(&key);
    within(one, other) || within(other, one) || seeds(one) && seeds(other)
}

fn read_value(text: &str) -> std::result::Result<Value, String> {
    if text.is_empty() {
        return Err("there is no value after the \"=\"".into());
    }
    let shown = if text.chars().count() <= 60 { format!("{text:?}") } else { "the value".into() };
    let parsed = toml::from_str::<Table>(&format!("value = {text}"));
    match parsed {
        Ok(mut table) if table.len() == 1 => table.remove("value").ok_or_else(|| "holds no value".into()),
        Ok(_) => Err(format!("{shown} holds more than one value")),
        // What opens like a list, a table or quoted text was meant as TOML: its fault is better named than hidden.
        Err(error) if text.starts_with(['[', '{', '"', '\'']) => {
            Err(format!("{shown} is not a TOML value: {}", error.message()))
        }
        Err(_) => Ok(Value::String(text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_toml_and_bare_words_are_text() {
        for (argument, key, value) in [
            ("sparsity.target=0.97", "sparsity.target", Value::Float(0.97)),
            ("rounds = 3", "rounds", Value::Integer(3)),
            ("data.source=mnist", "data.source", Value::String("mnist".into())),
            ("name=a=b", "name", Value::String("a=b".into())),
            ("model.init=out/w.safetensors", "model.init", Value::String("out/w.safetensors".into())),
            ("output.save_clients=true", "output.save_clients", Value::Boolean(true)),
            ("c=[[0,1],[2]]", "c", toml::from_str::<Table>("c = [[0,1],[2]]").unwrap()["c"].clone()),
        ] {
            assert_eq!(Override::parse(argument).unwrap(), Override { key: key.into(), value }, "{argument}");
        }
    }

    /// A path is followed section by section, and a table in so many others could not even be dropped.
    #[test]
    fn no_key_lies_in_more_sections_than_there_are() {
        let set =
            |depth: usize| Override::parse(&format!("{}a=1", "a.".repeat(depth))).unwrap().apply(&mut Table::new());
        set(DEEPEST).unwrap();
        let message = set(40_000).unwrap_err().to_string();
        assert!(message.contains("a.a.a") && message.contains("lies in 40000 sections"), "{message}");
    }

    #[test]
    fn keys_collide_where_one_lies_in_the_other_and_all_keys_of_the_seeds_are_one() {
        for (one, other, found) in [
            ("training.lr", "training.lr", true),
            ("training", "training.lr", true),
            ("model.layers", "model.layers[0]", true),
            ("training.lr", "training.lr_decay", false),
            ("training.lr", "circuits.lr", false),
            ("seed", "seeds", true),
            ("circuits.seed", "seeds", false),
        ] {
            assert_eq!([collide(one, other), collide(other, one)], [found; 2], "{one}, {other}");
        }
    }

    #[test]
    fn malformed_arguments_name_themselves() {
        for (argument, says) in [
            ("rounds", "\"rounds\" has no \"=\""),
            ("=3", "\"\" is not a key"),
            ("a..b=3", "\"a..b\" is not a key"),
            ("rounds=", "--set rounds: there is no value after the \"=\""),
            ("partition.classes=[[0,1],[2]", "--set partition.classes: \"[[0,1],[2]\" is not a TOML value"),
            ("rounds=1\nseed=2", "holds more than one value"),
            (&format!("name={}", "a".repeat(LONGEST)), "an argument of 131077 bytes"),
        ] {
            let message = Override::parse(argument).unwrap_err().to_string();
            assert!(message.contains(says) && message.contains("accepted"), "{argument}: {message}");
        }
    }
}
