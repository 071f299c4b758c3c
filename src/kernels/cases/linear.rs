//! Inputs for the tests and benchmarks of the fully connected layers' kernels.

use super::settings::{GATES_AT, Setting, eight, many, noise, place};
use crate::kernels::shape::{Linear, LinearParams, Place};

/// One fully connected layer with its setting.
pub struct LinearCase {
    pub linear: Linear,
    pub setting: Setting,
}

impl LinearCase {
    pub fn place(&self) -> Place {
        place(self.setting.weights_at, self.linear.inputs * self.linear.outputs, self.linear.outputs)
    }

    pub fn params(&self) -> LinearParams {
        let mut params = LinearParams::new(&self.linear, self.setting.batch(), self.place(), None);
        if self.setting.gated {
            params.gate_words = self.setting.gates(self.linear.outputs).1 as u32;
            params.gates_at = GATES_AT as u32;
        }
        params
    }

    pub fn params_words(&self) -> Vec<u32> {
        bytemuck::cast_slice(&[self.params()]).to_vec()
    }

    pub fn input(&self) -> Vec<u32> {
        self.setting.images_of(self.linear.inputs, 1)
    }

    pub fn weights(&self) -> Vec<u32> {
        let scale = 1.7 / (self.linear.inputs as f32).sqrt();
        self.setting.parameters(self.place(), &(&self.linear).into(), scale)
    }

    /// An output as a forward pass could have left it: zeros where a ReLU was dead, and without one some all the same.
    pub fn output(&self) -> Vec<u32> {
        let there = |z: f32| if self.linear.relu { z > 0.0 } else { z.abs() > 0.1 };
        let bits = |z: f32| if there(z) { z.to_bits() } else { 0 };
        self.setting.fill(self.linear.outputs, |i| bits(noise(i, 6)))
    }

    pub fn output_grad(&self) -> Vec<u32> {
        self.setting.images_of(self.linear.outputs, 3)
    }

    pub fn flops(&self) -> u64 {
        2 * (self.linear.inputs * self.linear.outputs) as u64 * self.setting.images()
    }
}

/// Those of a training step of many clients, and one large product of matrices.
pub fn large_linears() -> Vec<LinearCase> {
    let case =
        |[inputs, outputs]: [usize; 2], relu, setting| LinearCase { linear: Linear { inputs, outputs, relu }, setting };
    vec![
        case([2048, 2048], true, Setting::new("2048 x 2048, 2048 images", &[2048], &[0], 2048).even()),
        case([784, 200], true, many("mlp-2nn first layer, 64 clients")),
        case([1152, 10], false, many("simple-cnn fc, 64 clients")),
    ]
}

pub fn linear_cases() -> Vec<LinearCase> {
    let case =
        |[inputs, outputs]: [usize; 2], relu, setting| LinearCase { linear: Linear { inputs, outputs, relu }, setting };
    vec![
        case([5, 3], true, Setting::new("tiny", &[3], &[0], 4)),
        case([7, 10], false, Setting::new("shared rows, an empty slot", &[8, 0, 5], &[2, 0, 0], 8)),
        case([33, 17], true, Setting::new("two chunks", &[40, 33, 5], &[0, 2, 1], 40)),
        case([21, 9], true, Setting::new("gates", &[8, 6], &[0, 0], 8).gated()),
        case([6, 8], false, Setting::new("gates, no relu", &[4, 7], &[0, 1], 8).gated()),
        case([20, 37], true, Setting::new("by fours", &[40, 33, 5], &[0, 2, 1], 40).even()),
        case([36, 5], false, Setting::new("by fours, few outputs, gates", &[8, 6], &[1, 0], 8).even().gated()),
        case([6, 8], true, Setting::new("inputs no fours, outputs by fours", &[8, 6], &[1, 0], 8).even()),
        case([33, 16], false, Setting::new("inputs no fours, two chunks", &[40, 33], &[1, 0], 40).even()),
        case([1152, 10], false, Setting::new("simple-cnn fc", &[32, 30], &[0, 1], 32)),
        case([4, 2048], true, Setting::new("few inputs, many outputs", &[1537], &[0], 1540).even()),
        case([2048, 4], false, Setting::new("many inputs, few outputs", &[1538], &[0], 1540).even()),
        case([784, 200], true, Setting::new("mlp-2nn first layer", &[20, 13], &[1, 0], 20)),
        case([1152, 10], false, eight("simple-cnn fc, eight clients")),
    ]
}
