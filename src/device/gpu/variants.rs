//! Which variant of a kernel an adapter runs: the one that was fastest when they were tried, at its first use here.
//!
//! The choice changes no bit, so what is noted of it in the user's cache may be lost or wrong at no other cost than time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::SLOT;
use super::cache;
use super::commands::{Op, encode};
use super::faults;
use super::pipeline::{Compiler, Pipeline};
use crate::device::{Case, Kernel, Variant};

/// How a GPU picks among the variants of a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// The fastest: as noted in the user's cache, else by trying each. On software Vulkan, where compiling one takes longer
    /// than it could save, the one that was made for it.
    #[default]
    Fastest,
    /// The fastest, by trying each; nothing is noted.
    Tried,
    /// Number `n` of each kernel's variants, counted from 1, where the adapter can run it and it suits; else, and for 0,
    /// the kernel itself.
    Number(usize),
}

/// Each is timed so often after a first run, and its fastest counts.
const TRIALS: usize = 4;

/// No trial is to take longer.
const LONGEST: Duration = Duration::from_millis(200);

/// Notes by adapter: kernel, then the name of its variant.
type Notes = BTreeMap<String, BTreeMap<String, String>>;

/// What is known of an adapter.
pub(super) struct Variants {
    pub cut: Cut,
    /// The size of all its subgroups; 0 where they differ or cannot be used.
    pub lanes: u32,
    /// Whether it has 64-bit integers.
    pub wide: bool,
    /// Whether it is a software adapter.
    pub software: bool,
    /// Whether its loads are dear, so that longer loops with fewer of them pay: see [`dear_loads`].
    pub dear_loads: bool,
    /// Its name in the notes: adapter, driver and this program's version.
    pub adapter: String,
}

impl Variants {
    /// Which variant of `kernel` this adapter is to run, and it compiled where that was needed to know.
    pub fn pick(
        &self,
        compiler: &Compiler<'_>,
        queue: &wgpu::Queue,
        kernel: &'static Kernel,
    ) -> (usize, Option<Pipeline>) {
        match self.cut {
            _ if kernel.variants.is_empty() => (0, None),
            Cut::Number(n) => (if self.usable(kernel, n) { n } else { 0 }, None),
            Cut::Fastest if self.software => (self.made_for_it(kernel), None),
            Cut::Tried => {
                let (tried, _) = self.fastest(compiler, queue, kernel);
                (tried.n, Some(tried.pipeline))
            }
            Cut::Fastest => match self.noted(kernel).filter(|n| self.eligible(kernel, *n)) {
                Some(n) => (n, None),
                None => {
                    let (tried, none_failed) = self.fastest(compiler, queue, kernel);
                    if none_failed {
                        self.note(kernel, tried.n);
                    }
                    (tried.n, Some(tried.pipeline))
                }
            },
        }
    }

    /// The first that is made for software Vulkan; else the kernel itself.
    fn made_for_it(&self, kernel: &Kernel) -> usize {
        let made = |n: &usize| self.usable(kernel, *n) && kernel.variants[n - 1].lanes > 0;
        (1..=kernel.variants.len()).find(made).unwrap_or(0)
    }

    /// The one to run with these parameters when `picked` was picked: the next after it where it does not suit them or the
    /// driver `refused` it.
    pub fn suiting(&self, kernel: &Kernel, picked: usize, params: &[u32], refused: impl Fn(usize) -> bool) -> usize {
        let fits = |n: usize| suits(kernel, n, params) && !refused(n);
        match self.cut {
            _ if fits(picked) => picked,
            Cut::Number(_) => 0,
            _ => (picked + 1..=kernel.variants.len()).find(|n| self.usable(kernel, *n) && fits(*n)).unwrap_or(0),
        }
    }

