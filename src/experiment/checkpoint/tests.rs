use std::fs;
use std::path::Path;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::report::DeviceRecord;

/// Some mark of this length.
fn mark(length: u64) -> Mark {
    Mark { length, sum: !length }
}

fn sample(round: usize) -> Checkpoint {
    let memory = Memory {
        pairs: vec![0, 1, 2, 1, 1, 2],
        masks: vec![7; 4],
        edges: vec![u32::MAX, 0, 1, 2],
        centralised: vec![],
        told: [true, false, true, false, true],
    };
    let global = [1.5f32, -0.0, f32::NAN, 3e-39].map(f32::to_bits).to_vec();
    let device = DeviceRecord { name: "a".into(), backend: "rayon".into(), driver: "avx".into() };
    Checkpoint {
        origin: Origin {
            version: "1.2.3".into(),
            device,
            data: "00ff".into(),
            first_weights: None,
            experiment: "name = \"é\"\n".into(),
        },
        state: State { round, global, memory },
        marks: Marks { history: mark(9), all: vec![mark(5)], seeds: [1, 2, 3, u64::MAX].map(mark).to_vec() },
    }
}

#[test]
fn a_checkpoint_comes_back_as_it_was() {
    let checkpoint = sample(7);
    let bytes = checkpoint.encode().unwrap();
    assert_eq!(Checkpoint::decode(&bytes).unwrap(), checkpoint);
    assert_eq!(State::from_checkpoint(&bytes).unwrap(), checkpoint.state);
    assert_eq!(State::from_checkpoint(&bytes[1..]).unwrap_err().exit_code(), 2);
    // Any reader of the format can look at the weights.
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(
        (file.tensor("global").unwrap().dtype(), file.tensor("global").unwrap().shape()),
        (Dtype::F32, &[4][..])
    );
    assert_eq!(Checkpoint::decode(&Checkpoint::default_of_nothing().encode().unwrap()).unwrap().state.round, 0);
}

impl Checkpoint {
    fn default_of_nothing() -> Self {
        let Checkpoint { origin, .. } = sample(0);
        Self { origin, state: State::default(), marks: Marks::default() }
    }
}

/// Cut anywhere, or with any bit changed, it is refused, or says the same.
#[test]
fn damage_is_found() {
    let checkpoint = sample(7);
    let bytes = checkpoint.encode().unwrap();
    for end in 0..bytes.len() {
        Checkpoint::decode(&bytes[..end]).unwrap_err();
    }
    for bit in 0..8 * bytes.len() {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(read) = Checkpoint::decode(&bytes) {
            assert_eq!(read, checkpoint, "bit {bit}");
        }
    }
}

/// Ten thousand files that are nearly checkpoints: none is read as something else, and none is a panic.
#[test]
fn mutated_checkpoints_are_refused() {
    let checkpoint = sample(7);
    let whole = checkpoint.encode().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for _ in 0..10_000 {
        let mut bytes = whole.clone();
        for _ in 0..rng.random_range(1..6) {
            let (from, to) = (rng.random_range(0..bytes.len()), rng.random_range(0..bytes.len()));
            match rng.random_range(0..4) {
                0 => bytes[from] = rng.next_u32() as u8,
                1 => bytes.truncate(from.max(1)),
                2 => {
                    let part = bytes[from.min(to)..from.max(to)].to_vec();
                    bytes.splice(from..from, part).for_each(drop);
                }
                _ => bytes[from] = b"0123456789\"[]{},:"[to % 17],
            }
        }
        if let Ok(read) = Checkpoint::decode(&bytes) {
            assert_eq!(read, checkpoint);
        }
    }
}

#[test]
fn marks_are_cut_by_seed() {
    let seeds = [1, 2, 3, 4].map(mark);
    let marks = Marks { history: mark(9), all: vec![mark(5)], seeds: seeds.to_vec() };
    assert_eq!((marks.seed(0, 2), marks.seed(1, 2), marks.seed(0, 1)), (&seeds[..2], &seeds[2..], &seeds[..]));
    assert_eq!((marks.seed(2, 2), marks.seed(0, 5), Marks::default().seed(0, 1)), (&[][..], &[][..], &[][..]));
    assert_eq!(Marks::decode(&marks.encode()), Some(marks));
    for words in [&[][..], &[1], &[0, 2], &[1, 2, 3, 4], &[u64::MAX, 2, 3]] {
        assert_eq!(Marks::decode(&words.iter().copied().flat_map(u64::to_le_bytes).collect::<Vec<u8>>()), None);
    }
}

