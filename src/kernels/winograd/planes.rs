//! The transforms of Winograd's convolutions, element by element: vectors run along images and channels.

use pulp::{Arch, Simd, WithSimd};

use super::super::windows::{After, pooled, single, won};
use super::{POINTS, Tiles};

/// `B' d`.
#[inline(always)]
fn spread<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 4] {
    [simd.sub_f32s(a, c), simd.add_f32s(b, c), simd.sub_f32s(c, b), simd.sub_f32s(b, d)]
}

/// `B x`.
#[inline(always)]
fn unspread<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 4] {
    let (x1, x2) = (simd.sub_f32s(b, c), simd.add_f32s(b, c));
    [a, simd.add_f32s(x1, d), simd.sub_f32s(x2, a), simd.neg_f32s(d)]
}

/// `A' m`.
#[inline(always)]
fn join<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 2] {
    [simd.add_f32s(simd.add_f32s(a, b), c), simd.sub_f32s(simd.sub_f32s(b, c), d)]
}

/// `A y`.
#[inline(always)]
fn unjoin<S: Simd>(simd: S, [a, b]: [S::f32s; 2]) -> [S::f32s; 4] {
    [a, simd.add_f32s(a, b), simd.sub_f32s(a, b), simd.neg_f32s(b)]
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

#[inline(always)]
fn column<V: Copy>(from: &[&[V]; POINTS], j: usize, v: usize) -> [V; 4] {
    [from[j][v], from[4 + j][v], from[8 + j][v], from[12 + j][v]]
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

/// `A dY A'` of `rows` rows of tiles, whose windows' gradients and codes are given.
pub(super) fn spread_grad(tiles: &Tiles, rows: usize, grads: &[f32], codes: &[f32], to: &mut [f32]) {
    Arch::new().dispatch(SpreadGrad { tiles, rows, grads, codes, to });
}

struct SpreadGrad<'a> {
    tiles: &'a Tiles,
    rows: usize,
    grads: &'a [f32],
    codes: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for SpreadGrad<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tiles, rows, grads, codes, to } = self;
        let channels = tiles.channels().1;
        let run = tiles.images.real * channels;
        let plane = tiles.plane(rows, channels);
        let len = run / S::F32_LANES;
        // Each place of a tile reads a window of its own, or all four the same.
        let (side, columns) = (tiles.side(), tiles.columns);
        let numbers: [S::f32s; 4] =
            std::array::from_fn(|place| simd.splat_f32s(if side == 1 { place as f32 } else { 0.0 }));
        for tile in 0..rows * tiles.columns {
            let (y, x) = (tile / columns * side, tile % columns * side);
            let start = |place: usize| match side {
                1 => tile * run,
                _ => ((y + place / 2) * columns * side + x + place % 2) * run,
            };
            let grads: [&[S::f32s]; 4] = std::array::from_fn(|place| S::as_simd_f32s(&grads[start(place)..][..run]).0);
            let codes: [&[S::f32s]; 4] = std::array::from_fn(|place| S::as_simd_f32s(&codes[start(place)..][..run]).0);
            let mut to = planes_mut::<S>(to, plane, tile * run, run);
            for v in 0..len {
                let dz = [
                    won(simd, grads[0][v], codes[0][v], numbers[0]),
                    won(simd, grads[1][v], codes[1][v], numbers[1]),
                    won(simd, grads[2][v], codes[2][v], numbers[2]),
                    won(simd, grads[3][v], codes[3][v], numbers[3]),
                ];
                let (above, below) = (unjoin(simd, [dz[0], dz[1]]), unjoin(simd, [dz[2], dz[3]]));
                for j in 0..4 {
                    put_column(&mut to, j, v, unjoin(simd, [above[j], below[j]]));
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

/// `B x B'` of `rows` rows of tiles, added to the rows of the input gradient that they read, `[y][x][image][width]`.
pub(super) fn add_input_grad(tiles: &Tiles, rows: usize, from: &[f32], width: usize, strip: &mut [f32]) {
    Arch::new().dispatch(AddInputGrad { tiles, rows, from, width, strip });
}

struct AddInputGrad<'a> {
    tiles: &'a Tiles,
    rows: usize,
    from: &'a [f32],
    width: usize,
    strip: &'a mut [f32],
}

impl WithSimd for AddInputGrad<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tiles, rows, from, width, strip } = self;
        let (run, row) = (tiles.images.real * width, tiles.row(width));
        let plane = tiles.plane(rows, width);
        let len = run / S::F32_LANES;
        for tile in 0..rows * tiles.columns {
            let (ty, tx) = (tile / tiles.columns, tile % tiles.columns);
            let from = planes::<S>(from, plane, tile * run, run);
            let mut lines = strip.chunks_exact_mut(row).skip(2 * ty);
            let to: [&mut [S::f32s]; 4] = std::array::from_fn(|_| {
                S::as_mut_simd_f32s(&mut lines.next().expect("four rows a tile")[2 * tx * run..][..4 * run]).0
            });
            for v in 0..len {
                let x = [
                    unspread(simd, column(&from, 0, v)),
                    unspread(simd, column(&from, 1, v)),
                    unspread(simd, column(&from, 2, v)),
                    unspread(simd, column(&from, 3, v)),
                ];
                for i in 0..4 {
                    let line = unspread(simd, across(&x, i));
                    for j in 0..4 {
                        let to = &mut to[i][j * len + v];
                        *to = simd.add_f32s(*to, line[j]);
                    }
                }
            }
        }
    }
}
