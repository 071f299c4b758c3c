//! Reading one table of the experiment: every key is asked for once, with what it accepts, and whatever was never asked
//! for is a misspelling. Written by hand because serde's messages name neither a key's path nor its value's range.

use toml::{Table, Value};

use crate::{Error, Result};

/// What is wrong with a key that nothing asked for.
pub(super) const UNKNOWN: &str = "unknown key";

/// The limits of a whole number, and why the upper one is there.
pub(super) struct Limits {
    pub min: u64,
    pub max: u64,
    pub why: &'static str,
}

impl Limits {
    pub const fn new(min: u64, max: u64, why: &'static str) -> Self {
        Self { min, max, why }
    }

    fn accepted(&self) -> String {
        let reason = if self.why.is_empty() { String::new() } else { format!(" ({})", self.why) };
        format!("accepted: a whole number from {} to {}{reason}", self.min, self.max)
    }
}

/// A table being read, with its dotted path and the keys asked for so far.
pub(super) struct Keys<'a> {
    table: &'a Table,
    path: String,
    known: Vec<&'static str>,
}

impl<'a> Keys<'a> {
    pub fn new(table: &'a Table, path: impl Into<String>) -> Self {
        Self { table, path: path.into(), known: Vec::new() }
    }

    /// The dotted path of `key`, as messages name it.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) }
    }

    pub fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table.get(key)
    }

    /// The table under `key`, if it is there.
    pub fn section(&mut self, key: &'static str) -> Result<Option<Keys<'a>>> {
        let path = self.path_of(key);
        match self.value(key) {
            None => Ok(None),
            Some(Value::Table(table)) => Ok(Some(Keys::new(table, path))),
            Some(other) => {
                let help = format!("accepted: a table, written [{path}]");
                Err(refused(path, other, &help))
            }
        }
    }

    /// A whole number within `limits`.
    pub fn whole(&mut self, key: &'static str, limits: &Limits) -> Result<Option<u64>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.as_integer().and_then(|n| u64::try_from(n).ok()) {
            Some(n) if (limits.min..=limits.max).contains(&n) => Ok(Some(n)),
            _ => Err(refused(self.path_of(key), value, &limits.accepted())),
        }
    }

    /// A whole number within `limits` that counts things in memory.
    pub fn count(&mut self, key: &'static str, limits: &Limits) -> Result<Option<usize>> {
        Ok(self.whole(key, limits)?.map(|n| n as usize))
    }

    /// A number for which `test` holds. Tests are written as comparisons, so that NaN fails every one of them.
    pub fn real(&mut self, key: &'static str, accepted: &str, test: fn(f64) -> bool) -> Result<Option<f64>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.as_float().or_else(|| value.as_integer().map(|n| n as f64)) {
            Some(x) if test(x) => Ok(Some(x)),
            _ => Err(refused(self.path_of(key), value, &format!("accepted: {accepted}"))),
        }
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str) -> Result<Option<bool>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.as_bool() {
            Some(flag) => Ok(Some(flag)),
            None => Err(refused(self.path_of(key), value, "accepted: true or false")),
        }
    }

    /// Text.
    pub fn text(&mut self, key: &'static str, accepted: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.as_str() {
            Some(text) => Ok(Some(text)),
            None => Err(refused(self.path_of(key), value, &format!("accepted: {accepted}"))),
        }
    }

    /// One of `choices`, by name.
    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Result<Option<T>> {
        self.value(key).map(|value| chosen(self.path_of(key), value, choices)).transpose()
    }

    /// A list of `choices`, by name, each at most once.
    pub fn choices<T: Copy + PartialEq>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Result<Option<Vec<T>>> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let Some(list) = self.list(key, &format!("a list of {}", quoted(&names)))? else { return Ok(None) };
        let mut read = Vec::new();
        for value in list {
            let choice = chosen(self.path_of(key), value, choices)?;
            if read.contains(&choice) {
                return Err(Error::config(
                    self.path_of(key),
                    format!("names {value} twice"),
                    "accepted: each name once",
                ));
            }
            read.push(choice);
        }
        Ok(Some(read))
    }

    /// An array, each element still to be read.
    pub fn list(&mut self, key: &'static str, accepted: &str) -> Result<Option<&'a [Value]>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.as_array() {
            Some(list) => Ok(Some(list)),
            None => Err(refused(self.path_of(key), value, &format!("accepted: {accepted}"))),
        }
    }

    /// The error for a key that has no default: the misspelling of it, where the table holds one.
    pub fn missing(&self, key: &str, help: &str) -> Error {
        let mut strangers = self.table.keys().filter(|other| !self.known.contains(&other.as_str()));
        match strangers.find(|other| nearest(other, &[key]).is_some()) {
            Some(stranger) => Error::config(self.path_of(stranger), UNKNOWN, format!("did you mean {key}?")),
            None => Error::config(self.path_of(key), "is missing", help),
        }
    }

    /// Refuses every key that nothing asked for. `section` names the table in the message, with what narrows it down.
    pub fn finish(self, section: &str) -> Result<()> {
        let Some(stranger) = self.table.keys().find(|key| !self.known.contains(&key.as_str())) else { return Ok(()) };
        let hint = did_you_mean(stranger, &self.known);
        let help = format!("{hint}accepted in {section}: {}", self.known.join(", "));
        Err(Error::config(self.path_of(stranger), UNKNOWN, help))
    }
}