    fn usable(&self, kernel: &Kernel, n: usize) -> bool {
        let asked_for = matches!(self.cut, Cut::Number(_));
        let runs = |v: &Variant| {
            // What WGSL does not promise of subgroups is known of software Vulkan.
            (v.lanes == 0 || v.lanes == self.lanes && (self.software || asked_for))
                && (self.wide || !v.wide)
                && (!v.own_order || !self.software || asked_for)
                && (!v.fewer_loads || self.dear_loads || asked_for)
        };
        n == 0 || kernel.variants.get(n - 1).is_some_and(runs)
    }

    /// Whether number `n` is among those from which the fastest is picked: all that add in the same order.
    fn eligible(&self, kernel: &Kernel, n: usize) -> bool {
        let own_order = |n: usize| n > 0 && self.usable(kernel, n) && kernel.variants[n - 1].own_order;
        self.usable(kernel, n) && (own_order(n) || !(1..=kernel.variants.len()).any(own_order))
    }

    /// Runs every eligible variant that suits the kernel's largest case on it, and gives the fastest of those that the driver
    /// takes, or the kernel itself; and whether none failed on its trial. Where all did, it is the first of them: the kernel
    /// itself may add in another order. The variants take turns, so that a change of the clock meets them all.
    fn fastest(&self, compiler: &Compiler<'_>, queue: &wgpu::Queue, kernel: &'static Kernel) -> (Candidate, bool) {
        let largest = |cases: Vec<Case>| cases.into_iter().max_by_key(|case| case.flops);
        let small = largest((kernel.cases)());
        let large = largest(if self.software { Vec::new() } else { (kernel.large)() });
        let case = large.as_ref().or(small.as_ref());
        let suiting = |n: &usize| case.is_none_or(|case| suits(kernel, *n, &case.params));
        let numbers = (0..=kernel.variants.len()).filter(|n| self.eligible(kernel, *n) && suiting(n));
        let attempt = |n| compiler.attempt(kernel, n).map(|pipeline| Candidate::new(n, pipeline));
        let mut tried: Vec<_> = numbers.filter_map(attempt).collect();
        let trials = Trials { device: compiler.device, queue, kernel };
        let case = match (&small, &large) {
            (Some(small), Some(large)) if trials.take_long(small, large, &mut tried) => Some(small),
            _ => case,
        };
        if let Some(case) = case {
            trials.run(case, TRIALS, &mut tried);
        }
        let none_failed = tried.iter().all(|candidate| !candidate.failed);
        let fastest = tried.into_iter().min_by_key(|candidate| (candidate.failed, candidate.best));
        (fastest.unwrap_or_else(|| Candidate::new(0, compiler.compile(kernel, 0))), none_failed)
    }

    fn noted(&self, kernel: &Kernel) -> Option<usize> {
        let notes = read()?;
        let name = notes.get(&self.adapter)?.get(kernel.name)?;
        names(kernel).position(|known| known == name)
    }

    fn note(&self, kernel: &Kernel, n: usize) {
        let (Some(path), Some(name)) = (path(), names(kernel).nth(n)) else { return };
        let mut notes = read().unwrap_or_default();
        notes.entry(self.adapter.clone()).or_default().insert(kernel.name.into(), name.into());
        if let Ok(text) = serde_json::to_vec_pretty(&notes) {
            cache::write(&path, &text);
        }
    }
}

/// Whether loads are dear on this processor's software Vulkan, which puts what each lane loads into a vector, at a place that
/// is known at run time alone. LLVM does so by comparing places where there is AVX-512; else through memory, and reads the
/// whole vector back right after the one element was written, for which a processor waits tens of cycles. (Those with AVX-512
/// have small caches of instructions besides, which the longer loops leave.)
pub(super) fn dear_loads() -> bool {
    #[cfg(target_arch = "x86_64")]
    return !std::is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    return true;
}

/// Whether number `n` of the kernel's variants suits these parameters. The kernel itself, number 0, always does.
fn suits(kernel: &Kernel, n: usize, params: &[u32]) -> bool {
    n == 0 || (kernel.variants[n - 1].suits)(params)
}

