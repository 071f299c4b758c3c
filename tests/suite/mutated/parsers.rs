//! Every parser of files that others wrote, with sound inputs to start from. The suite gives them mutations of these, and
//! so does the fuzzer, which has this file too.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use fedcircuit::config::{Override, load, presets};
use fedcircuit::device::Choice;
use fedcircuit::experiment::{Jobs, Request, State, run};
use fedcircuit::model::{Input, LayerSpec, Layout, SpecKind, chain, initial_weights};
use fedcircuit::report::html::Runs;
use fedcircuit::report::read_history;
use flate2::{Compression, write::GzEncoder};

/// A parser.
pub struct Parser {
    /// What it reads.
    pub name: &'static str,
    /// Sound inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Whether an input, which may hold anything, is sound.
    pub parse: fn(&[u8]) -> bool,
}

/// All of them.
pub const ALL: [Parser; 18] = [
    parser("idx pictures", pictures, |bytes| idx(bytes, &[28, 28])),
    parser("idx labels", labels, |bytes| idx(bytes, &[])),
    parser("experiment", experiments, experiment),
    parser("override", overrides, set),
    parser("weights", weights, read_weights),
    parser("checkpoint", checkpoints, |bytes| State::from_checkpoint(bytes).is_ok()),
    parser("history", histories, history),
    parser("report rounds", || vec![ROUNDS.into()], |bytes| reported("rounds.jsonl", bytes)),
    parser("report circuits", || vec![JSON.into()], |bytes| reported("circuits.json", bytes)),
    parser("report partition", || vec![PARTITION.into()], |bytes| reported("partition.csv", bytes)),
    parser("report circuits table", || vec![CIRCUITS.into()], |bytes| reported("circuits.csv", bytes)),
    parser("report controls", || vec![CONTROLS.into()], |bytes| reported("controls.csv", bytes)),
    parser("report curve", || vec![CURVE.into()], |bytes| reported("curve.csv", bytes)),
    parser("report overlap", || vec![OVERLAP.into()], |bytes| reported("overlap.csv", bytes)),
    parser("report overlap means", || vec![MEANS.into()], |bytes| reported("overlap_means.csv", bytes)),
    parser("report analysis", || vec![OVERLAP.into()], |bytes| reported("analyses/patching.csv", bytes)),
    parser("report experiment", experiments, |bytes| reported("experiment.toml", bytes)),
    parser("report environment", || vec![ENVIRONMENT.into()], |bytes| reported("environment.json", bytes)),
];

const fn parser(name: &'static str, seeds: fn() -> Vec<Vec<u8>>, parse: fn(&[u8]) -> bool) -> Parser {
    Parser { name, seeds, parse }
}

/// The one of this name.
pub fn named(name: &str) -> &'static Parser {
    ALL.iter().find(|parser| parser.name == name).expect("a parser's name")
}

thread_local! {
    /// Files for parsers that read them: one folder a thread, in memory where the system has such.
    static DESK: tempfile::TempDir = {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder")
    };
}

fn idx(bytes: &[u8], shape: &[usize]) -> bool {
    DESK.with(|desk| {
        let path = desk.path().join("an-idx-file");
        fs::write(&path, bytes).expect("a file");
        fedcircuit::data::idx::read(&path, shape).is_ok()
    })
}

fn pictures() -> Vec<Vec<u8>> {
    let of = |value| sound_idx(&[3, 28, 28], value);
    vec![of(0), of(7), packed(&of(0))]
}

fn labels() -> Vec<Vec<u8>> {
    let of = |value| sound_idx(&[3], value);
    vec![of(0), of(7), packed(&of(0))]
}

fn sound_idx(dims: &[u32], value: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|side| bytes.extend(side.to_be_bytes()));
    bytes.extend((0..dims.iter().product::<u32>()).map(|i| (i as u8 ^ value) % 10));
    bytes
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory")
}

fn experiment(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| load(text, "a.toml", &[]).is_ok())
}

fn experiments() -> Vec<Vec<u8>> {
    presets::ALL.iter().map(|preset| preset.text.into()).collect()
}

fn set(bytes: &[u8]) -> bool {
    let base = presets::get("paper-3-classes").expect("a preset").text;
    let set = std::str::from_utf8(bytes).ok().and_then(|text| Override::parse(text).ok());
    set.is_some_and(|set| load(base, "a.toml", &[set]).is_ok())
}

fn overrides() -> Vec<Vec<u8>> {
    let sets = ["training.lr=0.1", "partition.classes=[[0,1],[2,3]]", "circuits={classes=[0],steps=3}", "name=\"a\""];
    sets.map(|text| text.as_bytes().to_vec()).into()
}

fn layout() -> Layout {
    let spec = |name: &str, features| LayerSpec { name: name.into(), kind: SpecKind::Linear { features }, relu: false };
    let input = Input { channels: 1, height: 2, width: 3 };
    Layout::new(&chain(&[spec("fc1", 4), spec("fc2", 3)], input, 3).expect("layers that chain"))
}

fn weights() -> Vec<Vec<u8>> {
    let layout = layout();
    [1, 2].map(|seed| fedcircuit::model::save(&layout, &initial_weights(&layout, seed)).expect("weights")).into()
}

fn read_weights(bytes: &[u8]) -> bool {
    DESK.with(|desk| {
        let path = desk.path().join("a.safetensors");
        fs::write(&path, bytes).expect("a file");
        fedcircuit::model::load(&path, &layout()).is_ok_and(|row| {
            assert!(row.iter().all(|value| value.is_finite()), "weights that were taken are numbers");
            true
        })
    })
}

