//! What the program refuses: it exits with 2, names what is at fault and what would be accepted, and writes nothing.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::{Compression, write::GzEncoder};
use safetensors::tensor::{Dtype, TensorView};

use super::{Desk, Ended};

/// Holds a refusal to its promises; `says` must be in the message.
fn refused(desk: &Desk, before: &[String], ended: &Ended, says: &[&str]) {
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("error: ") && !ended.err.contains("panicked"), "{ended:?}");
    for part in says {
        assert!(ended.err.contains(part), "{part:?} is not in {ended:?}");
    }
    assert_eq!(ended.out, "");
    assert_eq!(desk.entries(), before, "{ended:?} wrote something");
}

/// Runs `tiny.toml` with one more `--set`, which must be refused.
fn refuse_set(desk: &Desk, set: &str, says: &[&str]) {
    let before = desk.entries();
    refused(desk, &before, &desk.run(&["tiny.toml", "--set", set]), says);
}

#[test]
fn keys_and_values_of_the_experiment() {
    let desk = Desk::new();
    for (set, says) in [
        ("rouns=3", ["--set rouns: unknown key", "did you mean rounds?"]),
        ("trainng.lr=3", ["--set trainng: unknown key", "did you mean training?"]),
        ("sparsity.traget=0.5", ["sparsity.traget: unknown key", "did you mean target?"]),
        ("rounds=0", ["rounds: the number 0", "from 1 to 1000000"]),
        ("rounds=-4", ["rounds: the number -4", "from 1 to 1000000"]),
        ("rounds=99999999999999", ["rounds: the number 99999999999999", "from 1 to 1000000"]),
        ("training.batch_size=0", ["training.batch_size: the number 0", "from 1 to 65536"]),
        ("training.local_epochs=-1", ["training.local_epochs: the number -1", "from 1"]),
        ("data.train_examples=999999999999", ["data.train_examples: the number", "accepted"]),
        ("sparsity.target=1.0", ["sparsity.target: the number 1", "below 1"]),
        ("sparsity.target=-0.1", ["sparsity.target: the number -0.1", "from 0"]),
        ("sparsity.target=nan", ["sparsity.target: the number nan", "below 1"]),
        ("training.lr=nan", ["training.lr: the number nan", "above 0"]),
        ("training.lr=inf", ["training.lr: the number inf", "above 0"]),
        ("training.lr=fast", ["training.lr: the text \"fast\"", "a number above 0"]),
        ("circuits.steps=0", ["circuits.steps: the number 0", "from 1"]),
        ("model={preset=\"simple_cnn\"}", ["model.preset: the text \"simple_cnn\"", "did you mean simple-cnn?"]),
        (
            "model={layers=[{kind=\"linear\",features=10}]}",
            ["circuits: the model has no hidden layer", "leave [circuits] out"],
        ),
    ] {
        refuse_set(&desk, set, &says);
    }
    let before = desk.entries();
    refused(
        &desk,
        &before,
        &desk.fedcircuit(&["run", "tiny.toml", "--device", ""]),
        &["--device: is empty", "auto, cpu, gpu"],
    );
}

#[test]
fn partitions_that_the_data_cannot_meet() {
    let desk = Desk::new();
    for (set, says) in [
        ("partition.num_clients=121", ["partition.num_clients: 121 clients cannot share 120", "at most 120"]),
        ("partition.num_clients=0", ["partition.num_clients: the number 0", "from 1"]),
        (
            "partition={kind=\"dirichlet\",num_clients=10,alpha=0.5,min_partition_size=13}",
            ["partition.min_partition_size: ", "give 1 to 12"],
        ),
        (
            "partition={kind=\"dirichlet\",num_clients=10,alpha=0.001,min_partition_size=12}",
            ["partition.alpha: ", "min_partition_size"],
        ),
        ("partition={kind=\"by_class\",classes=[[0],[10]]}", ["partition.classes[1]: the number 10", "from 0 to 9"]),
        ("partition={kind=\"shards\",num_clients=9,shards_per_client=2,shard_size=50}", ["shard", "give"]),
        ("partition={kind=\"pathological\",num_clients=3,classes_per_client=11}", ["classes_per_client", "10"]),
    ] {
        refuse_set(&desk, set, &says);
    }
}