/// The kernel itself, then its variants.
fn names(kernel: &Kernel) -> impl Iterator<Item = &'static str> {
    std::iter::once("as declared").chain(kernel.variants.iter().map(|v| v.name))
}

fn path() -> Option<PathBuf> {
    Some(cache::folder()?.join("variants.json"))
}

fn read() -> Option<Notes> {
    serde_json::from_slice(&cache::read(&path()?)?).ok()
}

/// A variant on trial.
struct Candidate {
    n: usize,
    pipeline: Pipeline,
    best: Duration,
    /// Whether it is out.
    failed: bool,
}

impl Candidate {
    fn new(n: usize, pipeline: Pipeline) -> Self {
        Self { n, pipeline, best: Duration::MAX, failed: false }
    }
}

/// Where trials are.
struct Trials<'a> {
    device: &'a wgpu::Device,
    queue: &'a wgpu::Queue,
    kernel: &'static Kernel,
}

impl Trials<'_> {
    /// Whether a candidate would be busy too long with `large`, by what it takes for `small`. Trials are not cut into
    /// parts, and a watchdog ends what takes two seconds.
    fn take_long(&self, small: &Case, large: &Case, tried: &mut Vec<Candidate>) -> bool {
        let times = large.flops as f64 / small.flops.max(1) as f64;
        let mut fit: Vec<_> = tried.extract_if(.., |c| suits(self.kernel, c.n, &small.params)).collect();
        self.run(small, 1, &mut fit);
        let long = fit.iter().any(|c| !c.failed && c.best.as_secs_f64() * times > LONGEST.as_secs_f64());
        fit.iter_mut().for_each(|candidate| candidate.best = Duration::MAX);
        if long {
            // The others are not made for small cases.
            tried.clear();
        }
        tried.extend(fit);
        tried.sort_by_key(|candidate| candidate.n);
        long
    }

    /// Times each on the case so often after a first run; those that fail are out, and all where there is no room for the case.
    fn run(&self, case: &Case, times: usize, tried: &mut [Candidate]) {
        let (bench, problem) = faults::guarded(self.device, || Bench::new(self.device, self.queue, case));
        if problem.is_some() {
            return tried.iter_mut().for_each(|candidate| candidate.failed = true);
        }
        for turn in 0..=times {
            for candidate in tried.iter_mut().filter(|candidate| !candidate.failed) {
                let run = || bench.run(self.device, self.queue, self.kernel, &candidate.pipeline, case);
                match faults::guarded(self.device, run) {
                    (Some(took), None) if turn > 0 => candidate.best = took.min(candidate.best),
                    (Some(_), None) => {}
                    _ => candidate.failed = true,
                }
            }
        }
    }
}

/// A case in buffers of its own.
struct Bench {
    buffers: Vec<wgpu::Buffer>,
    params: wgpu::Buffer,
}

impl Bench {
    fn new(device: &wgpu::Device, queue: &wgpu::Queue, case: &Case) -> Self {
        let buffer = |words: &[u32], size: usize, usage| {
            let usage = usage | wgpu::BufferUsages::COPY_DST;
            let descriptor =
                wgpu::BufferDescriptor { label: Some("trial"), size: size as u64, usage, mapped_at_creation: false };
            let buffer = device.create_buffer(&descriptor);
            queue.write_buffer(&buffer, 0, bytemuck::cast_slice(words));
            buffer
        };
        let storage = |words: &Vec<u32>| buffer(words, 4 * words.len(), wgpu::BufferUsages::STORAGE);
        Self {
            buffers: case.buffers.iter().map(storage).collect(),
            params: buffer(&case.params, SLOT, wgpu::BufferUsages::UNIFORM),
        }
    }

