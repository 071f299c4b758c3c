//! When two devices agree: on the kernels' cases, which are noise about as large as 1, and on the data of real runs.

use super::{Binding, Compare, Kernel, Leeway, f32s};
use crate::error::Result;

/// What an output lacks of agreement: a sentence for a person.
type Verdict = std::result::Result<(), String>;

/// Numbers beyond this, or that are none, are those of a run that diverged.
const BEYOND: f32 = 1e30;

/// How large the largest of an output's floats counts as.
#[derive(Clone, Copy)]
enum Scale {
    /// At least as 1.
    Cases,
    /// As what it is, or as the terms that it was left of. In a real run more cancels than in noise, so small outputs may
    /// differ by ten times their tolerance, but by no more than in the cases.
    Real { terms: f32 },
}

impl Scale {
    /// The difference that floats may have from `want`.
    fn allowed(self, tolerance: f32, want: &[f32]) -> f32 {
        let largest = want.iter().filter(|w| w.is_finite()).fold(0.0f32, |m, w| m.max(w.abs()));
        match self {
            Self::Cases => tolerance * largest.max(1.0),
            // A device may take what is smaller than the smallest normal number for 0.
            Self::Real { terms } => {
                (tolerance * largest.max((10.0 * largest).min(1.0)).max(terms)).max(f32::MIN_POSITIVE)
            }
        }
    }

    /// Whether the CPU engine's numbers of a run are about to leave what a float can hold, or have left it. Which of them
    /// overflow, and what a window's greatest is beside NaN, then depends on the order of the sums: nothing is compared, and
    /// the run ends soon with an error of its own.
    fn diverged(self, want: &[f32]) -> bool {
        matches!(self, Self::Real { .. }) && want.iter().any(|w| !w.is_finite() || w.abs() > BEYOND)
    }
}

/// Whether `got` passes for `want` in a kernel's case; otherwise where it does not, and by how much.
///
/// # Errors
/// A sentence for a person.
pub fn compare(rule: Compare, got: &[u32], want: &[u32]) -> Verdict {
    scaled(rule, Scale::Cases, got, want)
}

/// Whether a GPU's words of an output pass for the CPU engine's, `(got, want)`, in a real run. `held` reads what all of the
/// kernel's bindings hold on the CPU engine.
///
/// # Errors
/// Those of `held`.
pub(super) fn on_real_data(
    kernel: &Kernel,
    binding: &Binding,
    params: &[u32],
    (got, want): (&[u32], &[u32]),
    held: impl Fn() -> Result<Vec<Vec<u32>>>,
) -> Result<Verdict> {
    let real = |terms| Scale::Real { terms };
    match binding.leeway {
        _ if got == want => Ok(Ok(())),
        Leeway::None => Ok(scaled(binding.compare, real(0.0), got, want)),
        Leeway::Terms(size) => Ok(scaled(binding.compare, real(size(params, &held()?)), got, want)),
        Leeway::Choice { by, scores } => {
            let held = held()?;
            let floats = kernel.bindings.iter().zip(&held).find(|(b, _)| b.name == by);
            let slack = match floats {
                Some((_, words)) if real(0.0).diverged(f32s(words)) => return Ok(Ok(())),
                // Both devices round: each score may be off by as much on either.
                Some((Binding { compare: Compare::Close(tolerance), .. }, words)) => {
                    2.0 * f64::from(real(0.0).allowed(*tolerance, f32s(words)))
                }
                _ => 0.0,
            };
            let scores = |at| scores(params, &held, at);
            Ok(match binding.compare {
                Compare::Codes(_) => chosen::<u8>(bytemuck::cast_slice(got), bytemuck::cast_slice(want), slack, scores),
                _ => chosen::<u32>(got, want, slack, scores),
            })
        }
    }
}

/// Choices that may differ whatever their number, and the share beyond: more cannot be near ties, and would take long to
/// look at.
const FEW: usize = 64;
const SHARE: usize = 20;

/// Whether every choice that differs could be either, as the scores are off by `slack` at most.
fn chosen<T: Copy + PartialEq + Into<u32>>(
    got: &[T],
    want: &[T],
    slack: f64,
    scores: impl Fn(usize) -> Vec<(u32, f64)>,
) -> Verdict {
    let differing = || got.iter().zip(want).enumerate().filter(|(_, (g, w))| g != w);
    let (count, all) = (differing().count(), want.len());
    if count > FEW.max(all / SHARE) {
        return Err(format!("{count} of {all} choices differ"));
    }
    for (at, (got, want)) in differing() {
        let scores = scores(at);
        let best = scores.iter().fold(f64::NEG_INFINITY, |best, (_, score)| best.max(*score));
        let both = [*got, *want].map(|choice| {
            let choice: u32 = choice.into();
            (choice, scores.iter().find(|(c, _)| *c == choice).map(|(_, score)| *score))
        });
        // Negated, so that a score that is not a number fails.
        if both.iter().any(|(_, score)| !score.is_some_and(|score| score >= best - slack)) {
            let [got, want] = both.map(|(choice, score)| match score {
                Some(score) => format!("{choice:#x} (worth {score:e})"),
                None => format!("{choice:#x} (no choice there)"),
            });
            return Err(format!("choice {at} is {got} instead of {want}; the best is {best:e}, {slack:e} is rounding"));
        }
    }
    Ok(())
}

