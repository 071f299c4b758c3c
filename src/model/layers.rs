//! Layers as a user describes them, and as shapes that chain.

use crate::error::{Error, Result};
use crate::kernels::shape::{Conv, Linear};

/// A layer as described: what comes out of it, not yet what goes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSpec {
    /// Name of its tensors in files: `conv1` gives `conv1.weight` and `conv1.bias`.
    pub name: String,
    /// What it computes.
    pub kind: SpecKind,
    /// Whether a ReLU follows.
    pub relu: bool,
}

/// What a described layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecKind {
    /// A convolution with square filters, stride 1 and bias.
    Conv {
        /// Output channels.
        channels: usize,
        /// Side of the filter: 3 or 5.
        kernel: usize,
        /// Zeros around the input.
        padding: usize,
        /// 1, or 2 for 2x2 max-pooling after the ReLU.
        pool: usize,
    },
    /// A fully connected layer with bias over the flattened input (channel by channel, as PyTorch flattens).
    Linear {
        /// Outputs.
        features: usize,
    },
}

/// Channels, height and width of the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    /// C.
    pub channels: usize,
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
}

/// A layer with all its sizes known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Name of its tensors in files.
    pub name: String,
    /// What it computes, on what shapes.
    pub op: Op,
}

/// A layer's computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// See [`Conv`].
    Conv(Conv),
    /// See [`Linear`].
    Linear(Linear),
}

impl Layer {
    /// Output channels: feature maps of a convolution, units of a fully connected layer.
    pub fn channels(&self) -> usize {
        match self.op {
            Op::Conv(conv) => conv.out_channels,
            Op::Linear(linear) => linear.outputs,
        }
    }

    /// Whether a ReLU follows.
    pub fn relu(&self) -> bool {
        match self.op {
            Op::Conv(conv) => conv.relu,
            Op::Linear(linear) => linear.relu,
        }
    }

    /// The share of its weights that pruning leaves at least, where each filter of a convolution keeps `min_alive`.
    pub fn floor(&self, min_alive: usize) -> f64 {
        match self.op {
            Op::Conv(conv) => {
                let filter = conv.in_channels * conv.kernel * conv.kernel;
                min_alive.min(filter) as f64 / filter as f64
            }
            Op::Linear(_) => 0.0,
        }
    }

    /// Elements of one image's input and output.
    pub fn sizes(&self) -> (usize, usize) {
        match self.op {
            Op::Conv(conv) => conv.sizes(),
            Op::Linear(linear) => (linear.inputs, linear.outputs),
        }
    }

    /// Terms of one output's sum: PyTorch's fan-in.
    pub fn fan_in(&self) -> usize {
        match self.op {
            Op::Conv(conv) => conv.in_channels * conv.kernel * conv.kernel,
            Op::Linear(linear) => linear.inputs,
        }
    }
}

/// Feeds each layer's output to the next.
///
/// # Errors
/// [`Error::Config`] naming `model.layers[i]` when a filter is larger than what reaches it, a convolution follows a
/// fully connected layer, nothing is left after pooling, or the last layer does not have one output a class.
pub fn chain(specs: &[LayerSpec], input: Input, classes: usize) -> Result<Vec<Layer>> {
    let mut at = input;
    let mut flat = false;
    let mut layers = Vec::new();
    for (i, spec) in specs.iter().enumerate() {
        let fault = |problem: String, help: &str| {
            Err(Error::config(format!("model.layers[{i}] ({})", spec.name), problem, help))
        };
        let reaches = format!("{} x {} x {} that reaches it", at.channels, at.height, at.width);
        let op = match spec.kind {
            SpecKind::Linear { features } => {
                let inputs = at.channels * at.height * at.width;
                Op::Linear(Linear { inputs, outputs: features, relu: spec.relu })
            }
            SpecKind::Conv { .. } if flat => {
                return fault(
                    "a convolution follows a linear layer".into(),
                    "put every conv before the first linear layer",
                );
            }
            SpecKind::Conv { channels, kernel, padding, pool } => {
                let Input { channels: in_channels, height, width } = at;
                let (out_channels, relu) = (channels, spec.relu);
                let conv = Conv { in_channels, out_channels, height, width, kernel, padding, pool, relu };
                if !fits(&conv) {
                    return fault(
                        format!("a {kernel}x{kernel} filter with padding {padding} does not fit the {reaches}"),
                        "take a smaller kernel, more padding (less than the kernel), or less pooling before it",
                    );
                }
                Op::Conv(conv)
            }
        };
        let layer = Layer { name: spec.name.clone(), op };
        at = match op {
            Op::Conv(conv) => {
                let (height, width) = conv.pooled();
                Input { channels: conv.out_channels, height, width }
            }
            Op::Linear(linear) => Input { channels: linear.outputs, height: 1, width: 1 },
        };
        flat |= matches!(op, Op::Linear(_));
        if at.height == 0 || at.width == 0 {
            return fault(format!("nothing is left of the {reaches}"), "take less pooling or more padding");
        }
        layers.push(layer);
    }
    last_fits(&layers, classes)?;
    Ok(layers)
}

