//! What pages say of numbers, and beneath pictures.

use super::*;

/// 1 of 21, which the evidence counts as below 0.05.
#[test]
fn a_probability_below_the_level_is_not_rounded_up_to_it() {
    let parent = tempfile::tempdir().unwrap();
    write_run(parent.path(), "small", 2);
    let path = parent.path().join("circuits.csv");
    let table = fs::read_to_string(&path).unwrap().replace(",0.95,0.04,", ",0.95,0.047619,");
    fs::write(path, table).unwrap();
    let page = report(&[parent.path()]);
    check(&page);
    assert!(section(&page, "table-circuit-table").contains(">0.048</td>"));
    assert!(page.contains("4 of 4 circuits tested are more sufficient"));
    assert!(page.contains("at p &lt; 0.05 (about 0.2 of 4 would be by chance)."));
}

#[test]
fn pictures_of_some_of_the_runs_say_of_how_many() {
    let parent = tempfile::tempdir().unwrap();
    let compared = |runs: std::ops::RangeInclusive<usize>| {
        runs.for_each(|i| write_run(&parent.path().join(format!("run-{i}")), &format!("run-{i}"), 1));
        report(&[parent.path()])
    };
    let figures = ["accuracy", "local-global", "measures", "diagnoses"];
    let all = compared(1..=14);
    assert!(figures.iter().all(|id| !section(&all, id).contains("left-out")));
    let some = compared(15..=15);
    check(&some);
    for id in figures {
        assert!(section(&some, id).contains("The first 14 of 15 runs."), "{id}");
    }
}

/// It is measured, and differs from seed to seed.
#[test]
fn the_centralised_model_has_the_band_that_the_caption_promises() {
    let parent = tempfile::tempdir().unwrap();
    for (seed, accuracy) in [("seed_1", "0.5"), ("seed_2", "0.75")] {
        let folder = parent.path().join(seed);
        write_run(&folder, "a", 1);
        let row = format!(
            "2,centralised,0,0,2,1,{accuracy},1,0.5,0.75,0.25\n1,centralised,0,0,2,1,{accuracy},1,0.5,0.75,0.25\n"
        );
        let table = fs::read_to_string(folder.join("controls.csv")).unwrap();
        fs::write(folder.join("controls.csv"), table + &row).unwrap();
    }
    let runs = Runs::read(&[parent.path().into()]).unwrap();
    let figures = runs.figures();
    let accuracy = figures.iter().find(|figure| figure.id == "accuracy").unwrap();
    let panel = accuracy.scenes.iter().find(|scene| scene.title.ends_with("classes with circuits")).unwrap();
    let band = |shape: &scene::Shape| matches!(shape, scene::Shape::Area { paint: scene::Paint::Series(2), .. });
    assert!(accuracy.caption.contains("Bands") && panel.shapes.iter().any(band));
}

#[test]
fn marks_of_chance_are_described_as_they_are_drawn() {
    let with = |keys: &str, variants: &[(&str, &str)]| {
        let parent = tempfile::tempdir().unwrap();
        write_sweep(parent.path(), keys, variants);
        let page = report(&[parent.path()]);
        check(&page);
        (section(&page, "against-1").to_string(), page)
    };
    let (lines, _) = with("sparsity.target", &[("a", "0.9"), ("b", "0.99")]);
    let grey = "in grey: what chance would give, of overlaps those of the same class";
    assert!(lines.contains(&format!("Dotted {grey}; in green: the noise ceiling")), "{lines}");
    let (rows, _) = with("training.optimizer", &[("a", "adam"), ("b", "sgd")]);
    assert!(rows.contains(&format!("Upright strokes {grey}")), "{rows}");
    let two = [("a", "0.9,adam"), ("b", "0.99,adam"), ("c", "0.9,sgd"), ("d", "0.99,sgd")];
    let (groups, page) = with("sparsity.target,training.optimizer", &two);
    assert!(groups.contains("Dotted, in the colour of what they belong to: what chance") && !groups.contains("green"));
    assert!(section(&page, "against-2").contains("Upright strokes, in the colour of what they belong to"));
}

