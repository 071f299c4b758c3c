//! `[circuits]`: which circuits are found, how, what is measured of them, and what they have to beat.

use serde::{Serialize, Serializer};
use toml::Value;

use super::analysis::Analysis;
use super::keys::{Keys, Limits, did_you_mean, refused};
use super::model::FEATURES;
use super::read::{CLASS_LIST, CLIENTS, RATE, class_list, is_rate, section};
use super::seeds::SEED;
use crate::{Error, Result};

/// `[circuits]`: which circuits are found after each round, and how.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Circuits {
    /// The classes whose circuits are found in each client; of a class with fewer than two training examples there, none is.
    /// Default owned.
    pub classes: CircuitClasses,
    /// The clients in which circuits are looked for. Default all.
    pub clients: CircuitClients,
    /// Circuits are found every so many rounds, and in the last. Default 1.
    pub every: usize,
    /// The root of the searches' random draws. Default: the experiment's seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// How circuits are found. Default gates.
    pub method: Method,
    /// Size of circuits found by attribution or magnitude. Default gates.
    pub size: CircuitSize,
    /// Optimiser steps of the search. Default 200.
    pub steps: usize,
    /// The gates' learning rate, above 0. Default 0.1.
    pub lr: f64,
    /// Weight of the penalty on open gates, at least 0. Default 0.01.
    pub l0: f64,
    /// What a channel outside the circuit gives; for necessity and damage, the circuit's own give zero in any case. Default
    /// zero.
    pub ablation: Ablation,
    /// Test images of each other class on which a circuit is tested: for the false-positive rate and the damage to
    /// other classes. Default 20.
    pub other_images: usize,
    /// What an edge of a circuit is. Default channel.
    pub edges: EdgeUnit,
    /// What is asked of the last round's circuits and models when all rounds are done. Default none.
    pub analyses: Vec<Analysis>,
    /// What is measured beyond sufficiency and necessity.
    pub measures: Measures,
    /// What a circuit has to beat.
    pub controls: Controls,
    /// Where the lines between the diagnoses run.
    pub diagnosis: Thresholds,
}

/// `[circuits.measures]`: what is measured of a circuit beyond sufficiency and necessity.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measures {
    /// Kept channels that are removed in turn, evenly taken, for completeness and minimality. Default 16; 0 measures
    /// neither.
    pub removals: usize,
    /// Shares of every layer's channels, ascending, at which the curve of accuracy against size is taken; the channels
    /// are those that the method ranks highest. Default 0.02 to 1 in eight points; none, no curve.
    pub curve: Vec<f64>,
    /// Test images of the class for these measures. Default 50.
    pub images: usize,
}

/// `[circuits.controls]`: what a circuit has to beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Controls {
    /// Random circuits with as many channels in every layer, for each circuit: how sufficient are they? Default 0.
    pub random: usize,
    /// Test images of the class that the random circuits are tried on. Default 50.
    pub random_images: usize,
    /// Rounds between the controls below, which each cost a search of their own: the first studied round (`circuits.every`)
    /// at or after every multiple of it has them, and the last. Default 10.
    pub every: usize,
    /// The search in the global model again, with other minibatches: how alike are two circuits of the same class in
    /// the same weights? Default false.
    pub repeat: bool,
    /// The search in the weights from which the run started: what do circuits share without any training?
    /// Default false.
    pub untrained: bool,
    /// The search in the global model with the client's labels permuted: what is shared whatever the images show? Not of
    /// clients with a single class, whose labels stay what they are. Default false.
    pub permuted: bool,
    /// The search in the global model with every filter's weights shuffled, which keeps their number and sizes.
    /// Default false.
    pub shuffled: bool,
    /// The search in a model trained on all clients' examples together, for as many steps as a client: what would the
    /// circuit be without federation? Default false.
    pub centralised: bool,
}

/// `[circuits.diagnosis]`: the lines between preserved, drifted, lost and not learned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Thresholds {
    /// A class works in a model that classifies at least this share of its test images correctly, nothing ablated.
    /// Default 0.5.
    pub accuracy: f64,
    /// A circuit is preserved when the channels of the local and the global one, all layers together, overlap (IoU) at
    /// least so much. Default 0.5.
    pub iou: f64,
}