/// Whether the filter fits the padded image, and sees some of it wherever it stands.
fn fits(conv: &Conv) -> bool {
    let Conv { height, width, kernel, padding, .. } = *conv;
    padding < kernel && height + 2 * padding >= kernel && width + 2 * padding >= kernel
}

fn last_fits(layers: &[Layer], classes: usize) -> Result<()> {
    let help = format!("end with {{ kind = \"linear\", features = {classes}, activation = \"none\" }}");
    match layers.last() {
        None => Err(Error::config("model.layers", "no layer", help)),
        Some(Layer { op: Op::Linear(last), .. }) if last.outputs == classes && !last.relu => Ok(()),
        Some(last) => Err(Error::config(
            format!("model.layers[{}] ({})", layers.len() - 1, last.name),
            format!(
                "the last layer has to be linear, without activation, with one output for each of {classes} classes"
            ),
            help,
        )),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn conv(name: &str, channels: usize, kernel: usize, padding: usize, pool: usize) -> LayerSpec {
        LayerSpec { name: name.into(), kind: SpecKind::Conv { channels, kernel, padding, pool }, relu: true }
    }

    fn linear(name: &str, features: usize, relu: bool) -> LayerSpec {
        LayerSpec { name: name.into(), kind: SpecKind::Linear { features }, relu }
    }

    const MNIST: Input = Input { channels: 1, height: 28, width: 28 };

    /// The paper's network.
    pub fn simple_cnn() -> Vec<Layer> {
        let specs = [
            conv("conv1", 32, 3, 1, 2),
            conv("conv2", 64, 3, 1, 2),
            conv("conv3", 128, 3, 1, 2),
            linear("fc", 10, false),
        ];
        chain(&specs, MNIST, 10).unwrap()
    }

    #[test]
    fn the_papers_network_has_the_papers_shapes() {
        let layers = simple_cnn();
        let sizes: Vec<_> = layers.iter().map(Layer::sizes).collect();
        assert_eq!(sizes, [(784, 32 * 196), (32 * 196, 64 * 49), (64 * 49, 128 * 9), (1152, 10)]);
        assert_eq!(layers.iter().map(Layer::fan_in).collect::<Vec<_>>(), [9, 288, 576, 1152]);
    }

    #[test]
    fn layers_that_do_not_chain_are_refused_by_name() {
        let refused = |specs: &[LayerSpec], part: &str| {
            let error = chain(specs, MNIST, 10).unwrap_err();
            assert!(error.to_string().contains(part), "{error} lacks {part:?}");
            assert_eq!(error.exit_code(), 2);
        };
        refused(&[], "model.layers");
        refused(&[linear("fc", 9, false)], "10 classes");
        refused(&[linear("fc", 10, true)], "without activation");
        refused(&[conv("conv1", 8, 3, 1, 2)], "model.layers[0] (conv1)");
        refused(&[linear("a", 784, true), conv("late", 8, 3, 1, 2), linear("fc", 10, false)], "follows a linear");
        let shrinking: Vec<_> = (0..9).map(|i| conv(&format!("c{i}"), 4, 5, 0, 2)).collect();
        refused(&shrinking, "model.layers[2] (c2)");
        refused(&[conv("wide", 4, 3, 3, 1), linear("fc", 10, false)], "padding 3");
    }
}
