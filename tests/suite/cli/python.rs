//! What a run leaves, read by the Python packages that it is meant for. `FEDCIRCUIT_PYTHON` names a Python with torch, pandas,
//! pyarrow and tensorboard.

use std::ffi::OsString;
use std::path::Path;

use super::{Desk, Ended};

/// Such a Python with these packages, or `None`, said aloud.
fn python(packages: &[&str]) -> Option<OsString> {
    let Some(python) = std::env::var_os("FEDCIRCUIT_PYTHON") else {
        println!("skipped: FEDCIRCUIT_PYTHON names no Python");
        return None;
    };
    let imports: String = packages.iter().map(|package| format!("import {package}\n")).collect();
    let has = std::process::Command::new(&python).args(["-c", &imports]).output().unwrap().status.success();
    if !has {
        println!("skipped: the Python of FEDCIRCUIT_PYTHON lacks one of {}", packages.join(", "));
    }
    has.then_some(python)
}

fn ask(desk: &Desk, python: &OsString, program: &str, args: &[&str]) -> Ended {
    let mut command = desk.command(python.to_str().unwrap());
    Ended::from(command.args(["-c", program]).args(args).output().unwrap())
}

/// Every scalar of a folder's events, as TensorBoard has them: tag, step, value.
const SCALARS: &str = "
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1]).Reload()
for tag in sorted(events.Tags()['tensors']):
    for event in events.Tensors(tag):
        print(tag, event.step, event.tensor_proto.float_val[0])
for tag in sorted(events.Tags()['scalars']):
    for event in events.Scalars(tag):
        print(tag, event.step, event.value)
";

#[test]
fn tensorboard_reads_every_round_once_also_of_a_resumed_run() {
    let Some(python) = python(&["tensorboard"]) else { return };
    let desk = Desk::new();
    let run = |more: &[&str]| desk.run(&[&["tiny.toml", "--set", "output.tensorboard=true"], more].concat());
    assert_eq!(run(&[]).code, Some(0));
    let read = |folder: &str| ask(&desk, &python, SCALARS, &[folder]);
    let scalars = read("runs/tiny-3");
    assert_eq!(scalars.code, Some(0), "{scalars:?}");
    let metrics = super::rounds(&desk.path("runs/tiny-3"));
    for tag in ["global/accuracy", "global/loss", "class_accuracy/7", "circuits_global/size_all", "seconds/train"] {
        let steps: Vec<Vec<&str>> = scalars.out.lines().map(|line| line.split(' ').collect()).collect();
        let of_tag: Vec<&Vec<&str>> = steps.iter().filter(|words| words[0] == tag).collect();
        assert_eq!(of_tag.iter().map(|words| words[1]).collect::<Vec<_>>(), ["1", "2"], "{tag}: {scalars:?}");
        if tag == "global/accuracy" {
            for (words, round) in of_tag.iter().zip(&metrics) {
                let (read, written) = (words[2].parse::<f64>().unwrap(), round["global"]["accuracy"].as_f64().unwrap());
                assert!((read - written).abs() < 1e-6, "{read} {written}");
            }
        }
    }
    assert!(scalars.out.contains("overlap_local_global/node/conv1/iou 2 "), "{scalars:?}");
}

/// Every table beside its Parquet, by pandas: columns, kinds, and cells.
const TABLES: &str = "
import pathlib, sys
import pandas as pd
for table in sorted(pathlib.Path(sys.argv[1]).rglob('*.csv')):
    text, typed = pd.read_csv(table), pd.read_parquet(table.with_suffix('.parquet'))
    assert list(text.columns) == list(typed.columns), table
    assert len(text) == len(typed), table
    for name in text.columns:
        one, other = text[name], typed[name]
        assert one.isna().equals(other.isna()), (table, name)
        known = ~one.isna()
        assert (one[known] == other[known]).all(), (table, name)
    print(table.name, ' '.join(f'{name}:{typed[name].dtype.kind}' for name in typed.columns))
";

#[test]
fn pandas_reads_the_same_tables_from_parquet() {
    let Some(python) = python(&["pandas", "pyarrow"]) else { return };
    let desk = Desk::new();
    let set = "circuits.analyses=[\"patching\", \"centroids\", \"shared_neurons\", \"ensemble\"]";
    assert_eq!(desk.run(&["tiny.toml", "--set", set]).code, Some(0));
    let exported = desk.fedcircuit(&["export", "runs/tiny-3"]);
    assert!(exported.code == Some(0) && exported.out.contains("runs/tiny-3/overlap.parquet\n"), "{exported:?}");
    let read = ask(&desk, &python, TABLES, &["runs/tiny-3"]);
    assert_eq!(read.code, Some(0), "{read:?}");
    let metrics = "metrics.csv round:i loss:f accuracy:f trained_accuracy:f seconds:f";
    assert!(read.out.lines().any(|line| line == metrics), "{read:?}");
    let none = desk.fedcircuit(&["export", "runs/tiny-3/model"]);
    assert!(none.code == Some(2) && none.err.contains("holds no tables"), "{none:?}");
}

/// Also: a model that is not the logged one is noticed.
#[test]
fn the_reading_example_finds_the_logged_accuracy() {
    let Some(python) = python(&["torch", "pandas", "safetensors"]) else { return };
    let desk = Desk::new();
    let sizes = ["data.train_examples=400", "data.test_examples=300", "circuits.steps=4", "output.save_every=1"];
    // Which is not there: environment.json says what was read.
    let source = ["data.source=mnist", "data.fallback=digits"];
    let sets: Vec<&str> = sizes.iter().chain(&source).flat_map(|set| ["--set", *set]).collect();
    let ended = desk.run(&[&["quickstart", "--rounds", "2", "--out", "out"], &sets[..]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let drawn = desk.fedcircuit(&["data", "draw"]);
    assert!(drawn.code == Some(0) && drawn.out == "digits are in data/digits\n", "{drawn:?}");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/examples/read_run.py");
    let read = || Ended::from(desk.command(python.to_str().unwrap()).arg(&script).arg("out/iid").output().unwrap());
    let ended = read();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.contains("round 2: 0.") && ended.out.contains("conv1"), "{ended:?}");
    // The first round's model in the place of the second's.
    let model = |round| desk.path(&format!("out/iid/model/round_000{round}.safetensors"));
    std::fs::copy(model(1), model(2)).unwrap();
    let ended = read();
    assert!(ended.code == Some(1) && ended.err.contains("not the same"), "{ended:?}");
}
