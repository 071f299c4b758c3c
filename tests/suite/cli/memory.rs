//! How much memory a run takes: what it said it would, whatever the number of clients and rounds. Seen through Linux's
//! `/proc`, elsewhere not at all.
#![cfg(target_os = "linux")]

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{Desk, rounds};
use crate::common::gpu;

/// Many small clients of a model that is large beside their images.
const CROWD: &str = r#"
name = "crowd"
seed = 1
rounds = 1
data = { source = "digits", train_examples = 1000, test_examples = 100 }
partition = { kind = "bootstrap", num_clients = 150, examples_per_client = 6 }
model = { preset = "mlp-2nn" }
training = { local_epochs = 1, batch_size = 10, optimizer = "sgd", lr = 0.05 }
device = { memory = "100MiB" }
"#;

/// The first number before " MiB" in the line that begins so.
fn mib(text: &str, line: &str) -> f64 {
    let found = text.lines().find_map(|l| l.strip_prefix(line)).unwrap_or_else(|| panic!("no {line:?} in {text}"));
    found.split(" MiB").next().unwrap().trim().parse().unwrap()
}

/// What a run said that it would take, in MiB.
fn planned(told: &str) -> f64 {
    told.lines().filter(|l| l.starts_with("plan: ") && l.contains(" MiB ")).map(|l| mib(l, "plan: ")).sum()
}

/// In several waves, the peak is within a tenth of the plan, and the model has the bits of one wave.
#[test]
fn the_peak_is_what_was_planned_and_waves_leave_no_trace() {
    let desk = Desk::new();
    fs::write(desk.path("crowd.toml"), CROWD).unwrap();
    let devices = ["cpu", "gpu"];
    for device in &devices[..if gpu().is_some() { 2 } else { 1 }] {
        let weights = |out: &str| fs::read(desk.path(out).join("model/round_0001.safetensors")).unwrap();
        let run = |out: &str, set: &str| {
            let ended = desk.fedcircuit(&["run", "crowd.toml", "--device", device, "--out", out, "--set", set]);
            assert_eq!(ended.code, Some(0), "{ended:?}");
            ended.err
        };
        let (waves, one) = (format!("{device}-waves"), format!("{device}-one"));
        let told = run(&waves, "device.memory=100MiB");
        let (planned, peak) = (planned(&told), mib(&told, "memory: "));
        // A hardware GPU has memory of its own, and what its driver takes of the process is not planned.
        let of_process = *device == "cpu" || gpu().is_some_and(|gpu| gpu.info().software);
        let close = (peak - planned).abs() <= 0.1 * planned;
        assert!(close || !of_process, "{device}: {peak} MiB instead of {planned}\n{told}");
        assert!(told.contains("plan: 150 clients a round, in 3 waves"), "{device}: {told}");
        // A binding may be smaller than one wave would need, but not than two.
        let more = run(&one, "device.max_wave=80");
        let few = run(&format!("{device}-few"), "device.memory=1GiB");
        assert!(more.contains("in 3 waves") && !few.contains("in 3 waves"), "{device}: {more} {few}");
        assert!(weights(&waves) == weights(&one), "{device}: the cut of the waves shows");
        assert!(weights(&waves) == weights(&format!("{device}-few")), "{device}: the number of waves shows");
    }
}

/// All local models of a round, where they are saved: planned, and refused before anything is written where there is no
/// room for them.
#[test]
fn local_models_that_are_saved_are_planned() {
    let desk = Desk::new();
    fs::write(desk.path("crowd.toml"), CROWD).unwrap();
    let before = desk.entries();
    let run = |memory: &str| {
        let set = [format!("device.memory={memory}"), "device.max_wave=30".into(), "output.save_clients=true".into()];
        let sets = set.iter().flat_map(|set| ["--set", set]);
        desk.run(&["crowd.toml"].into_iter().chain(sets).collect::<Vec<_>>())
    };
    let ended = run("100MiB");
    let says = "keeping the local models of 150 clients, for output.save_clients, needs 114.";
    assert!(
        ended.code == Some(2) && ended.err.contains(says) && ended.err.contains("raise device.memory"),
        "{ended:?}"
    );
    assert_eq!(desk.entries(), before);
    let ended = run("200MiB");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let (planned, peak) = (planned(&ended.err), mib(&ended.err, "memory: "));
    assert!((peak - planned).abs() <= 0.1 * planned, "{peak} MiB instead of {planned}\n{}", ended.err);
}

