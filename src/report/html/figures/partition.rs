//! Who holds what.

use std::collections::BTreeMap;

use super::super::drawing::bars::Bars;
use super::super::reading::run::Run;
use super::Figure;

/// Clients with a bar.
const MOST: usize = 40;
/// Classes with a colour.
const MAX_CLASSES: usize = 14;

/// Examples of each client by class.
pub fn classes(run: &Run) -> Option<Figure> {
    let seed = run.seeds.first()?;
    let mut by_client: BTreeMap<usize, BTreeMap<u32, u64>> = BTreeMap::new();
    let mut classes: Vec<u32> = Vec::new();
    for (client, class, examples) in &seed.partition {
        *by_client.entry(*client).or_default().entry(*class).or_default() += examples;
        classes.push(*class);
    }
    classes.sort_unstable();
    classes.dedup();
    let (listed, all_classes) = (by_client.len(), classes.len());
    // Of a large population partition.csv lists the first.
    let clients = run.setting("partition.num_clients").parse().unwrap_or(0).max(listed);
    classes.truncate(MAX_CLASSES);
    // Evenly spaced from the first to the last.
    let step = listed.div_ceil(MOST).max(1);
    let bar = |(client, held): (usize, BTreeMap<u32, u64>)| {
        let parts = classes.iter().map(|class| held.get(class).copied().unwrap_or(0) as f64).collect();
        (format!("client {client}"), parts)
    };
    let bars: Vec<_> = by_client.into_iter().step_by(step).map(bar).collect();
    if bars.is_empty() {
        return None;
    }
    let shown = bars.len();
    let parts = classes.iter().map(|class| format!("class {class}")).collect();
    let bars = Bars { title: "Training examples".into(), x_title: "client", y_title: "examples", parts, bars };
    let caption = format!(
        "How many training examples of each class each client holds: bars of one colour are clients that know only one class, \
         equal bars are an even split.{}",
        run.of_seed(seed)
    );
    let mut left_out = Vec::new();
    if listed < clients {
        left_out.push(format!(
            "{shown} of the first {listed} of {clients} clients, evenly spaced; partition.csv has the first {listed}."
        ));
    } else if shown < listed {
        left_out.push(format!("{shown} of {listed} clients, evenly spaced; partition.csv has them all."));
    }
    if all_classes > MAX_CLASSES {
        left_out.push(format!("The first {MAX_CLASSES} of {all_classes} classes."));
    }
    let figure = Figure::new("partition", "Who holds what", &caption, vec![bars.lying(348.0)]);
    Some(figure.without(left_out.join(" ")))
}
