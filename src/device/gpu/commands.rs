//! Recorded work, and its encoding for the queue.

/// One thing the GPU is to do.
pub(super) enum Op {
    Dispatch { pipeline: wgpu::ComputePipeline, group: wgpu::BindGroup, slot: u32, groups: [u32; 3] },
    Copy { from: wgpu::Buffer, start: u64, to: wgpu::Buffer, to_start: u64, bytes: u64 },
    Clear { buffer: wgpu::Buffer, start: u64, bytes: u64 },
}

/// Encodes `ops` in order. Dispatches that follow each other share a pass; wgpu puts barriers where one needs what
/// another wrote.
pub(super) fn encode(device: &wgpu::Device, ops: impl Iterator<Item = Op>) -> wgpu::CommandBuffer {
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let mut pass: Option<wgpu::ComputePass<'static>> = None;
    for op in ops {
        if let Op::Dispatch { pipeline, group, slot, groups: [x, y, z] } = op {
            let begin = || encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()).forget_lifetime();
            let pass = pass.get_or_insert_with(begin);
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[slot]);
            pass.dispatch_workgroups(x, y, z);
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
