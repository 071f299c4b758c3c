//! A run as its folder tells of it: of one seed, or of several.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::seed::{Circuit, Global, Seed};
use super::swept;
use super::weights::Weights;
use crate::config::names_seed;
use crate::report::begin::EXPERIMENT;
use crate::report::html::drawing::chart::{Line, Point, Style};
use crate::report::html::drawing::scene::Paint;
use crate::report::summary::ENVIRONMENT;
use crate::report::{Comparison, Estimate};
use crate::{Error, Result};

/// Bytes of a file that is shown as it stands, at most; a run writes a few thousand. Parsed, a text takes a hundred times as
/// much.
const TEXT: u64 = 128 << 10;

/// A run.
pub struct Run {
    /// What reports call it.
    pub label: String,
    /// Its folder.
    pub folder: PathBuf,
    /// At least one, in the configuration's order.
    pub seeds: Vec<Seed>,
    /// Of the first seed's last circuits.
    pub weights: Weights,
    /// `experiment.toml` as it stands; empty if there is none.
    pub experiment: String,
    /// The same, as far as it is TOML.
    pub config: toml::Table,
    /// `environment.json` as it stands; empty if there is none.
    pub environment: String,
    /// The data set that was read: another than `data.source` where its fallback took its place. Empty if it is not known.
    pub source: String,
    /// What a sweep made of its keys here; empty where there was none.
    pub swept: Vec<(String, String)>,
}

/// The runs that a folder holds: itself, or those in its folders.
pub fn read_runs(folder: &Path) -> Result<Vec<Run>> {
    if let Some(run) = Run::find(folder)? {
        return Ok(vec![run]);
    }
    let mut runs = Vec::new();
    let swept = swept::read(folder)?;
    for variant in subfolders(folder)? {
        let name = folder_name(&variant);
        let place = swept.iter().position(|(swept, _)| *swept == name);
        let values = place.map(|place| swept[place].1.clone()).unwrap_or_default();
        let run = Run::find(&variant)?.map(|run| Run { swept: values, ..run });
        runs.extend(run.map(|run| (place.unwrap_or(swept.len()), run)));
    }
    // A sweep's in its order.
    runs.sort_by_key(|(place, _)| *place);
    let runs: Vec<Run> = runs.into_iter().map(|(_, run)| run).collect();
    if runs.is_empty() {
        let help = "accepted: the folder of a run, of several seeds, or one that holds such folders";
        return Err(Error::config(folder.display().to_string(), "has no rounds.jsonl, so it is no run's folder", help));
    }
    Ok(runs)
}

fn is_run(folder: &Path) -> bool {
    folder.join("rounds.jsonl").exists()
}

/// The folders in a folder, sorted by name.
fn subfolders(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    // Seed 9 before seed 10.
    found.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    Ok(found)
}

impl Run {
    /// The run of a folder, or of the seeds in it; `None` if it is neither.
    fn find(folder: &Path) -> Result<Option<Self>> {
        if is_run(folder) {
            return Self::read(folder, vec![folder.into()]).map(Some);
        }
        let named = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(names_seed);
        let seeds: Vec<PathBuf> = subfolders(folder)?.into_iter().filter(|path| named(path) && is_run(path)).collect();
        if seeds.is_empty() { Ok(None) } else { Self::read(folder, seeds).map(Some) }
    }

    fn read(folder: &Path, mut seeds: Vec<PathBuf>) -> Result<Self> {
        let text = |name: &str| {
            let mut bytes = Vec::new();
            let read = File::open(folder.join(name)).and_then(|file| file.take(TEXT).read_to_end(&mut bytes));
            read.map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
        };
        let experiment = text(EXPERIMENT);
        let config: toml::Table = experiment.parse().unwrap_or_default();
        let named = config.get("name").and_then(|name| name.as_str()).map(str::to_string);
        let label = named.unwrap_or_else(|| folder_name(folder));
        let order = order(&config);
        // What the configuration does not name keeps its place behind what it names.
        let place = |seed: &PathBuf| order.iter().position(|named| seed.ends_with(named));
        seeds.sort_by_key(|seed| place(seed).unwrap_or(order.len()));
        let read = seeds.iter().map(|seed| Seed::read(seed)).collect::<Result<Vec<_>>>()?;
        let mut weights = Weights::default();
        if let (Some(folder), Some(Some(last))) = (seeds.first(), read.first().map(|seed| &seed.last)) {
            weights = Weights::read(folder, last)?;
        }
        let environment = text(ENVIRONMENT);
        let source = source(&environment).unwrap_or_else(|| setting(&config, "data.source"));
        Ok(Self {
            label,
            folder: folder.into(),
            seeds: read,
            weights,
            experiment,
            config,
            environment,
            source,
            swept: vec![],
        })
    }

    /// A key of its configuration, such as `training.lr`, as it is written; empty if it is not there.
    pub fn setting(&self, path: &str) -> String {
        setting(&self.config, path)
    }

