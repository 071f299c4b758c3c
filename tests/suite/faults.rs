//! Devices that fail: what can be done again in smaller parts is, to the same bits; what cannot is said.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fedcircuit::config::{Experiment, Plan, Variant};
use fedcircuit::device::{
    Buffer, Choice, Cpu, Device, DeviceInfo, GpuOptions, Kernel, Pace, Reading, Traffic, View, open,
};
use fedcircuit::experiment::{Federation, Jobs, Ran, Request, run_on};
use fedcircuit::model::save;
use fedcircuit::{Error, Result};

use crate::small::{assert_same, data, run, run_seeds, small};

/// The CPU engine with faults.
struct Faulty {
    cpu: Cpu,
    /// No buffer of this name may have more words.
    most: Option<(&'static str, usize)>,
    /// Kernels it runs before it is lost.
    kernels_left: Arc<Mutex<Option<u64>>>,
}

impl Faulty {
    fn new(most: Option<(&'static str, usize)>) -> Self {
        Self { cpu: Cpu::new(Some(2)).unwrap(), most, kernels_left: Arc::default() }
    }
}

impl Device for Faulty {
    fn info(&self) -> &DeviceInfo {
        self.cpu.info()
    }

    fn alloc(&self, label: &str, words: usize) -> Result<Buffer> {
        if self.most.is_some_and(|(name, most)| name == label && words > most) {
            return Err(Error::TooLarge {
                what: format!("buffer {label:?}"),
                needed: format!("{words} words"),
                limit: "there is not that much left".into(),
                help: "buy more".into(),
            });
        }
        self.cpu.alloc(label, words)
    }

    fn write(&self, to: View<'_>, data: &[u32]) -> Result<()> {
        self.cpu.write(to, data)
    }

    fn copy(&self, from: View<'_>, to: View<'_>) -> Result<()> {
        self.cpu.copy(from, to)
    }

    fn clear(&self, view: View<'_>) -> Result<()> {
        self.cpu.clear(view)
    }

    fn dispatch(&self, kernel: &'static Kernel, params: &[u32], buffers: &[View<'_>], groups: [u32; 3]) -> Result<()> {
        if let Some(left) = self.kernels_left.lock().unwrap().as_mut() {
            let lost = || Error::Lost { device: "the faulty device".into(), problem: "pulled out".into() };
            *left = left.checked_sub(1).ok_or_else(lost)?;
        }
        self.cpu.dispatch(kernel, params, buffers, groups)
    }

    fn wait(&self) -> Result<()> {
        self.cpu.wait()
    }

    fn read<'a>(&'a self, views: &[View<'a>]) -> Reading<'a> {
        self.cpu.read(views)
    }

    fn traffic(&self) -> Traffic {
        self.cpu.traffic()
    }
}

#[test]
fn a_wave_that_finds_too_little_memory_is_halved_to_the_same_bits() {
    let experiment = small(&["circuits.controls={repeat=true,random=5}"]);
    let want = run(&Cpu::new(Some(2)).unwrap(), &experiment).unwrap();
    let data = data(&experiment);
    let words = Federation::new(&Cpu::new(Some(2)).unwrap(), &experiment, &data).unwrap().layout().words;
    let device = Faulty::new(Some(("gradients", 3 * words)));
    let mut federation = Federation::new(&device, &experiment, &data).unwrap();
    assert_eq!(federation.wave_size(), 5);
    let got: Vec<_> = (0..experiment.rounds).map(|_| federation.round().unwrap().remove(0)).collect();
    assert_same(&got, &want, "halved");
    assert_eq!(federation.wave_size(), 3);
    let notes: Vec<_> = federation.take_notes().into_iter().filter(|note| note.contains("memory")).collect();
    assert_eq!(notes, ["round 1: no memory for buffer \"gradients\"; goes on in waves of 3 clients"]);
}

/// However many masks a circuit is tried with, few of them are there at a time; and how many changes no bit.
#[test]
fn masks_of_circuits_keep_within_the_memory_they_are_allowed() {
    let of = |memory: &str| {
        let measures = "circuits.measures={removals=600,curve=[0.1,0.5,1],images=6}";
        let controls = "circuits.controls={random=1000,random_images=2}";
        small(&["rounds=1", "seeds=[7, 9]", "circuits.steps=3", measures, controls, memory])
    };
    let want = run_seeds(&Cpu::new(Some(2)).unwrap(), &of("device.memory=1GiB")).unwrap();
    // The random circuits of a single pair have 38 gates each: 38,000 words; and those without a channel 22,800.
    let device = Faulty::new(Some(("masks of a family", 20_000)));
    let got = run_seeds(&device, &of("device.memory=8MiB")).unwrap();
    got.iter().zip(&want).for_each(|(got, want)| assert_same(got, want, "few masks at a time"));
    let circuits = want.iter().flatten().flat_map(|outcome| &outcome.circuits);
    assert!(circuits.filter(|c| c.random.is_some() && c.removals.is_some()).count() > 8);
}

#[test]
fn half_a_wave_that_does_not_fit_either_ends_the_round_with_what_was_lacking() {
    let experiment = small(&[]);
    let error = run(&Faulty::new(Some(("gradients", 1))), &experiment).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }) && error.to_string().contains("gradients"), "{error}");
}

