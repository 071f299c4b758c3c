//! Reports of several seeds and of several runs.

use super::*;

#[test]
fn seeds_have_intervals_and_several_runs_are_compared() {
    let parent = tempfile::tempdir().unwrap();
    let (several, single) = (parent.path().join("several"), parent.path().join("single"));
    for (i, seed) in ["seed_9", "seed_10"].iter().enumerate() {
        write_run(&several.join(seed), "a", i + 1);
    }
    let page = report(&[&several]);
    check(&page);
    assert!(page.contains("2 seeds") && page.contains(" ± ") && page.contains("95% intervals"));
    write_run(&single, "a", 3);
    fs::write(several.join("experiment.toml"), "name = \"a\"\n").unwrap();
    let page = report(&[&several, &single]);
    check(&page);
    for said in ["2 runs compared", "several", "single", "training.lr", "1 of 2 runs have one seed"] {
        assert!(page.contains(said), "{said}");
    }
    // A folder that holds both is both.
    assert!(report(&[parent.path()]).contains("2 runs compared"));
}

/// As `[[compare]]` may name them.
#[test]
fn variants_named_like_seeds_are_runs_of_their_own() {
    let parent = tempfile::tempdir().unwrap();
    for (i, variant) in ["seed_a", "seed_b"].iter().enumerate() {
        write_run(&parent.path().join(variant), variant, i + 1);
    }
    let page = report(&[parent.path()]);
    check(&page);
    assert!(page.contains("2 runs compared"), "not one run of two seeds");
}

/// As a run with `seeds = [42, 7, 110]` leaves them, each with one client more than the one before.
fn write_seeds(folder: &Path) {
    for (i, seed) in ["seed_42", "seed_7", "seed_110"].iter().enumerate() {
        write_run(&folder.join(seed), "a", i + 1);
    }
    fs::write(folder.join("experiment.toml"), "name = \"a\"\nseeds = [42, 7, 110]\n").unwrap();
}

#[test]
fn seeds_have_their_numbers_and_the_order_of_the_configuration() {
    let parent = tempfile::tempdir().unwrap();
    write_seeds(parent.path());
    let page = report(&[parent.path()]);
    check(&page);
    assert!(page.contains("Of seed 42.") && !page.contains("Of seed 7.") && !page.contains("first seed"));
    let places = ["42", "7", "110"].map(|seed| page.find(&format!("data-v=\"{seed}\">{seed}</td>")).unwrap());
    assert!(page.contains(">seed</th>") && places.is_sorted(), "{places:?}");
    // Where the order is not known, it is that of the numbers.
    fs::remove_file(parent.path().join("experiment.toml")).unwrap();
    assert!(report(&[parent.path()]).contains("Of seed 7."));
}