#[test]
fn layers_that_do_not_chain_and_models_that_do_not_fit() {
    let desk = Desk::new();
    let conv = "{kind=\"conv\",channels=4,kernel=5,padding=0,pool=2}";
    let linear = "{kind=\"linear\",features=10}";
    for (set, says) in [
        (format!("model.layers=[{conv},{conv},{conv},{linear}]"), ["model.layers[2]", "4 x 4 x 4"]),
        (
            "model.layers=[{kind=\"linear\",features=7}]".into(),
            ["model.layers[0]", "one output for each of 10 classes"],
        ),
        (format!("model.layers=[{linear},{conv},{linear}]"), ["model.layers[1]", "convolution"]),
        ("device.memory=\"1KiB\"".into(), ["needs", "device.memory allows"]),
    ] {
        refuse_set(&desk, &set, &says);
    }
}

/// The search for a circuit takes more than training here; that must not come out hours later, after a round.
#[test]
fn circuits_that_do_not_fit() {
    let sets = ["circuits.steps=100000", "device.memory=\"3MiB\""];
    let desk = Desk::new();
    let before = desk.entries();
    let ended = desk.run(&["tiny.toml", "--set", sets[0], "--set", sets[1]]);
    refused(&desk, &before, &ended, &["circuits.steps = 100000) needs", "device.memory allows 3.0 MiB"]);
}

#[test]
fn experiments_devices_and_folders() {
    let desk = Desk::new();
    fs::write(desk.path("typo.toml"), super::TINY.replace("[partition]", "[partiton]")).unwrap();
    fs::write(desk.path("broken.toml"), "name = ").unwrap();
    fs::create_dir(desk.path("taken")).unwrap();
    fs::write(desk.path("taken/rounds.jsonl"), "precious").unwrap();
    let before = desk.entries();
    for (args, says) in [
        (vec!["typo.toml"], ["typo.toml: partiton: unknown key", "did you mean partition?"]),
        (vec!["broken.toml"], ["broken.toml: is not valid TOML", "accepted"]),
        (
            vec!["absent.toml"],
            ["absent.toml: there is no such file", "accepted: the path of an experiment in TOML, or a preset"],
        ),
        (vec!["quikstart"], ["quikstart: is neither a file nor a preset", "did you mean quickstart?"]),
        (vec!["tiny.toml", "--out", "taken"], ["--out: taken exists", "nothing is written over"]),
        (vec!["tiny.toml", "--out", "typo.toml"], ["typo.toml is not a folder", "--out"]),
        (vec!["tiny.toml", "--rounds", "0"], ["--rounds", "a whole number from 1 to 1000000"]),
        (vec!["tiny.toml", "--seed", "x"], ["--seed", "a whole number from 0"]),
        (vec!["tiny.toml", "--set", "compare=[]"], ["--set compare: cannot be set", "keys of the experiments"]),
        (
            vec!["tiny.toml", "--set", "model.init=none.safetensors"],
            ["model.init: ", "none.safetensors cannot be read"],
        ),
        (vec!["tiny.toml", "--sed", "1"], ["--sed", "--seed"]),
    ] {
        refused(&desk, &before, &desk.run(&args), &says);
    }
    let nosuch = desk.fedcircuit(&["run", "tiny.toml", "--device", "nosuch"]);
    refused(&desk, &before, &nosuch, &["--device: no adapter's name contains \"nosuch\"", "accepted: auto, cpu, gpu"]);
    let fetch = desk.fedcircuit(&["data", "fetch", "mnits"]);
    refused(&desk, &before, &fetch, &["no data set is called \"mnits\"", "did you mean mnist?"]);
    assert_eq!(fs::read_to_string(desk.path("taken/rounds.jsonl")).unwrap(), "precious");
}

/// An IDX file of bytes.
fn idx(dims: &[u32], value: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|dim| bytes.extend(dim.to_be_bytes()));
    bytes.resize(bytes.len() + dims.iter().product::<u32>() as usize, value);
    bytes
}

/// Forty pictures to learn from and ten to test with.
fn small_mnist(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for (name, dims, value) in [
        ("train-images-idx3-ubyte", vec![40, 28, 28], 9),
        ("train-labels-idx1-ubyte", vec![40], 1),
        ("t10k-images-idx3-ubyte", vec![10, 28, 28], 9),
        ("t10k-labels-idx1-ubyte", vec![10], 1),
    ] {
        fs::write(folder.join(name), idx(&dims, value)).unwrap();
    }
}

/// A case: the file, its new content or `None` for no file, and what the message says beside the file's name.
type Damage = (&'static str, Option<Vec<u8>>, &'static str);

