//! What goes wrong on a GPU, and how it is said.

use std::sync::{Arc, Mutex};

use super::lock;
use crate::error::Error;

/// Keeps the first fault until the next call asks for it: wgpu reports validation errors and lost devices aside.
pub(super) fn watch(device: &wgpu::Device, faults: &Arc<Mutex<Option<String>>>) {
    let keep = |faults: Arc<Mutex<Option<String>>>| {
        move |text: String| {
            lock(&faults).get_or_insert(text);
        }
    };
    let (report, lost) = (keep(faults.clone()), keep(faults.clone()));
    device.on_uncaptured_error(Arc::new(move |e| report(e.to_string())));
    device.set_device_lost_callback(move |reason, text| {
        if reason != wgpu::DeviceLostReason::Destroyed {
            lost(format!("the device was lost: {text}"));
        }
    });
}

pub(super) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

pub(super) fn too_large(label: &str, bytes: u64, limit: String) -> Error {
    Error::TooLarge {
        what: format!("buffer {label:?}"),
        needed: mib(bytes),
        limit,
        help: "lower training.batch_size or device.max_wave, take a smaller model, or run with --device cpu".into(),
    }
}
