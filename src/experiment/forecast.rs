//! What a plan will take on a device, before anything is run: its work as its experiments plan it, and the device's pace
//! from a trial in small, which is remembered in the user's cache.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Federation;
use super::plan::HostMemory;
use crate::config::{
    CircuitClasses, CircuitClients, Cohort, Controls, Data, Experiment, Output, Partition, Plan, Seeds, Source,
};
use crate::data::{Dataset, Split, blank, digits, hex};
use crate::device::{Device, cache};
use crate::error::{Error, Result};
use crate::report::Seconds;

/// What a plan will take. The time is an estimate: by a factor of two either way where the machine has other work.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// Federations: the plan's experiments by their seeds.
    pub federations: usize,
    /// Clients of one of them that take part in a round; of the first, where they differ.
    pub clients: usize,
    /// Rounds of one of them.
    pub rounds: usize,
    /// Seconds; `None` where the device's pace is not known.
    pub seconds: Option<f64>,
    /// Bytes of memory, on the device and beside it, without the program and the driver.
    pub bytes: u64,
}

/// How fast a device does one kind of experiment, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Pace {
    /// A step of a client's training.
    step: f64,
    /// An image in a step of a search for a circuit.
    searched: f64,
    /// What a search takes beside its steps: testing what it found.
    search: f64,
    /// An image of the test set.
    image: f64,
}

/// The work of one experiment, of all its rounds and seeds.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    steps: f64,
    /// Images that searches see in all their steps.
    searched: f64,
    searches: f64,
    images: f64,
    bytes: u64,
}

/// Whether the pace is measured where it is not remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// It is, and remembered: some tenths of a second for each kind of experiment.
    Allowed,
    /// It is not, and the time stays unknown.
    Never,
}

/// Forecasts a plan on `device`. The points of a sweep are taken to be as much work each as the one in the middle.
///
/// # Errors
/// Plans that do not fit the device, and what it says.
pub fn forecast(device: &dyn Device, plan: &Plan, trial: Trial) -> Result<Forecast> {
    let (variants, middle) = (&plan.variants, plan.variants.len() / 2);
    let swept = variants.iter().all(|variant| !variant.swept.is_empty());
    let (some, times) = if swept { (&variants[middle..=middle], variants.len()) } else { (&variants[..], 1) };
    let (mut seconds, mut bytes) = (Some(0.0), 0);
    for variant in some {
        let experiment = &variant.experiment;
        let dataset = blank_dataset(&experiment.data);
        let federation = Federation::new(device, experiment, &dataset)?;
        let work = work(device, experiment, &dataset, &federation);
        bytes = bytes.max(work.bytes);
        let pace = pace(device, &small(experiment, device.info().threads), trial)?;
        seconds = seconds.zip(pace).map(|(sum, pace)| sum + pace.seconds(&work) * times as f64);
    }
    let federations = variants.iter().map(|variant| variant.experiment.seeds.all().len()).sum();
    let first = &variants[0].experiment;
    let clients = first.cohort.size(first.partition.num_clients());
    Ok(Forecast { federations, clients, rounds: first.rounds, seconds, bytes })
}

/// As many examples as the source has, evenly of all classes and black: what they show changes no plan.
fn blank_dataset(data: &Data) -> Dataset {
    let (train, test) = match data.source {
        Source::Mnist => (60_000, 10_000),
        Source::Digits => (digits::TRAIN, digits::TEST),
    };
    blank(data.train_examples.unwrap_or(train), data.test_examples.unwrap_or(test), data.source.classes())
}

fn work(device: &dyn Device, experiment: &Experiment, dataset: &Dataset, federation: &Federation<'_>) -> Work {
    let rounds = experiment.rounds;
    let each = (1..=rounds).map(|round| federation.costs(round));
    let (steps, search_steps) = each.fold((0, 0), |sum, cost| (sum.0 + cost.0, sum.1 + cost.1));
    let plan = federation.plan();
    let host = HostMemory::new(None, device, (experiment, &plan), dataset, federation.populations());
    let steps_of_a_search = experiment.circuits.as_ref().map_or(1, |circuits| circuits.steps.max(1));
    // A search sees those of a client's batch that are of its class.
    let images = experiment.training.batch_size as f64 / classes_of_a_client(federation);
    Work {
        steps: steps as f64,
        searched: search_steps as f64 * images,
        searches: search_steps as f64 / steps_of_a_search as f64,
        images: (rounds * dataset.test.len() * experiment.seeds.all().len()) as f64,
        bytes: plan.total() + federation.search_bytes() + host.own(),
    }
}

