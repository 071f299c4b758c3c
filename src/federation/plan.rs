//! What a round will take, known before it begins: waves, and the device's memory.

/// How a round's clients are spread over waves, and what the memory on the device is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundPlan {
    /// Clients drawn in a round, of all the federations side by side.
    pub clients: usize,
    /// Waves in which they are computed; fewer, where clients drop out.
    pub waves: usize,
    /// Clients of a wave, at most.
    pub wave_size: usize,
    /// What one client of a wave takes, in bytes: weights, gradients, moments, activations, and the order of its examples.
    pub client_bytes: u64,
    /// What a wave may take, in bytes.
    pub budget: u64,
    /// Training and test images, in bytes.
    pub images: u64,
    /// Global models and their running sums, in bytes.
    pub models: u64,
    /// What the evaluation of the global models takes, in bytes.
    pub evaluation: u64,
    /// Local models that stay to the end of a round, in bytes, where they are saved or analysed.
    pub kept: u64,
}

impl RoundPlan {
    /// What a full wave takes, in bytes.
    pub fn wave(&self) -> u64 {
        self.wave_size as u64 * self.client_bytes
    }

    /// All of it at once, in bytes: the wave's buffers stay while the global models are evaluated.
    pub fn total(&self) -> u64 {
        self.wave() + self.images + self.models + self.evaluation + self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_takes_one_full_wave_and_what_stays_beside_it() {
        let plan = RoundPlan {
            clients: 30,
            waves: 3,
            wave_size: 10,
            client_bytes: 100,
            budget: 5000,
            images: 2,
            models: 30,
            evaluation: 400,
            kept: 50_000,
        };
        assert_eq!((plan.wave(), plan.total()), (1000, 51_432));
    }
}
