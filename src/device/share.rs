//! A device that several experiments use at the same time, as one of them sees it: with counters of its own.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::{Buffer, Device, DeviceInfo, Kernel, Profile, Reading, Traffic, View};
use crate::error::Result;

/// A share of a device. Work of all shares is done in the order of their calls, whosever it is.
pub struct Share<'d> {
    device: &'d dyn Device,
    traffic: Mutex<Traffic>,
}

impl<'d> Share<'d> {
    /// One of as many as are wanted.
    pub fn new(device: &'d dyn Device) -> Self {
        Self { device, traffic: Mutex::default() }
    }

    fn counters(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Device for Share<'_> {
    fn info(&self) -> &DeviceInfo {
        self.device.info()
    }

    fn alloc(&self, label: &str, words: usize) -> Result<Buffer> {
        self.device.alloc(label, words)
    }

    fn write(&self, to: View<'_>, data: &[u32]) -> Result<()> {
        self.device.write(to, data)
    }

    fn copy(&self, from: View<'_>, to: View<'_>) -> Result<()> {
        self.device.copy(from, to)
    }

    fn clear(&self, view: View<'_>) -> Result<()> {
        self.device.clear(view)
    }

    fn dispatch(&self, kernel: &'static Kernel, params: &[u32], buffers: &[View<'_>], groups: [u32; 3]) -> Result<()> {
        self.counters().dispatches += 1;
        self.device.dispatch(kernel, params, buffers, groups)
    }

    fn within(&self, work: &mut (dyn FnMut() + Send)) {
        self.device.within(work);
    }

    fn wait(&self) -> Result<()> {
        self.device.wait()
    }

    fn read<'a>(&'a self, views: &[View<'a>]) -> Reading<'a> {
        let mut counters = self.counters();
        counters.readbacks += 1;
        counters.bytes_read_back += views.iter().map(|view| 4 * view.words as u64).sum::<u64>();
        self.device.read(views)
    }

    fn has_clock(&self) -> bool {
        self.device.has_clock()
    }

    fn timed(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<Duration>> {
        self.device.timed(work)
    }

    fn profiled(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<Profile>> {
        self.device.profiled(work)
    }

    fn traffic(&self) -> Traffic {
        let counters = *self.counters();
        Traffic { parts: counters.dispatches, ..counters }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Cpu;
    use crate::kernels::adam::KERNEL;

    /// What an experiment reports is its own, whatever the others beside it do.
    #[test]
    fn each_share_counts_what_was_asked_of_it() {
        let cpu = Cpu::new(Some(1)).unwrap();
        let [one, other] = [Share::new(&cpu), Share::new(&cpu)];
        let case = (KERNEL.cases)().remove(0);
        let made = KERNEL.bindings.iter().zip(&case.buffers);
        let buffers: Vec<Buffer> =
            made.map(|(b, words)| crate::federation::upload(&cpu, b.name, words).unwrap()).collect();
        let views: Vec<View<'_>> = buffers.iter().map(Buffer::all).collect();
        (0..3).for_each(|_| one.dispatch(&KERNEL, &case.params, &views, case.groups).unwrap());
        other.dispatch(&KERNEL, &case.params, &views, case.groups).unwrap();
        let read = [buffers[1].view(0, 4), buffers[0].view(0, 2)];
        pollster::block_on(one.read(&read)).unwrap();
        pollster::block_on(one.read(&read[..1])).unwrap();
        assert_eq!(one.traffic(), Traffic { readbacks: 2, bytes_read_back: 40, dispatches: 3, parts: 3 });
        assert_eq!(other.traffic(), Traffic { readbacks: 0, bytes_read_back: 0, dispatches: 1, parts: 1 });
    }
}
