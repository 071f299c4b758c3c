//! The gates of everything but the circuit (`shaders/complement.wgsl`).

use super::cases::LEFT;
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut, grid};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "complement",
    source: || include_str!("../../shaders/complement.wgsl").into(),
    variants: &[],
    bindings: &[Binding::read("gates"), Binding::write("others", Compare::Exact)],
    params_words: 1,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// `others = 1 - gates`, hard gates (1 or 0) of any shape.
///
/// # Errors
/// [`Error::Kernel`] when the views differ in length.
pub fn complement(device: &dyn Device, gates: View<'_>, others: View<'_>) -> Result<()> {
    let words = gates.words;
    if others.words != words {
        let problem = format!("{words} gates, {} others", others.words);
        return Err(Error::Kernel { kernel: KERNEL.name, problem });
    }
    device.dispatch(&KERNEL, &[words as u32], &[gates, others], grid::folded(words.div_ceil(64), 1))
}

fn twin(call: Call<'_>) {
    let ([gates], [others]) = call.buffers();
    for (other, gate) in f32s_mut(others).iter_mut().zip(f32s(gates)) {
        *other = 1.0 - gate;
    }
}

fn cases() -> Vec<Case> {
    [("one", 1), ("odd", 67), ("twenty circuits of simple-cnn", 20 * 224)]
        .into_iter()
        .map(|(name, words)| Case {
            name,
            params: vec![words as u32],
            buffers: vec![(0..words).map(|i| ((i * 7 % 3 == 0) as u32 as f32).to_bits()).collect(), vec![LEFT; words]],
            groups: grid::folded(words.div_ceil(64), 1),
            flops: words as u64,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_becomes_closed_and_closed_open() {
        let cpu = crate::device::Cpu::new(Some(1)).unwrap();
        let gates = cpu.alloc("gates", 3).unwrap();
        let others = cpu.alloc("others", 3).unwrap();
        cpu.write(gates.all(), &[1.0f32.to_bits(), 0, 1.0f32.to_bits()]).unwrap();
        complement(&cpu, gates.all(), others.all()).unwrap();
        let read = pollster::block_on(cpu.read(&[others.all()])).unwrap();
        assert_eq!(f32s(&read[0]), [0.0, 1.0, 0.0]);
    }
}