/// How many classes the first client has, were it to have as much of each.
fn classes_of_a_client(federation: &Federation<'_>) -> f64 {
    let counts = federation.class_counts(0).next().unwrap_or_default();
    let all: f64 = counts.iter().map(|n| f64::from(*n)).sum();
    let squares: f64 = counts.iter().map(|n| f64::from(*n).powi(2)).sum();
    if squares > 0.0 { all * all / squares } else { 1.0 }
}

impl Pace {
    fn seconds(&self, work: &Work) -> f64 {
        let Self { step, searched, search, image } = self;
        step * work.steps + searched * work.searched + search * work.searches + image * work.images
    }
}

/// Test images of the trial: of each class as many as most measures of a circuit take by default.
const TESTED: usize = 500;
/// Classes of its clients, of which the circuits of the first are searched for.
const CLASSES: usize = 2;
/// Steps of its two kinds of search, whose difference is the time of a step alone.
const SEARCH_STEPS: [usize; 2] = [2, 12];

/// The same training and circuits in small: as many clients as there are, but no more than a CPU has threads for them.
fn small(experiment: &Experiment, threads: usize) -> Experiment {
    let mut small = experiment.clone();
    let clients = experiment.cohort.size(experiment.partition.num_clients());
    small.name = "trial".into();
    small.seeds = Seeds::one(0);
    // So that the controls of the last round are never due.
    small.rounds = 1_000;
    small.data = Data { source: experiment.data.source, fallback: None, train_examples: None, test_examples: None };
    small.partition = Partition::Iid { num_clients: clients.min(if threads == 0 { 8 } else { threads }) };
    small.cohort = Cohort::default();
    small.model.init = None;
    // The rate costs nothing, and noise is not learned at every one.
    (small.training.local_epochs, small.training.lr) = (1, 0.001);
    small.output = Output::default();
    if let Some(circuits) = &mut small.circuits {
        circuits.clients = CircuitClients::All;
        circuits.classes = CircuitClasses::List(vec![0]);
        circuits.every = 1;
        circuits.seed = None;
        circuits.analyses = Vec::new();
        let Controls { random, random_images, .. } = circuits.controls;
        circuits.controls = Controls {
            random,
            random_images,
            every: 1_000,
            repeat: false,
            untrained: false,
            permuted: false,
            shuffled: false,
            centralised: false,
        };
    }
    small
}

/// The pace of the trial `small`, remembered or measured.
fn pace(device: &dyn Device, small: &Experiment, trial: Trial) -> Result<Option<Pace>> {
    let info = device.info();
    let threads = info.threads.to_string();
    let about = [env!("CARGO_PKG_VERSION"), &info.name, &info.backend, &info.driver, &threads, &small.to_toml()?];
    let mut hash = Sha256::new();
    about.iter().for_each(|text| hash.update([text.as_bytes(), b"\0"].concat()));
    let key = hex(&hash.finalize()[..8]);
    let path = cache::folder().map(|folder| folder.join(format!("pace-{key}.json")));
    let remembered = path.as_ref().and_then(|path| serde_json::from_slice::<Pace>(&cache::read(path)?).ok());
    if remembered.is_some() || trial == Trial::Never {
        return Ok(remembered);
    }
    let pace = match measure(device, small) {
        Err(Error::Diverged { .. }) => return Ok(None),
        pace => pace?,
    };
    if let (Some(path), Ok(text)) = (path, serde_json::to_vec(&pace)) {
        cache::write(&path, &text);
    }
    Ok(Some(pace))
}

