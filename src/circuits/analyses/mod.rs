//! What the paper's post-hoc scripts ask of a finished run: from the last round's models, its
//! circuits and the test images.
//!
//! The *specialist* of a class is the client with most training examples of it, the lowest number among equals. A class
//! takes part where its specialist has a circuit for it. What cannot be computed says why, and the others go on.

mod cascade;
mod centroids;
mod dominators;
mod ensemble;
mod evaluate;
mod patching;
mod shared_neurons;

use serde::{Serialize, Serializer};

pub use cascade::{Cascade, CascadeRow};
pub use centroids::{CentroidRow, Centroids};
pub use dominators::{DominatorRow, Dominators};
pub use ensemble::{Ensemble, EnsembleRow};
pub use patching::{LayerRescues, PatchRow, Patching};
pub use shared_neurons::{SharedNeurons, SharedRow};

use super::results::{CircuitResult, PairResult};
use crate::config::Analysis;
use crate::data::partition::count_classes;
use crate::data::{Population, indices_by_class};
use crate::device::{Buffer, View, f32s};
use crate::error::Result;
use crate::federation::{Pulse, Stage};
use evaluate::Evaluator;

/// A client's model as the last round's training left it.
#[derive(Clone, Copy, Debug)]
pub struct LocalModel<'a> {
    /// The client.
    pub client: usize,
    /// `[rows][P]`.
    pub weights: View<'a>,
    /// The client's row.
    pub row: usize,
}

/// A finished run, as the analyses see it.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Device, network and test images.
    pub stage: Stage<'a>,
    /// The last global model, `[P]`.
    pub global: &'a Buffer,
    /// The last round's local models, by client.
    pub locals: &'a [LocalModel<'a>],
    /// The last round's circuits, by client and class.
    pub pairs: &'a [PairResult],
    /// Who has which training examples.
    pub clients: &'a Population,
}

/// What one analysis found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Findings {
    /// See [`Patching`].
    Patching(Patching),
    /// See [`Dominators`].
    Dominators(Dominators),
    /// See [`Ensemble`].
    Ensemble(Ensemble),
    /// See [`Cascade`].
    Cascade(Cascade),
    /// See [`Centroids`].
    Centroids(Centroids),
    /// See [`SharedNeurons`].
    SharedNeurons(SharedNeurons),
}

/// An analysis, and what it found or why it could not be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysed {
    /// Which one.
    pub analysis: Analysis,
    /// What it found, or why it was skipped.
    pub findings: Found<Findings>,
}

/// Findings, or why there are none.
pub type Found<T> = std::result::Result<T, String>;

/// Does the `wanted` analyses, in the order given.
///
/// # Errors
/// What the device says, and [`crate::Error::Interrupted`].
pub fn analyse(subject: Subject<'_>, wanted: &[Analysis], pulse: &mut Pulse<'_>) -> Result<Vec<Analysed>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let scene = Scene::new(subject)?;
    let mut done = Vec::new();
    for analysis in wanted {
        let findings = match analysis {
            Analysis::Patching => patching::run(&scene, pulse)?.map(Findings::Patching),
            Analysis::Dominators => dominators::run(&scene)?.map(Findings::Dominators),
            Analysis::Ensemble => ensemble::run(&scene)?.map(Findings::Ensemble),
            Analysis::Cascade => cascade::run(&scene)?.map(Findings::Cascade),
            Analysis::Centroids => centroids::run(&scene)?.map(Findings::Centroids),
            Analysis::SharedNeurons => shared_neurons::run(&scene)?.map(Findings::SharedNeurons),
        };
        done.push(Analysed { analysis: *analysis, findings });
        pulse.beat(0)?;
    }
    Ok(done)
}

/// A class with its specialist and the circuit for it in the specialist's model.
#[derive(Clone, Copy)]
struct Expert<'a> {
    class: u32,
    client: usize,
    circuit: &'a CircuitResult,
}

/// What all analyses share.
struct Scene<'a> {
    subject: Subject<'a>,
    evaluator: Evaluator<'a>,
    /// Every class that a client with a local model holds, and its specialist.
    specialists: Vec<(u32, LocalModel<'a>)>,
    /// The specialists' circuits, by class.
    experts: Vec<Expert<'a>>,
    /// Test images, by class.
    images: Vec<Vec<u32>>,
    /// Logits of the global model for every test image, `[images][classes]`.
    global: Vec<f32>,
}

