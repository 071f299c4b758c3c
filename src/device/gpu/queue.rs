//! Work on its way to the device: recorded, cut into parts where it is long, submitted, waited for.

use std::time::Instant;

use super::commands::{Op, encode};
use super::pace::Kind;
use super::parts::{Part, Parts};
use super::pipeline::Pipeline;
use super::{Gpu, IN_FLIGHT, OPS_A_SUBMIT, PART_START, SLOT, State, faults};
use crate::error::{Error, Result};

impl Gpu {
    /// Records `groups` workgroups of a kernel, in as many parts as the device's pace asks for.
    pub(super) fn record_parts(
        &self,
        state: &mut State,
        pipeline: &Pipeline,
        group: &wgpu::BindGroup,
        params: &[u32],
        (kind, groups): (Kind, [u32; 3]),
    ) -> Result<()> {
        let mut parts = Parts::new(groups);
        while let Some(part) = parts.next(if pipeline.in_parts { state.pacer.most(&kind) } else { u64::MAX }) {
            state.traffic.parts += 1;
            let count = part.count();
            if state.pacer.alone(&kind, count) {
                self.submit(state)?;
                self.finish(state)?;
                let clock = Instant::now();
                self.record_part(state, pipeline, group, params, part)?;
                self.submit(state)?;
                self.finish(state)?;
                state.pacer.note(kind, count, clock.elapsed());
            } else {
                if state.pacer.full(&kind, count) {
                    self.submit(state)?;
                }
                state.pacer.add(&kind, count);
                self.record_part(state, pipeline, group, params, part)?;
            }
        }
        Ok(())
    }

    fn record_part(
        &self,
        state: &mut State,
        pipeline: &Pipeline,
        group: &wgpu::BindGroup,
        params: &[u32],
        part: Part,
    ) -> Result<()> {
        let slot = state.ring_data.len();
        state.ring_data.extend_from_slice(bytemuck::cast_slice(params));
        state.ring_data.resize(slot + PART_START, 0);
        state.ring_data.extend_from_slice(bytemuck::cast_slice(&part.start));
        state.ring_data.resize(slot + SLOT, 0);
        let (kernel, slot) = (pipeline.kernel, slot as u32);
        let (pipeline, group) = (pipeline.raw.clone(), group.clone());
        self.record(state, Op::Dispatch { kernel, pipeline, group, slot, groups: part.groups })
    }

    pub(super) fn record(&self, state: &mut State, op: Op) -> Result<()> {
        state.ops.push(op);
        if state.ops.len() >= OPS_A_SUBMIT { self.submit(state) } else { Ok(()) }
    }

    /// Encodes and submits what was recorded.
    pub(super) fn submit(&self, state: &mut State) -> Result<()> {
        self.bury(state);
        if state.ops.is_empty() {
            return self.fault();
        }
        self.queue.write_buffer(&state.ring, 0, &state.ring_data);
        state.ring_data.clear();
        state.pacer.submitted();
        let commands = encode(&self.device, state.ops.drain(..), state.clock.as_mut());
        state.in_flight.push_back(self.queue.submit([commands]));
        state.written = 0;
        while state.in_flight.len() > IN_FLIGHT {
            let (oldest, clock) = (state.in_flight.pop_front(), Instant::now());
            self.poll(oldest)?;
            state.pacer.waited(clock.elapsed());
        }
        self.fault()
    }

    /// Waits until all that was submitted is done.
    pub(super) fn finish(&self, state: &mut State) -> Result<()> {
        state.in_flight.clear();
        state.written = 0;
        self.poll(None)?;
        self.fault()
    }

    pub(super) fn poll(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        match faults::poll(&self.device, submission) {
            Some(Ok(_)) => Ok(()),
            Some(Err(e)) => {
                self.fault()?;
                let help = "try again, or run with --device cpu";
                Err(Error::device(format!("{} stopped answering: {e}", self.info.name), help))
            }
            None => {
                self.fault()?;
                Err(faults::lost(&self.info.name, "it was gone while it was waited for"))
            }
        }
    }
}