/// Does the trial: a round, and one with longer searches.
fn measure(device: &dyn Device, small: &Experiment) -> Result<Pace> {
    let (batch, clients) = (small.training.batch_size, small.partition.num_clients());
    // Two steps a client at least, the second of which goes over survivors where a run's do.
    let examples = clients * batch * (128 / batch).max(2);
    let dataset = mixed(blank(examples, TESTED, small.data.source.classes()));
    let timed = |steps: usize, rounds: usize| -> Result<(Seconds, (u64, u64))> {
        let mut small = small.clone();
        if let Some(circuits) = &mut small.circuits {
            circuits.steps = steps;
        }
        let mut federation = Federation::new(device, &small, &dataset)?;
        let mut seconds = Seconds::default();
        for _ in 0..rounds {
            seconds = federation.round()?.first().map(|outcome| outcome.record.seconds).unwrap_or_default();
        }
        Ok((seconds, federation.costs(rounds)))
    };
    // A GPU compiles its shaders in the first round.
    let rounds = if device.info().kind == "cpu" { 1 } else { 2 };
    let (first, (steps, few)) = timed(SEARCH_STEPS[0], rounds)?;
    let (step, image) = (first.train / steps as f64, first.evaluate / TESTED as f64);
    if few == 0 {
        return Ok(Pace { step, searched: 0.0, search: 0.0, image });
    }
    let (longer, (_, many)) = timed(SEARCH_STEPS[1], 1)?;
    let a_step = ((longer.circuits - first.circuits) / (many - few) as f64).max(0.0);
    let searches = few as f64 / SEARCH_STEPS[0] as f64;
    let search = ((first.circuits - a_step * few as f64) / searches).max(0.0);
    Ok(Pace { step, searched: a_step * CLASSES as f64 / batch as f64, search, image })
}

/// The same with training examples of the first classes alone, and pictures that are not black.
fn mixed(mut dataset: Dataset) -> Dataset {
    dataset.train.labels.iter_mut().zip(0..).for_each(|(label, i): (&mut u8, usize)| *label = (i % CLASSES) as u8);
    let grey = |split: &mut Split| {
        split.pixels.iter_mut().zip(0u32..).for_each(|(pixel, i)| *pixel = (i.wrapping_mul(2_654_435_761) >> 24) as u8);
    };
    grey(&mut dataset.train);
    grey(&mut dataset.test);
    dataset
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::device::Cpu;

    #[test]
    fn time_is_that_of_every_kind_of_work() {
        let pace = Pace { step: 0.5, searched: 0.25, search: 2.0, image: 0.125 };
        let work = Work { steps: 4.0, searched: 8.0, searches: 3.0, images: 16.0, bytes: 0 };
        assert_eq!(pace.seconds(&work), 2.0 + 2.0 + 6.0 + 2.0);
    }

    /// Two clients of two classes with 12 examples each, in three rounds of two seeds.
    #[test]
    fn work_is_of_all_rounds_and_seeds_and_a_search_sees_its_class() {
        let text = r#"
            name = "work"
            seeds = [3, 4]
            rounds = 3
            data = { source = "digits", train_examples = 120, test_examples = 40 }
            partition = { kind = "by_class", classes = [[0, 1], [2, 3]] }
            training = { local_epochs = 2, batch_size = 32 }
            circuits = { steps = 5, every = 2 }
            [model]
            layers = [{ kind = "conv", channels = 4, pool = 2 }, { kind = "linear", features = 10 }]
        "#;
        let experiment = config::load(text, "work.toml", &[]).unwrap().variants.remove(0).experiment;
        let (dataset, cpu) = (blank_dataset(&experiment.data), Cpu::new(Some(1)).unwrap());
        let federation = Federation::new(&cpu, &experiment, &dataset).unwrap();
        let found = work(&cpu, &experiment, &dataset, &federation);
        // A batch an epoch: two steps for each client in each round. Circuits of rounds 2 and 3, of four pairs in two models.
        assert_eq!((found.steps, found.searches), (2.0 * 2.0 * 3.0 * 2.0, 2.0 * 8.0 * 2.0));
        // Half of a batch is of the class.
        assert_eq!((found.searched, found.images), (16.0 * found.searches * 5.0, 3.0 * 40.0 * 2.0));
        assert!(found.bytes > federation.plan().total() + federation.search_bytes());
        assert_eq!(classes_of_a_client(&federation), 2.0);
    }
}
