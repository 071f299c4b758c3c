//! How weights start: PyTorch's default for convolutions and linear layers.

use rand::Rng;

use super::Layout;
use crate::rng::{NO_CLIENT, NO_ROUND, Purpose, stream};

/// A row of parameters: every weight and bias uniform in (-b, b), b = 1 / sqrt(fan_in).
///
/// PyTorch draws weights from `kaiming_uniform_(a = sqrt(5))`, whose bound is sqrt(6 / ((1 + 5) fan_in)), the same b.
pub fn initial_weights(layout: &Layout, seed: u64) -> Vec<f32> {
    let mut rng = stream(seed, NO_ROUND, NO_CLIENT, Purpose::Init);
    let mut row = vec![0.0; layout.words];
    for tensor in &layout.tensors {
        let bound = 1.0 / (tensor.fan_in as f64).sqrt();
        for value in &mut row[tensor.at..tensor.at + tensor.words()] {
            // 53 random bits: a uniform double in [0, 1).
            let unit = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
            *value = (bound * (2.0 * unit - 1.0)) as f32;
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tensor_is_uniform_within_its_bound() {
        let layout = Layout::new(&super::super::layers::tests::simple_cnn());
        let row = initial_weights(&layout, 7);
        assert_eq!(row, initial_weights(&layout, 7));
        assert_ne!(row, initial_weights(&layout, 8));
        for tensor in layout.tensors.iter().filter(|t| t.words() > 200) {
            let bound = 1.0 / (tensor.fan_in as f64).sqrt();
            let values: Vec<f64> = row[tensor.at..tensor.at + tensor.words()].iter().map(|v| f64::from(*v)).collect();
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
            assert!(values.iter().all(|v| v.abs() <= bound), "{}", tensor.name);
            // Within five standard errors of a uniform's mean and variance.
            let sigma = bound / 3f64.sqrt();
            assert!(mean.abs() < 5.0 * sigma / n.sqrt(), "{}: mean {mean}", tensor.name);
            assert!(
                (variance / sigma.powi(2) - 1.0).abs() < 5.0 * (0.8 / n).sqrt(),
                "{}: variance {variance}",
                tensor.name
            );
        }
    }

    /// Biases too: PyTorch draws them within the bound of the weights beside them.
    #[test]
    fn biases_are_drawn_within_the_bound_of_their_layer() {
        let layout = Layout::new(&super::super::layers::tests::simple_cnn());
        for (weight, bias) in [(0, 1), (2, 3), (4, 5), (6, 7)] {
            let (bound, bias) = (1.0 / (layout.tensors[weight].fan_in as f64).sqrt(), &layout.tensors[bias]);
            assert!(bias.is_bias());
            let values: Vec<f64> = (0..200)
                .flat_map(|seed| initial_weights(&layout, seed)[bias.at..][..bias.words()].to_vec())
                .map(f64::from)
                .collect();
            let n = values.len() as f64;
            let variance = values.iter().map(|v| v * v).sum::<f64>() / n;
            assert!(values.iter().all(|v| v.abs() <= bound), "{}", bias.name);
            // A uniform's mean square is a third of its bound's square, give or take five standard errors.
            assert!(
                (3.0 * variance / (bound * bound) - 1.0).abs() < 5.0 * (0.8 / n).sqrt(),
                "{}: {variance}",
                bias.name
            );
        }
    }

    /// Results of a seed hold only while its first weights stay what they are, on every machine.
    #[test]
    fn the_first_weights_are_these() {
        let layout = Layout::new(&super::super::layers::tests::simple_cnn());
        assert_eq!(initial_weights(&layout, 7)[..3], [0.220_846_35, -0.077_046_68, -0.204_189_58]);
    }
}
