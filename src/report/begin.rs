//! How a run finds its folder: free, or as an earlier one that was ended left it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use super::append::{Appender, Mark, Point, Store};
use super::folder::{check_free, put};
use crate::files::UNFINISHED;
use crate::{Error, Result};

/// What every experiment's folder has from the beginning: the resolved configuration.
pub(crate) const EXPERIMENT: &str = "experiment.toml";

/// How a run begins in its folder.
#[derive(Clone, Copy, Debug)]
pub enum Begin<'a> {
    /// As a new one: the folder must be free.
    New,
    /// As one that was ended before its first checkpoint: its files are made anew.
    Again,
    /// As one that was ended later: the files that grow go back to these marks, in the order in which the folder itself
    /// gives them.
    At(&'a [Mark]),
}

impl Begin<'_> {
    /// Makes the folder, with those above it.
    ///
    /// # Errors
    /// [`Error::Config`] for a new run's folder that is taken, and what the system says.
    pub fn claim(self, path: &Path) -> Result<()> {
        if matches!(self, Begin::New) {
            check_free(path)?;
        }
        fs::create_dir_all(path).map_err(Error::io("create", path))?;
        if matches!(self, Begin::New) { Ok(()) } else { sweep(path) }
    }

    /// Opens the store behind a growing file.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(self, path: &Path) -> Result<Box<dyn Store>> {
        let file = match self {
            Begin::New => File::create_new(path).map_err(Error::io("create", path))?,
            Begin::Again => File::create(path).map_err(Error::io("create", path))?,
            Begin::At(_) => OpenOptions::new().read(true).write(true).open(path).map_err(Error::io("read", path))?,
        };
        Ok(Box::new(file))
    }

    /// Starts the growing file that has the `i`-th of the marks, or goes on with it.
    ///
    /// # Errors
    /// [`Error::File`] for one that does not hold what its mark says or has none, and what the system says.
    pub fn appender(
        self,
        i: usize,
        store: Box<dyn Store>,
        path: &Path,
        head: &str,
        tail: &'static str,
    ) -> Result<Appender> {
        match self {
            Begin::New | Begin::Again => Appender::start(store, path, head, tail),
            Begin::At(marks) => Appender::resume(store, path, tail, mark(marks, i, path)?),
        }
    }

    /// Writes a whole file that is known before the first round, and so is there already where one was done.
    pub(super) fn first(self, path: &Path, bytes: &[u8]) -> Result<()> {
        match self {
            Begin::New | Begin::Again => put(path, bytes, self.over()),
            Begin::At(_) => Ok(()),
        }
    }

    /// Whether files of an ended run may be there.
    pub(super) fn over(self) -> bool {
        !matches!(self, Begin::New)
    }
}

/// The `i`-th mark, that of the file `path`.
fn mark(marks: &[Mark], i: usize, path: &Path) -> Result<Mark> {
    let help = "accepted: a checkpoint of the same run";
    marks.get(i).copied().ok_or_else(|| Error::file(path, "has no mark in the checkpoint", help))
}

/// What to do about a file that is not as the run left it.
const RESTORE: &str = "put the file back as the run left it, or start the run in another folder";

/// Refuses files that do not begin with what they held at the checkpoint with these marks: what is gone cannot be gone on
/// from.
pub(super) fn check_marks(folder: &Path, names: &[&str], marks: &[Mark]) -> Result<()> {
    for (i, name) in names.iter().enumerate() {
        let path = folder.join(name);
        let mark = mark(marks, i, &path)?;
        let read = File::open(&path).and_then(|mut file| Point::read(&mut file, mark.length));
        let found = read.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::file(&path, "is missing", RESTORE),
            _ => Error::io("read", &path)(error),
        })?;
        let found = found.mark();
        if found != mark {
            return Err(changed(&path, found, mark));
        }
    }
    Ok(())
}

/// The error for a growing file that is not what it was.
pub(super) fn changed(path: &Path, found: Mark, mark: Mark) -> Error {
    let problem = if found.length < mark.length {
        format!("holds {} bytes, and held {} at the checkpoint", found.length, mark.length)
    } else {
        format!("was changed: its first {} bytes are not those of the checkpoint", mark.length)
    };
    Error::file(path, problem, RESTORE)
}

/// Whether there is nothing in a folder, or only what was being written when a run was ended, or the lock that it held.
///
/// # Errors
/// What the system says of a folder that cannot be read; one that is not there has nothing in it.
pub fn is_unfinished(path: &Path) -> Result<bool> {
    match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        entries => {
            let mut entries = entries.map_err(Error::io("read", path))?.flatten();
            Ok(entries.all(|entry| {
                let name = entry.file_name();
                name.to_string_lossy().starts_with(UNFINISHED)
                    || (name == "checkpoint" && is_locked_only(&entry.path()))
            }))
        }
    }
}

fn is_locked_only(checkpoints: &Path) -> bool {
    fs::read_dir(checkpoints).is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|e| e.file_name() == "lock")))
}

/// Removes what was being written in a run's folder when the run was ended.
///
/// # Errors
/// What the system says.
pub fn sweep(path: &Path) -> Result<()> {
    for folder in ["", "analyses", "checkpoint", "model", "plots"].map(|name| path.join(name)) {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(UNFINISHED)) {
            fs::remove_file(entry.path()).map_err(Error::io("remove", entry.path()))?;
        }
    }
    Ok(())
}

/// Makes the names in a folder as lasting as the files: after a failure of power, a file that was renamed is there.
///
/// # Errors
/// What the system says.
pub fn sync_folder(path: &Path) -> Result<()> {
    // Other systems do not open folders as files, and keep names in a journal of their own.
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::io("write", path))?;
    }
    Ok(())
}
