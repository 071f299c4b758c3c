//! The IDX format of the MNIST files (<http://yann.lecun.com/exdb/mnist>), plain or gzip, read as untrusted input.
//!
//! A file is `00 00 type dims`, then `dims` big-endian sizes of four bytes, then the values. Only type 08 (bytes) is
//! read. Memory grows with the bytes that really arrive, never with what a header only claims.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};

/// More than this is no data set this program could train on; it bounds what a small gzip file can unpack to.
const MAX_BYTES: u64 = 1 << 30;

/// Blank paper packs better than a hundredfold; a data set of any use does not.
const MAX_RATIO: u64 = 100;
/// As many bytes are unpacked from any file.
const SMALL: u64 = 16 << 20;

const HELP: &str = "an IDX file of unsigned bytes is accepted, plain or gzip; \
                    delete this one and get it again, for MNIST with `fedcircuit data fetch mnist`";

/// The values of an IDX file of items of shape `item`: `[28, 28]` for pictures, `[]` for labels. Returns
/// `[N][product of item]` bytes, N at least 1.
///
/// # Errors
/// `Io` if the file cannot be read; `File` if it is not IDX, not of bytes, of another shape or empty, if it ends early
/// or goes on after its last value, or if its gzip stream is damaged.
pub fn read(path: &Path, item: &[usize]) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    decode(path, &mut BufReader::new(file), length, item)
}

/// The bytes of an IDX file of `values`, items of the size `item`.
pub fn encode(item: &[usize], values: &[u8]) -> Vec<u8> {
    let items = values.len() / item.iter().product::<usize>().max(1);
    let mut bytes = vec![0, 0, 8, 1 + item.len() as u8];
    for size in std::iter::once(&items).chain(item) {
        bytes.extend((*size as u32).to_be_bytes());
    }
    bytes.extend(values);
    bytes
}

fn decode(path: &Path, source: &mut dyn BufRead, length: u64, item: &[usize]) -> Result<Vec<u8>> {
    let start = source.fill_buf().map_err(Error::io("read", path))?;
    if start.starts_with(&[0x1f, 0x8b]) {
        parse(path, &mut MultiGzDecoder::new(source), length.saturating_mul(MAX_RATIO).max(SMALL), item)
    } else {
        parse(path, source, u64::MAX, item)
    }
}

/// `most` is what a file of its length may unpack to. A plain one ends when its bytes do.
fn parse(path: &Path, reader: &mut dyn Read, most: u64, item: &[usize]) -> Result<Vec<u8>> {
    let size = read_header(path, reader, item)?;
    if size > most {
        return Err(fault(path, format!("its header declares {size} values, more than so short a file can hold")));
    }
    let mut bytes = Vec::new();
    // One more than declared, so that a longer file is noticed and the gzip checksum is reached.
    reader.take(size + 1).read_to_end(&mut bytes).map_err(|error| match error.kind() {
        // Only the gzip decoder ends unexpectedly here: in its stream, or in what it took for the start of another.
        ErrorKind::UnexpectedEof => fault(path, "its gzip stream is cut short, or followed by something else".into()),
        _ => read_fault(path, error),
    })?;
    let found = bytes.len() as u64;
    if found < size {
        return Err(fault(path, format!("its header declares {size} values, but it ends after {found}")));
    }
    if found > size {
        return Err(fault(path, format!("its header declares {size} values, but more bytes follow them")));
    }
    Ok(bytes)
}

/// Checks everything before the values and returns their number.
fn read_header(path: &Path, reader: &mut dyn Read, item: &[usize]) -> Result<u64> {
    let [zero, zero_too, kind, dims] = read_word(path, reader)?;
    if (zero, zero_too) != (0, 0) {
        let problem = format!("not an IDX file: it starts with the bytes {zero:02x} {zero_too:02x}, not with 00 00");
        return Err(fault(path, problem));
    }
    if kind != 8 {
        return Err(fault(path, format!("its values have the type code {kind:02x}, not 08 (unsigned bytes)")));
    }
    if usize::from(dims) != 1 + item.len() {
        let problem = format!("it has {dims} dimensions, not {}", 1 + item.len());
        return Err(fault(path, problem));
    }
    let count = u32::from_be_bytes(read_word(path, reader)?);
    let mut size = u64::from(count);
    let mut shape = Vec::with_capacity(item.len());
    for _ in item {
        shape.push(u32::from_be_bytes(read_word(path, reader)?));
    }
    if !shape.iter().map(|&side| u64::from(side)).eq(item.iter().map(|&side| side as u64)) {
        return Err(fault(path, format!("its items have the shape {shape:?}, not {item:?}")));
    }
    for &side in &shape {
        size = size.saturating_mul(u64::from(side));
    }
    if size == 0 {
        return Err(fault(path, "its header declares no items".into()));
    }
    if size > MAX_BYTES {
        return Err(fault(path, format!("its header declares {size} values; at most {MAX_BYTES} are accepted")));
    }
    Ok(size)
}

fn read_word(path: &Path, reader: &mut dyn Read) -> Result<[u8; 4]> {
    let mut word = [0; 4];
    reader.read_exact(&mut word).map_err(|error| read_fault(path, error))?;
    Ok(word)
}

/// Tells a damaged file from a system that cannot read it.
fn read_fault(path: &Path, error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => fault(path, "it ends in the middle: the file is cut short".into()),
        ErrorKind::InvalidInput | ErrorKind::InvalidData => {
            fault(path, format!("its gzip stream is damaged, or followed by something else ({error})"))
        }
        _ => Error::io("read", path)(error),
    }
}

