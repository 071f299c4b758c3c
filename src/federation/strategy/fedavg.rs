//! Federated averaging (McMahan et al. 2017, algorithm 1): the weighted mean of the clients' models.

use crate::config::Weighting;
use crate::device::{Buffer, Device, View};
use crate::error::Result;
use crate::federation::Member;
use crate::federation::examples::upload;
use crate::kernels::accumulate::accumulate;
use crate::kernels::shape::Rows;
use crate::model::Density;

/// A running weighted sum of models.
#[derive(Debug)]
pub struct FedAvg {
    weighting: Weighting,
    sum: Buffer,
}

impl FedAvg {
    /// For rows of `words` parameters.
    ///
    /// # Errors
    /// What the device says.
    pub fn new(device: &dyn Device, weighting: Weighting, words: usize) -> Result<Self> {
        Ok(Self { weighting, sum: device.alloc("sum of models", words)? })
    }

    /// Starts a round.
    ///
    /// # Errors
    /// What the device says.
    pub fn begin(&self, device: &dyn Device) -> Result<()> {
        device.clear(self.sum.all())
    }

    /// Adds a wave's models, `[wave][P]`, in the wave's order. `round` are all members of the round.
    ///
    /// # Errors
    /// What the device says.
    pub fn add(&self, device: &dyn Device, models: View<'_>, wave: &[Member<'_>], round: &[Member<'_>]) -> Result<()> {
        let weights = self.weights(wave, round);
        let words: Vec<u32> = weights.iter().map(|w| w.to_bits()).collect();
        let scales = upload(device, "client weights", &words)?;
        let rows = Rows { slots: wave.len(), words: self.sum.words() };
        accumulate(device, rows, models, scales.all(), self.sum.all())
    }

    /// The new global model replaces `global`.
    ///
    /// # Errors
    /// What the device says.
    pub fn finish(&self, device: &dyn Device, global: &Buffer) -> Result<()> {
        device.copy(self.sum.all(), global.all())
    }

    /// Of the new global model of `clients` local models of density `local`: a mean is zero where all of them are.
    pub fn density(&self, local: &Density, clients: usize) -> Density {
        local.of_mean(clients)
    }

    /// Each member's share of the mean; over a round they sum to 1.
    fn weights(&self, wave: &[Member<'_>], round: &[Member<'_>]) -> Vec<f32> {
        let size = |m: &Member<'_>| match self.weighting {
            Weighting::Uniform => 1.0,
            Weighting::Examples => m.examples.len() as f64,
        };
        let total: f64 = round.iter().map(size).sum();
        wave.iter().map(|m| (size(m) / total) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Cpu, f32s};

    fn average(weighting: Weighting) -> Vec<f32> {
        let cpu = Cpu::new(Some(1)).unwrap();
        let (a, b) = (vec![0; 1], vec![0; 3]);
        let member = |client, examples| Member { replicate: 0, seed: 1, client, examples, steps: 1 };
        let members = [member(0, a.as_slice()), member(1, b.as_slice())];
        let models = [[1.0f32, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 0.0]];
        let fedavg = FedAvg::new(&cpu, weighting, 4).unwrap();
        let global = cpu.alloc("global", 4).unwrap();
        fedavg.begin(&cpu).unwrap();
        // One wave a client: the sum streams.
        for (i, member) in members.iter().enumerate() {
            let row = upload(&cpu, "row", bytemuck::cast_slice(&models[i])).unwrap();
            fedavg.add(&cpu, row.all(), &[*member], &members).unwrap();
        }
        fedavg.finish(&cpu, &global).unwrap();
        f32s(&pollster::block_on(cpu.read(&[global.all()])).unwrap()[0]).to_vec()
    }

    #[test]
    fn uniform_is_the_plain_mean_and_examples_weights_by_size() {
        assert_eq!(average(Weighting::Uniform), [3.0, 4.0, 5.0, 2.0]);
        assert_eq!(average(Weighting::Examples), [4.0, 5.0, 6.0, 1.0]);
    }
}
