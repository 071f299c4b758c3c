//! The simulated hand: from a style's strokes to 28 x 28 bytes.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::glyphs::{Point, Stroke, Style};

/// Rows and columns of a picture.
pub const SIDE: usize = 28;

/// Points drawn between two control points of a stroke.
const STEPS: usize = 8;

/// Knots a side of the grid of random displacements.
const KNOTS: usize = 4;

/// Where the pen is, in pixels, and how wide its mark.
#[derive(Clone, Copy)]
struct Dab {
    x: f32,
    y: f32,
    radius: f32,
}

/// Draws one example of `style` into `picture` (`[28 * 28]`, all zero on entry).
pub fn draw(style: &Style, rng: &mut ChaCha8Rng, picture: &mut [u8]) {
    let hand = Hand::new(style.aspect, rng);
    let mut ink = [0.0f32; SIDE * SIDE];
    for stroke in style.strokes {
        let path = hand.path(stroke, rng);
        for pair in path.windows(2) {
            mark(&mut ink, pair[0], pair[1], hand.softness);
        }
    }
    for (byte, ink) in picture.iter_mut().zip(ink) {
        // The grain of pen and paper; blank paper scans as clean zeros, as in MNIST.
        let grain = 1.0 + hand.grain * normal(rng);
        *byte = (255.0 * (ink * hand.darkness * grain).clamp(0.0, 1.0)).round() as u8;
    }
}

/// The habits of the hand for one picture.
struct Hand {
    /// Rows of the map from the digit's centred unit square to pixels.
    map: [[f32; 2]; 2],
    centre: Point,
    wobble: f32,
    radius: f32,
    softness: f32,
    darkness: f32,
    grain: f32,
    warp: [[Point; KNOTS]; KNOTS],
}

impl Hand {
    fn new(aspect: f32, rng: &mut ChaCha8Rng) -> Self {
        let height = uniform(rng, 15.5, 21.5);
        let width = height * aspect * uniform(rng, 0.72, 1.25);
        let slant = 0.12 + 0.22 * normal(rng);
        // The tangent of half the angle gives sine and cosine without either function.
        let half = 0.085 * normal(rng);
        let (cos, sin) = ((1.0 - half * half) / (1.0 + half * half), 2.0 * half / (1.0 + half * half));
        // Leaning right means that the top, where y is negative, moves right.
        let lean = [[width, -slant * height], [0.0, height]];
        let turn = [[cos, -sin], [sin, cos]];
        let map = [0, 1].map(|r| [0, 1].map(|c| turn[r][0] * lean[0][c] + turn[r][1] * lean[1][c]));
        let middle = (SIDE as f32 - 1.0) / 2.0;
        let centre = (middle + uniform(rng, -2.5, 2.5), middle + uniform(rng, -2.5, 2.5));
        let bend = uniform(rng, 0.5, 1.8);
        Self {
            map,
            centre,
            wobble: uniform(rng, 0.015, 0.065),
            radius: uniform(rng, 0.55, 1.7),
            softness: uniform(rng, 0.8, 1.5),
            darkness: uniform(rng, 0.75, 1.1),
            grain: uniform(rng, 0.0, 0.15),
            warp: [(); KNOTS].map(|()| [(); KNOTS].map(|()| (bend * normal(rng), bend * normal(rng)))),
        }
    }

    /// The dabs along one stroke.
    fn path(&self, stroke: Stroke, rng: &mut ChaCha8Rng) -> Vec<Dab> {
        let controls = self.controls(stroke, rng);
        let last = controls.len() - 1;
        let mut path = Vec::with_capacity(last * STEPS + 1);
        for i in 0..last {
            let around = [i.saturating_sub(1), i, i + 1, (i + 2).min(last)].map(|at| controls[at]);
            // A corner is a point given twice: nothing lies between.
            if around[1].0 == around[2].0 {
                continue;
            }
            let steps = if i + 1 == last { STEPS + 1 } else { STEPS };
            path.extend((0..steps).map(|step| self.place(around, step as f32 / STEPS as f32)));
        }
        path
    }

