//! The sparse twins against the dense ones, against float64, and against themselves with another B and order of slots.

use pulp::Arch;

use super::reference::{self, run};
use crate::device::{Access, Call, Compare, Kernel, compare, f32s};
use crate::kernels::cases::LEFT;
use crate::kernels::cases::conv::ConvCase;
use crate::kernels::cases::linear::LinearCase;
use crate::kernels::cases::settings::Setting;
use crate::kernels::cases::sparse::{sparse_conv_cases, sparse_linear_cases};
use crate::kernels::sparse::Side;
use crate::kernels::*;

/// What a kernel makes of a case: its outputs.
fn outputs(kernel: &'static Kernel, params: &[u32], inputs: &[Vec<u32>], words: &[usize]) -> Vec<Vec<u32>> {
    let written = words.iter().map(|words| vec![LEFT; *words]);
    let buffers: Vec<_> = inputs.iter().cloned().chain(written).collect();
    run(kernel, params, &buffers).split_off(inputs.len())
}

/// Outputs and codes.
fn conv_forward(c: &ConvCase, input: Vec<u32>, sparse: bool) -> Vec<Vec<u32>> {
    let setting = &c.setting;
    let words = setting.slots() * setting.stride * c.conv.sizes().1;
    let gates = setting.gates_or_counts(c.conv.out_channels);
    let mut inputs = vec![input, c.weights(), setting.rows.to_vec(), setting.counts(), gates];
    if sparse {
        inputs.push(c.lists(Side::Outputs));
        let params = c.sparse_params_words(Side::Outputs);
        return outputs(&sparse_conv_forward::KERNEL, &params, &inputs, &[words, words / 4]);
    }
    let mut after = outputs(&conv_forward::KERNEL, &c.params_words(), &inputs, &[words, words / 4]);
    // The dense kernel leaves nothing as it was.
    let (lists, outputs) = (c.lists(Side::Outputs), c.conv.sizes().1);
    for (written, images) in after.iter_mut().zip([setting.stride, setting.stride / 4]) {
        for (i, output) in written.chunks_exact_mut(images).enumerate() {
            if c.leaves(&lists, i / outputs, i % outputs) {
                output.fill(LEFT);
            }
        }
    }
    after
}

/// The input's gradient.
fn conv_backward(c: &ConvCase, grad: Vec<u32>, codes: Vec<u32>, sparse: bool) -> Vec<Vec<u32>> {
    let setting = &c.setting;
    let words = setting.slots() * setting.stride * c.conv.sizes().0;
    let mut inputs = vec![grad, codes, c.weights(), setting.rows.to_vec(), setting.counts()];
    if sparse {
        inputs.extend([setting.gates_or_counts(c.conv.out_channels), c.lists(Side::Inputs)]);
        return outputs(&sparse_conv_input_grad::KERNEL, &c.sparse_params_words(Side::Inputs), &inputs, &[words]);
    }
    let mut after = outputs(&conv_input_grad::KERNEL, &c.params_words(), &inputs, &[words]);
    // The dense kernel knows nothing of gates on its input.
    let plane = c.conv.height * c.conv.width * setting.stride;
    for (i, channel) in after[0].chunks_exact_mut(plane).enumerate() {
        if !setting.input_open(&c.conv, i / c.conv.in_channels, i % c.conv.in_channels) {
            channel.fill(LEFT);
        }
    }
    after
}

fn linear_forward(c: &LinearCase, input: Vec<u32>, sparse: bool) -> Vec<Vec<u32>> {
    let setting = &c.setting;
    let words = setting.slots() * setting.stride * c.linear.outputs;
    let gates = setting.gates_or_counts(c.linear.outputs);
    let mut inputs = vec![input, c.weights(), setting.rows.to_vec(), setting.counts(), gates];
    if sparse {
        inputs.push(c.lists(Side::Outputs));
        return outputs(&sparse_linear_forward::KERNEL, &c.sparse_params_words(Side::Outputs), &inputs, &[words]);
    }
    outputs(&linear_forward::KERNEL, &c.params_words(), &inputs, &[words])
}

fn linear_backward(c: &LinearCase, output: Vec<u32>, grad: Vec<u32>, sparse: bool) -> Vec<Vec<u32>> {
    let setting = &c.setting;
    let words = setting.slots() * setting.stride * c.linear.inputs;
    let gates = setting.gates_or_counts(c.linear.outputs);
    let mut inputs = vec![output, grad, c.weights(), setting.rows.to_vec(), setting.counts(), gates];
    if sparse {
        inputs.push(c.lists(Side::Inputs));
        return outputs(&sparse_linear_input_grad::KERNEL, &c.sparse_params_words(Side::Inputs), &inputs, &[words]);
    }
    outputs(&linear_input_grad::KERNEL, &c.params_words(), &inputs, &[words])
}

