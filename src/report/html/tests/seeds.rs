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
