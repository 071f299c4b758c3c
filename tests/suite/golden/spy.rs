//! A device that writes down what some kernels left behind.
//!
//! Training and the search for circuits keep their state to themselves and read nothing back. To follow them step by
//! step without changing them, this stands between them and the device.

use std::sync::Mutex;

use fedcircuit::device::{Buffer, Device, DeviceInfo, Kernel, Reading, Traffic, View};
use fedcircuit::error::Result;

/// Does what `device` does, and reads a binding back after every dispatch of its kernel.
pub struct Spy<'d> {
    device: &'d dyn Device,
    /// Names of kernels, and of the binding of each to read.
    watched: &'static [(&'static str, &'static str)],
    seen: Mutex<Vec<(&'static str, Vec<u32>)>>,
}

impl<'d> Spy<'d> {
    pub fn new(device: &'d dyn Device, watched: &'static [(&'static str, &'static str)]) -> Self {
        Self { device, watched, seen: Mutex::default() }
    }

    /// What stood in the watched binding after each dispatch of `kernel`.
    pub fn seen(&self, kernel: &str) -> Vec<Vec<u32>> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(name, _)| *name == kernel).map(|(_, words)| words.clone()).collect()
    }
}

impl Device for Spy<'_> {
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
        self.device.dispatch(kernel, params, buffers, groups)?;
        if let Some((_, wanted)) = self.watched.iter().find(|(name, _)| *name == kernel.name) {
            let binding = kernel.bindings.iter().position(|b| b.name == *wanted).expect("the kernel has this binding");
            let mut words = pollster::block_on(self.device.read(&buffers[binding..=binding]))?;
            self.seen.lock().unwrap().push((kernel.name, words.remove(0)));
        }
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        self.device.wait()
    }

    fn read<'a>(&'a self, views: &[View<'a>]) -> Reading<'a> {
        self.device.read(views)
    }

    fn traffic(&self) -> Traffic {
        self.device.traffic()
    }
}
