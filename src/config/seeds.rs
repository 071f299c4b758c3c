//! `seed` and `seeds`: one federation, or several side by side that differ in nothing but their draws.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use toml::Value;

use super::keys::{Keys, Limits, refused};
use crate::{Error, Result};

pub(super) const SEED: Limits = Limits::new(0, i64::MAX as u64, "what TOML can write");
/// More federations side by side than this are more than an interval needs.
const MOST: usize = 1000;

/// The roots of all random draws: each seed is a federation of its own, with its own partition, first weights,
/// minibatches and circuits.
///
/// In the file `seed = 42` is one. `seeds = 5` is five, counted upwards from `seed`; `seeds = [1, 2, 3]` are these. The
/// resolved configuration spells them out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds(Vec<u64>);

impl Seeds {
    /// One federation.
    pub fn one(seed: u64) -> Self {
        Self(vec![seed])
    }

    /// The first, after which a run's folder is named.
    pub fn first(&self) -> u64 {
        self.0[0]
    }

    /// All of them, in the order of the replicates; at least one.
    pub fn all(&self) -> &[u64] {
        &self.0
    }

    /// Whether there are several.
    pub fn several(&self) -> bool {
        self.0.len() > 1
    }

    /// From `seed` and `seeds`; 0 where neither is given.
    pub(super) fn read(keys: &mut Keys<'_>) -> Result<Self> {
        let seed = keys.whole("seed", &SEED)?;
        let accepted = format!(
            "accepted: how many seeds to count upwards from seed (1 to {MOST}), or a list of them such as [1, 2, 3]"
        );
        match keys.value("seeds") {
            None => Ok(Self::one(seed.unwrap_or(0))),
            Some(Value::Array(_)) if seed.is_some() => Err(beside("seeds")),
            Some(Value::Array(list)) => listed(list, &accepted),
            Some(value) => {
                let count = value.as_integer().and_then(|n| u64::try_from(n).ok());
                let count = count.filter(|n| (1..=MOST as u64).contains(n));
                let count = count.ok_or_else(|| refused("seeds".into(), value, &accepted))?;
                let first = seed.unwrap_or(0);
                if count > SEED.max - first + 1 {
                    let problem = format!("{count} seeds from {first} on go beyond the largest, {}", SEED.max);
                    return Err(Error::config("seeds", problem, "accepted: a lower seed, or fewer of them"));
                }
                Ok(Self((first..first + count).collect()))
            }
        }
    }
}

/// The error for a list of seeds, the key `path`, that stands beside a seed.
pub(super) fn beside(path: &str) -> Error {
    let help = "accepted: a list of seeds alone, or seed and how many to count upwards from it";
    Error::config(path, "is a list, and seed is given beside it", help)
}

fn listed(list: &[Value], accepted: &str) -> Result<Seeds> {
    if list.is_empty() || list.len() > MOST {
        return Err(Error::config("seeds", format!("has {} entries", list.len()), accepted));
    }
    let mut seeds = Vec::new();
    for (i, value) in list.iter().enumerate() {
        let seed = value.as_integer().and_then(|n| u64::try_from(n).ok());
        let seed = seed.ok_or_else(|| {
            refused(format!("seeds[{i}]"), value, &format!("accepted: a whole number from 0 to {}", SEED.max))
        })?;
        if seeds.contains(&seed) {
            let help = "accepted: each seed once (the same seed gives the same federation again)";
            return Err(Error::config("seeds", format!("names {seed} twice"), help));
        }
        seeds.push(seed);
    }
    Ok(Seeds(seeds))
}

/// Whether a folder of this name is that of one seed among several, as `report::seed_folder` calls it.
pub fn names_seed(folder: &str) -> bool {
    let number = folder.strip_prefix("seed_").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

impl Serialize for Seeds {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match &self.0[..] {
            [seed] => map.serialize_entry("seed", seed)?,
            seeds => map.serialize_entry("seeds", seeds)?,
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Override, load};
    use super::*;

    const REST: &str = "[data]\nsource = \"digits\"\n[partition]\nkind = \"iid\"\nnum_clients = 5\n";

    fn read(lines: &str, sets: &[&str]) -> Result<Vec<u64>> {
        let overrides: Vec<Override> = sets.iter().map(|set| Override::parse(set).unwrap()).collect();
        let text = format!("name = \"a\"\n{lines}\n{REST}");
        let experiment = load(&text, "a.toml", &overrides)?.variants.remove(0).experiment;
        let again = load(&experiment.to_toml()?, "again.toml", &[])?.variants.remove(0).experiment;
        assert_eq!(again, experiment, "the resolved configuration reads back as itself");
        Ok(experiment.seeds.all().to_vec())
    }

    #[test]
    fn one_a_count_or_a_list() {
        for (lines, seeds) in [
            ("", vec![0]),
            ("seed = 42", vec![42]),
            ("seeds = 1", vec![0]),
            ("seeds = 3", vec![0, 1, 2]),
            ("seed = 42\nseeds = 3", vec![42, 43, 44]),
            ("seeds = [7]", vec![7]),
            ("seeds = [9, 0, 3]", vec![9, 0, 3]),
            ("seed = 9223372036854775806\nseeds = 2", vec![i64::MAX as u64 - 1, i64::MAX as u64]),
        ] {
            assert_eq!(read(lines, &[]).unwrap(), seeds, "{lines}");
        }
        assert_eq!(read("seeds = 1000", &[]).unwrap().len(), 1000);
    }

    #[test]
    fn the_command_line_replaces_what_it_contradicts() {
        assert_eq!(read("seed = 42", &["seeds=[1,2]"]).unwrap(), [1, 2]);
        assert_eq!(read("seeds = [1, 2]", &["seed=5"]).unwrap(), [5]);
        assert_eq!(read("seeds = 2", &["seed=5"]).unwrap(), [5, 6]);
        assert_eq!(read("seed = 5", &["seeds=2"]).unwrap(), [5, 6]);
        assert_eq!(read("seed = 5\nseeds = 2", &["seeds=[3]"]).unwrap(), [3]);
    }

    #[test]
    fn what_is_no_seed_is_refused_in_words() {
        for (lines, says, accepted) in [
            ("seed = 1\nseeds = [2, 3]", "seeds: is a list, and seed is given beside it", "a list of seeds alone"),
            ("seeds = []", "seeds: has 0 entries", "1 to 1000"),
            ("seeds = 0", "seeds: the number 0 is not accepted", "1 to 1000"),
            ("seeds = -3", "seeds: the number -3", "1 to 1000"),
            ("seeds = 1001", "seeds: the number 1001", "1 to 1000"),
            ("seeds = 2.5", "seeds: the number 2.5", "a list of them"),
            ("seeds = \"all\"", "seeds: the text \"all\"", "[1, 2, 3]"),
            ("seeds = [1, 2, 1]", "seeds: names 1 twice", "each seed once"),
            ("seeds = [1, -2]", "seeds[1]: the number -2", "from 0 to"),
            ("seeds = [1, \"2\"]", "seeds[1]: the text \"2\"", "a whole number"),
            ("seed = 9223372036854775807\nseeds = 2", "go beyond the largest", "a lower seed"),
            ("seed = -1\nseeds = 2", "seed: the number -1", "from 0"),
            ("seads = 3", "seads: unknown key", "did you mean seed"),
        ] {
            let error = read(lines, &[]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let message = error.to_string();
            assert!(message.starts_with("a.toml: ") && message.contains(says), "{lines}: {message}");
            assert!(message.contains(accepted), "{lines}: {message}");
        }
    }
}
