//! Federated averaging (McMahan et al. 2017, algorithm 1): the weighted mean of the clients' models.

use crate::config::Weighting;
use crate::device::{Buffer, Device, View};
use crate::error::Result;
use crate::federation::Member;
use crate::federation::examples::upload;
use crate::kernels::accumulate::{self, accumulate, grouped};

/// Models that are added one after the other. As many such sums are added to a sum of their own, and so on: what rounding
/// does to the mean then grows with the logarithm of the number of clients, not with their number (blocked summation,
/// Higham 1993). Clients' models are nearly equal, so that in one long sum most roundings go the same way.
const BLOCK: usize = 64;

/// Running weighted sums of models, one for each of the federations side by side.
#[derive(Debug)]
pub struct FedAvg {
    weighting: Weighting,
    words: usize,
    /// `[tiers][R][P]`: the sums of the last models, of the last blocks of them, of blocks of blocks...
    tiers: Vec<Buffer>,
    /// `[R]` times 1: what a block counts for.
    ones: Buffer,
    /// What the weights of each replicate's clients in this round sum to before they are divided by it.
    totals: Vec<f64>,
    /// Models added so far, of each replicate.
    added: Vec<usize>,
}

impl FedAvg {
    /// Sums at a time that a mean of the models of at most `clients` takes.
    pub fn sums(clients: usize) -> usize {
        1 + (1..).take_while(|tier| BLOCK.checked_pow(*tier).is_some_and(|models| models < clients)).count()
    }

    /// For `replicates` federations of at most `clients` in a round, whose models are rows of `words` parameters.
    ///
    /// # Errors
    /// What the device says.
    pub fn new(
        device: &dyn Device,
        weighting: Weighting,
        clients: usize,
        (replicates, words): (usize, usize),
    ) -> Result<Self> {
        let sums = |_| device.alloc("sums of models", replicates * words);
        Ok(Self {
            weighting,
            words,
            tiers: (0..Self::sums(clients)).map(sums).collect::<Result<_>>()?,
            ones: upload(device, "ones", &vec![1f32.to_bits(); replicates])?,
            totals: vec![0.0; replicates],
            added: vec![0; replicates],
        })
    }

    /// Of the sums, in bytes.
    pub fn bytes(&self) -> u64 {
        self.tiers.iter().map(Buffer::bytes).sum()
    }

    /// Starts a round of these members.
    ///
    /// # Errors
    /// What the device says.
    pub fn begin(&mut self, device: &dyn Device, round: &[Member<'_>]) -> Result<()> {
        self.totals.fill(0.0);
        self.added.fill(0);
        round.iter().for_each(|m| self.totals[m.replicate] += size(self.weighting, m));
        self.tiers.iter().try_for_each(|sums| device.clear(sums.all()))
    }

    /// Adds a wave's models, `[wave][P]`, in the wave's order.
    ///
    /// # Errors
    /// What the device says.
    pub fn add(&mut self, device: &dyn Device, models: View<'_>, wave: &[Member<'_>]) -> Result<()> {
        // A member's share of its replicate's mean; over a round they sum to 1.
        let share = |m: &Member<'_>| (size(self.weighting, m) / self.totals[m.replicate]) as f32;
        let scales: Vec<u32> = wave.iter().map(|m| share(m).to_bits()).collect();
        let scales = upload(device, "client weights", &scales)?;
        let mut left: Vec<(usize, usize)> = wave.iter().map(|m| m.replicate).enumerate().collect();
        while !left.is_empty() {
            // Of each replicate as many as its block still takes.
            let mut added = self.added.clone();
            let fits = |(_, replicate): &(usize, usize)| {
                let fits = added[*replicate] < (self.added[*replicate] / BLOCK + 1) * BLOCK;
                added[*replicate] += usize::from(fits);
                fits
            };
            let (now, later) = left.into_iter().partition::<Vec<_>, _>(fits);
            self.sum(device, (models, scales.all()), &now, 0)?;
            self.carry(device, &added)?;
            self.added = added;
            left = later;
        }
        Ok(())
    }