/// Classes whose circuits are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CircuitClasses {
    /// Those of which the client has training examples.
    Owned,
    /// The same list for every client.
    List(Vec<u32>),
}

/// Clients in which circuits are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CircuitClients {
    /// Every client.
    All,
    /// So many, evenly taken.
    Count(usize),
    /// These.
    List(Vec<usize>),
}

/// How many channels a circuit found by rank has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CircuitSize {
    /// As many in every layer as the gates would keep, which costs their search.
    Gates,
    /// This share of every layer's channels, rounded up.
    Share(f64),
}

impl Serialize for CircuitClasses {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            CircuitClasses::Owned => serializer.serialize_str("owned"),
            CircuitClasses::List(classes) => classes.serialize(serializer),
        }
    }
}

impl Serialize for CircuitClients {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            CircuitClients::All => serializer.serialize_str("all"),
            CircuitClients::Count(count) => count.serialize(serializer),
            CircuitClients::List(clients) => clients.serialize(serializer),
        }
    }
}

impl Serialize for CircuitSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            CircuitSize::Gates => serializer.serialize_str("gates"),
            CircuitSize::Share(share) => share.serialize(serializer),
        }
    }
}

/// How circuits are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// One learned gate a channel, with the straight-through gradient.
    Gates,
    /// The channels whose loss would change most, to first order, without them: |sum of activation times gradient|.
    Attribution,
    /// The channels with the largest filters: sum of |w|.
    Magnitude,
}

/// What an ablated channel gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ablation {
    /// Zero.
    Zero,
    /// Its mean before the activation over the client's training examples and all pixels.
    Mean,
    /// What it gives for another of the client's training examples, drawn at random.
    Resample,
}

/// What an edge of a circuit is, wherever edges are counted; which channels feed which is listed by channel in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EdgeUnit {
    /// Two channels of the circuit with a surviving weight between them.
    Channel,
    /// A surviving weight between two channels of the circuit: one for each position of the filter.
    Position,
}

impl Circuits {
    /// Whether circuits are found in one-based `round` of `rounds`.
    pub fn studies(&self, round: usize, rounds: usize) -> bool {
        round == rounds || round.is_multiple_of(self.every)
    }

    /// Whether one-based `round` of `rounds`, in which circuits are found, has the controls that are searched.
    pub fn controls(&self, round: usize, rounds: usize) -> bool {
        let before = (round - 1) / self.every * self.every;
        round == rounds || before / self.controls.every < round / self.controls.every
    }
}

impl CircuitClients {
    /// Which of `clients` clients, ascending.
    ///
    /// # Errors
    /// [`Error::Config`] for a client beyond them.
    pub fn chosen(&self, clients: usize) -> Result<Vec<usize>> {
        match self {
            CircuitClients::All => Ok((0..clients).collect()),
            CircuitClients::Count(count) => {
                let count = *count.min(&clients);
                Ok((0..count).map(|i| i * clients / count).collect())
            }
            CircuitClients::List(list) => match list.iter().find(|client| **client >= clients) {
                Some(stranger) => {
                    let help = format!("accepted: clients from 0 to {}, as the partition has them", clients - 1);
                    Err(Error::config("circuits.clients", format!("there is no client {stranger}"), help))
                }
                None => {
                    let mut list = list.clone();
                    list.sort_unstable();
                    Ok(list)
                }
            },
        }
    }
}

const STEPS: Limits = Limits::new(1, 100_000, "");
const EVERY: Limits = Limits::new(1, 1_000_000, "the last round is always one of them");
const CLIENT_LIST: &str = "\"all\", a number of clients, or a list of them such as [0, 4]";
const SHARES: &str = "a list of ascending shares of the channels, above 0 and at most 1, such as [0.1, 0.5, 1]";
/// Closer together where circuits are.
const CURVE: [f64; 8] = [0.02, 0.05, 0.1, 0.15, 0.25, 0.4, 0.7, 1.0];

