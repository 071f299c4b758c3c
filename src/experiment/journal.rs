//! A run's checkpoints while it goes on, and its history: what lets another process go on where this one is ended.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::State;
use super::checkpoint::{Checkpoint, Marks, Origin, Store};
use super::finished::Finished;
use super::folders::{Folders, Start};
use crate::error::Result;
use crate::report::Begin;
use crate::report::append::Appender;

/// Of one run, over one seed or several.
pub(super) struct Journal {
    origin: Origin,
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
    pub fn begin(run: &Path, origin: Origin, start: Start<'_>, lock: File) -> Result<Self> {
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
        Ok(Self { origin, store, history, _lock: lock })
    }

    /// Says that the run goes on from the checkpoint after `round`, so that it stays until there are two newer ones.
    pub fn went_on_from(&mut self, round: usize) {
        self.store.trust(round);
    }

    /// After a round that is in all files, and that is the `last` or not.
    pub fn after_round(&mut self, done: &Finished, last: bool) -> Result<()> {
        done.history(last).map_or(Ok(()), |round| self.history.append(round.line()?.as_bytes()))
    }

    /// After this round there is a checkpoint.
    pub fn last(&self) -> Option<usize> {
        self.store.last()
    }

    /// After everything is written: nothing is left to resume, unless there are to be more rounds.
    pub fn finish(self) -> Result<()> {
        self.store.finish()
    }

    /// Makes the experiment's state a checkpoint, from which the run can be resumed whatever happens.
    pub fn save(&mut self, state: State, folders: &mut Folders) -> Result<()> {
        // The files before the checkpoint that counts on them, also when the power fails.
        let (history, files) = rayon::join(|| self.history.sync(), || folders.sync());
        history.and(files)?;
        let marks = Marks { history: self.history.mark(), ..folders.marks() };
        self.store.write(&Checkpoint { origin: self.origin.clone(), state, marks })
    }
}
