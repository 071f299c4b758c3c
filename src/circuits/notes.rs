//! What a user should be told in words: circuits that cannot be looked for, measured, or read as such.

use super::compare::Sampled;
use super::controls::Control;
use super::results::{CircuitResult, PairResult};
use crate::config::CircuitClasses;

/// Examples that a message names before it counts the rest.
const NAMED: usize = 3;

/// What a client is called, of a `seed` that is given where there are several.
pub(super) fn client(number: usize, seed: Option<u64>) -> String {
    seed.map_or_else(|| format!("client {number}"), |seed| format!("client {number} of seed {seed}"))
}

/// Before the run: of `chosen` classes, `owners` are the chosen clients, as they are called, with their examples of every class,
/// `images` the test images of every class.
pub(super) fn before_the_run(
    chosen: &CircuitClasses,
    owners: &[(String, Vec<u32>)],
    images: &[Vec<u32>],
) -> Vec<String> {
    let mut notes = Vec::new();
    let wanted = |class: usize| match chosen {
        CircuitClasses::Owned => owners.iter().any(|(_, owned)| owned[class] > 0),
        CircuitClasses::List(list) => list.contains(&(class as u32)),
    };
    for class in (0..images.len()).filter(|class| wanted(*class)) {
        if owners.iter().all(|(_, owned)| owned[class] == 0) {
            notes.push(format!(
                "circuits.classes: no chosen client has training examples of class {class}, so none of its circuits is \
                 looked for"
            ));
            continue;
        }
        let single = owners.iter().filter(|(_, owned)| owned[class] == 1).map(|(client, _)| client.clone());
        let single: Vec<String> = single.collect();
        if !single.is_empty() {
            let (who, has) = (named(&single), if single.len() == 1 { "has" } else { "have" });
            notes.push(format!("{who} {has} one example of class {class}: no circuit is looked for in it"));
        }
        if images[class].is_empty() {
            notes.push(format!(
                "class {class} is absent from the test set: its circuits are found, but what is measured on its images is \
                 not known"
            ));
        }
    }
    if notes.is_empty() && owners.iter().all(|(_, owned)| (0..images.len()).all(|c| owned[c] == 0 || !wanted(c))) {
        notes.push("no chosen client has examples of a chosen class: no circuits are looked for".into());
    }
    notes
}

/// What has been said of earlier rounds: a federation of one-class clients has empty circuits in every round, and one line
/// is enough.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    pub empty: bool,
    pub broken: bool,
    pub absent: bool,
    pub diverged: bool,
    pub sampled: bool,
}

impl Told {
    /// Before one-based `round` without a circuit to find; `anyone` says whether a chosen client takes part: if so, the
    /// reason lies in its examples, and was told before the run.
    pub fn of_cohort(&mut self, round: usize, last: bool, anyone: bool) -> Option<String> {
        let tell = !anyone && (last || !self.absent);
        self.absent |= !anyone;
        tell.then(|| {
            format!("round {round}: no client that circuits are looked for in takes part, so none are found in it")
        })
    }

