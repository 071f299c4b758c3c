//! The GPU: kernels as compute pipelines, recorded and submitted in order.
//!
//! Dispatches collect in a list and are encoded together; the parameters of each lie in one ring of uniforms.
//! Bind groups are kept and reused while their buffers live. Nothing waits for the device but [`Device::wait`],
//! [`Device::read`], and the rule that at most two submissions are under way.

pub(crate) mod cache;
mod clock;
mod commands;
mod compiled;
mod faults;
mod pace;
mod parts;
mod pipeline;
mod queue;
mod remembered;
mod variants;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_intrusive::channel::shared::oneshot_channel;

use clock::Clock;
use commands::Op;
use compiled::Compiled;
use faults::{Fault, Faults, most_bytes, too_large, watch};
pub use pace::Pace;
pub use variants::Cut;

use pace::Pacer;
use pipeline::{Compiler, Pipeline};
use remembered::Remembered;
use variants::Variants;

use super::buffer::Store;
use super::cpu::check_copy;
use super::{Buffer, Device, DeviceInfo, Kernel, Profile, Reading, Traffic, View};
use crate::error::{Error, Result, mib};

/// Bytes between the blocks in the ring, two for a dispatch: each at the strictest alignment of any GPU.
const SLOT: usize = 2 * PART_START;
/// Where in them the first workgroup of the dispatch is, after the parameters.
const PART_START: usize = 256;
/// Dispatches recorded before they are submitted. About three training steps: long enough to hide the cost of a
/// submission, short enough to stay far from any watchdog.
const OPS_A_SUBMIT: usize = 96;
/// What is used where the adapter has it: lanes that share what they load, loads of 64 bits, compilations that are remembered,
/// and the time that passes take.
const WELCOME: wgpu::Features = wgpu::Features::SUBGROUP
    .union(wgpu::Features::SHADER_INT64)
    .union(wgpu::Features::PIPELINE_CACHE)
    .union(wgpu::Features::TIMESTAMP_QUERY);
/// Submissions under way before the host waits for the oldest.
const IN_FLIGHT: usize = 2;

/// Words of writes that are under way at a time: 8 MiB.
const WRITE_WORDS: usize = 1 << 21;

/// How a GPU is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct GpuOptions {
    /// Keep wgpu's bounds checks in the shaders. The tests do; a release run trusts the tested shaders.
    pub checked: bool,
    /// Which variant of a kernel runs, where it has some.
    pub cut: Cut,
    /// How long it may be busy at a time; without one, as long as suits it: [`Pace::WATCHDOG`] for hardware, and for software,
    /// which nothing watches, as long as it takes.
    pub pace: Option<Pace>,
    /// Workgroups of a row, where grids are folded: without a number, [`super::grid::LIMIT`]. The tests fold small grids.
    pub row: Option<u32>,
}

/// A wgpu device and the kernels compiled for it.
pub struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: DeviceInfo,
    checked: bool,
    row: Option<u32>,
    variants: Variants,
    remembered: Option<Remembered>,
    faults: Faults,
    graveyard: Arc<Mutex<Vec<u64>>>,
    state: Mutex<State>,
}

struct State {
    compiled: Compiled,
    groups: HashMap<GroupKey, wgpu::BindGroup>,
    ops: Vec<Op>,
    ring: wgpu::Buffer,
    ring_data: Vec<u8>,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    /// Words written since something was last submitted or waited for.
    written: usize,
    pacer: Pacer,
    traffic: Traffic,
    /// Set while work is timed.
    clock: Option<Clock>,
}

/// Bytes of a binding: shaders count words in 32 bits, whatever larger buffers a device has.
const ADDRESSABLE: u64 = 4 * u32::MAX as u64;

