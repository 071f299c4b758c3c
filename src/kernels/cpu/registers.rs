//! Images in the registers of this processor, for the CPU twins that name its instructions: an array of images that is not
//! copied as a whole would be taken apart, number by number.

use pulp::Simd;

use super::packed::Images;
use super::vectors::{LANES, each, put_first};

/// Images, or the last ones. What is not whole is a call, so it is taken only there.
#[inline(always)]
pub fn load<S: Simd>(simd: S, images: &[f32]) -> S::f32s {
    let (whole, rest) = S::as_simd_f32s(images);
    whole.first().copied().unwrap_or_else(|| simd.partial_load_f32s(rest))
}

/// Writes them: a multiple of 4, or one, where a register holds one.
#[inline(always)]
pub fn store<S: Simd>(simd: S, register: S::f32s, images: &mut [f32]) {
    if images.len() < S::F32_LANES && S::F32_LANES >= 4 {
        let mut all = [0.0; LANES];
        S::as_mut_simd_f32s(&mut all).0[0] = register;
        return put_first(images, all);
    }
    let (whole, rest) = S::as_mut_simd_f32s(images);
    match whole.first_mut() {
        Some(whole) => *whole = register,
        None => simd.partial_store_f32s(rest, register),
    }
}

/// Codes as numbers, 0 where there are too few.
#[inline(always)]
pub fn load_codes<S: Simd>(codes: &[u8]) -> S::f32s {
    // As many as the register holds: of a longer array the compiler would convert some one by one.
    match S::F32_LANES {
        8 => numbers::<S, 8>(codes),
        _ => numbers::<S, LANES>(codes),
    }
}

#[inline(always)]
fn numbers<S: Simd, const N: usize>(codes: &[u8]) -> S::f32s {
    let bytes: [u8; N] =
        codes.first_chunk().copied().unwrap_or_else(|| each(|i| codes.get(i).copied().unwrap_or_default()));
    let numbers: [f32; N] = each(|i| f32::from(bytes[i]));
    S::as_simd_f32s(&numbers).0[0]
}

/// Added to a code it makes a number whose last bits are the code.
pub const WHOLE: f32 = (1 << 23) as f32;

/// Codes as bytes, a multiple of 4 of them; or one, where a register holds one.
#[inline(always)]
pub fn store_codes<S: Simd>(simd: S, codes: S::f32s, bytes: &mut [u8]) {
    // A conversion, which minds what is no byte, would take the register apart.
    let mut numbers = [WHOLE; LANES];
    S::as_mut_simd_f32s(&mut numbers).0[0] = simd.add_f32s(codes, simd.splat_f32s(WHOLE));
    let all = each(|i| numbers[i].to_bits() as u8);
    match S::F32_LANES {
        0..4 => bytes.copy_from_slice(&all[..bytes.len()]),
        _ => put_first(bytes, all),
    }
}

/// The registers of a slot's images. Where B is no multiple of what one holds, the last begins earlier and takes some images
/// once more, to the same end: so that all but those of a smaller B are full.
#[inline(always)]
pub fn registers<S: Simd>(stride: usize, count: u32) -> impl Iterator<Item = Images> {
    let (wide, count) = (S::F32_LANES, (count as usize).min(stride));
    (0..count).step_by(wide).map(move |first| {
        let first = first.min(stride.saturating_sub(wide));
        Images { stride, first, real: (count - first).min(wide), lanes: stride.min(wide) }
    })
}

/// Images that [`registers`] covers: beyond them a slot's twin writes zeros.
#[inline(always)]
pub fn covered<S: Simd>(stride: usize, count: u32) -> usize {
    (count as usize).min(stride).next_multiple_of(S::F32_LANES).min(stride)
}

/// The images of pixel `pixel` of `[pixel][B]`.
#[inline(always)]
pub fn of<T>(images: Images, slot: &[T], pixel: usize) -> &[T] {
    &slot[pixel * images.stride + images.first..][..images.lanes]
}

/// The same, to be written.
#[inline(always)]
pub fn of_mut<T>(images: Images, slot: &mut [T], pixel: usize) -> &mut [T] {
    &mut slot[pixel * images.stride + images.first..][..images.lanes]
}

/// The first images of a register, where there are others.
#[inline(always)]
pub fn first<S: Simd>(simd: S, real: usize) -> S::m32s {
    let numbers: [f32; LANES] = each(|i| i as f32);
    simd.less_than_f32s(S::as_simd_f32s(&numbers).0[0], simd.splat_f32s(real as f32))
}

/// Zeros to some images, of which as many as come in fours without a call: the others are there where a register holds one.
#[inline(always)]
pub fn zero<T: Copy + Default>(images: &mut [T]) {
    let (fours, others) = images.as_chunks_mut::<4>();
    fours.fill([T::default(); 4]);
    for other in others {
        *other = T::default();
    }
}
