//! The folder of several seeds: a run folder for each, and beside them what they say together.

#[cfg(test)]
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use super::append::{Appender, Mark};
use super::begin::{Begin, EXPERIMENT, check_marks, sync_folder};
use super::estimate::{CONFIDENCE, Estimate};
use super::figures::{Figure, RoundFigures};
use super::folder::{json, put, unwritable};
use super::history::figures_by_name;
use super::records::{RoundRecord, Seconds};
use super::rows;
use super::summary::{ENVIRONMENT, Environment, total_seconds};
use crate::Result;

/// The folder while the run goes on.
pub struct SeedsFolder {
    path: PathBuf,
    metrics: Appender,
    figures: Appender,
    /// Whether files of an ended run may be there.
    over: bool,
    /// Whether there are new files since the last sync.
    named: bool,
}

/// The tables that grow, in the order of the marks.
const GROWING: [&str; 2] = ["metrics.csv", "figures.csv"];

/// The folder of one seed among several, inside that of all.
pub fn seed_folder(path: &Path, seed: u64) -> PathBuf {
    path.join(format!("seed_{seed}"))
}

impl SeedsFolder {
    /// Makes the folder, with those above it, `experiment.toml` with all seeds, and the files that grow by round; or finds
    /// them as an ended run left them.
    pub fn create(path: &Path, experiment: &str, begin: Begin<'_>) -> Result<Self> {
        begin.claim(path)?;
        begin.first(&path.join(EXPERIMENT), experiment.as_bytes())?;
        let start = |i: usize, head: &str| {
            let path = path.join(GROWING[i]);
            begin.appender(i, begin.open(&path)?, &path, head, "")
        };
        let metrics = start(0, &rows::seeds_metrics_header())?;
        Ok(Self { path: path.into(), metrics, figures: start(1, rows::FIGURES)?, over: begin.over(), named: true })
    }

    /// Refuses a folder whose growing files are not as these marks of an earlier [`SeedsFolder::marks`] say.
    pub fn check(path: &Path, marks: &[Mark]) -> Result<()> {
        check_marks(path, &GROWING, marks)
    }

    /// What each growing file holds, as [`Begin::At`] takes it.
    pub fn marks(&self) -> Vec<Mark> {
        vec![self.metrics.mark(), self.figures.mark()]
    }

    /// Waits until everything written so far would survive a failure of power.
    pub fn sync(&mut self) -> Result<()> {
        self.metrics.sync()?;
        self.figures.sync()?;
        if std::mem::take(&mut self.named) { sync_folder(&self.path) } else { Ok(()) }
    }

    /// `environment.json`.
    pub fn write_environment(&self, environment: &Environment) -> Result<()> {
        self.put(ENVIRONMENT, &json(environment)?)
    }

    /// `summary.json`.
    pub fn write_summary(&self, summary: &SeedsSummary<'_>) -> Result<()> {
        self.put("summary.json", &json(summary)?)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        put(&self.path.join(name), bytes, self.over)
    }

    /// One round's rows in both tables. If one of them cannot be written, neither has the round.
    pub fn write_round(&mut self, round: &RoundFigures) -> Result<()> {
        let before = self.figures.point();
        let metrics = rows::seeds_metrics(round).map_err(unwritable(Path::new("metrics.csv")))?;
        self.figures.append(&rows::figures(round).map_err(unwritable(Path::new("figures.csv")))?)?;
        self.metrics.append(&metrics).inspect_err(|_| self.figures.rewind(before))
    }
}

/// `summary.json` of several seeds.
#[derive(Clone, Debug, Serialize)]
pub struct SeedsSummary<'a> {
    /// The experiment's.
    pub name: &'a str,
    /// The experiment's.
    pub seeds: &'a [u64],
    /// Rounds done.
    pub rounds: usize,
    /// Of the intervals.
    pub confidence: f64,
    /// Over all rounds, of all seeds side by side.
    pub seconds: Seconds,
    /// Over all rounds.
    pub readbacks: u64,
    /// Over all rounds.
    pub bytes_read_back: u64,
    /// Every figure of the last round.
    #[serde(serialize_with = "by_name")]
    pub figures: &'a [(Figure, Estimate)],
}

