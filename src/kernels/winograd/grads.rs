//! Winograd's gradients of one chunk of images.

use super::super::packed::{Images, blank, with_scratch};
use super::super::shape::Conv;
use super::filters::gradients;
use super::planes::{add_input_grad, spread_grad, spread_input};
use super::turn::{Row, put};
use super::{POINTS, Points, Tiles, apart, products};
use crate::device::linalg::{Mat, MatMut};
use crate::device::panel::panel_onto;

/// The input gradient of a chunk's images, to its `[C][H][W]` pieces. `grad` are the output's gradients and its codes,
/// `[M][PH][PW][B]`.
pub(in super::super) fn input_grad(
    conv: &Conv,
    chunk: Images,
    grad: (&[f32], &[u8]),
    filters: (&Points, &[f32]),
    to: &mut [&mut [f32]],
) {
    blank(to, chunk.real);
    for (from, tiles) in Tiles::of(conv, chunk) {
        input_part(&tiles, from, grad, filters, to);
    }
}

fn input_part(
    tiles: &Tiles,
    from: usize,
    grad: (&[f32], &[u8]),
    (points, filters): (&Points, &[f32]),
    to: &mut [&mut [f32]],
) {
    let (width, starts, outputs) = (points.width, points.starts(), tiles.channels().1);
    let (strip, row) = (tiles.strip(width), tiles.row(width));
    let words = [
        tiles.window_words(),
        tiles.window_words(),
        tiles.transformed(outputs),
        tiles.transformed(width),
        points.blocks() * strip,
    ];
    with_scratch(words, |[grads, codes, spread, sums, strips]| {
        for (first, rows) in tiles.blocks() {
            tiles.windows((first, rows), grad.0, grads);
            tiles.windows((first, rows), grad.1, codes);
            spread_grad(tiles, rows, grads, codes, spread);
            for (b, (block, strip)) in
                filters.chunks_exact(points.block()).zip(strips.chunks_exact_mut(strip)).enumerate()
            {
                let (channel, columns) = points.of(b);
                products(tiles.products(rows), (spread, outputs), (points, block, &starts), columns, sums);
                // The tiles before have begun the first two rows.
                let begun = if first == 0 { 0 } else { 2 * row };
                strip.copy_within(2 * tiles.at_once * row..2 * tiles.at_once * row + begun, 0);
                strip[begun..].fill(0.0);
                add_input_grad(tiles, rows, sums, width, strip);
                let ready = if first + rows == tiles.rows { 2 * rows + 2 } else { 2 * rows };
                for (y, row) in strip.chunks_exact(row).take(ready).enumerate() {
                    if let Some(y) = (2 * first + y).checked_sub(1).filter(|y| *y < tiles.conv.height) {
                        emit(tiles, from, y, channel..channel + columns, (row, width), to);
                    }
                }
            }
        }
    });
}

/// Row `y` of a block of channels to its places.
fn emit(
    tiles: &Tiles,
    from: usize,
    y: usize,
    channels: std::ops::Range<usize>,
    (row, width): (&[f32], usize),
    pieces: &mut [&mut [f32]],
) {
    let (conv, images) = (&tiles.conv, tiles.images.real);
    let pixels = conv.height * conv.width;
    let line = Row { pixels: conv.width, images, channels: channels.len(), width };
    let pieces = &mut pieces[channels.start * pixels + y * conv.width..];
    put(line, &row[images * width..], pieces, (pixels, from));
}

/// The weights' and the biases' gradients, summed over a chunk's images.
pub(in super::super) fn weight_grad(
    conv: &Conv,
    chunk: Images,
    input: &[f32],
    grad: (&[f32], &[u8]),
    partial: &mut [f32],
) {
    let (weights, biases) = partial.split_at_mut(conv.weights());
    biases.fill(0.0);
    let all: Vec<(usize, Tiles)> = Tiles::of(conv, chunk).collect();
    let largest = |words: &dyn Fn(&Tiles) -> usize| all.iter().map(|(_, tiles)| words(tiles)).max().unwrap_or(0);
    let Some((inputs, outputs)) = all.first().map(|(_, tiles)| tiles.channels()) else {
        return weights.fill(0.0);
    };
    let plane = apart(conv.in_channels * outputs);
    let words = [
        largest(&|t| t.strip(inputs)),
        largest(&|t| t.transformed(inputs)),
        largest(&Tiles::window_words),
        largest(&Tiles::window_words),
        largest(&|t| t.transformed(outputs)),
        POINTS * plane,
    ];
    with_scratch(words, |[strip, spread, grads, codes, spread_grads, sums]| {
        sums.fill(0.0);
        for (_, tiles) in &all {
            for (first, rows) in tiles.blocks() {
                tiles.fill((first, rows), input, strip);
                spread_input(tiles, rows, strip, spread);
                tiles.windows((first, rows), grad.0, grads);
                tiles.windows((first, rows), grad.1, codes);
                spread_grad(tiles, rows, grads, codes, spread_grads);
                let count = tiles.products(rows);
                let starts: Vec<usize> = (0..count).map(|k| k * outputs).collect();
                for (point, sums) in sums.chunks_exact_mut(plane).enumerate() {
                    let lhs = Mat {
                        data: &spread[point * tiles.plane(rows, inputs)..][..count * inputs],
                        row: 1,
                        col: inputs,
                    };
                    let rhs = &spread_grads[point * tiles.plane(rows, outputs)..][..count * outputs];
                    let out = MatMut { data: sums, row: outputs, col: 1 };
                    panel_onto(conv.in_channels, conv.out_channels, out, lhs, rhs, &starts);
                }
                add_rows(&spread_grads[5 * tiles.plane(rows, outputs)..][..count * outputs], outputs, biases);
            }
        }
        gradients(conv, sums, weights);
    });
}

/// `sums[m] +=` the sum over rows of `width` numbers, which is taken first: it rounds less than they would.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn add_rows(rows: &[f32], width: usize, sums: &mut [f32]) {
    for (first, sums) in (0..).step_by(16).zip(sums.chunks_mut(16)) {
        let mut block = [0.0; 16];
        for row in rows.chunks_exact(width) {
            // Rows are whole vectors.
            block.iter_mut().zip(&row[first..first + 16]).for_each(|(sum, number)| *sum += number);
        }
        sums.iter_mut().zip(block).for_each(|(sum, block)| *sum += block);
    }
}
