//! The experiment: what is simulated, as plain data. Every key of the TOML is a field here, documented with its default
//! and its range; `read.rs` turns text into these structs and refuses everything else.

#[cfg(test)]
mod accepted;
mod analysis;
mod bytes;
pub mod catalogue;
mod circuits;
mod cohort;
mod keys;
mod model;
mod overrides;
mod plan;
pub mod presets;
mod read;
#[cfg(test)]
mod refusals;
mod seeds;
mod sweep;

use std::path::PathBuf;

use serde::Serialize;

pub use analysis::Analysis;
pub use bytes::Bytes;
pub use circuits::{
    Ablation, CircuitClasses, CircuitClients, CircuitSize, Circuits, Controls, EdgeUnit, Measures, Method, Thresholds,
};
pub use cohort::{Cohort, Sampling};
pub(crate) use keys::{did_you_mean, nearest};
pub use model::{Activation, Architecture, Layer, LayerKind, Model, ModelPreset};
pub use overrides::Override;
pub use plan::{LONGEST, Plan, Variant, check_size, load};
pub use seeds::{Seeds, names_seed};

use crate::{Error, Result};

/// One federation, or one for each of several seeds, with every default filled in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Experiment {
    /// Names the run and its folder: letters, digits, `-`, `_` and `.`. Required.
    pub name: String,
    /// The roots of all random draws: `seed` or `seeds`. Default 0.
    #[serde(flatten)]
    pub seeds: Seeds,
    /// Rounds of training and averaging. Default 10.
    pub rounds: usize,
    /// What the clients learn from.
    pub data: Data,
    /// Which client owns which examples.
    pub partition: Partition,
    /// Which clients take part in a round.
    pub cohort: Cohort,
    /// The network.
    pub model: Model,
    /// What a client does in a round.
    pub training: Training,
    /// How the clients prune.
    pub sparsity: Sparsity,
    /// How updates become the next global model.
    pub strategy: Strategy,
    /// How circuits are found; without the section they are not looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuits: Option<Circuits>,
    /// Limits on the machine's use. None of them changes a result.
    pub device: Device,
    /// What is written beside the figures.
    pub output: Output,
}

impl Experiment {
    /// The experiment of one of its seeds, which gives the same federation alone.
    pub fn with_seed(&self, seed: u64) -> Self {
        Self { seeds: Seeds::one(seed), ..self.clone() }
    }

    /// The resolved configuration, every default spelled out: reading it again gives an equal experiment.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| {
            Error::config(
                self.name.as_str(),
                format!("cannot be written as TOML: {error}"),
                "this is a fault in fedcircuit",
            )
        })
    }
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Data {
    /// The data set. Required.
    pub source: Source,
    /// What to use when the source's files are not found; without it, the run stops and says how to get them. A
    /// fallback to the source itself is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Source>,
    /// Training examples: how many digits to draw (default 12000), or how many of a file's first examples to keep
    /// (default all).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_examples: Option<usize>,
    /// The same for the test examples (digits: default 2000).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_examples: Option<usize>,
}

/// A data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// LeCun's handwritten digits, from IDX files.
    Mnist,
    /// Digits drawn by the program itself, with no download.
    Digits,
}

impl Source {
    /// Every source, by the name the TOML gives it.
    pub const ALL: [(&'static str, Source); 2] =
        [(Source::Mnist.name(), Source::Mnist), (Source::Digits.name(), Source::Digits)];

    /// As the TOML has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mnist => "mnist",
            Self::Digits => "digits",
        }
    }

    /// How many classes the source has.
    pub fn classes(self) -> usize {
        match self {
            Source::Mnist | Source::Digits => 10,
        }
    }
}

impl Data {
    /// What to read when the source's files are missing, where the experiment allows it.
    pub fn fallen_back(&self) -> Option<Data> {
        let source = self.fallback?;
        Some(Data { source, fallback: None, ..self.clone() }.with_defaults())
    }

    /// Digits are drawn, so that "all of them" must be a number: a fifth of MNIST's, enough for the paper's network.
    fn with_defaults(mut self) -> Self {
        if self.source == Source::Digits {
            self.train_examples.get_or_insert(12_000);
            self.test_examples.get_or_insert(2_000);
        }
        self
    }
}

/// `[partition]`: `kind` and that kind's own keys. Definitions as Flower Datasets has them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Partition {
    /// Shuffled and dealt in equal parts.
    Iid {
        /// Clients. Required.
        num_clients: usize,
    },
    /// Per class, the clients' shares are drawn from Dir(alpha): small alpha, few classes a client.
    Dirichlet {
        /// Clients. Required.
        num_clients: usize,
        /// Concentration, above 0. Required.
        alpha: f64,
        /// The draw is repeated until the smallest client has so many examples. Default 10.
        min_partition_size: usize,
        /// Clients that already have more than their even share get nothing of the classes that follow. Default false.
        self_balancing: bool,
    },
    /// Per client, the classes' shares are drawn from Dir(alpha): small alpha, few classes a client, and all clients as large.
    InnerDirichlet {
        /// Clients. Required.
        num_clients: usize,
        /// Concentration, above 0. Required.
        alpha: f64,
        /// Examples of each client. Without it, all are dealt in equal parts.
        #[serde(skip_serializing_if = "Option::is_none")]
        examples_per_client: Option<usize>,
    },
    /// A client owns every training example of its classes; shared classes are duplicated.
    ByClass {
        /// One list of classes a client. Required.
        classes: Vec<Vec<u32>>,
    },
    /// Each client holds a few classes, and each class is split evenly between its holders.
    Pathological {
        /// Clients. Required.
        num_clients: usize,
        /// Classes a client holds. Required.
        classes_per_client: usize,
        /// Who gets which classes. Default random.
        assignment: Assignment,
    },
    /// Sorted by label, cut into equal chunks, the chunks dealt at random (McMahan et al., 2017).
    Shards {
        /// Clients. Required.
        num_clients: usize,
        /// Chunks a client gets. Required.
        shards_per_client: usize,
        /// Examples in a chunk. Required.
        shard_size: usize,
    },
    /// Each client draws its examples with replacement, the same in every round, when it first takes part: there may be more
    /// clients than examples.
    Bootstrap {
        /// Clients. Required.
        num_clients: usize,
        /// Examples of each client. Required.
        examples_per_client: usize,
        /// Concentration, above 0, of a Dirichlet over classes for each client: small alpha, few classes a client. Without
        /// it, all examples are equally likely.
        #[serde(skip_serializing_if = "Option::is_none")]
        alpha: Option<f64>,
    },
}

