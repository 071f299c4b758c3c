//! Federated averaging (McMahan et al. 2017, algorithm 1): the weighted mean of the clients' models.

use crate::config::Weighting;
use crate::device::{Buffer, Device, View};
use crate::error::Result;
use crate::federation::Member;
use crate::federation::examples::upload;
use crate::kernels::accumulate::{self, accumulate, grouped};

/// Running weighted sums of models, one for each of the federations side by side.
#[derive(Debug)]
pub struct FedAvg {
    weighting: Weighting,
    words: usize,
    /// `[R][P]`.
    sums: Buffer,
    /// What the weights of each replicate's clients in this round sum to before they are divided by it.
    totals: Vec<f64>,
}

impl FedAvg {
    /// For `replicates` federations whose models are rows of `words` parameters.
    ///
    /// # Errors
    /// What the device says.
    pub fn new(device: &dyn Device, weighting: Weighting, replicates: usize, words: usize) -> Result<Self> {
        let sums = device.alloc("sums of models", replicates * words)?;
        Ok(Self { weighting, words, sums, totals: vec![0.0; replicates] })
    }

    /// Starts a round of these members.
    ///
    /// # Errors
    /// What the device says.
    pub fn begin(&mut self, device: &dyn Device, round: &[Member<'_>]) -> Result<()> {
        self.totals.fill(0.0);
        round.iter().for_each(|m| self.totals[m.replicate] += size(self.weighting, m));
        device.clear(self.sums.all())
    }

    /// Adds a wave's models, `[wave][P]`, in the wave's order.
    ///
    /// # Errors
    /// What the device says.
    pub fn add(&self, device: &dyn Device, models: View<'_>, wave: &[Member<'_>]) -> Result<()> {
        // A member's share of its replicate's mean; over a round they sum to 1.
        let share = |m: &Member<'_>| (size(self.weighting, m) / self.totals[m.replicate]) as f32;
        let scales: Vec<u32> = wave.iter().map(|m| share(m).to_bits()).collect();
        let of: Vec<usize> = wave.iter().map(|m| m.replicate).collect();
        let (starts, slots) = grouped(&of, self.totals.len());
        let scales = upload(device, "client weights", &scales)?;
        let (starts, slots) = (upload(device, "replicates", &starts)?, upload(device, "slots", &slots)?);
        let buffers = accumulate::Buffers {
            rows: models,
            scales: scales.all(),
            starts: starts.all(),
            slots: slots.all(),
            sums: self.sums.all(),
        };
        accumulate(device, self.words, &buffers)
    }

    /// The new global models, `[R][P]`, replace `global`.
    ///
    /// # Errors
    /// What the device says.
    pub fn finish(&self, device: &dyn Device, global: &Buffer) -> Result<()> {
        device.copy(self.sums.all(), global.all())
    }
}

/// What a member's model counts for.
fn size(weighting: Weighting, member: &Member<'_>) -> f64 {
    match weighting {
        Weighting::Uniform => 1.0,
        Weighting::Examples => member.examples.len() as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Cpu, f32s};

    /// The mean of two clients, beside a replicate that has the second client alone.
    fn average(weighting: Weighting) -> Vec<f32> {
        let cpu = Cpu::new(Some(1)).unwrap();
        let (a, b) = (vec![0; 1], vec![0; 3]);
        let member =
            |replicate, client, examples| Member { replicate, seed: 1, client, examples, steps: 1, longest: 1 };
        let members = [member(0, 0, a.as_slice()), member(1, 0, &b), member(0, 1, &b)];
        let models = [[1.0f32, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 0.0], [5.0, 6.0, 7.0, 0.0]];
        let mut fedavg = FedAvg::new(&cpu, weighting, 2, 4).unwrap();
        let global = cpu.alloc("global", 8).unwrap();
        fedavg.begin(&cpu, &members).unwrap();
        // Two waves: the sums stream.
        for (wave, models) in members.chunks(2).zip(models.chunks(2)) {
            let rows = upload(&cpu, "rows", bytemuck::cast_slice(models.as_flattened())).unwrap();
            fedavg.add(&cpu, rows.all(), wave).unwrap();
        }
        fedavg.finish(&cpu, &global).unwrap();
        let words = pollster::block_on(cpu.read(&[global.all()])).unwrap().remove(0);
        assert_eq!(f32s(&words[4..]), models[1], "a client alone is the mean");
        f32s(&words[..4]).to_vec()
    }

    #[test]
    fn uniform_is_the_plain_mean_and_examples_weights_by_size() {
        assert_eq!(average(Weighting::Uniform), [3.0, 4.0, 5.0, 2.0]);
        assert_eq!(average(Weighting::Examples), [4.0, 5.0, 6.0, 1.0]);
    }
}