/// A federation of linear models.
const TINY: &str = r#"
name = "tiny"
rounds = 2
data = { source = "digits", train_examples = 20, test_examples = 10 }
partition = { kind = "iid", num_clients = 2 }
model = { layers = [{ kind = "linear", features = 10 }] }
"#;

/// A file of the folder of such a run.
fn of_a_run(file: &str, ended: bool) -> Vec<u8> {
    let desk = tempfile::tempdir().expect("a folder");
    let out = desk.path().join("run");
    let plan = load(TINY, "tiny.toml", &[]).expect("an experiment");
    let request = Request {
        plan,
        device: Choice::Cpu,
        data: "nowhere".into(),
        out: out.clone(),
        resume: false,
        quiet: true,
        jobs: Jobs::Suited { most: usize::MAX },
        live: None,
    };
    let stop = AtomicBool::new(ended);
    assert_eq!(run(&request, &|| Ok(&stop)).is_err(), ended);
    fs::read(out.join("checkpoint").join(file)).expect("the file")
}

fn checkpoints() -> Vec<Vec<u8>> {
    vec![of_a_run("round_0000.safetensors", true)]
}

fn histories() -> Vec<Vec<u8>> {
    vec![of_a_run("history.jsonl", false)]
}

fn history(bytes: &[u8]) -> bool {
    DESK.with(|desk| {
        let path = desk.path().join("history.jsonl");
        fs::write(&path, bytes).expect("a file");
        read_history(&path, 2, 1).is_ok()
    })
}

/// Whether a report can be made of a folder in which one file holds this. Of those that can be read, one in fifty has its
/// page made, which takes longer.
fn reported(name: &str, bytes: &[u8]) -> bool {
    DESK.with(|desk| {
        let folder = desk.path().join(name.replace(['.', '/'], "_"));
        let path = folder.join(name);
        if !folder.exists() {
            fs::create_dir_all(path.parent().unwrap_or(&folder)).expect("a folder");
            fs::write(folder.join("rounds.jsonl"), ROUNDS).expect("a file");
        }
        fs::write(&path, bytes).expect("a file");
        let Ok(runs) = Runs::read(&[folder]) else { return false };
        if cfg!(fuzzing) || bytes.iter().fold(0u32, |sum, byte| sum.wrapping_mul(31) + u32::from(*byte)) % 50 == 0 {
            assert!(runs.page().ends_with("</html>"), "a page is whole");
        }
        true
    })
}

const ROUNDS: &str = r#"{"round":1,"seconds":{"train":1.0,"total":1.5},"global":{"loss":null,"accuracy":0.5,"trained_accuracy":1.0,"per_class_accuracy":[1.0,null]},"clients":[{"client":0,"examples":7,"steps":3,"loss":0.5,"accuracy":1.0},{"client":1,"loss":null,"accuracy":0.25}],"sparsity":{"conv1":0.5,"fc":0.25},"readbacks":1,"bytes_read_back":99}
{"round":2,"seconds":{"total":2.5},"global":{"loss":0.25,"accuracy":0.75,"trained_accuracy":1e-3,"per_class_accuracy":[0.5,1]}}
"#;

const JSON: &str = r#"{
"round_1": {"clients_local_model": {}, "clients_global_model": {}},
"round_2": {"clients_local_model": {"client_0": {"0 - zero": {"active_nodes": {"conv1": [1, 3], "conv2": [0]}, "connectivity": {"conv1": {"1": [0], "3": [0]}, "conv2": {"0": [1, 3]}, "fc": {}}, "metrics": {"accuracy": 100.0, "necessity": null}}}},
"clients_global_model": {"client_0": {"0 - zero": {"active_nodes": {"conv1": [1], "conv2": []}, "connectivity": {"conv1": {"1": [0]}}, "metrics": {"accuracy": 50}}}, "client_3": {"7 - seven": {"active_nodes": {}}}}}
}
"#;

const PARTITION: &str = "client,class,examples\n0,0,5\n0,1,7\n1,1,9\n";

const CIRCUITS: &str = "round,model,client,class,size_conv1,size_conv2,sufficiency,necessity,cross,false_positive,diagnosis,accuracy,damage,\
random_sufficiency,random_percentile,random_p,ceiling
1,local,0,0,2,1,1,0,,0.75,preserved,0.9,0.1,0.25,0.95,0.04,0.5
1,global,0,0,2,1,1,0,0.5,0.75,lost,0.9,0.1,0.25,0.95,0.04,0.5
2,global,1,3,0,0,,,,,,,,,,,
";

const CONTROLS: &str = "round,control,client,class,size_conv1,accuracy,sufficiency,false_positive,iou,chance
1,repeat,0,0,2,0.9,1,0.5,0.75,0.25
2,centralised,1,0,2,0.9,1,0.5,0.75,
";

const CURVE: &str =
    "round,model,client,class,share,accuracy\n1,local,0,0,0.5,0.25\n1,global,0,0,1,0.75\n2,global,1,3,0.5,\n";

const OVERLAP: &str = "round,comparison,level,layer,client_a,class_a,client_b,class_b,size_a,size_b,iou,chance
1,local_global,node,conv1,0,0,0,0,2,2,0.5,0.25
1,local_global,node,all,0,0,0,0,2,2,1,0.25
2,inter_client_local,edge,all,0,0,1,0,2,2,0,0.25
2,mismatched,node,all,0,0,1,3,0,0,,
";

const MEANS: &str = "round,comparison,level,layer,class,pairs,undefined,iou,chance
1,local_global,node,all,,9,0,0.125,
1,local_global,node,all,3,9,0,0.5,0.25
2,mismatched,edge,conv1,,0,9,,
";

const ENVIRONMENT: &str = "{\"version\": \"0.1.0\", \"device\": {\"name\": \"CPU engine\"}, \"wave_size\": 5}\n";
