//! The shadow device: runs every kernel on the CPU engine and on a GPU and names the first that differs.
//!
//! After each kernel the GPU's outputs are replaced by the CPU's, so that every kernel is judged on equal inputs
//! and rounding does not add up over a run.

use std::sync::Mutex;

use super::buffer::Store;
use super::{Access, Buffer, Compare, Cpu, Device, DeviceInfo, Gpu, Kernel, Reading, Traffic, View, f32s};
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
            compare(on_real_data(binding.compare), &got, &want).map_err(|detail| Error::Mismatch {
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

/// Kernels declare how closely their cases, which are noise, must agree. Pictures have flat parts, where the values of a
/// pooling window differ by less than rounding: on drawn digits up to 2 in 10,000 codes of a pruned layer differed, every
/// one of them between values equal to 1e-8 in float64.
fn on_real_data(rule: Compare) -> Compare {
    match rule {
        Compare::Codes(share) => Compare::Codes(10.0 * share),
        other => other,
    }
}

/// Whether `got` passes for `want`; otherwise where it does not, and by how much.
///
/// # Errors
/// A sentence for a person.
pub fn compare(rule: Compare, got: &[u32], want: &[u32]) -> std::result::Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{} words instead of {}", got.len(), want.len()));
    }
    match rule {
        Compare::Exact => match got.iter().zip(want).position(|(g, w)| g != w) {
            None => Ok(()),
            Some(i) => Err(format!("word {i} is {:#x} instead of {:#x}", got[i], want[i])),
        },
        Compare::Close(tolerance) => close(tolerance, f32s(got), f32s(want)),
        Compare::Codes(share) => {
            let bytes = |w: &[u32]| bytemuck::cast_slice::<u32, u8>(w).to_vec();
            let differing = bytes(got).iter().zip(bytes(want)).filter(|(g, w)| **g != *w).count();
            let allowed = (share * 4.0 * want.len() as f32).ceil() as usize;
            if differing <= allowed {
                return Ok(());
            }
            Err(format!("{differing} of {} codes differ, {allowed} may", 4 * want.len()))
        }
        Compare::Fields(rules) => rules.iter().enumerate().try_for_each(|(field, rule)| {
            let pick = |w: &[u32]| -> Vec<u32> { w.iter().skip(field).step_by(rules.len()).copied().collect() };
            compare(*rule, &pick(got), &pick(want)).map_err(|e| format!("field {field} of {}: {e}", rules.len()))
        }),
    }
}

fn close(tolerance: f32, got: &[f32], want: &[f32]) -> std::result::Result<(), String> {
    let scale = want.iter().fold(1.0f32, |m, w| if w.is_finite() { m.max(w.abs()) } else { m });
    let mut worst: Option<(usize, f32)> = None;
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let diff = (g - w).abs();
        // NaN fails; equal bits pass, be they infinite or NaN: then both devices did what they were asked for.
        let fails = (diff.is_nan() || diff > tolerance * scale) && g.to_bits() != w.to_bits();
        if fails && worst.is_none_or(|(_, most)| diff.is_nan() || diff > most) {
            worst = Some((i, diff));
        }
    }
    match worst {
        None => Ok(()),
        Some((i, diff)) => Err(format!(
            "element {i} is {} instead of {} (off by {diff:e}; allowed {:e})",
            got[i],
            want[i],
            tolerance * scale
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn the_checker_notices_corruption_and_nan() {
        let want = words(&[1.0, -2.0, 300.0]);
        assert!(compare(Compare::Close(1e-6), &want, &want).is_ok());
        assert!(compare(Compare::Close(1e-6), &words(&[1.0, -2.0, 300.000_1]), &want).is_ok());
        assert!(compare(Compare::Close(1e-6), &words(&[1.0, -2.01, 300.0]), &want).is_err());
        assert!(compare(Compare::Close(1e9), &words(&[1.0, f32::NAN, 300.0]), &want).is_err());
        assert!(compare(Compare::Close(1e9), &words(&[1.0, f32::INFINITY, 300.0]), &want).is_err());
        assert!(compare(Compare::Exact, &[1, 2], &[1, 3]).is_err());
        assert!(compare(Compare::Exact, &[1], &[1, 3]).is_err());
        assert!(compare(Compare::Codes(0.0), &[0x0102_0304], &[0x0102_0304]).is_ok());
        assert!(compare(Compare::Codes(0.0), &[0x0102_0304], &[0x0102_0404]).is_err());
        assert!(compare(Compare::Codes(0.25), &[0x0102_0304], &[0x0102_0404]).is_ok());
        let fields = Compare::Fields(&[Compare::Close(1e-6), Compare::Exact]);
        assert!(compare(fields, &[0x3f80_0001, 7, 0, 8], &[0x3f80_0000, 7, 0, 8]).is_ok());
        assert!(compare(fields, &[0x3f80_0000, 7, 0, 8], &[0x3f80_0000, 7, 0, 9]).is_err());
    }
}