type GroupKey = (&'static str, Vec<(u64, usize, usize)>);

/// For tests of what lies beneath a device. Under `FEDCIRCUIT_REQUIRE_GPU=1` a missing adapter is a failure.
#[cfg(test)]
fn any_adapter() -> Option<wgpu::Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all())).into_iter().next();
    let required = std::env::var_os("FEDCIRCUIT_REQUIRE_GPU").is_some();
    assert!(adapter.is_some() || !required, "a GPU adapter is required");
    adapter
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Gpu {
    /// Opens `adapter` with all the limits it has.
    ///
    /// # Errors
    /// [`Error::Device`] when the driver refuses, with its reason.
    pub fn open(adapter: &wgpu::Adapter, options: GpuOptions) -> Result<Self> {
        let limits = adapter.limits();
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("fedcircuit"),
            required_limits: limits.clone(),
            required_features: adapter.features() & WELCOME,
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        };
        let about = adapter.get_info();
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).map_err(|e| {
            Error::device(
                format!("{} cannot be opened: {e}", about.name),
                "update its driver, or run with --device cpu",
            )
        })?;
        let faults = Faults::default();
        watch(&device, &faults);
        let ring = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters"),
            size: (SLOT * OPS_A_SUBMIT) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let info = DeviceInfo {
            kind: "gpu",
            name: about.name.clone(),
            backend: about.backend.to_str().into(),
            driver: format!("{} {}", about.driver, about.driver_info).trim().into(),
            software: about.device_type == wgpu::DeviceType::Cpu,
            threads: 0,
            max_binding_bytes: limits.max_storage_buffer_binding_size.min(ADDRESSABLE),
            max_buffer_bytes: limits.max_buffer_size,
        };
        let state = State {
            pacer: Pacer::new(options.pace.or((!info.software).then_some(Pace::WATCHDOG))),
            compiled: Compiled::default(),
            groups: HashMap::new(),
            ops: Vec::new(),
            ring,
            ring_data: Vec::with_capacity(SLOT * OPS_A_SUBMIT),
            in_flight: VecDeque::new(),
            written: 0,
            traffic: Traffic::default(),
            clock: None,
        };
        let sizes = [about.subgroup_min_size, about.subgroup_max_size];
        let even = sizes[0] == sizes[1] && device.features().contains(wgpu::Features::SUBGROUP);
        let variants = Variants {
            cut: options.cut,
            lanes: if even { sizes[0] } else { 0 },
            wide: device.features().contains(wgpu::Features::SHADER_INT64),
            software: info.software,
            dear_loads: info.software && variants::dear_loads(),
            adapter: format!("{}, {}, {}, {}", info.name, info.driver, info.backend, env!("CARGO_PKG_VERSION")),
        };
        let GpuOptions { checked, row, .. } = options;
        let remembered = if checked { None } else { Remembered::open(&device, &about) };
        let (graveyard, state) = (Arc::default(), Mutex::new(state));
        Ok(Self { device, queue, info, checked, row, variants, remembered, faults, graveyard, state })
    }

    /// The first fault that wgpu reported since the last call, as an error; a lost device stays lost.
    fn fault(&self) -> Result<()> {
        let mut kept = lock(&self.faults);
        let fault = if let Some(Fault::Lost(_)) = *kept { kept.clone() } else { kept.take() };
        fault.map_or(Ok(()), |fault| Err(fault.of(&self.info.name)))
    }

    fn pipeline(&self, state: &mut State, kernel: &'static Kernel, params: &[u32]) -> Arc<Pipeline> {
        let cache = self.remembered.as_ref().map(|r| &r.cache);
        let compiler = Compiler { device: &self.device, checked: self.checked, row: self.row, cache };
        state.compiled.get(&self.variants, &compiler, &self.queue, kernel, params)
    }

    fn group(
        &self,
        state: &mut State,
        kernel: &'static Kernel,
        pipeline: &Pipeline,
        views: &[View<'_>],
    ) -> wgpu::BindGroup {
        let key = (kernel.name, views.iter().map(|v| (v.buffer.0.id, v.start, v.words)).collect());
        if let Some(found) = state.groups.get(&key) {
            return found.clone();
        }
        let parts: Vec<_> = views.iter().map(|v| (raw(v.buffer), v.start, v.words)).collect();
        let group = pipeline.group(&self.device, kernel, &parts, &state.ring);
        state.groups.insert(key, group.clone());
        group
    }

    /// Does `work` and waits for it; gives the time of every pass, of which each dispatch has its own if they are timed
    /// `apart`.
    fn clocked(
        &self,
        apart: bool,
        work: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<Vec<(&'static str, Duration)>>> {
        {
            let state = &mut *lock(&self.state);
            self.submit(state)?;
            state.clock = Clock::new(&self.device, apart);
        }
        let done = work().and_then(|()| self.wait());
        let clock = lock(&self.state).clock.take();
        done?;
        Ok(clock.and_then(|clock| clock.read(&self.device, &self.queue)))
    }

    /// Forgets the bind groups of buffers that are gone, so that their memory is freed.
    fn bury(&self, state: &mut State) {
        let gone: HashSet<u64> = lock(&self.graveyard).drain(..).collect();
        if !gone.is_empty() {
            state.groups.retain(|(_, buffers), _| !buffers.iter().any(|(id, ..)| gone.contains(id)));
        }
    }

    fn create(&self, label: &str, words: usize, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        let bytes = 4 * words as u64;
        let limit = most_bytes(&self.info, usage);
        if bytes > limit {
            return Err(too_large(label, bytes, format!("{} allows {} a buffer", self.info.name, mib(limit))));
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes,
            usage,
            mapped_at_creation: false,
        });
        match pollster::block_on(scope.pop()) {
            None => Ok(buffer),
            Some(_) => Err(too_large(label, bytes, format!("{} has not that much memory left", self.info.name))),
        }
    }
}

fn raw(buffer: &Buffer) -> &wgpu::Buffer {
    match &buffer.0.store {
        Store::Gpu(raw) => raw,
        _ => panic!("buffer {} belongs to another device", buffer.label()),
    }
}

