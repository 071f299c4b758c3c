//! Several seeds in one run: a whole run folder for each, and above them what they say together.

use std::fs;

use serde_json::Value;

use super::{Desk, entries, rounds};

fn json(path: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Every file of a seed's folder but those with times in them is byte for byte that of the same seed alone.
#[test]
fn each_seed_leaves_the_folder_it_leaves_alone() {
    let desk = Desk::new();
    let ended = desk.run(&["tiny.toml", "--set", "seeds=[9, 3]", "--set", "output.save_clients=true"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.contains("Means over 2 seeds") && ended.out.contains("% ± "), "{ended:?}");
    assert!(ended.err.contains("tiny, 2 seeds: 2 rounds"), "{ended:?}");
    let out = desk.path("runs/tiny-9");
    let above = [
        "checkpoint",
        "checkpoint/history.jsonl",
        "checkpoint/round_0001.safetensors",
        "environment.json",
        "experiment.toml",
        "figures.csv",
        "metrics.csv",
        "plots",
        "report.html",
        "summary.json",
    ];
    let elsewhere = |path: &String| path.starts_with("seed_") || path.starts_with("plots/");
    let of_all: Vec<String> = entries(&out).into_iter().filter(|path| !elsewhere(path)).collect();
    assert_eq!(of_all, above);
    assert!(out.join("plots/rounds.png").is_file() && out.join("plots/accuracy.svg").is_file());
    for (seed, again) in [(9, "tiny.toml"), (3, "runs/tiny-9/seed_3/experiment.toml")] {
        let (alone, seed) = (format!("alone-{seed}"), seed.to_string());
        let set = ["--seed", &seed, "--set", "output.save_clients=true", "--out", &alone];
        assert_eq!(desk.run(&[&[again], &set[..]].concat()).code, Some(0));
        let (own, alone) = (out.join(format!("seed_{seed}")), desk.path(&alone));
        // Checkpoints are those of all seeds.
        let mut of_alone = entries(&alone);
        of_alone.retain(|path| !path.starts_with("checkpoint"));
        assert_eq!(entries(&own), of_alone);
        let timeless = |path: &&String| {
            ["circuits", "experiment", "model/", "overlap", "partition"].iter().any(|p| path.starts_with(p))
        };
        let files: Vec<String> = entries(&own).iter().filter(timeless).cloned().collect();
        assert_eq!(files.len(), 9, "{files:?}");
        for file in files {
            assert!(fs::read(own.join(&file)).unwrap() == fs::read(alone.join(&file)).unwrap(), "{file} of {seed}");
        }
        let figures =
            |folder| rounds(folder).iter().map(|r| (r["global"].clone(), r["clients"].clone())).collect::<Vec<_>>();
        assert_eq!(figures(&own), figures(&alone));
    }
}

/// Mean, deviation and interval from what the seeds' own files say; the t quantile for two seeds is 12.7062.
#[test]
fn means_are_those_of_the_seeds_files() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["tiny.toml", "--set", "seeds=2", "--out", "out"]).code, Some(0));
    let out = desk.path("out");
    let seeds = ["seed_3", "seed_4"].map(|seed| rounds(&out.join(seed)));
    let losses = seeds.each_ref().map(|rounds| rounds[1]["global"]["loss"].as_f64().unwrap());
    let summary = json(&out.join("summary.json"));
    assert_eq!((&summary["name"], &summary["seeds"]), (&"tiny".into(), &serde_json::json!([3, 4])));
    assert_eq!((&summary["rounds"], &summary["readbacks"]), (&2.into(), &2.into()));
    let loss = |part: &str| summary["figures"]["loss"][part].as_f64().unwrap();
    let (mean, apart) = ((losses[0] + losses[1]) / 2.0, (losses[0] - losses[1]).abs());
    assert!(apart > 0.0);
    for (part, expected) in [
        ("mean", mean),
        ("std", apart / 2f64.sqrt()),
        ("low", mean - 12.7062 * apart / 2.0),
        ("high", mean + 12.7062 * apart / 2.0),
        ("n", 2.0),
        ("undefined", 0.0),
    ] {
        assert!((loss(part) - expected).abs() <= 1e-5 * expected.abs(), "{part}: {}, not {expected}", loss(part));
    }
    // A mean overlap, from the rows of the seeds' tables.
    let overlap = |seed: &str| {
        let text = fs::read_to_string(out.join(seed).join("overlap.csv")).unwrap();
        let rows = text.lines().filter(|line| line.starts_with("2,local_global,node,all,"));
        let ious: Vec<f64> = rows.filter_map(|row| row.split(',').nth(10).unwrap().parse().ok()).collect();
        ious.iter().sum::<f64>() / ious.len() as f64
    };
    let expected = (overlap("seed_3") + overlap("seed_4")) / 2.0;
    let got = summary["figures"]["overlap.local_global.node.all.iou"]["mean"].as_f64().unwrap();
    assert!((got - expected).abs() < 1e-12, "{got}, not {expected}");
    // Every figure of the last round stands in the table of all rounds too.
    let table = fs::read_to_string(out.join("figures.csv")).unwrap();
    assert_eq!(table.lines().filter(|l| l.starts_with("2,")).count(), summary["figures"].as_object().unwrap().len());
    let metrics = fs::read_to_string(out.join("metrics.csv")).unwrap();
    assert!(metrics.starts_with("round,loss_mean,loss_std,loss_low,loss_high,loss_n,accuracy_mean,"), "{metrics}");
    assert_eq!(metrics.lines().count(), 3);
    // The resolved experiment names both seeds, and gives the same again.
    assert_eq!(desk.run(&["out/experiment.toml", "--out", "again"]).code, Some(0));
    assert_eq!(fs::read_to_string(desk.path("again/figures.csv")).unwrap(), table);
}

#[test]
fn one_seed_on_the_command_line_replaces_them_all() {
    let desk = Desk::new();
    let text = super::TINY.replace("seed = 3", "seeds = [1, 2]");
    fs::write(desk.path("several.toml"), text).unwrap();
    assert_eq!(desk.run(&["several.toml", "--seed", "8", "--rounds", "1"]).code, Some(0));
    assert!(desk.path("runs/tiny-8/rounds.jsonl").is_file() && !desk.path("runs/tiny-8/seed_8").exists());
    let ended = desk.run(&["several.toml", "--set", "seed=4", "--set", "seeds=[5, 5]"]);
    assert!(ended.code == Some(2) && ended.err.contains("--set seeds: names 5 twice"), "{ended:?}");
}

#[test]
fn variants_have_the_seeds_inside() {
    let desk = Desk::new();
    let compare = "[[compare]]\nname = \"a\"\nset = {}\n[[compare]]\nname = \"b\"\nset = { \"training.lr\" = 0.01 }\n";
    let (plain, _) = super::TINY.split_once("[circuits]").unwrap();
    fs::write(desk.path("both.toml"), format!("{}{compare}", plain.replace("seed = 3", "seeds = [4, 6]"))).unwrap();
    let ended = desk.run(&["both.toml", "--rounds", "1", "--out", "out"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for run in ["a", "b"] {
        for file in ["summary.json", "plots/rounds.png", "seed_4/summary.json", "seed_6/report.html"] {
            assert!(desk.path("out").join(run).join(file).is_file(), "{run}/{file}");
        }
    }
    assert!(desk.path("out/plots/rounds.png").is_file());
    assert!(ended.out.lines().nth(1).unwrap().split_whitespace().eq(["a", "b"]), "{ended:?}");
}
