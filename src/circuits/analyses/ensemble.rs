//! The circuits as an ensemble (the paper, "max_of_circuits"): each class is scored by its own logit in the global model
//! cut down to the local circuit of its specialist, and the highest score wins.

use serde::Serialize;

use super::evaluate::winner;
use super::{Expert, Found, Scene, share};
use crate::error::Result;

/// The ensemble against the global model, both choosing among the same classes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ensemble {
    /// The classes that have a circuit, among which is chosen.
    pub classes: Vec<u32>,
    /// Test images of these classes.
    pub images: usize,
    /// Share of them that the ensemble gets right.
    pub ensemble_accuracy: f64,
    /// Share of them that the global model gets right, choosing among these classes only.
    pub global_accuracy: f64,
    /// By class, of `ensemble.csv`.
    #[serde(skip)]
    pub rows: Vec<EnsembleRow>,
}

/// One class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct EnsembleRow {
    /// The class.
    pub class: u32,
    /// Its specialist.
    pub client: usize,
    /// Its test images.
    pub images: usize,
    /// Share of them that the ensemble gets right.
    pub ensemble_accuracy: Option<f64>,
    /// Share of them that the global model gets right.
    pub global_accuracy: Option<f64>,
}

pub(super) fn run(scene: &Scene<'_>) -> Result<Found<Ensemble>> {
    let experts = match scene.rivals() {
        Ok(experts) => experts,
        Err(why) => return Ok(Err(why)),
    };
    let contested = scene.contested(experts);
    if contested.is_empty() {
        return Ok(Err("no class with a circuit has test images".into()));
    }
    let images: Vec<u32> = contested.iter().map(|(_, image)| *image).collect();
    let gates: Vec<Vec<f32>> = experts.iter().map(|e| scene.gates(&e.circuit.channels, true)).collect();
    let rows = vec![0; experts.len()];
    let logits = scene.evaluator.logits(scene.subject.global.all(), &rows, Some(&gates), &images)?;
    let score = |v: usize, i: usize| logits[v][i * scene.classes() + experts[v].class as usize];
    let vote = |i: usize| winner((0..experts.len()).map(|v| score(v, i)));
    let right = Right::count(scene, experts, &contested, vote);
    let rows = right.accuracies(experts).map(|(class, client, images, ensemble_accuracy, global_accuracy)| {
        EnsembleRow { class, client, images, ensemble_accuracy, global_accuracy }
    });
    let (ensemble_accuracy, global_accuracy) = right.overall();
    Ok(Ok(Ensemble {
        classes: experts.iter().map(|e| e.class).collect(),
        images: images.len(),
        ensemble_accuracy,
        global_accuracy,
        rows: rows.collect(),
    }))
}

/// Right answers of something put together from circuits, and of the global model, among the experts' classes.
pub(super) struct Right {
    by_class: Vec<RightOfClass>,
}

#[derive(Clone, Copy, Default)]
struct RightOfClass {
    images: usize,
    own: usize,
    global: usize,
}

impl Right {
    /// `vote` gives the place, among the experts, of the class chosen for the i-th of the `contested` images.
    pub fn count(
        scene: &Scene<'_>,
        experts: &[Expert<'_>],
        contested: &[(usize, u32)],
        vote: impl Fn(usize) -> usize,
    ) -> Self {
        let mut by_class = vec![RightOfClass::default(); experts.len()];
        for (i, (truth, image)) in contested.iter().enumerate() {
            let logits = scene.global_logits(*image);
            let global = winner(experts.iter().map(|e| logits[e.class as usize]));
            let row = &mut by_class[*truth];
            row.images += 1;
            row.own += usize::from(vote(i) == *truth);
            row.global += usize::from(global == *truth);
        }
        Self { by_class }
    }

    /// For every class: it, its specialist, its images, and both accuracies, undefined without images.
    pub fn accuracies(
        &self,
        experts: &[Expert<'_>],
    ) -> impl Iterator<Item = (u32, usize, usize, Option<f64>, Option<f64>)> {
        experts.iter().zip(&self.by_class).map(|(expert, RightOfClass { images, own, global })| {
            (expert.class, expert.client, *images, share(*own, *images), share(*global, *images))
        })
    }

    /// Accuracies over all images, of which there are some.
    pub fn overall(&self) -> (f64, f64) {
        let sum = |part: fn(&RightOfClass) -> usize| self.by_class.iter().map(part).sum::<usize>() as f64;
        let images = sum(|r| r.images);
        (sum(|r| r.own) / images, sum(|r| r.global) / images)
    }
}
