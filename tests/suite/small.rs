//! Small federations on the built-in digits, and what two runs of one must have in common.

use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use fedcircuit::Result;
use fedcircuit::config::{Experiment, Override, load};
use fedcircuit::data::Dataset;
use fedcircuit::device::{Choice, Cpu, Device, GpuOptions, open};
use fedcircuit::experiment::{Federation, Outcome, load_data};
use fedcircuit::report::Seconds;

/// Clients of unequal size, a last partial batch, channels that cross a mask word, pruning and circuits.
const BASE: &str = r#"
name = "small"
seed = 7
rounds = 2
data = { source = "digits", train_examples = 240, test_examples = 120 }
partition = { kind = "dirichlet", num_clients = 5, alpha = 0.8 }
training = { local_epochs = 2, batch_size = 32, optimizer = "adam", lr = 0.004 }
sparsity = { target = 0.8 }
circuits = { classes = [0, 7], steps = 8, measures = { removals = 2, curve = [0.5], images = 10 } }
output = { save_clients = true, save_every = 1 }

[model]
layers = [
    { kind = "conv", channels = 4, pool = 2 },
    { kind = "conv", channels = 34, pool = 2 },
    { kind = "linear", features = 10 },
]
"#;

/// A network that has learned enough for circuits of many sizes, and is pruned until channels lack edges between them.
pub const LEARNED: [&str; 6] = [
    "sparsity.target=0.9",
    "training.local_epochs=8",
    "circuits.classes=owned",
    "circuits.steps=15",
    "circuits.lr=0.2",
    "circuits.l0=0.05",
];

/// The base with some keys changed, each given as `key.path=value`.
pub fn small(set: &[&str]) -> Experiment {
    let set: Vec<_> = set.iter().map(|s| Override::parse(s).unwrap()).collect();
    load(BASE, "small.toml", &set).unwrap().variants.remove(0).experiment
}

/// A small federation of linear models, trained by plain SGD without pruning or circuits.
pub fn linear(set: &[&str]) -> Experiment {
    let base = [
        "model.layers=[{ kind = \"linear\", features = 10 }]",
        "training={ local_epochs = 2, batch_size = 32, optimizer = \"sgd\", lr = 0.01, momentum = 0.9 }",
        "sparsity.target=0",
    ];
    let mut experiment = small(&[&base, set].concat());
    experiment.circuits = None;
    experiment
}

/// The experiment's data set; the built-in digits need no folder.
pub fn data(experiment: &Experiment) -> Dataset {
    load_data(&experiment.data, Path::new("nowhere")).unwrap().0
}

/// All rounds of `experiment`, which has one seed.
pub fn run(device: &dyn Device, experiment: &Experiment) -> Result<Vec<Outcome>> {
    let mut seeds = run_seeds(device, experiment)?;
    assert_eq!(seeds.len(), 1);
    Ok(seeds.remove(0))
}

/// All rounds of `experiment`, seed by seed.
pub fn run_seeds(device: &dyn Device, experiment: &Experiment) -> Result<Vec<Vec<Outcome>>> {
    let mut federation = Federation::new(device, experiment, &data(experiment))?;
    let mut seeds = vec![Vec::new(); experiment.seeds.all().len()];
    for _ in 0..experiment.rounds {
        let outcomes = federation.round()?;
        assert_eq!(outcomes.len(), seeds.len());
        seeds.iter_mut().zip(outcomes).for_each(|(rounds, outcome)| rounds.push(outcome));
    }
    Ok(seeds)
}

/// The two runs have the same records, times aside, and the same bits in every weight.
pub fn assert_same(got: &[Outcome], want: &[Outcome], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().zip(want) {
        let round = want.record.round;
        // As text, in which every float is written exactly and NaN equals NaN.
        let text = |o: &Outcome| {
            let mut record = o.record.clone();
            record.seconds = Seconds::default();
            let overlaps = (&o.overlaps, &o.overlap_means);
            [format!("{record:?}"), format!("{:?}{:?}", o.circuits, o.controls), format!("{overlaps:?}")]
        };
        assert_eq!(text(got), text(want), "{what}, round {round}");
        let bits = |row: &[f32]| row.iter().map(|w| w.to_bits()).collect::<Vec<_>>();
        let weights = |o: &Outcome| o.weights.as_deref().map(bits);
        assert!(weights(got) == weights(want), "{what}, round {round}: global weights differ");
        let clients = |o: &Outcome| o.client_weights.iter().map(|(c, w)| (*c, bits(w))).collect::<Vec<_>>();
        assert!(clients(got) == clients(want), "{what}, round {round}: local weights differ");
    }
}

/// Runs `check` on the CPU engine and, where there is one, on a GPU that no other test uses meanwhile: a round's
/// read-backs are counted from the device's own counters.
pub fn on_each_device(check: impl Fn(&dyn Device)) {
    check(&Cpu::new(Some(2)).unwrap());
    on_gpu(check);
}

/// The GPU's half of [`on_each_device`].
pub fn on_gpu(check: impl Fn(&dyn Device)) {
    static GPU: OnceLock<Option<Mutex<Box<dyn Device>>>> = OnceLock::new();
    let gpu = GPU.get_or_init(|| {
        // The shared one says aloud what is missing, and fails where a GPU is required.
        crate::common::gpu()?;
        Some(Mutex::new(open(&Choice::Gpu, GpuOptions { checked: true, ..Default::default() }, None).unwrap().0))
    });
    if let Some(gpu) = gpu {
        check(gpu.lock().unwrap_or_else(PoisonError::into_inner).as_ref());
    }
}