    /// Of one-based `round`, the comparisons of which only a sample is listed; the first time.
    pub fn of_comparisons<'a>(
        &mut self,
        round: usize,
        sampled: impl Iterator<Item = &'a Sampled> + Clone,
    ) -> Option<String> {
        let first = sampled.clone().next().filter(|_| !self.sampled)?;
        self.sampled = true;
        let one = |s: &Sampled| format!("of {} one in {} of {} pairs", s.comparison.name(), s.stride, s.count);
        // Those of other seeds are of about as many circuits.
        let own: Vec<String> = sampled.filter(|s| s.replicate == first.replicate).map(one).collect();
        let listed = own.join(", ");
        Some(format!("round {round}: overlap.csv lists a sample: {listed}; overlap_means.csv is over all of them"))
    }

    /// After one-based `round`: circuits that are empty or have an empty layer, and a control whose training diverged, the
    /// first time and in the last round. `seeds` are those by replicate, as for [`client`].
    pub fn of_round(&mut self, round: usize, last: bool, results: &[PairResult], seeds: &[Option<u64>]) -> Vec<String> {
        let sides = results.iter().flat_map(|pair| [(pair, "local", &pair.local), (pair, "global", &pair.global)]);
        let which = |wanted: fn(&CircuitResult) -> bool| -> Vec<String> {
            let wanted = sides.clone().filter(|(_, _, circuit)| wanted(circuit));
            let who = |pair: &PairResult| client(pair.client, seeds[pair.replicate]);
            wanted.map(|(pair, side, _)| format!("{}, class {} ({side})", who(pair), pair.class)).collect()
        };
        let empty = which(|c| c.channels.iter().all(Vec::is_empty));
        let broken = which(|c| c.channels.iter().any(Vec::is_empty) && !c.channels.iter().all(Vec::is_empty));
        let all = 2 * results.len();
        let mut notes = Vec::new();
        if !empty.is_empty() && (last || !self.empty) {
            let (count, who) = (empty.len(), named(&empty));
            notes.push(format!(
                "round {round}: all gates closed in {count} of {all} searches, so these circuits are empty: {who}"
            ));
        }
        if !broken.is_empty() && (last || !self.broken) {
            let (count, who) = (broken.len(), named(&broken));
            notes.push(format!(
                "round {round}: {count} of {all} circuits have a layer without channels, so their answers do not depend on \
                 the image: {who}"
            ));
        }
        let beside = results.iter().flat_map(|pair| &pair.controls).filter(|c| c.control == Control::Centralised);
        let (all, diverged) = (beside.clone().count(), beside.filter(|c| !c.is_defined()).count());
        if diverged > 0 && (last || !self.diverged) {
            notes.push(format!(
                "round {round}: training without federation diverged, so the control \"centralised\" says nothing of \
                 {diverged} of {all} circuits; lower training.lr, or leave circuits.controls.centralised out"
            ));
        }
        self.diverged |= diverged > 0;
        self.empty |= !empty.is_empty();
        self.broken |= !broken.is_empty();
        notes
    }
}

/// The first few, and how many more there are.
fn named(all: &[String]) -> String {
    let first = all[..all.len().min(NAMED)].join("; ");
    if all.len() > NAMED { format!("{first}; and {} more", all.len() - NAMED) } else { first }
}

#[cfg(test)]
mod tests {
    use super::super::compare::Comparison;
    use super::*;

    #[test]
    fn clients_of_several_seeds_are_told_apart() {
        let owners = [Some(7), Some(8), None].map(|seed| (client(4, seed), vec![1]));
        let said = before_the_run(&CircuitClasses::Owned, &owners, &[vec![3]]);
        let want = "client 4 of seed 7; client 4 of seed 8; client 4 have one example of class 0: no circuit is looked for in it";
        assert_eq!(said, [want]);
    }

    #[test]
    fn comparisons_of_which_a_sample_is_listed_are_told_of_once() {
        let sampled = |replicate, comparison, stride, count| Sampled { replicate, comparison, stride, count };
        let both = [
            sampled(2, Comparison::Mismatched, 2, 21_600),
            sampled(2, Comparison::InterClientLocal, 3, 44_850),
            sampled(3, Comparison::Mismatched, 2, 21_600),
        ];
        let mut told = Told::default();
        assert_eq!(told.of_comparisons(1, [].iter()), None);
        let want = "round 2: overlap.csv lists a sample: of mismatched one in 2 of 21600 pairs, of inter_client_local one \
                    in 3 of 44850 pairs; overlap_means.csv is over all of them";
        assert_eq!(told.of_comparisons(2, both.iter()).unwrap(), want);
        assert_eq!(told.of_comparisons(3, both.iter()), None);
    }
}
