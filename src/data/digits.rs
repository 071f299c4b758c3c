//! `digits`, the built-in data set: pictures of digits drawn by a simulated hand, so that everything runs with nothing
//! downloaded.
//!
//! A picture is a style of its digit, bent, slanted, turned, stretched and shifted at random, then inked by a round pen
//! under varying pressure. Only arithmetic that IEEE 754 defines exactly is used (no sine, no exponential), so the
//! pictures are the same bytes on every machine.
//!
//! The set is meant to be easy for a network and hard for less: the paper's CNN (Adam, learning rate 0.001, batches of
//! 256) reaches about 97% of the test pictures in five epochs and 98.5% in ten, a linear classifier 75%.

mod glyphs;
mod pen;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{Dataset, Split, digit_names};
use crate::rng::{Purpose, stream};
use pen::SIDE;

/// Training pictures in the data set as experiments see it.
pub const TRAIN: usize = 12_000;
/// Test pictures in the data set as experiments see it.
pub const TEST: usize = 2_000;

/// The data set belongs to the program, like a file would: an experiment's seed does not change it.
const SEED: u64 = 0xD161_7500;

/// Mean and standard deviation of a pixel over `TRAIN` pictures, after division by 255.
const MEAN: f32 = 0.1095;
const STD: f32 = 0.2662;

/// The data set of `TRAIN` and `TEST` pictures.
pub fn load() -> Dataset {
    generate(TRAIN, TEST)
}

/// The first `train` and `test` pictures of the endless series: a smaller data set is a prefix of a larger one.
/// Pictures are 1 x 28 x 28, labels drawn uniformly.
pub fn generate(train: usize, test: usize) -> Dataset {
    Dataset {
        name: "digits".into(),
        channels: 1,
        height: SIDE,
        width: SIDE,
        classes: 10,
        class_names: digit_names(),
        mean: vec![MEAN],
        std: vec![STD],
        train: split(0, train),
        test: split(1, test),
    }
}

/// Every picture has its own stream, so neither the number of threads nor the size of the set changes it.
fn split(number: u64, count: usize) -> Split {
    let mut pixels = vec![0; count * SIDE * SIDE];
    let labels = pixels
        .par_chunks_exact_mut(SIDE * SIDE)
        .enumerate()
        .map(|(index, picture)| {
            let mut rng = stream(SEED, number, index as u64, Purpose::Digits);
            let label = rng.random_range(0..10u8);
            pen::draw(choose_style(label, &mut rng), &mut rng, picture);
            label
        })
        .collect();
    Split { pixels, labels }
}

fn choose_style(label: u8, rng: &mut ChaCha8Rng) -> &'static glyphs::Style {
    let styles = glyphs::DIGITS[usize::from(label)];
    let mut left = rng.random::<f32>() * styles.iter().map(|style| style.weight).sum::<f32>();
    styles
        .iter()
        .find(|style| {
            left -= style.weight;
            left < 0.0
        })
        .unwrap_or(&styles[0])
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::super::hex;
    use super::*;

    #[test]
    fn pictures_do_not_depend_on_threads_or_on_the_size_of_the_set() {
        let few = generate(50, 20);
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| generate(200, 20));
        assert_eq!(few.train.pixels, alone.train.pixels[..50 * 784]);
        assert_eq!(few.train.labels, alone.train.labels[..50]);
        assert_eq!(few.test, alone.test);
        assert_ne!(few.train.pixels[..20 * 784], few.test.pixels);
    }

    /// Results published for `digits` hold only while the pictures stay the same bytes, on every machine.
    #[test]
    fn the_pictures_are_these_bytes() {
        let sum = Sha256::digest(&generate(500, 0).train.pixels);
        let start = hex(&sum[..8]);
        assert_eq!(start, "8cfdb9222b6e89e6");
        let test = generate(0, 500).test;
        let [pixels, labels] = [test.pixels, test.labels].map(|bytes| hex(&Sha256::digest(bytes)[..8]));
        assert_eq!([pixels.as_str(), labels.as_str()], ["aa65c80edf508498", "85ac48575e7f3273"]);
    }

    #[test]
    fn every_picture_shows_something_inside_the_frame() {
        let data = generate(3000, 0);
        for index in 0..data.train.len() {
            let picture = data.train.example(index);
            let ink: u32 = picture.iter().map(|&value| u32::from(value)).sum();
            let border: u32 = (0..784)
                .filter(|at| at / 28 == 0 || at / 28 == 27 || at % 28 == 0 || at % 28 == 27)
                .map(|at| u32::from(picture[at]))
                .sum();
            assert!((8 * 255..300 * 255).contains(&ink), "picture {index} has {ink} ink");
            assert!(border * 4 < ink, "picture {index} runs off the frame");
        }
    }

    #[test]
    fn classes_are_balanced_and_normalisation_is_measured() {
        let data = load();
        assert_eq!((data.train.len(), data.test.len(), data.example_len()), (TRAIN, TEST, 784));
        for members in data.train.by_class(10) {
            // Ten standard deviations of a binomial with n = 12,000, p = 0.1 are 329.
            assert!(members.len().abs_diff(TRAIN / 10) < 329);
        }
        let values = data.train.pixels.len() as f64;
        let mean = data.train.pixels.iter().map(|&v| f64::from(v) / 255.0).sum::<f64>() / values;
        let square = data.train.pixels.iter().map(|&v| (f64::from(v) / 255.0).powi(2)).sum::<f64>() / values;
        assert!((mean - f64::from(MEAN)).abs() < 1e-3, "{mean}");
        assert!(((square - mean * mean).sqrt() - f64::from(STD)).abs() < 1e-3);
    }
}
