//! A slot's bits depend on nothing but the slot: the same images, in another order of slots and with another B.

use super::reference::run;
use crate::kernels::cases::LEFT;
use crate::kernels::cases::conv::{ConvCase, conv_cases};
use crate::kernels::cases::linear::{LinearCase, linear_cases};
use crate::kernels::cases::settings::{Setting, series};
use crate::kernels::*;

const STRIDE: usize = 72;

/// The slots of "two chunks" in reverse, and B = 72 (three chunks) instead of 40.
fn setting() -> Setting {
    Setting::new("two chunks, moved", &[5, 33, 40], &[1, 2, 0], STRIDE)
}

/// `[slots][words][old]` in reverse order of the slots as `[slots][words][STRIDE]`, with zeros behind.
fn moved<T: Copy + Default>(values: &[T], old: usize) -> Vec<T> {
    let pad = |images: &[T]| [images, &vec![T::default(); STRIDE - old]].concat();
    values.chunks_exact(values.len() / 3).rev().flat_map(|slot| slot.chunks_exact(old).flat_map(pad)).collect()
}

fn moved_bytes(words: &[u32], old: usize) -> Vec<u32> {
    bytemuck::pod_collect_to_vec(&moved(bytemuck::cast_slice::<u32, u8>(words), old))
}

/// `[slots][words]` in reverse order of the slots.
fn reversed(words: &[u32]) -> Vec<u32> {
    words.chunks_exact(words.len() / 3).rev().flatten().copied().collect()
}

#[test]
fn convolutions() {
    each_convolution("two chunks");
}

#[test]
fn convolutions_of_many_channels() {
    each_convolution("many channels, two chunks");
}

#[test]
fn convolutions_of_one_channel() {
    each_convolution("one channel, two chunks");
}

fn each_convolution(name: &str) {
    let case = conv_cases().into_iter().find(|c| c.setting.name == name).unwrap();
    let other = ConvCase { conv: case.conv, setting: Setting { rounding: case.setting.rounding, ..setting() } };
    let (old, weights, grad) = (case.setting.stride, case.weights(), case.output_grad());
    let buffers = |c: &ConvCase, input: &[u32]| {
        let words = c.setting.slots() * c.setting.stride * c.conv.sizes().1;
        let (rows, counts) = (c.setting.rows.to_vec(), c.setting.counts());
        vec![input.to_vec(), weights.clone(), rows, counts.clone(), counts, vec![LEFT; words], vec![LEFT; words / 4]]
    };
    let before = run(&conv_forward::KERNEL, &case.params_words(), &buffers(&case, &case.input()));
    let after = run(&conv_forward::KERNEL, &other.params_words(), &buffers(&other, &moved(&case.input(), old)));
    assert!(after[5] == moved(&before[5], old), "outputs");
    assert!(after[6] == moved_bytes(&before[6], old), "codes");

    let (codes, moved_codes) = (&before[6], &after[6]);
    let buffers = |c: &ConvCase, grad: &[u32], codes: &[u32]| {
        let words = c.setting.slots() * c.setting.stride * c.conv.sizes().0;
        let (rows, counts) = (c.setting.rows.to_vec(), c.setting.counts());
        vec![grad.to_vec(), codes.to_vec(), weights.clone(), rows, counts, vec![LEFT; words]]
    };
    let before = run(&conv_input_grad::KERNEL, &case.params_words(), &buffers(&case, &grad, codes));
    let buffers = buffers(&other, &moved(&grad, old), moved_codes);
    let after = run(&conv_input_grad::KERNEL, &other.params_words(), &buffers);
    assert!(after[5] == moved(&before[5], old), "input gradients");

    let buffers = [case.input(), grad.clone(), codes.clone(), case.setting.counts(), vec![LEFT; case.partials()]];
    let before = run(&conv_weight_grad::KERNEL, &case.params_words(), &buffers);
    let buffers = [
        moved(&case.input(), old),
        moved(&grad, old),
        moved_codes.clone(),
        other.setting.counts(),
        vec![LEFT; other.partials()],
    ];
    let after = run(&conv_weight_grad::KERNEL, &other.params_words(), &buffers);
    let sum = |c: &ConvCase, partials: &[u32]| {
        run(&weight_grad_sum::KERNEL, &c.params_words(), &[partials.to_vec(), vec![0; c.grads()]]).remove(1)
    };
    assert!(sum(&other, &after[4]) == reversed(&sum(&case, &before[4])), "weight gradients");
}

#[test]
fn fully_connected_layers() {
    let case = linear_cases().into_iter().find(|c| c.setting.name == "two chunks").unwrap();
    let other = LinearCase { linear: case.linear, setting: setting() };
    let (old, weights) = (case.setting.stride, case.weights());
    let slots = |c: &LinearCase| (c.setting.rows.to_vec(), c.setting.counts());
    let forward = |c: &LinearCase, input: Vec<u32>| {
        let ((rows, counts), words) = (slots(c), c.setting.slots() * c.setting.stride * c.linear.outputs);
        let buffers = [input, weights.clone(), rows, counts.clone(), counts, vec![LEFT; words]];
        run(&linear_forward::KERNEL, &c.params_words(), &buffers).remove(5)
    };
    let before = forward(&case, case.input());
    assert!(forward(&other, moved(&case.input(), old)) == moved(&before, old), "outputs");

    let backward = |c: &LinearCase, output: Vec<u32>, grad: Vec<u32>| {
        let ((rows, counts), words) = (slots(c), c.setting.slots() * c.setting.stride * c.linear.inputs);
        let buffers = [output, grad, weights.clone(), rows, counts.clone(), counts, vec![LEFT; words]];
        run(&linear_input_grad::KERNEL, &c.params_words(), &buffers).remove(6)
    };
    let after = backward(&other, moved(&case.output(), old), moved(&case.output_grad(), old));
    assert!(after == moved(&backward(&case, case.output(), case.output_grad()), old), "input gradients");

    let sums = |c: &LinearCase, input: Vec<u32>, output: Vec<u32>, grad: Vec<u32>| {
        // Words of other layers are the same in all slots, so their order says nothing.
        let row = series(c.place().row_words, 1.0, 9);
        let grads = row.repeat(c.setting.slots());
        let buffers = [input, output, grad, c.setting.counts(), grads];
        run(&linear_weight_grad::KERNEL, &c.params_words(), &buffers).remove(4)
    };
    let before = sums(&case, case.input(), case.output(), case.output_grad());
    let [input, output, grad] = [case.input(), case.output(), case.output_grad()].map(|words| moved(&words, old));
    assert!(sums(&other, input, output, grad) == reversed(&before), "weight gradients");
}
