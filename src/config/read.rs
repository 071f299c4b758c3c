//! From a TOML table to an [`Experiment`]: one function a section, each key read with its range and its default.

use toml::{Table, Value};

use super::keys::{Keys, Limits, quoted, refused};
use super::*;

const ROUNDS: Limits = Limits::new(1, 1_000_000, "every round adds a line to rounds.jsonl");
pub(super) const CLIENTS: Limits = Limits::new(1, 1_000_000, "each needs at least one example");
const EPOCHS: Limits = Limits::new(1, 10_000, "");
const BATCH: Limits = Limits::new(1, 65_536, "a whole batch is on the device at once");
const EXAMPLES: Limits = Limits::new(1, 10_000_000, "the data set is held in the device's memory");
const IMAGES: Limits = Limits::new(1, 1_000_000, "the data set is held in memory, here and on the device");
const MIN_ALIVE: Limits = Limits::new(0, 4096, "no filter is larger where it matters");
pub(super) const MAX_NAME: usize = 100;
const ALPHA: &str = "a number above 0, at most 1000000";
pub(super) const RATE: &str = "a number above 0, at most 1000";
pub(super) const CLASS_LIST: &str = "a list of classes such as [0, 1, 2]";
const CLIENT_CLASSES: &str = "one list of classes a client, such as [[0, 1, 2], [3, 4, 5], [6, 7, 8]]";

/// Reads the whole file but for `[[compare]]`, which the plan has taken out.
pub(super) fn experiment(table: &Table) -> Result<Experiment> {
    let mut keys = Keys::new(table, "");
    let name = name(&mut keys)?;
    let seeds = Seeds::read(&mut keys)?;
    let rounds = keys.count("rounds", &ROUNDS)?.unwrap_or(10);
    let data = data(
        keys.section("data")?
            .ok_or_else(|| keys.missing("data", "add [data] with source = \"mnist\" or \"digits\""))?,
    )?;
    let kinds = format!("add [partition] with one of kind = {}", quoted(&KINDS.map(|(name, _)| name)));
    let partition = keys.section("partition")?.ok_or_else(|| keys.missing("partition", &kinds))?;
    let experiment = Experiment {
        name,
        seeds,
        rounds,
        partition: self::partition(partition, data.source.classes())?,
        cohort: section(&mut keys, "cohort", cohort::read)?,
        model: model::read(keys.section("model")?)?,
        training: section(&mut keys, "training", training)?,
        sparsity: section(&mut keys, "sparsity", sparsity)?,
        strategy: section(&mut keys, "strategy", strategy)?,
        circuits: keys.section("circuits")?.map(|keys| circuits::read(keys, data.source.classes())).transpose()?,
        device: section(&mut keys, "device", device)?,
        output: section(&mut keys, "output", output)?,
        data,
    };
    // Known to the file, though not to the experiment: named here so that a misspelling of one is recognised.
    keys.value("compare");
    keys.value("sweep");
    keys.finish("the experiment")?;
    experiment.cohort.check(&experiment.partition, &experiment.training)?;
    Ok(experiment)
}

