//! How much circuits share, as the tables of a run's folder tell it.

use std::collections::BTreeMap;
use std::path::Path;

use super::rows::{Row, each_row};
use super::run::mean;
use crate::Result;
use crate::report::{Comparison, Level};

/// Overlaps of channels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overlaps {
    /// Means over pairs.
    pub means: BTreeMap<MeanKey, Mean>,
    /// Of each client's local circuits with the global ones, by client, class and layer, then round.
    pub pairs: BTreeMap<(usize, u32, String), BTreeMap<usize, Mean>>,
    /// Of each client's local circuits with the global ones of its other classes, all layers together, by client and class,
    /// then round: the mean over the other classes.
    pub mismatched: BTreeMap<(usize, u32), BTreeMap<usize, Mean>>,
}

/// Which mean overlap: round, comparison by name, layer, and class, `None` for all of them.
pub type MeanKey = (usize, String, String, Option<u32>);

/// A mean overlap, and what chance would give; not numbers where undefined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// Shared over united.
    pub iou: f64,
    /// Of random circuits as large.
    pub chance: f64,
    /// How many pairs it is over.
    pub pairs: u64,
}

/// A mean of nothing yet.
impl Default for Mean {
    fn default() -> Self {
        Self { iou: f64::NAN, chance: f64::NAN, pairs: 0 }
    }
}

impl Mean {
    /// Takes another pair in, unless it is undefined.
    fn add(&mut self, iou: f64, chance: f64) {
        if iou.is_finite() && chance.is_finite() {
            let mean = |mean: f64, value: f64| {
                if self.pairs == 0 { value } else { mean + (value - mean) / (self.pairs + 1) as f64 }
            };
            (self.iou, self.chance) = (mean(self.iou, iou), mean(self.chance, chance));
            self.pairs += 1;
        }
    }
}

impl Overlaps {
    /// The means as the run wrote them, or of older runs those of the pairs.
    ///
    /// # Errors
    /// Files that cannot be read or are broken, with the line.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut overlaps = Self::default();
        let node = Level::Node.name();
        let written = each_row(&folder.join("overlap_means.csv"), &mut |row| {
            if row.text("level") == node {
                let class = if row.text("class").is_empty() { None } else { Some(row.whole("class")?) };
                let key =
                    (row.whole("round")?, row.text("comparison").to_string(), row.text("layer").to_string(), class);
                let pairs = row.whole("pairs").unwrap_or_default();
                overlaps.means.insert(key, Mean { iou: row.number("iou")?, chance: row.number("chance")?, pairs });
            }
            Ok(())
        })?;
        each_row(&folder.join("overlap.csv"), &mut |row| {
            if row.text("level") == node { overlaps.add(row, !written) } else { Ok(()) }
        })?;
        Ok(overlaps)
    }

    /// In a round, of clients with several classes: how much a local circuit shares with the global one of its class, and with
    /// those of the client's other classes; means over clients of the mean over their classes, not numbers without such clients.
    pub fn same_and_other_class(&self, round: usize) -> (f64, f64) {
        let of = |means: &BTreeMap<usize, Mean>| means.get(&round).map_or(f64::NAN, |mean| mean.iou);
        let mut clients: BTreeMap<usize, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
        for ((client, class), other) in &self.mismatched {
            let same = self.pairs.get(&(*client, *class, "all".to_string()));
            let (of_same, of_other) = clients.entry(*client).or_default();
            of_same.push(same.map_or(f64::NAN, of));
            of_other.push(of(other));
        }
        let each: Vec<(f64, f64)> = clients
            .into_values()
            .map(|(same, other)| (mean(same.into_iter()), mean(other.into_iter())))
            .filter(|(same, other)| same.is_finite() && other.is_finite())
            .collect();
        (mean(each.iter().map(|each| each.0)), mean(each.iter().map(|each| each.1)))
    }

    /// A row of `overlap.csv`.
    fn add(&mut self, row: &Row<'_>, to_means: bool) -> Result<()> {
        let (comparison, layer) = (row.text("comparison"), row.text("layer"));
        let own = comparison == Comparison::LocalGlobal.name();
        let other = comparison == Comparison::Mismatched.name() && layer == "all";
        if !own && !other && !to_means {
            return Ok(());
        }
        let round: usize = row.whole("round")?;
        let (iou, chance) = (row.number("iou")?, row.number("chance")?);
        let pair = || -> Result<(usize, u32)> { Ok((row.whole("client_a")?, row.whole("class_a")?)) };
        if own {
            let (client, class) = pair()?;
            let of_pair = self.pairs.entry((client, class, layer.to_string())).or_default();
            of_pair.insert(round, Mean { iou, chance, pairs: 1 });
        } else if other {
            self.mismatched.entry(pair()?).or_default().entry(round).or_default().add(iou, chance);
        }
        if to_means {
            self.means.entry((round, comparison.to_string(), layer.to_string(), None)).or_default().add(iou, chance);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Overlaps {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Overlaps::read(folder.path()).unwrap()
    }

    #[test]
    fn older_folders_have_their_means_from_the_pairs() {
        let head = "round,comparison,level,layer,client_a,class_a,client_b,class_b,size_a,size_b,iou,chance\n";
        let rows = "1,local_global,node,all,0,3,0,3,1,1,0.5,0.25\n1,local_global,node,all,1,3,1,3,1,1,1,0.75\n\
                    1,local_global,node,all,2,3,2,3,0,0,,\n1,local_global,edge,all,0,3,0,3,1,1,0,0\n\
                    1,mismatched,node,all,0,3,0,4,1,1,0.25,0.5\n1,mismatched,node,all,0,3,0,5,1,1,0,0.25\n\
                    1,mismatched,node,conv1,0,3,0,5,1,1,1,1\n";
        let text = format!("{head}{rows}");
        let overlaps = read(&[("overlap.csv", &text)]);
        let key = (1, "local_global".to_string(), "all".to_string(), None);
        assert_eq!(overlaps.means.get(&key), Some(&Mean { iou: 0.75, chance: 0.5, pairs: 2 }));
        let pair = Mean { iou: 1.0, chance: 0.75, pairs: 1 };
        assert_eq!(overlaps.pairs[&(1, 3, "all".to_string())], BTreeMap::from([(1, pair)]));
        let other = Mean { iou: 0.125, chance: 0.375, pairs: 2 };
        assert_eq!(overlaps.mismatched, BTreeMap::from([((0, 3), BTreeMap::from([(1, other)]))]));
        let means =
            "round,comparison,level,layer,class,pairs,undefined,iou,chance\n1,local_global,node,all,,9,0,0.125,\n";
        let overlaps = read(&[("overlap.csv", &text), ("overlap_means.csv", means)]);
        assert_eq!((overlaps.means.len(), overlaps.means[&key].iou, overlaps.means[&key].pairs), (1, 0.125, 9));
        assert_eq!((overlaps.pairs.len(), overlaps.mismatched.len()), (3, 1));
    }
}