fn damages() -> Vec<Damage> {
    let pictures = idx(&[40, 28, 28], 9);
    let changed = |at: usize, value: u8| {
        let mut bytes = pictures.clone();
        bytes[at] = value;
        Some(bytes)
    };
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&pictures).unwrap();
    let mut corrupt = encoder.finish().unwrap();
    let end = corrupt.len();
    let cut = corrupt[..end - 9].to_vec();
    corrupt[end - 8] ^= 1;
    let (images, labels) = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte");
    vec![
        (labels, None, "is missing"),
        (images, Some(Vec::new()), "cut short"),
        (images, Some(pictures[..1000].to_vec()), "ends after 984"),
        (images, Some(b"<!doctype html>".to_vec()), "not an IDX file"),
        (images, changed(2, 0x0d), "type code 0d"),
        (images, changed(3, 2), "2 dimensions, not 3"),
        (images, changed(11, 27), "shape [27, 28], not [28, 28]"),
        (images, changed(7, 0), "no items"),
        (images, changed(4, 0xff), "at most"),
        (images, Some([pictures.clone(), vec![0]].concat()), "more bytes follow"),
        (images, Some(corrupt), "gzip stream is damaged"),
        (images, Some(cut), "cut short"),
        (labels, Some(idx(&[39], 1)), "39 labels for the 40 pictures"),
        (labels, Some(idx(&[40], 10)), "label number 0 (counted from 0) is 10"),
        ("t10k-labels-idx1-ubyte", Some(idx(&[10], 255)), "is 255, not a digit"),
    ]
}

#[test]
fn damaged_data() {
    let desk = Desk::new();
    let run = ["tiny.toml", "--data", "files", "--set", "data={source=\"mnist\"}"];
    let before = desk.entries();
    refused(&desk, &before, &desk.run(&run), &["files: no MNIST files here", "fedcircuit data fetch mnist"]);
    let folder = desk.path("files/mnist");
    for (file, content, says) in damages() {
        small_mnist(&folder);
        match content {
            Some(bytes) => fs::write(folder.join(file), bytes).unwrap(),
            None => fs::remove_file(folder.join(file)).unwrap(),
        }
        refused(&desk, &desk.entries(), &desk.run(&run), &[file, says]);
    }
    small_mnist(&folder);
    let more = [&run[..4], &["data={source=\"mnist\",train_examples=41}"]].concat();
    refused(&desk, &desk.entries(), &desk.run(&more), &["data.train_examples: 41 wanted", "accepted: 1 to 40"]);
    let ended = desk.run(&[&run[..], &["--set", "circuits.classes=[1]"]].concat());
    assert_eq!(ended.code, Some(0), "the undamaged files are accepted: {ended:?}");
}

#[test]
fn folders_to_write_to_that_are_files() {
    let desk = Desk::new();
    let before = desk.entries();
    for args in [
        &["data", "draw", "--data", "tiny.toml"][..],
        &["data", "fetch", "mnist", "--data", "tiny.toml/sets"],
        &["man", "tiny.toml"],
        &["report", ".", "--out", "tiny.toml/page"],
    ] {
        refused(&desk, &before, &desk.fedcircuit(args), &["tiny.toml is a file", "accepted: a folder"]);
    }
}

#[test]
fn weights_of_another_model() {
    let desk = Desk::new();
    let fc = ("fc.weight", vec![10, 784]);
    let bias = ("fc.bias", vec![10]);
    let set = "model={init=\"w.safetensors\",layers=[{kind=\"linear\",features=10}]}";
    for (tensors, value, says) in [
        (vec![fc.clone()], 0.0, "lacks the tensor \"fc.bias\""),
        (vec![fc.clone(), bias.clone(), ("conv1.bias", vec![32])], 0.0, "holds a tensor \"conv1.bias\""),
        (vec![("fc.weight", vec![784, 10]), bias.clone()], 0.0, "fc.weight has shape [784, 10], the model [10, 784]"),
        (vec![fc.clone(), bias.clone()], f32::NAN, "holds NaN"),
    ] {
        let bytes: Vec<Vec<u8>> =
            tensors.iter().map(|(_, shape)| value.to_le_bytes().repeat(shape.iter().product())).collect();
        let views = tensors
            .iter()
            .zip(&bytes)
            .map(|((name, shape), bytes)| (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
        fs::write(desk.path("w.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
        refuse_set(&desk, set, &["w.safetensors: ", says, "fc.weight [10, 784]"]);
    }
    fs::write(desk.path("w.safetensors"), "weights").unwrap();
    refuse_set(&desk, set, &["w.safetensors: not a readable safetensors file", "accepted: float32 tensors"]);
    refuse_set(
        &desk,
        "model.init=absent.safetensors",
        &["model.init: ", "absent.safetensors cannot be read: ", "accepted: a safetensors file"],
    );
}
