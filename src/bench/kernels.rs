//! Kernels on their own cases, many dispatches between two waits.

use std::time::{Duration, Instant};

use crate::device::{Buffer, Case, Device, Kernel, View};
use crate::error::Result;
use crate::federation::upload;

/// Cases with less of everything than this share of the kernel's largest are there for their odd sizes, not to be timed.
const SHARE: f64 = 0.25;

/// The cases of `kernel` that say something about its speed: those with at least a quarter of the operations, or of the
/// bytes, of its largest.
pub fn sizeable(kernel: &Kernel) -> Vec<Case> {
    let cases = (kernel.cases)();
    let most = |of: fn(&Case) -> u64| cases.iter().map(of).max().unwrap_or(0).max(1) as f64;
    let (flops, bytes) = (most(|c| c.flops), most(Case::bytes));
    let large = |c: &Case| c.flops as f64 >= SHARE * flops || c.bytes() as f64 >= SHARE * bytes;
    cases.into_iter().filter(large).collect()
}

/// What of `kernel` is timed: its [`sizeable`] cases, and those that fill a large GPU.
pub fn timed(kernel: &Kernel) -> Vec<Case> {
    sizeable(kernel).into_iter().chain((kernel.large)()).collect()
}

/// A kernel's case with its buffers on a device.
pub struct Prepared<'d> {
    device: &'d dyn Device,
    kernel: &'static Kernel,
    case: Case,
    buffers: Vec<Buffer>,
}

impl<'d> Prepared<'d> {
    /// Uploads the case.
    ///
    /// # Errors
    /// What the device says.
    pub fn new(device: &'d dyn Device, kernel: &'static Kernel, case: Case) -> Result<Self> {
        let named = kernel.bindings.iter().zip(&case.buffers);
        let buffers = named.map(|(binding, words)| upload(device, binding.name, words)).collect::<Result<_>>()?;
        Ok(Self { device, kernel, case, buffers })
    }

    /// The case.
    pub fn case(&self) -> &Case {
        &self.case
    }

    /// Dispatches the kernel so many times, waits once, and says how long that took: by the device's own clock where it has
    /// one, else by the host's around both. A kernel that updates its buffers goes on from where they were.
    ///
    /// # Errors
    /// What the device says.
    pub fn run(&self, repeats: u64) -> Result<Duration> {
        let views: Vec<View<'_>> = self.buffers.iter().map(Buffer::all).collect();
        let start = Instant::now();
        let own = self.device.timed(&mut || {
            (0..repeats)
                .try_for_each(|_| self.device.dispatch(self.kernel, &self.case.params, &views, self.case.groups))
        })?;
        Ok(own.unwrap_or_else(|| start.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{ALL, conv_forward};

    #[test]
    fn every_kernel_has_a_case_to_time_and_the_odd_sizes_are_left_out() {
        assert!(ALL.iter().all(|kernel| !sizeable(kernel).is_empty()));
        let names: Vec<_> = sizeable(&conv_forward::KERNEL).iter().map(|c| c.name).collect();
        let eight = ["conv1", "conv2", "conv3"].map(|layer| format!("simple-cnn {layer}, eight clients"));
        assert!(eight.iter().all(|name| names.contains(&name.as_str())), "{names:?}");
        assert!(!names.contains(&"tiny"), "{names:?}");
    }

    /// As often as it says: what is timed is divided by that.
    #[test]
    fn a_kernel_is_dispatched_as_often_as_it_is_told() {
        let cpu = crate::device::Cpu::new(Some(1)).unwrap();
        let kernel = &crate::kernels::adam::KERNEL;
        let prepared = Prepared::new(&cpu, kernel, (kernel.cases)().remove(0)).unwrap();
        let before = cpu.traffic().dispatches;
        prepared.run(7).unwrap();
        assert_eq!(cpu.traffic().dispatches - before, 7);
    }
}
