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
