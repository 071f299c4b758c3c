//! What goes wrong on a GPU, and how it is said.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Mutex, Once};

use super::{DeviceInfo, lock};
use crate::error::{Error, mib};

/// What wgpu reported aside.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fault {
    /// The device is gone, and nothing works on it any more.
    Lost(String),
    /// Something was refused.
    Refused(String),
}

/// The first fault, or the device's end, which explains all others.
pub(super) type Faults = Arc<Mutex<Option<Fault>>>;

/// Keeps a fault until it is asked for.
pub(super) fn keep(faults: &Faults, fault: Fault) {
    let mut kept = lock(faults);
    if kept.is_none() || matches!((&*kept, &fault), (Some(Fault::Refused(_)), Fault::Lost(_))) {
        *kept = Some(fault);
    }
}

/// Listens to what wgpu reports aside: validation errors, and lost devices.
pub(super) fn watch(device: &wgpu::Device, faults: &Faults) {
    let (report, lost) = (faults.clone(), faults.clone());
    device.on_uncaptured_error(Arc::new(move |error| {
        let text = error.to_string();
        // As wgpu says that something was asked of a device that is gone.
        let fault = if text.contains("device is lost") { Fault::Lost(text) } else { Fault::Refused(text) };
        keep(&report, fault);
    }));
    device.set_device_lost_callback(move |_, text| keep(&lost, Fault::Lost(text)));
}

/// What `work` gives, and what wgpu has against it, which nobody else then hears of.
pub(super) fn guarded<T>(device: &wgpu::Device, work: impl FnOnce() -> T) -> (T, Option<String>) {
    use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
    let scopes = [Validation, Internal, OutOfMemory].map(|filter| device.push_error_scope(filter));
    let done = work();
    // The innermost ends first, and all of them do.
    let errors = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop()));
    (done, errors.map(|error| error.to_string()).last())
}

impl Fault {
    /// As an error of the device `name`.
    pub fn of(self, name: &str) -> Error {
        match self {
            Fault::Lost(problem) => lost(name, &problem),
            Fault::Refused(problem) => Error::device(
                format!("{name} failed: {problem}"),
                "lower device.memory or training.batch_size, update the driver, or run with --device cpu",
            ),
        }
    }
}

/// The error for a device that is gone.
pub(super) fn lost(name: &str, problem: &str) -> Error {
    // The reason may be several lines of wgpu's, or nothing.
    let problem = problem.split_whitespace().collect::<Vec<_>>().join(" ");
    // A write for which there is no memory takes the device with it.
    let memory = problem.to_lowercase().contains("memory");
    let problem = if memory { format!("{problem} (lower device.memory)") } else { problem };
    Error::Lost { device: name.into(), problem: if problem.is_empty() { "no reason given".into() } else { problem } }
}

thread_local! {
    /// Whether this thread expects a panic, which is then no news.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Waits for the device; `None` where it was lost meanwhile, at which wgpu panics.
pub(super) fn poll(
    device: &wgpu::Device,
    submission_index: Option<wgpu::SubmissionIndex>,
) -> Option<Result<wgpu::PollStatus, wgpu::PollError>> {
    without_panic(|| device.poll(wgpu::PollType::Wait { submission_index, timeout: None }))
}

/// What `work` gives; `None`, and not a word, where it panics.
fn without_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let tell = take_hook();
        set_hook(Box::new(move |about| {
            if !EXPECTED.get() {
                tell(about);
            }
        }));
    });
    EXPECTED.set(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    EXPECTED.set(false);
    done.ok()
}

/// Largest buffer for a use: one that is only copied to and read is no binding.
pub(super) fn most_bytes(info: &DeviceInfo, usage: wgpu::BufferUsages) -> u64 {
    let bound = usage.intersects(wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::UNIFORM);
    if bound { info.max_binding_bytes.min(info.max_buffer_bytes) } else { info.max_buffer_bytes }
}

pub(super) fn too_large(label: &str, bytes: u64, limit: String) -> Error {
    Error::TooLarge {
        what: format!("buffer {label:?}"),
        needed: mib(bytes),
        limit,
        help: "lower training.batch_size or device.max_wave, take a smaller model, or run with --device cpu".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Gpu, GpuOptions, any_adapter};
    use super::*;
    use crate::device::Device;

    #[test]
    fn a_lost_device_explains_every_other_fault_and_nothing_explains_it() {
        let faults = Faults::default();
        keep(&faults, Fault::Refused("one".into()));
        keep(&faults, Fault::Refused("two".into()));
        assert_eq!(*lock(&faults), Some(Fault::Refused("one".into())));
        keep(&faults, Fault::Lost("three\n  four".into()));
        keep(&faults, Fault::Refused("five".into()));
        keep(&faults, Fault::Lost("six".into()));
        let error = lock(&faults).clone().unwrap().of("a device");
        assert_eq!(error.exit_code(), 1);
        let text = error.to_string();
        assert!(text.starts_with("a device was lost: three four\n") && text.contains("--resume"), "{text}");
    }

    #[test]
    fn what_is_read_back_need_not_be_a_binding() {
        let cpu = crate::device::Cpu::new(Some(1)).unwrap();
        let info = DeviceInfo { max_binding_bytes: 2, max_buffer_bytes: 5, ..cpu.info().clone() };
        let most = |usage| most_bytes(&info, wgpu::BufferUsages::COPY_DST | usage);
        assert_eq!(most(wgpu::BufferUsages::MAP_READ), 5);
        assert_eq!([wgpu::BufferUsages::STORAGE, wgpu::BufferUsages::UNIFORM].map(most), [2, 2]);
    }

    #[test]
    fn a_panic_while_waiting_is_an_answer() {
        assert_eq!(without_panic(|| 3), Some(3));
        assert_eq!(
            without_panic(|| if EXPECTED.get() {
                panic!("expected")
            }),
            None
        );
        assert!(!EXPECTED.get());
    }

    /// Whatever is asked of a device that is gone, the answer is that it is gone.
    #[test]
    fn a_device_that_is_gone_says_so() {
        let Some(adapter) = any_adapter() else { return };
        let gpu = Gpu::open(&adapter, GpuOptions::default()).unwrap();
        let (one, two) = (gpu.alloc("one", 4).unwrap(), gpu.alloc("two", 4).unwrap());
        gpu.write(one.all(), &[1, 2, 3, 4]).unwrap();
        gpu.wait().unwrap();
        gpu.device.destroy();
        let copied = gpu.copy(one.all(), two.all()).and_then(|()| gpu.wait());
        let read = pollster::block_on(gpu.read(&[two.all()])).map(drop);
        for error in [copied.unwrap_err(), read.unwrap_err(), gpu.wait().unwrap_err()] {
            assert!(matches!(error, Error::Lost { .. }), "{error}");
        }
    }
}
