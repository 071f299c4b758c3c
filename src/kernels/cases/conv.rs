//! Inputs for the tests and benchmarks of the convolutions: odd sizes, unequal counts, shared rows, closed gates.

use super::settings::{GATES_AT, NAN, Setting, eight, many, noise, place};
use crate::kernels::shape::{Conv, ConvParams, Place};
use crate::kernels::{CHUNK, DEAD};

/// One convolution with its setting.
pub struct ConvCase {
    pub conv: Conv,
    pub setting: Setting,
}

impl ConvCase {
    pub fn place(&self) -> Place {
        place(self.setting.weights_at, self.conv.weights(), self.conv.out_channels)
    }

    pub fn params(&self) -> ConvParams {
        let params = ConvParams::new(&self.conv, self.setting.batch(), self.place(), None);
        let mut params = params.rounded(self.setting.rounding);
        if self.setting.gated {
            params.gate_words = self.setting.gates(self.conv.out_channels).1 as u32;
            params.gates_at = GATES_AT as u32;
        }
        params
    }

    pub fn params_words(&self) -> Vec<u32> {
        bytemuck::cast_slice(&[self.params()]).to_vec()
    }

    /// Images, with nothing in the channels that are closed.
    pub fn input(&self) -> Vec<u32> {
        self.input_with(0)
    }

    /// The same as a sparse kernel finds it, where what lies in closed channels is nobody's: no number.
    pub fn left_input(&self) -> Vec<u32> {
        self.input_with(NAN)
    }

    fn input_with(&self, closed: u32) -> Vec<u32> {
        let (words, plane) = (self.conv.sizes().0, self.conv.height * self.conv.width);
        let mut input = self.setting.images_of(words, 1);
        for (i, channel) in input.chunks_exact_mut(plane * self.setting.stride).enumerate() {
            if !self.setting.input_open(&self.conv, i / self.conv.in_channels, i % self.conv.in_channels) {
                channel.fill(closed);
            }
        }
        input
    }

    /// Rows of parameters, of a size that keeps the outputs near 1.
    pub fn weights(&self) -> Vec<u32> {
        let fan_in = (self.conv.weights() / self.conv.out_channels) as f32;
        self.setting.parameters(self.place(), &(&self.conv).into(), 1.7 / fan_in.sqrt())
    }

    pub fn output_grad(&self) -> Vec<u32> {
        self.setting.images_of(self.conv.sizes().1, 3)
    }

    /// Codes as a forward pass could have left them: any place of the window, dead only after a ReLU or behind a closed
    /// gate.
    pub fn codes(&self) -> Vec<u32> {
        let places = (self.conv.pool * self.conv.pool) as u32;
        let closed = self.closed_outputs();
        let plane = self.plane();
        let pick = |i: usize| {
            let dead = self.conv.relu && noise(i, 4) < -0.2;
            if dead || closed[i / plane] { DEAD.into() } else { ((noise(i, 5) + 1.0) * 0.5 * places as f32) as u32 }
        };
        let bytes = self.setting.fill(self.conv.sizes().1, pick);
        bytes.chunks(4).map(|q| q[0] | q[1] << 8 | q[2] << 16 | q[3] << 24).collect()
    }

    /// Gradients and codes as a sparse kernel finds them where what lies in closed channels is nobody's: no number, and codes
    /// that would pass it on.
    pub fn left_output_grad(&self) -> (Vec<u32>, Vec<u32>) {
        let (mut grad, mut codes) = (self.output_grad(), self.codes());
        let channels = grad.chunks_exact_mut(self.plane()).zip(codes.chunks_exact_mut(self.plane() / 4));
        let left = self.setting.input_gated || self.setting.closed_unread;
        for ((grad, codes), _) in channels.zip(self.closed_outputs()).filter(|(_, closed)| left && *closed) {
            grad.fill(NAN);
            codes.fill(0);
        }
        (grad, codes)
    }

    /// Words of a channel's outputs.
    fn plane(&self) -> usize {
        self.conv.sizes().1 / self.conv.out_channels * self.setting.stride
    }

    /// `[slots][M]`.
    fn closed_outputs(&self) -> Vec<bool> {
        let (gates, words) = self.setting.gates(self.conv.out_channels);
        let own = gates.chunks_exact(words).flat_map(|row| &row[GATES_AT..][..self.conv.out_channels]);
        own.map(|gate| self.setting.gated && *gate == 0).collect()
    }

    /// Words of `[slots][chunks][weights, biases]`.
    pub fn partials(&self) -> usize {
        self.setting.slots() * self.setting.stride.div_ceil(CHUNK) * self.conv.partial_words()
    }

    pub fn grads(&self) -> usize {
        self.setting.slots() * self.place().row_words
    }

    pub fn flops(&self) -> u64 {
        self.conv.flops() * self.setting.images()
    }
}

/// A convolution as simple-cnn has them.
fn pooled([in_channels, out_channels, side]: [usize; 3]) -> Conv {
    let (height, width) = (side, side);
    Conv { in_channels, out_channels, height, width, kernel: 3, padding: 1, pool: 2, relu: true }
}

/// Those of a training step of many clients.
pub fn large_convs() -> Vec<ConvCase> {
    let case = |sizes, name| ConvCase { conv: pooled(sizes), setting: many(name) };
    vec![
        case([1, 32, 28], "simple-cnn conv1, 64 clients"),
        case([32, 64, 14], "simple-cnn conv2, 64 clients"),
        case([64, 128, 7], "simple-cnn conv3, 64 clients"),
    ]
}

