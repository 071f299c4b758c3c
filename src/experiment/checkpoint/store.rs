//! The files of a run's checkpoints: the last two, each whole or not there at all.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::Checkpoint;
use crate::error::{Error, Result};
use crate::files::replace_whole;
use crate::report::begin::sync_folder;

/// The folder inside a run's.
const FOLDER: &str = "checkpoint";

/// The checkpoints of a run.
pub(in crate::experiment) struct Store {
    folder: PathBuf,
    /// The round of the last one that is known to be good.
    last: Option<usize>,
}

/// The newest good checkpoint of a run, and why newer ones are not.
pub(in crate::experiment) struct Newest {
    pub found: Option<Checkpoint>,
    pub refused: Vec<Error>,
}

impl Store {
    /// Of the run in `run`.
    pub fn new(run: &Path) -> Self {
        Self { folder: run.join(FOLDER), last: None }
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// After this round there is one.
    pub fn last(&self) -> Option<usize> {
        self.last
    }

    /// Says that the one after `round` is good.
    pub fn trust(&mut self, round: usize) {
        self.last = Some(round);
    }

    /// Writes one, and removes all others but the last. Until it is on the disk as a whole, the earlier ones stay.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let round = checkpoint.state.round;
        replace_whole(&self.path(round), &checkpoint.encode()?)?;
        sync_folder(&self.folder)?;
        let last = self.last.replace(round);
        self.remove(|other| other != round && Some(other) != last)
    }

    /// Removes all but the newest, once the run is finished, and the lock: from that one it can be gone on with for more
    /// rounds. Those that are gone already are no fault.
    ///
    /// # Errors
    /// What the system says.
    pub fn finish(&self) -> Result<()> {
        let newest = self.rounds()?.into_iter().max();
        self.remove(|round| Some(round) != newest)?;
        remove(&self.folder.join(LOCK))
    }

    /// The newest one that can be read as a whole and that `accept` takes.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn newest(&self, accept: &dyn Fn(&Path, &Checkpoint) -> Result<()>) -> Result<Newest> {
        let mut rounds = self.rounds()?;
        rounds.sort_unstable_by(|a, b| b.cmp(a));
        let mut refused = Vec::new();
        for path in rounds.into_iter().map(|round| self.path(round)) {
            match read(&path).and_then(|checkpoint| accept(&path, &checkpoint).map(|()| checkpoint)) {
                Ok(checkpoint) => return Ok(Newest { found: Some(checkpoint), refused }),
                Err(error) => refused.push(error),
            }
        }
        Ok(Newest { found: None, refused })
    }

    fn path(&self, round: usize) -> PathBuf {
        self.folder.join(format!("round_{round:04}.safetensors"))
    }

    /// Of which rounds there are files.
    fn rounds(&self) -> Result<Vec<usize>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io("read", &self.folder))?,
        };
        let round = |name: &str| -> Option<usize> {
            let round = name.strip_prefix("round_")?.strip_suffix(".safetensors")?.parse().ok()?;
            (self.path(round) == self.folder.join(name)).then_some(round)
        };
        Ok(entries.flatten().filter_map(|entry| round(entry.file_name().to_str()?)).collect())
    }

    fn remove(&self, which: impl Fn(usize) -> bool) -> Result<()> {
        for path in self.rounds()?.into_iter().filter(|round| which(*round)).map(|round| self.path(round)) {
            remove(&path)?;
        }
        Ok(())
    }
}

/// Removes a file, if it is there.
///
/// # Errors
/// What the system says.
pub(in crate::experiment) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<Checkpoint> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    Checkpoint::decode(&bytes).map_err(|problem| {
        Error::file(path, problem, "accepted: a checkpoint as the run left it; without one, start it in another folder")
    })
}

/// Held by the process that writes to a run's folder.
const LOCK: &str = "lock";

/// Makes this process the only one that writes to the run in `run`, until the file is dropped or the process ends,
/// however it ends.
///
/// # Errors
/// [`Error::Config`] when another one does, and what the system says.
pub(in crate::experiment) fn lock(run: &Path) -> Result<File> {
    let folder = run.join(FOLDER);
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let path = folder.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(Error::io("create", &path))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let problem = format!("another process is running in {}", run.display());
            Err(Error::config("--resume", problem, "wait until it ends, or end it"))
        }
        // Some network file systems know no locks, which is no reason not to run.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}