/// The one of `choices` that `value` names.
fn chosen<T: Copy>(path: String, value: &Value, choices: &[(&str, T)]) -> Result<T> {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let word = value.as_str();
    if let Some((_, choice)) = choices.iter().find(|(name, _)| Some(*name) == word) {
        return Ok(*choice);
    }
    let hint = word.map(|word| did_you_mean(word, &names)).unwrap_or_default();
    Err(refused(path, value, &format!("{hint}accepted: {}", quoted(&names))))
}

/// The error for a value of the wrong type or out of range.
pub(super) fn refused(path: String, value: &Value, help: &str) -> Error {
    Error::config(path, format!("{} is not accepted", describe(value)), help)
}

/// A value as a message shows it: short ones whole, long ones by their type.
fn describe(value: &Value) -> String {
    match value {
        // Written out, they would take hundreds of digits.
        Value::Float(x) if x.is_normal() && !(1e-9..1e15).contains(&x.abs()) || x.is_subnormal() => {
            format!("the number {x:e}")
        }
        Value::Integer(_) | Value::Float(_) => format!("the number {value}"),
        Value::Boolean(_) => format!("the flag {value}"),
        Value::String(text) if text.chars().count() <= 60 => format!("the text {text:?}"),
        Value::String(_) => "a long text".into(),
        Value::Datetime(_) => "a date".into(),
        Value::Array(list) if list.is_empty() => "an empty list".into(),
        Value::Array(_) => "a list".into(),
        Value::Table(_) => "a table".into(),
    }
}

/// `"a", "b", "c"`.
pub(super) fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// "did you mean ...? " when a name is close, and nothing when none is.
pub(crate) fn did_you_mean(word: &str, names: &[&str]) -> String {
    nearest(word, names).map(|name| format!("did you mean {name}? ")).unwrap_or_default()
}

/// The name that `word` most likely stands for, if any is close: at most a third of its letters typed differently, or
/// one of the two the beginning of the other.
pub(crate) fn nearest<'n>(word: &str, names: &[&'n str]) -> Option<&'n str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    let same_start = |name: &str| word.len() >= 3 && (name.starts_with(&word) || word.starts_with(name));
    let distance = |name: &str| strsim::damerau_levenshtein(&word, name);
    let candidates = names.iter().copied().filter(|name| same_start(name) || distance(name) <= allowed);
    candidates.min_by_key(|name| (!same_start(name), distance(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_close_or_none() {
        let names = ["rounds", "seed", "lr", "local_epochs"];
        assert_eq!(nearest("round", &names), Some("rounds"));
        assert_eq!(nearest("Seeds", &names), Some("seed"));
        assert_eq!(nearest("local_epoch", &names), Some("local_epochs"));
        assert_eq!(nearest("rl", &names), Some("lr"));
        assert_eq!(nearest("momentum", &names), None);
        assert_eq!(nearest("3-class", &["1-class", "3-classes"]), Some("3-classes"));
    }

    #[test]
    fn nan_fails_every_comparison() {
        let table: Table = toml::from_str("a = nan").unwrap();
        let error = Keys::new(&table, "x").real("a", "a number of at least 0", |x| x >= 0.0).unwrap_err();
        assert_eq!(error.to_string(), "x.a: the number nan is not accepted\n  accepted: a number of at least 0");
    }
}