    /// What a caption says of a picture of one seed, where there are several.
    pub fn of_seed(&self, seed: &Seed) -> String {
        if self.seeds.len() > 1 { format!(" Of seed {}.", seed.number) } else { String::new() }
    }

    /// Whether MNIST was asked for and not found.
    pub fn fell_back(&self) -> bool {
        let asked = self.setting("data.source");
        !asked.is_empty() && self.source != asked
    }

    /// The last round of all seeds; 0 without any.
    pub fn last_round(&self) -> usize {
        self.seeds.iter().filter_map(|seed| Some(seed.rounds.last()?.round)).max().unwrap_or(0)
    }

    /// The last round in which any seed has circuits; 0 without any.
    pub fn last_studied(&self) -> usize {
        self.seeds.iter().flat_map(|seed| &seed.circuits).map(|circuit| circuit.round).max().unwrap_or(0)
    }

    /// A seed's circuits of that round: none where others were studied later.
    pub fn last_circuits<'a>(&self, seed: &'a Seed) -> impl Iterator<Item = &'a Circuit> + use<'a> {
        let last = self.last_studied();
        seed.circuits.iter().filter(move |circuit| circuit.round == last)
    }

    /// The rounds that it is to have, where they are not all done.
    pub fn planned(&self) -> Option<usize> {
        self.setting("rounds").parse().ok().filter(|planned| *planned > self.last_round())
    }

    /// A value by round of each seed, as points with their intervals.
    pub fn points(&self, values: impl Fn(&Seed) -> BTreeMap<usize, f64>) -> Vec<Point> {
        let each: Vec<BTreeMap<usize, f64>> = self.seeds.iter().map(values).collect();
        let mut rounds: Vec<usize> = each.iter().flat_map(|by_round| by_round.keys().copied()).collect();
        rounds.sort_unstable();
        rounds.dedup();
        let point = |round: usize| {
            let values: Vec<f64> = each.iter().map(|by| by.get(&round).copied().unwrap_or(f64::NAN)).collect();
            point(round as f64, Estimate::new(&values))
        };
        rounds.into_iter().map(point).collect()
    }

    /// A line of such points.
    pub fn line(
        &self,
        label: impl Into<String>,
        paint: Paint,
        style: Style,
        values: impl Fn(&Seed) -> BTreeMap<usize, f64>,
    ) -> Line {
        Line { label: label.into(), points: self.points(values), paint, style }
    }

    /// A value of each seed's last round, or whatever `value` looks at.
    pub fn estimate(&self, value: impl Fn(&Seed) -> f64) -> Estimate {
        Estimate::new(&self.seeds.iter().map(value).collect::<Vec<_>>())
    }

    /// A value by round of each seed, in the last round in which any has it: undefined for the others.
    pub fn last_of(&self, values: impl Fn(&Seed) -> BTreeMap<usize, f64>) -> Estimate {
        let each: Vec<BTreeMap<usize, f64>> = self.seeds.iter().map(values).collect();
        let last = each.iter().filter_map(|by_round| by_round.keys().next_back()).max();
        let of = |by_round: &BTreeMap<usize, f64>| last.and_then(|last| by_round.get(last)).copied();
        Estimate::new(&each.iter().map(|by_round| of(by_round).unwrap_or(f64::NAN)).collect::<Vec<_>>())
    }

    /// The last round in which any seed has a value.
    pub fn round_of(&self, values: impl Fn(&Seed) -> BTreeMap<usize, f64>) -> Option<usize> {
        self.seeds.iter().filter_map(|seed| values(seed).into_keys().next_back()).max()
    }

    /// An accuracy of the global model in the last round.
    pub fn accuracy(&self, pick: fn(&Global) -> Option<f64>) -> Estimate {
        self.estimate(|seed| seed.rounds.last().and_then(|round| pick(&round.global)).unwrap_or(f64::NAN))
    }

    /// The mean overlap of all layers in the last round that has it, or what chance gives.
    pub fn overlap(&self, comparison: Comparison, chance: bool) -> Estimate {
        self.last_of(|seed| overlap_means(seed, comparison, "all", chance))
    }

    /// The round of the overlap of local circuits with the global ones of the same class.
    fn overlap_round(&self) -> Option<usize> {
        self.round_of(|seed| overlap_means(seed, Comparison::LocalGlobal, "all", false))
    }

    /// The mean overlap of local circuits with the global ones of other classes of their clients, in the round of the overlap of
    /// the same class, so that the two can be held against each other.
    pub fn mismatched(&self) -> Estimate {
        let last = self.overlap_round();
        let by_round = |seed: &Seed| overlap_means(seed, Comparison::Mismatched, "all", false);
        self.estimate(|seed| last.and_then(|last| by_round(seed).get(&last).copied()).unwrap_or(f64::NAN))
    }

    /// The same two of clients with several classes alone, each a mean over clients of the mean over their classes, and over
    /// seeds: others have nothing to hold the first against. `None` without such clients.
    pub fn same_and_other_class(&self) -> Option<(f64, f64)> {
        let last = self.overlap_round()?;
        let each: Vec<(f64, f64)> = self.seeds.iter().map(|seed| seed.overlaps.same_and_other_class(last)).collect();
        let (same, other) = (mean(each.iter().map(|each| each.0)), mean(each.iter().map(|each| each.1)));
        (same.is_finite() && other.is_finite()).then_some((same, other))
    }

    /// The mean of a measure over a model's circuits, in the last round that has it.
    pub fn of_circuits(&self, global: bool, value: impl Fn(&Circuit) -> f64) -> Estimate {
        self.last_of(|seed| finite(circuit_means(seed, global, &value)))
    }

    /// How much two searches in the same global weights share, in the last round that has it, and which round that is where
    /// another overlaps by then.
    pub fn ceiling(&self) -> (Estimate, Option<usize>) {
        let ceiling = |seed: &Seed| finite(circuit_means(seed, true, |circuit| circuit.measure("ceiling")));
        let overlap = self.overlap_round();
        (self.last_of(ceiling), self.round_of(ceiling).filter(|round| overlap != Some(*round)))
    }

    /// Layers with circuits, in the order of the files.
    pub fn layers(&self) -> Vec<String> {
        let sides = self.seeds.iter().filter_map(|seed| seed.last.as_ref());
        let circuit =
            sides.flat_map(|last| last.local.iter().chain(&last.global)).find_map(|(_, classes)| classes.first());
        let of_pictures = circuit.map(|(_, circuit)| circuit.channels.iter().map(|(layer, _)| layer.clone()).collect());
        let of_table = || {
            let circuit = self.seeds.iter().flat_map(|seed| &seed.circuits).next();
            circuit.map(|circuit| circuit.sizes().map(|(layer, _)| layer.to_string()).collect::<Vec<_>>())
        };
        of_pictures.or_else(of_table).unwrap_or_default()
    }
}

