//! Runs that are ended, in whatever way, and resumed: they leave what one that was never ended leaves.
#![cfg(unix)]

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::early_ends::on_a_full_disk;
use super::same_folders::{assert_same_folders, timeless};
use super::{Desk, Ended, entries};

/// Every kind of file that grows, and weights after every round.
const RICH: [&str; 10] = [
    "rich.toml",
    "--device=cpu",
    "--set",
    "circuits.controls={random=2,repeat=true,permuted=true,untrained=true,shuffled=true,centralised=true,every=2}",
    "--set",
    "circuits.analyses=[\"ensemble\",\"shared_neurons\"]",
    "--set",
    "output={save_clients=true,save_every=1,checkpoint_every=1,tensorboard=true}",
    "--set",
    "seeds=[3, 5]",
];

fn desk() -> Desk {
    let desk = Desk::new();
    // Rounds that take long enough to be ended in, and circuits that are neither empty nor whole.
    let changes = [
        ("rounds = 2", "rounds = 5"),
        ("train_examples = 120", "train_examples = 400"),
        ("local_epochs = 1", "local_epochs = 8"),
        ("steps = 3", "steps = 8\nlr = 0.5\nl0 = 0.05"),
    ];
    let rich = changes.iter().fold(super::TINY.to_string(), |text, (from, to)| text.replace(from, to));
    fs::write(desk.path("rich.toml"), rich).unwrap();
    desk
}