#[test]
fn an_analysis_is_of_the_first_seed_that_has_it_and_a_skipped_one_says_why() {
    let parent = tempfile::tempdir().unwrap();
    write_seeds(parent.path());
    let said = |seed: &str, dominators: &str| {
        let text = format!(r#"{{"round": 2, "dominators": {dominators}, "cascade": {{"skipped": "<one> client"}}}}"#);
        fs::write(parent.path().join(seed).join("analyses.json"), text).unwrap();
    };
    said("seed_42", r#"{"skipped": "no channel of its own"}"#);
    said("seed_7", r#"{"class": 6}"#);
    said("seed_110", r#"{"class": 3}"#);
    for (seed, class) in [("seed_7", 6), ("seed_110", 3)] {
        let folder = parent.path().join(seed).join("analyses");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("dominators.csv"), format!("class,before\n{class},0.8764\n")).unwrap();
    }
    let page = report(&[parent.path()]);
    check(&page);
    assert!(page.contains(">0.876</td>") && page.contains("<section id=\"table-cascade\">"));
    assert!(page.contains("Of seed 7. 1 of 3 seeds skipped it; seed 42: no channel of its own.</p>"), "{page}");
    assert_eq!(count(&page, "&lt;one&gt; client</td>"), 3);
    // Alone, it has no number.
    let alone = report(&[&parent.path().join("seed_42")]);
    assert!(alone.contains(">skipped because</th>") && alone.contains(">no channel of its own</td>"));
    said("seed_42", "[");
    let error = write(&[parent.path().into()], parent.path()).unwrap_err().to_string();
    assert!(error.contains("analyses.json: line 1, column"), "{error}");
}

#[test]
fn means_over_some_of_the_seeds_are_marked_and_the_mark_is_explained() {
    let parent = tempfile::tempdir().unwrap();
    write_seeds(parent.path());
    let path = parent.path().join("seed_7/controls.csv");
    let table = fs::read_to_string(&path).unwrap();
    fs::write(&path, table.lines().next().unwrap()).unwrap();
    let page = report(&[parent.path()]);
    check(&page);
    assert!(page.contains(">0.750 ± 0.000 [2 of 3]</td>"));
    // Beneath the tables that have one: here, and where the first seed's one client has none to share channels with.
    assert_eq!(count(&page, "[n of N]: a mean over the n of N seeds for which it is defined.</p>"), 2);
}

#[test]
fn what_is_of_the_last_round_is_not_of_an_earlier_one_in_some_seed() {
    let parent = tempfile::tempdir().unwrap();
    write_seeds(parent.path());
    let edit = |file: &str, from: &str, to: &str| {
        let path = parent.path().join("seed_7").join(file);
        fs::write(&path, fs::read_to_string(&path).unwrap().replace(from, to)).unwrap();
    };
    let rows = |page: &str| count(section(page, "table-circuit-table"), "<tr>");
    let page = report(&[parent.path()]);
    assert!(section(&page, "table-specialists").contains("[2 of 3]") && rows(&page) == 1 + 2 * (1 + 2 + 3));
    assert!(section(&page, "partition").contains("Of seed 42."));
    edit("circuits.json", "round_2", "round_1");
    edit("circuits.csv", "\n2,", "\n1,");
    let page = report(&[parent.path()]);
    check(&page);
    assert!(section(&page, "table-specialists").contains("[1 of 3]") && rows(&page) == 1 + 2 * (1 + 3));
}

/// Two seeds in runs of their own, and another value.
#[test]
fn runs_of_one_value_are_averaged() {
    let parent = tempfile::tempdir().unwrap();
    for (run, lr) in [("a", 1), ("b", 2), ("c", 1)] {
        write_run(&parent.path().join(run), run, lr);
    }
    let path = parent.path().join("c/rounds.jsonl");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("\"accuracy\":0.25", "\"accuracy\":0.75")).unwrap();
    let page = report(&[parent.path()]);
    check(&page);
    let figure = section(&page, "against-1");
    assert!(figure.contains("all classes: 50.0% at 0.1, 25.0% at 0.2."), "{figure}");
    assert!(figure.contains("Runs of one value are averaged, and their intervals are over runs."));
    assert!(!figure.contains("One seed each"), "{figure}");
}

/// As of a run that has been lengthened.
#[test]
fn figures_of_an_earlier_report_go_and_nothing_else() {
    let parent = tempfile::tempdir().unwrap();
    write_run(parent.path(), "a", 1);
    let plots = parent.path().join("plots");
    fs::create_dir(&plots).unwrap();
    for name in ["whole-clients.svg", "whole-clients.png", "own.svg", "rounds.png", "accuracy.svg"] {
        fs::write(plots.join(name), "before").unwrap();
    }
    write(&[parent.path().into()], parent.path()).unwrap();
    let is = |name: &str| plots.join(name).is_file();
    assert!(!is("whole-clients.svg") && !is("whole-clients.png") && is("own.svg") && is("rounds.png"));
    assert_ne!(fs::read_to_string(plots.join("accuracy.svg")).unwrap(), "before");
    // A report is replaced, and a page that is none is not.
    write(&[parent.path().into()], parent.path()).unwrap();
    let page = parent.path().join(PAGE);
    fs::write(&page, "<title>Mine</title>").unwrap();
    let said = write(&[parent.path().into()], parent.path()).unwrap_err().to_string();
    assert!(said.contains("report.html: is no report of fedcircuit's"), "{said}");
    assert_eq!(fs::read_to_string(&page).unwrap(), "<title>Mine</title>");
    // Whatever there may be goes when it is not there any more.
    let runs = Runs::read(&[parent.path().into()]).unwrap();
    assert!(runs.figures().iter().all(|figure| figures::IDS.contains(&figure.id)));
}
