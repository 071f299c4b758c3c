//! Small files that make the next start faster, in the user's cache. None is needed: what cannot be read or written is done
//! without.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// More than any of them grows to.
const LARGEST: u64 = 64 << 20;

/// Where they are: in the folder that `FEDCIRCUIT_CACHE` names, or in one of ours among the user's caches.
pub(crate) fn folder() -> Option<PathBuf> {
    match std::env::var_os("FEDCIRCUIT_CACHE") {
        Some(folder) if !folder.is_empty() => Some(folder.into()),
        _ => Some(dirs::cache_dir()?.join("fedcircuit")),
    }
}

/// What is in `path`, if it is there and of a sensible size.
pub(crate) fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).ok()?.take(LARGEST + 1).read_to_end(&mut bytes).ok()?;
    (read as u64 <= LARGEST).then_some(bytes)
}

/// Writes beside `path` and renames, so that another process never reads half of it.
pub(crate) fn write(path: &Path, bytes: &[u8]) {
    let written = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.persist(path)?;
        Ok(())
    };
    if let Err(error) = written() {
        tracing::debug!("{} was not written: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_larger_than_sensible() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("file");
        assert_eq!(read(&path), None);
        write(&path, b"one");
        write(&path, b"two");
        assert_eq!(read(&path).as_deref(), Some(&b"two"[..]));
        std::fs::File::create(&path).unwrap().set_len(LARGEST + 1).unwrap();
        assert_eq!(read(&path), None);
        // A folder stands in the way: said in the log, and done without.
        write(folder.path(), b"three");
    }
}
