//! The numbers behind the lines.

use std::collections::BTreeMap;

use super::super::records::{Comparison, Level, OverlapRecord, RoundRecord};

/// Values by round, ascending; `None` where a value is undefined.
pub type Series = Vec<(usize, Option<f64>)>;

/// One layer's mean overlap of local circuits with global ones.
#[derive(Debug, PartialEq)]
pub struct LayerSeries {
    /// The layer's name.
    pub layer: String,
    /// Mean over clients and classes.
    pub iou: Series,
    /// The mean that random circuits of the same sizes would have.
    pub chance: Series,
}

/// A figure of the global model by round.
pub fn accuracy(rounds: &[RoundRecord], figure: impl Fn(&RoundRecord) -> f64) -> Series {
    let by_round: BTreeMap<usize, f64> = rounds.iter().map(|record| (record.round, figure(record))).collect();
    by_round.into_iter().map(|(round, value)| (round, Some(value).filter(|value| value.is_finite()))).collect()
}

/// Channel overlaps of local circuits with global ones: layers in the order they first appear, without `all` of them
/// pooled. Rounds without any comparison are left out, so that circuits found every few rounds make an unbroken line.
pub fn overlap(overlaps: &[OverlapRecord]) -> Vec<LayerSeries> {
    let shown = |record: &&OverlapRecord| {
        record.comparison == Comparison::LocalGlobal && record.level == Level::Node && record.layer != "all"
    };
    let mut layers: Vec<(&str, BTreeMap<usize, [Mean; 2]>)> = Vec::new();
    for record in overlaps.iter().filter(shown) {
        let i = layers.iter().position(|(name, _)| *name == record.layer).unwrap_or_else(|| {
            layers.push((&record.layer, BTreeMap::new()));
            layers.len() - 1
        });
        let [iou, chance] = layers[i].1.entry(record.round).or_default();
        // Only pairs with both, so that a line and its chance are about the same pairs.
        if let (Some(found), Some(expected)) = (finite(record.iou), finite(record.chance)) {
            iou.add(found);
            chance.add(expected);
        }
    }
    let series = |rounds: &BTreeMap<usize, [Mean; 2]>, i: usize| {
        rounds.iter().map(|(round, means)| (*round, means[i].value())).collect::<Series>()
    };
    let layer = |(name, rounds): &(&str, BTreeMap<usize, [Mean; 2]>)| LayerSeries {
        layer: name.to_string(),
        iou: series(rounds, 0),
        chance: series(rounds, 1),
    };
    layers.iter().map(layer).collect()
}

/// Stretches of consecutive defined values.
pub fn stretches(series: &Series) -> Vec<Vec<(usize, f64)>> {
    let defined =
        |part: &[(usize, Option<f64>)]| part.iter().filter_map(|(round, value)| Some((*round, (*value)?))).collect();
    series.split(|(_, value)| value.is_none()).map(defined).filter(|part: &Vec<_>| !part.is_empty()).collect()
}

#[derive(Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn value(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{overlap as record, round};
    use super::*;

    #[test]
    fn means_are_over_defined_pairs_and_other_comparisons_stay_out() {
        let mut records = vec![
            record(4, "conv1", None, None),
            record(2, "conv1", Some(1.0), Some(0.25)),
            record(2, "conv1", Some(0.5), Some(0.5)),
            record(2, "conv1", None, None),
            record(2, "all", Some(0.75), Some(0.5)),
            record(2, "fc", Some(f64::NAN), Some(0.5)),
        ];
        for comparison in Comparison::ALL.into_iter().filter(|comparison| *comparison != Comparison::LocalGlobal) {
            records.push(OverlapRecord { comparison, ..record(2, "conv1", Some(0.0), Some(0.0)) });
        }
        records.push(OverlapRecord { level: Level::Edge, ..record(2, "conv1", Some(0.0), Some(0.0)) });
        let [conv1, fc] = &overlap(&records)[..] else { panic!("two layers") };
        assert_eq!((conv1.layer.as_str(), &conv1.iou), ("conv1", &vec![(2, Some(0.75)), (4, None)]));
        assert_eq!(conv1.chance, [(2, Some(0.375)), (4, None)]);
        assert_eq!((fc.layer.as_str(), &fc.iou), ("fc", &vec![(2, None)]));
    }

    #[test]
    fn an_undefined_value_interrupts_a_line() {
        let rounds = [round(3, 0.5, 0.5), round(1, 0.25, 0.5), round(2, f64::NAN, 0.5)];
        let series = accuracy(&rounds, |record| record.global.accuracy);
        assert_eq!(series, [(1, Some(0.25)), (2, None), (3, Some(0.5))]);
        assert_eq!(stretches(&series), [vec![(1, 0.25)], vec![(3, 0.5)]]);
        assert!(stretches(&vec![(1, None)]).is_empty());
    }
}
