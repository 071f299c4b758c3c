//! A run's checkpoints while it goes on, and its history: what lets another process go on where this one is ended.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::Federation;
use super::checkpoint::{Checkpoint, Marks, Origin, Store};
use super::finished::Finished;
use super::folders::{Folders, Start};
use crate::config::{Experiment, Output};
use crate::error::Result;
use crate::report::Begin;
use crate::report::append::Appender;

/// Of one run, over one seed or several.
pub(super) struct Journal {
    origin: Origin,
    output: Output,
    rounds: usize,
    store: Store,
    history: Appender,
    /// While it is held, no other process writes to the run's folders.
    _lock: File,
}

/// Where the history lies in a run's folder.
pub(super) fn history(run: &Path) -> PathBuf {
    Store::new(run).folder().join("history.jsonl")
}

impl Journal {
    /// Of the run in `run`, for the process that has its `lock`.
    pub fn begin(run: &Path, origin: Origin, experiment: &Experiment, start: Start<'_>, lock: File) -> Result<Self> {
        let store = Store::new(run);
        let path = history(run);
        let mark;
        let begin = match start {
            Start::At(marks) => {
                mark = [marks.history];
                Begin::At(&mark)
            }
            other => other.of(|_| &[]),
        };
        let history = begin.appender(0, begin.open(&path)?, &path, "", "")?;
        let (output, rounds) = (experiment.output.clone(), experiment.rounds);
        Ok(Self { origin, output, rounds, store, history, _lock: lock })
    }

    /// Says that the run goes on from the checkpoint after `round`, so that it stays until there are two newer ones.
    pub fn went_on_from(&mut self, round: usize) {
        self.store.trust(round);
    }

    /// Before the first round: from here the run can be resumed, whatever happens.
    pub fn before_rounds(&mut self, federation: &mut Federation<'_>, folders: &mut Folders) -> Result<()> {
        self.save_or_hold(federation, folders)
    }

    /// After a round that is in all files.
    pub fn after_round(
        &mut self,
        federation: &mut Federation<'_>,
        folders: &mut Folders,
        done: &Finished,
    ) -> Result<()> {
        let last = federation.rounds_done() == self.rounds;
        if let Some(round) = done.history(last) {
            self.history.append(round.line()?.as_bytes())?;
        }
        if last { Ok(()) } else { self.save_or_hold(federation, folders) }
    }

    /// After a round that was ended by a signal: the state before it becomes a checkpoint, where it is none yet.
    pub fn interrupted(&mut self, federation: &Federation<'_>, folders: &mut Folders) -> Result<()> {
        if self.store.last() == Some(federation.rounds_done()) { Ok(()) } else { self.save(federation, folders) }
    }

    /// After everything is written: nothing is left to resume, unless there are to be more rounds.
    pub fn finish(self) -> Result<()> {
        self.store.finish()
    }

    fn save_or_hold(&mut self, federation: &mut Federation<'_>, folders: &mut Folders) -> Result<()> {
        if self.output.checkpoints(federation.rounds_done(), self.rounds) {
            self.save(federation, folders)
        } else {
            federation.hold()
        }
    }

    fn save(&mut self, federation: &Federation<'_>, folders: &mut Folders) -> Result<()> {
        // The files before the checkpoint that counts on them, also when the power fails.
        let (history, files) = rayon::join(|| self.history.sync(), || folders.sync());
        history.and(files)?;
        let marks = Marks { history: self.history.mark(), ..folders.marks() };
        self.store.write(&Checkpoint { origin: self.origin.clone(), state: federation.state()?, marks })
    }
}
