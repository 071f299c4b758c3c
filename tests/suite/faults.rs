//! Devices that fail: what can be done again in smaller parts is, to the same bits; what cannot is said.

use std::sync::Mutex;

use fedcircuit::device::{Buffer, Cpu, Device, DeviceInfo, Kernel, Reading, Traffic, View};
use fedcircuit::experiment::Federation;
use fedcircuit::{Error, Result};

use crate::small::{assert_same, data, run, small};

/// The CPU engine with faults.
struct Faulty {
    cpu: Cpu,
    /// No buffer of this name may have more words.
    most: Option<(&'static str, usize)>,
    /// Kernels it runs before it is lost.
    kernels_left: Mutex<Option<u64>>,
}

impl Faulty {
    fn new(most: Option<(&'static str, usize)>) -> Self {
        Self { cpu: Cpu::new(Some(2)).unwrap(), most, kernels_left: Mutex::new(None) }
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
            *left = left.checked_sub(1).ok_or_else(|| Error::device("the device was lost", "run again"))?;
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
