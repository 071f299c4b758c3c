//! Inputs that the cases of the ablating kernels share.

use super::{below, noise};

/// Sizes of one case.
pub struct Setting {
    pub name: &'static str,
    pub slots: usize,
    pub stride: usize,
    pub channels: usize,
    /// Height and width of z.
    pub sides: (usize, usize),
    pub pool: usize,
    pub relu: bool,
    pub donors: bool,
}

/// Where the layer's gates start: they are the last of their row, and of no whole number of vec4s.
const AT: usize = 5;

impl Setting {
    pub fn params(&self) -> [u32; 13] {
        let (out_h, out_w) = (self.sides.0 / self.pool, self.sides.1 / self.pool);
        let gate_words = self.channels + AT;
        let (relu, donors) = (usize::from(self.relu), usize::from(self.donors));
        let (quads, (h, w)) = (self.stride / 4, self.sides);
        [self.slots, quads, self.channels, h, w, out_h, out_w, self.pool, relu, gate_words, AT, 1, donors]
            .map(|n| n as u32)
    }

    fn values(&self) -> usize {
        self.slots * self.channels * self.sides.0 * self.sides.1 * self.stride
    }

    pub fn outputs(&self) -> usize {
        self.slots * self.channels * (self.sides.0 / self.pool) * (self.sides.1 / self.pool) * self.stride
    }

    pub fn gate_words(&self) -> usize {
        self.slots * (self.channels + AT)
    }

    pub fn z(&self) -> Vec<u32> {
        noise(self.values(), 1.0, 1)
    }

    /// Every third is 0, which is what a ReLU stops last.
    pub fn fill(&self) -> Vec<u32> {
        let mut fill = noise(if self.donors { self.values() } else { self.gate_words() }, 1.0, 2);
        fill.iter_mut().step_by(3).for_each(|word| *word = 0);
        fill
    }

    pub fn gates(&self) -> Vec<u32> {
        below(self.gate_words(), 2, 3).iter().map(|v| (*v as f32).to_bits()).collect()
    }

    /// After one that belongs to nobody; the first slot's batch is full.
    pub fn counts(&self) -> Vec<u32> {
        let counts = (0..self.slots).map(|slot| (self.stride - self.stride * slot / (self.slots + 1)) as u32);
        std::iter::once(99).chain(counts).collect()
    }
}

pub fn settings() -> Vec<Setting> {
    let base = Setting {
        name: "one unit",
        slots: 1,
        stride: 4,
        channels: 1,
        sides: (1, 1),
        pool: 1,
        relu: true,
        donors: false,
    };
    vec![
        Setting { name: "hidden units", slots: 3, stride: 20, channels: 11, donors: true, ..base },
        Setting { name: "without ReLU", channels: 3, sides: (4, 5), pool: 2, relu: false, ..base },
        Setting { name: "odd sides, means", slots: 3, stride: 68, channels: 5, sides: (7, 7), pool: 2, ..base },
        Setting {
            name: "odd sides, donors",
            slots: 2,
            stride: 36,
            channels: 5,
            sides: (7, 5),
            pool: 2,
            donors: true,
            ..base
        },
        Setting {
            name: "the second layer of simple-cnn",
            slots: 4,
            stride: 32,
            channels: 64,
            sides: (14, 14),
            pool: 2,
            ..base
        },
        base,
    ]
}
