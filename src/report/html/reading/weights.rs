//! How strong connections between channels are, by the weights that a run saved.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::circuits_file::RoundCircuits;
use crate::{Error, Result};

/// Those of the models in which a round's circuits were found, as far as they were saved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// The global model's.
    pub global: Option<Strengths>,
    /// The clients', by client.
    pub clients: BTreeMap<usize, Strengths>,
}

/// What a model's weights say of its channels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Strengths {
    /// By layer, for each channel and each one of the layer before, the sum of the absolute values of the weights between
    /// them (their L1 norm): 0 exactly where pruning left no connection.
    layers: BTreeMap<String, Layer>,
    /// Of the last of these layers; none where what follows it is not one linear layer.
    pub readout: Option<Readout>,
}

/// What the classes' logits take from each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Readout {
    /// Of the last layer with circuits.
    pub channels: usize,
    /// `[classes][channels]`: the mean of the weights from the channel's pixels, with their signs.
    pub means: Vec<Vec<f32>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Layer {
    sources: usize,
    /// `[channels][sources]`
    norms: Vec<f32>,
}

impl Weights {
    /// Reads what the run in `folder` saved of the round of these circuits.
    ///
    /// # Errors
    /// Files that cannot be read or hold no weights of these layers.
    pub fn read(folder: &Path, last: &RoundCircuits) -> Result<Self> {
        let circuit = last.local.iter().chain(&last.global).find_map(|(_, classes)| classes.first());
        let layers: Vec<&str> =
            circuit.iter().flat_map(|(_, circuit)| &circuit.channels).map(|(name, _)| name.as_str()).collect();
        let model = |name: String| Strengths::read(&folder.join("model").join(name), &layers);
        let mut clients = BTreeMap::new();
        for (client, _) in &last.local {
            let saved = model(format!("round_{:04}_client_{client:04}.safetensors", last.round))?;
            clients.extend(saved.map(|strengths| (*client, strengths)));
        }
        Ok(Self { global: model(format!("round_{:04}.safetensors", last.round))?, clients })
    }
}

impl Strengths {
    /// Of the saved model at `path`, for these layers in the network's order but the first, which no channels feed;
    /// `None` where nothing was saved.
    fn read(path: &Path, layers: &[&str]) -> Result<Option<Self>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let fault = |problem: String| Error::file(path, problem, "accepted: the weights as the run saved them");
        let file = SafeTensors::deserialize(&bytes).map_err(|e| fault(format!("is no safetensors file ({e})")))?;
        let weight = |layer: &str| {
            let name = format!("{layer}.weight");
            let tensor = file.tensor(&name).map_err(|_| fault(format!("lacks the tensor {name:?}")))?;
            let fits = tensor.dtype() == Dtype::F32 && tensor.shape().len() >= 2 && !tensor.shape().contains(&0);
            if fits { Ok(tensor) } else { Err(fault(format!("{name} is no matrix or filter of float32"))) }
        };
        let mut found = BTreeMap::new();
        for pair in layers.windows(2) {
            let (before, tensor) = (weight(pair[0])?, weight(pair[1])?);
            let norms = Layer::new(&tensor, before.shape()[0]).ok_or_else(|| {
                fault(format!("the shapes of {}.weight and {}.weight do not follow", pair[0], pair[1]))
            })?;
            found.insert(pair[1].to_string(), norms);
        }
        let last = layers.last().map(|layer| weight(layer)).transpose()?;
        let readout = last.and_then(|last| Readout::find(&file, layers, last.shape()[0]));
        Ok(Some(Self { layers: found, readout }))
    }

    /// Of one layer whose channels have these norms for each source.
    #[cfg(test)]
    pub fn of_layer(layer: &str, sources: usize, norms: &[f32]) -> Self {
        let layers = BTreeMap::from([(layer.to_string(), Layer { sources, norms: norms.to_vec() })]);
        Self { layers, readout: None }
    }

    /// Of the connection between two channels; `None` where the model has no such channels.
    pub fn of(&self, layer: &str, from: u32, to: u32) -> Option<f64> {
        let layer = self.layers.get(layer)?;
        let (from, to) = (from as usize, to as usize);
        (from < layer.sources).then(|| layer.norms.get(to * layer.sources + from).map(|norm| f64::from(*norm)))?
    }
}

impl Layer {
    /// A row of the tensor holds the weights of one channel, those from the same source side by side.
    fn new(tensor: &TensorView<'_>, sources: usize) -> Option<Self> {
        let row: usize = tensor.shape()[1..].iter().product();
        if !row.is_multiple_of(sources) {
            return None;
        }
        let norm = |weights: &[u8]| floats(weights).map(f32::abs).sum();
        Some(Self { sources, norms: tensor.data().chunks_exact(4 * (row / sources)).map(norm).collect() })
    }
}