#[test]
fn what_is_no_checkpoint_is_named() {
    let other = safetensors::serialize(BTreeMap::<&str, TensorView<'_>>::new(), None).unwrap();
    let long = [&(HEADER_LIMIT as u64 + 1).to_le_bytes()[..], &vec![b' '; 2 * HEADER_LIMIT]].concat();
    let mut newer = sample(1).encode().unwrap();
    let at = newer.windows(12).position(|w| w == b"\\\"format\\\":4").unwrap();
    newer[at + 11] = b'5';
    for (bytes, says) in [
        (&b""[..], "is no whole checkpoint"),
        (b"PK\x03\x04 some archive", "is no whole checkpoint"),
        (&u64::MAX.to_le_bytes(), "its description is too long"),
        (&long, "its description is too long"),
        (&other, "some other safetensors file"),
        (&newer, "is damaged: its checksum is another"),
    ] {
        let refused = Checkpoint::decode(bytes).unwrap_err();
        assert!(refused.contains(says), "{refused}");
    }
}

/// What an earlier program wrote is whole, and of a layout that this one does not know.
#[test]
fn another_layout_is_named_whatever_else_it_says() {
    let bytes = sample(1).encode().unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let parts: Vec<&[u8]> = TENSORS.iter().map(|(name, _)| file.tensor(name).unwrap().data()).collect();
    let description = r#"{"format":3,"told":[true,false,true]}"#.to_string();
    let sum = checksum(&description, &parts);
    let metadata = HashMap::from([(RUN.to_string(), description), (CHECKSUM.to_string(), sum)]);
    let earlier = safetensors::serialize(file.tensors(), Some(metadata)).unwrap();
    let refused = Checkpoint::decode(&earlier).unwrap_err();
    assert_eq!(refused, format!("has format 3, and this program reads format {FORMAT}"));
}

fn rounds(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn the_last_two_are_kept_and_the_newest_good_one_is_found() {
    let run = tempfile::tempdir().unwrap();
    let mut store = Store::new(run.path());
    let take_all = |_: &Path, _: &Checkpoint| Ok(());
    assert!(store.newest(&take_all).unwrap().found.is_none());
    fs::create_dir(store.folder()).unwrap();
    (0..4).for_each(|round| store.write(&sample(round)).unwrap());
    assert_eq!(rounds(store.folder()), ["round_0002.safetensors", "round_0003.safetensors"]);
    for stray in ["round_9.safetensors", "round_+0009.safetensors", "round_x.safetensors", "lock"] {
        fs::write(store.folder().join(stray), "").unwrap();
    }
    assert_eq!(store.newest(&take_all).unwrap().found, Some(sample(3)));

    let newest = store.folder().join("round_0003.safetensors");
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() - 1]).unwrap();
    let Newest { found, refused } = store.newest(&take_all).unwrap();
    assert_eq!((found, refused.len()), (Some(sample(2)), 1));
    assert!(refused[0].to_string().contains("round_0003.safetensors: is no whole checkpoint"), "{}", refused[0]);
    assert_eq!(refused[0].exit_code(), 2);
    // Going on from the older one, the damaged one is the one that goes.
    store.trust(2);
    store.write(&sample(4)).unwrap();
    assert_eq!(store.newest(&take_all).unwrap().found, Some(sample(4)));
    assert!(!newest.exists() && store.folder().join("round_0002.safetensors").exists());
    store.finish().unwrap();
    let left = rounds(store.folder()).into_iter().filter(|name| name.starts_with("round_0")).collect::<Vec<_>>();
    assert_eq!(left, ["round_0004.safetensors"]);
}

/// A full disk: the file cannot be written, and the earlier ones stay.
#[test]
fn one_that_cannot_be_written_leaves_the_last() {
    let run = tempfile::tempdir().unwrap();
    let mut store = Store::new(run.path());
    fs::create_dir(store.folder()).unwrap();
    store.write(&sample(1)).unwrap();
    // A folder in the way of the new file.
    fs::create_dir_all(store.folder().join("round_0002.safetensors/in/the/way")).unwrap();
    store.write(&sample(2)).unwrap_err();
    assert_eq!((store.last(), fs::read_dir(store.folder()).unwrap().count()), (Some(1), 2));
    assert_eq!(store.newest(&|_, _| Ok(())).unwrap().found, Some(sample(1)));
}

#[test]
fn one_process_at_a_time() {
    let run = tempfile::tempdir().unwrap();
    let held = lock(run.path()).unwrap();
    let error = lock(run.path()).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("another process is running in"), "{error}");
    drop(held);
    lock(run.path()).unwrap();
}

#[test]
fn what_is_of_another_run_is_refused_with_what_differs() {
    let ours = sample(1).origin;
    ours.check(&ours, Path::new("f")).unwrap();
    let change = |edit: fn(&mut Origin)| {
        let mut other = ours.clone();
        edit(&mut other);
        ours.check(&other, Path::new("f")).unwrap_err()
    };
    for (error, says) in [
        (change(|o| o.version = "1.0.0".into()), "fedcircuit 1.0.0 wrote it, and this is 1.2.3"),
        (change(|o| o.device.driver = "neon".into()), "a (rayon neon) computed it, and now a (rayon avx) would"),
        (change(|o| o.data = "11".into()), "its data set has SHA-256 11, and this one 00ff"),
        (change(|o| o.first_weights = Some("2".into())), "the file of model.init was another"),
        (change(|o| o.experiment = "name = \"b\"".into()), "name was \"b\", and is \"é\""),
    ] {
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().starts_with("--resume: f is of another run: ") && error.to_string().contains(says));
    }
}
