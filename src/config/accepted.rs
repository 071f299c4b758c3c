//! Tests: what a configuration that is accepted means.

use super::refusals::{BASE, conv, read, refusal};
use super::*;

#[test]
fn defaults_fill_what_the_file_leaves_out() {
    let e = read(BASE, &[]).unwrap();
    assert_eq!((e.seeds.all(), e.rounds), (&[0][..], 10));
    assert_eq!((e.data.train_examples, e.data.test_examples), (Some(12_000), Some(2_000)));
    assert_eq!(e.training, Training { local_epochs: 5, batch_size: 256, optimizer: Optimizer::Adam, lr: 0.001 });
    assert_eq!(e.sparsity, Sparsity { target: 0.0, anneal: 0.5, min_alive: 4 });
    assert_eq!(e.cohort, Cohort::default());
    assert_eq!(e.strategy, Strategy::FedAvg { weighting: Weighting::Examples });
    assert_eq!(e.circuits, None);
    assert_eq!(e.device, Device::default());
    assert_eq!(e.model.architecture, Architecture::Preset(ModelPreset::SimpleCnn));
    let circuits = read(BASE, &["circuits={}"]).unwrap().circuits.unwrap();
    assert_eq!((circuits.classes, circuits.steps, circuits.lr, circuits.l0), (CircuitClasses::Owned, 200, 0.1, 0.01));
}

#[test]
fn missing_files_fall_back_to_drawn_digits() {
    let mnist = read(BASE, &["data={source=\"mnist\",fallback=\"digits\",test_examples=500}"]).unwrap().data;
    assert_eq!(mnist.train_examples, None);
    let digits = mnist.fallen_back().unwrap();
    assert_eq!((digits.source, digits.train_examples, digits.test_examples), (Source::Digits, Some(12_000), Some(500)));
    let never_missing = read(BASE, &["data.fallback=digits"]).unwrap().data;
    assert_eq!((never_missing.fallback, never_missing.fallen_back()), (None, None));
}

#[test]
fn names_that_only_resemble_a_seeds_folder_are_accepted() {
    for name in ["seed_a", "seed_", "seeds_1", "seed-1", "model"] {
        let text = format!("compare = [{{ name = \"{name}\", set = {{}} }}]\n{BASE}");
        assert_eq!(load(&text, "a.toml", &[]).unwrap().variants[0].label.as_deref(), Some(name));
    }
}

#[test]
fn a_resolved_experiment_reads_back_as_itself() {
    let layers = format!("model.layers={}", conv("channels=8,kernel=5,padding=0,pool=2,name=\"stem\""));
    let sgd = "training={optimizer=\"sgd\",momentum=0.9,weight_decay=1e-4,lr=1}";
    for sets in [
        vec![],
        vec![layers.as_str(), sgd, "circuits.classes=[1,2]", "device={memory=\"1.5GiB\",max_wave=3,threads=2}"],
        vec![
            "model.preset=mlp-2nn",
            "model.init=w.safetensors",
            "circuits={}",
            "output={save_clients=true,save_every=5,checkpoint_every=3,tensorboard=true}",
        ],
        vec!["circuits={clients=3,every=2,seed=7,method=\"magnitude\",size=0.25}", "circuits.measures.curve=[]"],
        vec!["circuits={clients=[0,2],ablation=\"resample\"}", "circuits.controls={untrained=true,every=1}"],
        vec!["partition={kind=\"dirichlet\",num_clients=4,alpha=0.1}"],
        vec!["partition={kind=\"by_class\",classes=[[0,1],[2]]}", "data={source=\"mnist\",fallback=\"digits\"}"],
        vec!["partition={kind=\"pathological\",num_clients=4,classes_per_client=2,assignment=\"first_deterministic\"}"],
        vec!["partition={kind=\"shards\",num_clients=4,shards_per_client=2,shard_size=30}"],
        vec![
            "partition={kind=\"bootstrap\",num_clients=100000,examples_per_client=6,alpha=0.3}",
            "cohort={clients_per_round=1000,sampling=\"weighted\",dropout_rate=0.1,partial_epochs=0.5}",
        ],
        vec!["partition={kind=\"bootstrap\",num_clients=7,examples_per_client=6}", "cohort.fraction_train=0.3"],
    ] {
        let experiment = read(BASE, &sets).unwrap();
        let text = experiment.to_toml().unwrap();
        assert_eq!(read(&text, &[]).unwrap(), experiment, "{text}");
    }
    let text = read(BASE, &[]).unwrap().to_toml().unwrap();
    for spelled_out in
        ["rounds = 10", "anneal = 0.5", "optimizer = \"adam\"", "preset = \"simple-cnn\"", "save_every = 0"]
    {
        assert!(text.contains(spelled_out), "{spelled_out} in {text}");
    }
}