fn fault(path: &Path, problem: String) -> Error {
    Error::file(path, problem, HELP)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use rand::RngExt;

    use super::*;
    use crate::rng::{Purpose, stream};

    fn decode_bytes(bytes: &[u8], item: &[usize]) -> Result<Vec<u8>> {
        decode(Path::new("some-file"), &mut &bytes[..], bytes.len() as u64, item)
    }

    fn zipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Two pictures of 2 x 3.
    fn pictures() -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3];
        bytes.extend(1..=12);
        bytes
    }

    fn problem(bytes: &[u8], item: &[usize]) -> String {
        let error = decode_bytes(bytes, item).unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with("some-file: ") && text.contains("is accepted"), "{text}");
        text
    }

    #[test]
    fn reads_plain_and_gzip() {
        let expected: Vec<u8> = (1..=12).collect();
        assert_eq!(decode_bytes(&pictures(), &[2, 3]).unwrap(), expected);
        assert_eq!(decode_bytes(&zipped(&pictures()), &[2, 3]).unwrap(), expected);
        assert_eq!(decode_bytes(&[0, 0, 8, 1, 0, 0, 0, 2, 7, 9], &[]).unwrap(), [7, 9]);
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let pictures = pictures();
        assert_eq!(encode(&[2, 3], &pictures[16..]), pictures);
        assert_eq!(decode_bytes(&encode(&[], &[7, 8, 9]), &[]).unwrap(), [7, 8, 9]);
    }

    #[test]
    fn says_what_was_found_and_what_is_accepted() {
        let changed = |at: usize, value: u8| {
            let mut bytes = pictures();
            bytes[at] = value;
            problem(&bytes, &[2, 3])
        };
        assert!(problem(&[], &[]).contains("cut short"));
        assert!(problem(b"<!doctype html>", &[]).contains("starts with the bytes 3c 21"));
        assert!(changed(2, 0x0d).contains("type code 0d, not 08"));
        assert!(changed(3, 1).contains("1 dimensions, not 3"));
        assert!(changed(7, 0).contains("no items"));
        assert!(changed(11, 5).contains("shape [5, 3], not [2, 3]"));
        assert!(changed(4, 0xff).contains("at most 1073741824"));
        assert!(changed(7, 3).contains("declares 18 values, but it ends after 12"));
        assert!(changed(7, 1).contains("more bytes follow"));
        assert!(problem(&[0, 0, 8, 1, 0, 0, 0, 0], &[]).contains("no items"));
        assert!(
            problem(&[0, 0, 8, 2, 255, 255, 255, 255, 255, 255, 255, 255], &[u32::MAX as usize]).contains("at most")
        );
    }

    #[test]
    fn finds_damage_in_gzip() {
        let good = zipped(&pictures());
        assert!(problem(&good[..good.len() - 1], &[2, 3]).contains("cut short"));
        let mut bad_checksum = good.clone();
        let at = good.len() - 8;
        bad_checksum[at] ^= 1;
        assert!(problem(&bad_checksum, &[2, 3]).contains("damaged"));
        for more in ["x", "and more", "and so much more that it could be a header"] {
            let trailing = [&good, more.as_bytes()].concat();
            assert!(problem(&trailing, &[2, 3]).contains("followed by something else"));
        }
        let mut long = pictures();
        long.push(0);
        assert!(problem(&zipped(&long), &[2, 3]).contains("more bytes follow"));
    }

    #[test]
    fn values_end_where_the_header_says() {
        let mut bytes = vec![0, 0, 8, 1, 0x40, 0, 0, 0];
        bytes.extend([1; 100]);
        assert!(problem(&bytes, &[]).contains("ends after 100"));
        let mut bomb = vec![0, 0, 8, 1, 0, 0, 0, 4];
        bomb.resize(1 << 22, 0);
        assert!(problem(&zipped(&bomb), &[]).contains("more bytes follow"));
    }

    #[test]
    fn no_damaged_file_panics_or_passes_for_another_shape() {
        let mut rng = stream(1, 0, 0, Purpose::Digits);
        let plain = pictures();
        let packed = zipped(&plain);
        for round in 0..6000 {
            let mut bytes = if round % 2 == 0 { plain.clone() } else { packed.clone() };
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
            if rng.random::<bool>() {
                bytes.truncate(rng.random_range(0..=bytes.len()));
            }
            if let Ok(values) = decode_bytes(&bytes, &[2, 3]) {
                assert_eq!(values.len() % 6, 0);
            }
        }
        for end in 0..plain.len() {
            assert!(decode_bytes(&plain[..end], &[2, 3]).is_err());
        }
        for end in 0..packed.len() {
            assert!(decode_bytes(&packed[..end], &[2, 3]).is_err());
        }
    }

    #[test]
    fn a_missing_file_is_an_io_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(&folder.path().join("none"), &[]), Err(Error::Io { action: "read", .. })));
    }

    /// Blank pictures pack a thousandfold, and are accepted as long as they are few; a header that only claims a lot is not
    /// believed.
    #[test]
    fn a_small_file_may_unpack_to_a_lot_but_not_to_everything() {
        let blank = |values: usize| {
            let mut bytes = vec![0, 0, 8, 1];
            bytes.extend((values as u32).to_be_bytes());
            bytes.resize(8 + values, 0);
            zipped(&bytes)
        };
        let packed = blank(4 << 20);
        assert!(packed.len() as u64 * MAX_RATIO < 4 << 20, "{} bytes", packed.len());
        assert_eq!(decode_bytes(&packed, &[]).unwrap().len(), 4 << 20);
        let said = problem(&blank(20 << 20), &[]);
        assert!(said.contains("declares 20971520 values, more than so short a file can hold"), "{said}");
    }
}
