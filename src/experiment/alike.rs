//! Which experiments may share waves: those whose kernels are the same calls over buffers of the same shapes.

use crate::config::{Experiment, Partition, Seeds, Sparsity};
use crate::device::DeviceInfo;
use crate::error::{Error, Result};
use crate::model::{Density, Network};

/// Whether the two, whose networks are the same, may run side by side on a device without one bit that is other than alone.
///
/// On the CPU engine a pass over survivors rounds otherwise than a dense one, so that both have to change from one to the
/// other in the same step. On a GPU they give the same bits, and a wave passes over the survivors where all its networks
/// are sparse enough: lest one loses by it, the trained local networks have to be so in the same layers.
pub(super) fn alike(info: &DeviceInfo, network: &Network, a: &Experiment, b: &Experiment) -> bool {
    let sparse = |e: &Experiment| Density::trained(network, &e.sparsity).sparse(network, info);
    shape(a) == shape(b) && if info.kind == "cpu" { a.sparsity == b.sparsity } else { sparse(a) == sparse(b) }
}

/// What has to be equal: the experiment without all that its replicates have of their own.
fn shape(experiment: &Experiment) -> Experiment {
    let mut shape = experiment.clone();
    shape.name = String::new();
    shape.seeds = Seeds::one(0);
    shape.partition = Partition::Iid { num_clients: experiment.partition.num_clients() };
    shape.training.lr = 1.0;
    shape.sparsity = Sparsity { target: 0.0, anneal: 0.0, ..shape.sparsity };
    shape
}

/// Refuses experiments that are not alike.
pub(super) fn check_alike(info: &DeviceInfo, network: &Network, experiments: &[&Experiment]) -> Result<()> {
    match experiments.iter().find(|other| !alike(info, network, experiments[0], other)) {
        None => Ok(()),
        Some(other) => {
            let problem = format!("cannot share waves with {}", experiments[0].name);
            let help =
                "accepted: experiments that differ in seeds, partition, training.lr and, on a GPU, sparsity alone";
            Err(Error::config(other.name.as_str(), problem, help))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Override, load};
    use crate::data::blank;
    use crate::device::{Cpu, Device};
    use crate::experiment::inputs::network;

    const BASE: &str = "name = \"a\"\ndata = { source = \"digits\" }\npartition = { kind = \"iid\", num_clients = 4 }\n\
                        sparsity = { target = 0.99 }\n";

    fn experiment(sets: &[&str]) -> Experiment {
        let sets: Vec<_> = sets.iter().map(|set| Override::parse(set).unwrap()).collect();
        load(BASE, "a.toml", &sets).unwrap().variants.remove(0).experiment
    }

    #[test]
    fn what_changes_a_shape_or_a_pass_parts_experiments() {
        let cpu = Cpu::new(Some(1)).unwrap();
        let gpu = DeviceInfo { kind: "gpu", ..cpu.info().clone() };
        let base = experiment(&[]);
        let network = network(&base, &blank(10, 10, 10)).unwrap();
        for (set, on_cpu, on_gpu) in [
            ("name=\"b\"", true, true),
            ("seeds=[4, 5]", true, true),
            ("training.lr=0.5", true, true),
            ("partition={ kind = \"dirichlet\", num_clients = 4, alpha = 0.1 }", true, true),
            ("sparsity.anneal=0.25", false, true),
            ("sparsity.target=0.995", false, true),
            // Dense in the end, and dense in the last layer.
            ("sparsity.target=0", false, false),
            ("sparsity.target=0.95", false, false),
            ("sparsity.min_alive=5", false, false),
            ("partition.num_clients=5", false, false),
            ("cohort.clients_per_round=2", false, false),
            ("rounds=11", false, false),
            ("training.batch_size=8", false, false),
            ("training.local_epochs=1", false, false),
            ("training.optimizer=\"sgd\"", false, false),
            ("strategy={ kind = \"fedavg\", weighting = \"uniform\" }", false, false),
            ("model.preset=\"mlp-2nn\"", false, false),
            ("circuits={}", false, false),
            ("data.train_examples=400", false, false),
            ("output.save_every=1", false, false),
            ("device.max_wave=2", false, false),
        ] {
            let other = experiment(&[set]);
            let found = [cpu.info(), &gpu].map(|info| alike(info, &network, &base, &other));
            assert_eq!(found, [on_cpu, on_gpu], "{set}");
        }
    }

    #[test]
    fn the_experiment_that_does_not_fit_is_named() {
        let cpu = Cpu::new(Some(1)).unwrap();
        let (base, other) = (experiment(&[]), experiment(&["name=\"b\"", "rounds=3"]));
        let network = network(&base, &blank(10, 10, 10)).unwrap();
        let error = check_alike(cpu.info(), &network, &[&base, &base, &other]).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("b: cannot share waves with a"), "{error}");
    }
}