/// Whatever the two numbers are: a multiple of both may be far beyond the last round.
#[test]
fn controls_are_in_the_first_studied_round_at_or_after_each_multiple() {
    let with = |every: usize, controls: &str| {
        let experiment = read(BASE, &[&format!("circuits={{every={every},controls={{{controls}}}}}")]).unwrap();
        let circuits = experiment.circuits.unwrap();
        (1..=60).filter(|r| circuits.studies(*r, 60) && circuits.controls(*r, 60)).collect::<Vec<_>>()
    };
    assert_eq!(with(1, ""), [10, 20, 30, 40, 50, 60]);
    assert_eq!(with(7, ""), [14, 21, 35, 42, 56, 60]);
    assert_eq!(with(5, "every=20"), [20, 40, 60]);
    assert_eq!(with(25, ""), [25, 50, 60]);
    assert_eq!(with(100, "every=3"), [60]);
    assert_eq!(with(6, "every=6"), (1..=10).map(|i| 6 * i).collect::<Vec<_>>());
}

#[test]
fn weights_are_saved_in_the_last_round_and_every_so_many() {
    let saved = |save_every| {
        let output = Output { save_every, ..Output::default() };
        (1..=10).filter(|round| output.saves(*round, 10)).collect::<Vec<_>>()
    };
    assert_eq!(saved(0), [10]);
    assert_eq!(saved(4), [4, 8, 10]);
    let checkpoints = |checkpoint_every, rounds| {
        let output = Output { checkpoint_every, ..Output::default() };
        (0..=rounds).filter(|round| output.checkpoints(*round, rounds)).collect::<Vec<_>>()
    };
    assert_eq!(checkpoints(1, 3), [0, 1, 2]);
    assert_eq!(checkpoints(4, 10), [0, 4, 8, 9]);
    assert_eq!(checkpoints(4, 1), [0]);
}

/// Each kind's own defaults, which a plain experiment does not show.
#[test]
fn defaults_of_kinds_are_those_that_are_documented() {
    let partition = |set: &str| read(BASE, &[&format!("partition={{{set}}}")]).unwrap().partition;
    let dirichlet = Partition::Dirichlet { num_clients: 4, alpha: 0.1, min_partition_size: 10, self_balancing: false };
    assert_eq!(partition("kind=\"dirichlet\",num_clients=4,alpha=0.1"), dirichlet);
    let inner = Partition::InnerDirichlet { num_clients: 4, alpha: 0.1, examples_per_client: None };
    assert_eq!(partition("kind=\"inner_dirichlet\",num_clients=4,alpha=0.1"), inner);
    let pathological =
        Partition::Pathological { num_clients: 4, classes_per_client: 2, assignment: Assignment::Random };
    assert_eq!(partition("kind=\"pathological\",num_clients=4,classes_per_client=2"), pathological);
    let bootstrap = Partition::Bootstrap { num_clients: 4, examples_per_client: 2, alpha: None };
    assert_eq!(partition("kind=\"bootstrap\",num_clients=4,examples_per_client=2"), bootstrap);
    let sgd = read(BASE, &["training.optimizer=sgd"]).unwrap().training;
    assert_eq!(sgd.optimizer, Optimizer::Sgd { momentum: 0.0, weight_decay: 0.0 });
    let circuits = read(BASE, &["circuits={}"]).unwrap().circuits.unwrap();
    assert_eq!(circuits.measures.curve, [0.02, 0.05, 0.1, 0.15, 0.25, 0.4, 0.7, 1.0]);
    let layers = "model.layers=[{kind=\"conv\",channels=8,kernel=5},{kind=\"conv\",channels=8},\
                  {kind=\"linear\",features=20},{kind=\"linear\",features=10}]";
    let layers = read(BASE, &[layers]).unwrap().model.layers();
    let conv = |kernel, padding| LayerKind::Conv { channels: 8, kernel, padding, pool: 1 };
    assert_eq!([layers[0].kind, layers[1].kind], [conv(5, 2), conv(3, 1)]);
    let activations: Vec<_> = layers.iter().map(|layer| (layer.name.as_str(), layer.activation)).collect();
    let relu = Activation::Relu;
    assert_eq!(activations, [("conv1", relu), ("conv2", relu), ("fc1", relu), ("fc2", Activation::None)]);
}