/// A million clients are never dealt: they cost no more than those who take part.
#[test]
fn a_million_clients_take_the_memory_of_those_who_take_part() {
    let desk = Desk::new();
    let text = CROWD.replace("num_clients = 150", "num_clients = 1000000");
    fs::write(desk.path("crowd.toml"), format!("{text}cohort = {{ clients_per_round = 150 }}\n")).unwrap();
    let ended = desk.run(&["crowd.toml", "--out", "out", "--rounds", "2"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.err.contains("plan: 150 clients of 1000000 a round, in 3 waves"), "{ended:?}");
    assert!(ended.err.contains("note: partition.csv has the first 100000 of 1000000 clients"), "{ended:?}");
    assert!(mib(&ended.err, "memory: ") < 200.0, "{ended:?}");
    let table = fs::read_to_string(desk.path("out/partition.csv")).unwrap();
    let clients = table.lines().skip(1).map(|line| line.split(',').next().unwrap().parse::<usize>().unwrap());
    assert_eq!(clients.max(), Some(99_999));
    let took_part = |round: &serde_json::Value| -> Vec<u64> {
        round["clients"].as_array().unwrap().iter().map(|c| c["client"].as_u64().unwrap()).collect()
    };
    let rounds = rounds(&desk.path("out"));
    assert!(rounds.iter().all(|round| took_part(round).len() == 150));
    assert!(
        took_part(&rounds[0]).iter().any(|client| *client > 500_000) && took_part(&rounds[0]) != took_part(&rounds[1])
    );
}

/// Resident memory does not grow with the rounds, of a cohort with drop-outs out of a large population. 40 rounds, or as
/// many as `FEDCIRCUIT_SOAK` says.
#[test]
fn memory_stays_flat_over_many_rounds() {
    let desk = Desk::new();
    let number = std::env::var("FEDCIRCUIT_SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(40usize);
    fs::write(desk.path("crowd.toml"), CROWD).unwrap();
    let mut command = desk.command(env!("CARGO_BIN_EXE_fedcircuit"));
    command.args(["run", "crowd.toml", "--device", "cpu", "--out", "out", "--rounds", &number.to_string()]);
    let population = ["partition.num_clients=100000", "cohort={clients_per_round=60,dropout_rate=0.2}"];
    // Adam's moments make a process so large that what an allocator holds back is little of it.
    for set in population.into_iter().chain(["training.optimizer=adam", "device={memory=\"1GiB\",threads=2}"]) {
        command.args(["--set", set]);
    }
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (status, lines) = (format!("/proc/{}/status", child.id()), desk.path("out/rounds.jsonl"));
    let mut seen: Vec<(usize, f64)> = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(120 + 5 * number as u64);
    let code = loop {
        if let Some(code) = child.try_wait().unwrap() {
            break code;
        }
        assert!(Instant::now() < deadline, "{} rounds", seen.len());
        let resident = fs::read_to_string(&status).ok().and_then(|text| {
            let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:").map(str::to_string))?;
            line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok()
        });
        let done = fs::read_to_string(&lines).map_or(0, |text| text.lines().count());
        seen.extend(resident.filter(|_| done > 0).map(|kib| (done, kib)));
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(code.success());
    assert_eq!(rounds(&desk.path("out")).len(), number);
    let fifth = number / 5;
    let median = |rounds: std::ops::Range<usize>| {
        let mut some: Vec<f64> = seen.iter().filter(|(done, _)| rounds.contains(done)).map(|(_, kib)| *kib).collect();
        some.sort_by(f64::total_cmp);
        assert!(some.len() > 3, "{} samples in rounds {rounds:?}", some.len());
        some[some.len() / 2]
    };
    let (first, last) = (median(1..fifth), median(number - fifth..number));
    assert!(last <= 1.02 * first, "{first} KiB in the first fifth of {number} rounds, {last} in the last");
}
