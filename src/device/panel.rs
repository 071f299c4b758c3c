//! Matrix products that read their right operand's rows where they lie: nothing is packed.
//!
//! The rows are vectors of images, the left operand's elements are weights that multiply a whole row: with images
//! innermost every layer's forward pass and input gradient is such a product, and a convolution's rows may start
//! anywhere, so that no column buffer is built either. A product's sum runs over its rows in their order, whatever the
//! tiles: an element's bits depend on nothing but the operands.

use pulp::{Arch, Simd, WithSimd};

use super::linalg::{Mat, MatMut};

/// `out[i][..columns] = sum over l of lhs[i][l] * rhs[starts[l]..][..columns]`, on the calling thread.
///
/// `lhs` is `rows` x `starts.len()` with `row` or `col` 1; `out` has `col` 1.
///
/// # Panics
/// When an operand reaches past the end of its slice, or its steps are not as above.
pub fn panel(rows: usize, columns: usize, out: MatMut<'_>, lhs: Mat<'_>, rhs: &[f32], starts: &[usize]) {
    assert!(out.col == 1 && (lhs.row == 1 || lhs.col == 1), "steps that no panel has");
    if rows == 0 || columns == 0 {
        return;
    }
    if lhs.col == 1 {
        Arch::new().dispatch(Panel::<false> { rows, columns, out, lhs, rhs, starts });
    } else {
        Arch::new().dispatch(Panel::<true> { rows, columns, out, lhs, rhs, starts });
    }
}

/// `TURNED` where `lhs` lies by columns.
struct Panel<'a, const TURNED: bool> {
    rows: usize,
    columns: usize,
    out: MatMut<'a>,
    lhs: Mat<'a>,
    rhs: &'a [f32],
    starts: &'a [usize],
}

impl<const TURNED: bool> WithSimd for Panel<'_, TURNED> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        // Two vectors wide, with half of the registers for sums, or twelve of sixteen: eight would hardly hide the latency of
        // two additions at a time.
        let width = 2 * S::F32_LANES;
        let whole = self.columns / width * width;
        for j in (0..whole).step_by(width) {
            self.column::<S, 2>(simd, j, S::F32_LANES);
        }
        match (self.columns - whole).div_ceil(S::F32_LANES) {
            0 => {}
            1 => self.column::<S, 1>(simd, whole, self.columns - whole),
            _ => self.column::<S, 2>(simd, whole, self.columns - whole - S::F32_LANES),
        }
    }
}

impl<const TURNED: bool> Panel<'_, TURNED> {
    /// All rows of the `V` vectors from column `j` on, of which the last holds `last` columns.
    #[inline(always)]
    fn column<S: Simd, const V: usize>(&mut self, simd: S, j: usize, last: usize) {
        if last == S::F32_LANES {
            self.tiles::<S, V, true>(simd, Columns { j, last, inside: self.starts.len() });
        } else {
            // Whole vectors wherever they end inside the slice: what they hold beyond the columns is not written.
            let ends = |start: &&usize| **start + j + V * S::F32_LANES <= self.rhs.len();
            let inside = self.starts.iter().take_while(ends).count();
            self.tiles::<S, V, false>(simd, Columns { j, last, inside });
        }
    }

    #[inline(always)]
    fn tiles<S: Simd, const V: usize, const WHOLE: bool>(&mut self, simd: S, columns: Columns) {
        let (mut i, many) = (0, S::REGISTER_COUNT >= 32);
        while self.rows - i >= 16 && many && V == 1 {
            self.tile::<S, 16, V, WHOLE>(simd, i, columns);
            i += 16;
        }
        while self.rows - i >= 8 && (many || V == 1) {
            self.tile::<S, 8, V, WHOLE>(simd, i, columns);
            i += 8;
        }
        while self.rows - i >= 6 && V == 2 {
            self.tile::<S, 6, V, WHOLE>(simd, i, columns);
            i += 6;
        }
        while self.rows - i >= 4 {
            self.tile::<S, 4, V, WHOLE>(simd, i, columns);
            i += 4;
        }
        while self.rows - i >= 2 {
            self.tile::<S, 2, V, WHOLE>(simd, i, columns);
            i += 2;
        }
        if i < self.rows {
            self.tile::<S, 1, V, WHOLE>(simd, i, columns);
        }
    }

    /// `M` rows of `V` vectors, whose sums stay in registers.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const V: usize, const WHOLE: bool>(&mut self, simd: S, i: usize, at: Columns) {
        let columns = (V - 1) * S::F32_LANES + at.last;
        let (depth, reach) = (self.starts.len(), V * S::F32_LANES);
        let mut sums = [[simd.splat_f32s(0.0); V]; M];
        let (mut rows, mut by_four): ([&[f32]; M], [&[[f32; 4]]; M]) = ([&[]; M], [&[]; M]);
        let turned = |l: usize| -> &[f32; M] {
            match TURNED {
                true => self.lhs.data[l * self.lhs.col + i..].first_chunk().expect("a row of the left operand"),
                false => &[0.0; M],
            }
        };
        // By fours, so that the rows' places are worked out once for four products.
        let (fours, rest) = self.starts[..at.inside].as_chunks::<4>();
        if !TURNED {
            for m in 0..M {
                rows[m] = &self.lhs.data[(i + m) * self.lhs.row..][..depth];
                by_four[m] = &rows[m].as_chunks().0[..fours.len()];
            }
        }
        let rhs = &self.rhs[at.j.min(self.rhs.len())..];
        for (b, starts) in fours.iter().enumerate() {
            for t in 0..4 {
                let x = vectors::<S, V>(&rhs[starts[t]..][..reach]);
                let turned = turned(4 * b + t);
                add(simd, &mut sums, x, |m| if TURNED { turned[m] } else { by_four[m][b][t] });
            }
        }
        for (l, start) in (4 * fours.len()..).zip(rest) {
            let (x, turned) = (vectors::<S, V>(&rhs[*start..][..reach]), turned(l));
            add(simd, &mut sums, x, |m| if TURNED { turned[m] } else { rows[m][l] });
        }
        for (l, start) in (at.inside..).zip(&self.starts[at.inside..]) {
            let (heads, tail) = S::as_simd_f32s(&rhs[*start..][..columns]);
            let x = std::array::from_fn(|v| if v + 1 < V { heads[v] } else { simd.partial_load_f32s(tail) });
            let turned = turned(l);
            add(simd, &mut sums, x, |m| if TURNED { turned[m] } else { rows[m][l] });
        }
        for (m, sums) in sums.into_iter().enumerate() {
            let out = &mut self.out.data[(i + m) * self.out.row + at.j..][..columns];
            let (heads, tail) = S::as_mut_simd_f32s(out);
            for (v, sum) in sums.into_iter().enumerate() {
                match WHOLE || v + 1 < V {
                    true => heads[v] = sum,
                    false => simd.partial_store_f32s(tail, sum),
                }
            }
        }
    }
}