impl Partition {
    /// How many clients there are.
    pub fn num_clients(&self) -> usize {
        match self {
            Partition::ByClass { classes } => classes.len(),
            Partition::Iid { num_clients }
            | Partition::Dirichlet { num_clients, .. }
            | Partition::InnerDirichlet { num_clients, .. }
            | Partition::Pathological { num_clients, .. }
            | Partition::Shards { num_clients, .. }
            | Partition::Bootstrap { num_clients, .. } => *num_clients,
        }
    }
}

/// How a pathological partition deals classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Assignment {
    /// Each client's classes are drawn.
    Random,
    /// Client k holds classes k, k+1, ... modulo the number of classes.
    Deterministic,
    /// Client k's first class is k modulo the number of classes, the others are drawn.
    FirstDeterministic,
}

/// `[training]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Training {
    /// Passes over a client's examples in each round. Default 5.
    pub local_epochs: usize,
    /// Examples a step; a last, smaller batch is kept. Default 256.
    pub batch_size: usize,
    /// The optimiser, fresh in every round: `optimizer` and that optimiser's own keys. Default adam.
    #[serde(flatten)]
    pub optimizer: Optimizer,
    /// Learning rate, above 0. Default 0.001.
    pub lr: f64,
}

/// The optimiser of local training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "optimizer", rename_all = "lowercase")]
pub enum Optimizer {
    /// Adam with betas 0.9 and 0.999 and epsilon 1e-8.
    Adam,
    /// Stochastic gradient descent, as PyTorch's.
    Sgd {
        /// Heavy-ball momentum, in [0, 1). Default 0.
        momentum: f64,
        /// L2 penalty added to the gradient. Default 0.
        weight_decay: f64,
    },
}

/// `[sparsity]`: magnitude pruning after each local step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sparsity {
    /// Share of each weight tensor that ends up zero, as far as `min_alive` lets it, in [0, 1). Default 0, which trains dense.
    pub target: f64,
    /// Share of a client's steps over which sparsity ramps up from 0, in [0, 1]. Default 0.5.
    pub anneal: f64,
    /// Each convolution filter keeps at least so many of its weights: of n in a filter, the share of zeros is at most
    /// 1 - min_alive / n, whatever `target` is. Default 4.
    pub min_alive: usize,
}

/// `[strategy]`: how updates become the next global model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Strategy {
    /// The weighted mean of the clients' models.
    FedAvg {
        /// A client's weight in the mean. Default examples.
        weighting: Weighting,
    },
}

/// A client's weight in an average.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weighting {
    /// The same for every client, as in the paper.
    Uniform,
    /// In proportion to the client's training examples, as in McMahan et al.
    Examples,
}

/// `[device]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Memory, such as `"2GiB"`: at most so much for a wave of training clients, as much again for searches, for the circuits of
    /// a round, and for local models that are saved or analysed. Default 1 GiB; on the CPU engine a wave is also kept to what
    /// the caches hold, unless memory or max_wave is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// At most so many clients at once. Default: as many as fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_wave: Option<usize>,
    /// Threads of the CPU engine. Default: one a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
}

/// `[output]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Output {
    /// Whether the clients' local models are saved beside the global one. Default false.
    pub save_clients: bool,
    /// Save weights every so many rounds. The last round's are always saved; the default, 0, saves no others.
    pub save_every: usize,
    /// Write a checkpoint every so many rounds, from which `--resume` goes on when the run is ended. Default 1. Before the
    /// last round there is always one, and where the run is ended by a signal.
    pub checkpoint_every: usize,
    /// Write the figures of every round as TensorBoard reads them, beside the tables. Default false.
    pub tensorboard: bool,
}

impl Default for Output {
    fn default() -> Self {
        Self { save_clients: false, save_every: 0, checkpoint_every: 1, tensorboard: false }
    }
}

impl Output {
    /// Whether the weights of one-based `round` of `rounds` are saved.
    pub fn saves(&self, round: usize, rounds: usize) -> bool {
        round == rounds || (self.save_every > 0 && round.is_multiple_of(self.save_every))
    }

    /// Whether there is a checkpoint after `round` of `rounds`. After the last there is nothing to go on with; what
    /// follows it needs the round's models, so that the round is done again where that was ended.
    pub fn checkpoints(&self, round: usize, rounds: usize) -> bool {
        round < rounds && (round.is_multiple_of(self.checkpoint_every.max(1)) || round + 1 == rounds)
    }
}

impl Model {
    /// The file with the first weights, as a path.
    pub fn init_path(&self) -> Option<PathBuf> {
        self.init.as_ref().map(PathBuf::from)
    }
}
