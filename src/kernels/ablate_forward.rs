//! Gates whose closed channels give something else than zero, then ReLU and pooling (`shaders/ablate_forward.wgsl`).

use rayon::prelude::*;

use super::DEAD;
use super::cases::LEFT;
use super::cases::ablate::{Setting, settings};
use super::shape::{Batch, Gates, expect};
use crate::device::{Binding, Call, Case, Compare, Device, Kernel, View, f32s, f32s_mut, grid};
use crate::error::{Error, Result};

/// The declaration.
pub static KERNEL: Kernel = Kernel {
    name: "ablate_forward",
    source: || include_str!("../../shaders/ablate_forward.wgsl").into(),
    variants: &[],
    bindings: &[
        Binding::read("z"),
        Binding::read("fill"),
        Binding::read("gates"),
        Binding::read("counts"),
        Binding::write("output", Compare::ExactFloats),
        Binding::write("codes", Compare::Exact),
    ],
    params_words: 13,
    workgroup: [64, 1, 1],
    twin,
    cases,
    large: Vec::new,
};

/// A layer's values before its activation, and what follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    /// M.
    pub channels: usize,
    /// H of z.
    pub height: usize,
    /// W of z.
    pub width: usize,
    /// 1, or 2 for 2x2 max-pooling; rows and columns that fill no window are dropped.
    pub pool: usize,
    /// Whether a ReLU follows.
    pub relu: bool,
}

/// What stands in for a closed channel.
#[derive(Clone, Copy, Debug)]
pub enum FillView<'a> {
    /// A number a channel, `[slots][G]`.
    Means(View<'a>),
    /// Other images' values, laid out as z.
    Donors(View<'a>),
}

/// The buffers of [`ablate_forward`].
#[derive(Clone, Copy, Debug)]
pub struct AblateForward<'a> {
    /// `[slots][M][H][W][B]`.
    pub z: View<'a>,
    /// What stands in for closed channels.
    pub fill: FillView<'a>,
    /// Images of each slot, as `u32`, from word [`Batch::counts_at`].
    pub counts: View<'a>,
    /// `[slots][M][PH][PW][B]`, written.
    pub output: View<'a>,
    /// `[slots][M][PH][PW][B]` bytes, written: the winner's place in its window, or [`DEAD`].
    pub codes: View<'a>,
}

impl<'a> FillView<'a> {
    pub(super) fn view(self) -> View<'a> {
        match self {
            FillView::Means(view) | FillView::Donors(view) => view,
        }
    }
}

impl Plane {
    /// Height and width of the output.
    pub fn pooled(&self) -> (usize, usize) {
        (self.height / self.pool, self.width / self.pool)
    }

    /// The uniform block; checks the views that both kernels have.
    pub(super) fn params(
        &self,
        kernel: &'static str,
        batch: Batch,
        gates: Gates<'_>,
        z: View<'_>,
        fill: FillView<'_>,
    ) -> Result<[u32; 13]> {
        let (out_h, out_w) = self.pooled();
        if !batch.stride.is_multiple_of(4) || !(1..=2).contains(&self.pool) || out_h * out_w == 0 {
            let problem = format!("{self:?} for {} images", batch.stride);
            return Err(Error::Kernel { kernel, problem });
        }
        gates.check(kernel, batch.slots, self.channels)?;
        let words = batch.slots * self.channels * self.height * self.width * batch.stride;
        expect(kernel, "z", z, words)?;
        match fill {
            FillView::Means(view) => expect(kernel, "fill", view, batch.slots * gates.row_words)?,
            FillView::Donors(view) => expect(kernel, "fill", view, words)?,
        }
        let sizes = [batch.slots, batch.stride / 4, self.channels, self.height, self.width, out_h, out_w, self.pool];
        let [a, b, c, d, e, f, g, h] = sizes.map(|n| n as u32);
        let rest = [gates.row_words, gates.at, batch.counts_at].map(|n| n as u32);
        let donors = u32::from(matches!(fill, FillView::Donors(_)));
        Ok([a, b, c, d, e, f, g, h, u32::from(self.relu), rest[0], rest[1], rest[2], donors])
    }
}

/// `output = pool(relu(v))`, where v is z at open gates and the fill at closed ones, and where each value came from.
///
/// As in [`super::conv_forward`] a NaN passes the ReLU, of equal values in a window the first wins, and padding images get
/// 0 and code 0. The codes of closed channels name places too: [`super::ablate_grad`] asks for them.
///
/// # Errors
/// [`Error::Kernel`] when the sizes make no layer or a view is too short for them.
pub fn ablate_forward(
    device: &dyn Device,
    plane: &Plane,
    batch: Batch,
    gates: Gates<'_>,
    io: AblateForward<'_>,
) -> Result<()> {
    let name = KERNEL.name;
    let p = plane.params(name, batch, gates, io.z, io.fill)?;
    batch.check_counts(name, io.counts)?;
    let (out_h, out_w) = plane.pooled();
    let outputs = batch.slots * plane.channels * out_h * out_w * batch.stride;
    expect(name, "output", io.output, outputs)?;
    expect(name, "codes", io.codes, outputs / 4)?;
    let buffers = [io.z, io.fill.view(), gates.values, io.counts, io.output, io.codes];
    device.dispatch(&KERNEL, &p, &buffers, groups(&p))
}