/// Reads `[circuits]` for data of `class_count` classes.
pub(super) fn read(mut keys: Keys<'_>, class_count: usize) -> Result<Circuits> {
    let classes = read_classes(&mut keys, class_count)?;
    let clients = read_clients(&mut keys)?;
    let every = keys.count("every", &EVERY)?.unwrap_or(1);
    let seed = keys.whole("seed", &SEED)?;
    let methods = [("gates", Method::Gates), ("attribution", Method::Attribution), ("magnitude", Method::Magnitude)];
    let method = keys.choice("method", &methods)?.unwrap_or(Method::Gates);
    let size = read_size(&mut keys)?;
    if method == Method::Gates && size != CircuitSize::Gates {
        let problem = "does nothing with circuits.method = \"gates\": learned gates have a size of their own";
        let help = "leave it out, or set circuits.method to \"attribution\" or \"magnitude\"";
        return Err(Error::config(keys.path_of("size"), problem, help));
    }
    let steps = keys.count("steps", &STEPS)?.unwrap_or(200);
    let lr = keys.real("lr", RATE, is_rate)?.unwrap_or(0.1);
    let l0 = keys.real("l0", "a number from 0 to 1000", |x| (0.0..=1000.0).contains(&x))?.unwrap_or(0.01);
    let ablations = [("zero", Ablation::Zero), ("mean", Ablation::Mean), ("resample", Ablation::Resample)];
    let ablation = keys.choice("ablation", &ablations)?.unwrap_or(Ablation::Zero);
    let images = Limits::new(0, 100_000, "20 a class give a rate to about 4 points");
    let other_images = keys.count("other_images", &images)?.unwrap_or(20);
    let units = [("channel", EdgeUnit::Channel), ("position", EdgeUnit::Position)];
    let edges = keys.choice("edges", &units)?.unwrap_or(EdgeUnit::Channel);
    let analyses = keys.choices("analyses", &Analysis::ALL)?.unwrap_or_default();
    let measures = section(&mut keys, "measures", measures)?;
    let controls = section(&mut keys, "controls", controls)?;
    let diagnosis = section(&mut keys, "diagnosis", thresholds)?;
    keys.finish("[circuits]")?;
    Ok(Circuits {
        classes,
        clients,
        every,
        seed,
        method,
        size,
        steps,
        lr,
        l0,
        ablation,
        other_images,
        edges,
        analyses,
        measures,
        controls,
        diagnosis,
    })
}

fn read_classes(keys: &mut Keys<'_>, classes: usize) -> Result<CircuitClasses> {
    let path = keys.path_of("classes");
    match keys.value("classes") {
        None => Ok(CircuitClasses::Owned),
        Some(Value::String(word)) if word == "owned" => Ok(CircuitClasses::Owned),
        Some(Value::Array(list)) => Ok(CircuitClasses::List(class_list(&path, list, classes)?)),
        Some(other) => {
            let hint = other.as_str().map(|word| did_you_mean(word, &["owned"])).unwrap_or_default();
            Err(refused(path, other, &format!("{hint}accepted: \"owned\", or {CLASS_LIST}")))
        }
    }
}

fn read_clients(keys: &mut Keys<'_>) -> Result<CircuitClients> {
    let path = keys.path_of("clients");
    let whole = |value: &Value| value.as_integer().and_then(|n| usize::try_from(n).ok());
    match keys.value("clients") {
        None => Ok(CircuitClients::All),
        Some(Value::String(word)) if word == "all" => Ok(CircuitClients::All),
        Some(Value::Array(list)) if !list.is_empty() => {
            let mut clients = Vec::new();
            for value in list {
                let client = whole(value).ok_or_else(|| refused(path.clone(), value, "accepted: clients from 0"))?;
                if clients.contains(&client) {
                    let problem = format!("names client {client} twice");
                    return Err(Error::config(path, problem, "accepted: each client once"));
                }
                clients.push(client);
            }
            Ok(CircuitClients::List(clients))
        }
        Some(other) => match whole(other).filter(|n| (1..=CLIENTS.max as usize).contains(n)) {
            Some(count) => Ok(CircuitClients::Count(count)),
            None => Err(refused(path, other, &format!("accepted: {CLIENT_LIST}"))),
        },
    }
}

