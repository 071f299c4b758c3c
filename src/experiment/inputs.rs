//! From the configuration to what the federation is made of: data, partition, layers.

use std::path::Path;

use crate::config::{self, Activation, Assignment, Experiment, LayerKind, Partition, Source};
use crate::data::partition as deal;
use crate::data::{Dataset, Population, digits, mnist};
use crate::error::{Error, Result};
use crate::federation::Replicate;
use crate::model::{Input, LayerSpec, Network, SpecKind, chain};
use crate::rng::{NO_CLIENT, NO_ROUND, Purpose, stream};

/// Loads the data set of `data` from `folder`, or the fallback it allows where the files are missing. The second value
/// is what to tell the user, if something other than asked was loaded.
///
/// # Errors
/// [`Error::File`] when the files are missing and there is no fallback, or when they are not what they should be.
pub fn load_data(data: &config::Data, folder: &Path) -> Result<(Dataset, Option<String>)> {
    if let Some((other, told)) = instead(data, folder) {
        let (dataset, _) = load_data(&other, folder)?;
        return Ok((dataset, Some(told)));
    }
    let (train, test) = (data.train_examples, data.test_examples);
    let mut dataset = match data.source {
        Source::Mnist => mnist::load(folder)?,
        Source::Digits => digits::generate(train.unwrap_or(digits::TRAIN), test.unwrap_or(digits::TEST)),
    };
    for (key, split, wanted) in
        [("data.train_examples", &mut dataset.train, train), ("data.test_examples", &mut dataset.test, test)]
    {
        let (has, size) = (split.len(), split.pixels.len() / split.len().max(1));
        match wanted {
            Some(n) if n > has => {
                let problem = format!("{n} wanted, but the files hold {has}");
                return Err(Error::config(key, problem, format!("accepted: 1 to {has}, or leave it out for all")));
            }
            Some(n) => {
                split.labels.truncate(n);
                split.pixels.truncate(n * size);
            }
            None => {}
        }
    }
    Ok((dataset, None))
}

/// What is loaded instead of `data`, whose files are missing from `folder`, where that is allowed; and what to tell the user.
pub(super) fn instead(data: &config::Data, folder: &Path) -> Option<(config::Data, String)> {
    let missing = data.source == Source::Mnist && mnist::find(folder).is_none() && mnist::check_listed(folder).is_ok();
    let other = data.fallen_back().filter(|_| missing)?;
    let told = format!(
        "no MNIST in {}: using the built-in digits; `fedcircuit data fetch mnist` gets the real ones",
        folder.display()
    );
    Some((other, told))
}

/// The network that every client of the experiment trains on images like those of `dataset`.
///
/// # Errors
/// [`Error::Config`] for layers that do not fit each other or the images.
pub(super) fn network(experiment: &Experiment, dataset: &Dataset) -> Result<Network> {
    let Dataset { channels, height, width, classes, .. } = *dataset;
    let input = Input { channels, height, width };
    Ok(Network::new(chain(&layer_specs(&experiment.model), input, classes)?, input, classes))
}

/// Names the key behind a file of first weights that cannot be read.
pub(super) fn unread(error: Error) -> Error {
    let Error::Io { path, source, .. } = error else { return error };
    let problem = format!("{} cannot be read: {source}", path.display());
    Error::config("model.init", problem, "accepted: a safetensors file, by its path from where the program is started")
}