/// A subcommand under way.
fn start(desk: &Desk, subcommand: &str, args: &[&str]) -> std::process::Child {
    let mut command = desk.command(env!("CARGO_BIN_EXE_fedcircuit"));
    command.arg(subcommand).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// `fedcircuit run` until `rounds` rounds of the file are on disk, and asked to stop then.
pub(super) fn stop_after(desk: &Desk, args: &[&str], rounds: usize, file: &str) -> Ended {
    stop(desk, "run", args, rounds, file)
}

/// The same of any subcommand.
pub(super) fn stop(desk: &Desk, subcommand: &str, args: &[&str], rounds: usize, file: &str) -> Ended {
    let (run, begun) = (start(desk, subcommand, args), Instant::now());
    while fs::read_to_string(desk.path(file)).unwrap_or_default().lines().count() < rounds {
        assert!(begun.elapsed() < Duration::from_secs(120), "no round in two minutes");
        sleep(Duration::from_millis(2));
    }
    assert!(Command::new("kill").args(["-TERM", &run.id().to_string()]).status().unwrap().success());
    let ended = Ended::from(run.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("the same command with --resume goes on"), "{ended:?}");
    ended
}

fn done(ended: Ended, says: &str) {
    assert!(ended.code == Some(0) && ended.err.contains(says), "{ended:?}");
}

/// A run of the desk's experiment that was never ended.
fn whole(desk: &Desk, args: &[&str]) -> Ended {
    let ended = desk.fedcircuit(&[&["run"], args, &["--out", "whole"]].concat());
    assert!(ended.code == Some(0) && ended.err.contains("written to whole"), "{ended:?}");
    let left = entries(&desk.path("whole"));
    // The last checkpoint, from which it can be made longer, and what was told of its rounds.
    assert_eq!(left.iter().filter(|path| path.contains("checkpoint/")).count(), 2, "{left:?}");
    ended
}

#[test]
fn runs_ended_by_a_signal_go_on_to_the_same_files() {
    let desk = desk();
    whole(&desk, &RICH);
    for every in ["1", "3"] {
        let out = format!("ended-{every}");
        let every = format!("output.checkpoint_every={every}");
        let args = [&RICH[..], &["--set", &every, "--out", &out]].concat();
        let file = format!("{out}/seed_5/rounds.jsonl");
        stop_after(&desk, &args, 1, &file);
        let again = [&args[..], &["--resume"]].concat();
        let rounds = fs::read_to_string(desk.path(&file)).unwrap().lines().count();
        let ended = stop_after(&desk, &again, rounds + 1, &file);
        assert!(ended.err.contains(&format!("going on after round {rounds}\n")), "{ended:?}");
        done(desk.fedcircuit(&[&["run"], &again[..]].concat()), "going on after round");
        for seed in ["seed_3", "seed_5", "."] {
            // The experiment says how often there was a checkpoint.
            for toml in ["whole", &out].map(|run| desk.path(run).join(seed).join("experiment.toml")) {
                fs::write(toml, "").unwrap();
            }
        }
        assert_same_folders(&desk.path(&out), &desk.path("whole"), &every);
    }
}

/// Ends it at random moments without a word, so many times as `FEDCIRCUIT_KILLS` says.
#[test]
fn runs_killed_at_random_moments_go_on_to_the_same_files() {
    let kills: usize = std::env::var("FEDCIRCUIT_KILLS").map_or(5, |n| n.parse().unwrap());
    let desk = desk();
    let begun = Instant::now();
    let whole = whole(&desk, &RICH);
    let (takes, out) = (begun.elapsed(), desk.path("out"));
    // A checkpoint that could not be read would be told in a note; what the rounds themselves say, the whole run said too.
    let known = |line: &str| !line.contains("note: ") || whole.err.lines().any(|other| other == line);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let args = || {
        let resume: &[&str] = if out.exists() { &["--resume"] } else { &[] };
        [&RICH[..], &["--out", "out"], resume].concat()
    };
    let (mut killed, mut finished) = (0, 0);
    while killed < kills || finished == 0 {
        let mut run = start(&desk, "run", &args());
        if killed < kills {
            sleep(takes.mul_f64(rng.random_range(0.0..0.6)));
            run.kill().unwrap();
        }
        let ended = run.wait_with_output().unwrap();
        if ended.status.code().is_none() {
            killed += 1;
            continue;
        }
        let ended = Ended::from(ended);
        assert!(ended.code == Some(0) && ended.err.lines().all(known), "after {killed} kills: {ended:?}");
        assert_same_folders(&out, &desk.path("whole"), &format!("after {killed} kills"));
        fs::remove_dir_all(&out).unwrap();
        finished += 1;
    }
    println!("{killed} kills, {finished} runs finished");
}

#[test]
fn a_damaged_checkpoint_is_refused_and_the_one_before_it_used() {
    let desk = desk();
    let args = ["rich.toml", "--device=cpu", "--out", "out"];
    whole(&desk, &args[..2]);
    stop_after(&desk, &args, 2, "out/rounds.jsonl");
    let folder = desk.path("out/checkpoint");
    let mut files: Vec<String> = entries(&folder).into_iter().filter(|f| f.starts_with("round_")).collect();
    assert_eq!(files.len(), 2);
    let newest = folder.join(files.pop().unwrap());
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    let keep = desk.path("keep");
    assert!(Command::new("cp").args(["-r"]).args([&desk.path("out"), &keep]).status().unwrap().success());
    let ended = desk.fedcircuit(&[&["run"], &args[..], &["--resume"]].concat());
    assert!(
        ended.err.contains("note: out/checkpoint/round_") && ended.err.contains("is no whole checkpoint"),
        "{ended:?}"
    );
    done(ended, "going on from the checkpoint after round");
    assert_same_folders(&desk.path("out"), &desk.path("whole"), "from the older checkpoint");

    // Neither can be read; and a file that grows lost its end.
    fs::write(keep.join("checkpoint").join(&files[0]), "").unwrap();
    let again = ["run", "rich.toml", "--device=cpu", "--out", "keep", "--resume"];
    let refused = desk.fedcircuit(&again);
    assert!(refused.code == Some(2) && refused.err.contains("is no whole checkpoint"), "{refused:?}");
    fs::write(keep.join("checkpoint").join(newest.file_name().unwrap()), &bytes).unwrap();
    // As long as it was, but not what it was.
    let table = fs::read_to_string(keep.join("overlap.csv")).unwrap();
    let less: String = table.split_inclusive('\n').enumerate().filter(|(i, _)| *i != 2).map(|(_, line)| line).collect();
    let other = format!("{less}{}", "0".repeat(table.len()));
    fs::write(keep.join("overlap.csv"), &other).unwrap();
    let refused = desk.fedcircuit(&again);
    assert!(refused.code == Some(2) && refused.err.contains("keep/overlap.csv: was changed"), "{refused:?}");
    assert!(fs::read_to_string(keep.join("overlap.csv")).unwrap() == other, "nothing is cut off");
    fs::write(keep.join("overlap.csv"), "").unwrap();
    let refused = desk.fedcircuit(&again);
    assert!(refused.code == Some(2) && refused.err.contains("keep/overlap.csv: holds 0 bytes"), "{refused:?}");
    fs::remove_file(keep.join("overlap.csv")).unwrap();
    let refused = desk.fedcircuit(&again);
    let says = "keep/overlap.csv: is missing\n  put the file back";
    assert!(refused.code == Some(2) && refused.err.contains(says), "{refused:?}");
    // Without any there is nothing to go on from.
    fs::remove_dir_all(keep.join("checkpoint")).unwrap();
    let refused = desk.fedcircuit(&again);
    assert!(
        refused.code == Some(2) && refused.err.contains("holds rounds and no checkpoint to go on from"),
        "{refused:?}"
    );
}

#[test]
fn another_run_is_not_gone_on_with() {
    let desk = desk();
    let args = ["rich.toml", "--device=cpu", "--out", "out"];
    stop_after(&desk, &args, 1, "out/rounds.jsonl");
    let resume = |extra: &[&str]| desk.fedcircuit(&[&["run"], &args[..], &["--resume"], extra].concat());
    for (extra, says) in [
        (&["--set", "training.lr=0.5"][..], "training.lr was 0.001, and is 0.5"),
        (&["--rounds", "4"], "rounds was 5, and is 4"),
        (&["--seed", "9"], "seed was 3, and is 9"),
        (&["--set", "seeds=2"], "seed was 3, and is not given"),
        (&["--out", "elsewhere"], "there is no run in elsewhere"),
        (&["--out", "."], "there is no run in ., which is not empty"),
        (&["--out", "rich.toml"], "there is no run in rich.toml"),
    ] {
        let refused = match extra[0] {
            "--out" => desk.fedcircuit(&[&["run"], &args[..2], &["--resume"], extra].concat()),
            _ => resume(extra),
        };
        assert!(refused.code == Some(2) && refused.err.contains("--resume: "), "{refused:?}");
        assert!(refused.err.contains(says), "{says}: {refused:?}");
    }
    if crate::common::gpu().is_some() {
        let refused = desk.fedcircuit(&["run", "rich.toml", "--device=gpu", "--out", "out", "--resume"]);
        assert!(refused.code == Some(2) && refused.err.contains(" computed it, and now "), "{refused:?}");
    }
    // Without --resume nothing is written over; and what changes no result may change.
    let refused = desk.fedcircuit(&[&["run"], &args[..]].concat());
    assert!(refused.code == Some(2) && refused.err.contains("exists and is not empty"), "{refused:?}");
    assert!(refused.err.contains("go on with the run in it with --resume"), "{refused:?}");
    done(resume(&["--set", "device={max_wave=1,threads=1}"]), "going on after round");
    // Ended between its summary and the end.
    let before = timeless(&desk.path("out"));
    fs::write(desk.path("out/checkpoint/lock"), "").unwrap();
    fs::write(desk.path("out/checkpoint/round_0003.safetensors"), "").unwrap();
    let again = resume(&[]);
    assert!(again.out.contains("accuracy"), "{again:?}");
    done(again, "tiny: all 5 rounds are done, in out");
    assert!(before == timeless(&desk.path("out")));
}

/// A round in which all dropped out has no share of zeros, which is as good a round to go on after as any.
#[test]
fn rounds_that_nobody_took_part_in_are_gone_on_with() {
    let desk = desk();
    let args = ["rich.toml", "--device=cpu", "--set", "cohort.dropout_rate=0.6"];
    let rounds = |out: &str, rounds: &str, more: &[&str]| {
        desk.fedcircuit(&[&["run"], &args[..], &["--out", out, "--rounds", rounds], more].concat())
    };
    done(rounds("out", "3", &[]), "written to out");
    let clients = super::rounds(&desk.path("out")).into_iter().map(|round| round["clients"].as_array().unwrap().len());
    assert_eq!(clients.collect::<Vec<_>>(), [0, 0, 1]);
    done(rounds("out", "5", &["--resume"]), "going on after round 2\n");
    done(rounds("whole", "5", &[]), "written to whole");
    assert_same_folders(&desk.path("out"), &desk.path("whole"), "rounds without clients");
}

#[test]
fn a_run_that_was_ended_with_nothing_but_its_lock_begins() {
    let desk = desk();
    fs::create_dir_all(desk.path("out/checkpoint")).unwrap();
    fs::write(desk.path("out/checkpoint/lock"), "").unwrap();
    let run = |more: &[&str]| desk.fedcircuit(&[&["run", "tiny.toml", "--device=cpu", "--out", "out"], more].concat());
    assert_eq!(run(&[]).code, Some(2));
    done(run(&["--resume"]), "written to out");
}

#[test]
fn a_full_disk_leaves_the_last_checkpoint() {
    let desk = desk();
    // 784 * 200 + ... weights: 778 KiB, far more than all other files until the last round.
    let (plain, _) = super::TINY.split_once("[circuits]").unwrap();
    let plain = plain.replace("rounds = 2", "rounds = 8").replace("local_epochs = 1", "local_epochs = 8");
    let (head, rest) = plain.split_once("[model]").unwrap();
    let (_, training) = rest.split_once("[training]").unwrap();
    let mlp = format!("{head}[model]\npreset = \"mlp-2nn\"\n[training]{training}");
    fs::write(desk.path("mlp.toml"), mlp).unwrap();
    whole(&desk, &["mlp.toml", "--device=cpu"]);
    let args = ["mlp.toml", "--device=cpu", "--out", "out"];
    stop_after(&desk, &args, 2, "out/rounds.jsonl");
    let checkpoints = || entries(&desk.path("out/checkpoint"));
    let (before, again) = (checkpoints(), [&args[..], &["--resume"]].concat());
    let ended = on_a_full_disk(&desk, 300, &again);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("cannot write out/checkpoint/round_") && !ended.err.contains("panicked"), "{ended:?}");
    assert_eq!(checkpoints(), before);
    done(desk.fedcircuit(&[&["run"], &again[..]].concat()), "going on after round");
    assert_same_folders(&desk.path("out"), &desk.path("whole"), "after a full disk");
}