/// The networks that names stand for, layer by layer as their papers have them.
#[test]
fn networks_with_a_name_are_those_of_the_papers() {
    let kinds = |name: &str| -> Vec<LayerKind> {
        let layers = read(BASE, &[&format!("model.preset={name}")]).unwrap().model.layers();
        let last = layers.len() - 1;
        assert!(layers.iter().enumerate().all(|(i, layer)| (layer.activation == Activation::Relu) == (i < last)));
        layers.iter().map(|layer| layer.kind).collect()
    };
    let conv = |channels, kernel, padding| LayerKind::Conv { channels, kernel, padding, pool: 2 };
    let linear = |features| LayerKind::Linear { features };
    assert_eq!(kinds("simple-cnn"), [conv(32, 3, 1), conv(64, 3, 1), conv(128, 3, 1), linear(10)]);
    assert_eq!(kinds("mlp-2nn"), [linear(200), linear(200), linear(10)]);
    assert_eq!(kinds("cnn-mcmahan"), [conv(32, 5, 2), conv(64, 5, 2), linear(512), linear(10)]);
}

/// What is accepted up to an end is accepted at it, and nothing beyond.
#[test]
fn the_ends_of_what_is_accepted_are_accepted() {
    for set in [
        "partition={kind=\"dirichlet\",num_clients=3,alpha=1000000}",
        "training.lr=1000",
        "training={optimizer=\"sgd\",weight_decay=1000}",
        "training={optimizer=\"sgd\",momentum=0.9999999}",
        "sparsity.anneal=1",
        "sparsity.anneal=0",
        "cohort.clients_per_round=5",
        "cohort.fraction_train=1",
        "rounds=1000000",
    ] {
        read(BASE, &[set]).unwrap_or_else(|error| panic!("{set}: {error}"));
    }
    // As the single-precision number that kernels get, it is 1.
    assert!(refusal("training={optimizer=\"sgd\",momentum=0.99999999}").contains("training.momentum"));
    assert!(refusal("circuits.measures.curve=[0.1,0.5,0.5]").contains("circuits.measures.curve: is no such list"));
}

/// Clients are lists of classes, however many classes they have.
#[test]
fn clients_of_a_partition_by_class_are_its_lists() {
    let by_class = "partition={kind=\"by_class\",classes=[[0,1,2],[3]]}";
    assert_eq!(read(BASE, &[by_class]).unwrap().partition.num_clients(), 2);
    let error = read(BASE, &[by_class, "cohort.clients_per_round=3"]).unwrap_err().to_string();
    assert!(error.contains("3 clients cannot be drawn from 2"), "{error}");
}

/// The last studied round has them although no multiple lies between it and the one before.
#[test]
fn the_last_round_has_the_controls_whatever_its_number() {
    let circuits = read(BASE, &["circuits={controls={every=10}}"]).unwrap().circuits.unwrap();
    let with: Vec<usize> = (1..=55).filter(|round| circuits.controls(*round, 55)).collect();
    assert_eq!(with, [10, 20, 30, 40, 50, 55]);
}
