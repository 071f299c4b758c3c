//! Images innermost and channels innermost, the one from the other.

/// A row of pixels, `[x][image][channel]` on one side and pieces of images on the other.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub pixels: usize,
    pub images: usize,
    pub channels: usize,
    /// The step between images where channels are innermost.
    pub width: usize,
}

/// `to[x][b][c] = from[c][x][b]`, where the channels of `from` are `channel` apart and its pixels `pixel`.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq", "x86_64+avx2"))]
pub(super) fn turn<T: Copy + Into<f32>>(row: Row, from: &[T], channel: usize, pixel: usize, to: &mut [f32]) {
    let Row { pixels, images, channels, width } = row;
    if images < 4 || channels < 4 {
        for x in 0..pixels {
            for b in 0..images {
                for c in 0..channels {
                    to[(x * images + b) * width + c] = from[c * channel + x * pixel + b].into();
                }
            }
        }
        return;
    }
    // Squares of 4, the last of them earlier where they do not come out even: some numbers are taken twice.
    for c in squares(channels) {
        for x in 0..pixels {
            for b in squares(images) {
                let at = c * channel + x * pixel + b;
                let square = square(&from[at..], channel);
                let to = &mut to[(x * images + b) * width + c..];
                for (n, [a, b, c, d]) in square.into_iter().enumerate() {
                    to[n * width..][..4].copy_from_slice(&[a.into(), b.into(), c.into(), d.into()]);
                }
            }
        }
    }
}

/// `pieces[c * step + x][at + b] = from[x][b][c]`.
#[inline(always)]
fn back<T: Copy>(
    row: Row,
    from: &[f32],
    pieces: &mut [&mut [T]],
    (step, at): (usize, usize),
    convert: impl Fn(f32) -> T,
) {
    let Row { pixels, images, channels, width } = row;
    if images < 4 || channels < 4 {
        for c in 0..channels {
            for x in 0..pixels {
                (0..images).for_each(|b| pieces[c * step + x][at + b] = convert(from[(x * images + b) * width + c]));
            }
        }
        return;
    }
    for c in squares(channels) {
        for x in 0..pixels {
            for b in squares(images) {
                let square = square(&from[(x * images + b) * width + c..], width);
                for (n, [p, q, r, s]) in square.into_iter().enumerate() {
                    let to = &mut pieces[(c + n) * step + x][at + b..][..4];
                    to.copy_from_slice(&[convert(p), convert(q), convert(r), convert(s)]);
                }
            }
        }
    }
}

/// A row of values to the pieces of their channels, `step` apart, from image `at` on.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq", "x86_64+avx2"))]
pub(super) fn put_values(row: Row, from: &[f32], pieces: &mut [&mut [f32]], place: (usize, usize)) {
    back(row, from, pieces, place, |value| value);
}

/// The same for codes, small whole numbers.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl+avx512bw+avx512dq", "x86_64+avx2"))]
pub(super) fn put_codes(row: Row, from: &[f32], pieces: &mut [&mut [u8]], place: (usize, usize)) {
    back(row, from, pieces, place, |code| code as u8);
}

/// Where squares of 4 begin that cover `n`.
#[inline(always)]
fn squares(n: usize) -> impl Iterator<Item = usize> {
    (0..n).step_by(4).map(move |at| at.min(n - 4))
}

/// Four rows of four, `step` apart, as columns.
#[inline(always)]
fn square<T: Copy>(from: &[T], step: usize) -> [[T; 4]; 4] {
    let [a, b, c, d] = [four(from), four(&from[step..]), four(&from[2 * step..]), four(&from[3 * step..])];
    [[a[0], b[0], c[0], d[0]], [a[1], b[1], c[1], d[1]], [a[2], b[2], c[2], d[2]], [a[3], b[3], c[3], d[3]]]
}

#[inline(always)]
fn four<T: Copy>(slice: &[T]) -> [T; 4] {
    *slice.first_chunk().expect("four in a row")
}