fn read_size(keys: &mut Keys<'_>) -> Result<CircuitSize> {
    let path = keys.path_of("size");
    match keys.value("size") {
        None => Ok(CircuitSize::Gates),
        Some(Value::String(word)) if word == "gates" => Ok(CircuitSize::Gates),
        Some(value) => match value.as_float().or_else(|| value.as_integer().map(|n| n as f64)) {
            Some(share) if share > 0.0 && share <= 1.0 => Ok(CircuitSize::Share(share)),
            _ => {
                let help = "accepted: \"gates\", as many channels as learned gates would keep, or a share of every \
                            layer's channels, above 0 and at most 1";
                Err(refused(path, value, help))
            }
        },
    }
}

fn measures(mut keys: Keys<'_>) -> Result<Measures> {
    let removals = Limits::new(0, FEATURES.max, "no layer has more channels");
    let removals = keys.count("removals", &removals)?.unwrap_or(16);
    let path = keys.path_of("curve");
    let curve = match keys.list("curve", SHARES)? {
        None => CURVE.to_vec(),
        Some(list) => {
            let number = |value: &Value| value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
            let shares: Option<Vec<f64>> = list.iter().map(number).collect();
            let ascending = |shares: &Vec<f64>| {
                shares.iter().all(|x| *x > 0.0 && *x <= 1.0) && shares.windows(2).all(|pair| pair[0] < pair[1])
            };
            let shares = shares.filter(ascending).filter(|shares| shares.len() <= 1000);
            shares.ok_or_else(|| Error::config(path, "is no such list", format!("accepted: {SHARES}")))?
        }
    };
    let images = Limits::new(1, 100_000, "50 give an accuracy to about 7 points");
    let images = keys.count("images", &images)?.unwrap_or(50);
    keys.finish("[circuits.measures]")?;
    Ok(Measures { removals, curve, images })
}

fn controls(mut keys: Keys<'_>) -> Result<Controls> {
    let random = keys.count("random", &Limits::new(0, 10_000, "20 tell a p-value of 0.05"))?.unwrap_or(0);
    let images = Limits::new(1, 100_000, "50 give a sufficiency to about 7 points");
    let controls = Controls {
        random,
        random_images: keys.count("random_images", &images)?.unwrap_or(50),
        every: keys.count("every", &EVERY)?.unwrap_or(10),
        repeat: keys.flag("repeat")?.unwrap_or(false),
        untrained: keys.flag("untrained")?.unwrap_or(false),
        permuted: keys.flag("permuted")?.unwrap_or(false),
        shuffled: keys.flag("shuffled")?.unwrap_or(false),
        centralised: keys.flag("centralised")?.unwrap_or(false),
    };
    keys.finish("[circuits.controls]")?;
    Ok(controls)
}

fn thresholds(mut keys: Keys<'_>) -> Result<Thresholds> {
    let share = |x: f64| (0.0..=1.0).contains(&x);
    let accuracy = keys.real("accuracy", "a share from 0 to 1", share)?.unwrap_or(0.5);
    let iou = keys.real("iou", "a share from 0 to 1", share)?.unwrap_or(0.5);
    keys.finish("[circuits.diagnosis]")?;
    Ok(Thresholds { accuracy, iou })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_all_evenly_taken_or_listed() {
        assert_eq!(CircuitClients::All.chosen(3).unwrap(), [0, 1, 2]);
        assert_eq!(CircuitClients::Count(3).chosen(10).unwrap(), [0, 3, 6]);
        assert_eq!(CircuitClients::Count(30).chosen(2).unwrap(), [0, 1]);
        assert_eq!(CircuitClients::List(vec![4, 1]).chosen(5).unwrap(), [1, 4]);
        let message = CircuitClients::List(vec![5]).chosen(5).unwrap_err().to_string();
        assert!(message.contains("there is no client 5") && message.contains("0 to 4"), "{message}");
    }

    #[test]
    fn so_many_clients_are_taken_evenly_up_to_the_last_ones() {
        assert_eq!(CircuitClients::Count(4).chosen(10).unwrap(), [0, 2, 5, 7]);
        assert_eq!(CircuitClients::Count(5).chosen(8).unwrap(), [0, 1, 3, 4, 6]);
    }
}
