//! Damaged files: whatever bytes a parser is given, it answers or refuses; it never panics, and takes no more memory than
//! the file warrants.

use std::fs;
use std::io::Write;
use std::path::Path;

use fedcircuit::config::{Override, load, presets};
use fedcircuit::model::{Input, LayerSpec, Layout, SpecKind, chain, initial_weights};
use fedcircuit::rng::{Purpose, stream};
use flate2::{Compression, write::GzEncoder};
use rand::{Rng, RngExt};

/// Mutated inputs a parser is given.
const INPUTS: u64 = 10_000;
/// Beyond twice the input.
const ALLOWANCE: u64 = 16 << 20;

/// Gives `parse` mutations of the `seeds`, and says how many of them it took: a parser that refuses all of them was not
/// reached, one that takes all of them checks nothing.
fn survives(seeds: &[Vec<u8>], parse: impl Fn(&[u8]) -> bool) -> u64 {
    assert!(seeds.iter().all(|seed| parse(seed)), "every seed is sound");
    let mut taken = 0;
    for i in 0..INPUTS {
        let rng = &mut stream(1, i, 0, Purpose::Partition);
        let input = mutate(seeds, rng);
        let mut sound = false;
        let used = allocation_counter::measure(|| sound = parse(&input));
        let most = 2 * input.len() as u64 + ALLOWANCE;
        assert!(used.bytes_max <= most, "input {i}, {} bytes: {} allocated", input.len(), used.bytes_max);
        taken += u64::from(sound);
    }
    assert!(taken < INPUTS, "nothing was refused");
    taken
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

/// Three pictures or labels.
fn idx(dims: &[u32], value: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|side| bytes.extend(side.to_be_bytes()));
    bytes.extend((0..dims.iter().product::<u32>()).map(|i| (i as u8 ^ value) % 10));
    bytes
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn idx_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("an-idx-file");
    for (shape, fewest) in [(&[28, 28][..], 100), (&[], 10)] {
        let of = |value| idx(&[&[3], &shape.iter().map(|side| *side as u32).collect::<Vec<_>>()[..]].concat(), value);
        let taken = survives(&[of(0), of(7), packed(&of(0))], |bytes| {
            fs::write(&path, bytes).unwrap();
            fedcircuit::data::idx::read(&path, shape).is_ok()
        });
        assert!(taken > fewest, "{taken}");
    }
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

#[test]
fn experiment_files() {
    let seeds: Vec<_> = presets::ALL.iter().map(|preset| preset.text.as_bytes().to_vec()).collect();
    let taken =
        survives(&seeds, |bytes| std::str::from_utf8(bytes).is_ok_and(|text| load(text, "a.toml", &[]).is_ok()));
    assert!(taken > 100, "{taken}");
}

#[test]
fn overrides() {
    let seeds = ["training.lr=0.1", "partition.classes=[[0,1],[2,3]]", "circuits={classes=[0],steps=3}", "name=\"a\""];
    let seeds: Vec<_> = seeds.iter().map(|text| text.as_bytes().to_vec()).collect();
    let base = presets::get("paper-3-classes").unwrap().text;
    let taken = survives(&seeds, |bytes| {
        let text = std::str::from_utf8(bytes).ok();
        let set = text.and_then(|text| Override::parse(text).ok());
        set.is_some_and(|set| load(base, "a.toml", &[set]).is_ok())
    });
    assert!(taken > 100, "{taken}");
}

#[test]
fn weights() {
    let spec = |name: &str, features| LayerSpec { name: name.into(), kind: SpecKind::Linear { features }, relu: false };
    let input = Input { channels: 1, height: 2, width: 3 };
    let layout = Layout::new(&chain(&[spec("fc1", 4), spec("fc2", 3)], input, 3).unwrap());
    let seed = |seed| fedcircuit::model::save(&layout, &initial_weights(&layout, seed)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let taken = survives(&[seed(1), seed(2)], |bytes| {
        fs::write(&path, bytes).unwrap();
        read_back(&path, &layout)
    });
    assert!(taken > 100, "{taken}");
}

/// Whether the weights are there: then they are all finite.
fn read_back(path: &Path, layout: &Layout) -> bool {
    fedcircuit::model::load(path, layout).is_ok_and(|row| {
        assert!(row.iter().all(|v| v.is_finite()));
        true
    })
}
