//! The golden files, and what it means to agree with them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

/// How far a number may be from PyTorch's.
#[derive(Clone, Copy, Debug)]
pub enum Within {
    /// So far.
    Absolute(f64),
    /// So many times the tensor's largest magnitude: what an element's rounding errors scale with, since the terms of
    /// its sum are of that size even where they cancel.
    OfLargest(f64),
}

/// A golden file. It remembers what was asked for, so that a test cannot forget a tensor.
pub struct Golden {
    tensors: BTreeMap<String, Vec<u32>>,
    used: RefCell<BTreeSet<String>>,
}

impl Golden {
    pub fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let words = |name: &str| {
            let tensor = file.tensor(name).unwrap();
            assert!([Dtype::F32, Dtype::I32].contains(&tensor.dtype()), "{name}: {:?}", tensor.dtype());
            tensor.data().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        let tensors = file.names().into_iter().map(|name| (name.to_string(), words(name))).collect();
        Self { tensors, used: RefCell::default() }
    }

    /// An int32 tensor, none of whose numbers is negative.
    pub fn words(&self, name: &str) -> &[u32] {
        self.used.borrow_mut().insert(name.to_string());
        self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name} in the golden file"))
    }

    /// A float32 tensor.
    pub fn floats(&self, name: &str) -> &[f32] {
        bytemuck::cast_slice(self.words(name))
    }

    /// Fails unless `got` is within `tolerance` of the tensor `name`; `on` says whose numbers they are.
    pub fn close(&self, on: &str, name: &str, got: &[f32], tolerance: Within) {
        close(got, self.floats(name), tolerance)
            .map(|worst| println!("{on}: {name}: {worst:.1e} of {tolerance:?}"))
            .unwrap_or_else(|e| panic!("{on}: {name}: {e}"));
    }

    /// Fails unless every tensor whose name starts with `prefix` was asked for.
    pub fn all_used(&self, prefix: &str) {
        let used = self.used.borrow();
        let left: Vec<_> = self.tensors.keys().filter(|n| n.starts_with(prefix) && !used.contains(*n)).collect();
        assert!(left.is_empty(), "never compared: {left:?}");
    }
}

/// Every element of a tensor that the golden files hold: all of a small one, some of a large one.
pub fn sample(tensor: &[f32]) -> Vec<f32> {
    let stride = match tensor.len() {
        0..=20_000 => 1,
        20_001..=200_000 => 7,
        _ => 331,
    };
    tensor.iter().step_by(stride).copied().collect()
}

/// The largest error in the tolerance's unit, or what is wrong. A number that is none is wrong on either side.
pub fn close(got: &[f32], want: &[f32], tolerance: Within) -> Result<f64, String> {
    if got.len() != want.len() || want.is_empty() {
        return Err(format!("{} numbers, PyTorch has {}", got.len(), want.len()));
    }
    let (limit, unit) = match tolerance {
        Within::Absolute(limit) => (limit, 1.0),
        Within::OfLargest(share) => {
            let largest = want.iter().fold(0.0, |l: f64, v| l.max(f64::from(v.abs())));
            (share * largest, largest)
        }
    };
    let mut worst = 0.0;
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let off = (f64::from(*got) - f64::from(*want)).abs();
        let fits = off <= limit && off.is_finite();
        if !fits {
            return Err(format!("element {i} is {got:e}, PyTorch has {want:e}: off by {off:.1e}, allowed {limit:.1e}"));
        }
        worst = off.max(worst);
    }
    // A tensor of zeros has no unit, and no error if we are here.
    Ok(if worst == 0.0 { 0.0 } else { worst / unit })
}

#[test]
fn a_corrupted_number_fails() {
    let golden = Golden::open("simple_cnn");
    let want = golden.floats("batch32.grad.conv2.weight");
    let largest = want.iter().fold(0.0, |l: f32, v| l.max(v.abs()));
    let tolerance = Within::OfLargest(1e-5);
    assert_eq!(close(want, want, tolerance), Ok(0.0));
    let corrupted = |i: usize, value: f32| {
        let mut got = want.to_vec();
        got[i] = value;
        close(&got, want, tolerance)
    };
    assert!(corrupted(17, want[17] + 5e-6 * largest).is_ok());
    for i in [0, 17, want.len() - 1] {
        for wrong in [want[i] + 2e-5 * largest, want[i] - 2e-5 * largest, f32::NAN, f32::INFINITY, -f32::INFINITY] {
            assert!(corrupted(i, wrong).unwrap_err().contains(&format!("element {i} ")), "{wrong} passed");
        }
    }
    assert!(close(&want[1..], want, tolerance).is_err());
    assert!(close(&[], &[], tolerance).is_err());
}

#[test]
fn what_is_no_number_agrees_with_nothing() {
    for bad in [f32::NAN, f32::INFINITY] {
        for tolerance in [Within::Absolute(1e9), Within::OfLargest(1e9)] {
            assert!(close(&[1.0, bad], &[1.0, bad], tolerance).is_err());
            assert!(close(&[1.0, 2.0], &[1.0, bad], tolerance).is_err());
        }
    }
    assert_eq!(close(&[0.0, -0.0], &[0.0, 0.0], Within::OfLargest(1e-6)), Ok(0.0));
    assert!(close(&[1e-30], &[0.0], Within::OfLargest(1.0)).is_err());
}

#[test]
#[should_panic(expected = "never compared: [\"batch32.loss\"]")]
fn a_forgotten_tensor_fails() {
    let golden = Golden::open("simple_cnn");
    for name in golden.tensors.keys().filter(|n| *n != "batch32.loss") {
        golden.words(name);
    }
    golden.all_used("batch19.");
    golden.all_used("batch32.");
}
