//! The files of a run folder that grow by a round at a time. A round is in all of them or in none.

use std::path::Path;

use rayon::prelude::*;

use super::append::{Appender, Mark, Store};
use super::begin::{Begin, check_marks};
use super::folder::unwritable;
use super::records::{CircuitRecord, ControlRecord, LackingPair, OverlapMean, OverlapRecord, RoundRecord};
use super::{circuits_json, rows};
use crate::Result;

/// What one round adds to the files.
#[derive(Clone, Copy)]
pub struct RoundRows<'a> {
    /// The line of `rounds.jsonl` and of `metrics.csv`.
    pub round: &'a RoundRecord,
    /// For `circuits.json`, `circuits.csv` and `curve.csv`.
    pub circuits: &'a [CircuitRecord],
    /// For `circuits.json`.
    pub lacking: &'a [LackingPair],
    /// For `controls.csv`.
    pub controls: &'a [ControlRecord],
    /// For `overlap.csv`.
    pub overlaps: &'a [OverlapRecord],
    /// For `overlap_means.csv`.
    pub means: &'a [OverlapMean],
}

impl<'a> RoundRows<'a> {
    /// A round in which no circuits were looked for.
    pub fn of(round: &'a RoundRecord) -> Self {
        Self { round, circuits: &[], lacking: &[], controls: &[], overlaps: &[], means: &[] }
    }
}

/// Makes the store behind one growing file.
pub(super) type Open<'a> = &'a mut dyn FnMut(&Path) -> Result<Box<dyn Store>>;

/// The files that grow by a round at a time.
pub(super) struct Growing {
    metrics: Appender,
    rounds: Appender,
    circuits: Option<CircuitFiles>,
}

struct CircuitFiles {
    layers: Vec<String>,
    json: Appender,
    csv: Appender,
    curve: Appender,
    controls: Appender,
    overlap: Appender,
    means: Appender,
    /// Whether the JSON object has a member yet, after which the next needs a comma.
    any: bool,
}

/// Files that have a round's circuits, in the order of the marks.
const OF_CIRCUITS: [&str; 6] =
    ["circuits.json", "circuits.csv", "curve.csv", "controls.csv", "overlap.csv", "overlap_means.csv"];
/// The others, which follow.
const OF_ROUNDS: [&str; 2] = ["metrics.csv", "rounds.jsonl"];

/// What an object begins with.
const BRACE: &str = "{";

impl Growing {
    pub fn start(folder: &Path, gated_layers: &[String], begin: Begin<'_>, open: Open) -> Result<Self> {
        let mut next = 0;
        let mut start = |name: &str, head: &str, tail: &'static str| {
            let path = folder.join(name);
            next += 1;
            begin.appender(next - 1, open(&path)?, &path, head, tail)
        };
        let [json, csv, curve, controls, overlap, means] = OF_CIRCUITS;
        let [metrics, rounds] = OF_ROUNDS;
        let circuits = if gated_layers.is_empty() {
            None
        } else {
            let json = start(json, BRACE, "\n}\n")?;
            Some(CircuitFiles {
                layers: gated_layers.to_vec(),
                any: json.mark().length > BRACE.len() as u64,
                json,
                csv: start(csv, &rows::circuits_header(gated_layers), "")?,
                curve: start(curve, rows::CURVE, "")?,
                controls: start(controls, &rows::controls_header(gated_layers), "")?,
                overlap: start(overlap, rows::OVERLAP, "")?,
                means: start(means, rows::MEANS, "")?,
            })
        };
        Ok(Self { metrics: start(metrics, rows::METRICS, "")?, rounds: start(rounds, "", "")?, circuits })
    }

    /// Refuses files of `folder` that are not as these marks say.
    pub fn check(folder: &Path, gated_layers: &[String], marks: &[Mark]) -> Result<()> {
        let of_circuits = if gated_layers.is_empty() { &[][..] } else { &OF_CIRCUITS };
        check_marks(folder, &[of_circuits, &OF_ROUNDS].concat(), marks)
    }

    /// What each file holds, in the order in which [`Begin::At`] takes it.
    pub fn marks(&mut self) -> Vec<Mark> {
        self.appenders().map(|appender| appender.mark()).collect()
    }

    /// Waits until all rounds would survive a failure of power.
    pub fn sync(&mut self) -> Result<()> {
        // Side by side, since a disk takes as long for one file as for all of them.
        self.appenders().collect::<Vec<_>>().into_par_iter().try_for_each(Appender::sync)
    }

    pub fn write_round(&mut self, rows: &RoundRows<'_>) -> Result<()> {
        let before: Vec<_> = self.appenders().map(|appender| appender.point()).collect();
        let written = self.try_write_round(rows);
        if written.is_err() {
            for (appender, point) in self.appenders().zip(before) {
                appender.rewind(point);
            }
        } else if let Some(files) = &mut self.circuits {
            files.any |= !rows.circuits.is_empty();
        }
        written
    }

    /// The line of `rounds.jsonl` comes last: a round that is there is in all the other files too, even if the program
    /// is killed between them.
    fn try_write_round(&mut self, rows: &RoundRows<'_>) -> Result<()> {
        if let Some(files) = self.circuits.as_mut().filter(|_| !rows.circuits.is_empty()) {
            files.append(rows)?;
        }
        self.metrics.append(&rows::metrics(rows.round).map_err(unwritable(Path::new("metrics.csv")))?)?;
        let line = serde_json::to_string(rows.round).map_err(unwritable(Path::new("rounds.jsonl")))?;
        self.rounds.append(format!("{line}\n").as_bytes())
    }

    fn appenders(&mut self) -> impl Iterator<Item = &mut Appender> {
        let circuits = self.circuits.iter_mut().flat_map(CircuitFiles::appenders);
        circuits.chain([&mut self.metrics, &mut self.rounds])
    }
}

