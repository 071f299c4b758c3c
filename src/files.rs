//! Files that are there as a whole or not at all.

use std::io::{self, Write};
use std::path::Path;

use crate::{Error, Result};

/// What the names of files begin with that are not whole yet.
pub const UNFINISHED: &str = ".writing-";

/// Writes a file that is there as a whole or not at all, and never over another.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        written_beside(path, bytes)?.persist_noclobber(path)?;
        Ok(())
    };
    write().map_err(Error::io("write", path))
}

/// Writes a file as a whole over an earlier one: for what can be made again, such as pictures.
pub fn replace_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        written_beside(path, bytes)?.persist(path)?;
        Ok(())
    };
    write().map_err(Error::io("write", path))
}

/// A temporary file with these bytes, ready to be renamed to `path`.
fn written_beside(path: &Path, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let mut file = new_beside(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_data()?;
    Ok(file)
}

/// A temporary file with the rights of an ordinary one: the default lets no one but the owner read the results.
pub fn new_beside(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    let builder = {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666))
    };
    builder.prefix(UNFINISHED).tempfile_in(folder)
}
