//! The claim, the evidence and the caveats of a run, in sentences that follow from its numbers.

mod several;

use std::collections::{BTreeMap, BTreeSet};

use super::drawing::axes::Unit;
use super::figures::{FATES, fates};
use super::reading::run::{Run, mean};
use super::reading::seed::{Circuit, Seed};
use crate::report::{Comparison, Estimate};

pub use several::of_runs;

/// A share of false positives from which a circuit's sufficiency says nothing.
const MUCH: f64 = 0.5;
/// The customary level of significance.
const LEVEL: f64 = 0.05;

/// What a report says before its figures.
#[derive(Debug, Default, PartialEq)]
pub struct Words {
    /// In one or two sentences.
    pub claim: String,
    /// A sentence a number.
    pub evidence: Vec<String>,
    /// What weakens it.
    pub caveats: Vec<String>,
}

/// Of one run.
pub fn of_run(run: &Run) -> Words {
    Words { claim: claim(run), evidence: evidence(run), caveats: caveats(run) }
}

fn percent(estimate: &Estimate) -> String {
    estimate.unmarked().percent() + &partly(estimate)
}

fn share(value: &Estimate) -> String {
    decimals(value, 2)
}

fn decimals(value: &Estimate, places: usize) -> String {
    value.unmarked().decimals(places) + &partly(value)
}

/// Of how many seeds something is a mean, where it is not of all.
fn partly(estimate: &Estimate) -> String {
    match estimate.undefined {
        0 => String::new(),
        _ => format!(" (of {} of {} seeds)", estimate.n, estimate.n + estimate.undefined),
    }
}

/// Which round the circuits are of, where it is not the last.
fn of_round(run: &Run) -> String {
    let earlier = Some(run.last_studied()).filter(|round| *round != 0 && *round != run.last_round());
    earlier.map_or_else(String::new, |round| format!(" in round {round}, the last with circuits,"))
}

fn claim(run: &Run) -> String {
    let (accuracy, trained) = (run.accuracy(|global| global.accuracy), run.accuracy(|global| global.trained_accuracy));
    let rounds = match run.last_round() {
        0 => return "No round is finished yet.".into(),
        1 => "After 1 round".to_string(),
        rounds => format!("After {rounds} rounds"),
    };
    let mut text = format!("{rounds} the global model classifies {} of the test images correctly", percent(&accuracy));
    if (trained.mean - accuracy.mean).abs() > 0.005 {
        text += &format!(" ({} of those of classes that some client holds)", percent(&trained));
    }
    text.push('.');
    let (overlap, chance) = (run.overlap(Comparison::LocalGlobal, false), run.overlap(Comparison::LocalGlobal, true));
    if overlap.mean.is_finite() {
        text += &format!(
            " A class's circuits in a client's model and in the average{} overlap by {} (IoU: the channels in both over those in \
             either); random circuits of the same sizes would by {}.",
            of_round(run),
            share(&overlap),
            share(&chance)
        );
    }
    if let Some(counts) = last_fates(run) {
        let total: f64 = counts.iter().sum();
        let means = if run.seeds.len() > 1 { " (means over seeds)" } else { "" };
        let (total, of) = (Unit::Count.text(total), of_round(run));
        text += &format!(" Of {total} classes of clients{}: {}{means}.", of.trim_end_matches(','), parts(&counts));
    }
    text
}

/// How many classes of clients had which fate in the last round with circuits; nothing where none is known.
fn last_fates(run: &Run) -> Option<Vec<f64>> {
    fates(run).into_values().next_back().filter(|counts| counts.iter().any(|count| *count > 0.0))
}