impl<'a> SeedsSummary<'a> {
    /// Sums up; `records` are one seed's, whose times are those of all.
    pub fn new(name: &'a str, seeds: &'a [u64], records: &[RoundRecord], rounds: &'a [RoundFigures]) -> Self {
        Self {
            name,
            seeds,
            rounds: rounds.len(),
            confidence: CONFIDENCE,
            seconds: total_seconds(records),
            readbacks: records.iter().map(|record| record.readbacks).sum(),
            bytes_read_back: records.iter().map(|record| record.bytes_read_back).sum(),
            figures: rounds.last().map(|round| &round.figures[..]).unwrap_or_default(),
        }
    }
}

fn by_name<S: Serializer>(figures: &&[(Figure, Estimate)], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    figures_by_name(figures, serializer)
}

#[cfg(test)]
mod tests {
    use super::super::records::GlobalRecord;
    use super::*;

    fn round(number: usize) -> RoundFigures {
        let seed = |loss: f64| vec![(Figure::Loss, loss), (Figure::Accuracy, 0.5)];
        RoundFigures::new(number, 1.5, &[seed(1.0), seed(2.0), seed(f64::NAN)])
    }

    #[test]
    fn tables_grow_by_round_and_the_summary_has_the_last() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("runs/a-1");
        let mut folder = SeedsFolder::create(&path, "", Begin::New).unwrap();
        folder.write_round(&round(1)).unwrap();
        folder.write_round(&round(2)).unwrap();
        let summary = SeedsSummary::new("a", &[1, 2, 9], &[], &[]);
        assert!(summary.figures.is_empty());
        let rounds = [round(1), round(2)];
        folder.write_summary(&SeedsSummary::new("a", &[1, 2, 9], &[], &rounds)).unwrap();
        let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
        let figures = read("figures.csv");
        let lines: Vec<&str> = figures.lines().collect();
        assert_eq!((lines[0], lines.len()), ("round,figure,mean,std,low,high,n,undefined", 5));
        assert!(lines[1].starts_with("1,loss,1.5,0.7071067811865476,-4.85") && lines[1].ends_with(",2,1"), "{figures}");
        assert_eq!(lines[4], "2,accuracy,0.5,0,0.5,0.5,3,0");
        let metrics = read("metrics.csv");
        let lines: Vec<Vec<&str>> = metrics.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(lines[0][..6], ["round", "loss_mean", "loss_std", "loss_low", "loss_high", "loss_n"]);
        assert_eq!((lines[1].len(), lines[1][5], lines[1].last()), (lines[0].len(), "2", Some(&"1.5")));
        // A figure that no seed has.
        assert_eq!(lines[1][11..16], ["", "", "", "", "0"]);
        let summary: serde_json::Value = serde_json::from_str(&read("summary.json")).unwrap();
        assert_eq!((&summary["seeds"], &summary["rounds"]), (&serde_json::json!([1, 2, 9]), &2.into()));
        assert_eq!((&summary["confidence"], &summary["figures"]["loss"]["undefined"]), (&0.95.into(), &1.into()));
        assert_eq!(seed_folder(&path, 9), path.join("seed_9"));
        SeedsFolder::create(&path, "", Begin::New).err().unwrap();
    }

    #[test]
    fn the_summary_has_the_figures_of_the_last_round_and_the_time_and_reads_of_all() {
        let figures = |number, accuracy| RoundFigures::new(number, 1.5, &[vec![(Figure::Accuracy, accuracy)]]);
        let rounds = [figures(1, 0.25), figures(2, 0.75)];
        let record = |number, total| RoundRecord {
            round: number,
            seconds: Seconds { total, ..Seconds::default() },
            global: GlobalRecord::default(),
            clients: vec![],
            dropped: vec![],
            sparsity: vec![],
            readbacks: number as u64,
            bytes_read_back: 64 * number as u64,
        };
        let records = [record(1, 1.5), record(2, 2.0)];
        let summary = SeedsSummary::new("a", &[1], &records, &rounds);
        let [(Figure::Accuracy, accuracy)] = summary.figures else { panic!("{:?}", summary.figures) };
        assert_eq!((accuracy.mean, summary.seconds.total), (0.75, 3.5));
        assert_eq!((summary.readbacks, summary.bytes_read_back), (3, 192));
    }
}
