//! Recorded work, and its encoding for the queue.

use super::clock::Clock;

/// One thing the GPU is to do.
pub(super) enum Op {
    Dispatch {
        kernel: &'static str,
        pipeline: wgpu::ComputePipeline,
        group: wgpu::BindGroup,
        slot: u32,
        groups: [u32; 3],
    },
    Copy {
        from: wgpu::Buffer,
        start: u64,
        to: wgpu::Buffer,
        to_start: u64,
        bytes: u64,
    },
    Clear {
        buffer: wgpu::Buffer,
        start: u64,
        bytes: u64,
    },
}

/// Encodes `ops` in order. Dispatches that follow each other share a pass; wgpu puts barriers where one needs what
/// another wrote. With a `clock`, passes are timed, and it says which dispatches have one of their own.
pub(super) fn encode(
    device: &wgpu::Device,
    ops: impl Iterator<Item = Op>,
    mut clock: Option<&mut Clock>,
) -> wgpu::CommandBuffer {
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let mut pass: Option<wgpu::ComputePass<'static>> = None;
    for op in ops {
        if let Op::Dispatch { kernel, pipeline, group, slot, groups: [x, y, z] } = op {
            let open = pass.get_or_insert_with(|| {
                let timestamp_writes = clock.as_mut().and_then(|clock| clock.next(kernel));
                let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
                encoder.begin_compute_pass(&descriptor).forget_lifetime()
            });
            open.set_pipeline(&pipeline);
            open.set_bind_group(0, &group, &[slot, slot]);
            open.dispatch_workgroups(x, y, z);
            if clock.as_ref().is_some_and(|clock| clock.apart) {
                pass = None;
            }
            continue;
        }
        // A copy needs the encoder, which an open pass holds.
        pass = None;
        match op {
            Op::Copy { from, start, to, to_start, bytes } => {
                encoder.copy_buffer_to_buffer(&from, start, &to, to_start, bytes);
            }
            Op::Clear { buffer, start, bytes } => encoder.clear_buffer(&buffer, start, Some(bytes)),
            Op::Dispatch { .. } => unreachable!("handled above"),
        }
    }
    drop(pass);
    encoder.finish()
}
