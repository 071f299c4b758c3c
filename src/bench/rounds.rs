//! Training and whole rounds, through the library's own door.

use std::path::Path;
use std::time::Duration;

use super::sample::{Effort, Runs, Spread, measure};
use crate::config::{Experiment, Override, load, presets};
use crate::device::Device;
use crate::error::Result;
use crate::experiment::{Federation, layer_specs, load_data};
use crate::kernels::shape::Linear;
use crate::model::{Input, Network, Op, chain};
use crate::report::Seconds;

/// Clients that train side by side.
#[derive(Clone, Copy, Debug)]
pub struct Training {
    /// How many.
    pub clients: usize,
    /// Images of a client's batch.
    pub batch: usize,
    /// Steps of a round.
    pub steps: usize,
}

impl Training {
    /// The network of the arXiv paper on drawn digits, dense, with Adam.
    fn experiment(&self) -> Result<Experiment> {
        let Self { clients, batch, steps } = self;
        let text = format!(
            "name = \"training\"\n\
             data = {{ source = \"digits\", train_examples = {}, test_examples = 16 }}\n\
             partition = {{ kind = \"iid\", num_clients = {clients} }}\n\
             model = {{ preset = \"simple-cnn\" }}\n\
             training = {{ local_epochs = 1, batch_size = {batch}, optimizer = \"adam\", lr = 0.001 }}\n",
            clients * batch * steps,
        );
        Ok(load(&text, "the benchmark's experiment", &[])?.variants.remove(0).experiment)
    }

    /// Images of one step of all clients.
    pub fn images(&self) -> u64 {
        (self.clients * self.batch) as u64
    }

    /// Hands `then` the work, prepared on the device: it runs so many rounds and says how long one step of each took
    /// together (a round's training and averaging, by its steps).
    ///
    /// # Errors
    /// What the device says, and those of `then`.
    pub fn with<T>(&self, device: &dyn Device, then: impl FnOnce(Runs<'_>) -> Result<T>) -> Result<T> {
        rounds(device, &self.experiment()?, |seconds| seconds.train / self.steps as f64, then)
    }
}

/// The arXiv paper's network, for images of 28 x 28 in ten classes.
///
/// # Errors
/// None, unless the preset `simple-cnn` no longer fits such images.
pub fn simple_cnn() -> Result<Network> {
    let input = Input { channels: 1, height: 28, width: 28 };
    let experiment = Training { clients: 1, batch: 1, steps: 1 }.experiment()?;
    Ok(Network::new(chain(&layer_specs(&experiment.model), input, 10)?, input, 10))
}

/// Floating-point operations of a dense training step with one image: every layer's forward pass and gradient of its
/// weights, and the gradient of the input of all layers but the first.
pub fn training_flops(network: &Network) -> u64 {
    let passes = |i: usize| if i == 0 { 2 } else { 3 };
    let flops = |op: &Op| match op {
        Op::Conv(conv) => conv.flops(),
        Op::Linear(Linear { inputs, outputs, .. }) => 2 * (inputs * outputs) as u64,
    };
    network.layers.iter().enumerate().map(|(i, layer)| passes(i) * flops(&layer.op)).sum()
}

/// Seconds of a round of the preset `quickstart` with equal shares: training, circuits, evaluation.
///
/// # Errors
/// What the device says.
pub fn quickstart(device: &dyn Device, effort: Effort, quick: bool) -> Result<Spread> {
    let tiny = ["data.train_examples=60", "data.test_examples=30", "training.local_epochs=1", "circuits.steps=2"];
    let set = tiny.iter().filter(|_| quick).map(|set| Override::parse(set)).collect::<Result<Vec<_>>>()?;
    let plan = presets::get("quickstart")?.load(&set)?;
    rounds(device, &plan.variants[0].experiment, |seconds| seconds.total, |runs| measure(effort, runs))
}

/// Hands `then` the rounds of an experiment, of each of which `part` is timed.
fn rounds<T>(
    device: &dyn Device,
    experiment: &Experiment,
    part: impl Fn(&Seconds) -> f64,
    then: impl FnOnce(Runs<'_>) -> Result<T>,
) -> Result<T> {
    // The digits are drawn: no folder is looked into.
    let (dataset, _) = load_data(&experiment.data, Path::new(""))?;
    let mut federation = Federation::new(device, experiment, &dataset)?;
    then(&mut |repeats| {
        let mut seconds = 0.0;
        for _ in 0..repeats {
            seconds += federation.round()?.iter().map(|outcome| part(&outcome.record.seconds)).sum::<f64>();
        }
        Ok(Duration::from_secs_f64(seconds))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_papers_network_is_40_million_operations_an_image() {
        let network = simple_cnn().unwrap();
        // By hand, forward: 2*9*32*784 + 2*288*64*196 + 2*576*128*36 + 2*1152*10.
        let (conv1, conv2, conv3, fc) = (451_584, 7_225_344, 5_308_416, 23_040);
        assert_eq!(training_flops(&network), 2 * conv1 + 3 * (conv2 + conv3 + fc));
    }

    /// The time of one step, not of all; and as many examples as those steps take.
    #[test]
    fn steps_are_timed_one_by_one() {
        let training = Training { clients: 2, batch: 3, steps: 12 };
        assert_eq!(training.images(), 6);
        assert_eq!(training.experiment().unwrap().data.train_examples, Some(72));
        let cpu = crate::device::Cpu::new(Some(1)).unwrap();
        let (step, all) = training
            .with(&cpu, |runs| {
                let start = std::time::Instant::now();
                Ok((runs(2)?, start.elapsed()))
            })
            .unwrap();
        assert!(12 * step <= all, "{step:?} a step, {all:?} in all");
    }
}