/// A section all of whose keys have defaults: where it is absent, an empty one is read.
pub(super) fn section<T>(keys: &mut Keys<'_>, key: &'static str, read: fn(Keys<'_>) -> Result<T>) -> Result<T> {
    let empty = Table::new();
    match keys.section(key)? {
        Some(section) => read(section),
        None => read(Keys::new(&empty, key)),
    }
}

fn name(keys: &mut Keys<'_>) -> Result<String> {
    let help = format!(
        "a name of at most {MAX_NAME} letters, digits, -, _ and ., not starting with a point (it names the run's folder)"
    );
    let name = keys.text("name", &help)?.ok_or_else(|| keys.missing("name", &format!("add {help}")))?;
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !plain || name.is_empty() || name.len() > MAX_NAME || name.starts_with('.') {
        return Err(Error::config("name", format!("{name:?} cannot name a folder"), format!("accepted: {help}")));
    }
    Ok(name.to_string())
}

fn data(mut keys: Keys<'_>) -> Result<Data> {
    let source = keys.choice("source", &Source::ALL)?;
    let source = source.ok_or_else(|| keys.missing("source", "accepted: \"mnist\", \"digits\""))?;
    let fallback = keys.choice("fallback", &[("digits", Source::Digits)])?.filter(|fallback| *fallback != source);
    let train_examples = keys.count("train_examples", &IMAGES)?;
    let test_examples = keys.count("test_examples", &IMAGES)?;
    keys.finish("[data]")?;
    Ok(Data { source, fallback, train_examples, test_examples }.with_defaults())
}

#[derive(Clone, Copy)]
enum Kind {
    Iid,
    Dirichlet,
    InnerDirichlet,
    ByClass,
    Pathological,
    Shards,
    Bootstrap,
}

const KINDS: [(&str, Kind); 7] = [
    ("iid", Kind::Iid),
    ("dirichlet", Kind::Dirichlet),
    ("inner_dirichlet", Kind::InnerDirichlet),
    ("by_class", Kind::ByClass),
    ("pathological", Kind::Pathological),
    ("shards", Kind::Shards),
    ("bootstrap", Kind::Bootstrap),
];

fn partition(mut keys: Keys<'_>, classes: usize) -> Result<Partition> {
    let names = KINDS.map(|(name, _)| name);
    let kind = keys.choice("kind", &KINDS)?;
    let kind = kind.ok_or_else(|| keys.missing("kind", &format!("accepted: {}", quoted(&names))))?;
    let partition = match kind {
        Kind::Iid => Partition::Iid { num_clients: required(&mut keys, "num_clients", &CLIENTS)? },
        Kind::Dirichlet => dirichlet(&mut keys)?,
        Kind::InnerDirichlet => Partition::InnerDirichlet {
            num_clients: required(&mut keys, "num_clients", &CLIENTS)?,
            alpha: concentration(&mut keys)?,
            examples_per_client: keys.count("examples_per_client", &EXAMPLES)?,
        },
        Kind::ByClass => by_class(&mut keys, classes)?,
        Kind::Pathological => pathological(&mut keys, classes)?,
        Kind::Shards => Partition::Shards {
            num_clients: required(&mut keys, "num_clients", &CLIENTS)?,
            shards_per_client: required(&mut keys, "shards_per_client", &EXAMPLES)?,
            shard_size: required(&mut keys, "shard_size", &EXAMPLES)?,
        },
        Kind::Bootstrap => Partition::Bootstrap {
            num_clients: required(&mut keys, "num_clients", &CLIENTS)?,
            examples_per_client: required(&mut keys, "examples_per_client", &EXAMPLES)?,
            alpha: keys.real("alpha", ALPHA, is_alpha)?,
        },
    };
    keys.finish(&format!("[partition] with kind = \"{}\"", names[kind as usize]))?;
    Ok(partition)
}

fn required(keys: &mut Keys<'_>, key: &'static str, limits: &Limits) -> Result<usize> {
    let help = format!("this kind of partition needs it: a whole number from {}", limits.min);
    keys.count(key, limits)?.ok_or_else(|| keys.missing(key, &help))
}

fn is_alpha(x: f64) -> bool {
    x > 0.0 && x <= 1e6
}

fn dirichlet(keys: &mut Keys<'_>) -> Result<Partition> {
    let num_clients = required(keys, "num_clients", &CLIENTS)?;
    let alpha = concentration(keys)?;
    let min_partition_size = keys.count("min_partition_size", &EXAMPLES)?.unwrap_or(10);
    let self_balancing = keys.flag("self_balancing")?.unwrap_or(false);
    Ok(Partition::Dirichlet { num_clients, alpha, min_partition_size, self_balancing })
}

fn concentration(keys: &mut Keys<'_>) -> Result<f64> {
    let alpha = keys.real("alpha", ALPHA, is_alpha)?;
    alpha.ok_or_else(|| keys.missing("alpha", "a dirichlet partition needs its concentration, such as 0.5"))
}

fn by_class(keys: &mut Keys<'_>, classes: usize) -> Result<Partition> {
    let path = keys.path_of("classes");
    let lists = keys.list("classes", CLIENT_CLASSES)?.ok_or_else(|| keys.missing("classes", CLIENT_CLASSES))?;
    if lists.is_empty() {
        return Err(Error::config(path, "names no client", format!("accepted: {CLIENT_CLASSES}")));
    }
    let clients = lists.iter().enumerate().map(|(client, value)| {
        let at = format!("{path}[{client}]");
        let list =
            value.as_array().ok_or_else(|| refused(at.clone(), value, &format!("accepted: {CLIENT_CLASSES}")))?;
        class_list(&at, list, classes)
    });
    Ok(Partition::ByClass { classes: clients.collect::<Result<_>>()? })
}

fn pathological(keys: &mut Keys<'_>, classes: usize) -> Result<Partition> {
    let assignments = [
        ("random", Assignment::Random),
        ("deterministic", Assignment::Deterministic),
        ("first_deterministic", Assignment::FirstDeterministic),
    ];
    Ok(Partition::Pathological {
        num_clients: required(keys, "num_clients", &CLIENTS)?,
        classes_per_client: required(
            keys,
            "classes_per_client",
            &Limits::new(1, classes as u64, "the data has no more classes"),
        )?,
        assignment: keys.choice("assignment", &assignments)?.unwrap_or(Assignment::Random),
    })
}

/// Distinct classes of a data set that has `classes` of them; at least one.
pub(super) fn class_list(path: &str, list: &[Value], classes: usize) -> Result<Vec<u32>> {
    if list.is_empty() {
        return Err(Error::config(path, "is an empty list", format!("accepted: {CLASS_LIST}")));
    }
    let mut read = Vec::new();
    for value in list {
        let help = format!("accepted: whole numbers from 0 to {}", classes - 1);
        let class = value.as_integer().and_then(|n| u32::try_from(n).ok()).filter(|class| (*class as usize) < classes);
        let class = class.ok_or_else(|| refused(path.to_string(), value, &help))?;
        if read.contains(&class) {
            return Err(Error::config(path, format!("names class {class} twice"), "accepted: each class once"));
        }
        read.push(class);
    }
    Ok(read)
}

/// Above 0 and at most 1000, also as the single-precision number that kernels get.
pub(super) fn is_rate(x: f64) -> bool {
    x as f32 > 0.0 && x <= 1000.0
}

fn training(mut keys: Keys<'_>) -> Result<Training> {
    let local_epochs = keys.count("local_epochs", &EPOCHS)?.unwrap_or(5);
    let batch_size = keys.count("batch_size", &BATCH)?.unwrap_or(256);
    let is_sgd = keys.choice("optimizer", &[("adam", false), ("sgd", true)])?.unwrap_or(false);
    let lr = keys.real("lr", RATE, is_rate)?.unwrap_or(0.001);
    let optimizer = if is_sgd {
        let momentum = keys.real("momentum", "a number from 0 to below 1", |x| x >= 0.0 && (x as f32) < 1.0)?;
        let decay = keys.real("weight_decay", "a number from 0 to 1000", |x| (0.0..=1000.0).contains(&x))?;
        Optimizer::Sgd { momentum: momentum.unwrap_or(0.0), weight_decay: decay.unwrap_or(0.0) }
    } else {
        Optimizer::Adam
    };
    keys.finish(if is_sgd { "[training] with optimizer = \"sgd\"" } else { "[training] with optimizer = \"adam\"" })?;
    Ok(Training { local_epochs, batch_size, optimizer, lr })
}

fn sparsity(mut keys: Keys<'_>) -> Result<Sparsity> {
    let target = keys.real("target", "a number from 0 (dense) to below 1", |x| (0.0..1.0).contains(&x))?.unwrap_or(0.0);
    let anneal = keys.real("anneal", "a number from 0 to 1", |x| (0.0..=1.0).contains(&x))?.unwrap_or(0.5);
    let min_alive = keys.count("min_alive", &MIN_ALIVE)?.unwrap_or(4);
    keys.finish("[sparsity]")?;
    Ok(Sparsity { target, anneal, min_alive })
}

fn strategy(mut keys: Keys<'_>) -> Result<Strategy> {
    keys.choice("kind", &[("fedavg", ())])?;
    let weightings = [("uniform", Weighting::Uniform), ("examples", Weighting::Examples)];
    let weighting = keys.choice("weighting", &weightings)?.unwrap_or(Weighting::Examples);
    keys.finish("[strategy]")?;
    Ok(Strategy::FedAvg { weighting })
}

fn device(mut keys: Keys<'_>) -> Result<Device> {
    let path = keys.path_of("memory");
    let memory = match keys.text("memory", Bytes::ACCEPTED)? {
        None => None,
        Some(text) => match Bytes::parse(text).filter(|bytes| bytes.0 > 0) {
            None => {
                let problem = format!("the text {text:?} is not accepted");
                return Err(Error::config(path, problem, format!("accepted: {}", Bytes::ACCEPTED)));
            }
            some => some,
        },
    };
    let max_wave = keys.count("max_wave", &Limits::new(1, CLIENTS.max, "clients computed at once"))?;
    let threads = keys.count("threads", &Limits::new(1, 1024, "one a core is best"))?;
    keys.finish("[device]")?;
    Ok(Device { memory, max_wave, threads })
}

fn output(mut keys: Keys<'_>) -> Result<Output> {
    let save_clients = keys.flag("save_clients")?.unwrap_or(false);
    let save_every = keys.count("save_every", &Limits::new(0, 1_000_000, "0 saves the last round only"))?.unwrap_or(0);
    let checkpoint_every = keys.count("checkpoint_every", &Limits::new(1, 1_000_000, "in rounds"))?.unwrap_or(1);
    let tensorboard = keys.flag("tensorboard")?.unwrap_or(false);
    keys.finish("[output]")?;
    Ok(Output { save_clients, save_every, checkpoint_every, tensorboard })
}
