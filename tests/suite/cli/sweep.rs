//! `fedcircuit sweep`: an experiment for every point, and one table of them.

use std::fs;

use super::{Desk, TINY, entries};

#[test]
fn every_point_has_its_folder_and_its_rows_and_finished_ones_are_not_run_again() {
    let desk = Desk::new();
    let swept = format!("{TINY}\n[sweep]\ntraining.lr = [0.001, 0.01]\n");
    fs::write(desk.path("swept.toml"), swept).unwrap();
    let sweep =
        |more: &[&str]| desk.fedcircuit(&[&["sweep", "swept.toml", "--device", "cpu", "--out", "out"], more].concat());
    let ended = sweep(&[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let head: Vec<&str> = ended.out.lines().nth(1).unwrap_or_default().split_whitespace().take(2).collect();
    assert_eq!(head, ["training.lr", "accuracy"], "{ended:?}");
    let table = fs::read_to_string(desk.path("out/sweep.csv")).unwrap();
    for (label, value) in [("lr-0.001", "0.001"), ("lr-0.01", "0.01")] {
        let row = format!("{label},{value},2,accuracy,");
        assert!(table.lines().any(|line| line.starts_with(&row)), "{row}: {table}");
        assert!(desk.path(&format!("out/{label}/summary.json")).is_file());
        let own = fs::read_to_string(desk.path(&format!("out/{label}/experiment.toml"))).unwrap();
        assert!(own.contains(&format!("lr = {value}\n")) && !own.contains("sweep"), "{own}");
    }
    let page = fs::read_to_string(desk.path("out/report.html")).unwrap();
    assert!(page.contains("Against training.lr") && desk.path("out/plots/against-1.png").is_file());
    let before = entries(&desk.path("out"));
    let again = sweep(&["--resume"]);
    assert_eq!((again.code, again.out == ended.out), (Some(0), true), "{again:?}");
    assert!(again.err.contains("all 2 rounds are done"), "{again:?}");
    assert_eq!(entries(&desk.path("out")), before);
}

/// What is said of many is said of one.
#[test]
fn a_sweep_of_one_point_has_its_page() {
    let desk = Desk::new();
    fs::write(desk.path("one.toml"), format!("{TINY}\n[sweep]\ntraining.lr = [0.01]\n")).unwrap();
    let ended = desk.fedcircuit(&["sweep", "one.toml", "--device", "cpu", "--out", "out"]);
    assert!(ended.code == Some(0) && ended.err.contains("open out/report.html"), "{ended:?}");
    for file in ["out/report.html", "out/plots/rounds.png", "out/lr-0.01/report.html"] {
        assert!(desk.path(file).is_file(), "{file}");
    }
}

#[test]
fn a_file_without_a_sweep_is_refused() {
    let desk = Desk::new();
    let ended = desk.fedcircuit(&["sweep", "tiny.toml", "--device", "cpu"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("tiny.toml: has no [sweep]"), "{ended:?}");
    assert_eq!(desk.entries(), ["tiny.toml"]);
}

/// However many experiments there are at a time, their files, the table and the order in which they tell of themselves are
/// the same.
#[test]
#[cfg(unix)]
fn points_at_the_same_time_are_the_points_one_after_the_other() {
    let desk = Desk::new();
    fs::write(desk.path("swept.toml"), format!("{TINY}\n[sweep]\ntraining.lr = [0.001, 0.01, 0.1]\n")).unwrap();
    let sweep = |jobs: &str, more: &[&str]| {
        let args = ["sweep", "swept.toml", "--device", "cpu", "--out", jobs, "--jobs", jobs];
        desk.fedcircuit(&[&args[..], more].concat())
    };
    let rounds = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("round ") || line.contains(" rounds"));
        lines.map(|line| line.rsplit_once("  ").map_or(line, |(line, _)| line).to_string()).collect()
    };
    let alone = sweep("1", &[]);
    assert!(alone.code == Some(0) && rounds(&alone.err).len() == 9, "{alone:?}");
    // A line of the plan that holds for all is told once.
    assert_eq!(alone.err.lines().filter(|line| line.contains("on the device")).count(), 1, "{alone:?}");
    for jobs in ["2", "3"] {
        let together = sweep(jobs, &[]);
        assert_eq!((together.code, &together.out), (Some(0), &alone.out), "{together:?}");
        assert_eq!(rounds(&together.err), rounds(&alone.err), "{together:?}");
        // What computed them, and in which waves.
        for out in ["1", jobs].map(|out| desk.path(out)) {
            for path in entries(&out).iter().filter(|path| path.ends_with("environment.json")) {
                fs::write(out.join(path), "").unwrap();
            }
        }
        super::same_folders::assert_same_folders(&desk.path(jobs), &desk.path("1"), jobs);
        let again = sweep(jobs, &["--resume"]);
        assert_eq!((again.code, again.err.matches("all 2 rounds are done").count()), (Some(0), 3), "{again:?}");
    }
}

/// A signal ends all that are under way, and each goes on from its own last round.
#[test]
#[cfg(unix)]
fn points_at_the_same_time_that_a_signal_ends_go_on_to_the_same_files() {
    let desk = Desk::new();
    fs::write(desk.path("swept.toml"), format!("{TINY}\n[sweep]\ntraining.lr = [0.001, 0.01, 0.1]\n")).unwrap();
    let args = |out: &'static str| ["swept.toml", "--device=cpu", "--rounds=6", "--jobs=2", "--out", out];
    let sweep = |more: &[&str]| desk.fedcircuit(&[&["sweep"], more].concat());
    assert_eq!(sweep(&args("whole")).code, Some(0));
    super::resume::stop(&desk, "sweep", &args("out"), 1, "out/lr-0.01/rounds.jsonl");
    let again = [&args("out")[..], &["--resume"]].concat();
    super::resume::stop(&desk, "sweep", &again, 1, "out/lr-0.1/rounds.jsonl");
    let ended = sweep(&again);
    assert!(ended.code == Some(0) && ended.err.contains("going on after round"), "{ended:?}");
    super::same_folders::assert_same_folders(&desk.path("out"), &desk.path("whole"), "out");
}

/// Whatever runs beside it and whatever waves they share, one that diverges is left out of the tables and told at the end.
#[test]
fn a_point_that_diverges_is_told_and_the_others_are_finished() {
    let desk = Desk::new();
    let diverging = "{ optimizer = \"sgd\", weight_decay = 1, lr = 1000, batch_size = 16, local_epochs = 9 }";
    let swept = format!("{TINY}\n[sweep]\ntraining = [{{ batch_size = 32 }}, {diverging}, {{ lr = 0.01 }}]\n");
    fs::write(desk.path("swept.toml"), swept).unwrap();
    fs::write(desk.path("rates.toml"), format!("{TINY}\n[sweep]\ntraining.lr = [0.01, 1000, 0.02]\n")).unwrap();
    let alike = ["optimizer=sgd", "weight_decay=1", "batch_size=16", "local_epochs=9"];
    let alike = alike.map(|set| format!("--set=training.{set}"));
    let alike = alike.each_ref().map(String::as_str);
    for (file, jobs, point) in
        [("swept", "1", "training-2"), ("swept", "3", "training-2"), ("rates", "shared", "lr-1000")]
    {
        let (file, out) = (format!("{file}.toml"), format!("{file}-{jobs}"));
        let sets = if jobs == "shared" { &alike[..] } else { &[] };
        let args = [&["sweep", &file, "--device", "cpu", "--out", &out, "--jobs", jobs], sets].concat();
        let ended = desk.fedcircuit(&args);
        let told = format!("error: training diverged in round 1, in tiny-{point}, at client");
        assert!(ended.code == Some(1) && ended.err.contains(&told), "{told}: {ended:?}");
        let table = fs::read_to_string(desk.path(&format!("{out}/sweep.csv"))).unwrap();
        let accuracies = table.lines().filter(|line| line.contains(",accuracy,"));
        let labels: Vec<&str> = accuracies.filter_map(|line| line.split(',').next()).collect();
        assert!(labels.len() == 2 && !labels.contains(&point), "{table}");
        assert_eq!(ended.out.lines().filter(|line| line.contains('%')).count(), 2, "{ended:?}");
        for label in labels {
            assert!(desk.path(&format!("{out}/{label}/summary.json")).is_file(), "{label}");
        }
        assert!(desk.path(&format!("{out}/report.html")).is_file());
        // It diverges again, and those that are done are not run again.
        let again = desk.fedcircuit(&[&args[..], &["--resume"]].concat());
        assert!(again.code == Some(1) && again.err.contains(&told) && again.out == ended.out, "{again:?}");
        assert_eq!(again.err.matches("all 2 rounds are done").count(), 2, "{again:?}");
    }
}

/// What is no run's stays as it is, whatever it is called.
#[test]
fn several_runs_are_not_gone_on_with_in_a_folder_of_something_else() {
    let desk = Desk::new();
    let compared = "[[compare]]\nname = \"a\"\nset = {}\n[[compare]]\nname = \"b\"\nset = { \"training.lr\" = 0.01 }\n";
    fs::write(desk.path("both.toml"), format!("{TINY}\n{compared}")).unwrap();
    fs::write(desk.path("swept.toml"), format!("{TINY}\n[sweep]\ntraining.lr = [0.01, 0.02]\n")).unwrap();
    let own = ["report.html", "sweep.csv", "plots/rounds.png", "plots/.writing-this"];
    fs::create_dir_all(desk.path("own/plots")).unwrap();
    own.iter().for_each(|name| fs::write(desk.path("own").join(name), "precious").unwrap());
    for args in [["run", "both.toml"], ["sweep", "swept.toml"]] {
        let refused = desk.fedcircuit(&[&args[..], &["--device=cpu", "--out", "own", "--resume"]].concat());
        assert!(refused.code == Some(2) && refused.err.contains("there is no run in own"), "{refused:?}");
        assert!(own.iter().all(|name| fs::read(desk.path("own").join(name)).unwrap() == b"precious"));
        assert_eq!(entries(&desk.path("own")).len(), own.len() + 1, "these and plots");
    }
    // An empty folder is one that a run was to begin in.
    fs::create_dir(desk.path("empty")).unwrap();
    let begun = desk.fedcircuit(&["sweep", "swept.toml", "--device=cpu", "--out", "empty", "--resume"]);
    assert!(begun.code == Some(0) && desk.path("empty/sweep.csv").is_file(), "{begun:?}");
}