/// Deals the training examples to the clients, as the first seed draws it, or says how each draws its own.
///
/// # Errors
/// [`Error::Config`] naming the key of `[partition]` that cannot be met.
pub fn partition(experiment: &Experiment, dataset: &Dataset) -> Result<Population> {
    let (labels, classes) = (dataset.train.labels.as_slice(), dataset.classes);
    let seed = experiment.seeds.first();
    let mut rng = stream(seed, NO_ROUND, NO_CLIENT, Purpose::Partition);
    let dealt = match &experiment.partition {
        Partition::Iid { num_clients } => deal::iid(labels, *num_clients, &mut rng),
        Partition::Dirichlet { num_clients, alpha, min_partition_size, self_balancing } => {
            let split = deal::Dirichlet {
                num_clients: *num_clients,
                alpha: *alpha,
                min_partition_size: *min_partition_size,
                self_balancing: *self_balancing,
            };
            deal::dirichlet(labels, classes, &split, &mut rng)
        }
        Partition::InnerDirichlet { num_clients, alpha, examples_per_client } => {
            let (num_clients, alpha, examples_per_client) = (*num_clients, *alpha, *examples_per_client);
            let split = deal::InnerDirichlet { num_clients, alpha, examples_per_client };
            deal::inner_dirichlet(labels, classes, &split, &mut rng)
        }
        Partition::ByClass { classes: map } => {
            let map: Vec<Vec<usize>> = map.iter().map(|list| list.iter().map(|c| *c as usize).collect()).collect();
            deal::by_class(labels, classes, &map)
        }
        Partition::Pathological { num_clients, classes_per_client, assignment } => {
            let mode = match assignment {
                Assignment::Random => deal::ClassAssignment::Random,
                Assignment::Deterministic => deal::ClassAssignment::Deterministic,
                Assignment::FirstDeterministic => deal::ClassAssignment::FirstDeterministic,
            };
            let (num_clients, classes_per_client) = (*num_clients, *classes_per_client);
            let split = deal::Pathological { num_clients, classes_per_client, mode };
            deal::pathological(labels, classes, &split, &mut rng)
        }
        Partition::Shards { num_clients, shards_per_client, shard_size } => {
            let split = deal::Shards {
                num_clients: *num_clients,
                shards_per_client: *shards_per_client,
                shard_size: *shard_size,
            };
            deal::shards(labels, classes, &split, &mut rng)
        }
        Partition::Bootstrap { num_clients, examples_per_client, alpha } => {
            let (num_clients, examples_per_client, alpha) = (*num_clients, *examples_per_client, *alpha);
            let split = deal::Bootstrap { num_clients, examples_per_client, alpha };
            return deal::bootstrap(labels, classes, &split, seed).map(Population::Drawn);
        }
    };
    dealt.map(Population::from)
}

/// What to tell of classes in the data that a `pathological` partition assigned to no client, if there are any: `seeds` are an
/// experiment's. Who deals classes by hand knows which are left out.
pub(super) fn unassigned(experiment: &Experiment, dataset: &Dataset, seeds: &[Replicate]) -> Option<String> {
    if !matches!(experiment.partition, Partition::Pathological { .. }) {
        return None;
    }
    let (labels, classes) = (dataset.train.labels.as_slice(), dataset.classes);
    let there = deal::count_classes(&(0..labels.len() as u32).collect::<Vec<_>>(), labels, classes);
    let of = |replicate: &Replicate| {
        let held = replicate.clients.held(labels, classes);
        let lost = (0..classes).filter(|class| there[*class] > 0 && !held[*class]).map(|class| class.to_string());
        let lost = lost.collect::<Vec<_>>().join(", ");
        let with = if seeds.len() > 1 { format!(" with seed {}", replicate.seed) } else { String::new() };
        (!lost.is_empty()).then(|| lost + &with)
    };
    let lost: Vec<String> = seeds.iter().filter_map(of).collect();
    (!lost.is_empty()).then(|| {
        format!(
            "partition: classes that no client was assigned, so that their examples are left out: {}",
            lost.join("; ")
        )
    })
}

/// The layers of `[model]`, as the model module describes them.
pub fn layer_specs(model: &config::Model) -> Vec<LayerSpec> {
    model
        .layers()
        .into_iter()
        .map(|layer| LayerSpec {
            name: layer.name,
            relu: layer.activation == Activation::Relu,
            kind: match layer.kind {
                LayerKind::Conv { channels, kernel, padding, pool } => {
                    SpecKind::Conv { channels, kernel, padding, pool }
                }
                LayerKind::Linear { features } => SpecKind::Linear { features },
            },
        })
        .collect()
}