impl Readout {
    /// The only matrix of the file that is none of `layers` and reads so many channels.
    fn find(file: &SafeTensors<'_>, layers: &[&str], channels: usize) -> Option<Self> {
        let others = file.tensors().into_iter().filter(|(name, tensor)| {
            let layer = name.strip_suffix(".weight");
            let fits = tensor.dtype() == Dtype::F32 && tensor.shape().len() == 2 && !tensor.shape().contains(&0);
            fits && layer.is_some_and(|layer| !layers.contains(&layer))
        });
        let others: Vec<_> = others.collect();
        let [(_, tensor)] = &others[..] else { return None };
        let row = tensor.shape()[1];
        if !row.is_multiple_of(channels) {
            return None;
        }
        let pixels = row / channels;
        let mean = |weights: &[u8]| floats(weights).sum::<f32>() / pixels as f32;
        let means = tensor.data().chunks_exact(4 * row).map(|row| row.chunks_exact(4 * pixels).map(mean).collect());
        Some(Self { channels, means: means.collect() })
    }
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

#[cfg(test)]
mod tests {
    use super::super::circuits_file::Circuit;
    use super::*;

    fn save(path: &Path, tensors: &[(&str, Vec<usize>, Vec<f32>)]) {
        let bytes: Vec<Vec<u8>> =
            tensors.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
        let views = tensors.iter().zip(&bytes).map(|((name, shape, _), data)| {
            (name.to_string(), TensorView::new(Dtype::F32, shape.clone(), data).unwrap())
        });
        fs::write(path, safetensors::serialize(views.collect::<BTreeMap<_, _>>(), None).unwrap()).unwrap();
    }

    fn round() -> RoundCircuits {
        let channels = ["conv1", "conv2", "fc1"].map(|layer| (layer.to_string(), vec![0])).to_vec();
        let classes = vec![("0".to_string(), Circuit { channels, ..Circuit::default() })];
        RoundCircuits { round: 7, local: vec![(3, classes)], ..RoundCircuits::default() }
    }

    /// Two channels, then one of filters of two weights, then two features of two pixels of that one channel.
    fn tensors() -> Vec<(&'static str, Vec<usize>, Vec<f32>)> {
        vec![
            ("conv1.weight", vec![2, 1, 1, 1], vec![1.0, 1.0]),
            ("conv2.weight", vec![1, 2, 1, 2], vec![0.5, -0.25, 0.0, 0.0]),
            ("fc1.weight", vec![2, 2], vec![-1.0, 2.0, 0.0, -4.0]),
        ]
    }

    #[test]
    fn strength_is_the_sum_of_absolute_weights_between_two_channels() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Weights::read(folder.path(), &round()).unwrap(), Weights::default());
        fs::create_dir(folder.path().join("model")).unwrap();
        save(&folder.path().join("model/round_0007.safetensors"), &tensors());
        save(&folder.path().join("model/round_0007_client_0003.safetensors"), &tensors());
        let weights = Weights::read(folder.path(), &round()).unwrap();
        let of = weights.global.unwrap();
        assert_eq!(of.readout, None);
        assert_eq!((of.of("conv2", 0, 0), of.of("conv2", 1, 0)), (Some(0.75), Some(0.0)));
        assert_eq!((of.of("fc1", 0, 0), of.of("fc1", 0, 1)), (Some(3.0), Some(4.0)));
        for (layer, from, to) in [("conv2", 2, 0), ("conv2", 0, 1), ("conv1", 0, 0), ("fc1", 1, 0)] {
            assert_eq!(of.of(layer, from, to), None, "{layer} {from} {to}");
        }
        assert_eq!(weights.clients[&3], of);
    }

    #[test]
    fn the_readout_is_the_mean_weight_of_a_channels_pixels() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let last = ("fc.weight", vec![2, 4], vec![1.0, 2.0, -1.0, 0.0, 0.0, 0.5, 4.0, 4.0]);
        let tensors = [tensors().remove(0), last, ("fc.bias", vec![2], vec![0.0; 2])];
        save(&path, &tensors);
        let readout = Strengths::read(&path, &["conv1"]).unwrap().unwrap().readout.unwrap();
        assert_eq!((readout.channels, readout.means), (2, vec![vec![1.5, -0.5], vec![0.25, 4.0]]));
    }

    #[test]
    fn weights_of_another_network_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let layers = ["conv1", "conv2", "fc1"];
        let says = |what: &str| {
            let error = Strengths::read(&path, &layers).unwrap_err();
            assert!(error.to_string().contains(what) && error.exit_code() == 2, "{error}");
        };
        fs::write(&path, "no weights").unwrap();
        says("a.safetensors: is no safetensors file");
        save(&path, &tensors()[..2]);
        says("lacks the tensor \"fc1.weight\"");
        let mut other = tensors();
        other[0] = ("conv1.weight", vec![3, 1], vec![0.0; 3]);
        save(&path, &other);
        says("conv1.weight and conv2.weight do not follow");
        other[0] = ("conv1.weight", vec![2], vec![0.0; 2]);
        save(&path, &other);
        says("conv1.weight is no matrix");
    }
}
