//! Where examples come from: labelled pictures as bytes, and how they are dealt to clients.

pub mod digits;
pub mod fetch;
pub mod idx;
pub mod mnist;
pub mod partition;
mod population;

pub use population::Population;

use sha2::{Digest, Sha256};

/// Hexadecimal digits, as checksums are shown.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Labelled pictures for one task, split into training and test examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// The name by which an experiment asks for it.
    pub name: String,
    /// Colour channels C.
    pub channels: usize,
    /// Rows H of a picture.
    pub height: usize,
    /// Columns W of a picture.
    pub width: usize,
    /// Number of classes; labels are 0 to `classes - 1`.
    pub classes: usize,
    /// What people call each class, `classes` long.
    pub class_names: Vec<String>,
    /// Per channel, the mean that normalisation takes off a pixel after division by 255.
    pub mean: Vec<f32>,
    /// Per channel, the standard deviation that normalisation divides by after that.
    pub std: Vec<f32>,
    /// Examples dealt to the clients.
    pub train: Split,
    /// Examples nobody trains on.
    pub test: Split,
}

impl Dataset {
    /// Values in one picture: C * H * W.
    pub fn example_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// SHA-256 of everything that training and testing see of it.
    pub fn checksum(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let sizes = [self.channels, self.height, self.width, self.classes, self.train.len(), self.test.len()];
        sizes.iter().for_each(|n| hash.update((*n as u64).to_le_bytes()));
        self.mean.iter().chain(&self.std).for_each(|x| hash.update(x.to_le_bytes()));
        for split in [&self.train, &self.test] {
            hash.update(&split.pixels);
            hash.update(&split.labels);
        }
        hash.finalize().into()
    }
}

/// Pictures and their labels, in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// `[N][C * H * W]`, one byte a value, 0 to 255.
    pub pixels: Vec<u8>,
    /// `[N]`, each below the number of classes.
    pub labels: Vec<u8>,
}

impl Split {
    /// Number of examples N.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The values of example `index`, `[C * H * W]`.
    ///
    /// # Panics
    /// If `index` is not below `len()`.
    pub fn example(&self, index: usize) -> &[u8] {
        let size = self.pixels.len() / self.len();
        &self.pixels[index * size..(index + 1) * size]
    }

    /// For each class, the examples that carry its label, in ascending order: `[classes][]`.
    pub fn by_class(&self, classes: usize) -> Vec<Vec<u32>> {
        indices_by_class(&self.labels, classes)
    }
}

/// A data set of black pictures of 28 x 28, with evenly many of each class: for plans and trials, to which it makes no
/// difference what pictures show.
pub fn blank(train: usize, test: usize, classes: usize) -> Dataset {
    let split = |count: usize| Split {
        pixels: vec![0; count * 28 * 28],
        labels: (0..count).map(|i| (i % classes.max(1)) as u8).collect(),
    };
    Dataset {
        name: "blank".into(),
        channels: 1,
        height: 28,
        width: 28,
        classes,
        class_names: (0..classes).map(|class| class.to_string()).collect(),
        mean: vec![0.5],
        std: vec![0.3],
        train: split(train),
        test: split(test),
    }
}

/// For each class, the positions of its label, in ascending order: `[classes][]`. Labels out of range are left out.
pub fn indices_by_class(labels: &[u8], classes: usize) -> Vec<Vec<u32>> {
    let mut members = vec![Vec::new(); classes];
    for (index, &label) in labels.iter().enumerate() {
        if let Some(list) = members.get_mut(usize::from(label)) {
            list.push(index as u32);
        }
    }
    members
}

/// The names of the ten digits, "zero" first.
pub(crate) fn digit_names() -> Vec<String> {
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"].map(String::from).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever training or testing sees: a run is not gone on with on other data.
    #[test]
    fn the_checksum_is_of_everything_that_is_seen() {
        let base = || {
            let split = |first: u8| Split { pixels: (first..first + 8).collect(), labels: vec![0, 1] };
            Dataset {
                name: "a".into(),
                channels: 1,
                height: 2,
                width: 2,
                classes: 3,
                class_names: vec!["x".into(), "y".into(), "z".into()],
                mean: vec![0.1],
                std: vec![0.2],
                train: split(0),
                test: split(100),
            }
        };
        let edits: [fn(&mut Dataset); 10] = [
            |d| (d.channels, d.height) = (2, 1),
            |d| (d.height, d.width) = (1, 4),
            |d| d.classes = 4,
            |d| d.mean[0] = 0.3,
            |d| d.std[0] = 0.3,
            |d| d.train.pixels[7] += 1,
            |d| d.train.labels.swap(0, 1),
            |d| d.test.pixels[0] += 1,
            |d| d.test.labels[1] = 2,
            |d| std::mem::swap(&mut d.train, &mut d.test),
        ];
        let mut sums = vec![base().checksum()];
        for edit in edits {
            let mut other = base();
            edit(&mut other);
            sums.push(other.checksum());
        }
        assert_eq!(base().checksum(), sums[0]);
        sums.sort_unstable();
        sums.dedup();
        assert_eq!(sums.len(), 11);
    }

    #[test]
    fn blank_data_have_as_many_of_each_class() {
        let data = blank(30, 7, 10);
        assert_eq!((data.train.len(), data.test.len(), data.train.pixels.len()), (30, 7, 30 * 784));
        assert!(data.train.by_class(10).iter().all(|members| members.len() == 3));
        assert_eq!(data.test.labels, [0, 1, 2, 3, 4, 5, 6]);
    }
}
