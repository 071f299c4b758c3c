//! A safe face on the `gemm` crate: strided matrix products with their bounds checked.

/// A strided view of a row-major or column-major matrix: element (i, j) is `data[i * row + j * col]`.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Step between rows.
    pub row: usize,
    /// Step between columns.
    pub col: usize,
}

/// The same for the matrix that is written.
#[derive(Debug)]
pub struct MatMut<'a> {
    /// The elements.
    pub data: &'a mut [f32],
    /// Step between rows.
    pub row: usize,
    /// Step between columns.
    pub col: usize,
}

fn covers(len: usize, rows: usize, cols: usize, row: usize, col: usize) -> bool {
    rows == 0 || cols == 0 || (rows - 1) * row + (cols - 1) * col < len
}

/// `out = lhs * rhs`, or `out += lhs * rhs` with `accumulate`, on the calling thread. `lhs` is m x k, `rhs` k x n,
/// `out` m x n. The order of the sum depends on the sizes and, where m or n is large, on the
/// processor's caches.
///
/// # Panics
/// When a matrix reaches past the end of its slice, or two elements of `out` share a place.
#[allow(unsafe_code)]
pub fn matmul(m: usize, n: usize, k: usize, out: MatMut<'_>, lhs: Mat<'_>, rhs: Mat<'_>, accumulate: bool) {
    assert!(covers(lhs.data.len(), m, k, lhs.row, lhs.col), "left matrix {m} x {k} reaches past its slice");
    assert!(covers(rhs.data.len(), k, n, rhs.row, rhs.col), "right matrix {k} x {n} reaches past its slice");
    assert!(covers(out.data.len(), m, n, out.row, out.col), "result {m} x {n} reaches past its slice");
    let distinct = (out.col == 1 && out.row >= n) || (out.row == 1 && out.col >= m) || m * n <= 1;
    assert!(distinct, "result's rows overlap");
    // SAFETY: every index the product touches is (i * row + j * col) with i, j inside the sizes, and `covers` has
    // shown the largest of them to lie inside its slice. `out` is borrowed mutably, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.data.as_mut_ptr(),
            out.col as isize,
            out.row as isize,
            accumulate,
            lhs.data.as_ptr(),
            lhs.col as isize,
            lhs.row as isize,
            rhs.data.as_ptr(),
            rhs.col as isize,
            rhs.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(
        m: usize,
        n: usize,
        k: usize,
        a: impl Fn(usize, usize) -> f32,
        b: impl Fn(usize, usize) -> f32,
    ) -> Vec<f64> {
        let mut out = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                out[i * n + j] = (0..k).map(|l| f64::from(a(i, l)) * f64::from(b(l, j))).sum();
            }
        }
        out
    }

    #[test]
    fn products_agree_with_the_definition_for_every_layout() {
        let (m, n, k) = (5, 7, 9);
        let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect();
        let b: Vec<f32> = (0..k * n).map(|i| (i as f32 * 0.71).cos()).collect();
        for transposed in [false, true] {
            let (row, col) = if transposed { (1, m) } else { (k, 1) };
            let want = naive(m, n, k, |i, l| a[i * row + l * col], |l, j| b[l * n + j]);
            let mut out = vec![1.0; m * n];
            let lhs = Mat { data: &a, row, col };
            let rhs = Mat { data: &b, row: n, col: 1 };
            matmul(m, n, k, MatMut { data: &mut out, row: n, col: 1 }, lhs, rhs, true);
            for (got, want) in out.iter().zip(&want) {
                assert!((f64::from(*got) - 1.0 - want).abs() < 1e-5);
            }
        }
    }

    #[test]
    #[should_panic(expected = "reaches past its slice")]
    fn a_matrix_past_its_slice_is_refused() {
        let short = [0.0; 5];
        let mut out = [0.0; 4];
        let lhs = Mat { data: &short, row: 3, col: 1 };
        matmul(2, 2, 3, MatMut { data: &mut out, row: 2, col: 1 }, lhs, Mat { data: &short, row: 1, col: 1 }, false);
    }
}
