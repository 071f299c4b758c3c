//! Gradients by the winners against sums in float64, with every kind of instructions that the processor has.

use pulp::Arch;

use super::super::packed::{Images, by_chunk};
use super::{Filters, applies, input_grad, weight_grad};
use crate::device::f32s;
use crate::kernels::cases::conv::{ConvCase, conv_cases};
use crate::kernels::cases::settings::Setting;
use crate::kernels::shape::Conv;
use crate::kernels::{CHUNK, DEAD};

/// None, those of AVX2, those of AVX-512: as many as there are here.
fn kinds() -> Vec<Arch> {
    #[cfg(target_arch = "x86_64")]
    let wide = [pulp::x86::V3::try_new().map(Arch::V3), pulp::x86::V4::try_new().map(Arch::V4)];
    #[cfg(not(target_arch = "x86_64"))]
    let wide = [Some(Arch::new())];
    [Some(Arch::Scalar)].into_iter().chain(wide).flatten().collect()
}

/// Cases of the table, and more: filters of 5x5, every padding, numbers of channels and filters that fill no part and no block,
/// sides of which pixels are left over, images of which few rows are near at a time, every number of images from 1 to 17.
fn cases() -> Vec<ConvCase> {
    let conv = |in_channels, out_channels, height, width, kernel, padding| Conv {
        in_channels,
        out_channels,
        height,
        width,
        kernel,
        padding,
        pool: 2,
        relu: true,
    };
    let counts: [&'static [u32]; 5] = [&[1, 2, 3, 4], &[5, 6, 7, 8], &[9, 10, 11, 12], &[13, 14, 15, 16], &[17, 0, 31]];
    let images = |i: usize| Setting::new("counts", counts[i], &[0, 1, 0, 1][..counts[i].len()], 32);
    let more = [
        ConvCase { conv: conv(16, 9, 7, 7, 3, 1), setting: images(0) },
        ConvCase { conv: conv(17, 5, 6, 5, 3, 0), setting: images(1) },
        ConvCase { conv: conv(48, 5, 6, 6, 3, 2), setting: images(2) },
        ConvCase { conv: conv(33, 12, 9, 8, 5, 2), setting: images(3) },
        ConvCase { conv: conv(16, 70, 7, 9, 5, 0), setting: images(4) },
        ConvCase { conv: conv(20, 3, 34, 40, 3, 1), setting: images(0) },
        ConvCase { conv: conv(40, 130, 4, 4, 3, 1), setting: Setting::new("chunks", &[40, 33], &[0, 1], 40) },
    ];
    let table = conv_cases().into_iter().filter(|c| applies(&c.conv) && c.flops() < 100_000_000);
    table.chain(more).collect()
}

/// A sum and that of its terms' sizes.
#[derive(Clone, Copy, Default)]
struct Sum {
    value: f64,
    size: f64,
}

impl Sum {
    fn add(&mut self, term: f64) {
        self.value += term;
        self.size += term.abs();
    }

    /// Within rounding of the terms. A NaN is not.
    fn is(self, got: f32) -> bool {
        (f64::from(got) - self.value).abs() <= 1e-5 * self.size
    }
}

/// One slot of a case.
#[derive(Clone)]
struct Slot {
    conv: Conv,
    stride: usize,
    count: usize,
    /// `[C][H][W][B]`.
    input: Vec<f32>,
    /// `[M][C][k][k]`.
    weights: Vec<f32>,
    /// `[M][PH][PW][B]`.
    grad: Vec<f32>,
    codes: Vec<u8>,
}

impl Slot {
    fn of(case: &ConvCase, slot: usize) -> Self {
        let (setting, conv, place) = (&case.setting, case.conv, case.place());
        let (inputs, outputs) = conv.sizes();
        let part = |words: usize| slot * words * setting.stride..(slot + 1) * words * setting.stride;
        let row = setting.rows[slot] as usize * place.row_words + place.weights_at;
        let count = setting.counts[slot] as usize;
        // What stands in the gradients of images that are not there does not count, nor do codes of dead windows.
        let grad = f32s(&case.output_grad())[part(outputs)].to_vec();
        let dirty = |(i, grad): (usize, f32)| if i % setting.stride < count { grad } else { 9.0 };
        Self {
            conv,
            stride: setting.stride,
            count,
            input: f32s(&case.input())[part(inputs)].to_vec(),
            weights: f32s(&case.weights())[row..][..conv.weights()].to_vec(),
            grad: grad.into_iter().enumerate().map(dirty).collect(),
            codes: bytemuck::cast_slice::<u32, u8>(&case.codes())[part(outputs)].to_vec(),
        }
    }

    fn chunks(&self) -> impl Iterator<Item = Images> {
        let (stride, count) = (self.stride, self.count);
        (0..stride.div_ceil(CHUNK)).map(move |chunk| Images::new(chunk, stride, count as u32))
    }

    /// Calls `f` with the filter and the pixel of each gradient of an image, and the gradient.
    fn each(&self, b: usize, mut f: impl FnMut(usize, usize, usize, f32)) {
        let (height, width) = self.conv.pooled();
        for i in 0..self.conv.sizes().1 {
            let (m, py, px) = (i / (height * width), i / width % height, i % width);
            let (code, grad) = (usize::from(self.codes[i * self.stride + b]), self.grad[i * self.stride + b]);
            if code < usize::from(DEAD) {
                f(m, 2 * py + code / 2, 2 * px + code % 2, grad);
            }
        }
    }

    /// Calls `f` with each tap of a filter and the pixel that it reads for output (y, x).
    fn taps(&self, y: usize, x: usize, mut f: impl FnMut(usize, usize)) {
        let conv = &self.conv;
        for tap in 0..conv.kernel * conv.kernel {
            let iy = (y + tap / conv.kernel).wrapping_sub(conv.padding);
            let ix = (x + tap % conv.kernel).wrapping_sub(conv.padding);
            if iy < conv.height && ix < conv.width {
                f(tap, iy * conv.width + ix);
            }
        }
    }

    fn want_input(&self) -> Vec<Sum> {
        let conv = &self.conv;
        let (square, pixels) = (conv.kernel * conv.kernel, conv.height * conv.width);
        let mut sums = vec![Sum::default(); self.input.len()];
        for b in 0..self.count {
            self.each(b, |m, y, x, grad| {
                self.taps(y, x, |tap, pixel| {
                    for c in 0..conv.in_channels {
                        let weight = self.weights[(m * conv.in_channels + c) * square + tap];
                        sums[(c * pixels + pixel) * self.stride + b].add(f64::from(weight) * f64::from(grad));
                    }
                });
            });
        }
        sums
    }

    fn want_weights(&self, images: Images) -> Vec<Sum> {
        let conv = &self.conv;
        let (square, pixels) = (conv.kernel * conv.kernel, conv.height * conv.width);
        let mut sums = vec![Sum::default(); conv.partial_words()];
        for b in images.first..images.first + images.real {
            self.each(b, |m, y, x, grad| {
                sums[conv.weights() + m].add(grad.into());
                self.taps(y, x, |tap, pixel| {
                    for c in 0..conv.in_channels {
                        let input = self.input[(c * pixels + pixel) * self.stride + b];
                        sums[(m * conv.in_channels + c) * square + tap].add(f64::from(input) * f64::from(grad));
                    }
                });
            });
        }
        sums
    }

    fn input_grad(&self, arch: Arch) -> Vec<f32> {
        let mut to = vec![7.0; self.input.len()];
        Filters::on(arch, &self.conv, &self.weights, |filters| {
            for (images, mut to) in self.chunks().zip(by_chunk(&mut to, self.stride)) {
                input_grad(filters, images, (&self.grad, &self.codes), &mut to);
            }
        });
        to
    }

    fn weight_grad(&self, arch: Arch, images: Images) -> Vec<f32> {
        let mut to = vec![7.0; self.conv.partial_words()];
        weight_grad::on(arch, &self.conv, images, &self.input, (&self.grad, &self.codes), &mut to);
        to
    }
}

fn slots(cases: &[ConvCase]) -> impl Iterator<Item = Slot> {
    cases.iter().flat_map(|case| (0..case.setting.slots()).map(move |slot| Slot::of(case, slot)))
}

#[test]
fn gradients_are_the_sums_of_their_terms() {
    for slot in slots(&cases()) {
        let want = slot.want_input();
        let weights: Vec<_> = slot.chunks().map(|images| (images, slot.want_weights(images))).collect();
        for arch in kinds() {
            let wrong = want.iter().zip(slot.input_grad(arch)).position(|(want, got)| !want.is(got));
            assert!(wrong.is_none(), "{arch:?}, {:?}: input {wrong:?}", slot.conv);
            for (images, want) in &weights {
                let wrong = want.iter().zip(slot.weight_grad(arch, *images)).position(|(want, got)| !want.is(got));
                assert!(wrong.is_none(), "{arch:?}, {:?}, {images:?}: weight {wrong:?}", slot.conv);
            }
        }
    }
}

/// Processors that fuse the two operations differ from each other in nothing: what is summed in which order does not depend on
/// their vectors.
#[test]
fn wider_vectors_change_no_bit() {
    let [_, narrow, wide] = kinds()[..] else { return };
    for slot in slots(&cases()) {
        assert!(slot.input_grad(narrow) == slot.input_grad(wide), "{:?}: input", slot.conv);
        for images in slot.chunks() {
            assert!(slot.weight_grad(narrow, images) == slot.weight_grad(wide, images), "{:?}: weights", slot.conv);
        }
    }
}

/// A gradient that is not finite reaches everything that it is a term of, and no other image.
#[test]
fn what_is_not_finite_is_not_lost() {
    let slot = slots(&cases()).find(|slot| slot.count == 40).unwrap();
    let b = 34;
    let live = (0..slot.conv.sizes().1).find(|i| slot.codes[i * slot.stride + b] < DEAD).unwrap();
    for (arch, bad) in kinds().into_iter().flat_map(|arch| [f32::NAN, f32::INFINITY].map(|bad| (arch, bad))) {
        let before = slot.input_grad(arch);
        let mut dirty = slot.clone();
        dirty.grad[live * slot.stride + b] = bad;
        let after = dirty.input_grad(arch);
        for (i, (before, after)) in before.iter().zip(&after).enumerate() {
            assert!(i % slot.stride == b || before == after, "{arch:?}: another image changed");
        }
        assert!(after.iter().skip(b).step_by(slot.stride).any(|v| !v.is_finite()), "{arch:?}: {bad} in the input's");
        let partial = dirty.weight_grad(arch, slot.chunks().nth(1).unwrap());
        let m = live / (slot.conv.sizes().1 / slot.conv.out_channels);
        assert!(!partial[slot.conv.weights() + m].is_finite(), "{arch:?}: {bad} in the bias's");
        assert!(partial.iter().filter(|v| !v.is_finite()).count() > 1, "{arch:?}: {bad} in the weights'");
    }
}

#[test]
fn the_shape_alone_decides() {
    let conv =
        Conv { in_channels: 16, out_channels: 1, height: 8, width: 8, kernel: 3, padding: 1, pool: 2, relu: false };
    assert!(applies(&conv) && applies(&Conv { kernel: 5, ..conv }));
    for other in [Conv { pool: 1, ..conv }, Conv { kernel: 7, ..conv }, Conv { in_channels: 15, ..conv }] {
        assert!(!applies(&other), "{other:?}");
    }
}
