//! How a federation's clients train where those of others beside it may train otherwise: learning rate and sparsity.

use super::Member;
use crate::config::{Experiment, Optimizer, Sparsity};
use crate::kernels::adam::Adam;
use crate::model::{Density, Network};

/// One federation's.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Learning rate.
    pub lr: f64,
    /// Of federations side by side, `min_alive` is the same.
    pub sparsity: Sparsity,
}

impl Recipe {
    /// Of an experiment's federations.
    pub fn of(experiment: &Experiment) -> Self {
        Self { lr: experiment.training.lr, sparsity: experiment.sparsity.clone() }
    }

    /// The sparsity that a client of `steps` steps is pruned to after step `step`: s_t = S (t / A) for t < A =
    /// int(anneal T), then S; in double precision and in this order, as the paper's code has it.
    fn scheduled(&self, steps: usize, step: usize) -> f64 {
        let (target, ramp) = (self.sparsity.target, (self.sparsity.anneal * steps as f64) as usize);
        if step < ramp { target * (step as f64 / ramp as f64) } else { target }
    }

    /// Of weights as the prune after step `step` leaves them, where the client takes `steps` steps.
    fn density(&self, network: &Network, steps: usize, step: usize) -> Density {
        Density::pruned(network, self.scheduled(steps, step), self.sparsity.min_alive)
    }
}

/// Those of the federations side by side, by replicate; one at least.
#[derive(Clone, Debug)]
pub(super) struct Recipes(Vec<Recipe>);

impl Recipes {
    pub fn new(all: Vec<Recipe>) -> Self {
        assert!(!all.is_empty(), "one federation at least");
        Self(all)
    }

    /// Whether there is anything to prune. Where one of several federations prunes, all weights of the others are kept.
    pub fn prune(&self) -> bool {
        self.0.iter().any(|recipe| recipe.sparsity.target > 0.0)
    }

    /// The floor of every convolution filter.
    pub fn min_alive(&self) -> usize {
        self.0[0].sparsity.min_alive
    }

    /// Of the trained local models that have the most weights left.
    pub fn trained(&self, network: &Network) -> Density {
        let all = self.0.iter().map(|recipe| Density::trained(network, &recipe.sparsity));
        all.reduce(|most, other| most.densest(&other)).unwrap_or_else(|| Density::full(network))
    }

    /// `[steps + 1][wave][tensors]`: survivors that each tensor keeps after each step, and once more at the end.
    ///
    /// keep = max(1, int((1 - s) n)), in double precision and in this order, as the paper's code has it.
    pub fn keeps(&self, wave: &[Member<'_>], steps: usize, tensors: &[usize]) -> Vec<u32> {
        let mut keeps = Vec::with_capacity((steps + 1) * wave.len() * tensors.len());
        for step in 0..=steps {
            for member in wave {
                let s = self.0[member.replicate].scheduled(member.steps, step);
                keeps.extend(tensors.iter().map(|n| (((1.0 - s) * *n as f64) as u32).max(1)));
            }
        }
        keeps
    }

    /// As bits, how far each member goes in a step along what the optimiser makes of its gradient: for Adam
    /// `[steps][wave]`, for SGD, whose rate stays the same, `[wave]`.
    pub fn step_sizes(&self, wave: &[Member<'_>], optimizer: Optimizer, steps: usize) -> Vec<u32> {
        let rates = || wave.iter().map(|member| self.0[member.replicate].lr);
        match optimizer {
            Optimizer::Sgd { .. } => rates().map(|lr| (lr as f32).to_bits()).collect(),
            Optimizer::Adam => {
                let sizes = |step| rates().map(move |lr| Adam::default().step_size(lr, step).to_bits());
                (1..=steps as u32).flat_map(sizes).collect()
            }
        }
    }

    /// The ramps of a wave.
    pub fn ramps(&self, wave: &[Member<'_>]) -> Ramps<'_> {
        let mut ramps: Vec<(&Recipe, usize)> = Vec::new();
        for (recipe, longest) in wave.iter().map(|m| (&self.0[m.replicate], m.longest)) {
            if !ramps.iter().any(|(of, steps)| of.sparsity == recipe.sparsity && *steps == longest) {
                ramps.push((recipe, longest));
            }
        }
        Ramps(ramps)
    }
}

/// How the sparsity of a wave's members rises: each different ramp once, of the client with the longest in its replicate,
/// whether that is in the wave or not.
pub(super) struct Ramps<'a>(Vec<(&'a Recipe, usize)>);

impl Ramps<'_> {
    /// Of the weights with which step `step` begins, those of the client that has the most left; `None` before anything
    /// is pruned.
    pub fn before(&self, network: &Network, step: usize) -> Option<Density> {
        let before = step.checked_sub(1)?;
        let all = self.0.iter().map(|(recipe, longest)| recipe.density(network, *longest, before));
        all.reduce(|most, other| most.densest(&other))
    }
}

#[cfg(test)]
mod tests {
    use super::super::OwnExamples;
    use super::*;
    use crate::model::SpecKind;

    fn recipes() -> Recipes {
        let recipe = |lr, target, anneal| Recipe { lr, sparsity: Sparsity { target, anneal, min_alive: 4 } };
        Recipes::new(vec![recipe(0.5, 0.0, 0.5), recipe(0.25, 0.75, 0.5), recipe(0.25, 0.75, 0.0)])
    }