#[test]
fn of_several_runs_those_that_are_done_are_not_run_again() {
    let desk = desk();
    let compare = "[[compare]]\nname = \"a\"\nset = {}\n[[compare]]\nname = \"b\"\nset = { \"training.lr\" = 0.01 }\n\
                   [[compare]]\nname = \"c\"\nset = { \"training.lr\" = 0.02 }\n";
    let rich = fs::read_to_string(desk.path("rich.toml")).unwrap();
    fs::write(desk.path("all.toml"), format!("{rich}{compare}")).unwrap();
    let args = ["all.toml", "--device=cpu", "--out", "out"];
    let table = desk.fedcircuit(&["run", "all.toml", "--device=cpu", "--out", "whole"]).out;
    stop_after(&desk, &args, 1, "out/b/rounds.jsonl");
    let first = fs::metadata(desk.path("out/a/summary.json")).unwrap().modified().unwrap();
    let ended = desk.fedcircuit(&[&["run"], &args[..], &["--resume"]].concat());
    // But for the seconds, which end each of the first rows.
    let without_seconds = |table: &str| table.lines().skip(9).map(String::from).collect::<Vec<_>>();
    assert!(without_seconds(&table).len() > 3 && without_seconds(&ended.out) == without_seconds(&table), "{ended:?}");
    assert!(ended.err.contains("a: all 5 rounds are done, in out/a"), "{ended:?}");
    done(ended, "written to out");
    assert_eq!(fs::metadata(desk.path("out/a/summary.json")).unwrap().modified().unwrap(), first);
    assert_same_folders(&desk.path("out"), &desk.path("whole"), "three runs");
    // Another list of experiments would be mixed with this one.
    let renamed = fs::read_to_string(desk.path("all.toml")).unwrap().replace("\"c\"", "\"d\"");
    fs::write(desk.path("all.toml"), renamed).unwrap();
    let refused = desk.fedcircuit(&[&["run"], &args[..], &["--resume"]].concat());
    assert!(
        refused.code == Some(2) && refused.err.contains("out has an experiment c, and the file has none"),
        "{refused:?}"
    );
    let refused = desk.fedcircuit(&["run", "all.toml", "--device=cpu", "--out", "out/a", "--resume"]);
    assert!(refused.code == Some(2) && refused.err.contains("out/a is of one experiment"), "{refused:?}");
    assert!(!desk.path("out/d").exists() && !desk.path("out/a/a").exists());
}

