//! What a run will take, told before it begins.

use crate::config::Experiment;
use crate::data::{Dataset, Population};
use crate::device::Device;
use crate::error::mib;
use crate::federation::RoundPlan;
use crate::model::{Layer, Network};

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

/// What a driver takes to compile a round's shaders, in bytes: of Mesa's lavapipe, measured.
const COMPILER: u64 = 33 << 20;

/// What drawing a run's pictures takes, in bytes, measured.
const PICTURES: u64 = 48 << 20;

/// What the host's own memory is for, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostMemory {
    /// Code, libraries and driver: what was resident before any data was read.
    pub program: Option<u64>,
    /// The data set.
    pub data: u64,
    /// Who has which examples.
    pub clients: u64,
    /// Local models that are read back to be saved.
    pub saved: u64,
    /// What the pictures take at the end of the run, beyond what the waves then give back.
    pub pictures: u64,
}

impl HostMemory {
    /// With what was resident before `dataset` was read, and no shader compiled yet, of runs of `experiment` and what is alike.
    pub fn new<'a>(
        program: Option<u64>,
        device: &dyn Device,
        (experiment, plan): (&Experiment, &RoundPlan),
        dataset: &Dataset,
        populations: impl Iterator<Item = &'a Population>,
    ) -> Self {
        let splits = [&dataset.train, &dataset.test];
        let data = splits.iter().map(|s| (s.pixels.len() + s.labels.len()) as u64).sum();
        let compiler = if device.info().kind == "cpu" { 0 } else { COMPILER };
        let program = program.map(|program| program + compiler);
        let clients = populations.map(Population::bytes).sum();
        let saved = if experiment.output.save_clients { plan.kept } else { 0 };
        Self { program, data, clients, saved, pictures: PICTURES.saturating_sub(plan.total()) }
    }

    /// All of it but the program.
    pub fn own(&self) -> u64 {
        self.data + self.clients + self.saved + self.pictures
    }
}

/// The plan of experiments side by side in words, line by line.
pub(super) fn told(experiments: &[&Experiment], plan: &RoundPlan, host: &HostMemory) -> Vec<String> {
    let population = experiments.iter().map(|e| e.partition.num_clients() * e.seeds.all().len()).sum();
    let drawn = plan.clients;
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
    let kept = match plan.kept {
        0 => String::new(),
        bytes => format!(", {} local models that are saved or analysed", mib(bytes)),
    };
    let circuits = experiments.iter().find_map(|experiment| experiment.circuits.as_ref()).map(|_| {
        format!("plan: searches for circuits go in waves of their own, which take {} more at most", mib(plan.budget))
    });
    let own = host.own() + host.program.unwrap_or(0);
    let saved = if host.saved > 0 { format!(", {} local models read back", mib(host.saved)) } else { String::new() };
    let program = host.program.map(|bytes| format!(", {} program and driver", mib(bytes))).unwrap_or_default();
    let host = format!(
        "plan: {} beside it in the program: {} data set, {} partition{saved}, {} pictures{program}",
        mib(own),
        mib(host.data),
        mib(host.clients),
        mib(host.pictures)
    );
    [Some(first), Some(device + &kept), circuits, Some(host)].into_iter().flatten().collect()
}

/// What to tell of layers that keep more than the sparsity asked for, since every filter of them keeps some weights.
pub(super) fn floor(experiment: &Experiment, network: &Network) -> Option<String> {
    let sparsity = &experiment.sparsity;
    let kept = |layer: &Layer| {
        let zeros = 1.0 - layer.floor(sparsity.min_alive);
        (zeros < sparsity.target).then(|| format!("{:.1}% of {}'s", 100.0 * zeros, layer.name))
    };
    let kept: Vec<String> = network.layers.iter().filter_map(kept).collect();
    (!kept.is_empty()).then(|| {
        let (alive, target) = (sparsity.min_alive, 100.0 * sparsity.target);
        let layers = kept.join(", ");
        format!("note: sparsity.min_alive = {alive} lets {layers} weights be zero at most, where sparsity.target is {target}%")
    })
}

