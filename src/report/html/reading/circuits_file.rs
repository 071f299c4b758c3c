//! `circuits.json`: the last round's circuits of the first clients, out of a file that may be far larger than memory
//! should hold.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::marker::PhantomData;
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::{Error, Result};

/// Clients that are read; more do not fit any picture.
pub const CLIENTS: usize = 16;

/// Classes of a client, or layers of a network, at most.
const MEMBERS: usize = 65_536;

/// Channels of each layer, in the network's order.
pub type Channels = Vec<(String, Vec<u32>)>;
/// Per layer, each channel with those of the layer before that feed it.
pub type Edges = Vec<(String, Vec<(u32, Vec<u32>)>)>;

/// A circuit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Circuit {
    /// The channels that it keeps.
    pub channels: Channels,
    /// Which of them are connected.
    pub edges: Edges,
    /// Of a global circuit: what the local circuit's mask on the global weights called the images of the class, by class;
    /// from another file, see [`RoundCircuits::take_answers`].
    pub answers: BTreeMap<u32, u32>,
}

/// A client's circuits by class, each under its name with its number.
pub type Classes = Vec<(String, Circuit)>;

/// A round's circuits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoundCircuits {
    /// Its number.
    pub round: usize,
    /// In the clients' own models, by client.
    pub local: Vec<(usize, Classes)>,
    /// In the global model.
    pub global: Vec<(usize, Classes)>,
    /// Clients left out.
    pub left_out: usize,
}

impl RoundCircuits {
    /// Gives the global circuits what `circuits.csv` says was answered under the local masks, by client and class.
    pub fn take_answers(&mut self, mut answers: BTreeMap<(usize, u32), BTreeMap<u32, u32>>) {
        for (client, classes) in &mut self.global {
            for (class, circuit) in classes {
                circuit.answers =
                    class_number(class).and_then(|class| answers.remove(&(*client, class))).unwrap_or_default();
            }
        }
    }
}

/// The number in the name that a class has in the file, such as "0 - zero".
pub fn class_number(class: &str) -> Option<u32> {
    class_digits(class).parse().ok()
}

/// The same as it is written.
pub fn class_digits(class: &str) -> &str {
    class.split_once(' ').map_or(class, |(number, _)| number)
}

/// The last round of the file; `None` without the file, or without rounds in it.
///
/// # Errors
/// A file that cannot be read or has another layout.
pub fn read(path: &Path) -> Result<Option<RoundCircuits>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let mut json = serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 20, file));
    let read = All.deserialize(&mut json).and_then(|rounds| json.end().map(|()| rounds));
    read.map_err(|error| {
        let problem = format!("line {}, column {}: {error}", error.line(), error.column());
        Error::file(path, problem, "accepted: the file as the run wrote it")
    })
}

/// The whole file: of its rounds, the highest.
struct All;

impl<'de> DeserializeSeed<'de> for All {
    type Value = Option<RoundCircuits>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for All {
    type Value = Option<RoundCircuits>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rounds by name, such as round_1")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut last: Option<RoundCircuits> = None;
        while let Some(name) = map.next_key::<String>()? {
            let round = number(&name, "round_")?;
            if last.as_ref().is_some_and(|last| last.round > round) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let Sides { clients_local_model: local, clients_global_model: global } = map.next_value()?;
            let left_out = local.left_out.max(global.left_out);
            last = Some(RoundCircuits { round, local: local.clients, global: global.clients, left_out });
        }
        Ok(last)
    }
}

#[derive(Deserialize)]
struct Sides {
    clients_local_model: Clients,
    clients_global_model: Clients,
}

#[derive(Default)]
struct Clients {
    clients: Vec<(usize, Classes)>,
    left_out: usize,
}

impl<'de> Deserialize<'de> for Clients {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Clients;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("clients by name, such as client_0")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Clients, A::Error> {
                let mut clients = Clients::default();
                while let Some(name) = map.next_key::<String>()? {
                    let client = number(&name, "client_")?;
                    if clients.clients.len() < CLIENTS {
                        let classes: Pairs<Entry> = map.next_value()?;
                        let found = classes.0.into_iter().filter(|(_, entry)| !entry.lacking());
                        let classes: Classes = found.map(|(name, entry)| (name, entry.circuit())).collect();
                        if !classes.is_empty() {
                            clients.clients.push((client, classes));
                        }
                    } else {
                        map.next_value::<IgnoredAny>()?;
                        clients.left_out += 1;
                    }
                }
                clients.clients.sort_by_key(|(client, _)| *client);
                Ok(clients)
            }
        }
        deserializer.deserialize_map(Each)
    }
}

fn number<E: serde::de::Error>(name: &str, prefix: &str) -> std::result::Result<usize, E> {
    let number = name.strip_prefix(prefix).and_then(|number| number.parse().ok());
    number.ok_or_else(|| E::custom(format!("{name:?} is not {prefix} with a number")))
}

