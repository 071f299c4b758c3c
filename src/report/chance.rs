//! What overlap chance alone would give.

/// One layer of two circuits: the size of each, and how many channels (or edges) there are to choose from.
pub type Sizes = (usize, usize, usize);

/// The expected intersection over union of random sets with these sizes, exactly: the overlap k of random sets of a and
/// b among n is hypergeometric, and E[k / (a + b - k)] is summed over its distribution. Several layers are drawn
/// independently and their overlaps pooled. `None` where all sets are empty, as IoU is then undefined.
///
/// A set larger than its layer counts as the whole layer.
pub fn expected_iou(layers: &[Sizes]) -> Option<f64> {
    let clamped = layers.iter().map(|&(a, b, n)| (a.min(n), b.min(n), n));
    let (mut total, mut overlap) = (0, Distribution { start: 0, weights: vec![1.0] });
    for (a, b, n) in clamped {
        total += a + b;
        overlap = overlap.plus(&hypergeometric(a, b, n));
    }
    if total == 0 {
        return None;
    }
    let terms = overlap.weights.iter().enumerate().map(|(i, weight)| {
        let k = (overlap.start + i) as f64;
        weight * k / (total as f64 - k)
    });
    Some(terms.sum())
}

/// Probabilities of the whole numbers from `start`.
struct Distribution {
    start: usize,
    weights: Vec<f64>,
}

impl Distribution {
    /// The sum of two independent numbers.
    fn plus(&self, other: &Distribution) -> Distribution {
        let mut weights = vec![0.0; self.weights.len() + other.weights.len() - 1];
        for (i, x) in self.weights.iter().enumerate() {
            for (j, y) in other.weights.iter().enumerate() {
                weights[i + j] += x * y;
            }
        }
        Distribution { start: self.start + other.start, weights }
    }
}

/// The overlap of random sets of `a` and `b` among `n`. Weights are built outwards from the mode, where they are
/// largest, so that none overflows and those that underflow do not matter.
fn hypergeometric(a: usize, b: usize, n: usize) -> Distribution {
    let (low, high) = ((a + b).saturating_sub(n), a.min(b));
    let mode = ((a + 1) * (b + 1) / (n + 2)).clamp(low, high);
    // P(k + 1) / P(k)
    let ratio = |k: usize| ((a - k) * (b - k)) as f64 / ((k + 1) * (n + k + 1 - a - b)) as f64;
    let mut weights = vec![0.0; high - low + 1];
    weights[mode - low] = 1.0;
    for k in mode..high {
        weights[k + 1 - low] = weights[k - low] * ratio(k);
    }
    for k in (low..mode).rev() {
        weights[k - low] = weights[k + 1 - low] / ratio(k);
    }
    // Beyond this, tails are lost in rounding anyway; cutting them keeps pools of large layers cheap.
    let kept = |weight: &f64| *weight > 1e-25;
    let first = weights.iter().position(kept).unwrap_or(0);
    let last = weights.iter().rposition(kept).unwrap_or(0);
    let weights = &weights[first..=last];
    let sum: f64 = weights.iter().sum();
    Distribution { start: low + first, weights: weights.iter().map(|weight| weight / sum).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<f64>, expected: f64) {
        let found = found.unwrap();
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }

    #[test]
    fn small_cases_worked_by_hand() {
        // One of two, twice: the same one with probability 1/2.
        close(expected_iou(&[(1, 1, 2)]), 0.5);
        // Two of four: overlaps 0, 1, 2 with probabilities 1/6, 4/6, 1/6; IoUs 0, 1/3, 1.
        close(expected_iou(&[(2, 2, 4)]), 7.0 / 18.0);
        // Three and two of four must share one: overlaps 1, 2 with probabilities 1/2, 1/2; IoUs 1/4, 2/3.
        close(expected_iou(&[(3, 2, 4)]), 0.5 / 4.0 + 0.5 * 2.0 / 3.0);
        // Two layers of one in two, pooled: overlaps 0, 1, 2 with 1/4, 1/2, 1/4; IoUs 0, 1/3, 1.
        close(expected_iou(&[(1, 1, 2), (1, 1, 2)]), 5.0 / 12.0);
        close(expected_iou(&[(5, 5, 5)]), 1.0);
        close(expected_iou(&[(0, 3, 5)]), 0.0);
    }

    #[test]
    fn two_empty_sets_have_no_overlap_to_speak_of() {
        assert_eq!(expected_iou(&[(0, 0, 32)]), None);
        assert_eq!(expected_iou(&[]), None);
    }

    /// The same by counting: C(n, k) as a float, exact for these.
    fn choose(n: usize, k: usize) -> f64 {
        (0..k).fold(1.0, |product, i| product * (n - i) as f64 / (i + 1) as f64)
    }

    /// Sizes that differ within a layer and between layers, so that no two overlaps are equally likely; and layers large enough
    /// that most overlaps are unlikely, and still count.
    #[test]
    fn unequal_layers_equal_the_sum_over_all_their_overlaps() {
        let likely = |(a, b, n): Sizes, k: usize| {
            if k > a || k > b || b - k > n - a { 0.0 } else { choose(a, k) * choose(n - a, b - k) / choose(n, b) }
        };
        for [one, two] in [[(3, 5, 9), (7, 2, 11)], [(2, 2, 3), (0, 4, 6)], [(40, 25, 100), (12, 30, 64)]] {
            let mut sum = 0.0;
            for (k, l) in (0..=one.0).flat_map(|k| (0..=two.0).map(move |l| (k, l))) {
                let union = one.0 + one.1 + two.0 + two.1 - k - l;
                sum += likely(one, k) * likely(two, l) * (k + l) as f64 / union as f64;
            }
            close(expected_iou(&[one, two]), sum);
        }
    }

    #[test]
    fn large_sets_neither_overflow_nor_vanish() {
        // Half of 73,728 edges twice: the overlap concentrates on a quarter, and 1/4 over 3/4 is 1/3.
        let found = expected_iou(&[(36_864, 36_864, 73_728)]).unwrap();
        assert!((found - 1.0 / 3.0).abs() < 1e-4, "{found}");
    }
}