fn counted(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Override, load};

    #[test]
    fn the_plan_says_who_takes_part_and_where_the_memory_goes() {
        let text = "name = \"a\"\ndata = { source = \"digits\" }\npartition = { kind = \"iid\", num_clients = 90 }\n";
        let experiment = |sets: &[&str]| {
            let sets: Vec<_> = sets.iter().map(|set| Override::parse(set).unwrap()).collect();
            load(text, "a.toml", &sets).unwrap().variants.remove(0).experiment
        };
        let plan = RoundPlan {
            clients: 20,
            waves: 7,
            wave_size: 3,
            client_bytes: 3 << 19,
            budget: 5 << 20,
            images: 7 << 20,
            models: 1 << 19,
            evaluation: 1 << 18,
            kept: 0,
        };
        let host =
            HostMemory { program: Some(20 << 20), data: 7 << 20, clients: 1 << 18, saved: 0, pictures: 48 << 20 };
        let lines = told(&[&experiment(&["cohort.clients_per_round=10"]); 2], &plan, &host);
        assert_eq!(
            lines,
            [
                "plan: 20 clients of 180 a round, in 7 waves of at most 3",
                "plan: 12.2 MiB on the device: 4.5 MiB for a wave (1.5 MiB a client, 5.0 MiB allowed), 7.0 MiB images, \
                 0.5 MiB global models, 0.2 MiB evaluation",
                "plan: 75.2 MiB beside it in the program: 7.0 MiB data set, 0.2 MiB partition, 48.0 MiB pictures, \
                 20.0 MiB program and driver",
            ]
        );
        let (saving, host) = (RoundPlan { kept: 3 << 20, ..plan }, HostMemory { saved: 3 << 20, ..host });
        let lines = told(&[&experiment(&[])], &saving, &host);
        assert!(lines[1].starts_with("plan: 15.2 MiB on the device: ") && lines[1].contains(", 3.0 MiB local models"));
        assert!(
            lines[2].starts_with("plan: 78.2 MiB beside") && lines[2].contains(", 3.0 MiB local models read back, ")
        );
        let alone = RoundPlan { clients: 90, waves: 1, ..plan };
        let lines = told(&[&experiment(&["circuits={}"])], &alone, &HostMemory { program: None, ..host });
        assert_eq!(lines[0], "plan: 90 clients a round, in 1 wave of at most 3");
        assert!(lines[2].ends_with("which take 5.0 MiB more at most") && lines[3].ends_with("48.0 MiB pictures"));
    }

    #[test]
    fn a_floor_that_keeps_layers_from_the_sparsity_asked_for_is_told() {
        let text = "name = \"a\"\ndata = { source = \"digits\" }\npartition = { kind = \"iid\", num_clients = 2 }\n";
        let told = |sets: &[&str]| {
            let sets: Vec<_> = sets.iter().map(|set| Override::parse(set).unwrap()).collect();
            let experiment = load(text, "a.toml", &sets).unwrap().variants.remove(0).experiment;
            let dataset = crate::data::digits::generate(2, 1);
            floor(&experiment, &crate::experiment::inputs::network(&experiment, &dataset).unwrap())
        };
        // Of 9, 288 and 576 weights a filter keeps four.
        let want = "note: sparsity.min_alive = 4 lets 55.6% of conv1's, 98.6% of conv2's, 99.3% of conv3's weights be zero \
                    at most, where sparsity.target is 99.5%";
        assert_eq!(told(&["sparsity.target=0.995"]).unwrap(), want);
        assert_eq!(told(&[]), None);
        assert_eq!(told(&["sparsity.target=0.995", "sparsity.min_alive=0"]), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_in_use_is_seen() {
        // Not seen through by the compiler, which else takes none.
        let held = std::hint::black_box(vec![1u8; 64 << 20]);
        let now = resident_memory().unwrap();
        assert!(now >= held.len() as u64 && peak_memory().unwrap() >= now, "{now}");
    }
}
