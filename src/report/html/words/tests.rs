//! Sentences of runs that are made up.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::reading::overlaps::Mean;
use super::super::reading::seed::{Control, Global, Round};
use super::super::reading::weights::Weights;
use super::*;

fn run(config: &str, seeds: Vec<Seed>) -> Run {
    Run {
        label: "a".into(),
        folder: PathBuf::new(),
        seeds,
        weights: Weights::default(),
        experiment: config.into(),
        config: config.parse().unwrap(),
        environment: String::new(),
        source: String::new(),
        swept: vec![],
    }
}

/// Of a seed with so many rounds.
fn seed(rounds: usize, circuits: Vec<Circuit>) -> Seed {
    let global = Global { accuracy: Some(0.5), trained_accuracy: Some(0.5), ..Global::default() };
    let round = |round| Round { round, global: global.clone(), ..Round::default() };
    Seed { rounds: (1..=rounds).map(round).collect(), circuits, ..Seed::default() }
}

/// A circuit of the global model, of client 0.
fn circuit(round: usize, class: u32, diagnosis: &str, measures: &[(&str, f64)]) -> Circuit {
    let columns: Arc<[String]> = measures.iter().map(|(name, _)| name.to_string()).collect();
    let values = measures.iter().map(|(_, value)| *value).collect();
    Circuit { round, global: true, client: 0, class, diagnosis: diagnosis.into(), columns, values }
}

fn control(round: usize, class: u32, accuracy: f64) -> Control {
    Control { round, control: "centralised".into(), class, accuracy, ..Control::default() }
}

#[test]
fn fates_are_of_the_seeds_with_circuits_and_the_claim_says_of_which_round() {
    let drifted = [0, 1].map(|class| circuit(1, class, "structural_drift", &[])).to_vec();
    let run = run("", vec![seed(2, drifted), seed(2, vec![])]);
    assert_eq!(fates(&run), BTreeMap::from([(1, vec![0.0, 2.0, 0.0, 0.0])]));
    let said = "Of 2 classes of clients in round 1, the last with circuits: 2 structural drift (means over seeds).";
    assert!(of_run(&run).claim.contains(said), "{}", of_run(&run).claim);
}

#[test]
fn a_number_that_some_seeds_lack_says_so() {
    let one = |n: f64| vec![circuit(2, 0, "preserved", &[("sufficiency", n)])];
    let evidence = of_run(&run("", vec![seed(2, one(0.75)), seed(2, one(f64::NAN))])).evidence;
    assert!(evidence[0].contains("75.0% (of 1 of 2 seeds) accuracy with all else ablated"), "{evidence:?}");
}

#[test]
fn a_ceiling_of_an_earlier_round_says_of_which() {
    let known = |round, ceiling| circuit(round, 0, "preserved", &[("ceiling", ceiling)]);
    let said = |last: f64| {
        let mut seed = seed(3, vec![known(2, 0.75), known(3, last)]);
        for round in [2, 3] {
            let key = (round, Comparison::LocalGlobal.name().into(), "all".into(), None);
            seed.overlaps.means.insert(key, mean_of(0.5));
        }
        of_run(&run("", vec![seed])).evidence.remove(0)
    };
    assert!(
        said(f64::NAN)
            .contains("same class: 0.50; of two searches in the same weights (noise ceiling) in round 2: 0.75;")
    );
    assert!(said(0.25).contains("(noise ceiling): 0.25;"), "{}", said(0.25));
}

#[test]
fn classes_without_a_fate_are_not_counted() {
    let run = run("", vec![seed(1, vec![circuit(1, 0, "", &[])])]);
    assert!(!of_run(&run).claim.contains("classes of clients"), "{}", of_run(&run).claim);
}

