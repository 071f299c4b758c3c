//! The figures of a report: pictures with what they are, how to read them, and what they leave out.

mod against;
mod answers;
mod circuits;
mod compare;
mod maps;
mod network;
mod overlap;
mod partition;
mod readout;
mod training;

pub use circuits::{FATES, fates};

use super::drawing::chart::{Line, Style};
use super::drawing::scene::{Paint, SERIES, Scene};
use super::reading::run::Run;

/// The names of all figures that there may be in a folder.
pub const IDS: [&str; 23] = [
    "accuracy",
    "local-global",
    "local-global-pairs",
    "diagnoses",
    "measures",
    "cross-answers",
    "sizes",
    "between-clients",
    "between-classes",
    "whole-clients",
    "stability",
    "graphs",
    "channels",
    "overlap-matrices",
    "readout",
    "curve",
    "scatter",
    "partition",
    "clients",
    against::IDS[0],
    against::IDS[1],
    against::IDS[2],
    against::IDS[3],
];

/// A figure.
pub struct Figure {
    /// The name of its files.
    pub id: &'static str,
    /// What it shows.
    pub title: String,
    /// How to read it.
    pub caption: String,
    /// What it leaves out; empty if nothing.
    pub left_out: String,
    /// Its pictures.
    pub scenes: Vec<Scene>,
}

impl Figure {
    fn new(id: &'static str, title: &str, caption: &str, scenes: Vec<Scene>) -> Self {
        Self { id, title: title.into(), caption: caption.into(), left_out: String::new(), scenes }
    }

    fn without(mut self, left_out: impl Into<String>) -> Self {
        self.left_out = left_out.into();
        self
    }
}

/// Every figure that a run has data for, in the order of the page.
pub fn of_run(run: &Run) -> Vec<Figure> {
    let all = [
        training::accuracy(run),
        overlap::local_global(run),
        overlap::by_pair(run),
        circuits::diagnoses(run),
        circuits::measures(run),
        answers::cross(run),
        circuits::sizes(run),
        overlap::clients(run),
        overlap::classes(run),
        overlap::specialists(run),
        overlap::stability(run),
        network::circuits(run),
        maps::channels(run),
        maps::overlaps(run),
        readout::shared(run),
        circuits::curves(run),
        circuits::scatter(run),
        partition::classes(run),
        training::clients(run),
    ];
    // Without a picture, a figure can still say why.
    let says = |figure: &Figure| !figure.scenes.is_empty() || !figure.left_out.is_empty();
    all.into_iter().flatten().filter(says).collect()
}

/// Every figure that compares several runs.
pub fn of_runs(runs: &[Run]) -> Vec<Figure> {
    let all = [compare::accuracy(runs), compare::overlap(runs), compare::circuits(runs), compare::diagnoses(runs)];
    against::all(runs).into_iter().chain(all.into_iter().flatten()).filter(|figure| !figure.scenes.is_empty()).collect()
}

/// The colour and style of the `i`-th of many lines: further ones take the colours again, in dashes.
fn nth(i: usize) -> (Paint, Style) {
    let style = if (i / SERIES).is_multiple_of(2) { Style::Solid } else { Style::Dashed };
    (Paint::Series(i), style)
}

/// Lines that have values.
fn present(lines: Vec<Line>) -> Vec<Line> {
    lines.into_iter().filter(|line| line.points.iter().any(|point| point.mean.is_finite())).collect()
}

/// What to say of intervals, where there are any.
fn bands(run: &Run) -> &'static str {
    if run.seeds.len() > 1 {
        " Bands, where few lines leave room for them, are 95% intervals of the mean over seeds."
    } else {
        ""
    }
}
