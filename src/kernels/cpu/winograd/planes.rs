//! The transforms of Winograd's convolutions, element by element: vectors run along images and channels.

use pulp::{Arch, Simd, WithSimd};

use super::super::windows::{After, pooled, single};
use super::{POINTS, Tiles};

/// `B' d`.
#[inline(always)]
fn spread<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 4] {
    [simd.sub_f32s(a, c), simd.add_f32s(b, c), simd.sub_f32s(c, b), simd.sub_f32s(b, d)]
}

/// `A' m`.
#[inline(always)]
fn join<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 2] {
    [simd.add_f32s(simd.add_f32s(a, b), c), simd.sub_f32s(simd.sub_f32s(b, c), d)]
}

/// `len` words from `at` on in each of the planes.
#[inline(always)]
pub(super) fn planes<S: Simd>(words: &[f32], plane: usize, at: usize, len: usize) -> [&[S::f32s]; POINTS] {
    std::array::from_fn(|point| S::as_simd_f32s(&words[point * plane + at..][..len]).0)
}

#[inline(always)]
pub(super) fn planes_mut<S: Simd>(words: &mut [f32], plane: usize, at: usize, len: usize) -> [&mut [S::f32s]; POINTS] {
    let mut planes = words.chunks_exact_mut(plane);
    std::array::from_fn(|_| S::as_mut_simd_f32s(&mut planes.next().expect("a plane a point")[at..][..len]).0)
}

/// Four of 16 vectors.
#[inline(always)]
fn row<V: Copy>(from: &[&[V]; POINTS], i: usize, v: usize) -> [V; 4] {
    [from[4 * i][v], from[4 * i + 1][v], from[4 * i + 2][v], from[4 * i + 3][v]]
}

/// One of each.
#[inline(always)]
fn across<V: Copy>([a, b, c, d]: &[[V; 4]; 4], i: usize) -> [V; 4] {
    [a[i], b[i], c[i], d[i]]
}

/// Writes them: column `j` of 4 x 4.
#[inline(always)]
fn put_column<V>(to: &mut [&mut [V]; POINTS], j: usize, v: usize, [a, b, c, d]: [V; 4]) {
    to[j][v] = a;
    to[4 + j][v] = b;
    to[8 + j][v] = c;
    to[12 + j][v] = d;
}

/// `B' d B` of `rows` rows of tiles of `strip`.
pub(super) fn spread_input(tiles: &Tiles, rows: usize, strip: &[f32], to: &mut [f32]) {
    Arch::new().dispatch(SpreadInput { tiles, rows, strip, to });
}

struct SpreadInput<'a> {
    tiles: &'a Tiles,
    rows: usize,
    strip: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for SpreadInput<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tiles, rows, strip, to } = self;
        let channels = tiles.channels().0;
        let (run, line) = (tiles.images.real * channels, tiles.row(channels));
        let plane = tiles.plane(rows, channels);
        for tile in 0..rows * tiles.columns {
            let (ty, tx) = (tile / tiles.columns, tile % tiles.columns);
            let from: [&[S::f32s]; POINTS] = std::array::from_fn(|i| {
                let start = (2 * ty + i / 4) * line + (2 * tx + i % 4) * run;
                S::as_simd_f32s(&strip[start..][..run]).0
            });
            let mut to = planes_mut::<S>(to, plane, tile * run, run);
            let len = run / S::F32_LANES;
            for v in 0..len {
                let d = [
                    spread(simd, row(&from, 0, v)),
                    spread(simd, row(&from, 1, v)),
                    spread(simd, row(&from, 2, v)),
                    spread(simd, row(&from, 3, v)),
                ];
                for j in 0..4 {
                    put_column(&mut to, j, v, spread(simd, across(&d, j)));
                }
            }
        }
    }
}

/// `A' m A` of row `ty` of the tiles of planes of `plane` words, then bias, gates, ReLU and pooling: values and codes of
/// their windows, `[y][x][image][channel]`.
pub(super) fn join_output(
    tiles: &Tiles,
    from: (&[f32], usize, usize),
    after: After<&[f32]>,
    values: &mut [f32],
    codes: &mut [f32],
) {
    Arch::new().dispatch(JoinOutput { tiles, from, after, values, codes });
}

struct JoinOutput<'a> {
    tiles: &'a Tiles,
    from: (&'a [f32], usize, usize),
    after: After<&'a [f32]>,
    values: &'a mut [f32],
    codes: &'a mut [f32],
}

impl WithSimd for JoinOutput<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tiles, from: (words, plane, ty), after, values, codes } = self;
        let (values, codes) = (S::as_mut_simd_f32s(values).0, S::as_mut_simd_f32s(codes).0);
        let After { bias, gate, relu } = after;
        let run = tiles.images.real * bias.len();
        let (bias, gates) = (S::as_simd_f32s(bias).0, S::as_simd_f32s(gate).0);
        let (len, side, columns) = (run / S::F32_LANES, tiles.side(), tiles.columns);
        for tx in 0..columns {
            let from = planes::<S>(words, plane, (ty * columns + tx) * run, run);
            let channels = bias.iter().zip(gates).cycle().take(len);
            for (v, (bias, gate)) in channels.enumerate() {
                let sums = joined(simd, &from, v);
                let after = After { bias: *bias, gate: *gate, relu };
                if side == 1 {
                    (values[tx * len + v], codes[tx * len + v]) = pooled(simd, sums, after);
                } else {
                    for (place, sum) in sums.into_iter().enumerate() {
                        let at = (place / 2 * 2 * columns + 2 * tx + place % 2) * len + v;
                        (values[at], codes[at]) = single(simd, sum, after);
                    }
                }
            }
        }
    }
}

/// `A' m A` of vector `v` of a tile.
#[inline(always)]
fn joined<S: Simd>(simd: S, from: &[&[S::f32s]; POINTS], v: usize) -> [S::f32s; 4] {
    let [a, b, c, d] = [
        join(simd, row(from, 0, v)),
        join(simd, row(from, 1, v)),
        join(simd, row(from, 2, v)),
        join(simd, row(from, 3, v)),
    ];
    let [left, right] = [join(simd, [a[0], b[0], c[0], d[0]]), join(simd, [a[1], b[1], c[1], d[1]])];
    [left[0], right[0], left[1], right[1]]
}