#[test]
fn too_few_random_circuits_prove_nothing() {
    for (random, says) in [
        (
            5,
            "2 circuits were tested against random circuits of the same sizes, too few to tell: p cannot be below 0.17.",
        ),
        (19, "p cannot be below 0.05."),
        (
            20,
            "1 of 2 circuits tested are more sufficient than random circuits of the same sizes at p < 0.05 (about 0.1 of 2 would be by chance).",
        ),
        // 1/39 alone is below 0.05: of 2/39 = 0.0513 none.
        (
            38,
            "1 of 2 circuits tested are more sufficient than random circuits of the same sizes at p < 0.05 (about 0.1 of 2 would be by chance).",
        ),
    ] {
        let text = against_random(&[1.0 / (1.0 + f64::from(random)), 1.0], Some(random));
        assert!(text.ends_with(says), "{random}: {text}");
    }
    // One of 39 places is below 0.05, of 40 one too (2/40 is not below), of 41 two, of 100 four, of 101 five.
    for (random, chance) in [(38, "2"), (39, "2"), (40, "4"), (99, "3"), (100, "4")] {
        let text = against_random(&[0.01; 80], Some(random));
        assert!(text.ends_with(&format!("(about {chance} of 80 would be by chance).")), "{random}: {text}");
    }
    let text = against_random(&[0.01; 36], None);
    assert!(text.contains("36 of 36 circuits") && text.ends_with("(about 2 of 36 would be by chance)."), "{text}");
}

fn mean_of(iou: f64) -> Mean {
    Mean { iou, chance: 0.1, pairs: 1 }
}

/// In round 1, client 0 with two classes of these overlaps, and as many others as wanted of one class that overlaps by `alone`.
fn overlapping(same: f64, other: f64, alone: &[f64]) -> Seed {
    let mut seed = seed(1, vec![circuit(1, 0, "preserved", &[])]);
    let mut pair = |client: usize, class: u32, iou: f64| {
        let of_pair = BTreeMap::from([(1, mean_of(iou))]);
        seed.overlaps.pairs.insert((client, class, "all".into()), of_pair);
    };
    (0..2).for_each(|class| pair(0, class, same));
    alone.iter().enumerate().for_each(|(i, iou)| pair(1 + i, 0, *iou));
    (0..2).for_each(|class| {
        seed.overlaps.mismatched.insert((0, class), BTreeMap::from([(1, mean_of(other))]));
    });
    let all = mean([same, same].into_iter().chain(alone.iter().copied()));
    for (comparison, iou) in [(Comparison::LocalGlobal, all), (Comparison::Mismatched, other)] {
        seed.overlaps.means.insert((1, comparison.name().into(), "all".into(), None), mean_of(iou));
    }
    seed
}

#[test]
fn overlaps_are_held_against_those_of_other_classes() {
    let with =
        |same: f64, other: f64| overlap_caveat(&run("", vec![overlapping(same, other, &[])])).unwrap_or_default();
    assert!(with(0.0, 0.22).contains("overlap no more (0.00) than circuits of different classes (0.22)"));
    assert!(with(0.3, 0.2).contains("overlap only 1.5 times as much"));
    assert_eq!(with(0.5, 0.2), "");
}

/// Those of one class have no other: what they are would be held against other clients.
#[test]
fn clients_of_one_class_say_nothing_about_other_classes() {
    let run = run("", vec![overlapping(0.5, 0.2, &[0.0, 0.0, 0.0])]);
    assert_eq!(overlap_caveat(&run), None, "0.5 to 0.2, not 0.2 to 0.2");
    let said = "same class: 0.20; of different classes of the same client: 0.20 (of the same class by clients that have several: 0.50)";
    assert!(of_run(&run).evidence[0].contains(said), "{:?}", of_run(&run).evidence);
}

#[test]
fn overlaps_of_two_rounds_are_not_held_against_each_other() {
    let mut seed = overlapping(0.5, 0.2, &[]);
    seed.overlaps.means.insert((2, Comparison::LocalGlobal.name().into(), "all".into(), None), mean_of(1.0));
    let run = run("", vec![seed]);
    assert_eq!((overlap_caveat(&run), run.mismatched().n), (None, 0));
    assert!(!of_run(&run).evidence[0].contains("different classes"), "{:?}", of_run(&run).evidence);
}

