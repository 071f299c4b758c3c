//! The words about several runs together.

use super::super::reading::run::{Run, together};
use super::super::reading::swept::{self, Swept};
use super::{MUCH, Words, last_fates, parts, percent, share};
use crate::report::{Comparison, Estimate};

/// Of several runs.
pub fn of_runs(runs: &[Run]) -> Words {
    let evidence = runs.iter().map(|run| format!("{}: {}", run.label, in_brief(run))).collect();
    Words { claim: claim(runs), evidence, caveats: caveats(runs) }
}

fn claim(runs: &[Run]) -> String {
    let best = |value: fn(&Run) -> Estimate| {
        let defined = runs.iter().map(|run| (run, value(run))).filter(|(_, estimate)| estimate.mean.is_finite());
        let defined: Vec<(&Run, Estimate)> = defined.collect();
        let (_, best) = *defined.iter().max_by(|a, b| a.1.mean.total_cmp(&b.1.mean))?;
        let labels =
            defined.iter().filter(|(_, estimate)| estimate.mean == best.mean).map(|(run, _)| run.label.as_str());
        Some((labels.collect::<Vec<_>>().join(" and "), best))
    };
    let mut said = vec![format!("{} runs compared.", runs.len())];
    said.extend(across(runs, &swept::keys(runs)));
    if let Some((labels, accuracy)) = best(|run| run.accuracy(|global| global.trained_accuracy)) {
        said.push(format!("Highest accuracy on trained classes: {labels}, {}.", percent(&accuracy)));
    }
    if let Some((labels, overlap)) = best(|run| run.overlap(Comparison::LocalGlobal, false)) {
        said.push(format!("Highest overlap of local and global circuits: {labels}, {}.", share(&overlap)));
    }
    said.join(" ")
}

/// From the least to the greatest value of the one key in which runs differ, if it is a number.
fn across(runs: &[Run], keys: &[Swept]) -> Option<String> {
    let [Swept { key, values }] = keys else { return None };
    // The numbers of seeds are names.
    if ["seed", "seeds"].contains(&swept::short(key)) {
        return None;
    }
    let values = values.iter().map(|value| value.parse().ok().filter(|value: &f64| value.is_finite()));
    let values: Vec<f64> = values.collect::<Option<_>>()?;
    let ends = [values.iter().copied().min_by(f64::total_cmp)?, values.iter().copied().max_by(f64::total_cmp)?];
    let of = |end: f64| runs.iter().zip(&values).filter(move |(_, value)| **value == end).map(|(run, _)| run);
    let each = ends.map(|end| of(end).collect::<Vec<&Run>>());
    let both = |value: &dyn Fn(&Run) -> Estimate| each.each_ref().map(|runs| together(runs, value));
    let mut moved = Vec::new();
    let [from, to] = both(&|run| run.accuracy(|global| global.trained_accuracy));
    if from.mean.is_finite() && to.mean.is_finite() {
        moved.push(format!("accuracy on trained classes goes from {} to {}", percent(&from), percent(&to)));
    }
    let [from, to] = both(&|run| run.overlap(Comparison::LocalGlobal, false));
    if from.mean.is_finite() && to.mean.is_finite() {
        let [chance, other] = both(&|run| run.overlap(Comparison::LocalGlobal, true));
        moved.push(format!(
            "the overlap of local and global circuits goes from {} (by chance {}) to {} (by chance {})",
            share(&from),
            share(&chance),
            share(&to),
            share(&other)
        ));
    }
    let [least, greatest] = ends;
    let means = if each.iter().any(|runs| runs.len() > 1) { " (means over runs of one value)" } else { "" };
    (!moved.is_empty()).then(|| format!("From {key} {least} to {greatest}{means}, {}.", moved.join(", and ")))
}

/// A run's numbers beside those of others.
fn in_brief(run: &Run) -> String {
    if run.last_round() == 0 {
        return "no round is finished yet.".into();
    }
    let (accuracy, trained) = (run.accuracy(|global| global.accuracy), run.accuracy(|global| global.trained_accuracy));
    let mut text = format!("accuracy {}, on trained classes {}", percent(&accuracy), percent(&trained));
    let overlap = run.overlap(Comparison::LocalGlobal, false);
    if overlap.mean.is_finite() {
        let chance = run.overlap(Comparison::LocalGlobal, true);
        text += &format!("; overlap of local and global circuits {}, by chance {}", share(&overlap), share(&chance));
    }
    if let Some(counts) = last_fates(run) {
        text += &format!("; classes of clients: {}", parts(&counts));
    }
    text + "."
}

fn caveats(runs: &[Run]) -> Vec<String> {
    let all = runs.len();
    let count = |which: &dyn Fn(&Run) -> bool| runs.iter().filter(|run| which(run)).count();
    let mut said = Vec::new();
    let mut add = |count: usize, what: &str| {
        if count > 0 {
            said.push(format!("{count} of {all} runs {what}"));
        }
    };
    add(count(&|run| run.planned().is_some()), "are not finished.");
    add(count(&Run::fell_back), "did not find MNIST's files: their images are the built-in digits.");
    add(count(&|run| run.seeds.len() == 1), "have one seed: a difference between them may be no more than chance.");
    add(
        count(&|run| (2..=4).contains(&run.seeds.len())),
        "have 2 to 4 seeds: their 95% intervals are wide, and rest on differences between seeds being normal.",
    );
    add(
        count(&|run| run.of_circuits(true, |circuit| circuit.measure("false_positive")).mean >= MUCH),
        "have circuits of the global model that on average call at least half of the other classes' images their class: \
         their sufficiency is no evidence that they recognise it.",
    );
    said.push(
        "A difference is shown, not tested: runs that differ in more than one key of the configuration do not say which one \
         made it."
            .into(),
    );
    said
}