/// The folders of the configuration's seeds, in its order.
fn order(config: &toml::Table) -> Vec<String> {
    let seeds = config.get("seeds").and_then(|seeds| seeds.as_array());
    seeds.into_iter().flatten().map(|seed| format!("seed_{seed}")).collect()
}

/// A key of a configuration as it is written; empty if it is not there.
fn setting(config: &toml::Table, path: &str) -> String {
    let mut keys = path.split('.');
    let first = keys.next().and_then(|key| config.get(key));
    let value = keys.try_fold(first, |value, key| value.map(|value| value.get(key)));
    match value.flatten() {
        None => String::new(),
        Some(toml::Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

/// The data set that `environment.json` names.
fn source(environment: &str) -> Option<String> {
    let environment: serde_json::Value = serde_json::from_str(environment).ok()?;
    environment.pointer("/data/source")?.as_str().map(String::from)
}

/// What runs are together that are alike in all that is looked at: one has its own estimate, several have that of their means.
pub fn together(runs: &[&Run], value: impl Fn(&Run) -> Estimate) -> Estimate {
    match runs {
        [run] => value(run),
        runs => Estimate::new(&runs.iter().map(|run| value(run).mean).collect::<Vec<_>>()),
    }
}

/// A point with its interval.
pub fn point(x: f64, estimate: Estimate) -> Point {
    Point { x, mean: estimate.mean, low: estimate.low, high: estimate.high }
}

/// A folder's own name, also of `.`.
pub fn folder_name(folder: &Path) -> String {
    let full = folder.canonicalize().unwrap_or_else(|_| folder.into());
    full.file_name().map_or_else(|| full.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Mean over the finite values; not a number without any.
pub fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.filter(|v| v.is_finite()).fold((0.0, 0.0), |(sum, n), v| (sum + v, n + 1.0));
    sum / n
}

/// By round, the mean over the circuits of a model of what `value` says of each.
pub fn circuit_means(seed: &Seed, global: bool, value: impl Fn(&Circuit) -> f64) -> BTreeMap<usize, f64> {
    let mut by_round: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for circuit in seed.circuits.iter().filter(|circuit| circuit.global == global) {
        by_round.entry(circuit.round).or_default().push(value(circuit));
    }
    by_round.into_iter().map(|(round, values)| (round, mean(values.into_iter()))).collect()
}

/// By round, a mean overlap of channels, or what chance gives.
pub fn overlap_means(seed: &Seed, comparison: Comparison, layer: &str, chance: bool) -> BTreeMap<usize, f64> {
    let wanted = |(_, name, of, class): &(usize, String, String, Option<u32>)| {
        name == comparison.name() && of == layer && class.is_none()
    };
    let found = seed.overlaps.means.iter().filter(|(key, _)| wanted(key));
    found.map(|(key, mean)| (key.0, if chance { mean.chance } else { mean.iou })).collect()
}

/// Without the rounds in which a value is undefined.
fn finite(values: BTreeMap<usize, f64>) -> BTreeMap<usize, f64> {
    values.into_iter().filter(|(_, value)| value.is_finite()).collect()
}