impl<'a> Scene<'a> {
    fn new(subject: Subject<'a>) -> Result<Self> {
        let network = subject.stage.network;
        let labels = &subject.stage.train.host_labels;
        let count =
            |l: &'a LocalModel<'a>| (l, count_classes(&subject.clients.examples(l.client), labels, network.classes));
        let counts: Vec<(&LocalModel<'_>, Vec<u32>)> = subject.locals.iter().map(count).collect();
        let holder = |class: usize| {
            // Of equal maxima the last one counts: so from the highest client down.
            let holders = counts.iter().rev().filter(|(_, counts)| counts[class] > 0);
            holders.max_by_key(|(_, counts)| counts[class]).map(|(local, _)| *local)
        };
        let specialists: Vec<(u32, LocalModel<'a>)> =
            (0..network.classes).filter_map(|class| Some((class as u32, *holder(class)?))).collect();
        let expert = |(class, local): &(u32, LocalModel<'_>)| {
            let pair = subject.pairs.iter().find(|p| (p.client, p.class) == (local.client, *class))?;
            Some(Expert { class: *class, client: local.client, circuit: &pair.local })
        };
        let evaluator = Evaluator { stage: subject.stage };
        let all: Vec<u32> = (0..subject.stage.test.host_labels.len() as u32).collect();
        Ok(Self {
            experts: specialists.iter().filter_map(expert).collect(),
            specialists,
            images: indices_by_class(&subject.stage.test.host_labels, network.classes),
            global: evaluator.logits(subject.global.all(), &[0], None, &all)?.remove(0),
            evaluator,
            subject,
        })
    }

    fn classes(&self) -> usize {
        self.subject.stage.network.classes
    }

    /// The global model's logits for test image `image`.
    fn global_logits(&self, image: u32) -> &[f32] {
        &self.global[image as usize * self.classes()..][..self.classes()]
    }

    /// The experts, or why there are too few of them for anything that sets classes against each other.
    fn rivals(&self) -> Found<&[Expert<'a>]> {
        match self.experts.len() {
            0 => Err("no class has a circuit in the model of the client with most examples of it".into()),
            1 => Err(format!("only class {} has a circuit: it takes two", self.experts[0].class)),
            _ if self.experts.iter().all(|e| e.circuit.channels.iter().all(Vec::is_empty)) => {
                Err("the circuits of all classes are empty".into())
            }
            _ => Ok(&self.experts),
        }
    }

    /// Test images of the experts' classes, each with the place of its class among the experts.
    fn contested(&self, experts: &[Expert<'_>]) -> Vec<(usize, u32)> {
        let of = |(i, expert): (usize, &Expert<'_>)| {
            let list = &self.images[expert.class as usize];
            list.iter().map(move |image| (i, *image)).collect::<Vec<_>>()
        };
        experts.iter().enumerate().flat_map(of).collect()
    }

    /// Gates that are `inside` for the given channels of each gated layer, and the opposite for all others.
    fn gates(&self, channels: &[Vec<u32>], inside: bool) -> Vec<f32> {
        let layout = &self.subject.stage.network.layout;
        let value = |inside: bool| f32::from(u8::from(inside));
        let mut gates = vec![value(!inside); layout.gate_words];
        for (range, channels) in layout.gates.iter().zip(channels) {
            channels.iter().for_each(|channel| gates[range.at + *channel as usize] = value(inside));
        }
        gates
    }

    /// Names of the gated layers.
    fn gated(&self) -> impl Iterator<Item = &str> {
        let network = self.subject.stage.network;
        network.layout.gates.iter().map(|range| network.layers[range.layer].name.as_str())
    }

    /// Reads back the global weights, `[P]`.
    fn global_weights(&self) -> Result<Vec<f32>> {
        let words = pollster::block_on(self.subject.stage.device.read(&[self.subject.global.all()]))?.remove(0);
        Ok(f32s(&words).to_vec())
    }

    /// Reads back the local models of `clients`, as many at once as one buffer of the device holds, and hands each on.
    fn local_weights(&self, clients: &[usize], mut take: impl FnMut(usize, &[f32])) -> Result<()> {
        let (stage, words) = (self.subject.stage, self.subject.stage.network.layout.words);
        let chosen: Vec<_> = self.subject.locals.iter().filter(|l| clients.contains(&l.client)).collect();
        for part in chosen.chunks(self.evaluator.rows_that_fit()) {
            let view = |l: &&LocalModel<'a>| l.weights.buffer.view(l.weights.start + l.row * words, words);
            let views: Vec<View<'_>> = part.iter().map(view).collect();
            let rows = pollster::block_on(stage.device.read(&views))?;
            part.iter().zip(&rows).for_each(|(local, row)| take(local.client, f32s(row)));
        }
        Ok(())
    }
}

/// The channels that are in any of the circuits, layer by layer, ascending.
fn union<'c>(layers: usize, circuits: impl Iterator<Item = &'c CircuitResult>) -> Vec<Vec<u32>> {
    let mut union = vec![Vec::new(); layers];
    circuits.for_each(|circuit| union.iter_mut().zip(&circuit.channels).for_each(|(all, own)| all.extend(own)));
    union.iter_mut().for_each(|channels: &mut Vec<u32>| {
        channels.sort_unstable();
        channels.dedup();
    });
    union
}

/// Pairs as a JSON object that keeps their order.
pub(crate) fn as_map<K: Serialize, V: Serialize, S: Serializer>(
    pairs: &[(K, V)],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
}

/// The share of `part` in `whole`; undefined of nothing.
fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
