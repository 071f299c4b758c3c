//! Runs that end before their last round: what was finished stays whole on disk, and the exit status is 1.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::resume::stop_after;
use super::{Desk, Ended, entries, rounds};

/// So many rounds that none of these runs ends by itself.
const ENDLESS: [&str; 6] = ["tiny.toml", "--rounds", "100000", "--out", "out", "--device=cpu"];

/// All files that grow hold the same number of rounds, which is returned.
fn whole_rounds(folder: &Path) -> usize {
    let rows = |name: &str| fs::read_to_string(folder.join(name)).unwrap().lines().count() - 1;
    let found = rounds(folder);
    let numbers: Vec<u64> = found.iter().map(|round| round["round"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=found.len() as u64).collect::<Vec<_>>());
    let circuits: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("circuits.json")).unwrap()).unwrap();
    assert_eq!(circuits.as_object().unwrap().len(), found.len());
    // Two clients with two circuits each, in the local model and in the global one.
    assert_eq!(rows("metrics.csv"), found.len());
    assert_eq!(rows("circuits.csv"), 8 * found.len());
    assert_eq!(rows("overlap.csv"), overlaps(found.len()));
    assert!(!entries(folder).iter().any(|path| path.contains(".writing-") || path == "summary.json"));
    found.len()
}

/// Rows of overlap.csv after so many rounds of two clients with the same two circuits: for two layers and all of them, of
/// channels and of edges, each of local_global 4, mismatched 4, inter-client and inter-class 2 in either model, and from
/// the second round on stability 4 in either model.
fn overlaps(rounds: usize) -> usize {
    3 * 2 * ((4 + 4 + 4 * 2) * rounds + 2 * 4 * rounds.saturating_sub(1))
}

#[test]
fn signals_end_the_run_after_the_step_under_way() {
    for signal in ["-INT", "-TERM"] {
        let desk = Desk::new();
        let mut command = desk.command(env!("CARGO_BIN_EXE_fedcircuit"));
        let command = command.arg("run").args(ENDLESS).stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = command.spawn().unwrap();
        let out = desk.path("out");
        let start = Instant::now();
        while fs::read_to_string(out.join("rounds.jsonl")).unwrap_or_default().lines().count() < 2 {
            assert!(start.elapsed() < Duration::from_secs(60), "no round in a minute");
            sleep(Duration::from_millis(5));
        }
        assert!(Command::new("kill").args([signal, &run.id().to_string()]).status().unwrap().success());
        let ended = Ended::from(run.wait_with_output().unwrap());
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let done = whole_rounds(&out);
        assert!(done >= 2 && ended.err.contains(&format!("stopped after round {done} as asked")), "{ended:?}");
    }
}

/// While digits are drawn nothing is there yet that a signal could leave undone: the first ends the program.
#[test]
fn a_signal_ends_the_drawing_of_digits() {
    let desk = Desk::new();
    let mut command = desk.command(env!("CARGO_BIN_EXE_fedcircuit"));
    let many = "data={source=\"digits\",train_examples=1000000}";
    command.args(["run", "tiny.toml", "--device=cpu", "--out", "out", "--set", many]);
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(run.stderr.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap().starts_with("device: ")));
    // Not an interrupt, which a shell's background work is deaf to until it asks for it.
    assert!(Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap().success());
    assert_eq!(run.wait().unwrap().signal(), Some(15));
    assert!(!desk.path("out").exists());
}

/// Where nobody reads what a run says, it goes on; and an error is still one.
#[test]
#[cfg(target_os = "linux")]
fn standard_error_that_cannot_be_written_stops_nothing() {
    let desk = Desk::new();
    // Some of whose classes are no client's, which is told.
    let noted = "partition={kind=\"pathological\",num_clients=2,classes_per_client=1}";
    let few = ["tiny.toml", "--rounds", "1", "--set", "circuits.steps=1", "--set", noted];
    for (args, code) in [(&[&few[..], &["--out", "out"]].concat()[..], 0), (&["nothing"], 2)] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = desk.command(env!("CARGO_BIN_EXE_fedcircuit"));
        let status =
            command.args(["run", "--device=cpu"]).args(args).stderr(full).stdout(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
    assert!(desk.path("out/summary.json").exists());
    let ended = desk.run(&few);
    let told = ended.err.contains("note: partition: classes that no client was assigned");
    assert!(told && !ended.err.contains('\u{1b}'), "{ended:?}");
    let quiet = desk.run(&[&few[..], &["--quiet", "--out", "quiet"]].concat());
    assert_eq!((quiet.code, quiet.err.as_str()), (Some(0), ""));
}

/// A shell in which no file grows beyond `blocks`, and a write that would says so instead of ending the program: what a
/// full disk does.
pub(super) fn on_a_full_disk(desk: &Desk, blocks: usize, args: &[&str]) -> Ended {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    let program = env!("CARGO_BIN_EXE_fedcircuit");
    let output = desk.command("bash").args(["-c", &script, "bash", program, "run"]).args(args).output().unwrap();
    Ended::from(output)
}

#[test]
fn a_full_disk_leaves_the_earlier_rounds() {
    let desk = Desk::new();
    let ended = on_a_full_disk(&desk, 16, &ENDLESS);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("cannot write out/") && !ended.err.contains("panicked"), "{ended:?}");
    assert!(whole_rounds(&desk.path("out")) >= 1);
}

#[test]
fn weights_that_cannot_be_written_leave_the_earlier_rounds() {
    let desk = Desk::new();
    let args = [&ENDLESS[..], &["--set", "output.save_every=1"]].concat();
    stop_after(&desk, &args, 2, "out/rounds.jsonl");
    let done = whole_rounds(&desk.path("out"));
    // A folder in the way of the next round's.
    let weights = format!("out/model/round_{:04}.safetensors", done + 1);
    fs::create_dir_all(desk.path(&weights).join("in/the/way")).unwrap();
    let ended = desk.fedcircuit(&[&["run"], &args[..], &["--resume"]].concat());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains(&format!("cannot write {weights}")), "{ended:?}");
    assert_eq!(whole_rounds(&desk.path("out")), done);
}

#[test]
fn training_that_diverges_says_where() {
    let desk = Desk::new();
    // Every step multiplies the weights by -999.
    let sets = ["--set", "training={optimizer=\"sgd\",weight_decay=1,lr=1000,batch_size=16,local_epochs=9}"];
    let ended = desk.run(&[&["tiny.toml", "--out", "out"], &sets[..]].concat());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("training diverged in round 1, at client"), "{ended:?}");
    assert!(ended.err.contains("step") && ended.err.contains("lower training.lr (now 1000)"), "{ended:?}");
    assert_eq!(rounds(&desk.path("out")), Vec::<serde_json::Value>::new());
}