    /// Adds the sums of blocks that are full, now that `added` models are there, to the next tier.
    fn carry(&self, device: &dyn Device, added: &[usize]) -> Result<()> {
        let mut models = BLOCK;
        for tier in 1..self.tiers.len() {
            let full = |row: &usize| added[*row] > self.added[*row] && added[*row].is_multiple_of(models);
            self.fold(device, tier, &(0..added.len()).filter(full).collect::<Vec<_>>())?;
            models *= BLOCK;
        }
        Ok(())
    }

    /// Adds `rows` of the sums below `tier` to those of `tier`, and clears them.
    fn fold(&self, device: &dyn Device, tier: usize, rows: &[usize]) -> Result<()> {
        let below = &self.tiers[tier - 1];
        let slots: Vec<(usize, usize)> = rows.iter().map(|row| (*row, *row)).collect();
        self.sum(device, (below.all(), self.ones.all()), &slots, tier)?;
        rows.iter().try_for_each(|row| device.clear(below.view(row * self.words, self.words)))
    }

    /// Adds rows of `models`, each of `slots` to the sum of its replicate, in their order.
    fn sum(
        &self,
        device: &dyn Device,
        (models, scales): (View<'_>, View<'_>),
        slots: &[(usize, usize)],
        tier: usize,
    ) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let (starts, slots) = grouped(slots, self.totals.len());
        let (starts, slots) = (upload(device, "replicates", &starts)?, upload(device, "slots", &slots)?);
        let buffers = accumulate::Buffers {
            rows: models,
            scales,
            starts: starts.all(),
            slots: slots.all(),
            sums: self.tiers[tier].all(),
        };
        accumulate(device, self.words, &buffers)
    }

    /// The new global models, `[R][P]`, replace `global`; that of a replicate of which nobody took part stays.
    ///
    /// # Errors
    /// What the device says.
    pub fn finish(&self, device: &dyn Device, global: &Buffer) -> Result<()> {
        let rows: Vec<usize> = (0..self.totals.len()).filter(|row| self.totals[*row] > 0.0).collect();
        for tier in 1..self.tiers.len() {
            self.fold(device, tier, &rows)?;
        }
        let Some(sums) = self.tiers.last() else { return Ok(()) };
        for at in rows.iter().map(|row| row * self.words) {
            device.copy(sums.view(at, self.words), global.view(at, self.words))?;
        }
        Ok(())
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
    use crate::federation::OwnExamples;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    /// The mean of two clients, beside a replicate that has the second client alone.
    fn average(weighting: Weighting) -> Vec<f32> {
        let cpu = Cpu::new(Some(1)).unwrap();
        let (a, b) = (vec![0; 1], vec![0; 3]);
        let member =
            |replicate, client, examples| Member { replicate, seed: 1, client, examples, steps: 1, longest: 1 };
        let [a, b] = [a.as_slice(), &b].map(OwnExamples::Listed);
        let members = [member(0, 0, a), member(1, 0, b), member(0, 1, b)];
        let models = [[1.0f32, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 0.0], [5.0, 6.0, 7.0, 0.0]];
        let mut fedavg = FedAvg::new(&cpu, weighting, 3, (2, 4)).unwrap();
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

    /// What the federations' clients sent, and which of its own examples each counts.
    fn rounds() -> impl Strategy<Value = Vec<(usize, usize, Vec<f32>)>> {
        let model = prop::collection::vec(-10.0..10.0f32, 8);
        prop::collection::vec((0..3usize, 1..50usize, model), 1..400)
    }

    fn members(clients: &[(usize, usize, Vec<f32>)]) -> Vec<Member<'static>> {
        let member = |(client, (replicate, n, _)): (usize, &(usize, usize, Vec<f32>))| Member {
            replicate: *replicate,
            seed: 1,
            client,
            examples: OwnExamples::Listed(&[0; 50][..*n]),
            steps: 1,
            longest: 1,
        };
        clients.iter().enumerate().map(member).collect()
    }

    /// The sums of three federations after waves of at most `wave` clients, from other weights than zero.
    fn averaged(clients: &[(usize, usize, Vec<f32>)], weighting: Weighting, wave: usize) -> Vec<f32> {
        let cpu = Cpu::new(Some(1)).unwrap();
        let members = members(clients);
        let mut fedavg = FedAvg::new(&cpu, weighting, clients.len(), (3, 8)).unwrap();
        let global = upload(&cpu, "global", bytemuck::cast_slice(&[0.5f32; 24])).unwrap();
        fedavg.begin(&cpu, &members).unwrap();
        for (members, models) in members.chunks(wave).zip(clients.chunks(wave)) {
            let rows: Vec<f32> = models.iter().flat_map(|(.., model)| model).copied().collect();
            let rows = upload(&cpu, "rows", bytemuck::cast_slice(&rows)).unwrap();
            fedavg.add(&cpu, rows.all(), members).unwrap();
        }
        fedavg.finish(&cpu, &global).unwrap();
        f32s(&pollster::block_on(cpu.read(&[global.all()])).unwrap()[0]).to_vec()
    }

    /// Models that nobody changed come back as they were, but for the rounding of few operations, however many they are: in
    /// one sum of so many, errors of 1e-5 and more add up.
    #[test]
    fn the_mean_of_many_equal_models_is_that_model() {
        assert_eq!([1, 64, 65, 4096, 4097, 262_145].map(FedAvg::sums), [1, 1, 2, 2, 3, 4]);
        let model: Vec<f32> = (0..8).map(|i| 0.0123 + 0.31 * i as f32).collect();
        let clients = vec![(0, 1, model.clone()); 4500];
        let mean = averaged(&clients, Weighting::Uniform, 700);
        assert_eq!(averaged(&clients, Weighting::Uniform, 64), mean);
        for (got, model) in mean.iter().zip(&model) {
            assert!((got / model - 1.0).abs() < 3e-6, "{got} instead of {model}");
        }
    }

    /// Blocks begin anew in each round, as they do in a run that is gone on with.
    #[test]
    fn a_mean_is_the_same_bits_whatever_rounds_were_before_it() {
        let cpu = Cpu::new(Some(1)).unwrap();
        // 100 models are a block and a part of one.
        let model =
            |seed: usize| -> Vec<f32> { (0..8).map(|i| ((seed * 37 + i * 11) % 101) as f32 / 7.0 - 5.0).collect() };
        let clients: Vec<(usize, usize, Vec<f32>)> = (0..100).map(|n| (0, n % 9 + 1, model(n))).collect();
        let members = members(&clients);
        let rows: Vec<f32> = clients.iter().flat_map(|(.., model)| model).copied().collect();
        let rows = upload(&cpu, "rows", bytemuck::cast_slice(&rows)).unwrap();
        let mut fedavg = FedAvg::new(&cpu, Weighting::Examples, 100, (1, 8)).unwrap();
        let global = cpu.alloc("global", 8).unwrap();
        let mut means = Vec::new();
        for of in [100, 30, 100] {
            fedavg.begin(&cpu, &members[..of]).unwrap();
            fedavg.add(&cpu, rows.view(0, 8 * of), &members[..of]).unwrap();
            fedavg.finish(&cpu, &global).unwrap();
            means.push(pollster::block_on(cpu.read(&[global.all()])).unwrap().remove(0));
        }
        assert!(means[0] == means[2] && means[0] != means[1], "{means:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 100, rng_seed: RngSeed::Fixed(20), failure_persistence: None, ..ProptestConfig::default()
        })]

        /// Against the weighted mean in float64; the waves change no bit, and a federation without clients stays.
        #[test]
        fn averages_are_those_of_float64(clients in rounds(), uniform: bool, wave in 1..200usize) {
            let weighting = if uniform { Weighting::Uniform } else { Weighting::Examples };
            let got = averaged(&clients, weighting, wave);
            prop_assert_eq!(&averaged(&clients, weighting, clients.len()), &got);
            for (replicate, got) in got.chunks(8).enumerate() {
                let own = clients.iter().filter(|(of, ..)| *of == replicate);
                let weigh = |n: usize| if uniform { 1.0 } else { n as f64 };
                let total: f64 = own.clone().map(|(_, n, _)| weigh(*n)).sum();
                for (i, got) in got.iter().enumerate() {
                    let sum: f64 = own.clone().map(|(_, n, model)| weigh(*n) * f64::from(model[i])).sum();
                    let mean = if total > 0.0 { sum / total } else { 0.5 };
                    prop_assert!((f64::from(*got) - mean).abs() <= 2e-5, "{} instead of {}", got, mean);
                }
            }
        }
    }
}