    fn run(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        kernel: &'static Kernel,
        pipeline: &Pipeline,
        case: &Case,
    ) -> Option<Duration> {
        let parts: Vec<_> = self.buffers.iter().zip(&case.buffers).map(|(b, words)| (b, 0, words.len())).collect();
        let group = pipeline.group(device, kernel, &parts, &self.params);
        let groups = pipeline.grid(&case.params, case.groups);
        let clock = Instant::now();
        let op = Op::Dispatch { kernel: kernel.name, pipeline: pipeline.raw.clone(), group, slot: 0, groups };
        let submitted = queue.submit([encode(device, std::iter::once(op), None)]);
        faults::poll(device, Some(submitted))?.ok()?;
        Some(clock.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Gpu, GpuOptions, any_adapter};
    use super::*;
    use crate::device::Device;
    use crate::kernels::{conv_forward, conv_input_grad, conv_weight_grad::KERNEL, linear_forward};

    #[test]
    fn hardware_runs_what_adds_in_an_order_of_its_own_and_software_does_not() {
        let named = |kernel: &Kernel, name: &str| kernel.variants.iter().position(|v| v.name == name).unwrap() + 1;
        let hardware = Variants { lanes: 32, software: false, ..of_software(Cut::Fastest, true) };
        let own: Vec<usize> = (1..=KERNEL.variants.len()).filter(|n| KERNEL.variants[n - 1].own_order).collect();
        let eligible = |device: &Variants| -> Vec<usize> {
            (0..=KERNEL.variants.len()).filter(|n| device.eligible(&KERNEL, *n)).collect()
        };
        assert_eq!(eligible(&hardware), own);
        assert!(own.iter().all(|n| !eligible(&of_software(Cut::Fastest, true)).contains(n)));
        assert!(eligible(&of_software(Cut::Number(own[0]), true)).contains(&own[0]), "as asked for");
        // Where there are too few channels for the largest tile, a smaller one runs, of the same order.
        let params = |name: &str| (KERNEL.cases)().into_iter().find(|c| c.name == name).unwrap().params;
        let small = |name| hardware.suiting(&KERNEL, own[0], &params(name), |_| false);
        assert_eq!([small("simple-cnn conv2"), small("simple-cnn conv1")], [own[1], own[2]]);
        // A kernel without such variants keeps all that it can run.
        let kernel = &conv_input_grad::KERNEL;
        let [pairs, fours, narrow] = ["8 channels, images in pairs", "8 channels, images by fours", "4 channels"]
            .map(|name| named(kernel, name));
        assert!([0, pairs, fours, narrow].iter().all(|n| hardware.eligible(kernel, *n)));
        let params = |name: &str| (kernel.cases)().into_iter().find(|c| c.name == name).unwrap().params;
        let picks = ["simple-cnn conv2, eight clients", "simple-cnn conv3, eight clients", "tiny"]
            .map(|name| hardware.suiting(kernel, pairs, &params(name), |_| false));
        assert_eq!(picks, [pairs, fours, narrow]);
    }

    fn of_software(cut: Cut, wide: bool) -> Variants {
        Variants { cut, lanes: 8, wide, software: true, dear_loads: false, adapter: String::new() }
    }

    #[test]
    fn trials_go_by_the_small_case_where_the_large_one_would_take_long() {
        let Some(adapter) = any_adapter() else { return };
        let gpu = Gpu::open(&adapter, GpuOptions::default()).unwrap();
        let compiler = Compiler { device: &gpu.device, checked: true, row: None, cache: None };
        let kernel = &linear_forward::KERNEL;
        let trials = Trials { device: &gpu.device, queue: &gpu.queue, kernel };
        let small = (kernel.cases)().into_iter().min_by_key(|case| case.flops).unwrap();
        for (times, long) in [(0, false), (1 << 40, true)] {
            let large = Case { flops: times * small.flops, ..small.clone() };
            let mut tried = vec![Candidate::new(0, compiler.compile(kernel, 0))];
            assert_eq!(trials.take_long(&small, &large, &mut tried), long);
            assert!(tried.len() == 1 && tried[0].best == Duration::MAX && !tried[0].failed);
            trials.run(&small, TRIALS, &mut tried);
            assert!(tried[0].best < Duration::MAX);
        }
    }

    /// The fault is nobody else's: what the device is asked next is done.
    #[test]
    fn a_trial_that_fails_is_out_and_nothing_else_fails() {
        let Some(adapter) = any_adapter() else { return };
        let gpu = Gpu::open(&adapter, GpuOptions::default()).unwrap();
        let compiler = Compiler { device: &gpu.device, checked: true, row: None, cache: None };
        let kernel = &linear_forward::KERNEL;
        let trials = Trials { device: &gpu.device, queue: &gpu.queue, kernel };
        let case = (kernel.cases)().into_iter().min_by_key(|case| case.flops).unwrap();
        let mut tried = vec![Candidate::new(0, compiler.compile(kernel, 0))];
        // Of too few buffers no group can be made.
        trials.run(&Case { buffers: vec![vec![0; 4]], ..case.clone() }, TRIALS, &mut tried);
        assert!(tried[0].failed && tried[0].best == Duration::MAX);
        gpu.wait().unwrap();
    }

    #[test]
    fn software_runs_larger_tiles_where_loads_are_dear() {
        let dear = Variants { dear_loads: true, ..of_software(Cut::Fastest, true) };
        let cheap = of_software(Cut::Fastest, true);
        for kernel in [&KERNEL, &conv_input_grad::KERNEL, &conv_forward::KERNEL] {
            let run = |device: &Variants, case: &str| {
                let params = (kernel.cases)().into_iter().find(|c| c.name == case).unwrap().params;
                let n = device.suiting(kernel, device.made_for_it(kernel), &params, |_| false);
                (n, n > 0 && kernel.variants[n - 1].fewer_loads)
            };
            for case in ["simple-cnn conv2, eight clients", "simple-cnn conv3, eight clients"] {
                assert!(run(&dear, case).1 && !run(&cheap, case).1, "{}, {case}", kernel.name);
            }
            // Where there are too few channels both run the same.
            let [few, same] = [&dear, &cheap].map(|device| run(device, "simple-cnn conv1, eight clients"));
            assert!(few == same && !few.1 && few.0 > 0, "{}", kernel.name);
            let large = (1..=kernel.variants.len()).find(|n| kernel.variants[n - 1].fewer_loads).unwrap();
            assert!(of_software(Cut::Number(large), true).usable(kernel, large), "as asked for");
        }
    }

    #[test]
    fn where_a_variant_does_not_suit_the_next_one_runs() {
        let named = |name: &str| KERNEL.variants.iter().position(|v| v.name == name).unwrap() + 1;
        let (beside, wide) = (named("input channels side by side, 16 output channels"), named("64 bits at a time"));
        let params = |name: &str| (KERNEL.cases)().into_iter().find(|c| c.name == name).unwrap().params;
        let (one, many) = (params("simple-cnn conv1, eight clients"), params("simple-cnn conv2, eight clients"));
        let device = of_software(Cut::Fastest, true);
        assert_eq!(device.suiting(&KERNEL, beside, &many, |_| false), beside);
        assert_eq!(device.suiting(&KERNEL, beside, &one, |_| false), wide);
        let narrower = named("input channels side by side, 8 output channels");
        assert_eq!(device.suiting(&KERNEL, beside, &many, |n| n == beside), narrower, "the driver does not take it");
        assert_eq!(device.suiting(&KERNEL, 0, &one, |_| false), 0);
        assert_eq!(
            of_software(Cut::Fastest, false).suiting(&KERNEL, beside, &one, |_| false),
            0,
            "no other that it can run"
        );
        let numbered = of_software(Cut::Number(beside), true);
        assert_eq!(numbered.suiting(&KERNEL, beside, &many, |_| false), beside);
        assert_eq!(
            numbered.suiting(&KERNEL, beside, &one, |_| false),
            0,
            "asked for by number, no other stands in for it"
        );
    }
}
