//! Convolutions in float64, straight from their definition: what the tests hold the twins to.

use crate::device::{Cpu, Device, Kernel, f32s};
use crate::kernels::cases::LEFT;
use crate::kernels::cases::conv::{ConvCase, conv_cases};
use crate::kernels::shape::Conv;
use crate::kernels::{DEAD, conv_forward};

/// One output of one image.
pub struct Output {
    pub value: f64,
    pub code: u8,
    /// How far its window is from another code: a tie or a kink.
    pub margin: f64,
}

/// One image and everything else that its output depends on.
pub struct Layer {
    pub conv: Conv,
    /// `[M][C][k][k]`, then `[M]`.
    pub weights: Vec<f64>,
    pub bias: Vec<f64>,
    pub gates: Vec<f64>,
    /// `[C][H][W]`.
    pub input: Vec<f64>,
}

impl Layer {
    /// `[M][h][w]` before ReLU and pooling.
    fn sums(&self) -> Vec<f64> {
        let (c, (h, w)) = (&self.conv, self.conv.unpooled());
        let mut z = vec![0.0; c.out_channels * h * w];
        for (i, z) in z.iter_mut().enumerate() {
            let (m, y, x) = (i / (h * w), i / w % h, i % w);
            *z = self.bias[m];
            for tap in 0..c.in_channels * c.kernel * c.kernel {
                let (channel, ky, kx) = (tap / (c.kernel * c.kernel), tap / c.kernel % c.kernel, tap % c.kernel);
                let (iy, ix) = ((y + ky).wrapping_sub(c.padding), (x + kx).wrapping_sub(c.padding));
                if iy < c.height && ix < c.width {
                    let weight = self.weights[m * c.in_channels * c.kernel * c.kernel + tap];
                    *z += weight * self.input[(channel * c.height + iy) * c.width + ix];
                }
            }
            *z *= self.gates[m];
        }
        z
    }

    /// `[M][PH][PW]`.
    pub fn outputs(&self) -> Vec<Output> {
        let (c, (h, w), (out_h, out_w)) = (&self.conv, self.conv.unpooled(), self.conv.pooled());
        let z = self.sums();
        let window = |i: usize| {
            let (m, y, x) = (i / (out_h * out_w), i / out_w % out_h * c.pool, i % out_w * c.pool);
            let places: Vec<f64> =
                (0..c.pool * c.pool).map(|p| z[(m * h + y + p / c.pool) * w + x + p % c.pool]).collect();
            let best = places.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let winner = places.iter().position(|z| *z == best).unwrap();
            let others = places.iter().enumerate().filter(|(p, _)| *p != winner).map(|(_, z)| best - z);
            let tie = others.fold(f64::INFINITY, f64::min);
            if self.gates[m] == 0.0 {
                Output { value: 0.0, code: DEAD, margin: f64::INFINITY }
            } else if c.relu && best <= 0.0 {
                Output { value: 0.0, code: DEAD, margin: -best }
            } else {
                let kink = if c.relu { best } else { f64::INFINITY };
                Output { value: best, code: winner as u8, margin: tie.min(kink) }
            }
        };
        (0..c.sizes().1).map(window).collect()
    }
}

/// The image `b` of `slot` of a case, with the parameters of its row.
pub fn layer(case: &ConvCase, slot: usize, b: usize) -> Layer {
    let (conv, setting, place, p) = (case.conv, &case.setting, case.place(), case.params());
    let (weights, input) = (case.weights(), case.input());
    let row = &f32s(&weights)[setting.rows[slot] as usize * place.row_words..][..place.row_words];
    let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    let gates = match p.gate_words as usize {
        0 => vec![1.0; conv.out_channels],
        words => {
            let gates = setting.gates_or_counts(conv.out_channels);
            wide(&f32s(&gates)[slot * words + p.gates_at as usize..][..conv.out_channels])
        }
    };
    let pixels = (0..conv.sizes().0).map(|i| f32s(&input)[(slot * conv.sizes().0 + i) * setting.stride + b]);
    Layer {
        conv,
        weights: wide(&row[place.weights_at..][..conv.weights()]),
        bias: wide(&row[place.bias_at..][..conv.out_channels]),
        gates,
        input: pixels.map(f64::from).collect(),
    }
}

/// The cases that are small enough for a definition in float64.
pub fn small_cases() -> impl Iterator<Item = ConvCase> {
    conv_cases().into_iter().filter(|c| c.flops() < 3_000_000)
}

/// Runs a kernel's twin and returns what its buffers then hold.
pub fn run(kernel: &'static Kernel, params: &[u32], buffers: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let cpu = Cpu::new(Some(1)).unwrap();
    let held: Vec<_> = buffers.iter().map(|words| cpu.alloc("test", words.len()).unwrap()).collect();
    held.iter().zip(buffers).for_each(|(held, words)| cpu.write(held.all(), words).unwrap());
    let views: Vec<_> = held.iter().map(|b| b.all()).collect();
    cpu.dispatch(kernel, params, &views, [1; 3]).unwrap();
    pollster::block_on(cpu.read(&views)).unwrap()
}

/// What the forward twin makes of a case: output, codes.
pub fn forward(case: &ConvCase) -> (Vec<u32>, Vec<u32>) {
    let (setting, words) = (&case.setting, case.setting.slots() * case.setting.stride * case.conv.sizes().1);
    let gates = setting.gates_or_counts(case.conv.out_channels);
    let reads = [case.input(), case.weights(), setting.rows.to_vec(), setting.counts(), gates];
    let writes = [vec![LEFT; words], vec![LEFT; words / 4]];
    let mut after = run(&conv_forward::KERNEL, &case.params_words(), &[reads.to_vec(), writes.to_vec()].concat());
    let codes = after.pop().unwrap();
    (after.pop().unwrap(), codes)
}

/// A random linear functional of one image's output, by central differences over the number that `at` picks. `None`
/// where a step crosses a kink.
pub fn difference(layer: &mut Layer, functional: &[f64], at: impl Fn(&mut Layer) -> &mut f64) -> Option<f64> {
    const STEP: f64 = 1e-5;
    let mut side = |step: f64| {
        *at(layer) += step;
        let outputs = layer.outputs();
        *at(layer) -= step;
        let value: f64 = outputs.iter().zip(functional).map(|(o, f)| o.value * f).sum();
        (value, outputs.iter().map(|o| o.code).collect::<Vec<_>>())
    };
    let ((above, codes_above), (below, codes_below)) = (side(STEP), side(-STEP));
    (codes_above == codes_below).then_some((above - below) / (2.0 * STEP))
}

/// Fails unless `got` is the sum of the terms, but for what float32 rounds: a few units of the last place of all of them
/// together, or 1e-5 where that is less.
pub fn close(got: f32, terms: impl Iterator<Item = f64>, case: &str) {
    let (want, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
    let off = (f64::from(got) - want).abs();
    assert!(off <= 1e-5_f64.max(3e-7 * size), "{case}: {got} instead of {want}, of terms of {size} together");
}
