//! `[model]`: the network as a list of layers, and the presets that stand for such lists.

use serde::Serialize;
use toml::Value;

use super::keys::{Keys, Limits, refused};
use crate::{Error, Result};

const NAME: &str = "a letter, then at most 39 letters, digits and _ (it names tensors and columns)";

/// `[model]`: `preset` or `layers`, and where the first weights come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Model {
    /// A safetensors file with the first weights, by its path from where the program is started. Default: PyTorch's
    /// initialisation, drawn from the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// The layers. Default: the preset simple-cnn.
    #[serde(flatten)]
    pub architecture: Architecture,
}

/// How the layers are given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// By name.
    Preset(ModelPreset),
    /// One by one.
    Layers(Vec<Layer>),
}

/// A network with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelPreset {
    /// The paper's: three 3x3 convolutions of 32, 64 and 128 channels, each pooled, and one linear layer.
    SimpleCnn,
    /// 784-200-200-10, McMahan et al.'s 2NN.
    #[serde(rename = "mlp-2nn")]
    Mlp2nn,
    /// McMahan et al.'s CNN: two pooled 5x5 convolutions of 32 and 64 channels, and linear layers of 512 and 10.
    CnnMcmahan,
}

/// One layer: a convolution or a linear map, what follows it, and its name in saved weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// Unique. Default `conv1`, `conv2`, ..., and `fc` or, where there are several, `fc1`, `fc2`, ...
    pub name: String,
    /// What the layer computes.
    #[serde(flatten)]
    pub kind: LayerKind,
    /// What is applied to its output. Default relu, and none for the last layer.
    pub activation: Activation,
}

/// What a layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum LayerKind {
    /// A convolution of stride 1, with bias.
    Conv {
        /// Output channels. Required.
        channels: usize,
        /// Side of the square filter, 3 or 5. Default 3.
        kernel: usize,
        /// Zeros around the picture. Default half the kernel, which keeps its size.
        padding: usize,
        /// Side of the max-pooling after the activation: 1 for none, or 2. Default 1.
        pool: usize,
    },
    /// A linear map of the flattened (channel, row, column) input, with bias.
    Linear {
        /// Outputs. Required; the last layer's are the classes.
        features: usize,
    },
}

/// What is applied to a layer's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// Nothing.
    None,
}

impl Model {
    /// The layers, presets expanded.
    pub fn layers(&self) -> Vec<Layer> {
        match &self.architecture {
            Architecture::Preset(preset) => preset.layers(),
            Architecture::Layers(layers) => layers.clone(),
        }
    }
}

