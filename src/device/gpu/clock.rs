//! The device's own clock: a timestamp before and after each pass.

use std::time::Duration;

use super::faults;

/// Passes that can be timed between two readings.
const PASSES: u32 = 1024;

/// Timestamps of passes, two for each.
pub(super) struct Clock {
    set: wgpu::QuerySet,
    passes: u32,
}

impl Clock {
    /// A clock, where the device has one.
    pub fn new(device: &wgpu::Device) -> Option<Self> {
        let descriptor =
            wgpu::QuerySetDescriptor { label: Some("timestamps"), ty: wgpu::QueryType::Timestamp, count: 2 * PASSES };
        let has = device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        has.then(|| Self { set: device.create_query_set(&descriptor), passes: 0 })
    }

    /// Where the next pass is to write its timestamps; `None` once all places are taken.
    pub fn next(&mut self) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let at = 2 * self.passes;
        self.passes += 1;
        (self.passes <= PASSES).then(|| wgpu::ComputePassTimestampWrites {
            query_set: &self.set,
            beginning_of_pass_write_index: Some(at),
            end_of_pass_write_index: Some(at + 1),
        })
    }

    /// The time spent inside the passes; `None` if there were none, or too many to time them all.
    pub fn read(self, device: &wgpu::Device, queue: &wgpu::Queue) -> Option<Duration> {
        if self.passes == 0 || self.passes > PASSES {
            return None;
        }
        let bytes = u64::from(self.passes) * 16;
        let buffer = |usage| {
            let label = Some("timestamps");
            device.create_buffer(&wgpu::BufferDescriptor { label, size: bytes, usage, mapped_at_creation: false })
        };
        let resolved = buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
        let staging = buffer(wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ);
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.resolve_query_set(&self.set, 0..2 * self.passes, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, Some(bytes));
        queue.submit([encoder.finish()]);
        staging.map_async(wgpu::MapMode::Read, .., |_| {});
        faults::poll(device, None)?.ok()?;
        let mapped = staging.get_mapped_range(..).ok()?;
        let ticks: Vec<u64> = mapped.chunks_exact(8).map(bytemuck::pod_read_unaligned).collect();
        let busy: u64 = ticks.chunks_exact(2).map(|pass| pass[1].saturating_sub(pass[0])).sum();
        Some(Duration::from_nanos((busy as f64 * f64::from(queue.get_timestamp_period())) as u64))
    }
}