fn scaled(rule: Compare, scale: Scale, got: &[u32], want: &[u32]) -> Verdict {
    if got.len() != want.len() {
        return Err(format!("{} words instead of {}", got.len(), want.len()));
    }
    let equal = |same: fn(u32, u32) -> bool| match got.iter().zip(want).position(|(g, w)| !same(*g, *w)) {
        None => Ok(()),
        Some(i) => Err(format!("word {i} is {:#x} instead of {:#x}", got[i], want[i])),
    };
    match rule {
        Compare::Exact => equal(|g, w| g == w),
        Compare::ExactFloats => equal(same_float),
        Compare::Close(_) if scale.diverged(f32s(want)) => Ok(()),
        Compare::Close(tolerance) => close(scale.allowed(tolerance, f32s(want)), f32s(got), f32s(want)),
        Compare::Codes(share) => {
            let bytes = bytemuck::cast_slice::<u32, u8>;
            let differing = bytes(got).iter().zip(bytes(want)).filter(|(g, w)| g != w).count();
            let allowed = (share * 4.0 * want.len() as f32).ceil() as usize;
            if differing <= allowed {
                return Ok(());
            }
            Err(format!("{differing} of {} codes differ, {allowed} may", 4 * want.len()))
        }
        Compare::Fields(rules) => rules.iter().enumerate().try_for_each(|(field, rule)| {
            let pick = |w: &[u32]| -> Vec<u32> { w.iter().skip(field).step_by(rules.len()).copied().collect() };
            scaled(*rule, scale, &pick(got), &pick(want)).map_err(|e| format!("field {field} of {}: {e}", rules.len()))
        }),
    }
}

/// Equal bits, be they infinite, or NaN twice: its bits are 0xffc00000 on x86 and 0x7fffffff on NVIDIA's GPUs.
fn same_float(got: u32, want: u32) -> bool {
    got == want || f32::from_bits(got).is_nan() && f32::from_bits(want).is_nan()
}