    /// A stroke's points as this hand writes them, with the pressure at each.
    fn controls(&self, stroke: Stroke, rng: &mut ChaCha8Rng) -> Vec<(Point, f32)> {
        let mut controls: Vec<(Point, f32)> = Vec::with_capacity(stroke.len());
        for (i, &(x, y)) in stroke.iter().enumerate() {
            let control = match controls.last() {
                Some(&last) if stroke[i - 1] == (x, y) => last,
                _ => {
                    let point = (x + self.wobble * normal(rng), y + self.wobble * normal(rng));
                    (point, uniform(rng, 0.7, 1.2))
                }
            };
            controls.push(control);
        }
        controls
    }

    /// The dab at `t` in 0..=1 between the middle two of four controls (a Catmull-Rom spline).
    fn place(&self, around: [(Point, f32); 4], t: f32) -> Dab {
        let [a, b, c, d] = around;
        let spline = |a: f32, b: f32, c: f32, d: f32| {
            let (slope_b, slope_c) = ((c - a) / 2.0, (d - b) / 2.0);
            let (square, cube) = (t * t, t * t * t);
            (2.0 * cube - 3.0 * square + 1.0) * b
                + (cube - 2.0 * square + t) * slope_b
                + (3.0 * square - 2.0 * cube) * c
                + (cube - square) * slope_c
        };
        let u = spline(a.0.0, b.0.0, c.0.0, d.0.0) - 0.5;
        let v = spline(a.0.1, b.0.1, c.0.1, d.0.1) - 0.5;
        let x = self.centre.0 + self.map[0][0] * u + self.map[0][1] * v;
        let y = self.centre.1 + self.map[1][0] * u + self.map[1][1] * v;
        let (dx, dy) = self.displacement(x, y);
        Dab { x: x + dx, y: y + dy, radius: self.radius * (b.1 + t * (c.1 - b.1)) }
    }

    /// How far the paper is bent at a pixel: the grid of knots, blended smoothly.
    fn displacement(&self, x: f32, y: f32) -> Point {
        let locate = |at: f32| {
            let at = (at / (SIDE as f32 - 1.0)).clamp(0.0, 1.0) * (KNOTS - 1) as f32;
            let cell = (at as usize).min(KNOTS - 2);
            let t = at - cell as f32;
            (cell, t * t * (3.0 - 2.0 * t))
        };
        let ((col, tx), (row, ty)) = (locate(x), locate(y));
        let blend = |a: Point, b: Point, t: f32| (a.0 + t * (b.0 - a.0), a.1 + t * (b.1 - a.1));
        let along = |row: usize| blend(self.warp[row][col], self.warp[row][col + 1], tx);
        blend(along(row), along(row + 1), ty)
    }
}

/// Inks every pixel near the segment between two dabs; the darkest mark on a pixel stays.
fn mark(ink: &mut [f32; SIDE * SIDE], from: Dab, to: Dab, softness: f32) {
    let reach = from.radius.max(to.radius) + softness;
    let span = |a: f32, b: f32| {
        let first = (a.min(b) - reach).floor().max(0.0) as usize;
        first..((a.max(b) + reach).ceil() + 1.0).clamp(0.0, SIDE as f32) as usize
    };
    let (dx, dy) = (to.x - from.x, to.y - from.y);
    let length = (dx * dx + dy * dy).max(f32::MIN_POSITIVE);
    for y in span(from.y, to.y) {
        for x in span(from.x, to.x) {
            let (px, py) = (x as f32 - from.x, y as f32 - from.y);
            let t = ((px * dx + py * dy) / length).clamp(0.0, 1.0);
            let (ex, ey) = (px - t * dx, py - t * dy);
            let radius = from.radius + t * (to.radius - from.radius);
            let value = ((radius - (ex * ex + ey * ey).sqrt()) / softness + 0.5).clamp(0.0, 1.0);
            let cell = &mut ink[y * SIDE + x];
            *cell = cell.max(value);
        }
    }
}

fn uniform(rng: &mut ChaCha8Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * rng.random::<f32>()
}

/// Close to a standard normal and never beyond 3.5: the sum of four uniforms, scaled to variance one.
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let sum: f32 = (0..4).map(|_| rng.random::<f32>()).sum();
    (sum - 2.0) * 1.732_050_8
}
