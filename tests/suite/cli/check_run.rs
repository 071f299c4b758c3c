//! A run's circuits computed again by PyTorch, which sees only the run folder and MNIST (`tests/golden/check_run.py`).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Desk, Ended};
use crate::mnist;

/// Python with the packages of `tests/golden/requirements.txt`, and the folder with MNIST; or `None`, said aloud.
fn tools() -> Option<(OsString, PathBuf)> {
    let Some(python) = std::env::var_os("FEDCIRCUIT_PYTHON") else {
        println!("skipped: FEDCIRCUIT_PYTHON names no Python with PyTorch");
        return None;
    };
    Some((python, mnist::folder()?))
}

fn check(desk: &Desk, (python, data): &(OsString, PathBuf), run: &str) -> Ended {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/check_run.py");
    let mut command = desk.command(python.to_str().unwrap());
    Ended::from(command.arg(script).arg(run).arg("--data").arg(data).output().unwrap())
}

/// A short run of a network that learns, with circuits that are neither empty nor whole.
fn run(desk: &Desk, device: &str, data: &Path) {
    let sets = [
        "data.train_examples=1600",
        "data.test_examples=600",
        "partition={ kind = \"by_class\", classes = [[0, 1, 2, 3], [0, 7, 8, 9]] }",
        "training={ local_epochs = 2, batch_size = 32 }",
        "sparsity.target=0.8",
        "circuits={ classes = [0, 1, 7], steps = 30, l0 = 0.002, measures = { removals = 0, curve = [] } }",
        "output.save_clients=true",
        "output.save_every=1",
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
    let data = data.canonicalize().unwrap();
    let flags = ["run", "paper-iid", "--rounds", "2", "--device", device, "--out", "out", "--data"];
    let ended = desk.fedcircuit(&[&flags[..], &[data.to_str().unwrap()], &sets].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// Also: a count that is one image off, and a channel too many, are found.
#[test]
fn pytorch_measures_the_same_circuits_of_a_run_folder() {
    let Some(tools) = tools() else { return };
    let desk = Desk::new();
    run(&desk, "cpu", &tools.1);
    let ended = check(&desk, &tools, "out");
    println!("{}", ended.out);
    assert_eq!(ended.code, Some(0), "{ended:?}");

    let change = |name: &str, edit: &dyn Fn(&str) -> String| {
        let (path, whole) = (desk.path("out").join(name), fs::read_to_string(desk.path("out").join(name)).unwrap());
        let changed = edit(&whole);
        assert_ne!(changed, whole);
        fs::write(&path, changed).unwrap();
        let ended = check(&desk, &tools, "out");
        fs::write(&path, whole).unwrap();
        ended
    };
    let wrong = change("circuits.json", &|text| text.replacen("\"necessity\":", "\"necessity\":1", 1));
    assert!(wrong.code == Some(1) && wrong.out.contains("necessity, circuits.json of round 1"), "{wrong:?}");
    let wrong = change("circuits.json", &|text| {
        text.replacen("\"conv3\":[", "\"conv3\":[127,", 1).replacen("127,]", "127]", 1)
    });
    assert!(wrong.code == Some(1) && wrong.out.contains("sizes of round 1"), "{wrong:?}");
    let wrong = change("overlap.csv", &|text| text.replacen(",node,conv1,", ",node,conv2,", 1));
    assert!(wrong.code == Some(1) && wrong.out.contains("overlap.csv of"), "{wrong:?}");
    fs::remove_file(desk.path("out/model/round_0001_client_0001.safetensors")).unwrap();
    let refused = check(&desk, &tools, "out");
    assert!(refused.code == Some(2) && refused.err.contains("output.save_clients=true"), "{refused:?}");
}

#[test]
fn pytorch_measures_the_same_circuits_of_a_run_on_the_gpu() {
    let (Some(tools), Some(_)) = (tools(), crate::common::gpu()) else { return };
    let desk = Desk::new();
    run(&desk, "gpu", &tools.1);
    let ended = check(&desk, &tools, "out");
    println!("{}", ended.out);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
