//! The most multiplications and additions that a device does in a second (`shaders/peak_fma.wgsl`): the ceiling that
//! benchmarks hold the other kernels' GFLOP/s against. No model uses it.

use multiversion::target::target_cfg_f;
use rayon::prelude::*;

use super::cases::{LEFT, noise};
use super::shape::expect;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut, grid};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "peak_fma",
    source: || super::unroll(include_str!("../../shaders/peak_fma.wgsl")),
    variants: &[],
    bindings: &[Binding::read("start"), Binding::write("end", Compare::Close(1e-6))],
    params_words: 4,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// Numbers of one invocation, a chain each.
const CHAINS: usize = 12;
/// Steps of one turn of the shader's loop.
const STEPS: usize = 8;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    triples: u32,
    turns: u32,
    scale: f32,
    shift: f32,
}

/// Halving what came before forgets its rounding, so that devices that fuse the two operations and those that do not
/// stay within a few units of the last place, however many steps.
const RULE: (f32, f32) = (0.5, 0.25);

fn params(words: usize, turns: usize) -> Params {
    Params { triples: (words / CHAINS) as u32, turns: turns as u32, scale: RULE.0, shift: RULE.1 }
}

fn groups(words: usize) -> [u32; 3] {
    grid::folded((words / CHAINS).div_ceil(64), 1)
}

/// Writes to `end` what each of the floats of `start` becomes after 8 `turns` steps of x <- x / 2 + 1/4; the views are
/// equally long, a multiple of 12.
///
/// # Errors
/// [`Error::Kernel`] when the lengths do not match.
pub fn peak_fma<'a>(device: &dyn Device, turns: usize, start: View<'a>, end: View<'a>) -> Result<()> {
    if !start.words.is_multiple_of(CHAINS) {
        return Err(Error::Kernel { kernel: KERNEL.name, problem: format!("{} words", start.words) });
    }
    expect(KERNEL.name, "end", end, start.words)?;
    let params = params(start.words, turns);
    device.dispatch(&KERNEL, bytemuck::cast_slice(&[params]), &[start, end], groups(start.words))
}

/// Floats of one unit of CPU work: they stay in the fastest cache.
const BLOCK: usize = 1 << 10;

fn twin(call: Call<'_>) {
    let p: Params = call.params();
    let words = CHAINS * p.triples as usize;
    let ([start], [end]) = call.buffers();
    let blocks = f32s_mut(&mut end[..words]).par_chunks_mut(BLOCK).zip(f32s(start).par_chunks(BLOCK));
    blocks.for_each(|(end, start)| {
        end.copy_from_slice(&start[..end.len()]);
        block(p, end);
    });
}

/// The inner loop has a fixed length; vectors of neighbouring values are then chains that a processor runs side by side.
/// Fused where the instruction set has it: elsewhere `mul_add` is a call into the C library.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn block(p: Params, values: &mut [f32]) {
    let fused = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    for _ in 0..p.turns {
        for value in values.iter_mut() {
            let mut x = *value;
            for _ in 0..STEPS {
                x = if fused { x.mul_add(p.scale, p.shift) } else { x * p.scale + p.shift };
            }
            *value = x;
        }
    }
}

fn cases() -> Vec<Case> {
    [("one invocation", CHAINS, 1), ("odd", 77 * CHAINS, 0), ("peak", CHAINS << 18, 128)]
        .into_iter()
        .map(|(name, words, turns)| Case {
            name,
            params: bytemuck::cast_slice(&[params(words, turns)]).to_vec(),
            buffers: vec![noise(words, 1.0, 1), vec![LEFT; words]],
            groups: groups(words),
            flops: (2 * STEPS * turns * words) as u64,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::cases::{bits, on_cpu};
    use super::*;

    #[test]
    fn the_distance_to_the_fixed_point_is_halved_in_every_step() {
        // x - 1/2 after 8 steps is 2^-8 of what it was; every number here is exact in a float.
        let start: Vec<f32> = (0..24).map(|i| 0.5 + i as f32).collect();
        let buffers = [bits(&start), vec![7; 26]];
        let after = on_cpu(&buffers, |device, v| peak_fma(device, 1, v[0], v[1])).unwrap();
        let want: Vec<f32> = (0..24).map(|i| 0.5 + i as f32 / 256.0).collect();
        assert_eq!(after[1][..24], bits(&want));
        assert_eq!(after[1][24..], [7, 7]);
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let refused = |start: usize, end: usize| {
            on_cpu(&[vec![0; start], vec![0; end]], |device, v| peak_fma(device, 1, v[0], v[1])).is_err()
        };
        assert!(refused(13, 24) && refused(24, 12) && !refused(24, 24));
    }
}
