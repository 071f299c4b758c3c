//! Where kernels run: a GPU through wgpu, the CPU engine, or both at once to compare them.
//!
//! A device owns buffers of 32-bit words and runs kernels over them in the order they were dispatched.
//! Nothing comes back until [`Device::read`] is awaited. This is the only module that names wgpu and the
//! only one with unsafe code (the matrix-product wrapper, unchecked shader modules, and the drivers' caches).

mod agreement;
mod buffer;
mod cpu;
mod gpu;
mod kernel;
pub mod linalg;
pub mod panel;
mod profile;
mod select;
mod shadow;
mod share;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

pub use agreement::compare;
pub use buffer::{Buffer, View};
pub use cpu::Cpu;
pub(crate) use gpu::cache;
pub use gpu::{Cut, Gpu, GpuOptions, Pace};
pub use kernel::{Access, Binding, Call, Case, Compare, Kernel, Leeway, Scores, Variant, always, f32s, f32s_mut, grid};
pub use profile::{Profile, Took};
pub use select::{AdapterSummary, Choice, adapters, open};
pub use shadow::Shadow;
pub use share::Share;

use crate::error::Result;

/// What a device is called and what it can hold.
#[derive(Clone, Debug, serde::Serialize)]
pub struct DeviceInfo {
    /// "cpu", "gpu" or "shadow".
    pub kind: &'static str,
    /// The adapter's or processor's name.
    pub name: String,
    /// "vulkan", "metal", "dx12", or "rayon" for the CPU engine.
    pub backend: String,
    /// Driver and its version, or the instruction set in use.
    pub driver: String,
    /// Whether it is a GPU in software.
    pub software: bool,
    /// Worker threads of the CPU engine; 0 on a GPU.
    pub threads: usize,
    /// The largest range of one buffer that a kernel may see, in bytes.
    pub max_binding_bytes: u64,
    /// The largest buffer, in bytes.
    pub max_buffer_bytes: u64,
}

/// What has crossed from the host to the device and back since the device was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How often results were mapped and read.
    pub readbacks: u64,
    /// Bytes those read-backs carried.
    pub bytes_read_back: u64,
    /// Kernels dispatched.
    pub dispatches: u64,
    /// Parts in which they went to a GPU: more than dispatches where some would have taken too long.
    pub parts: u64,
}

/// The pending result of [`Device::read`]: one vector of words per view asked for.
pub type Reading<'a> = Pin<Box<dyn Future<Output = Result<Vec<Vec<u32>>>> + 'a>>;

/// Something that holds buffers and runs kernels.
///
/// Work happens in the order of the calls. A call may return before its work is done; errors of earlier work
/// surface in a later call.
pub trait Device: Send + Sync {
    /// Name and limits.
    fn info(&self) -> &DeviceInfo;

    /// A new buffer of `words` 32-bit words, all zero.
    ///
    /// # Errors
    /// [`crate::Error::TooLarge`] when it exceeds the device's limits or the memory that is left.
    fn alloc(&self, label: &str, words: usize) -> Result<Buffer>;

    /// Overwrites the words of `to` with `data`; the lengths must be equal.
    fn write(&self, to: View<'_>, data: &[u32]) -> Result<()>;

    /// Copies `from` to `to`, which has the same length and lies in another buffer.
    fn copy(&self, from: View<'_>, to: View<'_>) -> Result<()>;

    /// Sets every word of `view` to zero.
    fn clear(&self, view: View<'_>) -> Result<()>;

    /// Runs `kernel` over `groups` workgroups. `params` are the words of its uniform block, `buffers` its bindings in
    /// the declared order: all that are read, then all that are written.
    fn dispatch(&self, kernel: &'static Kernel, params: &[u32], buffers: &[View<'_>], groups: [u32; 3]) -> Result<()>;

    /// Blocks until everything dispatched so far is done. Reads nothing back.
    fn wait(&self) -> Result<()>;

    /// Reads all `views` in one go, after everything dispatched so far.
    fn read<'a>(&'a self, views: &[View<'a>]) -> Reading<'a>;

    /// Calls `work`, once, where what it dispatches has the shortest way: on the CPU engine in one of its threads, of which
    /// none then has to be woken for every kernel. Worth it for steps of many small kernels.
    fn within(&self, work: &mut (dyn FnMut() + Send)) {
        work();
    }

    /// Whether it has a clock of its own for [`Device::timed`].
    fn has_clock(&self) -> bool {
        false
    }

    /// Does `work` and waits for it. Gives the time that its kernels took by the device's own clock, where it has one.
    ///
    /// # Errors
    /// Those of `work`, and what the device says.
    fn timed(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<Duration>> {
        work()?;
        self.wait()?;
        Ok(None)
    }

    /// Does `work` and waits for it, each kernel apart from the others. Gives what every kernel took by the device's own
    /// clock, where it has one.
    ///
    /// # Errors
    /// Those of `work`, and what the device says.
    fn profiled(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<Profile>> {
        work()?;
        self.wait()?;
        Ok(None)
    }

    /// The counters so far.
    fn traffic(&self) -> Traffic;
}

/// Does `work` [`Device::within`] the device.
///
/// # Errors
/// Those of `work`.
pub fn within(device: &dyn Device, mut work: impl FnMut() -> Result<()> + Send) -> Result<()> {
    let mut done = Ok(());
    device.within(&mut || done = work());
    done
}
