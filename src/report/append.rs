//! Files that grow by a round at a time, and stay whole when a round cannot be written.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::begin::too_short;
use crate::{Error, Result};

/// Where an [`Appender`] writes: a file, or in tests a disk that fills up.
pub trait Store: Write + Seek + Send {
    /// Drops everything after `length` bytes.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// Bytes it holds.
    fn length(&self) -> io::Result<u64>;

    /// Waits until what it holds would survive a failure of power.
    fn sync(&self) -> io::Result<()>;
}

impl Store for File {
    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A file that is complete after every append: what is appended goes before a fixed tail (the closing brace of a JSON
/// object, or nothing). If it does not fit, the file goes back to what it was.
pub struct Appender {
    store: Box<dyn Store>,
    path: PathBuf,
    tail: &'static str,
    /// Length without the tail.
    body: u64,
    /// Whether something was written since the last sync.
    fresh: bool,
}

impl Appender {
    /// Begins an empty store with `head` and `tail`. `path` is for messages.
    pub fn start(store: Box<dyn Store>, path: &Path, head: &str, tail: &'static str) -> Result<Self> {
        let mut appender = Self { store, path: path.into(), tail, body: 0, fresh: true };
        appender.append(head.as_bytes())?;
        Ok(appender)
    }

    /// Goes on with a store that was begun before, from its `mark` of then: whatever came after is forgotten.
    ///
    /// # Errors
    /// [`Error::File`] for a store that is shorter, and what the system says.
    pub fn resume(store: Box<dyn Store>, path: &Path, tail: &'static str, mark: u64) -> Result<Self> {
        let length = store.length().map_err(Error::io("read", path))?;
        if length < mark {
            return Err(too_short(path, length, mark));
        }
        let mut appender = Self { store, path: path.into(), tail, body: mark, fresh: true };
        appender.store.truncate(mark).and_then(|()| appender.write(b"")).map_err(Error::io("write", path))?;
        Ok(appender)
    }

    /// Waits until what was appended would survive a failure of power.
    pub fn sync(&mut self) -> Result<()> {
        if self.fresh {
            self.store.sync().map_err(Error::io("write", &self.path))?;
            self.fresh = false;
        }
        Ok(())
    }

    /// Adds `bytes` before the tail.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let before = self.body;
        if let Err(error) = self.write(bytes) {
            self.rewind(before);
            return Err(Error::io("write", &self.path)(error));
        }
        Ok(())
    }

    /// The point to which [`Appender::rewind`] can go back.
    pub fn mark(&self) -> u64 {
        self.body
    }

    /// Forgets everything appended after `mark`. It only ever shortens the file, for which a full disk has room; should
    /// that fail too, the error that led here is the one to report.
    pub fn rewind(&mut self, mark: u64) {
        self.body = mark;
        if self.store.truncate(mark).is_ok() {
            let _ = self.write(b"");
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.fresh = true;
        self.store.seek(SeekFrom::Start(self.body))?;
        self.store.write_all(&[bytes, self.tail.as_bytes()].concat())?;
        self.store.flush()?;
        self.body += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// A disk with room for so many bytes, shared by the files on it.
    #[derive(Clone)]
    pub struct SmallDisk {
        pub room: Arc<Mutex<usize>>,
    }

    /// A file on it.
    #[derive(Clone, Default)]
    pub struct SmallFile {
        pub content: Arc<Mutex<Vec<u8>>>,
        room: Arc<Mutex<usize>>,
        at: usize,
    }

    impl SmallDisk {
        pub fn new(bytes: usize) -> Self {
            Self { room: Arc::new(Mutex::new(bytes)) }
        }

        pub fn file(&self) -> SmallFile {
            SmallFile { room: self.room.clone(), ..SmallFile::default() }
        }
    }

    impl SmallFile {
        pub fn text(&self) -> String {
            String::from_utf8(self.content.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for SmallFile {
        /// Writes what fits, as a file system does, and fails only when nothing does.
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (mut content, mut room) = (self.content.lock().unwrap(), self.room.lock().unwrap());
            let in_place = content.len() - self.at;
            let n = bytes.len().min(in_place + *room);
            if n == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            *room -= n.saturating_sub(in_place);
            let end = (self.at + n).max(content.len());
            content.resize(end, 0);
            content[self.at..self.at + n].copy_from_slice(&bytes[..n]);
            self.at += n;
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for SmallFile {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            let SeekFrom::Start(at) = to else { return Err(io::ErrorKind::Unsupported.into()) };
            self.at = at as usize;
            Ok(at)
        }
    }

    impl Store for SmallFile {
        fn truncate(&mut self, length: u64) -> io::Result<()> {
            let mut content = self.content.lock().unwrap();
            *self.room.lock().unwrap() += content.len() - length as usize;
            content.truncate(length as usize);
            Ok(())
        }

        fn length(&self) -> io::Result<u64> {
            Ok(self.content.lock().unwrap().len() as u64)
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_do_not_fit_leave_the_earlier_ones() {
        let file = SmallDisk::new(20).file();
        let mut appender = Appender::start(Box::new(file.clone()), Path::new("a.csv"), "head\n", "").unwrap();
        appender.append(b"round 1\n").unwrap();
        let message = appender.append(b"round 2, longer\n").unwrap_err().to_string();
        assert!(message.starts_with("cannot write a.csv: "), "{message}");
        assert_eq!(file.text(), "head\nround 1\n");
        appender.append(b"short\n").unwrap();
        assert_eq!(file.text(), "head\nround 1\nshort\n");
    }

    #[test]
    fn a_tail_closes_the_file_whatever_happens() {
        let file = SmallDisk::new(16).file();
        let mut appender = Appender::start(Box::new(file.clone()), Path::new("a.json"), "{", "\n}\n").unwrap();
        assert_eq!(file.text(), "{\n}\n");
        appender.append(b"\n\"a\": 1").unwrap();
        appender.append(b",\n\"b\": 2").unwrap_err();
        assert_eq!(file.text(), "{\n\"a\": 1\n}\n");
        let mark = appender.mark();
        appender.append(b",\"b\"").unwrap();
        appender.rewind(mark);
        assert_eq!(file.text(), "{\n\"a\": 1\n}\n");
    }

    #[test]
    fn a_file_goes_on_from_a_mark_whatever_came_after() {
        let file = SmallDisk::new(99).file();
        let store = || Box::new(file.clone());
        let mut appender = Appender::start(store(), Path::new("a.json"), "{", "\n}\n").unwrap();
        appender.append(b"\n\"a\": 1").unwrap();
        let mark = appender.mark();
        appender.append(b",\n\"b\": 2").unwrap();
        // Ended within a write.
        file.content.lock().unwrap().truncate(mark as usize + 4);
        let mut appender = Appender::resume(store(), Path::new("a.json"), "\n}\n", mark).unwrap();
        assert_eq!((file.text().as_str(), appender.mark()), ("{\n\"a\": 1\n}\n", mark));
        appender.append(b",\n\"b\": 3").unwrap();
        assert_eq!(file.text(), "{\n\"a\": 1,\n\"b\": 3\n}\n");
        let error = Appender::resume(store(), Path::new("a.json"), "", 99).err().unwrap();
        assert_eq!((error.exit_code(), error.to_string().contains("and held 99 at the checkpoint")), (2, true));
    }
}