fn groups(p: &[u32; 13]) -> [u32; 3] {
    let items = p[2] * p[5] * p[6] * p[1];
    grid::folded(items.div_ceil(64) as usize, p[0])
}

fn twin(call: Call<'_>) {
    let p = call.params::<[u32; 13]>().map(|v| v as usize);
    let [slots, quads, channels, height, width, out_h, out_w, pool, relu, gate_words, gates_at, counts_at, donors] = p;
    let ([z, fill, gates, counts], [output, codes]) = call.buffers();
    let (z, fill, gates) = (f32s(z), f32s(fill), f32s(gates));
    let codes: &mut [u8] = bytemuck::cast_slice_mut(codes);
    let (stride, out_words) = (4 * quads, out_h * out_w * 4 * quads);
    let all = slots * channels * out_words;
    let rows = f32s_mut(output)[..all].par_chunks_mut(out_words).zip(codes[..all].par_chunks_mut(out_words));
    rows.enumerate().for_each(|(row, (output, codes))| {
        let (slot, channel) = (row / channels, row % channels);
        let gate = slot * gate_words + gates_at + channel;
        let (open, count) = (gates[gate] > 0.0, counts[counts_at + slot] as usize);
        let plane = row * height * width * stride;
        for (pixel, (output, codes)) in output.chunks_mut(stride).zip(codes.chunks_mut(stride)).enumerate() {
            let (y, x) = (pixel / out_w * pool, pixel % out_w * pool);
            for (b, (output, code)) in output.iter_mut().zip(codes).enumerate() {
                let at = |place: usize| plane + ((y + place / pool) * width + x + place % pool) * stride + b;
                let value = |place: usize| match (open, donors) {
                    (true, _) => z[at(place)],
                    (false, 0) => fill[gate],
                    (false, _) => fill[at(place)],
                };
                let (mut best, mut first) = (value(0), 0);
                for place in 1..pool * pool {
                    let v = value(place);
                    (best, first) = if v > best { (v, place as u8) } else { (best, first) };
                }
                let dead = relu != 0 && best <= 0.0;
                (*output, *code) = match b < count {
                    false => (0.0, 0),
                    true if dead => (0.0, DEAD),
                    true => (best, first),
                };
            }
        }
    });
}

fn cases() -> Vec<Case> {
    let case = |s: Setting| {
        let params = s.params();
        let outputs = s.outputs();
        Case {
            name: s.name,
            params: params.to_vec(),
            buffers: vec![s.z(), s.fill(), s.gates(), s.counts(), vec![LEFT; outputs], vec![LEFT; outputs / 4]],
            groups: groups(&params),
            flops: 0,
        }
    };
    settings().into_iter().map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cases::{bits, on_cpu};
    use super::*;

    /// One channel of 2x2 pixels, one window, four images of which the last is padding.
    fn window(z: [f32; 4], fill: &[f32], gate: f32, donors: bool) -> (f32, u8) {
        let images = |v: &[f32]| v.iter().flat_map(|x| [*x; 4]).collect::<Vec<_>>();
        let fill = if donors { images(fill) } else { fill.to_vec() };
        let buffers = [bits(&images(&z)), bits(&fill), bits(&[gate]), vec![3], vec![7; 4], vec![7]];
        let plane = Plane { channels: 1, height: 2, width: 2, pool: 2, relu: true };
        let after = on_cpu(&buffers, |device, v| {
            let fill = if donors { FillView::Donors(v[1]) } else { FillView::Means(v[1]) };
            let io = AblateForward { z: v[0], fill, counts: v[3], output: v[4], codes: v[5] };
            let gates = Gates { values: v[2], row_words: 1, at: 0 };
            ablate_forward(device, &plane, Batch { slots: 1, stride: 4, counts_at: 0 }, gates, io)
        });
        let after = after.unwrap();
        let (output, codes): (&[f32], &[u8]) = (f32s(&after[4]), bytemuck::cast_slice(&after[5]));
        assert_eq!((output[3], codes[3]), (0.0, 0), "padding");
        assert_eq!((output[0].to_bits(), codes[0]), (output[2].to_bits(), codes[2]));
        (output[0], codes[0])
    }

    #[test]
    fn by_hand() {
        assert_eq!(window([1.0, 3.0, -1.0, 3.0], &[9.0], 1.0, false), (3.0, 1));
        assert_eq!(window([1.0, 3.0, -1.0, 3.0], &[9.0], 0.0, false), (9.0, 0));
        assert_eq!(window([1.0, 3.0, -1.0, 3.0], &[-9.0], 0.0, false), (0.0, DEAD));
        assert_eq!(window([9.0; 4], &[0.0, 1.0, 5.0, 2.0], 0.0, true), (5.0, 2));
        assert_eq!(window([-1.0; 4], &[0.0, 1.0, 5.0, 2.0], 1.0, true), (0.0, DEAD));
        assert!(window([f32::NAN; 4], &[0.0], 1.0, false).0.is_nan());
    }
}