fn evidence(run: &Run) -> Vec<String> {
    let mut said = Vec::new();
    let overlap = run.overlap(Comparison::LocalGlobal, false);
    if overlap.mean.is_finite() {
        let mut text = format!("Overlap of local and global circuits of the same class: {}", share(&overlap));
        let mismatched = run.mismatched();
        if mismatched.mean.is_finite() {
            text += &format!("; of different classes of the same client: {}", share(&mismatched));
            // Where some clients have one class, or many more than others, the two are means over different clients.
            let same = run.same_and_other_class().map(|(same, _)| same);
            if let Some(same) = same.filter(|same| (same - overlap.mean).abs() >= 0.005) {
                text += &format!(" (of the same class by clients that have several: {same:.2})");
            }
        }
        let (ceiling, earlier) = run.ceiling();
        if ceiling.mean.is_finite() {
            let of = earlier.map_or_else(String::new, |round| format!(" in round {round}"));
            text += &format!("; of two searches in the same weights (noise ceiling){of}: {}", share(&ceiling));
        }
        said.push(format!("{text}; chance: {}.", share(&run.overlap(Comparison::LocalGlobal, true))));
    }
    for (title, global) in [("clients' models", false), ("global model", true)] {
        let of = |name: &str| run.of_circuits(global, |c| c.measure(name));
        let sufficiency = of("sufficiency");
        if sufficiency.mean.is_finite() {
            let mut text = format!(
                "Circuits of the {title}: {} accuracy with all else ablated (sufficiency)",
                percent(&sufficiency)
            );
            for (measure, words) in
                [("necessity", "with the circuit ablated (necessity)"), ("false_positive", "false positives")]
            {
                let value = of(measure);
                if value.mean.is_finite() {
                    text += &format!(", {} {words}", percent(&value));
                }
            }
            let size = run.of_circuits(global, Circuit::size);
            said.push(format!("{text}, {} channels on average.", decimals(&size, 1)));
        }
    }
    let cross = run.of_circuits(true, |c| c.measure("cross"));
    if cross.mean.is_finite() {
        said.push(format!(
            "The clients' circuits as masks on the global weights: {} accuracy on their classes.",
            percent(&cross)
        ));
    }
    let tested: Vec<f64> = last_with(run, "random_p").iter().map(|c| c.measure("random_p")).collect();
    if !tested.is_empty() {
        said.push(against_random(&tested, run.setting("circuits.controls.random").parse().ok()));
    }
    said
}

/// How many circuits of those `tested`, of which these are the p-values, are more sufficient than their `random` ones.
fn against_random(tested: &[f64], random: Option<u32>) -> String {
    let least = random.map_or(0.0, |random| 1.0 / (1.0 + f64::from(random)));
    if least >= LEVEL {
        return format!(
            "{} circuits were tested against random circuits of the same sizes, too few to tell: p cannot be below {least:.2}.",
            tested.len()
        );
    }
    let below = tested.iter().filter(|p| **p < LEVEL).count();
    let tested = tested.len();
    // Without ties a circuit that is one of the random ones has each place among them as often, and p is k / (n + 1).
    let level = random.map_or(LEVEL, |random| {
        let of = 1.0 + f64::from(random);
        (1..=random).take_while(|k| f64::from(*k) / of < LEVEL).count() as f64 / of
    });
    let chance = level * tested as f64;
    format!(
        "{below} of {tested} circuits tested are more sufficient than random circuits of the same sizes at p < {LEVEL} (about \
         {chance:.places$} of {tested} would be by chance).",
        places = usize::from(chance < 1.0)
    )
}

/// Circuits of the last round that has this measure, of all seeds.
fn last_with<'a>(run: &'a Run, measure: &str) -> Vec<&'a Circuit> {
    let with = |seed: &'a Seed| seed.circuits.iter().filter(|circuit| circuit.measure(measure).is_finite());
    let last = run.seeds.iter().flat_map(with).map(|circuit| circuit.round).max().unwrap_or(0);
    run.seeds.iter().flat_map(with).filter(|circuit| circuit.round == last).collect()
}

