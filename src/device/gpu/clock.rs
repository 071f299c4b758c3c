//! The device's own clock: a timestamp before and after each pass.

use std::time::Duration;

use super::faults;

/// Passes that can be timed between two readings.
const PASSES: u32 = 1024;

/// Timestamps of passes, two for each.
pub(super) struct Clock {
    set: wgpu::QuerySet,
    /// Of each pass, the kernel that it begins with.
    passes: Vec<&'static str>,
    /// Whether every dispatch has a pass of its own.
    pub apart: bool,
}

impl Clock {
    /// A clock, where the device has one.
    pub fn new(device: &wgpu::Device, apart: bool) -> Option<Self> {
        let descriptor =
            wgpu::QuerySetDescriptor { label: Some("timestamps"), ty: wgpu::QueryType::Timestamp, count: 2 * PASSES };
        let has = device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        has.then(|| Self { set: device.create_query_set(&descriptor), passes: Vec::new(), apart })
    }

    /// Where the next pass, which begins with `kernel`, is to write its timestamps; `None` once all places are taken.
    pub fn next(&mut self, kernel: &'static str) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let at = 2 * self.passes.len() as u32;
        self.passes.push(kernel);
        (at < 2 * PASSES).then(|| wgpu::ComputePassTimestampWrites {
            query_set: &self.set,
            beginning_of_pass_write_index: Some(at),
            end_of_pass_write_index: Some(at + 1),
        })
    }

    /// The kernel that each pass begins with and the time spent inside it; `None` if there were no passes, or too many to
    /// time them all.
    pub fn read(self, device: &wgpu::Device, queue: &wgpu::Queue) -> Option<Vec<(&'static str, Duration)>> {
        let passes = self.passes.len() as u32;
        if passes == 0 || passes > PASSES {
            return None;
        }
        let bytes = u64::from(passes) * 16;
        let buffer = |usage| {
            let label = Some("timestamps");
            device.create_buffer(&wgpu::BufferDescriptor { label, size: bytes, usage, mapped_at_creation: false })
        };
        let resolved = buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
        let staging = buffer(wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ);
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.resolve_query_set(&self.set, 0..2 * passes, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, Some(bytes));
        queue.submit([encoder.finish()]);
        staging.map_async(wgpu::MapMode::Read, .., |_| {});
        faults::poll(device, None)?.ok()?;
        let mapped = staging.get_mapped_range(..).ok()?;
        let ticks: Vec<u64> = mapped.chunks_exact(8).map(bytemuck::pod_read_unaligned).collect();
        let period = f64::from(queue.get_timestamp_period());
        let took = |pass: &[u64]| Duration::from_nanos((pass[1].saturating_sub(pass[0]) as f64 * period) as u64);
        Some(self.passes.into_iter().zip(ticks.chunks_exact(2).map(took)).collect())
    }
}
