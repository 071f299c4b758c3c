//! What is remembered of a run's rounds: as much as its summary, tables and pictures show, as all else is on disk.

use std::path::Path;

use rayon::prelude::*;

use super::Outcome;
use super::folders::folder_of;
use crate::config::Experiment;
use crate::error::Result;
use crate::report::{
    CircuitRecord, Fates, HistoryRound, OverlapMean, RoundFigures, RoundRecord, RunFigures, RunView, SeedRound,
    draw_circuits, draw_rounds, figures,
};

/// Where the picture of a run, or of a comparison of runs, lies in its folder.
pub(super) const ROUNDS_PICTURE: &str = "plots/rounds.png";

/// A run over one seed or several.
pub(super) struct Finished {
    /// The variant's label; the experiment's name where nothing is compared.
    label: String,
    /// All seeds together, the last round with every figure.
    pub rounds: Vec<RoundFigures>,
    /// In the order of the experiment's.
    pub seeds: Vec<SeedRecords>,
    /// Those of each layer with circuits; empty where none were looked for.
    channels: Vec<(String, usize)>,
}

/// One seed of a run.
#[derive(Default)]
pub(super) struct SeedRecords {
    /// All rounds, without their clients.
    pub records: Vec<RoundRecord>,
    /// Of the last round.
    circuits: Vec<CircuitRecord>,
    /// Of the last round.
    pub overlaps: Vec<OverlapMean>,
    pub fates: Vec<Fates>,
    rounds: Vec<RoundFigures>,
}

impl Finished {
    pub fn new(label: String, channels: Vec<(String, usize)>) -> Self {
        Self { label, channels, rounds: Vec::new(), seeds: Vec::new() }
    }

    /// Takes a round in; its figures over all seeds are the last of `rounds`.
    pub fn add(&mut self, outcomes: &[Outcome]) -> &RoundFigures {
        self.seeds.resize_with(outcomes.len(), SeedRecords::default);
        let each = outcomes.iter().map(|o| figures(&o.record, &o.circuits, &o.controls, &o.overlap_means));
        let each: Vec<_> = each.collect();
        let (round, seconds) = outcomes.first().map_or((0, 0.0), |o| (o.record.round, o.record.seconds.total));
        for ((seed, outcome), figures) in self.seeds.iter_mut().zip(outcomes).zip(&each) {
            seed.add(outcome);
            extend(&mut seed.rounds, RoundFigures::new(round, seconds, std::slice::from_ref(figures)));
        }
        extend(&mut self.rounds, RoundFigures::new(round, seconds, &each))
    }

    /// The last round, for the run's history: whole where it is the last of the run, and else as far as it is shown later.
    pub fn history(&self, whole: bool) -> Option<HistoryRound> {
        let shown = |rounds: &[RoundFigures]| {
            let mut figures = rounds.last()?.clone();
            if !whole {
                figures.thin();
            }
            Some(figures)
        };
        let seed = |seed: &SeedRecords| {
            let record = seed.records.last()?.clone();
            let fates = seed.fates.last().copied().filter(|fates| fates.round == record.round);
            Some(SeedRound { fates, figures: shown(&seed.rounds)?, record })
        };
        Some(HistoryRound { figures: shown(&self.rounds)?, seeds: self.seeds.iter().filter_map(seed).collect() })
    }

    /// Takes in rounds of an earlier process.
    pub fn recall(&mut self, rounds: Vec<HistoryRound>) {
        for round in rounds {
            self.seeds.resize_with(round.seeds.len(), SeedRecords::default);
            for (seed, of) in self.seeds.iter_mut().zip(round.seeds) {
                seed.records.push(of.record);
                seed.fates.extend(of.fates);
                seed.rounds.push(of.figures);
            }
            self.rounds.push(round.figures);
        }
    }

    /// For the closing table.
    pub fn view(&self) -> RunView<'_> {
        RunView { label: &self.label, seeds: self.seeds.len(), rounds: &self.rounds }
    }

    /// For the picture of its rounds, beside others.
    pub fn figures(&self) -> RunFigures<'_> {
        RunFigures { name: &self.label, rounds: &self.rounds, circuits: &[], channels: &self.channels }
    }

    /// Draws its pictures: those of each seed in its folder, and where there are several their rounds together in
    /// `folder`.
    pub fn draw(&self, experiment: &Experiment, folder: &Path) -> Result<()> {
        let draw = |(i, seed): (usize, &SeedRecords)| {
            let name = match experiment.seeds.all() {
                [_] => self.label.clone(),
                seeds => format!("{}, seed {}", self.label, seeds[i]),
            };
            let SeedRecords { rounds, circuits, .. } = seed;
            let figures = RunFigures { name: &name, rounds, circuits, channels: &self.channels };
            let folder = folder_of(experiment, i, folder);
            draw_rounds(&[figures], &folder.join(ROUNDS_PICTURE))?;
            if self.channels.is_empty() { Ok(()) } else { draw_circuits(&figures, &folder.join("plots/circuits.png")) }
        };
        // A picture takes as long as a small round: those of many seeds are drawn at the same time.
        self.seeds.par_iter().enumerate().try_for_each(draw)?;
        if experiment.seeds.several() {
            draw_rounds(&[self.figures()], &folder.join(ROUNDS_PICTURE))?;
        }
        Ok(())
    }
}

impl SeedRecords {
    fn add(&mut self, outcome: &Outcome) {
        // What is said of single clients is in the files.
        let RoundRecord { round, seconds, ref global, readbacks, bytes_read_back, .. } = outcome.record;
        let (global, clients, dropped, sparsity) = (global.clone(), Vec::new(), Vec::new(), Vec::new());
        self.records.push(RoundRecord {
            round,
            seconds,
            global,
            clients,
            dropped,
            sparsity,
            readbacks,
            bytes_read_back,
        });
        self.fates.extend(Fates::new(&outcome.circuits));
        self.circuits = outcome.circuits.clone();
        self.overlaps = outcome.overlap_means.clone();
    }
}

/// Adds a round, after which the one before it is needed only as far as it is shown.
fn extend(rounds: &mut Vec<RoundFigures>, round: RoundFigures) -> &RoundFigures {
    if let Some(before) = rounds.last_mut() {
        before.thin();
    }
    rounds.push(round);
    &rounds[rounds.len() - 1]
}
