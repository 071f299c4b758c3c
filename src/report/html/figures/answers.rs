//! What the average says where a client's circuit fails in it.

use std::collections::BTreeSet;

use super::super::drawing::bars::Bars;
use super::super::reading::circuits_file::class_number;
use super::super::reading::run::Run;
use super::Figure;
use super::maps::{Pair, pairs};

/// Circuits with a bar.
const MOST: usize = 30;
/// Classes with a colour; a folder's table may name any number.
const MAX_CLASSES: usize = 20;

/// Of the last round, the wrong answers of the global weights under each client's mask.
pub fn cross(run: &Run) -> Option<Figure> {
    let seed = run.seeds.first()?;
    let last = seed.last.as_ref()?;
    let all: Vec<Pair> = pairs(last).into_iter().filter(|pair| !pair.global.answers.is_empty()).collect();
    if all.is_empty() {
        return None;
    }
    let failing: Vec<(&Pair, Vec<(u32, u32)>)> =
        all.iter().map(|pair| (pair, wrong(pair))).filter(|(_, wrong)| !wrong.is_empty()).collect();
    let shown = &failing[..failing.len().min(MOST)];
    let called: BTreeSet<u32> = shown.iter().flat_map(|(_, wrong)| wrong.iter().map(|(class, _)| *class)).collect();
    let named: Vec<u32> = called.iter().copied().take(MAX_CLASSES).collect();
    let others = (called.len() > named.len()).then(|| "called another".to_string());
    let bar = |(pair, wrong): &(&Pair, Vec<(u32, u32)>)| {
        let sum = |wanted: &dyn Fn(u32) -> bool| -> f64 {
            wrong.iter().filter(|(called, _)| wanted(*called)).map(|(_, n)| f64::from(*n)).sum()
        };
        let each = named.iter().map(|class| sum(&|called| called == *class));
        let rest = others.iter().map(|_| sum(&|called| !named.contains(&called)));
        (pair.label.clone(), each.chain(rest).collect())
    };
    let bars = Bars {
        title: "Wrong answers under the client's mask".into(),
        x_title: "client and class",
        y_title: "images of the class",
        parts: named.iter().map(|class| format!("called {class}")).chain(others.clone()).collect(),
        bars: shown.iter().map(bar).collect(),
    };
    let scenes = if shown.is_empty() { vec![] } else { vec![bars.lying(348.0)] };
    let caption = format!(
        "The client's circuit as a mask on the global weights, in round {}: how many test images of the class it gets wrong, and \
         what it calls them. Bars of one colour everywhere are a class that dominates the average.{}",
        last.round,
        run.of_seed(seed)
    );
    let left_out = match (failing.len(), failing.len() - shown.len(), last.left_out) {
        (0, ..) => format!("Nothing to draw: all {} circuits get every image right.", all.len()),
        (_, 0, 0) => String::new(),
        (n, more, left_out) => {
            format!(
                "{} of {n} circuits with wrong answers have no bar; {left_out} clients are in circuits.json only.",
                more
            )
        }
    };
    Some(Figure::new("cross-answers", "Where the client's circuit fails", &caption, scenes).without(left_out))
}

/// The answers that are not the pair's class, by class.
fn wrong(pair: &Pair<'_>) -> Vec<(u32, u32)> {
    let own = class_number(pair.class);
    pair.global.answers.iter().filter(|(class, _)| Some(**class) != own).map(|(class, n)| (*class, *n)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::reading::circuits_file::Circuit;
    use super::*;

    #[test]
    fn only_wrong_answers_count() {
        let global = Circuit { answers: [(3, 10), (5, 2), (0, 1)].into(), ..Circuit::default() };
        let pair = |class| Pair { client: 0, class, label: String::new(), local: &global, global: &global };
        assert_eq!(wrong(&pair("3 - three")), [(0, 1), (5, 2)]);
        assert_eq!(wrong(&pair("5")), [(0, 1), (3, 10)]);
        assert_eq!(wrong(&pair("unknown")).len(), 3);
    }
}
