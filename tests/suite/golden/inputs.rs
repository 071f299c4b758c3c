//! The inputs of the golden cases, rebuilt bit for bit (`tests/golden/README.md`, "The generators").

use std::ops::Range;

use fedcircuit::data::{Dataset, Split};
use fedcircuit::model::Layout;

pub use crate::common::CLASSES;

pub const MEAN: f32 = 0.1307;
pub const STD: f32 = 0.3081;

fn hash32(i: u32, salt: u32) -> u32 {
    let mut x = i.wrapping_mul(2_654_435_761).wrapping_add(salt * 40_503 + 12_345);
    for _ in 0..2 {
        x = (x ^ x >> 16).wrapping_mul(0x45d9f3b);
    }
    x ^ x >> 16
}

fn uniform(i: u32, salt: u32) -> f64 {
    f64::from(hash32(i, salt) >> 8) / f64::from(1 << 24)
}

/// The first weights, a row of parameters.
pub fn weights(layout: &Layout) -> Vec<f32> {
    let mut row = vec![0.0; layout.words];
    for (place, tensor) in (1..).zip(&layout.tensors) {
        let bound = 1.0 / (tensor.fan_in as f64).sqrt();
        for (i, value) in (0..).zip(&mut row[tensor.at..tensor.at + tensor.words()]) {
            *value = (bound * (2.0 * uniform(i, place) - 1.0)) as f32;
        }
    }
    row
}

pub fn label(n: u32) -> u8 {
    ((7 * n + n / 5) % 10) as u8
}

fn pixel(n: u32, y: u32, x: u32) -> u8 {
    let cell = 7 * (y / 4) + x / 4;
    let h = hash32(784 * n + 28 * y + x, 103);
    let pattern = hash32(49 * u32::from(label(n)) + cell, 101) % 5 < 2;
    let inverted = hash32(49 * n + cell, 102).is_multiple_of(8);
    shade(h, pattern ^ inverted ^ (h >> 8).is_multiple_of(32))
}

fn shade(h: u32, ink: bool) -> u8 {
    if ink { (128 + h % 256 / 2) as u8 } else { 0 }
}

fn images(numbers: Range<u32>) -> Split {
    let places = || (0..28).flat_map(|y| (0..28).map(move |x| (y, x)));
    Split {
        pixels: numbers.clone().flat_map(|n| places().map(move |(y, x)| pixel(n, y, x))).collect(),
        labels: numbers.map(label).collect(),
    }
}

/// Images of 28 x 28 pixels; the split's first is image `start`.
pub fn grey(train: Range<u32>, test: Range<u32>) -> Dataset {
    dataset(1, 28, images(train), images(test))
}

/// The 13 images of 3 x 20 x 20 of `odd_cnns`.
pub fn colour() -> Dataset {
    let shaded = |h: u32| shade(h, (h >> 8) % 5 < 2);
    let pixels = (0..13 * 3 * 20 * 20).map(|i| shaded(hash32(i, 104))).collect();
    dataset(3, 20, Split { pixels, labels: (0..13).map(label).collect() }, Split::default())
}

fn dataset(channels: usize, side: usize, train: Split, test: Split) -> Dataset {
    Dataset {
        name: "golden".into(),
        channels,
        height: side,
        width: side,
        classes: CLASSES,
        class_names: (0..CLASSES).map(|c| c.to_string()).collect(),
        mean: vec![MEAN; channels],
        std: vec![STD; channels],
        train,
        test,
    }
}

#[test]
fn generators_give_what_python_gives() {
    let hashes = [(0, 1), (1, 1), (73_727, 5), (4_703_999, 103)].map(|(i, salt)| hash32(i, salt));
    assert_eq!(hashes, [1_971_212_195, 634_994_261, 2_752_429_369, 3_422_284_400]);
    assert_eq!((0..12).map(label).collect::<Vec<_>>(), [0, 7, 4, 1, 8, 6, 3, 0, 7, 4, 2, 9]);
    let first = images(0..32);
    assert_eq!(first.pixels[..12], [147, 199, 131, 237, 234, 202, 162, 140, 201, 0, 199, 174]);
    let sum = |split: &Split| split.pixels.iter().map(|p| u32::from(*p)).sum::<u32>();
    assert_eq!((sum(&first), sum(&images(5999..6000))), (2_096_619, 69_430));
    assert_eq!(sum(&colour().train), 1_188_628);
    let row = weights(&super::preset(fedcircuit::config::ModelPreset::SimpleCnn).layout);
    assert_eq!(row[..4], [-0.027_360_955, -0.234_769_27, 0.053_413_47, -0.286_265_17]);
}