/// Circuits of different sizes overlap by chance to different degrees.
#[test]
fn both_models_have_their_own_chance_beside_them() {
    let parent = tempfile::tempdir().unwrap();
    write_run(parent.path(), "a", 1);
    let path = parent.path().join("overlap.csv");
    let mut table = fs::read_to_string(&path).unwrap();
    for comparison in ["inter_client", "inter_class", "stability"] {
        table += &format!("2,{comparison}_local,node,all,0,0,0,1,9,9,0.25,0.5\n");
        table += &format!("2,{comparison}_global,node,all,0,0,0,1,2,2,0.375,0.125\n");
    }
    table += "2,mismatched,node,all,0,0,0,1,2,9,0.625,0.875\n";
    fs::write(path, table).unwrap();
    let page = report(&[parent.path()]);
    check(&page);
    for id in ["between-clients", "between-classes", "stability"] {
        let figure = section(&page, id);
        for said in ["chance, clients&#39; models: 0.50", "chance, global model: 0.12", "in the colour of what"] {
            assert!(figure.contains(said), "{id}: {figure}");
        }
    }
    let figure = section(&page, "local-global");
    assert!(figure.contains("chance: 0.25") && figure.contains("chance, another class: 0.88"), "{figure}");
}

/// A run of one client and class in two rounds, whose every column has a number of its own.
fn write_distinct(folder: &Path, lr: usize) {
    write_run(folder, "distinct", lr);
    let write = |file: &str, rows: &[&str]| {
        let path = folder.join(file);
        let head = fs::read_to_string(&path).unwrap().lines().next().unwrap().to_string();
        fs::write(path, format!("{head}\n{}\n", rows.join("\n"))).unwrap();
    };
    write(
        "circuits.csv",
        &[
            "1,local,0,0,1,1,0.51,0.02,,0.23,not_learned,0.45,0.01,0.15,0.75,0.021,,",
            "1,global,0,0,2,1,0.52,0.03,0.42,0.24,not_learned,0.5,0.01,0.16,0.76,0.022,0.82,0:4",
            "2,local,0,0,3,4,0.61,0.12,,0.33,preserved,0.71,0.01,0.21,0.83,0.031,,",
            "2,global,0,0,5,6,0.62,0.13,0.52,0.34,preserved,0.72,0.01,0.22,0.84,0.032,0.92,0:7 8:1 9:2",
        ],
    );
    write(
        "overlap.csv",
        &[
            "1,local_global,node,all,0,0,0,0,2,3,0.99,0.1",
            "2,local_global,node,conv1,0,0,0,0,3,5,0.41,0.11",
            "2,local_global,node,conv2,0,0,0,0,4,6,0.42,0.12",
            "2,local_global,node,all,0,0,0,0,7,11,0.43,0.13",
            "2,mismatched,node,all,0,0,0,1,7,11,0.23,0.14",
        ],
    );
    write(
        "controls.csv",
        &[
            "1,repeat,0,0,2,1,0.81,0.53,0.25,0.82,0.05",
            "2,repeat,0,0,2,1,0.91,0.63,0.35,0.92,0.15",
            "2,shuffled,0,0,2,1,0.94,0.64,0.36,0.24,0.16",
        ],
    );
    write(
        "curve.csv",
        &[
            "1,local,0,0,0.5,0.05",
            "2,local,0,0,0.5,0.25",
            "2,local,0,0,1,0.75",
            "2,global,0,0,0.5,0.35",
            "2,global,0,0,1,0.85",
            "2,global,0,1,0.5,0.15",
            "2,global,0,1,1,0.95",
        ],
    );
    let path = folder.join("rounds.jsonl");
    let clients = r#""clients":[{"client":1,"examples":3,"steps":1,"loss":0.75,"accuracy":1.0},"#;
    let rounds = fs::read_to_string(&path).unwrap().replace(r#""clients":["#, clients);
    fs::write(path, rounds.replace(r#""trained_accuracy":0.5,"#, r#""trained_accuracy":0.75,"#)).unwrap();
}

fn assert_said(page: &str, id: &str, said: &[&str]) {
    let section = section(page, id);
    for said in said {
        assert!(section.contains(said), "{id} lacks {said:?}: {section}");
    }
}

/// The texts of a table's rows, cell by cell.
fn rows_of(page: &str, id: &str) -> Vec<String> {
    let body = section(page, id).split("<tbody>").nth(1).unwrap().split("</tbody>").next().unwrap();
    let text = |cell: &str| cell.split_once('>').unwrap().1.split("</td>").next().unwrap().to_string();
    let row = |row: &str| row.split("<td").skip(1).map(text).collect::<Vec<_>>().join("|");
    body.split("<tr>").skip(1).map(row).collect()
}

/// Each picture and table of a run takes its numbers from the columns, the models and the rounds that it names.
#[test]
fn numbers_stand_under_the_names_of_their_columns() {
    let parent = tempfile::tempdir().unwrap();
    write_distinct(parent.path(), 1);
    let page = report(&[parent.path()]);
    check(&page);
    let figures: [(&str, &[&str]); 9] = [
        (
            "claim",
            &[
                "classifies 25.0% of the test images correctly (75.0% of those",
                "overlap by 0.43 (IoU",
                "of the same sizes would by 0.13.",
                "of different classes of the same client: 0.23",
                "(noise ceiling): 0.92; chance: 0.13.",
                "clients' models: 61.0% accuracy with all else ablated (sufficiency), 12.0% with",
                "33.0% false positives, 7.0 channels on average.",
                "global model: 62.0% accuracy with all else ablated (sufficiency), 13.0% with",
                "34.0% false positives, 11.0 channels on average.",
                "masks on the global weights: 52.0% accuracy",
            ],
        ),
        (
            "accuracy",
            &[
                "all classes: 15.0% at 1, 25.0% at 2.",
                "trained classes: 75.0% at 1, 75.0% at 2.",
                "class 0: 50.0% at 1",
            ],
        ),
        (
            "local-global",
            &["same class: 0.99 at 1, 0.43 at 2.", "chance: 0.10 at 1, 0.13 at 2.", "another class: 0.23 at 2."],
        ),
        (
            "local-global-pairs",
            &[
                "chance, all layers: 0.10 at 1, 0.13 at 2.",
                "another class, all layers: 0.23 at 2.",
                "conv1: 0.41 at 2.",
            ],
        ),
        (
            "measures",
            &[
                "sufficiency: 51.0% at 1, 61.0% at 2.",
                "sufficiency: 52.0% at 1, 62.0% at 2.",
                "necessity: 3.0% at 1, 13.0% at 2.",
                "false positives: 24.0% at 1, 34.0% at 2.",
                "cross: local mask: 42.0% at 1, 52.0% at 2.",
                "random circuits as large: 16.0% at 1, 22.0% at 2.",
                "nothing ablated: 50.0% at 1, 72.0% at 2.",
            ],
        ),
        (
            "sizes",
            &["clients&#39; models: 2.00 at 1, 7.00 at 2.", "global model: 3.00 at 1, 11.00 at 2.", "6.00 at 2."],
        ),
        (
            "curve",
            &[
                "clients&#39; models: 25.0% at 50.0%, 75.0% at 100.0%. global model: 25.0% at 50.0%, 90.0% at 100.0%.",
                "clients&#39; models: 25.0% at 50.0%, 75.0% at 100.0%. global model: 35.0% at 50.0%, 85.0% at 100.0%.",
                "accuracy on the class by channels kept. global model: 15.0% at 50.0%, 95.0% at 100.0%.",
            ],
        ),
        (
            "scatter",
            &[
                "2 dots: accuracy on the class against IoU of local and global circuit. r = -1.00.",
                "global circuit. r = 1.00.",
            ],
        ),
        (
            "clients",
            &["highest of the clients: 0.75 at 1", "mean over clients: 0.62", "lowest of the clients: 0.50 at 1"],
        ),
    ];
    for (id, said) in figures {
        assert_said(&page, id, said);
    }
    assert_said(&page, "partition", &["client 0: class 0 5, class 1 7."]);
    assert_said(&page, "cross-answers", &["called 8 1, called 9 2."]);
    assert_eq!(rows_of(&page, "table-rounds"), ["1|15.0%|75.0%|–|1.5", "2|25.0%|75.0%|–|1.5"]);
    let controls = rows_of(&page, "table-controls");
    let ends = [
        "–|–|22.0%|–|84.0%|0.032",
        "0.230|0.140|–|–|–|–",
        "0.920|0.150|63.0%|35.0%|–|–",
        "0.240|0.160|64.0%|36.0%|–|–",
    ];
    assert!(controls.len() == 4 && controls.iter().zip(ends).all(|(row, end)| row.ends_with(end)), "{controls:?}");
    let overlaps = rows_of(&page, "table-overlaps");
    let ends = ["all|0.430|0.130|3.3", "conv1|0.410|0.110|3.7", "conv2|0.420|0.120|3.5", "all|0.230|0.140|1.6"];
    assert!(overlaps.len() == 4 && overlaps.iter().zip(ends).all(|(row, end)| row.ends_with(end)), "{overlaps:?}");
    let circuits = [
        "0|0|client's|3|4|71.0%|61.0%|12.0%|–|33.0%|83.0%|0.031|preserved",
        "0|0|global|5|6|72.0%|62.0%|13.0%|52.0%|34.0%|84.0%|0.032|preserved",
    ];
    assert_eq!(rows_of(&page, "table-circuit-table"), circuits);
}

/// The same of several runs, beside each other and against the key in which they differ.
#[test]
fn numbers_of_several_runs_stand_under_the_names_of_their_columns() {
    let parent = tempfile::tempdir().unwrap();
    for lr in [1, 2] {
        write_distinct(&parent.path().join(format!("run-{lr}")), lr);
    }
    let page = report(&[parent.path()]);
    check(&page);
    let against = [
        "all classes: 25.0% at 0.1, 25.0% at 0.2.",
        "trained classes: 75.0% at 0.1, 75.0% at 0.2.",
        "same class: 0.43 at 0.1, 0.43 at 0.2.",
        "chance: 0.13 at 0.1",
        "noise ceiling: 0.92 at 0.1",
        "another class: 0.23 at 0.1",
        "global model: 11.00 at 0.1",
        "clients&#39; models: 7.00 at 0.1",
        "sufficiency: 62.0% at 0.1",
        "random circuits as large: 22.0% at 0.1",
        "false positives: 34.0% at 0.1",
        "necessity: 13.0% at 0.1",
        "cross: 52.0% at 0.1",
    ];
    assert_said(&page, "against-1", &against);
    assert_said(&page, "local-global", &[" : 0.10 at 1, 0.13 at 2.", "run-1: 0.99 at 1, 0.43 at 2."]);
    assert_said(
        &page,
        "measures",
        &["run-1: 51.0% at 1, 61.0% at 2.", "run-1: 52.0% at 1, 62.0% at 2.", "11.00 at 2."],
    );
    assert_said(&page, "diagnoses", &["preserved 1."]);
    let runs = rows_of(&page, "table-runs");
    let end = "1|2|25.0%|75.0%|0.430|0.130|0.230|7.000|11.000|62.0%|52.0%|34.0%|50.0%";
    assert!(runs.len() == 2 && runs.iter().all(|row| row.ends_with(end)), "{runs:?}");
}