/// A lost device is nothing to try again on; what earlier rounds gave stays.
#[test]
fn a_lost_device_ends_the_round_under_way() {
    let experiment = small(&[]);
    let device = Faulty::new(None);
    let mut federation = Federation::new(&device, &experiment, &data(&experiment)).unwrap();
    let first = federation.round().unwrap();
    for kernels in [0, 1, 100] {
        *device.kernels_left.lock().unwrap() = Some(kernels);
        let error = federation.round().unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().contains("lost")), (1, true), "{error}");
    }
    let want = run(&Cpu::new(Some(2)).unwrap(), &small(&["rounds=1"])).unwrap();
    assert_eq!(first[0].record.global, want[0].record.global);
}

/// A device with a watchdog gets its work in small parts, and gives the bits of one without.
#[test]
fn a_federation_in_parts_has_the_bits_of_the_whole() {
    if crate::common::gpu().is_none() {
        return;
    }
    let experiment = small(&["rounds=1", "training.local_epochs=1"]);
    let on = |pace| {
        let (device, _) = open(&Choice::Gpu, GpuOptions { checked: true, pace, ..Default::default() }, None).unwrap();
        (run(device.as_ref(), &experiment).unwrap(), device.traffic())
    };
    let (whole, all) = on(Some(Pace::ENDLESS));
    assert_eq!((all.parts, all.readbacks), (all.dispatches, 1));
    let (dispatch, submission) = (Duration::from_millis(2), Duration::from_millis(8));
    let (parts, cut) = on(Some(Pace { dispatch, submission, first: 20 }));
    assert_same(&parts, &whole, "in parts");
    assert!(cut.parts > cut.dispatches && (cut.dispatches, cut.readbacks) == (all.dispatches, 1), "{cut:?}");
}

/// To run experiments into `out`: one alone, or several that share waves.
fn request(experiments: &[Experiment], out: &Path, resume: bool) -> Request {
    let several = experiments.len() > 1;
    let variants = experiments.iter().map(|experiment| Variant {
        label: several.then(|| experiment.name.clone()),
        swept: Vec::new(),
        experiment: experiment.clone(),
    });
    Request {
        plan: Plan { name: "faults".into(), variants: variants.collect() },
        device: Choice::Cpu,
        data: "nowhere".into(),
        out: out.to_path_buf(),
        resume,
        quiet: true,
        jobs: if several { Jobs::Shared } else { Jobs::Suited { most: usize::MAX } },
        live: None,
    }
}

/// Experiments that share waves until there is too little memory for them go on in smaller groups, to the same bits.
#[test]
fn experiments_that_find_too_little_memory_together_go_on_apart() {
    let root = tempfile::tempdir().unwrap();
    let equal = "partition={ kind = \"iid\", num_clients = 5 }";
    let experiments = [1, 2, 3].map(|seed| small(&[equal, &format!("seed={seed}"), &format!("name=\"e{seed}\"")]));
    let request = request(&experiments, &root.path().join("out"), false);
    let cpu = Cpu::new(Some(2)).unwrap();
    let words = Federation::new(&cpu, &experiments[0], &data(&experiments[0])).unwrap().layout().words;
    // Half a wave of all three has 8 clients, of two 5, and of one 3.
    let faulty = || Faulty::new(Some(("gradients", 3 * words)));
    let device = faulty();
    let mut two = Federation::together(&device, &[&experiments[0], &experiments[1]], &data(&experiments[0])).unwrap();
    assert!(matches!(two.round(), Err(Error::TooLarge { .. })));
    let stop = AtomicBool::new(false);
    run_on(&request, &|| Ok(&stop), &|_| Ok((Box::new(faulty()) as Box<dyn Device>, "faulty".into()))).unwrap();
    for experiment in &experiments {
        let want = run(&cpu, experiment).unwrap();
        let layout = Federation::new(&cpu, experiment, &data(experiment)).unwrap().layout().clone();
        let saved = save(&layout, want[1].weights.as_ref().unwrap()).unwrap();
        let file = root.path().join("out").join(&experiment.name).join("model/round_0002.safetensors");
        assert!(fs::read(file).unwrap() == saved, "{}", experiment.name);
    }
}