pub fn conv_cases() -> Vec<ConvCase> {
    let conv = |sizes: [usize; 6], pool, relu| {
        let [in_channels, out_channels, height, width, kernel, padding] = sizes;
        Conv { in_channels, out_channels, height, width, kernel, padding, pool, relu }
    };
    let case = |conv, setting| ConvCase { conv, setting };
    vec![
        case(conv([1, 3, 5, 4, 3, 1], 2, true), Setting::new("tiny", &[3], &[0], 4)),
        case(conv([2, 3, 4, 5, 3, 1], 1, false), Setting::new("no pooling, no relu", &[4, 1], &[0, 1], 4)),
        case(conv([2, 4, 6, 7, 3, 1], 1, true), Setting::new("no pooling", &[5], &[0], 8)),
        case(conv([2, 5, 7, 9, 5, 0], 2, true), Setting::new("5x5, padding 0", &[7, 2], &[1, 1], 8)),
        case(conv([1, 6, 6, 5, 5, 2], 2, false), Setting::new("5x5, padding 2, no relu", &[4, 3], &[0, 1], 4)),
        case(conv([3, 5, 7, 6, 3, 1], 2, true), Setting::new("shared rows, an empty slot", &[8, 0, 5], &[2, 0, 0], 8)),
        case(conv([3, 7, 5, 5, 1, 0], 1, true), Setting::new("1x1", &[9], &[0], 12)),
        case(conv([3, 9, 5, 7, 3, 2], 2, true), Setting::new("3x3, padding 2", &[6, 13], &[1, 0], 16)),
        case(conv([2, 9, 4, 15, 3, 1], 2, true), Setting::new("a wide image, odd", &[7, 4], &[0, 1], 8)),
        case(conv([8, 9, 5, 7, 3, 1], 2, true), Setting::new("eight channels", &[40, 7, 1], &[1, 0, 1], 40).even()),
        case(
            conv([8, 32, 6, 6, 3, 1], 2, true),
            Setting::new("whole tiles, two chunks", &[40, 33], &[1, 0], 40).even(),
        ),
        case(conv([6, 9, 7, 6, 5, 2], 2, true), Setting::new("5x5, two chunks", &[35, 6], &[1, 0], 36)),
        case(conv([1, 2, 6, 4, 3, 1], 2, true), Setting::new("biases inside a vec4", &[35], &[0], 36).even()),
        case(
            conv([4, 9, 5, 6, 3, 2], 2, true),
            Setting::new("four channels, padding 2, gates", &[6, 3], &[0, 1], 8).even().gated(),
        ),
        case(
            conv([16, 8, 7, 4, 3, 0], 2, false),
            Setting::new("sixteen channels, gates", &[5, 11], &[0, 1], 12).even().gated(),
        ),
        case(conv([2, 4, 3, 5, 1, 2], 2, true), Setting::new("more padding than filter", &[6], &[0], 8)),
        case(conv([4, 6, 5, 6, 3, 1], 2, true), Setting::new("two chunks", &[40, 33, 5], &[0, 2, 1], 40)),
        case(
            conv([44, 90, 5, 6, 3, 1], 2, true),
            Setting::new("many channels, two chunks", &[40, 33, 5], &[0, 2, 1], 40).normwise(),
        ),
        case(
            conv([1, 5, 7, 6, 3, 1], 2, true),
            Setting::new("one channel, two chunks", &[40, 33, 5], &[0, 2, 1], 40).normwise(),
        ),
        case(
            conv([1, 3, 4, 9, 3, 1], 2, false),
            Setting::new("one channel, gates", &[3, 17], &[1, 0], 20).gated().normwise(),
        ),
        case(
            conv([1, 4, 6, 7, 3, 1], 2, true),
            Setting::new("one channel, gates, relu", &[5, 18], &[1, 0], 20).gated(),
        ),
        case(
            conv([33, 65, 7, 5, 3, 1], 2, false),
            Setting::new("many channels, gates", &[3, 10], &[1, 0], 12).gated().normwise(),
        ),
        case(conv([3, 8, 6, 6, 3, 1], 2, true), Setting::new("gates", &[8, 6], &[0, 0], 8).gated().weights_even()),
        case(
            conv([2, 8, 5, 6, 3, 0], 2, false),
            Setting::new("gates, no relu", &[4, 6], &[0, 1], 8).gated().biases_even(),
        ),
        case(conv([1, 32, 28, 28, 3, 1], 2, true), Setting::new("simple-cnn conv1", &[9], &[0], 12)),
        case(conv([32, 64, 14, 14, 3, 1], 2, true), Setting::new("simple-cnn conv2", &[32, 30], &[0, 1], 32)),
        case(conv([64, 128, 7, 7, 3, 1], 2, true), Setting::new("simple-cnn conv3", &[6, 12], &[1, 0], 12)),
        case(pooled([1, 32, 28]), eight("simple-cnn conv1, eight clients")),
        case(pooled([32, 64, 14]), eight("simple-cnn conv2, eight clients")),
        case(pooled([64, 128, 7]), eight("simple-cnn conv3, eight clients")),
    ]
}