impl Device for Gpu {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn alloc(&self, label: &str, words: usize) -> Result<Buffer> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        self.bury(&mut lock(&self.state));
        let raw = self.create(label, words.max(1), usage)?;
        Ok(Buffer::new(label, words.max(1), Store::Gpu(raw), Some(self.graveyard.clone())))
    }

    fn write(&self, to: View<'_>, data: &[u32]) -> Result<()> {
        check_copy("write", data.len(), to)?;
        // A queue write overtakes whatever is only recorded, so that goes first.
        let state = &mut *lock(&self.state);
        self.submit(state)?;
        for (i, part) in data.chunks(WRITE_WORDS).enumerate() {
            if state.written > 0 && state.written + part.len() > WRITE_WORDS {
                // What was written before is in memory twice until it has arrived.
                self.queue.submit([]);
                self.finish(state)?;
            }
            let at = to.start + i * WRITE_WORDS;
            self.queue.write_buffer(raw(to.buffer), 4 * at as u64, bytemuck::cast_slice(part));
            state.written += part.len();
        }
        Ok(())
    }

    fn copy(&self, from: View<'_>, to: View<'_>) -> Result<()> {
        check_copy("copy", from.words, to)?;
        check_copy("copy", from.words, from)?;
        let op = Op::Copy {
            from: raw(from.buffer).clone(),
            start: 4 * from.start as u64,
            to: raw(to.buffer).clone(),
            to_start: 4 * to.start as u64,
            bytes: 4 * from.words as u64,
        };
        self.record(&mut lock(&self.state), op)
    }

    fn clear(&self, view: View<'_>) -> Result<()> {
        check_copy("clear", view.words, view)?;
        let (start, bytes) = (4 * view.start as u64, 4 * view.words as u64);
        self.record(&mut lock(&self.state), Op::Clear { buffer: raw(view.buffer).clone(), start, bytes })
    }

    fn dispatch(&self, kernel: &'static Kernel, params: &[u32], buffers: &[View<'_>], groups: [u32; 3]) -> Result<()> {
        kernel.check(params, buffers, groups)?;
        if groups.contains(&0) {
            return Ok(());
        }
        let state = &mut *lock(&self.state);
        let pipeline = self.pipeline(state, kernel, params);
        let group = self.group(state, kernel, &pipeline, buffers);
        state.traffic.dispatches += 1;
        let words: usize = buffers.iter().map(|view| view.words).sum();
        let groups = pipeline.grid(params, groups);
        let kind = (kernel.name, [groups[0], groups[1]], words as u64 / u64::from(groups[2]).max(1));
        self.record_parts(state, &pipeline, &group, params, (kind, groups))
    }

    fn wait(&self) -> Result<()> {
        let state = &mut *lock(&self.state);
        self.submit(state)?;
        self.finish(state)
    }

    fn read<'a>(&'a self, views: &[View<'a>]) -> Reading<'a> {
        let views = views.to_vec();
        Box::pin(async move {
            let total: usize = views.iter().map(|v| v.words).sum();
            let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
            let staging = self.create("read-back", total.max(1), usage)?;
            let (sender, receiver) = oneshot_channel();
            {
                let state = &mut *lock(&self.state);
                let mut at = 0;
                for view in &views {
                    check_copy("read", view.words, *view)?;
                    let (from, start) = (raw(view.buffer).clone(), 4 * view.start as u64);
                    let (to, bytes) = (staging.clone(), 4 * view.words as u64);
                    self.record(state, Op::Copy { from, start, to, to_start: at, bytes })?;
                    at += bytes;
                }
                self.submit(state)?;
                state.traffic.readbacks += 1;
                state.traffic.bytes_read_back += at;
                state.in_flight.clear();
                staging.map_async(wgpu::MapMode::Read, .., move |result| {
                    // The receiver is gone only when the caller dropped the reading.
                    let _ = sender.send(result);
                });
                self.poll(None)?;
            }
            let lost =
                |what: String| Error::device(format!("{}: {what}", self.info.name), "run again, or use --device cpu");
            let received = receiver.receive().await;
            self.fault()?;
            match received {
                Some(Ok(())) => {}
                Some(Err(e)) => return Err(lost(format!("results could not be read back: {e}"))),
                None => return Err(lost("results never arrived".into())),
            }
            let mapped = staging.get_mapped_range(..).map_err(|e| lost(format!("results could not be mapped: {e}")))?;
            let mut words = mapped.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            Ok(views.iter().map(|v| words.by_ref().take(v.words).collect()).collect())
        })
    }

    fn has_clock(&self) -> bool {
        self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY)
    }

    fn timed(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<Duration>> {
        Ok(self.clocked(false, work)?.map(|passes| passes.into_iter().map(|(_, took)| took).sum()))
    }

    fn profiled(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Option<Profile>> {
        Ok(self.clocked(true, work)?.map(Profile::new))
    }

    fn traffic(&self) -> Traffic {
        lock(&self.state).traffic
    }
}
