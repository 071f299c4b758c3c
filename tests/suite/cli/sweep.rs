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

#[test]
fn a_file_without_a_sweep_is_refused() {
    let desk = Desk::new();
    let ended = desk.fedcircuit(&["sweep", "tiny.toml", "--device", "cpu"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("tiny.toml: has no [sweep]"), "{ended:?}");
    assert_eq!(desk.entries(), ["tiny.toml"]);
}
