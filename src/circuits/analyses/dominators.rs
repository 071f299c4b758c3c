//! Silencing the strongest class (the paper, "dominator"): the channels that only its circuit has are zeroed in the global
//! model, and every class is looked at before and after.

use serde::Serialize;

use super::evaluate::{Standing, standing};
use super::{Found, Scene};
use crate::error::Result;

/// What silencing the class with the highest accuracy did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dominators {
    /// The class that the global model gets right most often, of those with a circuit; the lowest among equals.
    pub class: u32,
    /// Its specialist.
    pub client: usize,
    /// Share of its test images that the global model gets right.
    pub accuracy: f64,
    /// The channels zeroed, of each gated layer: in its circuit, and in no other class's.
    #[serde(serialize_with = "super::as_map")]
    pub silenced: Vec<(String, Vec<u32>)>,
    /// By class, of `dominators.csv`.
    #[serde(skip)]
    pub rows: Vec<DominatorRow>,
}

/// A class before and after; shares of its test images, and the mean probability the model gives it on them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DominatorRow {
    /// The class looked at.
    pub class: u32,
    /// The class silenced.
    pub dominator: u32,
    /// Channels silenced, of all layers.
    pub channels_silenced: usize,
    /// Test images of the class.
    pub images: usize,
    /// Right, before.
    pub top1_before: f64,
    /// Right, after.
    pub top1_after: f64,
    /// After less before.
    pub top1_change: f64,
    /// Among the three highest, before.
    pub top3_before: f64,
    /// Among the three highest, after.
    pub top3_after: f64,
    /// After less before.
    pub top3_change: f64,
    /// Probability of the class, before.
    pub p_before: f64,
    /// Probability of the class, after.
    pub p_after: f64,
    /// After less before.
    pub p_change: f64,
}

pub(super) fn run(scene: &Scene<'_>) -> Result<Found<Dominators>> {
    let experts = match scene.rivals() {
        Ok(experts) => experts,
        Err(why) => return Ok(Err(why)),
    };
    let before = |class: u32| {
        standing(scene.images[class as usize].iter().map(|image| scene.global_logits(*image)), class as usize)
    };
    let mut strongest: Option<(usize, f64)> = None;
    for (i, expert) in experts.iter().enumerate() {
        if let Some(standing) = before(expert.class).filter(|s| strongest.is_none_or(|(_, best)| s.top1 > best)) {
            strongest = Some((i, standing.top1));
        }
    }
    let Some((dominator, accuracy)) = strongest else {
        return Ok(Err("no class with a circuit has test images".into()));
    };
    let others = || experts.iter().enumerate().filter(|(i, _)| *i != dominator).map(|(_, e)| e.circuit);
    let expert = experts[dominator];
    let own = |(l, channels): (usize, &Vec<u32>)| -> Vec<u32> {
        channels.iter().copied().filter(|c| others().all(|o| o.channels[l].binary_search(c).is_err())).collect()
    };
    let silenced: Vec<Vec<u32>> = expert.circuit.channels.iter().enumerate().map(own).collect();
    let count = silenced.iter().map(Vec::len).sum();
    if count == 0 {
        let why = "has no channel that is in no other class's";
        return Ok(Err(format!("the circuit of class {}, the strongest, {why}", expert.class)));
    }
    let images: Vec<u32> = scene.images.concat();
    let gates = [scene.gates(&silenced, false)];
    let after = scene.evaluator.logits(scene.subject.global.all(), &[0], Some(&gates), &images)?.remove(0);
    let (mut rows, mut at) = (Vec::new(), 0);
    for (class, list) in (0..).zip(&scene.images) {
        let logits = after[at * scene.classes()..].chunks_exact(scene.classes()).take(list.len());
        at += list.len();
        if let (Some(before), Some(after)) = (before(class), standing(logits, class as usize)) {
            rows.push(row(class, expert.class, count, list.len(), before, after));
        }
    }
    let silenced = scene.gated().map(String::from).zip(silenced).collect();
    Ok(Ok(Dominators { class: expert.class, client: expert.client, accuracy, silenced, rows }))
}

fn row(
    class: u32,
    dominator: u32,
    channels_silenced: usize,
    images: usize,
    before: Standing,
    after: Standing,
) -> DominatorRow {
    DominatorRow {
        class,
        dominator,
        channels_silenced,
        images,
        top1_before: before.top1,
        top1_after: after.top1,
        top1_change: after.top1 - before.top1,
        top3_before: before.top3,
        top3_after: after.top3,
        top3_change: after.top3 - before.top3,
        p_before: before.probability,
        p_after: after.probability,
        p_change: after.probability - before.probability,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_after_less_before_each_of_its_own_figure() {
        let before = Standing { top1: 0.75, top3: 1.0, probability: 0.5 };
        let after = Standing { top1: 0.25, top3: 0.875, probability: 0.625 };
        let row = row(4, 7, 3, 20, before, after);
        assert_eq!((row.class, row.dominator, row.channels_silenced, row.images), (4, 7, 3, 20));
        assert_eq!([row.top1_change, row.top3_change, row.p_change], [-0.5, -0.125, 0.125]);
    }
}
