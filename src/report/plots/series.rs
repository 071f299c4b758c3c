//! The numbers behind the lines.

use std::collections::BTreeMap;

use super::super::figures::{Figure, RoundFigures};
use super::super::records::{Comparison, Level};

/// Values by round, ascending; `None` where a value is undefined.
pub type Series = Vec<(usize, Option<f64>)>;

/// A figure by round, with the interval of its mean where there are several seeds.
#[derive(Debug, Default, PartialEq)]
pub struct Curve {
    /// The figure, or its mean over seeds.
    pub mean: Series,
    /// Lower ends of the intervals.
    pub low: Series,
    /// Upper ends.
    pub high: Series,
}

/// One layer's mean overlap of local circuits with global ones.
#[derive(Debug, PartialEq)]
pub struct LayerSeries {
    /// The layer's name.
    pub layer: String,
    /// Mean over clients and classes.
    pub iou: Curve,
    /// The mean that random circuits of the same sizes would have.
    pub chance: Curve,
}

/// A figure by round. Rounds that do not have it are left out, so that circuits found every few rounds make an unbroken
/// line; rounds in which it is undefined interrupt the line.
pub fn curve(rounds: &[RoundFigures], figure: &Figure) -> Curve {
    let by_round: BTreeMap<usize, _> =
        rounds.iter().filter_map(|round| Some((round.round, *round.get(figure)?))).collect();
    let finite = |value: f64| Some(value).filter(|value| value.is_finite());
    let mut curve = Curve::default();
    for (round, estimate) in by_round {
        curve.mean.push((round, finite(estimate.mean)));
        curve.low.push((round, finite(estimate.low)));
        curve.high.push((round, finite(estimate.high)));
    }
    curve
}

/// Channel overlaps of local circuits with global ones: layers in the order they first appear, without `all` of them
/// pooled.
pub fn overlap(rounds: &[RoundFigures]) -> Vec<LayerSeries> {
    let (comparison, level) = (Comparison::LocalGlobal, Level::Node);
    let mut layers: Vec<LayerSeries> = Vec::new();
    for (figure, _) in rounds.iter().flat_map(|round| &round.figures) {
        let Figure::Overlap(c, l, layer) = figure else { continue };
        let known = layers.iter().any(|series| series.layer == *layer);
        if (*c, *l) != (comparison, level) || layer == "all" || known {
            continue;
        }
        let iou = curve(rounds, figure);
        let chance = curve(rounds, &Figure::Chance(comparison, level, layer.clone()));
        layers.push(LayerSeries { layer: layer.clone(), iou, chance });
    }
    layers
}

/// Stretches of consecutive defined values.
pub fn stretches(series: &Series) -> Vec<Vec<(usize, f64)>> {
    let defined =
        |part: &[(usize, Option<f64>)]| part.iter().filter_map(|(round, value)| Some((*round, (*value)?))).collect();
    series.split(|(_, value)| value.is_none()).map(defined).filter(|part: &Vec<_>| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{measured, overlap as record, round};
    use super::*;
    use crate::report::OverlapMean;

    #[test]
    fn other_comparisons_and_all_layers_together_stay_out() {
        let mut records = vec![
            record(4, "conv1", None, None),
            record(2, "conv1", Some(0.75), Some(0.375)),
            record(2, "all", Some(0.75), Some(0.5)),
            record(2, "fc", Some(f64::NAN), Some(0.5)),
        ];
        for comparison in Comparison::ALL.into_iter().filter(|comparison| *comparison != Comparison::LocalGlobal) {
            records.push(OverlapMean { comparison, ..record(2, "conv1", Some(0.0), Some(0.0)) });
        }
        records.push(OverlapMean { level: Level::Edge, ..record(2, "conv1", Some(0.0), Some(0.0)) });
        let rounds = measured(&[2, 3, 4].map(|n| round(n, 0.5, 0.5)), &records);
        let [conv1, fc] = &overlap(&rounds)[..] else { panic!("two layers") };
        // Round 3 has no comparison at all.
        assert_eq!((conv1.layer.as_str(), &conv1.iou.mean), ("conv1", &vec![(2, Some(0.75)), (4, None)]));
        assert_eq!(conv1.chance.mean, [(2, Some(0.375)), (4, None)]);
        assert_eq!((fc.layer.as_str(), &fc.iou.mean), ("fc", &vec![(2, None)]));
    }

    #[test]
    fn an_undefined_value_interrupts_a_line() {
        let rounds = [round(3, 0.5, 0.5), round(1, 0.25, 0.5), round(2, f64::NAN, 0.5)];
        let curve = curve(&measured(&rounds, &[]), &Figure::Accuracy);
        assert_eq!(curve.mean, [(1, Some(0.25)), (2, None), (3, Some(0.5))]);
        assert_eq!(curve.low, [(1, None), (2, None), (3, None)]);
        assert_eq!(stretches(&curve.mean), [vec![(1, 0.25)], vec![(3, 0.5)]]);
        assert!(stretches(&vec![(1, None)]).is_empty());
    }

    #[test]
    fn several_seeds_have_an_interval_around_their_mean() {
        let seed = |accuracy| vec![(Figure::Accuracy, accuracy)];
        let rounds = [RoundFigures::new(1, 0.0, &[seed(0.4), seed(0.6)]), RoundFigures::new(2, 0.0, &[seed(0.5)])];
        let curve = curve(&rounds, &Figure::Accuracy);
        let [(1, Some(low)), (2, None)] = curve.low[..] else { panic!("{curve:?}") };
        assert!((low - (0.5 - 1.270_62)).abs() < 1e-5 && curve.high[0].1 > Some(1.77), "{curve:?}");
    }
}