/// Kernels that a device has left, if it is ever lost.
type Left = Arc<Mutex<Option<u64>>>;

fn after(kernels: u64) -> Left {
    Arc::new(Mutex::new(Some(kernels)))
}

/// Runs what is asked for on devices of which each is lost after so many kernels, if a number is given.
fn run_on_faulty(request: &Request, losses: &[Left]) -> Result<Ran> {
    let (opened, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    run_on(request, &|| Ok(&stop), &|_| {
        let kernels_left = losses[opened.fetch_add(1, Ordering::Relaxed)].clone();
        Ok((Box::new(Faulty { kernels_left, ..Faulty::new(None) }) as Box<dyn Device>, "faulty".into()))
    })
}

/// What three rounds leave in a folder, but for the time they took.
fn left(folder: &Path) -> (Vec<String>, [Vec<u8>; 4]) {
    let rounds = fs::read_to_string(folder.join("rounds.jsonl")).unwrap();
    let timeless = |line: &str| line.split_once("\"seconds\"").unwrap().1.split_once('}').unwrap().1.to_string();
    let files =
        ["circuits.json", "overlap.csv", "model/round_0003.safetensors", "model/round_0003_client_0004.safetensors"];
    (rounds.lines().map(timeless).collect(), files.map(|file| fs::read(folder.join(file)).unwrap()))
}

/// Lost once, a device is opened again and the experiments go on to the same bits; lost again, they end with what to do, and
/// can be gone on with.
fn outlive_the_loss_of_their_device(experiments: &[Experiment], parts: &[u64]) {
    let root = tempfile::tempdir().unwrap();
    let folders = |out: &Path| -> Vec<_> {
        match experiments {
            [_] => vec![out.to_path_buf()],
            several => several.iter().map(|experiment| out.join(&experiment.name)).collect(),
        }
    };
    let (counted, whole) = (after(1 << 40), root.path().join("whole"));
    run_on_faulty(&request(experiments, &whole, false), std::slice::from_ref(&counted)).unwrap();
    let kernels = (1 << 40) - counted.lock().unwrap().unwrap();
    let assert_same_as_whole = |out: &Path, what: &str| {
        for (got, want) in folders(out).iter().zip(folders(&whole)) {
            assert!(left(got) == left(&want), "{what}: {}", got.display());
        }
    };
    for part in parts {
        let out = root.path().join(format!("once-{part}"));
        run_on_faulty(&request(experiments, &out, false), &[after(kernels * part / 8), Left::default()]).unwrap();
        assert_same_as_whole(&out, &format!("lost after {part}/8 of the kernels"));
    }
    let out = root.path().join("twice");
    let losses = [after(kernels / 2), after(kernels / 8)];
    let error = run_on_faulty(&request(experiments, &out, false), &losses).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, Error::Lost { .. }) && error.exit_code() == 1, "{message}");
    for says in ["the faulty device was lost: pulled out", "--resume", "device.memory"] {
        assert!(message.contains(says), "{message}");
    }
    for folder in folders(&out) {
        assert!(fs::read_to_string(folder.join("rounds.jsonl")).unwrap().lines().count() >= 1);
    }
    run_on_faulty(&request(experiments, &out, true), &[Left::default()]).unwrap();
    assert_same_as_whole(&out, "gone on with after two losses");
}

#[test]
fn a_run_outlives_the_loss_of_its_device() {
    outlive_the_loss_of_their_device(&[small(&["rounds=3"])], &[0, 1, 4, 7]);
}

#[test]
fn experiments_that_share_waves_outlive_the_loss_of_their_device() {
    let experiment = |seed: usize| small(&["rounds=3", &format!("seed={seed}"), &format!("name=\"e{seed}\"")]);
    outlive_the_loss_of_their_device(&[experiment(1), experiment(2)], &[0, 3, 7]);
}
