//! Experiments of a sweep that share waves: each leaves the folder that it leaves alone.

use std::fs;

use super::{Desk, TINY, entries};
use crate::common::gpu;

/// Of two seeds, over rates and sparsities, and more.
fn desk(more: &str) -> Desk {
    let desk = Desk::new();
    let sweep = format!("[sweep]\ntraining.lr = [0.001, 0.01]\nsparsity.target = [0.5, 0.4]\n{more}");
    let seeds = TINY.replace("seed = 3", "seeds = [3, 5]");
    let text = seeds.replace("steps = 3", "steps = 3\ncontrols = { centralised = true }");
    fs::write(desk.path("swept.toml"), text + &sweep).unwrap();
    desk
}

/// What computed the experiments, and in which waves.
fn forget_environments(desk: &Desk, out: &str) {
    let out = desk.path(out);
    let files = entries(&out).into_iter().filter(|path| path.ends_with("environment.json"));
    files.for_each(|path| fs::write(out.join(path), "").unwrap());
}

fn assert_same(desk: &Desk, got: &str, want: &str) {
    [got, want].into_iter().for_each(|out| forget_environments(desk, out));
    super::same_folders::assert_same_folders(&desk.path(got), &desk.path(want), got);
}

#[test]
fn experiments_in_the_same_waves_leave_the_files_they_leave_alone() {
    let desk = desk(
        "partition = [{ kind = \"iid\", num_clients = 2 }, { kind = \"shards\", num_clients = 2, shards_per_client = 2, \
         shard_size = 30 }]\n",
    );
    for (device, shared) in [("cpu", 2), ("gpu", 1)] {
        if device == "gpu" && gpu().is_none() {
            continue;
        }
        let sweep = |out: &str, jobs: &str| {
            let ended = desk.fedcircuit(&["sweep", "swept.toml", "--device", device, "--out", out, "--jobs", jobs]);
            assert_eq!(ended.code, Some(0), "{ended:?}");
            ended
        };
        let (one, all) = (format!("{device}-one"), format!("{device}-all"));
        let (alone, together) = (sweep(&one, "1"), sweep(&all, "shared"));
        assert_eq!(alone.out, together.out, "{device}");
        assert!(!alone.err.contains("waves: "), "{alone:?}");
        // On the CPU engine those of a sparsity share them.
        let told: Vec<&str> = together.err.lines().filter(|line| line.starts_with("waves: ")).collect();
        assert_eq!(told.len(), shared, "{together:?}");
        let begins = format!("waves: {} experiments share them: ", 8 / shared);
        assert!(told.iter().all(|line| line.starts_with(&begins) && line.ends_with(" more")), "{told:?}");
        // Each tells of each of its rounds, and is told from the others.
        assert_eq!(together.err.matches("round 2/2  accuracy").count(), 8, "{together:?}");
        assert_same(&desk, &all, &one);
    }
}

/// Kills a command once a file of the desk has so many lines.
#[cfg(unix)]
fn killed(desk: &Desk, args: &[&str], file: &str, lines: usize) {
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    let mut command = desk.command(env!("CARGO_BIN_EXE_fedcircuit"));
    let mut run = command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while fs::read_to_string(desk.path(file)).unwrap_or_default().lines().count() < lines {
        assert!(begun.elapsed() < Duration::from_secs(240), "{file}: no round in four minutes");
        std::thread::sleep(Duration::from_millis(2));
    }
    run.kill().unwrap();
    run.wait().unwrap();
}

/// However often it is ended without a word, in the first group or the second.
#[test]
#[cfg(unix)]
fn a_group_that_is_ended_goes_on_to_the_same_files() {
    let desk = desk("");
    let args = |out: &'static str| ["sweep", "swept.toml", "--device=cpu", "--rounds=4", "--jobs=shared", "--out", out];
    assert_eq!(desk.fedcircuit(&args("whole")).code, Some(0));
    let again = [&args("out")[..], &["--resume"]].concat();
    // The first group's last experiment has so many rounds, or the second group's first.
    let moments = [("target-0.5_lr-0.01", 1), ("target-0.5_lr-0.01", 2), ("target-0.4_lr-0.001", 2)];
    for (label, rounds) in moments {
        let args = if desk.path("out").exists() { &again[..] } else { &again[..again.len() - 1] };
        killed(&desk, args, &format!("out/{label}/seed_5/rounds.jsonl"), rounds);
    }
    let ended = desk.fedcircuit(&again);
    assert!(ended.code == Some(0) && ended.err.contains("going on after round"), "{ended:?}");
    assert_same(&desk, "out", "whole");
    let ended = desk.fedcircuit(&again);
    assert!(ended.code == Some(0) && ended.err.matches("all 4 rounds are done").count() == 4, "{ended:?}");
    assert!(!ended.err.contains("waves: "), "{ended:?}");
    assert_same(&desk, "out", "whole");
}

