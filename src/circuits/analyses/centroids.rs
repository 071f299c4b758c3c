//! Class centroids (the paper, "centroid"): how far apart the classes' mean features are in the global model. The features
//! are what reaches the last layer.

use serde::Serialize;

use super::super::answers::evenly;
use super::{Found, Scene};
use crate::error::Result;

/// Images of a class whose features are averaged, at most.
const IMAGES: usize = 200;
/// Classes nearer than this are synonyms.
const SYNONYMS: f64 = 0.01;
/// By how much the norm of the winner's centroid is larger.
const MARGIN: f64 = 5.0;

/// Distances between the classes' mean features.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Centroids {
    /// Images of a class that were averaged, at most: evenly taken from its test images.
    pub images_per_class: usize,
    /// Two classes whose distance is below this are synonyms.
    pub synonym_distance: f64,
    /// The class whose norm exceeds the other's by more than this is predicted to win.
    pub winner_margin: f64,
    /// Every class that a client holds, with the norm of its centroid.
    #[serde(serialize_with = "super::as_map")]
    pub norms: Vec<(u32, f64)>,
    /// Pairs of synonyms.
    pub synonyms: usize,
    /// By pair of classes, of `centroids.csv`.
    #[serde(skip)]
    pub rows: Vec<CentroidRow>,
}

/// Two classes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CentroidRow {
    /// The lower class.
    pub class_a: u32,
    /// The higher class.
    pub class_b: u32,
    /// 1 less the cosine of the angle between their centroids; undefined where one of them is zero.
    pub distance: Option<f64>,
    /// Length of the first centroid.
    pub norm_a: f64,
    /// Length of the second centroid.
    pub norm_b: f64,
    /// Whether they are nearer than [`Centroids::synonym_distance`].
    pub synonyms: bool,
    /// The class predicted to win, where the norms differ enough.
    pub winner: Option<u32>,
}

pub(super) fn run(scene: &Scene<'_>) -> Result<Found<Centroids>> {
    let network = scene.subject.stage.network;
    let Some(layer) = network.layers.len().checked_sub(2) else {
        return Ok(Err("the network has one layer, and no features before it".into()));
    };
    let held = scene.specialists.iter().map(|(class, _)| *class);
    let classes: Vec<u32> = held.filter(|class| !scene.images[*class as usize].is_empty()).collect();
    if classes.len() < 2 {
        return Ok(Err("fewer than two of the clients' classes have test images".into()));
    }
    let lists: Vec<Vec<u32>> = classes.iter().map(|c| evenly(&scene.images[*c as usize], IMAGES)).collect();
    let global = scene.subject.global.all();
    let features = scene.evaluator.outputs(global, &[0], None, &lists.concat(), layer)?.remove(0);
    let width = network.layers[layer].sizes().1;
    let mut rest = features.chunks_exact(width);
    let means: Vec<Vec<f64>> = lists.iter().map(|list| mean(rest.by_ref().take(list.len()), width)).collect();
    Ok(Ok(compare(&classes, &means)))
}

fn mean<'f>(features: impl Iterator<Item = &'f [f32]>, width: usize) -> Vec<f64> {
    let (mut sum, mut count) = (vec![0.0; width], 0.0);
    for image in features {
        sum.iter_mut().zip(image).for_each(|(sum, x)| *sum += f64::from(*x));
        count += 1.0;
    }
    sum.iter().map(|sum| sum / count).collect()
}

fn compare(classes: &[u32], means: &[Vec<f64>]) -> Centroids {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let norms: Vec<f64> = means.iter().map(|m| dot(m, m).sqrt()).collect();
    let row = |i: usize, j: usize| {
        let (a, b) = (norms[i], norms[j]);
        let distance = (a > 0.0 && b > 0.0).then(|| 1.0 - dot(&means[i], &means[j]) / (a * b));
        CentroidRow {
            class_a: classes[i],
            class_b: classes[j],
            distance,
            norm_a: a,
            norm_b: b,
            synonyms: distance.is_some_and(|d| d < SYNONYMS),
            winner: ((a - b).abs() > MARGIN).then(|| if a > b { classes[i] } else { classes[j] }),
        }
    };
    let rows: Vec<CentroidRow> =
        (0..classes.len()).flat_map(|i| (i + 1..classes.len()).map(move |j| (i, j))).map(|(i, j)| row(i, j)).collect();
    Centroids {
        images_per_class: IMAGES,
        synonym_distance: SYNONYMS,
        winner_margin: MARGIN,
        norms: classes.iter().copied().zip(norms.iter().copied()).collect(),
        synonyms: rows.iter().filter(|row| row.synonyms).count(),
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_norms_and_winners_by_hand() {
        let found = compare(&[2, 5, 7, 8], &[vec![3.0, 4.0], vec![6.0, 8.1], vec![4.0, -3.0], vec![0.0, 0.0]]);
        assert_eq!(found.norms[0], (2, 5.0));
        let brief: Vec<_> = found.rows.iter().map(|r| (r.class_a, r.class_b, r.synonyms, r.winner)).collect();
        // The second is longer by 5.08, nearly parallel to the first and orthogonal to the third; the last is nothing.
        let want = [
            (2, 5, true, Some(5)),
            (2, 7, false, None),
            (2, 8, false, None),
            (5, 7, false, Some(5)),
            (5, 8, false, Some(5)),
            (7, 8, false, None),
        ];
        assert_eq!(brief, want);
        assert!((found.rows[1].distance.unwrap() - 1.0).abs() < 1e-12);
        assert_eq!((found.rows[2].distance, found.synonyms), (None, 1));
    }
}