/// However many rounds a run was to have when it ended, with more of them it is the longer run.
#[test]
fn a_run_that_gets_more_rounds_is_the_longer_run() {
    let desk = desk();
    // Saved are the second round and the fourth, and of whatever number the last.
    let args = [&RICH[..6], &["--set", "output={save_clients=true,save_every=2}", "--set", "seeds=[3, 5]"]].concat();
    let longer = |out: &str, rounds: &str, more: &[&str]| {
        desk.fedcircuit(&[&["run"], &args[..], &["--out", out, "--rounds", rounds], more].concat())
    };
    done(longer("whole", "5", &[]), "written to whole");
    done(longer("out", "3", &[]), "written to out");
    assert!(desk.path("out/seed_5/model/round_0003.safetensors").exists());
    // What is known of the experiment is there again, whatever happened to it.
    fs::write(desk.path("out/seed_3/partition.csv"), "client,class,examples\n0,0,99\n").unwrap();
    fs::remove_file(desk.path("out/seed_5/partition.csv")).unwrap();
    fs::write(desk.path("out/seed_5/environment.json"), "{}").unwrap();
    fs::remove_file(desk.path("out/environment.json")).unwrap();
    done(longer("out", "5", &["--resume"]), "going on after round 2\n");
    assert_same_folders(&desk.path("out"), &desk.path("whole"), "from 3 to 5");
    done(longer("out", "5", &["--resume"]), "all 5 rounds are done");
    let refused = longer("out", "3", &["--resume"]);
    assert!(refused.code == Some(2) && refused.err.contains("rounds was 5, and is 3"), "{refused:?}");
    // One that was ended on its way, and one of which nothing is left to go on from.
    let ended = [&args[..], &["--out", "ended", "--rounds", "4"]].concat();
    stop_after(&desk, &ended, 1, "ended/seed_5/rounds.jsonl");
    done(longer("ended", "5", &["--resume"]), "going on after round");
    assert_same_folders(&desk.path("ended"), &desk.path("whole"), "ended on its way to 4");
    fs::remove_file(desk.path("out/checkpoint/round_0004.safetensors")).unwrap();
    let refused = longer("out", "6", &["--resume"]);
    assert!(refused.code == Some(2) && refused.err.contains("no checkpoint to go on from"), "{refused:?}");
}