#[test]
fn sparse_twins_agree_with_dense_ones() {
    let same = |name: &str, rules: &[Compare], got: &[Vec<u32>], want: &[Vec<u32>]| {
        assert_eq!((got.len(), want.len()), (rules.len(), rules.len()));
        for ((rule, got), want) in rules.iter().zip(got).zip(want) {
            compare(*rule, got, want).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    };
    let close = Compare::Close(1e-5);
    for c in sparse_conv_cases() {
        let name = c.setting.name;
        let rules = [close, Compare::Codes(1e-4)];
        same(name, &rules, &conv_forward(&c, c.left_input(), true), &conv_forward(&c, c.input(), false));
        let want = conv_backward(&c, c.output_grad(), c.codes(), false);
        let (grad, codes) = c.left_output_grad();
        same(name, &[close], &conv_backward(&c, grad, codes, true), &want);
    }
    for c in sparse_linear_cases() {
        let name = c.setting.name;
        same(name, &[close], &linear_forward(&c, c.input(), true), &linear_forward(&c, c.input(), false));
        let want = linear_backward(&c, c.output(), c.output_grad(), false);
        same(name, &[close], &linear_backward(&c, c.output(), c.output_grad(), true), &want);
    }
}

/// Whatever the processor's registers hold: of one image, of eight, or of as many as here.
#[test]
fn narrower_registers_agree() {
    fn eight() -> Arch {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            return Arch::V3(simd);
        }
        Arch::Scalar
    }
    type Twin = fn(Call<'_>);
    let twins: [(&'static Kernel, Twin, Twin); 4] = [
        (
            &sparse_conv_forward::KERNEL,
            |c| sparse_conv_forward::twin_on(Arch::Scalar, c),
            |c| {
                sparse_conv_forward::twin_on(eight(), c);
            },
        ),
        (
            &sparse_conv_input_grad::KERNEL,
            |c| sparse_conv_input_grad::twin_on(Arch::Scalar, c),
            |c| {
                sparse_conv_input_grad::twin_on(eight(), c);
            },
        ),
        (
            &sparse_linear_forward::KERNEL,
            |c| sparse_linear_forward::twin_on(Arch::Scalar, c),
            |c| {
                sparse_linear_forward::twin_on(eight(), c);
            },
        ),
        (
            &sparse_linear_input_grad::KERNEL,
            |c| sparse_linear_input_grad::twin_on(Arch::Scalar, c),
            |c| {
                sparse_linear_input_grad::twin_on(eight(), c);
            },
        ),
    ];
    for (kernel, of_one, of_eight) in twins {
        let Kernel { name, source, variants, bindings, params_words, workgroup, cases, large, .. } = *kernel;
        for twin in [of_one, of_eight] {
            let narrow = Kernel { name, source, variants, bindings, params_words, workgroup, twin, cases, large };
            let narrow: &'static Kernel = Box::leak(Box::new(narrow));
            for mut case in cases() {
                let written = bindings.iter().zip(&mut case.buffers).filter(|(b, _)| b.access == Access::Write);
                written.for_each(|(_, buffer)| buffer.fill(LEFT));
                let [got, want] = [narrow, kernel].map(|kernel| run(kernel, &case.params, &case.buffers));
                for (binding, (got, want)) in bindings.iter().zip(got.iter().zip(&want)) {
                    compare(binding.compare, got, want).unwrap_or_else(|e| panic!("{name}, {}: {e}", case.name));
                }
            }
        }
    }
}

#[test]
fn outputs_and_codes_follow_the_definition_in_float64() {
    for c in sparse_conv_cases().into_iter().filter(|c| c.flops() < 3_000_000) {
        let (setting, words, lists) = (&c.setting, c.conv.sizes().1, c.lists(Side::Outputs));
        let after = conv_forward(&c, c.input(), true);
        let (output, codes) = (f32s(&after[0]), bytemuck::cast_slice::<u32, u8>(&after[1]));
        for (slot, count) in setting.counts.iter().enumerate() {
            for b in 0..setting.stride {
                let want = if b < *count as usize { reference::layer(&c, slot, b).outputs() } else { Vec::new() };
                for i in 0..words {
                    let at = (slot * words + i) * setting.stride + b;
                    if c.leaves(&lists, slot, i) {
                        assert_eq!((output[at].to_bits(), codes[at]), (LEFT, LEFT as u8), "{}: written", setting.name);
                        continue;
                    }
                    let Some(want) = want.get(i) else {
                        assert_eq!((output[at], codes[at]), (0.0, 0), "{}: padding image {b}", setting.name);
                        continue;
                    };
                    let close = (f64::from(output[at]) - want.value).abs() < 1e-5;
                    assert!(close, "{}: {} instead of {}", setting.name, output[at], want.value);
                    assert!(codes[at] == want.code || want.margin < 1e-5, "{}: code {}", setting.name, codes[at]);
                }
            }
        }
    }
}

/// A NaN passes where a survivor sees it, and a weight that is not finite is not skipped over images of zeros.
#[test]
fn what_is_not_a_number_is_not_lost() {
    let c = sparse_conv_cases().into_iter().find(|c| c.setting.name == "nothing pruned").unwrap();
    let mut input = c.input();
    input[0] = f32::NAN.to_bits();
    let (sparse, dense) = (conv_forward(&c, input.clone(), true), conv_forward(&c, input, false));
    let nans = |words: &[u32]| f32s(words).iter().map(|v| v.is_nan()).collect::<Vec<_>>();
    assert_eq!(nans(&sparse[0]), nans(&dense[0]));
    assert!(nans(&sparse[0]).contains(&true));

    let setting = &c.setting;
    let mut weights = c.weights();
    weights.iter_mut().for_each(|w| *w = f32::INFINITY.to_bits());
    let gates = setting.gates_or_counts(c.conv.out_channels);
    let zeros = vec![0; c.input().len()];
    let lists = c.lists(Side::Outputs);
    let inputs = [zeros, weights, setting.rows.to_vec(), setting.counts(), gates, lists];
    let words = setting.slots() * setting.stride * c.conv.sizes().1;
    let params = c.sparse_params_words(Side::Outputs);
    let after = outputs(&sparse_conv_forward::KERNEL, &params, &inputs, &[words, words / 4]);
    assert!(f32s(&after[0])[0].is_nan(), "infinity times nothing");
}

const STRIDE: usize = 72;

/// The slots of "two chunks" in reverse, and B = 72 instead of 40.
fn moved_setting(of: &Setting) -> Setting {
    Setting::new("two chunks, moved", &[5, 33, 40], &[1, 2, 0], STRIDE).pruned(of.alive)
}

/// `[slots][words][old]` in reverse order of the slots as `[slots][words][STRIDE]`, with zeros behind.
fn moved<T: Copy + Default>(values: &[T], old: usize) -> Vec<T> {
    let pad = |images: &[T]| [images, &vec![T::default(); STRIDE - old]].concat();
    values.chunks_exact(values.len() / 3).rev().flat_map(|slot| slot.chunks_exact(old).flat_map(pad)).collect()
}

fn moved_bytes(words: &[u32], old: usize) -> Vec<u32> {
    bytemuck::pod_collect_to_vec(&moved(bytemuck::cast_slice::<u32, u8>(words), old))
}

#[test]
fn a_slots_bits_depend_on_nothing_but_the_slot() {
    let c = sparse_conv_cases().into_iter().find(|c| c.setting.name == "two chunks").unwrap();
    let other = ConvCase { conv: c.conv, setting: moved_setting(&c.setting) };
    let old = c.setting.stride;
    let before = conv_forward(&c, c.input(), true);
    let after = conv_forward(&other, moved(&c.input(), old), true);
    assert!(after[0] == moved(&before[0], old), "outputs");
    assert!(after[1] == moved_bytes(&before[1], old), "codes");
    let (grad, codes) = (c.output_grad(), &before[1]);
    let want = conv_backward(&c, grad.clone(), codes.clone(), true);
    let got = conv_backward(&other, moved(&grad, old), moved_bytes(codes, old), true);
    assert!(got[0] == moved(&want[0], old), "input gradients");

    let c = sparse_linear_cases().into_iter().find(|c| c.setting.name == "two chunks").unwrap();
    let other = LinearCase { linear: c.linear, setting: moved_setting(&c.setting) };
    let old = c.setting.stride;
    let want = linear_forward(&c, c.input(), true);
    assert!(linear_forward(&other, moved(&c.input(), old), true)[0] == moved(&want[0], old), "linear outputs");
    let want = linear_backward(&c, c.output(), c.output_grad(), true);
    let got = linear_backward(&other, moved(&c.output(), old), moved(&c.output_grad(), old), true);
    assert!(got[0] == moved(&want[0], old), "linear input gradients");
}
