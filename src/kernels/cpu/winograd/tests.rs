//! Winograd's forward pass against the definition in float64 and against the direct twin.

use super::{applies, pays};
use crate::device::{Call, Kernel, f32s};
use crate::kernels::cases::LEFT;
use crate::kernels::cases::conv::{ConvCase, conv_cases};
use crate::kernels::cases::settings::Setting;
use crate::kernels::cases::sparse::sparse_conv_cases;
use crate::kernels::conv_forward;
use crate::kernels::shape::{Conv, Rounding};
use crate::kernels::tests::reference::{self, run};

/// A kernel with another twin: for convolutions that it does not pay for, too.
fn with_twin(kernel: &'static Kernel, twin: fn(Call<'_>)) -> &'static Kernel {
    let Kernel { name, source, variants, bindings, params_words, workgroup, cases, large, .. } = *kernel;
    Box::leak(Box::new(Kernel { name, source, variants, bindings, params_words, workgroup, cases, large, twin }))
}

/// What the kernel writes for a case.
struct Answers {
    output: Vec<u32>,
    codes: Vec<u32>,
}

/// What a case reads.
#[derive(Clone)]
struct Reads {
    input: Vec<u32>,
    weights: Vec<u32>,
}

impl Reads {
    fn of(case: &ConvCase) -> Self {
        Self { input: case.input(), weights: case.weights() }
    }
}

/// Direct, or by Winograd.
fn answers(case: &ConvCase, reads: &Reads, winograd: bool) -> Answers {
    let (setting, outputs) = (&case.setting, case.conv.sizes().1);
    let images = setting.slots() * setting.stride;
    let rounding = if winograd { Rounding::Normwise } else { Rounding::Componentwise };
    let params = bytemuck::pod_collect_to_vec(&[case.params().rounded(rounding)]);
    let gates = setting.gates_or_counts(case.conv.out_channels);
    let kernel = with_twin(&conv_forward::KERNEL, |call| conv_forward::compute(call, applies));
    let reads = [reads.input.clone(), reads.weights.clone(), setting.rows.to_vec(), setting.counts(), gates];
    let ends = [vec![LEFT; images * outputs], vec![LEFT; images * outputs / 4]];
    let mut ends = run(kernel, &params, &[&reads[..], &ends[..]].concat()).split_off(5);
    let codes = ends.remove(1);
    Answers { output: ends.remove(0), codes }
}