fn close(allowed: f32, got: &[f32], want: &[f32]) -> Verdict {
    let mut worst: Option<(usize, f32)> = None;
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let diff = (g - w).abs();
        // NaN against a number fails.
        let fails = (diff.is_nan() || diff > allowed) && !same_float(g.to_bits(), w.to_bits());
        if fails && worst.is_none_or(|(_, most)| diff.is_nan() || diff > most) {
            worst = Some((i, diff));
        }
    }
    match worst {
        None => Ok(()),
        Some((i, diff)) => {
            Err(format!("element {i} is {} instead of {} (off by {diff:e}; allowed {allowed:e})", got[i], want[i]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn the_checker_notices_corruption_and_nan() {
        let want = words(&[1.0, -2.0, 300.0]);
        assert!(compare(Compare::Close(1e-6), &want, &want).is_ok());
        assert!(compare(Compare::Close(1e-6), &words(&[1.0, -2.0, 300.000_1]), &want).is_ok());
        assert!(compare(Compare::Close(1e-6), &words(&[1.0, -2.01, 300.0]), &want).is_err());
        assert!(compare(Compare::Close(1e9), &words(&[1.0, f32::NAN, 300.0]), &want).is_err());
        assert!(compare(Compare::Close(1e9), &words(&[1.0, f32::INFINITY, 300.0]), &want).is_err());
        assert!(compare(Compare::Exact, &[1, 2], &[1, 3]).is_err());
        assert!(compare(Compare::Exact, &[1], &[1, 3]).is_err());
        assert!(compare(Compare::Codes(0.0), &[0x0102_0304], &[0x0102_0304]).is_ok());
        assert!(compare(Compare::Codes(0.0), &[0x0102_0304], &[0x0102_0404]).is_err());
        assert!(compare(Compare::Codes(0.25), &[0x0102_0304], &[0x0102_0404]).is_ok());
        let fields = Compare::Fields(&[Compare::Close(1e-6), Compare::Exact]);
        assert!(compare(fields, &[0x3f80_0001, 7, 0, 8], &[0x3f80_0000, 7, 0, 8]).is_ok());
        assert!(compare(fields, &[0x3f80_0000, 7, 0, 8], &[0x3f80_0000, 7, 0, 9]).is_err());
    }

    #[test]
    fn nan_is_nan_whatever_its_bits() {
        let (x86, nvidia, number) = ([0xffc0_0000], [0x7fff_ffff], words(&[1.0]));
        for rule in [Compare::Close(1e9), Compare::ExactFloats] {
            assert!(compare(rule, &nvidia, &x86).is_ok());
            assert!(compare(rule, &number, &x86).is_err());
            assert!(compare(rule, &nvidia, &number).is_err());
        }
        assert!(compare(Compare::Exact, &nvidia, &x86).is_err(), "bits that are no floats");
        assert!(compare(Compare::ExactFloats, &words(&[0.0]), &words(&[-0.0])).is_err());
    }

    fn real(tolerance: f32, terms: f32, got: &[f32], want: &[f32]) -> bool {
        scaled(Compare::Close(tolerance), Scale::Real { terms }, &words(got), &words(want)).is_ok()
    }

    #[test]
    fn small_outputs_of_a_real_run_are_not_lost() {
        let want = [1e-6, -2e-6];
        assert!(!real(1e-5, 0.0, &[0.0; 2], &want), "zeros instead of gradients");
        assert!(real(1e-5, 0.0, &[1e-6, -2.0001e-6], &want) && !real(1e-5, 0.0, &[1e-6, -2.001e-6], &want));
        assert!(!real(1e-5, 0.0, &[1e-9, 0.0], &[0.0; 2]), "something instead of zeros");
        assert!(real(1e-5, 0.0, &[0.0; 2], &[0.0; 2]) && real(1e-5, 0.0, &[0.0; 2], &[1e-40, 0.0]));
        // No looser than the cases, whose 1 is where ten times as much would begin to exceed it.
        assert!(!real(1e-5, 0.0, &[0.5, 0.500_011], &[0.5; 2]) && real(1e-5, 0.0, &[0.5, 0.500_009], &[0.5; 2]));
        assert!(real(1e-5, 1.0, &[9e-6, 0.0], &want) && !real(1e-5, 1.0, &[2e-5, 0.0], &want));
    }

    #[test]
    fn a_run_that_diverged_is_no_mismatch() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        assert!(
            real(1e-5, 0.0, &[1.0, 0.0], &[1.0, nan]),
            "infinity less infinity or ReLU of its negative, by the order"
        );
        assert!(real(1e-5, 0.0, &[nan, inf], &[inf, 3e38]));
        assert!(!real(1e-5, 0.0, &[1.0, nan], &[1.0, 2.0]), "no overflow gives that");
    }

    /// What is said of an output of which a GPU has `got`, and the CPU engine what `held` holds.
    fn of_kernel(kernel: &Kernel, params: &[u32], held: &[Vec<u32>], output: &str, got: &[f32]) -> Verdict {
        let i = kernel.bindings.iter().position(|b| b.name == output).unwrap();
        on_real_data(kernel, &kernel.bindings[i], params, (&words(got), &held[i]), || Ok(held.to_vec())).unwrap()
    }

    #[test]
    fn gates_may_turn_where_rounding_decides() {
        let kernel = &crate::kernels::gate_step::KERNEL;
        let [any, reaching, logits] = [[0.0; 3], [1.0, 1.0, 0.0], [1e-7, 2.0, -1e-7]].map(|v: [f32; 3]| words(&v));
        let held = [any.clone(), reaching, logits, any.clone(), any, words(&[1.0, 1.0, 0.0]), words(&[1.0, 1.0, 0.0])];
        let of = |output, got: &[f32]| of_kernel(kernel, &[0; 9], &held, output, got);
        assert!(of("hard", &[0.0, 1.0, 1.0]).is_ok());
        assert!(of("hard", &[0.0, 0.0, 0.0]).is_err(), "a logit of 2");
        assert!(of("hard", &[0.5, 1.0, 0.0]).is_err(), "no gate");
        assert!(of("shown", &[0.0, 1.0, 0.0]).is_ok());
        assert!(of("shown", &[1.0, 1.0, 1.0]).is_err(), "a channel that reaches nothing");
    }

    #[test]
    fn what_shares_leave_of_each_other_is_judged_by_the_shares() {
        let kernel = &crate::kernels::cross_entropy::KERNEL;
        // Four images and two classes; each gradient is a difference of quarters.
        let held = [vec![0; 8], vec![0; 4], vec![4], words(&[1e-8; 8]), vec![0; 2]];
        let of = |got: f32| of_kernel(kernel, &[4, 2, 0, 0], &held, "grad", &[got; 8]);
        assert!(of(4e-7).is_ok() && of(6e-7).is_err());
    }

    /// Codes of one window with these scores; its floats are exact to 1e-5.
    fn codes(scores: &[(u32, f64)], got: u8, want: u8) -> Verdict {
        chosen(&[3, got], &[3, want], 2e-5, |_| scores.to_vec())
    }

    #[test]
    fn a_choice_may_differ_between_ties_alone() {
        let tie = [(0, 1.0), (1, 1.0 + 1e-8), (2, 0.0), (3, 0.0), (4, 0.0)];
        assert!(codes(&tie, 0, 1).is_ok() && codes(&tie, 1, 0).is_ok() && codes(&tie, 2, 0).is_err());
        let clear = [(0, 1.0), (1, 0.5), (2, 0.0), (3, 0.0)];
        let said = codes(&clear, 1, 0).unwrap_err();
        assert!(said.contains("choice 1 is 0x1 (worth 5e-1) instead of 0x0 (worth 1e0)"), "{said}");
        assert!(codes(&clear, 0, 1).is_err(), "the GPU may be right, the devices do not agree");
        let kink = |top: f64| [(0, top), (1, -1.0), (2, -1.0), (3, -1.0), (4, 0.0)];
        assert!(codes(&kink(1e-8), 4, 0).is_ok() && codes(&kink(-1e-8), 0, 4).is_ok());
        assert!(codes(&kink(0.1), 4, 0).is_err() && codes(&kink(-0.1), 0, 4).is_err());
        assert!(codes(&tie, 7, 0).is_err(), "no code");
        assert!(codes(&[], 1, 0).is_err(), "where rounding decides nothing");
        assert!(codes(&[(0, f64::NAN), (1, 0.0)], 1, 0).is_err());
    }

    #[test]
    fn too_many_choices_that_differ_are_refused_unseen() {
        let differing = |count: usize| {
            let got: Vec<u8> = (0..2000).map(|i| u8::from(i < count)).collect();
            chosen(&got, &[0; 2000], 1.0, |_| vec![(0, 0.0), (1, 0.0)])
        };
        assert!(differing(100).is_ok());
        assert!(differing(101).unwrap_err().contains("101 of 2000"));
    }

    /// Outputs below 1 are judged as if the largest were 1, larger ones by what it is; of codes so many of all bytes may differ.
    #[test]
    fn a_kernels_cases_allow_what_they_say() {
        let close = |got: &[f32], want: &[f32]| compare(Compare::Close(0.25), &words(got), &words(want)).is_ok();
        assert!(close(&[0.5, 0.25], &[0.5, 0.0]) && !close(&[0.5, 0.26], &[0.5, 0.0]));
        assert!(close(&[8.0, 2.0], &[8.0, 0.0]) && !close(&[8.0, 2.1], &[8.0, 0.0]));
        let codes = |differing: usize| {
            let got: Vec<u8> = (0..40).map(|i| u8::from(i < differing)).collect();
            compare(Compare::Codes(0.1), bytemuck::cast_slice(&got), &[0; 10]).is_ok()
        };
        assert!(codes(4) && !codes(5), "a tenth of forty bytes");
        assert!(
            compare(Compare::Exact, &[1, 3, 5], &[1, 3]).is_err() && compare(Compare::Exact, &[1], &[1, 3]).is_err()
        );
    }

    #[test]
    fn the_worst_element_is_named() {
        let said = |got: &[f32]| compare(Compare::Close(1e-3), &words(got), &words(&[0.0; 4])).unwrap_err();
        assert!(said(&[0.1, 0.5, 0.0, 0.2]).starts_with("element 1 is 0.5 instead of 0 (off by 5e-1; allowed 1e-3)"));
        assert!(said(&[0.1, 0.5, f32::NAN, 0.2]).starts_with("element 2 is NaN"));
    }

    /// Numbers beyond 1e30 end a run soon, although they are finite.
    #[test]
    fn numbers_about_to_overflow_are_those_of_a_run_that_diverged() {
        assert!(real(1e-5, 0.0, &[3e30, 1.0], &[2e30, 0.0]));
        assert!(!real(1e-5, 0.0, &[3e29, 1.0], &[2e29, 0.0]));
    }

    /// A score may be off by its tolerance on either device: by twice that in all, and no more.
    #[test]
    fn choices_are_near_ties_where_both_devices_round() {
        let kernel = &crate::kernels::gate_step::KERNEL;
        let tolerance = kernel.bindings.iter().find(|b| b.name == "logits").map(|b| b.compare);
        let Some(Compare::Close(tolerance)) = tolerance else { panic!("logits are close") };
        let of = |off: f32| {
            let logits = words(&[off * tolerance, 1.0, 0.0]);
            let any = words(&[0.0; 3]);
            let on = words(&[1.0; 3]);
            let want = words(&[1.0, 1.0, 0.0]);
            let held = [any.clone(), on, logits, any.clone(), any, want.clone(), want];
            of_kernel(kernel, &[0; 9], &held, "hard", &[0.0, 1.0, 0.0]).is_ok()
        };
        assert!(of(1.5) && !of(2.5));
    }
}
