//! Damaged files: whatever bytes a parser is given, it answers or refuses; it never panics, and takes no more memory than
//! the file warrants.

mod parsers;
mod swelling;

use std::fs;
use std::io::Write;

use fedcircuit::rng::{Purpose, stream};
use flate2::{Compression, write::GzEncoder};
use rand::{Rng, RngExt};

use parsers::{Parser, named};

/// Mutated inputs a parser is given.
const INPUTS: u64 = 10_000;
/// Beyond twice the input.
const ALLOWANCE: u64 = 16 << 20;

/// Gives a parser mutations of its seeds, of which it must take `fewest`: one that refuses all of them was not reached. One
/// that refuses none checks nothing, unless `all` inputs are as good.
fn survives(name: &str, fewest: u64, all: bool) {
    let Parser { seeds, parse, .. } = named(name);
    let seeds = seeds();
    assert!(seeds.iter().all(|seed| parse(seed)), "every seed is sound");
    let mut taken = 0;
    for i in 0..INPUTS {
        let rng = &mut stream(1, i, 0, Purpose::Partition);
        taken += u64::from(bounded(name, &mutate(&seeds, rng)));
    }
    assert!(taken >= fewest && (all || taken < INPUTS), "{taken} taken");
}

/// Whether the parser takes the input, for which it gets twice as much memory and 16 MiB.
fn bounded(name: &str, input: &[u8]) -> bool {
    let mut sound = false;
    let used = allocation_counter::measure(|| sound = (named(name).parse)(input));
    let (begins, most) = (&input[..input.len().min(40)], 2 * input.len() as u64 + ALLOWANCE);
    let begins = String::from_utf8_lossy(begins);
    assert!(used.bytes_max <= most, "{name}, {} bytes, {begins:?}: {} allocated", input.len(), used.bytes_max);
    sound
}

/// One of the seeds after one to four changes.
fn mutate(seeds: &[Vec<u8>], rng: &mut impl Rng) -> Vec<u8> {
    let mut bytes = seeds[rng.random_range(0..seeds.len())].clone();
    for _ in 0..rng.random_range(1..=4) {
        let at = rng.random_range(0..=bytes.len());
        let end = (at + rng.random_range(1..=16usize)).min(bytes.len());
        match rng.random_range(0..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.extend_from_within(at..end),
            5 => {
                drop(bytes.splice(at..at, (0..rng.random_range(1..=8)).map(|_| rng.random::<u8>()).collect::<Vec<_>>()))
            }
            6 => {
                let number = [0, 1, u64::from(u32::MAX), u64::MAX, 1 << 40, rng.random()][rng.random_range(0..6)];
                let word = if rng.random() { number.to_be_bytes() } else { number.to_le_bytes() };
                bytes[at..end].iter_mut().zip(word).for_each(|(byte, new)| *byte = new);
            }
            _ => {
                let other = &seeds[rng.random_range(0..seeds.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[rng.random_range(0..=other.len())..]);
            }
        }
    }
    bytes
}

#[test]
fn idx_files() {
    survives("idx pictures", 100, false);
    survives("idx labels", 10, false);
}

/// A gigabyte of zeros packs into a megabyte.
#[test]
fn a_small_file_that_unpacks_to_a_large_one_is_refused_before_it_is_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t10k-labels-idx1-ubyte");
    let count = 200u32 << 20;
    let mut encoder = GzEncoder::new(fs::File::create(&path).unwrap(), Compression::fast());
    encoder.write_all(&[0, 0, 8, 1]).unwrap();
    encoder.write_all(&count.to_be_bytes()).unwrap();
    (0..200).for_each(|_| encoder.write_all(&vec![0; 1 << 20]).unwrap());
    encoder.finish().unwrap();
    let used = allocation_counter::measure(|| {
        let error = fedcircuit::data::idx::read(&path, &[]).unwrap_err().to_string();
        assert!(error.contains("more than so short a file can hold"), "{error}");
    });
    assert!(used.bytes_max < ALLOWANCE, "{}", used.bytes_max);
}

/// A hundred bytes that claim to be a gigabyte, and a file that unpacks to far more than the four bytes it declares.
#[test]
fn memory_grows_with_what_is_there_and_not_beyond_what_is_declared() {
    let claim = [&[0, 0, 8, 1, 0x40, 0, 0, 0][..], &[1; 100]].concat();
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(&[0, 0, 8, 1, 0, 0, 0, 4]).unwrap();
    packer.write_all(&vec![0; 8 << 20]).unwrap();
    for (bytes, says) in [(claim, "ends after 100"), (packer.finish().unwrap(), "more bytes follow")] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t10k-labels-idx1-ubyte");
        fs::write(&path, bytes).unwrap();
        let used = allocation_counter::measure(|| {
            let error = fedcircuit::data::idx::read(&path, &[]).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        });
        assert!(used.bytes_max < 1 << 20, "{says}: {}", used.bytes_max);
    }
}

#[test]
fn experiments() {
    survives("experiment", 100, false);
    survives("override", 100, false);
}

#[test]
fn weights() {
    survives("weights", 100, false);
}

#[test]
fn checkpoints() {
    // What is not read as the same checkpoint is refused: the unit tests have that.
    survives("checkpoint", 0, false);
    survives("history", 10, false);
}

#[test]
fn what_reports_read() {
    survives("report rounds", 100, false);
    survives("report circuits", 100, false);
    survives("report partition", 100, false);
    survives("report circuits table", 100, false);
    survives("report controls", 100, false);
}

#[test]
fn what_reports_read_of_overlaps() {
    survives("report curve", 100, false);
    survives("report overlap", 100, false);
    survives("report overlap means", 100, false);
    survives("report analysis", 100, false);
    survives("report experiment", 100, true);
    survives("report environment", 100, true);
}
