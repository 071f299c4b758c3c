//! Vectors of images, as the CPU twins take them.

/// Images in a vector: what the widest registers hold.
pub const LANES: usize = 16;

/// Calls `$work` with vectors of as many images as fit `$lanes`, a multiple of 4: of a length that is known where they are
/// made, or nothing of them stays in registers.
macro_rules! with_vectors {
    ($lanes:expr, $work:ident($($argument:expr),* $(,)?)) => {
        match $lanes {
            4 => $work::<4>($($argument),*),
            8 => $work::<8>($($argument),*),
            12 => $work::<12>($($argument),*),
            _ => $work::<16>($($argument),*),
        }
    };
}
pub(in crate::kernels) use with_vectors;

/// Where the vectors of `L` images begin that cover `lanes`: the last one earlier where they do not come out even, so that
/// all are whole and some images are taken twice.
#[inline(always)]
pub fn steps<const L: usize>(lanes: usize) -> impl Iterator<Item = usize> {
    (0..lanes).step_by(L).map(move |at| at.min(lanes - L))
}

/// The first `L` of a slice that holds at least as many.
#[inline(always)]
pub fn array<T: Copy, const L: usize>(slice: &[T]) -> [T; L] {
    *slice.first_chunk().expect("as many images as the vector")
}

/// `[of(0), of(1), ...]`. What core's `from_fn` and `map` make goes over memory wherever they are not inlined, and these are
/// called for every vector.
#[inline(always)]
pub fn each<T: Copy + Default, const N: usize>(of: impl Fn(usize) -> T) -> [T; N] {
    let mut vector = [T::default(); N];
    for (i, number) in vector.iter_mut().enumerate() {
        *number = of(i);
    }
    vector
}

/// Writes the first 4, 8, 12 or all of a vector: as many as there is room for, each number of them a move of its own, so that
/// none becomes a loop through memory.
#[inline(always)]
pub fn put_first<T: Copy>(to: &mut [T], vector: [T; LANES]) {
    match to.len() {
        0..8 => to[..4].copy_from_slice(&vector[..4]),
        8..12 => to[..8].copy_from_slice(&vector[..8]),
        12..16 => to[..12].copy_from_slice(&vector[..12]),
        _ => to.copy_from_slice(&vector),
    }
}

/// Writes a vector.
#[inline(always)]
pub fn put<T: Copy, const L: usize>(slice: &mut [T], vector: [T; L]) {
    *slice.first_chunk_mut().expect("as many images as the vector") = vector;
}