    fn wave(of: &[(usize, usize)]) -> Vec<Member<'static>> {
        let member = |(replicate, steps)| Member {
            replicate,
            seed: 1,
            client: 0,
            examples: OwnExamples::Listed(&[]),
            steps,
            longest: steps,
        };
        of.iter().copied().map(member).collect()
    }

    #[test]
    fn each_member_keeps_what_its_own_federation_says() {
        // 0.75 is reached after half of four steps; int(6.25) and int(2.5) of ten weights are left.
        let keeps = recipes().keeps(&wave(&[(0, 4), (1, 4), (2, 2)]), 4, &[10]);
        assert_eq!(keeps, [[10, 10, 2], [10, 6, 2], [10, 2, 2], [10, 2, 2], [10, 2, 2]].concat());
    }

    #[test]
    fn each_member_steps_at_its_own_federations_rate() {
        let (recipes, wave) = (recipes(), wave(&[(1, 2), (0, 2)]));
        let floats = |words: Vec<u32>| words.into_iter().map(f32::from_bits).collect::<Vec<_>>();
        let sgd = Optimizer::Sgd { momentum: 0.0, weight_decay: 0.0 };
        assert_eq!(floats(recipes.step_sizes(&wave, sgd, 2)), [0.25, 0.5]);
        // 1 - 0.9, then 1 - 0.81.
        let want = [2.5, 5.0, 0.25 / 0.19, 0.5 / 0.19];
        let got = floats(recipes.step_sizes(&wave, Optimizer::Adam, 2));
        assert!(got.len() == 4 && got.iter().zip(want).all(|(g, w)| (f64::from(*g) - w).abs() < 1e-6), "{got:?}");
    }

    #[test]
    fn a_wave_has_each_ramp_once() {
        let recipes = recipes();
        let count = |of| recipes.ramps(&wave(of)).0.len();
        assert_eq!((count(&[(1, 4), (1, 4)]), count(&[(1, 4), (2, 4), (1, 6)]), count(&[])), (1, 3, 0));
    }

    /// s_t = S (t / A) for t < A = int(anneal T), then S, by each client's own T; and at least one weight stays.
    #[test]
    fn a_client_is_pruned_along_the_ramp_of_its_own_steps() {
        let recipe = Recipe { lr: 0.1, sparsity: Sparsity { target: 0.8, anneal: 0.5, min_alive: 4 } };
        // Of 7 steps the ramp takes int(3.5) = 3, of 3 steps one.
        let ramp = |steps| -> Vec<f64> { (0..=4).map(|step| recipe.scheduled(steps, step)).collect() };
        let near = |got: Vec<f64>, want: [f64; 5]| got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-12);
        assert!(near(ramp(7), [0.0, 0.8 / 3.0, 1.6 / 3.0, 0.8, 0.8]), "{:?}", ramp(7));
        assert!(near(ramp(3), [0.0, 0.8, 0.8, 0.8, 0.8]), "{:?}", ramp(3));
        let mut wave = wave(&[(0, 7), (0, 3)]);
        wave.iter_mut().for_each(|member| member.longest = 7);
        let keeps = Recipes::new(vec![recipe]).keeps(&wave, 7, &[3]);
        // int(3), int(2.2), int(1.4), and of 0.6 one; the shorter client's after its first step.
        assert_eq!(keeps[..8], [3, 3, 2, 1, 1, 1, 1, 1]);
    }

    /// Where one of several federations prunes, all are gone through; and the densest says what may be left.
    #[test]
    fn the_federation_that_keeps_most_decides_what_a_wave_may_hold() {
        let network = network();
        let recipe = |target| Recipe { lr: 0.1, sparsity: Sparsity { target, anneal: 0.5, min_alive: 0 } };
        for order in [[0.9, 0.99, 0.995], [0.995, 0.9, 0.99], [0.99, 0.995, 0.9]] {
            let recipes = Recipes::new(order.map(recipe).to_vec());
            assert_eq!(recipes.trained(&network), Density::pruned(&network, 0.9, 0), "{order:?}");
            let all = wave(&[(0, 4), (1, 4), (2, 4)]);
            assert_eq!(recipes.ramps(&all).before(&network, 3), Some(Density::pruned(&network, 0.9, 0)), "{order:?}");
            assert_eq!(recipes.ramps(&all).before(&network, 0), None);
        }
        assert!(Recipes::new([0.0, 0.9].map(recipe).to_vec()).prune());
        assert!(Recipes::new([0.9, 0.0].map(recipe).to_vec()).prune());
        assert!(!Recipes::new([0.0, 0.0].map(recipe).to_vec()).prune());
    }

    /// The ramp is that of the replicate's longest client, whether that is in the wave or not.
    #[test]
    fn a_wave_without_its_longest_client_waits_for_it() {
        let (network, recipe) =
            (network(), |target| Recipe { lr: 0.1, sparsity: Sparsity { target, anneal: 1.0, min_alive: 0 } });
        let recipes = Recipes::new(vec![recipe(0.8)]);
        let mut wave = wave(&[(0, 2)]);
        wave[0].longest = 8;
        // After step 1 a client of 8 steps has a sparsity of 0.8 / 8.
        assert_eq!(recipes.ramps(&wave).before(&network, 2), Some(Density::pruned(&network, 0.1, 0)));
    }

    fn network() -> Network {
        super::super::local::tests::network(&[
            SpecKind::Conv { channels: 32, kernel: 3, padding: 1, pool: 2 },
            SpecKind::Conv { channels: 64, kernel: 3, padding: 1, pool: 2 },
            SpecKind::Linear { features: 10 },
        ])
    }
}
