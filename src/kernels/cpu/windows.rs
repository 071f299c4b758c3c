//! Pooling windows of the CPU twins, a vector of them at a time. Codes are floats here: small whole numbers.

use pulp::Simd;

use crate::kernels::DEAD;

/// What follows the sums of an output channel.
#[derive(Clone, Copy)]
pub struct After<V> {
    pub bias: V,
    pub gate: V,
    pub relu: bool,
}

/// The value and the code of 2x2 windows whose sums are given in row-major order: of equal ones the first wins.
#[inline(always)]
pub fn pooled<S: Simd>(simd: S, sums: [S::f32s; 4], after: After<S::f32s>) -> (S::f32s, S::f32s) {
    let z = |sum| open(simd, sum, after);
    let first = (z(sums[0]), simd.splat_f32s(0.0));
    let second = greater(simd, first, z(sums[1]), 1.0);
    let third = greater(simd, second, z(sums[2]), 2.0);
    close(simd, greater(simd, third, z(sums[3]), 3.0), after)
}

/// The same of windows of one place.
#[inline(always)]
pub fn single<S: Simd>(simd: S, sum: S::f32s, after: After<S::f32s>) -> (S::f32s, S::f32s) {
    close(simd, (open(simd, sum, after), simd.splat_f32s(0.0)), after)
}

/// The gradient where its window's code is the place's number, and else nothing.
#[inline(always)]
pub fn won<S: Simd>(simd: S, grad: S::f32s, code: S::f32s, number: S::f32s) -> S::f32s {
    simd.select_f32s(simd.equal_f32s(code, number), grad, simd.splat_f32s(0.0))
}

#[inline(always)]
fn open<S: Simd>(simd: S, sum: S::f32s, after: After<S::f32s>) -> S::f32s {
    simd.mul_f32s(simd.add_f32s(sum, after.bias), after.gate)
}

#[inline(always)]
fn greater<S: Simd>(simd: S, (best, code): (S::f32s, S::f32s), z: S::f32s, number: f32) -> (S::f32s, S::f32s) {
    let more = simd.greater_than_f32s(z, best);
    (simd.select_f32s(more, z, best), simd.select_f32s(more, simd.splat_f32s(number), code))
}

/// The ReLU, and where the value came from.
#[inline(always)]
fn close<S: Simd>(simd: S, (best, code): (S::f32s, S::f32s), after: After<S::f32s>) -> (S::f32s, S::f32s) {
    let (zero, dead) = (simd.splat_f32s(0.0), simd.splat_f32s(f32::from(DEAD)));
    let (closed, mut value, mut code) = (simd.equal_f32s(after.gate, zero), best, code);
    if after.relu {
        let off = simd.less_than_or_equal_f32s(best, zero);
        code = simd.select_f32s(off, dead, code);
        // Behind a closed gate nothing is left of a sum, whatever it is.
        value = simd.select_f32s(closed, zero, simd.select_f32s(off, zero, best));
    }
    (value, simd.select_f32s(closed, dead, code))
}
