//! The GPU against the CPU engine on real MNIST, from the folder that `FEDCIRCUIT_DATA` names.

use std::path::PathBuf;

use fedcircuit::config::{Experiment, Override, load};
use fedcircuit::data::mnist::find;
use fedcircuit::device::{Cpu, Device};
use fedcircuit::experiment::{Federation, Outcome, load_data};
use fedcircuit::model::{Layout, save};

use crate::common::gpu;

const BASE: &str = r#"
name = "mnist"
seed = 42
rounds = 1
data = { source = "mnist", train_examples = 1280, test_examples = 600 }
partition = { kind = "iid", num_clients = 1 }
training = { local_epochs = 1, batch_size = 64 }
sparsity = { target = 0.95 }
strategy = { kind = "fedavg", weighting = "uniform" }
output = { save_clients = true }
"#;

/// The folder with MNIST's files, or `None`, said aloud; on CI they must be there.
pub fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("FEDCIRCUIT_DATA").map(PathBuf::from).filter(|f| find(f).is_some());
    if folder.is_none() {
        assert!(std::env::var_os("CI").is_none(), "on CI, FEDCIRCUIT_DATA must name a folder with MNIST");
        println!("skipped: FEDCIRCUIT_DATA names no folder with MNIST");
    }
    folder
}

fn experiment(set: &[&str]) -> Experiment {
    let set: Vec<_> = set.iter().map(|s| Override::parse(s).unwrap()).collect();
    load(BASE, "mnist.toml", &set).unwrap().variants.remove(0).experiment
}

/// One round of `experiment` on the CPU engine and on the GPU, if there are a GPU and MNIST.
fn on_both(experiment: &Experiment) -> Option<([Outcome; 2], Layout)> {
    let (folder, gpu) = (folder()?, gpu()?);
    let (dataset, _) = load_data(&experiment.data, &folder).unwrap();
    assert_eq!(dataset.name, "mnist");
    let round = |device: &dyn Device| {
        let mut federation = Federation::new(device, experiment, &dataset).unwrap();
        (federation.round().unwrap().remove(0), federation.layout().clone())
    };
    let (on_cpu, layout) = round(&Cpu::new(Some(2)).unwrap());
    let (on_gpu, _) = round(gpu);
    Some(([on_cpu, on_gpu], layout))
}

/// The masks of the two models are equal and their weights within 1e-5.
fn assert_agree(layout: &Layout, [cpu, gpu]: [&[f32]; 2]) {
    for tensor in &layout.tensors {
        let (mut differing, mut worst) = (0, 0f32);
        for i in tensor.at..tensor.at + tensor.words() {
            differing += usize::from((cpu[i] == 0.0) != (gpu[i] == 0.0));
            let diff = (cpu[i] - gpu[i]).abs();
            // `max` would pass over a NaN.
            worst = if diff > worst || diff.is_nan() { diff } else { worst };
        }
        println!("{}: {differing} masks differ, weights by at most {worst:e}", tensor.name);
        assert!(differing == 0 && worst <= 1e-5, "{}: {differing} masks differ, weights by {worst:e}", tensor.name);
    }
}

#[test]
fn twenty_steps_with_pruning_give_the_same_masks_and_weights() {
    let Some(([cpu, gpu], layout)) = on_both(&experiment(&["sparsity.target=0.995"])) else { return };
    assert_eq!(cpu.record.clients[0].steps, 20);
    assert_agree(&layout, [&cpu.client_weights[0].1, &gpu.client_weights[0].1]);
    assert_agree(&layout, [cpu.weights.as_deref().unwrap(), gpu.weights.as_deref().unwrap()]);
    let zeros = cpu.weights.unwrap().iter().filter(|w| **w == 0.0).count();
    assert!(zeros > layout.words * 9 / 10, "{zeros} of {} weights are pruned", layout.words);
}

/// Both devices are given the same trained and pruned weights, and a round whose steps are too small to move them.
#[test]
fn the_same_circuits_of_the_same_weights_measure_the_same_to_the_last_image() {
    let Some(folder) = folder() else { return };
    let mut given = experiment(&["training.local_epochs=2"]);
    let (dataset, _) = load_data(&given.data, &folder).unwrap();
    let cpu = Cpu::new(Some(2)).unwrap();
    let mut federation = Federation::new(&cpu, &given, &dataset).unwrap();
    let trained = federation.round().unwrap().remove(0).weights.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), save(federation.layout(), &trained).unwrap()).unwrap();

    given = experiment(&["circuits={ classes = [1, 7], steps = 30, l0 = 0.02 }", "data.train_examples=256"]);
    given.model.init = Some(file.path().to_str().unwrap().into());
    given.training.lr = 1e-30;
    given.sparsity.anneal = 0.0;
    let Some(([cpu, gpu], _)) = on_both(&given) else { return };
    assert_eq!(cpu.weights.as_ref().unwrap(), &trained, "the round was to change nothing");
    assert_eq!(gpu.weights.as_ref().unwrap(), &trained, "the round was to change nothing");
    assert_eq!(gpu.record.global.accuracy, cpu.record.global.accuracy);
    assert_eq!(cpu.circuits.len(), 4);
    for (cpu, gpu) in cpu.circuits.iter().zip(&gpu.circuits) {
        println!(
            "{:?} class {}: {:?} channels",
            cpu.model,
            cpu.class,
            ["conv1", "conv2", "conv3"].map(|l| cpu.size(l))
        );
        assert_eq!(gpu, cpu);
    }
    assert_eq!(gpu.overlaps, cpu.overlaps);
}

/// Training is chaotic: later bits may part, the statistics may not.
#[test]
fn a_full_round_gives_global_accuracies_within_three_points() {
    let set = [
        "partition.num_clients=3",
        "data.train_examples=1536",
        "training={ local_epochs = 2, batch_size = 32, lr = 0.002 }",
        "sparsity.target=0.9",
    ];
    let Some(([cpu, gpu], _)) = on_both(&experiment(&set)) else { return };
    let (a, b) = (cpu.record.global.accuracy, gpu.record.global.accuracy);
    println!("accuracy {a} on the CPU engine, {b} on the GPU");
    assert!(a > 0.5 && (a - b).abs() <= 0.03, "accuracy {a} on the CPU engine, {b} on the GPU");
}
