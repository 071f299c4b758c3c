//! What a run will take, told before it begins.

use crate::config::Experiment;
use crate::data::{Dataset, Population};
use crate::federation::RoundPlan;

/// Memory that this process has resident, in bytes, where the system says so (Linux does).
pub fn resident_memory() -> Option<u64> {
    status("VmRSS:")
}

/// The most memory that this process ever had resident, in bytes, where the system says so (Linux does).
pub fn peak_memory() -> Option<u64> {
    status("VmHWM:")
}

/// A line of `/proc/self/status`, a field and its value in kB, in bytes.
fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix(field))?.trim().strip_suffix(" kB")?;
    kib.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// What the host's own memory is for, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostMemory {
    /// Code, libraries and driver: what was resident before any data was read.
    pub program: Option<u64>,
    /// The data set.
    pub data: u64,
    /// Who has which examples.
    pub clients: u64,
}

impl HostMemory {
    /// With what was resident before `dataset` was read.
    pub fn new<'a>(program: Option<u64>, dataset: &Dataset, populations: impl Iterator<Item = &'a Population>) -> Self {
        let splits = [&dataset.train, &dataset.test];
        let data = splits.iter().map(|s| (s.pixels.len() + s.labels.len()) as u64).sum();
        Self { program, data, clients: populations.map(Population::bytes).sum() }
    }
}

/// The plan in words, line by line.
pub(super) fn told(experiment: &Experiment, plan: &RoundPlan, host: &HostMemory) -> Vec<String> {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let (drawn, population) = (plan.clients, experiment.partition.num_clients() * experiment.seeds.all().len());
    let of = if drawn < population { format!(" of {population}") } else { String::new() };
    let (clients, waves) = (counted(drawn, "client"), counted(plan.waves, "wave"));
    let first = format!("plan: {clients}{of} a round, in {waves} of at most {}", plan.wave_size);
    let device = format!(
        "plan: {} on the device: {} for a wave ({} a client, {} allowed), {} images, {} global models, {} evaluation",
        mib(plan.total()),
        mib(plan.wave()),
        mib(plan.client_bytes),
        mib(plan.budget),
        mib(plan.images),
        mib(plan.models),
        mib(plan.evaluation),
    );
    let circuits = experiment.circuits.as_ref().map(|_| {
        format!("plan: searches for circuits go in waves of their own, which take {} more at most", mib(plan.budget))
    });
    let own = host.data + host.clients + host.program.unwrap_or(0);
    let program = host.program.map(|bytes| format!(", {} program and driver", mib(bytes))).unwrap_or_default();
    let host = format!(
        "plan: {} beside it in the program: {} data set, {} partition{program}",
        mib(own),
        mib(host.data),
        mib(host.clients)
    );
    [Some(first), Some(device), circuits, Some(host)].into_iter().flatten().collect()
}

fn counted(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}