#[derive(Deserialize)]
struct Entry {
    active_nodes: Pairs<Vec<u32>>,
    #[serde(default)]
    connectivity: Pairs<BTreeMap<u32, Vec<u32>>>,
    metrics: Option<Pairs<IgnoredAny>>,
}

impl Entry {
    /// Nobody looked for it, as the client has no example of the class: without channels, and without measures.
    fn lacking(&self) -> bool {
        self.metrics.as_ref().is_some_and(|metrics| metrics.0.is_empty())
            && self.active_nodes.0.iter().all(|(_, channels)| channels.is_empty())
    }

    fn circuit(self) -> Circuit {
        let edges = self.connectivity.0.into_iter().map(|(layer, edges)| (layer, edges.into_iter().collect()));
        Circuit { channels: self.active_nodes.0, edges: edges.collect(), answers: BTreeMap::new() }
    }
}

/// An object's members in their order, which is the network's for layers.
struct Pairs<T>(Vec<(String, T)>);

impl<T> Default for Pairs<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Each<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Each<T> {
            type Value = Pairs<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Pairs<T>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    if pairs.len() == MEMBERS {
                        return Err(serde::de::Error::custom(format!("an object has more than {MEMBERS} members")));
                    }
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Each(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Option<RoundCircuits>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("circuits.json");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    fn round(clients: usize, channel: u32) -> String {
        let entry = format!(
            r#"{{"0 - zero": {{"active_nodes": {{"conv2": [{channel}], "conv1": []}},
            "connectivity": {{"conv2": {{"{channel}": [1, 2]}}, "fc": {{}}}}, "metrics": {{"accuracy": null}}}}}}"#
        );
        let clients: Vec<String> = (0..clients).map(|client| format!(r#""client_{client}": {entry}"#)).collect();
        let clients = clients.join(",");
        format!(r#"{{"clients_local_model": {{{clients}}}, "clients_global_model": {{{clients}}}}}"#)
    }

    #[test]
    fn the_last_round_is_the_highest_number_and_layers_keep_their_order() {
        let text =
            format!(r#"{{"round_9": {}, "round_10": {}, "round_2": {}}}"#, round(1, 1), round(1, 7), round(1, 3));
        let last = read_text(&text).unwrap().unwrap();
        assert_eq!((last.round, last.left_out), (10, 0));
        let (client, classes) = &last.global[0];
        assert_eq!((*client, classes[0].0.as_str()), (0, "0 - zero"));
        assert_eq!(classes[0].1.channels, [("conv2".to_string(), vec![7]), ("conv1".to_string(), vec![])]);
        assert_eq!(classes[0].1.edges[0], ("conv2".to_string(), vec![(7, vec![1, 2])]));
        assert_eq!(read_text("{\n}\n").unwrap(), None);
    }

    /// As the paper's files have them: empty, and without measures. Of an empty circuit that was found there are some.
    #[test]
    fn what_nobody_looked_for_is_no_circuit() {
        let of = |metrics: &str| {
            format!(r#"{{"active_nodes": {{"conv1": []}}, "connectivity": {{}}, "metrics": {metrics}}}"#)
        };
        let (found, lacking) = (of(r#"{"accuracy": null}"#), of("{}"));
        let side =
            format!(r#"{{"client_0": {{"0 - a": {found}, "1 - b": {lacking}}}, "client_1": {{"0 - a": {lacking}}}}}"#);
        let text = format!(r#"{{"round_1": {{"clients_local_model": {side}, "clients_global_model": {side}}}}}"#);
        let last = read_text(&text).unwrap().unwrap();
        let names = |side: &[(usize, Classes)]| -> Vec<(usize, Vec<String>)> {
            side.iter()
                .map(|(client, classes)| (*client, classes.iter().map(|(name, _)| name.clone()).collect()))
                .collect()
        };
        assert_eq!(names(&last.local), [(0, vec!["0 - a".to_string()])]);
        assert_eq!(names(&last.global), names(&last.local));
    }

    #[test]
    fn only_so_many_clients_are_kept() {
        let last = read_text(&format!(r#"{{"round_1": {}}}"#, round(CLIENTS + 5, 1))).unwrap().unwrap();
        assert_eq!((last.local.len(), last.global.len(), last.left_out), (CLIENTS, CLIENTS, 5));
    }

    #[test]
    fn faults_say_line_and_column() {
        for (text, says) in [
            ("{\"round_1\": 3}", "line 1, column"),
            ("{\"turn_1\": {}}", "is not round_ with a number"),
            ("{\"round_1\": {\"clients_local_model\": {}", "EOF"),
            ("[]", "rounds by name"),
        ] {
            let error = read_text(text).unwrap_err().to_string();
            assert!(error.contains("circuits.json: line 1") && error.contains(says), "{error}");
        }
    }
}
