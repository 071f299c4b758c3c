//! Winograd's forward pass of one chunk of images, bias, gates, ReLU and pooling included.

use super::super::packed::{Images, Pieces, blank, with_scratch};
use super::super::turn::{Row, put};
use super::super::windows::After;
use super::planes::{join_output, spread_input};
use super::{Points, Tiles, products};
use crate::kernels::shape::Conv;

/// The filters' points and what follows the sums of each channel, padded to whole blocks.
#[derive(Clone, Copy)]
pub struct Filters<'a> {
    pub points: &'a Points,
    pub values: &'a [f32],
    pub bias: &'a [f32],
    pub gate: &'a [f32],
}

/// Values and codes of a chunk's images of `input`, `[C][H][W][B]`.
pub fn forward(conv: &Conv, chunk: Images, input: &[f32], filters: Filters<'_>, to: Pieces<'_, '_>) {
    let (values, codes) = to;
    blank(values, chunk.real);
    blank(codes, chunk.real);
    for (from, tiles) in Tiles::of(conv, chunk) {
        part(&tiles, from, input, filters, (&mut *values, &mut *codes));
    }
}

fn part(tiles: &Tiles, from: usize, input: &[f32], filters: Filters<'_>, (values, codes): Pieces<'_, '_>) {
    let (points, starts, inputs) = (filters.points, filters.points.starts(), tiles.channels().0);
    let line = tiles.columns * tiles.side() * tiles.images.real * points.width;
    let windows = tiles.side() * line;
    let words = [tiles.strip(inputs), tiles.transformed(inputs), tiles.transformed(points.width), windows, windows];
    with_scratch(words, |[strip, spread, sums, best, winners]| {
        for (first, rows) in tiles.blocks() {
            tiles.fill((first, rows), input, strip);
            spread_input(tiles, rows, strip, spread);
            for (b, block) in filters.values.chunks_exact(points.block()).enumerate() {
                let (channel, columns) = points.of(b);
                products(tiles.products(rows), (spread, inputs), (points, block, &starts), columns, sums);
                let [bias, gate] = [filters.bias, filters.gate].map(|all| &all[channel..][..points.width]);
                let after = After { bias, gate, relu: tiles.conv.relu };
                for ty in 0..rows {
                    join_output(tiles, (sums, tiles.plane(rows, points.width), ty), after, best, winners);
                    let lines = best.chunks_exact(line).zip(winners.chunks_exact(line));
                    for (y, line) in ((first + ty) * tiles.side()..tiles.conv.pooled().0).zip(lines) {
                        emit(tiles, from, y, channel..channel + columns, (line, points.width), (values, codes));
                    }
                }
            }
        }
    });
}

/// One row of windows to their places.
fn emit(
    tiles: &Tiles,
    from: usize,
    y: usize,
    channels: std::ops::Range<usize>,
    ((best, winners), width): ((&[f32], &[f32]), usize),
    (values, codes): Pieces<'_, '_>,
) {
    let (height, pixels) = tiles.conv.pooled();
    let row = Row::by_pixel(pixels, tiles.images.real, channels.len(), width);
    let pieces = channels.start * height * pixels + y * pixels..;
    put(row, best, &mut values[pieces.clone()], (height * pixels, from));
    put(row, winners, &mut codes[pieces], (height * pixels, from));
}
