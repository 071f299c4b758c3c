//! The shadow device: runs every kernel on the CPU engine and on a GPU and names the first that differs.
//!
//! After each kernel the GPU's outputs are replaced by the CPU's, so that every kernel is judged on equal inputs
//! and rounding does not add up over a run.

use std::sync::Mutex;

use super::agreement::on_real_data;
use super::buffer::Store;
use super::{Access, Buffer, Cpu, Device, DeviceInfo, Gpu, Kernel, Reading, Traffic, View};
use crate::error::{Error, Result};

/// Two devices in lock step.
pub struct Shadow {
    cpu: Cpu,
    gpu: Gpu,
    info: DeviceInfo,
    traffic: Mutex<Traffic>,
}

impl Shadow {
    /// Pairs the two; whatever is read back comes from the CPU engine.
    pub fn new(cpu: Cpu, gpu: Gpu) -> Self {
        let (c, g) = (cpu.info(), gpu.info());
        let info = DeviceInfo {
            kind: "shadow",
            name: format!("{} checked against {}", g.name, c.name),
            max_binding_bytes: c.max_binding_bytes.min(g.max_binding_bytes),
            max_buffer_bytes: c.max_buffer_bytes.min(g.max_buffer_bytes),
            threads: c.threads,
            ..g.clone()
        };
        Self { cpu, gpu, info, traffic: Mutex::default() }
    }
}

impl Shadow {
    /// What the caller asked for; what the comparisons read is not counted.
    fn count(&self, add: impl FnOnce(&mut Traffic)) {
        add(&mut self.traffic.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    }
}

fn pair(buffer: &Buffer) -> (&Buffer, &Buffer) {
    match &buffer.0.store {
        Store::Both { cpu, gpu } => (cpu, gpu),
        _ => panic!("buffer {} belongs to another device", buffer.label()),
    }
}

fn split(view: View<'_>) -> (View<'_>, View<'_>) {
    let (cpu, gpu) = pair(view.buffer);
    (View { buffer: cpu, ..view }, View { buffer: gpu, ..view })
}

impl Device for Shadow {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn alloc(&self, label: &str, words: usize) -> Result<Buffer> {
        let store = Store::Both { cpu: self.cpu.alloc(label, words)?, gpu: self.gpu.alloc(label, words)? };
        Ok(Buffer::new(label, words.max(1), store, None))
    }

    fn write(&self, to: View<'_>, data: &[u32]) -> Result<()> {
        let (cpu, gpu) = split(to);
        self.cpu.write(cpu, data)?;
        self.gpu.write(gpu, data)
    }

    fn copy(&self, from: View<'_>, to: View<'_>) -> Result<()> {
        let ((cpu, gpu), (cpu_to, gpu_to)) = (split(from), split(to));
        self.cpu.copy(cpu, cpu_to)?;
        self.gpu.copy(gpu, gpu_to)
    }

    fn clear(&self, view: View<'_>) -> Result<()> {
        let (cpu, gpu) = split(view);
        self.cpu.clear(cpu)?;
        self.gpu.clear(gpu)
    }

    fn dispatch(&self, kernel: &'static Kernel, params: &[u32], buffers: &[View<'_>], groups: [u32; 3]) -> Result<()> {
        let (cpu, gpu): (Vec<_>, Vec<_>) = buffers.iter().map(|v| split(*v)).unzip();
        self.count(|traffic| traffic.dispatches += 1);
        self.cpu.dispatch(kernel, params, &cpu, groups)?;
        self.gpu.dispatch(kernel, params, &gpu, groups)?;
        for (i, binding) in kernel.bindings.iter().enumerate().filter(|(_, b)| b.access == Access::Write) {
            let want = pollster::block_on(self.cpu.read(&[cpu[i]]))?.remove(0);
            let got = pollster::block_on(self.gpu.read(&[gpu[i]]))?.remove(0);
            let held = || pollster::block_on(self.cpu.read(&cpu));
            on_real_data(kernel, binding, params, (&got, &want), held)?.map_err(|detail| Error::Mismatch {
                kernel: kernel.name,
                output: binding.name,
                detail,
            })?;
            self.gpu.write(gpu[i], &want)?;
        }
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        self.gpu.wait()
    }

    fn read<'a>(&'a self, views: &[View<'a>]) -> Reading<'a> {
        let cpu: Vec<_> = views.iter().map(|v| split(*v).0).collect();
        self.count(|traffic| {
            traffic.readbacks += 1;
            traffic.bytes_read_back += views.iter().map(|v| 4 * v.words as u64).sum::<u64>();
        });
        self.cpu.read(&cpu)
    }

    fn traffic(&self) -> Traffic {
        let traffic = *self.traffic.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Traffic { parts: self.gpu.traffic().parts, ..traffic }
    }
}
