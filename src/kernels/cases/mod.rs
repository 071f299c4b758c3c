//! Inputs that the kernels' cases share: hashes of the index, so that every run and every machine sees the same.

pub mod ablate;
pub mod conv;
pub mod linear;
pub mod settings;
pub mod sparse;

/// What another batch left in a buffer: numbers, none of which passes for zero, and codes that are nobody's.
pub const LEFT: u32 = 0x4040_4040;

/// `words` whole numbers in `0..limit`.
pub fn below(words: usize, limit: u32, salt: u32) -> Vec<u32> {
    (0..words as u32).map(|i| hash(i, salt) % limit).collect()
}

/// The bits of `words` floats, even over -scale..scale.
pub fn noise(words: usize, scale: f32, salt: u32) -> Vec<u32> {
    let unit = |i| (hash(i, salt) >> 8) as f32 / (1 << 23) as f32 - 1.0;
    (0..words as u32).map(|i| (scale * unit(i)).to_bits()).collect()
}

/// The bits of `values`.
pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// The finaliser of MurmurHash3 over the index and a salt.
fn hash(i: u32, salt: u32) -> u32 {
    let x = i ^ salt.wrapping_mul(0x9e37_79b9);
    let x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
    let x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
    x ^ (x >> 16)
}

/// Runs one typed call in a test: makes the buffers, hands them over, returns what they hold afterwards.
#[cfg(test)]
pub fn on_cpu(
    buffers: &[Vec<u32>],
    call: impl FnOnce(&dyn crate::device::Device, &[crate::device::View<'_>]) -> crate::Result<()>,
) -> crate::Result<Vec<Vec<u32>>> {
    use crate::device::{Cpu, Device};
    let cpu = Cpu::new(Some(2))?;
    let mut held = Vec::new();
    for words in buffers {
        let buffer = cpu.alloc("test", words.len())?;
        cpu.write(buffer.all(), words)?;
        held.push(buffer);
    }
    let views: Vec<_> = held.iter().map(|b| b.all()).collect();
    call(&cpu, &views)?;
    pollster::block_on(cpu.read(&views))
}