#[test]
fn the_last_circuits_are_of_one_round() {
    let early = seed(3, vec![circuit(2, 0, "preserved", &[("false_positive", 1.0), ("size_a", 0.0)])]);
    let late = seed(3, vec![circuit(3, 0, "preserved", &[("false_positive", 0.0), ("size_a", 1.0)])]);
    let run = run("", vec![early, late]);
    let said = caveats(&run);
    assert!(!said.iter().any(|said| said.contains("call at least half") || said.contains("no channel")), "{said:?}");
    assert_eq!(run.seeds.iter().map(|seed| run.last_circuits(seed).count()).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn labels_of_one_class_cannot_be_permuted() {
    let with = |partition: &[(usize, u32, u64)]| {
        let circuits = partition
            .iter()
            .map(|(client, class, _)| Circuit { client: *client, ..circuit(1, *class, "preserved", &[]) });
        let seed = Seed { partition: partition.to_vec(), ..seed(1, circuits.collect()) };
        permuted_caveat(&run("[circuits.controls]\npermuted = true\n", vec![seed])).unwrap_or_default()
    };
    assert!(with(&[(0, 3, 9), (1, 6, 9)]).starts_with("Every studied client holds a single class"));
    assert!(with(&[(0, 3, 9), (1, 6, 9), (1, 7, 9)]).starts_with("Some studied clients hold a single class"));
    assert_eq!(with(&[(1, 6, 9), (1, 7, 9)]), "");
}

#[test]
fn data_that_nobody_is_known_to_have_asked_for_took_no_place() {
    let with = |config: &str| {
        let read = Run { source: "digits".into(), ..run(config, vec![seed(1, vec![circuit(1, 0, "preserved", &[])])]) };
        caveats(&read).iter().any(|said| said.contains("MNIST's files were not found"))
    };
    assert!(with("data.source = \"mnist\"\n"));
    assert!(!with("data.source = \"digits\"\n") && !with(""));
}

/// Not beside the accuracy on all classes: the control knows only those with circuits.
#[test]
fn the_centralised_model_is_beside_the_global_one_on_the_same_classes() {
    let known = |class, accuracy| circuit(1, class, "preserved", &[("accuracy", accuracy)]);
    let mut seed = seed(1, vec![known(0, 0.5), known(0, 0.5), known(1, 0.25), known(2, 1.0)]);
    // Class 0 is that of two clients, and class 2 has no control.
    seed.controls = vec![control(1, 0, 1.0), control(1, 0, 1.0), control(1, 1, 0.5)];
    // As where the control diverged.
    seed.controls.push(control(1, 2, f64::NAN));
    let figures = super::super::figures::of_run(&run("", vec![seed]));
    let scenes = &figures.iter().find(|figure| figure.id == "accuracy").unwrap().scenes;
    let panel = scenes.iter().find(|scene| scene.title == "Test accuracy on classes with circuits").unwrap();
    assert!(panel.description.contains("centralised: 75.0%") && panel.description.contains("global model: 37.5%"));
    assert!(!scenes[0].description.contains("centralised"), "{}", scenes[0].description);
}

/// In whatever order they lie; circuits that answer to everything are no evidence here either.
#[test]
fn several_runs_go_from_the_least_value_to_the_greatest() {
    let with = |lr: &str, accuracy, false_positive| {
        let mut seed = seed(1, vec![circuit(1, 0, "preserved", &[("false_positive", false_positive)])]);
        seed.rounds[0].global.trained_accuracy = Some(accuracy);
        Run { swept: vec![("training.lr".into(), lr.into())], ..run("", vec![seed]) }
    };
    let words = of_runs(&[with("0.2", 0.75, 0.9), with("0.1", 0.25, 0.1), with("0.15", 1.0, 0.6)]);
    let across = "From training.lr 0.1 to 0.2, accuracy on trained classes goes from 25.0% to 75.0%.";
    assert!(words.claim.contains(across), "{}", words.claim);
    // As of two seeds in runs of their own: 0.5 on average at 0.1, and 0.25 at 0.2, whichever comes first.
    let several =
        [("0.1", 0.75), ("0.2", 0.5), ("0.1", 0.25), ("0.2", 0.0)].map(|(lr, trained)| with(lr, trained, 0.1));
    let across =
        "From training.lr 0.1 to 0.2 (means over runs of one value), accuracy on trained classes goes from 50.0% ±";
    let claim = of_runs(&several).claim;
    assert!(claim.contains(across) && claim.contains(" to 25.0% ±"), "{claim}");
    let trivial =
        "2 of 3 runs have circuits of the global model that on average call at least half of the other classes'";
    assert!(words.caveats.iter().any(|said| said.starts_with(trivial)), "{:?}", words.caveats);
    let seeds = [1.0, 0.5].map(|accuracy| {
        let run = with("1", accuracy, 0.1);
        Run { swept: vec![("circuits.seed".into(), accuracy.to_string())], ..run }
    });
    assert!(!of_runs(&seeds).claim.contains("From "));
    let unordered = of_runs(&[with("adam", 0.75, 0.1), with("sgd", 0.25, 0.1)]);
    assert!(!unordered.claim.contains("From ") && !unordered.caveats.iter().any(|said| said.contains("call")));
}
