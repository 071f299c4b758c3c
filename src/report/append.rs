//! Files that grow by a round at a time, and stay whole when a round cannot be written.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::begin::changed;
use crate::{Error, Result};

/// Bytes that are read at once.
const PIECE: u64 = 64 << 10;

/// How much of a growing file there is, and what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Bytes, without the tail.
    pub length: u64,
    /// The first 64 bits of their SHA-256.
    pub sum: u64,
}

/// What was appended to a file until then, to which it can go back.
#[derive(Clone)]
pub struct Point {
    length: u64,
    hash: Sha256,
}

impl Point {
    /// Of the first `length` bytes that `from` holds, or of all where there are fewer.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(from: &mut (impl Read + ?Sized), length: u64) -> io::Result<Self> {
        let mut point = Self { length: 0, hash: Sha256::new() };
        let mut piece = Vec::new();
        while point.length < length {
            piece.clear();
            from.take(PIECE.min(length - point.length)).read_to_end(&mut piece)?;
            if piece.is_empty() {
                break;
            }
            point.add(&piece);
        }
        Ok(point)
    }

    /// As a later process can hold the file to it.
    pub fn mark(&self) -> Mark {
        let sum = self.hash.clone().finalize().first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
        Mark { length: self.length, sum }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.hash.update(bytes);
    }
}

/// Where an [`Appender`] writes: a file, or in tests a disk that fills up.
pub trait Store: Read + Write + Seek + Send {
    /// Drops everything after `length` bytes.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// Waits until what it holds would survive a failure of power.
    fn sync(&self) -> io::Result<()>;
}

impl Store for File {
    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
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
    /// All but the tail.
    body: Point,
    /// Whether something was written since the last sync.
    fresh: bool,
}

impl Appender {
    /// Begins an empty store with `head` and `tail`. `path` is for messages.
    pub fn start(store: Box<dyn Store>, path: &Path, head: &str, tail: &'static str) -> Result<Self> {
        let body = Point { length: 0, hash: Sha256::new() };
        let mut appender = Self { store, path: path.into(), tail, body, fresh: true };
        appender.append(head.as_bytes())?;
        Ok(appender)
    }

    /// Goes on with a store that was begun before, from its `mark` of then: whatever came after is forgotten.
    ///
    /// # Errors
    /// [`Error::File`] for a store that holds less, or something else, and what the system says.
    pub fn resume(mut store: Box<dyn Store>, path: &Path, tail: &'static str, mark: Mark) -> Result<Self> {
        let read = store.seek(SeekFrom::Start(0)).and_then(|_| Point::read(&mut *store, mark.length));
        let body = read.map_err(Error::io("read", path))?;
        if body.mark() != mark {
            return Err(changed(path, body.mark(), mark));
        }
        let mut appender = Self { store, path: path.into(), tail, body, fresh: true };
        appender.store.truncate(mark.length).and_then(|()| appender.write(b"")).map_err(Error::io("write", path))?;
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
        let before = self.body.clone();
        if let Err(error) = self.write(bytes) {
            self.rewind(before);
            return Err(Error::io("write", &self.path)(error));
        }
        Ok(())
    }

    /// What there is, for [`Appender::resume`].
    pub fn mark(&self) -> Mark {
        self.body.mark()
    }

    /// The point to which [`Appender::rewind`] can go back.
    pub fn point(&self) -> Point {
        self.body.clone()
    }

    /// Forgets everything appended after `point`. It only ever shortens the file, for which a full disk has room; should
    /// that fail too, the error that led here is the one to report.
    pub fn rewind(&mut self, point: Point) {
        self.body = point;
        if self.store.truncate(self.body.length).is_ok() {
            let _ = self.write(b"");
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.fresh = true;
        self.store.seek(SeekFrom::Start(self.body.length))?;
        self.store.write_all(&[bytes, self.tail.as_bytes()].concat())?;
        self.store.flush()?;
        self.body.add(bytes);
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

    impl Read for SmallFile {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let content = self.content.lock().unwrap();
            let rest = &content[self.at.min(content.len())..];
            let n = rest.len().min(to.len());
            to[..n].copy_from_slice(&rest[..n]);
            self.at += n;
            Ok(n)
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
        let point = appender.point();
        appender.append(b",\"b\"").unwrap();
        appender.rewind(point);
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
        file.content.lock().unwrap().truncate(mark.length as usize + 4);
        let mut appender = Appender::resume(store(), Path::new("a.json"), "\n}\n", mark).unwrap();
        assert_eq!((file.text().as_str(), appender.mark()), ("{\n\"a\": 1\n}\n", mark));
        appender.append(b",\n\"b\": 3").unwrap();
        assert_eq!(file.text(), "{\n\"a\": 1,\n\"b\": 3\n}\n");
        for (mark, says) in [
            (Mark { length: 99, ..mark }, "and held 99 at the checkpoint"),
            (Mark { sum: mark.sum ^ 1, ..mark }, "its first 8 bytes are not those of the checkpoint"),
        ] {
            let error = Appender::resume(store(), Path::new("a.json"), "", mark).err().unwrap();
            assert!(error.exit_code() == 2 && error.to_string().contains(says), "{error}");
        }
        assert_eq!(file.text(), "{\n\"a\": 1,\n\"b\": 3\n}\n");
    }

    /// More than is read at once, by hand: the SHA-256 of a million times `a`, of which this is the beginning.
    #[test]
    fn a_mark_is_a_length_and_a_sha256() {
        let million = vec![b'a'; 1_000_000];
        let mark = Point::read(&mut &million[..], 1_000_000).unwrap().mark();
        assert_eq!(
            mark,
            Mark { length: 1_000_000, sum: u64::from_le_bytes([0xcd, 0xc7, 0x6e, 0x5c, 0x99, 0x14, 0xfb, 0x92]) }
        );
        assert_eq!(Point::read(&mut &million[..], 2_000_000).unwrap().mark(), mark);
        assert_ne!(Point::read(&mut &million[..], 999_999).unwrap().mark().sum, mark.sum);
    }
}
