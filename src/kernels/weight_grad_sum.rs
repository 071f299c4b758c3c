//! Adds the partial weight gradients of a convolution (`shaders/weight_grad_sum.wgsl`).

use rayon::prelude::*;

use super::cases::conv::conv_cases;
use super::cases::settings::series;
use super::shape::{Batch, CONV_WORDS, Conv, ConvParams, Place, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut, grid};
use crate::error::Result;

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "weight_grad_sum",
    source: || include_str!("../../shaders/weight_grad_sum.wgsl").into(),
    variants: &[],
    bindings: &[Binding::read("partials"), Binding::write("grads", Compare::ExactFloats)],
    params_words: CONV_WORDS,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

fn groups(p: &ConvParams) -> [u32; 3] {
    grid::folded(p.conv().partial_words().div_ceil(4 * 64), p.slots)
}

/// The buffers of [`weight_grad_sum`].
#[derive(Clone, Copy, Debug)]
pub struct WeightGradSum<'a> {
    /// `[slots][chunks][M x C x k x k weights, then M biases]`, from [`super::conv_weight_grad`]; and up to three words more,
    /// for they are read by fours.
    pub partials: View<'a>,
    /// `[slots][P]`: this layer's words are written, all others left.
    pub grads: View<'a>,
}

/// The sum of each slot's partial gradients, in ascending order of the chunks, at the layer's place in `grads`.
///
/// # Errors
/// [`crate::Error::Kernel`] when the sizes make no convolution or a view is too short for them.
pub fn weight_grad_sum(
    device: &dyn Device,
    conv: &Conv,
    batch: Batch,
    place: Place,
    io: WeightGradSum<'_>,
) -> Result<()> {
    let name = KERNEL.name;
    conv.check(name, batch, place)?;
    let p = ConvParams::new(conv, batch, place, None);
    let partials = batch.slots * p.chunks as usize * conv.partial_words();
    expect(name, "partials", io.partials, partials.next_multiple_of(4))?;
    expect(name, "grads", io.grads, batch.slots * place.row_words)?;
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[p]), &[io.partials, io.grads], groups(&p))
}

fn twin(call: Call<'_>) {
    let p: ConvParams = call.params();
    let ([partials], [grads]) = call.buffers();
    let (chunks, row) = (p.chunks as usize, p.row_words as usize);
    let (weights, words) = (p.conv().weights(), p.conv().partial_words());
    let slots = f32s_mut(grads)[..p.slots as usize * row].par_chunks_mut(row);
    slots.zip(f32s(partials).par_chunks(chunks * words)).for_each(|(grads, partials)| {
        let (first, rest) = partials.split_at(words);
        let biases = words - weights;
        grads[p.weights_at as usize..][..weights].copy_from_slice(&first[..weights]);
        grads[p.bias_at as usize..][..biases].copy_from_slice(&first[weights..]);
        for partial in rest.chunks_exact(words) {
            add(&mut grads[p.weights_at as usize..][..weights], &partial[..weights]);
            add(&mut grads[p.bias_at as usize..][..biases], &partial[weights..]);
        }
    });
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

fn cases() -> Vec<Case> {
    conv_cases()
        .into_iter()
        .map(|c| Case {
            name: c.setting.name,
            params: c.params_words(),
            buffers: vec![series(c.partials().next_multiple_of(4), 1.0, 7), series(c.grads(), 1.0, 8)],
            groups: groups(&c.params()),
            flops: c.partials() as u64,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::cases::conv::ConvCase;
    use super::super::cases::settings::Setting;
    use super::super::tests::reference;
    use super::*;

    #[test]
    fn chunks_are_added_and_other_words_left() {
        let conv =
            Conv { in_channels: 1, out_channels: 1, height: 2, width: 2, kernel: 1, padding: 0, pool: 1, relu: false };
        let case = ConvCase { conv, setting: Setting::new("two chunks of two slots", &[40, 40], &[0, 0], 40) };
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let (row, place) = (case.place().row_words, case.place());
        // Two words a chunk: the weight, then the bias.
        let partials = bits(&[1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 4.0, 40.0]);
        let after = reference::run(&KERNEL, &case.params_words(), &[partials, bits(&vec![-1.0; 2 * row])]);
        for (slot, grads) in f32s(&after[1]).chunks_exact(row).enumerate() {
            let mut want = vec![-1.0; row];
            (want[place.weights_at], want[place.bias_at]) = [(3.0, 30.0), (7.0, 70.0)][slot];
            assert_eq!(grads, want);
        }
    }
}
