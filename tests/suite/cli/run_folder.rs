//! What a run leaves behind, held to what other programs are promised.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::Value;

use super::{Desk, entries, rounds};

/// The paths that `fedcircuit run` leaves for one federation of one round, but for the report's figures.
const FILES: [&str; 24] = [
    "checkpoint",
    "checkpoint/history.jsonl",
    "checkpoint/round_0000.safetensors",
    "circuits.csv",
    "circuits.json",
    "controls.csv",
    "curve.csv",
    "environment.json",
    "experiment.toml",
    "metrics.csv",
    "model",
    "model/round_0001.safetensors",
    "model/round_0001_client_0000.safetensors",
    "model/round_0001_client_0001.safetensors",
    "model/round_0001_client_0002.safetensors",
    "overlap.csv",
    "overlap_means.csv",
    "partition.csv",
    "plots",
    "plots/circuits.png",
    "plots/rounds.png",
    "report.html",
    "rounds.jsonl",
    "summary.json",
];

#[test]
fn the_quickstart_leaves_every_promised_file() {
    let desk = Desk::new();
    let sets = ["data.train_examples=200", "data.test_examples=60", "circuits.steps=4", "output.save_clients=true"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
    let ended = desk.run(&[&["quickstart", "--rounds", "1", "--out", "out"], &sets[..]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.contains("Overlap of circuits") && ended.out.contains("one-class"), "{ended:?}");
    assert!(ended.err.contains("CPU engine") && ended.err.contains("out/report.html"), "{ended:?}");
    let out = desk.path("out");
    for (run, circuits) in [("iid", 9), ("one-class", 3)] {
        let run = out.join(run);
        assert_eq!(report(&run), FILES);
        tables(&run, circuits);
        json_files(&run);
        weights(&run.join("model/round_0001.safetensors"));
    }
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("2 runs compared"));
    for picture in ["plots/rounds.png", "iid/plots/rounds.png", "iid/plots/circuits.png"] {
        assert!(fs::read(out.join(picture)).unwrap().starts_with(b"\x89PNG\r\n\x1a\n"), "{picture}");
    }
}

/// A folder's entries without the figures of its report, each of which is there in both formats and in the page.
fn report(run: &Path) -> Vec<String> {
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    let mut entries = entries(run);
    let stem = |path: &String| Some(path.strip_prefix("plots/")?.strip_suffix(".svg")?.to_string());
    let figures: Vec<String> = entries.iter().filter_map(stem).collect();
    assert!(figures.len() > 10, "{figures:?}");
    for id in figures {
        assert!(page.contains(&format!("<section id=\"{id}\">")), "{id}");
        let files = [format!("plots/{id}.png"), format!("plots/{id}.svg")];
        let before = entries.len();
        entries.retain(|path| !files.contains(path));
        assert_eq!(entries.len(), before - 2, "{id}");
    }
    entries
}

/// Headers, and rows for so many circuits in each model.
fn tables(run: &Path, circuits: usize) {
    let lines =
        |name: &str| -> Vec<String> { fs::read_to_string(run.join(name)).unwrap().lines().map(String::from).collect() };
    let metrics = lines("metrics.csv");
    assert_eq!((metrics[0].as_str(), metrics.len()), ("round,loss,accuracy,trained_accuracy,seconds", 2));
    assert_eq!(lines("partition.csv")[0], "client,class,examples");
    let circuit = lines("circuits.csv");
    assert!(circuit[0].starts_with("round,model,client,class,size_conv1,size_conv2,size_conv3,sufficiency,necessity"));
    assert_eq!(circuit.len(), 1 + 2 * circuits);
    let overlap = lines("overlap.csv");
    let columns = "round,comparison,level,layer,client_a,class_a,client_b,class_b,size_a,size_b,iou,chance";
    assert_eq!(overlap[0], columns);
    assert_eq!(lines("overlap_means.csv")[0], "round,comparison,level,layer,class,pairs,undefined,iou,chance");
    for layer in ["conv1", "conv2", "conv3", "all"] {
        let rows = overlap.iter().filter(|row| row.starts_with(&format!("1,local_global,node,{layer},")));
        assert_eq!(rows.count(), circuits, "{layer}");
    }
}

fn json_files(run: &Path) {
    let object = |name: &str| -> Value { serde_json::from_slice(&fs::read(run.join(name)).unwrap()).unwrap() };
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");

    let round = rounds(run).remove(0);
    assert_eq!(keys(&round), "bytes_read_back clients dropped global readbacks round seconds sparsity");
    assert_eq!(keys(&round["seconds"]), "circuits evaluate total train");
    assert_eq!(keys(&round["global"]), "accuracy loss per_class_accuracy trained_accuracy");
    assert_eq!(keys(&round["clients"][0]), "accuracy client examples loss steps");
    assert_eq!(keys(&round["sparsity"]), "conv1 conv2 conv3 fc");
    assert_eq!((&round["readbacks"], round["clients"].as_array().unwrap().len()), (&Value::from(1), 3));

    let circuits = object("circuits.json");
    for side in ["clients_local_model", "clients_global_model"] {
        let circuit = &circuits["round_1"][side]["client_0"]["0 - zero"];
        assert_eq!(keys(circuit), "active_nodes connectivity metrics");
        assert_eq!(keys(&circuit["active_nodes"]), "conv1 conv2 conv3");
    }
    let metrics = |side: &str| keys(&circuits["round_1"][side]["client_0"]["0 - zero"]["metrics"]);
    assert_eq!(metrics("clients_local_model"), "accuracy necessity");
    assert_eq!(metrics("clients_global_model"), "accuracy local_mask_on_global_weights_acc necessity");

    let environment = object("environment.json");
    assert_eq!(keys(&environment), "data device limits threads version wave_size");
    assert_eq!(
        (keys(&environment["data"]).as_str(), &environment["data"]["source"]),
        ("checksum source", &Value::from("digits"))
    );
    assert_eq!(keys(&environment["device"]), "backend driver name");
    assert_eq!(object("summary.json")["rounds"], 1);
}

/// The folder says what was read, whatever was asked for.
#[test]
fn data_that_took_the_place_of_others_are_named() {
    let desk = Desk::new();
    let mnist = ["--set", "data.source=\"mnist\"", "--set", "data.fallback=\"digits\"", "--data", "nowhere"];
    let ended = desk.run(&[&["tiny.toml", "--rounds", "1", "--quiet", "--out", "out"][..], &mnist].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let environment: Value = serde_json::from_slice(&fs::read(desk.path("out/environment.json")).unwrap()).unwrap();
    assert_eq!(environment["data"]["source"], "digits");
    let page = fs::read_to_string(desk.path("out/report.html")).unwrap();
    assert!(page.contains("1 seed · digits · iid") && page.contains("MNIST's files were not found: the images are"));
    // Of several sets, it is told of every one that it happened to, and once.
    let compare = "[[compare]]\nname = \"a\"\nset = {}\n[[compare]]\nname = \"b\"\n\
                   set = { \"data.source\" = \"mnist\", \"data.fallback\" = \"digits\" }\n[[compare]]\nname = \"c\"\n\
                   set = { \"data.source\" = \"mnist\", \"data.fallback\" = \"digits\", \"data.test_examples\" = 30 }\n";
    let tiny = fs::read_to_string(desk.path("tiny.toml")).unwrap();
    fs::write(desk.path("sets.toml"), format!("{tiny}{compare}")).unwrap();
    let ended = desk.run(&["sets.toml", "--rounds", "1", "--out", "sets", "--data", "nowhere"]);
    assert!(ended.code == Some(0) && ended.err.matches("built-in digits").count() == 1, "{ended:?}");
}

/// A class that is listed, and that a client lacks: no row in the table, an empty entry in the paper's layout.
#[test]
fn a_listed_class_that_a_client_lacks_is_empty_in_circuits_json_alone() {
    let desk = Desk::new();
    let dealt = "partition={ kind = \"by_class\", classes = [[1, 2], [3, 7], [4]] }";
    let ended = desk.run(&["tiny.toml", "--rounds", "1", "--out", "out", "--set", dealt]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let out = desk.path("out");
    let circuits: Value = serde_json::from_slice(&fs::read(out.join("circuits.json")).unwrap()).unwrap();
    for side in ["clients_local_model", "clients_global_model"] {
        let clients = circuits["round_1"][side].as_object().unwrap();
        let held = |client: &str, class: &str| !clients[client][class]["metrics"].as_object().unwrap().is_empty();
        for (client, [one, seven]) in
            [("client_0", [true, false]), ("client_1", [false, true]), ("client_2", [false; 2])]
        {
            assert_eq!((held(client, "1 - one"), held(client, "7 - seven")), (one, seven), "{side} {client}");
        }
        assert_eq!(clients["client_2"]["1 - one"]["active_nodes"]["conv1"], Value::Array(Vec::new()));
    }
    assert_eq!(fs::read_to_string(out.join("circuits.csv")).unwrap().lines().count(), 1 + 4);
}

fn weights(path: &Path) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut found: Vec<_> = file.iter().map(|(name, tensor)| (name, tensor.shape().to_vec())).collect();
    found.sort();
    let expected = [
        ("conv1.bias", vec![32]),
        ("conv1.weight", vec![32, 1, 3, 3]),
        ("conv2.bias", vec![64]),
        ("conv2.weight", vec![64, 32, 3, 3]),
        ("conv3.bias", vec![128]),
        ("conv3.weight", vec![128, 64, 3, 3]),
        ("fc.bias", vec![10]),
        ("fc.weight", vec![10, 1152]),
    ];
    assert_eq!(found, expected);
}

/// Six analyses leave an object each, and a table where they found something; one that lacks its input says why.
#[test]
fn analyses_leave_an_object_and_a_table_each() {
    let desk = Desk::new();
    let all = "[\"patching\",\"dominators\",\"ensemble\",\"cascade\",\"centroids\",\"shared_neurons\"]";
    let analyses = format!("circuits.analyses={all}");
    let sets = ["--set", &analyses, "--set", "circuits.classes=[1]", "--set", "circuits.l0=0"];
    let ended = desk.run(&[&["tiny.toml", "--out", "out"], &sets[..]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let found: Value = serde_json::from_slice(&fs::read(desk.path("out/analyses.json")).unwrap()).unwrap();
    assert_eq!((found.as_object().unwrap().len(), &found["round"]), (7, &Value::from(2)));
    for name in ["dominators", "ensemble", "cascade"] {
        let why = "only class 1 has a circuit: it takes two";
        assert_eq!(found[name], serde_json::json!({ "skipped": why }));
        assert!(ended.err.contains(&format!("{name} skipped: {why}")), "{ended:?}");
    }
    let heads = [
        ("patching", "layer,channel,class,users,source_client,images,rescued,rescue_rate"),
        ("centroids", "class_a,class_b,distance,norm_a,norm_b,synonyms,winner"),
        ("shared_neurons", "from,with,channels,class,images,accuracy_before,accuracy_after,change"),
    ];
    for (name, columns) in heads {
        let table = fs::read_to_string(desk.path(&format!("out/analyses/{name}.csv"))).unwrap();
        assert_eq!((table.lines().next(), table.lines().count() > 2), (Some(columns), true), "{name}");
        assert!(found[name].is_object() && found[name].get("skipped").is_none());
    }
    assert_eq!(entries(&desk.path("out/analyses")).len(), 3);
}

#[test]
fn quiet_prints_nothing_and_the_folder_is_named_after_name_and_seed() {
    let desk = Desk::new();
    let ended = desk.run(&["tiny.toml", "--rounds", "1", "--seed", "8", "--quiet"]);
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (Some(0), "", ""));
    assert!(desk.path("runs/tiny-8/summary.json").is_file());
}

#[test]
fn without_circuits_there_are_no_circuit_files() {
    let desk = Desk::new();
    let (without, _) = super::TINY.split_once("[circuits]").unwrap();
    fs::write(desk.path("plain.toml"), without).unwrap();
    let ended = desk.run(&["plain.toml", "--out", "out"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.out.contains("Overlap"), "{ended:?}");
    let about_circuits = |path: &&String| path.contains("circuit") || path.contains("overlap");
    assert_eq!(entries(&desk.path("out")).iter().find(about_circuits), None);
}

/// The promise of `experiment.toml`: running it again gives the same run, here even one client at a time.
#[test]
fn the_resolved_experiment_gives_the_same_run_again() {
    let desk = Desk::new();
    let first = desk.run(&["tiny.toml", "--seed", "11", "--set", "training.lr=0.003", "--out", "first"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    for (out, set) in [("second", "device.threads=2"), ("third", "device={max_wave=1,threads=1}")] {
        let ended = desk.run(&["first/experiment.toml", "--out", out, "--set", set]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let timeless = |run: &str| {
            let mut rounds = rounds(&desk.path(run));
            rounds.iter_mut().for_each(|round| drop(round.as_object_mut().unwrap().remove("seconds")));
            rounds
        };
        assert_eq!(timeless("first"), timeless(out));
        for file in
            ["circuits.json", "overlap.csv", "overlap_means.csv", "partition.csv", "model/round_0002.safetensors"]
        {
            let read = |run: &str| fs::read(desk.path(run).join(file)).unwrap();
            assert!(read("first") == read(out), "{file} of {out}");
        }
    }
}

#[test]
fn a_runs_weights_start_another_run() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["tiny.toml", "--out", "first", "--quiet"]).code, Some(0));
    let ended = desk.run(&["tiny.toml", "--out", "second", "--set", "model.init=first/model/round_0002.safetensors"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let loss = |run: &str, round: usize| rounds(&desk.path(run))[round]["clients"][0]["loss"].as_f64().unwrap();
    assert!(loss("second", 0) < loss("first", 0), "{} {}", loss("second", 0), loss("first", 0));
}

/// The README's experiment is whole: every key it shows is accepted.
#[test]
fn the_readmes_experiment_is_accepted() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (experiment, _) = rest.split_once("```").unwrap();
    let plan = fedcircuit::config::load(experiment, "README.md", &[]).unwrap();
    assert_eq!(plan.name, "two-kinds-of-clients");
}

#[test]
fn presets_devices_and_data_sets_are_listed() {
    let desk = Desk::new();
    let presets = desk.fedcircuit(&["presets"]);
    assert!(presets.code == Some(0) && presets.out.contains("paper-3-classes"), "{presets:?}");
    let shown = desk.fedcircuit(&["presets", "show", "quickstart"]);
    assert!(shown.code == Some(0) && shown.out.contains("[[compare]]"), "{shown:?}");
    let devices: Value = serde_json::from_str(&desk.fedcircuit(&["devices", "--json"]).out).unwrap();
    assert_eq!((&devices[0]["name"], &devices[0]["kind"]), (&Value::from("cpu"), &Value::from("engine")));
    assert_eq!(devices[0]["backend"], "rayon", "as in environment.json");
    assert!(desk.fedcircuit(&["data", "list"]).out.contains("digits"));
}
