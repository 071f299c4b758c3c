//! What the places of a pooling window are worth in float64: how the shadow device judges codes that differ.

use super::DEAD;
use super::needed::Outputs;
use super::shape::ConvParams;
use super::sparse::{NO_GATES, params};
use super::text::conv_tile::parsed;
use crate::device::{Leeway, f32s};

/// Of [`super::conv_forward`]'s codes.
pub(super) const DENSE: Leeway = Leeway::Choice { by: "output", scores: dense };

/// Of [`super::sparse_conv_forward`]'s.
pub(super) const SPARSE: Leeway = Leeway::Choice { by: "output", scores: sparse };

fn dense(words: &[u32], held: &[Vec<u32>], at: usize) -> Vec<(u32, f64)> {
    let p = parsed(words);
    Output::new(p, at).scores(p, held, |_| true)
}

/// Of blocks that nothing needs no code changes; what lies in closed input channels is nobody's.
fn sparse(words: &[u32], held: &[Vec<u32>], at: usize) -> Vec<(u32, f64)> {
    let (p, conv) = (params(words), params(words).conv.conv());
    let output = Output::new(&p.conv, at);
    let list_words = p.place().row_words;
    let lists = &held[5][held[2][output.slot] as usize * list_words..][..list_words];
    if !Outputs::new(&conv, lists, p.needed_at).has(output.m, output.y, output.x) {
        return Vec::new();
    }
    let open = p.gates(f32s(&held[4]), output.slot, p.input_gates_at, conv.in_channels);
    output.scores(&p.conv, held, |c| open[c] != 0.0)
}

/// One output of one image.
struct Output {
    slot: usize,
    m: usize,
    y: usize,
    x: usize,
    b: usize,
}

impl Output {
    /// The one at a place of `[slots][M][PH][PW][B]`.
    fn new(p: &ConvParams, at: usize) -> Self {
        let sizes = [p.out_channels, p.out_height, p.out_width, p.stride];
        let [channels, height, width, stride] = sizes.map(|n| n as usize);
        let (pixel, b) = (at / stride, at % stride);
        let row = pixel / width;
        let plane = row / height;
        Self { slot: plane / channels, m: plane % channels, y: row % height, x: pixel % width, b }
    }

    /// What each place of the window is worth, and the ReLU's 0 as [`DEAD`]; nothing where the image is padding or the gate is
    /// closed. `held` begins as both kernels' bindings do: input, weights, rows, counts, gates.
    fn scores(&self, p: &ConvParams, held: &[Vec<u32>], open: impl Fn(usize) -> bool) -> Vec<(u32, f64)> {
        let gate = match (p.gate_words, p.gates_at) {
            (0, _) | (_, NO_GATES) => 1.0,
            (words, at) => f32s(&held[4])[self.slot * words as usize + at as usize + self.m],
        };
        let there = self.b < held[3][p.counts_at as usize + self.slot] as usize;
        if !there || gate == 0.0 {
            return Vec::new();
        }
        let places = (0..p.pool * p.pool).map(|place| {
            let (y, x) = (self.y as u32 * p.pool + place / p.pool, self.x as u32 * p.pool + place % p.pool);
            (place, self.sum(p, held, &open, [y as usize, x as usize]) * f64::from(gate))
        });
        places.chain((p.relu != 0).then_some((DEAD.into(), 0.0))).collect()
    }

    /// The bias and the weights' products at (y, x) before the pooling.
    fn sum(&self, p: &ConvParams, held: &[Vec<u32>], open: impl Fn(usize) -> bool, [y, x]: [usize; 2]) -> f64 {
        let (conv, stride) = (p.conv(), p.stride as usize);
        let row = &f32s(&held[1])[held[2][self.slot] as usize * p.row_words as usize..];
        let taps = conv.in_channels * conv.kernel * conv.kernel;
        let filter = &row[p.weights_at as usize + self.m * taps..][..taps];
        let input = &f32s(&held[0])[self.slot * conv.sizes().0 * stride..];
        let mut sum = f64::from(row[p.bias_at as usize + self.m]);
        for (tap, weight) in filter.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
            let (c, ky, kx) = (tap / (conv.kernel * conv.kernel), tap / conv.kernel % conv.kernel, tap % conv.kernel);
            let (iy, ix) = ((y + ky).wrapping_sub(conv.padding), (x + kx).wrapping_sub(conv.padding));
            if iy < conv.height && ix < conv.width && open(c) {
                let pixel = input[((c * conv.height + iy) * conv.width + ix) * stride + self.b];
                sum += f64::from(*weight) * f64::from(pixel);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::conv::ConvCase;
    use super::super::cases::sparse::sparse_conv_cases;
    use super::super::sparse::Side;
    use super::super::tests::reference;
    use super::super::{conv_forward, sparse_conv_forward};
    use super::*;
    use crate::device::Kernel;

    fn best(scores: &[(u32, f64)]) -> Option<(u32, f64)> {
        scores.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn follow_the_definition(kernel: &'static Kernel, cases: impl Iterator<Item = ConvCase>, sparse: bool) {
        let Leeway::Choice { scores, .. } = kernel.bindings[kernel.bindings.len() - 1].leeway else {
            panic!("{}: codes without scores", kernel.name)
        };
        for case in cases {
            let (setting, words, name) = (&case.setting, case.conv.sizes().1, case.setting.name);
            let lists = if sparse { case.lists(Side::Outputs) } else { Vec::new() };
            let left = |slot, i| sparse && case.leaves(&lists, slot, i);
            let of = (kernel.cases)().into_iter().find(|of| of.name == name).unwrap();
            for (slot, b) in (0..setting.slots()).flat_map(|slot| (0..setting.stride).map(move |b| (slot, b))) {
                let real = b < setting.counts[slot] as usize;
                let outputs = if real { reference::layer(&case, slot, b).outputs() } else { Vec::new() };
                for i in 0..words {
                    let found = scores(&of.params, &of.buffers, (slot * words + i) * setting.stride + b);
                    let closed = |want: &reference::Output| want.code == DEAD && want.margin.is_infinite();
                    let want = outputs.get(i).filter(|want| !closed(want) && !left(slot, i));
                    let (Some(want), Some(best)) = (want, best(&found)) else {
                        assert!(want.is_none() && found.is_empty(), "{name}: {found:?} of image {b}");
                        continue;
                    };
                    assert!(
                        best.0 == u32::from(want.code) || want.margin < 1e-9,
                        "{name}: {found:?}, not {}",
                        want.code
                    );
                    assert!((best.1 - want.value).abs() < 1e-9, "{name}: {found:?}, not {}", want.value);
                }
            }
        }
    }

    #[test]
    fn the_best_score_is_the_winners_by_definition() {
        follow_the_definition(&conv_forward::KERNEL, reference::small_cases(), false);
        let small = sparse_conv_cases().into_iter().filter(|c| c.flops() < 3_000_000);
        follow_the_definition(&sparse_conv_forward::KERNEL, small, true);
    }
}