impl CircuitFiles {
    fn append(&mut self, rows: &RoundRows<'_>) -> Result<()> {
        let RoundRows { round, circuits, lacking, controls, overlaps, means } = *rows;
        let member = circuits_json::round_member(round.round, circuits, lacking);
        let member = member.map_err(unwritable(Path::new("circuits.json")))?;
        let comma = if self.any { "," } else { "" };
        self.json.append(format!("{comma}\n{member}").as_bytes())?;
        let table = |rows: csv::Result<Vec<u8>>, name: &str| rows.map_err(unwritable(Path::new(name)));
        self.csv.append(&table(rows::circuits(&self.layers, circuits), "circuits.csv")?)?;
        self.curve.append(&table(rows::curves(circuits), "curve.csv")?)?;
        self.controls.append(&table(rows::controls(&self.layers, controls), "controls.csv")?)?;
        self.overlap.append(&table(rows::overlaps(overlaps), "overlap.csv")?)?;
        self.means.append(&table(rows::overlap_means(means), "overlap_means.csv")?)
    }

    fn appenders(&mut self) -> [&mut Appender; 6] {
        let Self { json, csv, curve, controls, overlap, means, .. } = self;
        [json, csv, curve, controls, overlap, means]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::append::tests::{SmallDisk, SmallFile};
    use super::super::records::{GlobalRecord, Seconds, sample_circuit};
    use super::*;

    pub fn round(round: usize) -> RoundRecord {
        RoundRecord {
            round,
            seconds: Seconds::default(),
            global: GlobalRecord::default(),
            clients: vec![],
            dropped: vec![],
            sparsity: vec![],
            readbacks: 1,
            bytes_read_back: 0,
        }
    }

    pub fn circuit(round: usize) -> CircuitRecord {
        CircuitRecord { round, ..sample_circuit() }
    }

    /// Wherever the disk fills up, all files hold the same rounds.
    #[test]
    fn a_full_disk_leaves_the_earlier_rounds_in_every_file() {
        let (mut rounds_seen, start_needs) = ([false; 4], 600);
        for bytes in (start_needs..3500).step_by(7) {
            let disk = SmallDisk::new(bytes);
            let mut files: Vec<SmallFile> = Vec::new();
            let mut growing = Growing::start(Path::new("run"), &["conv1".to_string()], Begin::New, &mut |_| {
                files.push(disk.file());
                Ok(Box::new(files[files.len() - 1].clone()))
            })
            .unwrap();
            let mut write = |n| growing.write_round(&RoundRows { circuits: &[circuit(n)], ..RoundRows::of(&round(n)) });
            let written = (1..=3).take_while(|n| write(*n).is_ok()).count();
            rounds_seen[written] = true;
            let [json, csv, curve, controls, overlap, means, metrics, rounds] = &files[..] else {
                panic!("eight files")
            };
            let members: serde_json::Value = serde_json::from_str(&json.text()).unwrap();
            assert_eq!(members.as_object().unwrap().len(), written, "{bytes} bytes");
            assert_eq!(csv.text().lines().count(), 1 + written);
            assert_eq!([curve, overlap, means].map(SmallFile::text), [rows::CURVE, rows::OVERLAP, rows::MEANS]);
            assert_eq!(controls.text().lines().count(), 1);
            assert_eq!(metrics.text().lines().count(), 1 + written);
            assert!(rounds.text().lines().map(serde_json::from_str::<serde_json::Value>).all(|line| line.is_ok()));
            assert_eq!(rounds.text().lines().count(), written);
        }
        assert_eq!(rounds_seen, [true; 4]);
    }
}