/// Cases of the table that Winograd applies to, and more: every number of images from 1 to 17, sides that are odd, numbers
/// of channels that fill no vector, more than one block, no pooling.
fn cases() -> Vec<ConvCase> {
    let conv = |in_channels, out_channels, height, width, pool, relu| Conv {
        in_channels,
        out_channels,
        height,
        width,
        kernel: 3,
        padding: 1,
        pool,
        relu,
    };
    let counts: [&'static [u32]; 5] = [&[1, 2, 3, 4], &[5, 6, 7, 8], &[9, 10, 11, 12], &[13, 14, 15, 16], &[17, 0, 31]];
    let images = |i: usize| Setting::new("counts", counts[i], &[0, 1, 0, 1][..counts[i].len()], 32);
    let more = [
        ConvCase { conv: conv(5, 9, 7, 7, 2, true), setting: images(0) },
        ConvCase { conv: conv(17, 3, 5, 6, 1, true), setting: images(1) },
        ConvCase { conv: conv(3, 37, 6, 5, 2, false), setting: images(2) },
        ConvCase { conv: conv(35, 6, 1, 4, 1, false), setting: images(3) },
        ConvCase { conv: conv(4, 5, 5, 9, 2, true), setting: images(4) },
        ConvCase { conv: conv(1, 1, 2, 2, 1, false), setting: images(0) },
        ConvCase { conv: conv(2, 3, 3, 67, 2, true), setting: images(3) },
        ConvCase { conv: conv(32, 64, 14, 14, 2, true), setting: Setting::new("conv2", &[9], &[0], 12) },
    ];
    let table = conv_cases().into_iter().filter(|c| applies(&c.conv) && c.conv.height < 28 && c.flops() < 100_000_000);
    table.chain(more).collect()
}

/// What a few roundings of the largest number make: so much the transforms cost where a layer of few channels sums up next
/// to nothing.
const FLOOR: f64 = 4.0 * f32::EPSILON as f64;

/// Winograd's largest error is within four times the direct path's, or within rounding of the largest number. NaN fails.
fn hold(case: &ConvCase, want: &[f64], direct: &[u32], winograd: &[u32]) {
    let error = |got: &[u32]| {
        let far = |(got, want): (&f32, &f64)| (f64::from(*got) - want).abs();
        f32s(got).iter().zip(want).map(far).fold(0.0, |most: f64, far| if far <= most { most } else { far })
    };
    let largest = want.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
    let (direct, winograd) = (error(direct), error(winograd));
    let bound = (4.0 * direct).max(FLOOR * largest);
    let name = case.setting.name;
    assert!(winograd <= bound, "{name}, {:?}: {winograd:e} where the direct path errs by {direct:e}", case.conv);
}

#[test]
fn errors_stay_within_four_times_those_of_the_direct_path() {
    for case in cases() {
        let (setting, reads, outputs) = (&case.setting, Reads::of(&case), case.conv.sizes().1);
        let (direct, fewer) = (answers(&case, &reads, false), answers(&case, &reads, true));
        let codes = |answers: &Answers| bytemuck::pod_collect_to_vec::<u32, u8>(&answers.codes);
        for slot in 0..setting.slots() {
            let mut want = vec![0.0; outputs * setting.stride];
            for b in 0..setting.counts[slot] as usize {
                for (i, output) in reference::layer(&case, slot, b).outputs().into_iter().enumerate() {
                    want[i * setting.stride + b] = output.value;
                    let at = (slot * outputs + i) * setting.stride + b;
                    assert!(output.margin < 1e-5 || codes(&fewer)[at] == output.code, "{}: code {i}", setting.name);
                }
            }
            let part = slot * want.len()..(slot + 1) * want.len();
            hold(&case, &want, &direct.output[part.clone()], &fewer.output[part]);
        }
    }
}

/// Whether every NaN of the direct path is one of Winograd's too. What is infinite there, a difference of infinities may
/// here make NaN, which a window whose first place is finite passes over: so much of it has to be seen as shows that
/// something diverged.
fn noticed(bad: f32, direct: &[u32], winograd: &[u32]) -> bool {
    let (direct, winograd) = (f32s(direct), f32s(winograd));
    let lost = direct.iter().zip(winograd).any(|(direct, winograd)| direct.is_nan() && !winograd.is_nan());
    let seen = |numbers: &[f32]| numbers.iter().any(|v| !v.is_finite());
    (bad.is_infinite() || !lost) && seen(direct) && seen(winograd)
}

#[test]
fn a_number_that_is_not_finite_is_noticed_and_stays_with_its_image() {
    let case = conv_cases().into_iter().find(|c| c.setting.name == "many channels, two chunks").unwrap();
    let (stride, clean) = (case.setting.stride, Reads::of(&case));
    let before = answers(&case, &clean, true);
    for bad in [f32::NAN, f32::INFINITY] {
        // Image 34 of the first slot: of its second chunk.
        let at = |pixel: usize| pixel * stride + 34;
        let mut reads = clean.clone();
        reads.input[at(7)] = bad.to_bits();
        let (direct, fewer) = (answers(&case, &reads, false), answers(&case, &reads, true));
        assert!(noticed(bad, &direct.output, &fewer.output), "{bad}: outputs");
        let others = before.output.iter().zip(&fewer.output).enumerate().filter(|(i, _)| i % stride != 34);
        assert!(others.into_iter().all(|(_, (before, after))| before == after), "{bad}: another image changed");
        let mut reads = clean.clone();
        reads.weights[case.place().weights_at + 3] = bad.to_bits();
        let (direct, fewer) = (answers(&case, &reads, false), answers(&case, &reads, true));
        assert!(noticed(bad, &direct.output, &fewer.output), "{bad}: outputs of a weight");
    }
}

#[test]
fn the_shape_alone_decides() {
    let conv = |in_channels, out_channels, kernel, padding| {
        let (height, width) = (14, 14);
        Conv { in_channels, out_channels, height, width, kernel, padding, pool: 2, relu: true }
    };
    assert!(pays(&conv(32, 64, 3, 1)) && pays(&conv(64, 128, 3, 1)));
    let unpooled = Conv { pool: 1, ..conv(32, 64, 3, 1) };
    for other in
        [unpooled, conv(1, 32, 3, 1), conv(16, 16, 3, 1), conv(32, 64, 5, 2), conv(32, 64, 3, 0), conv(3, 900, 3, 1)]
    {
        assert!(!pays(&other), "{other:?}");
    }
}

/// Where few weights survive, places of a window at the border read nothing but the same padding.
#[test]
fn codes_differ_from_the_direct_path_only_where_windows_tie() {
    let case = sparse_conv_cases().into_iter().find(|c| c.setting.name == "simple-cnn conv2").unwrap();
    let (reads, (setting, outputs)) = (Reads::of(&case), (&case.setting, case.conv.sizes().1));
    let [direct, fewer] = [false, true].map(|winograd| answers(&case, &reads, winograd).codes);
    let bytes = bytemuck::cast_slice::<u32, u8>;
    let places = bytes(&direct).iter().zip(bytes(&fewer)).enumerate().filter(|(_, (a, b))| a != b);
    let mut images = std::collections::BTreeMap::<_, Vec<usize>>::new();
    for (at, _) in places {
        let (slot, i, b) = (at / setting.stride / outputs, at / setting.stride % outputs, at % setting.stride);
        images.entry((slot, b)).or_default().push(i);
    }
    assert!(images.values().map(Vec::len).sum::<usize>() < setting.slots() * setting.stride * outputs / 1000);
    for ((slot, b), places) in images {
        let want = reference::layer(&case, slot, b).outputs();
        for i in places {
            assert!(want[i].margin < 1e-6, "slot {slot}, image {b}, output {i}: margin {}", want[i].margin);
        }
    }
}