/// Some columns of a panel.
#[derive(Clone, Copy)]
struct Columns {
    /// The first.
    j: usize,
    /// How many the last vector holds.
    last: usize,
    /// Of so many rows of the right operand, from the first on, whole vectors may be read.
    inside: usize,
}

#[inline(always)]
fn vectors<S: Simd, const V: usize>(row: &[f32]) -> [S::f32s; V] {
    let heads = S::as_simd_f32s(row).0;
    std::array::from_fn(|v| heads[v])
}

/// Adds a weight's product with `x` to each row of sums.
#[inline(always)]
fn add<S: Simd, const M: usize, const V: usize>(
    simd: S,
    sums: &mut [[S::f32s; V]; M],
    x: [S::f32s; V],
    weight: impl Fn(usize) -> f32,
) {
    for (m, sums) in sums.iter_mut().enumerate() {
        let weight = simd.splat_f32s(weight(m));
        for v in 0..V {
            sums[v] = simd.mul_add_e_f32s(weight, x[v], sums[v]);
        }
    }
}

/// `to[b][i] = from[i][b]` for `columns` numbers `i` and as many `b` as `to` has rows; the rows of `from` are `step` apart,
/// those of `to` `width`. What lies between the last of `columns` and the next multiple of 4 is undefined.
///
/// # Panics
/// When a slice is too short, or `width` or the number of rows of `to` is not a multiple of 4.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn transpose(from: &[f32], step: usize, columns: usize, to: &mut [f32], width: usize) {
    assert!(width.is_multiple_of(4) && to.len().is_multiple_of(4 * width), "whole squares of 4");
    for (b, to) in (0..).step_by(4).zip(to.chunks_exact_mut(4 * width)) {
        for i in (0..columns).step_by(4) {
            let square: [&[f32; 4]; 4] = std::array::from_fn(|n| {
                from[(i + n).min(columns - 1) * step + b..].first_chunk().expect("four images of a row")
            });
            for n in 0..4 {
                to[n * width + i..][..4].copy_from_slice(&square.map(|row| row[n]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_agree_with_the_definition_for_every_tile() {
        for (rows, columns, depth) in
            [(1, 1, 1), (15, 12, 9), (35, 12, 14), (27, 7, 6), (8, 32, 5), (10, 47, 3), (3, 16, 0), (9, 100, 17)]
        {
            let weights: Vec<f32> = (0..rows * depth).map(|i| (i as f32 * 0.37).sin()).collect();
            let images: Vec<f32> = (0..depth * 7 + columns).map(|i| (i as f32 * 0.71).cos()).collect();
            // Rows that overlap, out of order.
            let starts: Vec<usize> = (0..depth).map(|l| 7 * (depth - 1 - l)).collect();
            for turned in [false, true] {
                let (row, col) = if turned { (1, rows) } else { (depth, 1) };
                let mut out = vec![f32::NAN; rows * (columns + 3)];
                let lhs = Mat { data: &weights, row, col };
                panel(rows, columns, MatMut { data: &mut out, row: columns + 3, col: 1 }, lhs, &images, &starts);
                for (i, out) in out.chunks_exact(columns + 3).enumerate() {
                    for (j, got) in out[..columns].iter().enumerate() {
                        let term = |l: usize| f64::from(weights[i * row + l * col]) * f64::from(images[starts[l] + j]);
                        let want: f64 = (0..depth).map(term).sum();
                        assert!(
                            (f64::from(*got) - want).abs() < 1e-5,
                            "{rows} x {columns} x {depth}: {got} for {want}"
                        );
                    }
                    assert!(out[columns..].iter().all(|v| v.is_nan()), "written past the columns");
                }
            }
        }
    }

    #[test]
    fn a_transposed_block_holds_each_element_once() {
        let (step, width) = (20, 12);
        for columns in [1, 8, 11] {
            let from: Vec<f32> = (0..columns * step).map(|i| i as f32).collect();
            let mut to = vec![-1.0; 12 * width];
            transpose(&from, step, columns, &mut to, width);
            for (b, to) in to.chunks_exact(width).enumerate() {
                for (i, got) in to[..columns].iter().enumerate() {
                    assert_eq!(*got, from[i * step + b]);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "range")]
    fn a_panel_past_its_slice_is_refused() {
        let mut out = [0.0; 4];
        let lhs = Mat { data: &[0.0; 4], row: 2, col: 1 };
        panel(2, 2, MatMut { data: &mut out, row: 2, col: 1 }, lhs, &[0.0; 3], &[0, 2]);
    }
}