impl ModelPreset {
    const ALL: [(&'static str, ModelPreset); 3] = [
        ("simple-cnn", ModelPreset::SimpleCnn),
        ("mlp-2nn", ModelPreset::Mlp2nn),
        ("cnn-mcmahan", ModelPreset::CnnMcmahan),
    ];

    /// The layers that the name stands for.
    pub fn layers(self) -> Vec<Layer> {
        let conv = |channels, kernel| LayerKind::Conv { channels, kernel, padding: kernel / 2, pool: 2 };
        let linear = |features| LayerKind::Linear { features };
        let kinds = match self {
            ModelPreset::SimpleCnn => vec![conv(32, 3), conv(64, 3), conv(128, 3), linear(10)],
            ModelPreset::Mlp2nn => vec![linear(200), linear(200), linear(10)],
            ModelPreset::CnnMcmahan => vec![conv(32, 5), conv(64, 5), linear(512), linear(10)],
        };
        let names = default_names(&kinds);
        let mut layers: Vec<Layer> = kinds
            .into_iter()
            .zip(names)
            .map(|(kind, name)| Layer { name, kind, activation: Activation::Relu })
            .collect();
        if let Some(last) = layers.last_mut() {
            last.activation = Activation::None;
        }
        layers
    }
}

/// `conv1`, `conv2`, ... and `fc`, or `fc1`, `fc2`, ... where there are several: PyTorch's habits.
fn default_names(kinds: &[LayerKind]) -> Vec<String> {
    let linears = kinds.iter().filter(|kind| matches!(kind, LayerKind::Linear { .. })).count();
    let (mut convs, mut fcs) = (0, 0);
    let mut name = |kind: &LayerKind| match kind {
        LayerKind::Conv { .. } => {
            convs += 1;
            format!("conv{convs}")
        }
        LayerKind::Linear { .. } if linears == 1 => "fc".to_string(),
        LayerKind::Linear { .. } => {
            fcs += 1;
            format!("fc{fcs}")
        }
    };
    kinds.iter().map(&mut name).collect()
}

const MAX_LAYERS: usize = 64;
const CHANNELS: Limits = Limits::new(1, 4096, "wider layers fit no wave of clients");
/// Searches for circuits have a workgroup for every output, and no grid has more.
pub(super) const FEATURES: Limits = Limits::new(1, 65_535, "no GPU's grid is wider");
const LAYERS: &str =
    "a list such as [{ kind = \"conv\", channels = 32, pool = 2 }, { kind = \"linear\", features = 10 }]";

/// Reads `[model]`.
pub(super) fn read(section: Option<Keys<'_>>) -> Result<Model> {
    let simple = Architecture::Preset(ModelPreset::SimpleCnn);
    let Some(mut keys) = section else { return Ok(Model { init: None, architecture: simple }) };
    let preset = keys.choice("preset", &ModelPreset::ALL)?;
    let layers = keys.list("layers", LAYERS)?;
    const INIT: &str = "the path of a safetensors file";
    let init = keys.text("init", INIT)?.map(str::to_string);
    if init.as_ref().is_some_and(String::is_empty) {
        return Err(Error::config(keys.path_of("init"), "is an empty text", format!("accepted: {INIT}")));
    }
    let path = keys.path_of("layers");
    keys.finish("[model]")?;
    let architecture = match (preset, layers) {
        (Some(_), Some(_)) => {
            let help = "accepted: model.preset or model.layers, not both";
            return Err(Error::config(path, "is given beside model.preset", help));
        }
        (Some(preset), None) => Architecture::Preset(preset),
        (None, Some(layers)) => Architecture::Layers(read_layers(&path, layers)?),
        (None, None) => simple,
    };
    Ok(Model { init, architecture })
}

fn read_layers(path: &str, list: &[Value]) -> Result<Vec<Layer>> {
    if list.is_empty() || list.len() > MAX_LAYERS {
        let help = format!("accepted: {LAYERS}, of 1 to {MAX_LAYERS} layers");
        return Err(Error::config(path, format!("has {} layers", list.len()), help));
    }
    let mut drafts = Vec::new();
    for (i, value) in list.iter().enumerate() {
        let at = format!("{path}[{i}]");
        let table = value.as_table().ok_or_else(|| refused(at.clone(), value, &format!("accepted: {LAYERS}")))?;
        drafts.push(read_layer(Keys::new(table, at))?);
    }
    let kinds: Vec<LayerKind> = drafts.iter().map(|draft| draft.kind).collect();
    check_order(path, &kinds)?;
    let last = drafts.len() - 1;
    let layers: Vec<Layer> = drafts
        .into_iter()
        .zip(default_names(&kinds))
        .enumerate()
        .map(|(i, (draft, default))| Layer {
            name: draft.name.unwrap_or(default),
            kind: draft.kind,
            activation: draft.activation.unwrap_or(if i == last { Activation::None } else { Activation::Relu }),
        })
        .collect();
    check_names_and_end(path, &layers)?;
    Ok(layers)
}

/// A layer before the defaults that depend on its neighbours.
struct Draft {
    name: Option<String>,
    kind: LayerKind,
    activation: Option<Activation>,
}

fn read_layer(mut keys: Keys<'_>) -> Result<Draft> {
    let is_conv = keys
        .choice("kind", &[("conv", true), ("linear", false)])?
        .ok_or_else(|| keys.missing("kind", "accepted: \"conv\", \"linear\""))?;
    let name = keys.text("name", NAME)?.map(str::to_string);
    let activation = keys.choice("activation", &[("relu", Activation::Relu), ("none", Activation::None)])?;
    let (kind, section) = if is_conv {
        let channels = keys.count("channels", &CHANNELS)?;
        let channels = channels.ok_or_else(|| keys.missing("channels", "a convolution needs its output channels"))?;
        let kernel = keys.count("kernel", &Limits::new(3, 5, "3 or 5"))?.unwrap_or(3);
        if kernel == 4 {
            return Err(Error::config(keys.path_of("kernel"), "the number 4 is not accepted", "accepted: 3 or 5"));
        }
        // More zeros than the kernel's reach would only add rows and columns that see nothing but zeros.
        let reach =
            Limits::new(0, kernel as u64 - 1, "less than the kernel: at most 2 with kernel = 3, 4 with kernel = 5");
        let padding = keys.count("padding", &reach)?.unwrap_or(kernel / 2);
        let pool = keys.count("pool", &Limits::new(1, 2, "1 for none, 2 for halves"))?.unwrap_or(1);
        (LayerKind::Conv { channels, kernel, padding, pool }, "a layer of kind \"conv\"")
    } else {
        let features = keys.count("features", &FEATURES)?;
        let features = features.ok_or_else(|| keys.missing("features", "a linear layer needs its outputs"))?;
        (LayerKind::Linear { features }, "a layer of kind \"linear\"")
    };
    keys.finish(section)?;
    Ok(Draft { name, kind, activation })
}

fn check_order(path: &str, kinds: &[LayerKind]) -> Result<()> {
    let is_linear = |kind: &LayerKind| matches!(kind, LayerKind::Linear { .. });
    let first_linear = kinds.iter().position(is_linear).unwrap_or(kinds.len());
    if let Some(late) = kinds[first_linear..].iter().position(|kind| !is_linear(kind)) {
        let at = format!("{path}[{}]", first_linear + late);
        return Err(Error::config(at, "is a convolution after a linear layer", "accepted: convolutions first"));
    }
    if first_linear == kinds.len() {
        let at = format!("{path}[{}]", kinds.len() - 1);
        return Err(Error::config(
            at,
            "is a convolution",
            "accepted as the last layer: a linear one, its features the classes",
        ));
    }
    Ok(())
}

fn check_names_and_end(path: &str, layers: &[Layer]) -> Result<()> {
    for (i, layer) in layers.iter().enumerate() {
        let at = format!("{path}[{i}].name");
        let name = layer.name.as_str();
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && name.len() <= 40;
        if !plain || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            let help = format!("accepted: {NAME}");
            return Err(Error::config(at, format!("{name:?} is not a layer's name"), help));
        }
        if name == "all" {
            return Err(Error::config(at, "\"all\" is taken", "overlap.csv calls all layers together \"all\""));
        }
        if layers[..i].iter().any(|other| other.name == layer.name) {
            return Err(Error::config(at, format!("{name:?} names an earlier layer too"), "accepted: each name once"));
        }
    }
    match layers.last() {
        Some(last) if last.activation != Activation::None => {
            let at = format!("{path}[{}].activation", layers.len() - 1);
            Err(Error::config(at, "the last layer's outputs are the logits", "accepted for the last layer: \"none\""))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(preset: ModelPreset) -> Vec<String> {
        preset.layers().into_iter().map(|layer| layer.name).collect()
    }

    #[test]
    fn a_layer_is_as_wide_as_a_grid_at_most() {
        assert_eq!(FEATURES.max, u64::from(crate::device::grid::LIMIT));
    }

    #[test]
    fn presets_expand_into_the_published_networks() {
        assert_eq!(names(ModelPreset::SimpleCnn), ["conv1", "conv2", "conv3", "fc"]);
        assert_eq!(names(ModelPreset::Mlp2nn), ["fc1", "fc2", "fc3"]);
        assert_eq!(names(ModelPreset::CnnMcmahan), ["conv1", "conv2", "fc1", "fc2"]);
        let layers = ModelPreset::CnnMcmahan.layers();
        assert_eq!(layers[1].kind, LayerKind::Conv { channels: 64, kernel: 5, padding: 2, pool: 2 });
        assert_eq!(layers[2].activation, Activation::Relu);
        assert_eq!(
            layers[3],
            Layer { name: "fc2".into(), kind: LayerKind::Linear { features: 10 }, activation: Activation::None }
        );
    }
}