fn caveats(run: &Run) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(planned) = run.planned() {
        said.push(format!(
            "Not finished: {} of {planned} rounds are done, and what follows is of the last one.",
            run.last_round()
        ));
    }
    match run.seeds.len() {
        1 => said.push(
            "One seed: nothing here tells how much another seed would differ. Set seeds = [1, 2, 3] to know.".into(),
        ),
        n @ 2..=4 => said.push(format!(
            "{n} seeds: the 95% intervals are wide, and rest on differences between seeds being normal."
        )),
        _ => {}
    }
    let circuits: Vec<&Circuit> = run.seeds.iter().flat_map(|seed| run.last_circuits(seed)).collect();
    if circuits.is_empty() {
        return said;
    }
    let trivial: Vec<f64> = circuits.iter().map(|c| f64::from(u8::from(c.measure("false_positive") >= MUCH))).collect();
    let trivial = mean(trivial.into_iter());
    if trivial > 0.0 {
        said.push(format!(
            "{} of the last round's circuits call at least half of the other classes' images their class: their sufficiency is no \
             evidence that they recognise it.",
            Unit::Percent.text(trivial)
        ));
    }
    let empty = circuits.iter().filter(|c| c.sizes().any(|(_, size)| size == 0.0)).count();
    if empty > 0 {
        said.push(format!(
            "{empty} of {} circuits have no channel in some layer: alone, such a network answers without regard to the image.",
            circuits.len()
        ));
    }
    said.extend(overlap_caveat(run));
    said.extend(permuted_caveat(run));
    said.extend(missing_controls(run));
    if run.source == "digits" {
        let why = if run.fell_back() { "MNIST's files were not found: the" } else { "The" };
        said.push(format!(
            "{why} images are the built-in digits, easier than MNIST, so the numbers do not compare with published ones."
        ));
    }
    said
}

/// What is not known where a control was not asked for.
fn missing_controls(run: &Run) -> Vec<String> {
    let mut said = Vec::new();
    for (control, key, what) in [
        (
            "repeat",
            "circuits.controls.repeat",
            "Without the repeated search there is no noise ceiling: part of every missing overlap may be the search's own noise.",
        ),
        (
            "permuted",
            "circuits.controls.permuted",
            "No control with permuted labels: what the search finds in data without meaning is not known.",
        ),
    ] {
        if !run.seeds.iter().any(|seed| seed.controls.iter().any(|row| row.control == control))
            && run.setting(key) != "true"
        {
            said.push(what.into());
        }
    }
    let asked = run.setting("circuits.controls.random").parse::<u32>().is_ok_and(|random| random > 0);
    if !asked && last_with(run, "random_p").is_empty() {
        said.push("No random circuits were tried: sufficiency has no baseline here.".into());
    }
    said
}

/// Where different classes overlap nearly as much as equal ones.
fn overlap_caveat(run: &Run) -> Option<String> {
    let (same, other) = run.same_and_other_class()?;
    let whose = "In clients with several classes, circuits of the same class overlap";
    if same <= other {
        return Some(format!(
            "{whose} no more ({same:.2}) than circuits of different classes ({other:.2}): nothing of it is about the class."
        ));
    }
    let ratio = same / other;
    (ratio.is_finite() && ratio < 2.0).then(|| {
        format!(
            "{whose} only {ratio:.1} times as much as circuits of different classes: much of the overlap is channels of general \
             use, not the class."
        )
    })
}

/// Where clients hold one class, whose labels cannot be permuted.
fn permuted_caveat(run: &Run) -> Option<String> {
    let held = |seed: &Seed| {
        let mut held: BTreeMap<usize, BTreeSet<u32>> = BTreeMap::new();
        for (client, class, _) in seed.partition.iter().filter(|(_, _, examples)| *examples > 0) {
            held.entry(*client).or_default().insert(*class);
        }
        let studied: BTreeSet<usize> = run.last_circuits(seed).map(|circuit| circuit.client).collect();
        held.into_iter().filter(|(client, _)| studied.contains(client)).map(|(_, classes)| classes.len()).collect()
    };
    let held: Vec<usize> = run.seeds.iter().flat_map(|seed| -> Vec<usize> { held(seed) }).collect();
    let alone = held.iter().filter(|classes| **classes == 1).count();
    if run.setting("circuits.controls.permuted") != "true" || alone == 0 {
        return None;
    }
    let whose = if alone == held.len() { "Every studied client holds" } else { "Some studied clients hold" };
    Some(format!(
        "{whose} a single class, whose labels are the same in any order: no control with permuted labels there."
    ))
}

/// How many had which fate.
fn parts(counts: &[f64]) -> String {
    let parts = counts.iter().zip(FATES).filter(|(count, _)| **count > 0.0);
    let parts: Vec<String> = parts.map(|(count, (_, words))| format!("{} {words}", Unit::Count.text(*count))).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests;