/// Of those that would share waves, one was ended before its first checkpoint, and the other after it.
#[test]
#[cfg(unix)]
fn experiments_with_a_checkpoint_and_without_one_are_not_in_one_group() {
    let desk = desk("");
    let only_the_first = ["--rounds=12", "--set", "output.checkpoint_every=100"];
    let args = |out: &'static str| {
        [&["sweep", "swept.toml", "--device=cpu", "--jobs=shared", "--out", out][..], &only_the_first].concat()
    };
    assert_eq!(desk.fedcircuit(&args("whole")).code, Some(0));
    killed(&desk, &args("out"), "out/target-0.5_lr-0.001/seed_5/rounds.jsonl", 1);
    assert!(!desk.path("out/target-0.5_lr-0.001/summary.json").exists(), "ended by itself");
    fs::remove_dir_all(desk.path("out/target-0.5_lr-0.01")).unwrap();
    let ended = desk.fedcircuit(&[&args("out")[..], &["--resume"]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_same(&desk, "out", "whole");
}

/// Where the models of all do not fit the memory beside a client, fewer share waves.
#[test]
fn memory_bounds_a_group() {
    let desk = Desk::new();
    let text = "name = \"wide\"\nrounds = 1\ndata = { source = \"digits\", train_examples = 40, test_examples = 20 }\n\
                partition = { kind = \"iid\", num_clients = 2 }\nmodel = { preset = \"mlp-2nn\" }\n\
                training = { local_epochs = 1, batch_size = 10, optimizer = \"sgd\" }\n\
                [sweep]\ntraining.lr = [0.1, 0.01, 0.001]\n";
    fs::write(desk.path("wide.toml"), text).unwrap();
    // A model takes 0.8 MiB and a client less than 1.9: two models more than one and their sums are 3 MiB.
    let sweep = |memory: &str| {
        let set = format!("device.memory={memory}MiB");
        desk.fedcircuit(&["sweep", "wide.toml", "--device=cpu", "--jobs=shared", "--out", memory, "--set", &set])
    };
    for (memory, told) in
        [("1000", "3 experiments share them: lr-0.1, lr-0.01, lr-0.001"), ("4", "2 experiments share")]
    {
        let ended = sweep(memory);
        assert!(ended.code == Some(0) && ended.err.matches("waves: ").count() == 1, "{ended:?}");
        assert!(ended.err.contains(&format!("waves: {told}")), "{ended:?}");
    }
    let ended = sweep("2");
    assert!(ended.code == Some(0) && !ended.err.contains("waves: "), "{ended:?}");
    let ended = sweep("1");
    assert!(ended.code == Some(2) && ended.err.contains("device.memory allows 1.0 MiB"), "{ended:?}");
}

/// On a GPU no group is larger than a wave: a second one would be as full without company.
#[test]
fn on_a_gpu_a_full_wave_bounds_a_group() {
    if gpu().is_none() {
        return;
    }
    let desk = Desk::new();
    let (plain, _) = TINY.split_once("[circuits]").unwrap();
    fs::write(desk.path("swept.toml"), format!("{plain}[sweep]\ntraining.lr = [0.1, 0.01, 0.001]\n")).unwrap();
    for (most, told) in [("6", Some("3 experiments")), ("5", Some("2 experiments")), ("3", None)] {
        let set = format!("device.max_wave={most}");
        let ended =
            desk.fedcircuit(&["sweep", "swept.toml", "--device=gpu", "--rounds=1", "--out", most, "--set", &set]);
        let found = ended.err.lines().find_map(|line| line.strip_prefix("waves: ")?.split(" share").next());
        assert!(ended.code == Some(0) && found == told, "{most}: {ended:?}");
    }
}

#[test]
fn experiments_of_other_shapes_share_no_waves() {
    let desk = Desk::new();
    fs::write(desk.path("swept.toml"), format!("{TINY}\n[sweep]\ntraining.batch_size = [16, 32]\n")).unwrap();
    let ended = desk.fedcircuit(&["sweep", "swept.toml", "--device=cpu", "--jobs=shared", "--out", "out"]);
    assert!(ended.code == Some(0) && !ended.err.contains("waves: "), "{ended:?}");
}

/// The experiment that diverges is named, and its neighbours in the waves become what they are alone.
#[test]
fn one_that_diverges_in_a_group_leaves_the_others_what_they_are_alone() {
    let desk = Desk::new();
    let sgd = "local_epochs = 9\noptimizer = \"sgd\"\nweight_decay = 1";
    let text = TINY.replace("local_epochs = 1", sgd).replace("batch_size = 32", "batch_size = 16");
    let sweep = |out: &str, rates: &str| {
        fs::write(desk.path("swept.toml"), format!("{text}\n[sweep]\ntraining.lr = {rates}\n")).unwrap();
        desk.fedcircuit(&["sweep", "swept.toml", "--device=cpu", "--jobs=shared", "--out", out])
    };
    let ended = sweep("out", "[0.001, 1000]");
    assert!(ended.code == Some(1) && ended.err.contains("in tiny-lr-1000, at client"), "{ended:?}");
    assert!(ended.err.contains("waves: 2 experiments share them"), "{ended:?}");
    assert_eq!(sweep("alone", "[0.001]").code, Some(0));
    let folders = ["out", "alone"].map(|out| desk.path(out).join("lr-0.001"));
    folders.iter().for_each(|folder| fs::write(folder.join("environment.json"), "").unwrap());
    super::same_folders::assert_same_folders(&folders[0], &folders[1], "lr-0.001");
}
