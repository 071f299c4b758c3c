//! How the dense convolutions that read filters are cut into threads.

use super::{quads, unroll_with};
use crate::device::grid;
use crate::kernels::shape::{CONV_WORDS, ConvParams};

/// Replacement in a shader's text: `$TAPS`, a filter of 3x3 and a function `filter_of` that cuts it out of vectors.
const TAPS: (&str, &str) = (
    "TAPS",
    "// A 3x3 filter, row by row.
struct Filter {
    a: vec4f,
    b: vec4f,
    c: f32,
}

// The 9 words from word `at`, of the vectors from the one that has it.
fn filter_of(x: vec4f, y: vec4f, z: vec4f, at: u32) -> Filter {
    let two = (at & 2u) != 0u;
    let one = (at & 1u) != 0u;
    let u = select(x, vec4f(x.zw, y.xy), two);
    let v = select(y, vec4f(y.zw, z.xy), two);
    let w = select(z.xy, z.zw, two);
    return Filter(select(u, vec4f(u.yzw, v.x), one), select(v, vec4f(v.yzw, w.x), one), select(w.x, w.y, one));
}",
);

/// Replacement in a shader's text: `$FOUR_FILTERS`, a filter of 3x3 and functions that read those of four channels.
const FOUR_FILTERS: (&str, &str) = (
    "FOUR_FILTERS",
    "// A 3x3 filter, row by row, and the vec4 that the next one begins in.
struct Filter {
    a: vec4f,
    b: vec4f,
    c: f32,
    next: vec4f,
}

// The filters of four channels in turn, 36 words from the vec4 of number `i`; `u` is the last one's `next`.
fn filter0(i: u32, u: vec4f) -> Filter {
    let w = weights[i + 2u];
    return Filter(weights[i], weights[i + 1u], w.x, w);
}

fn filter1(i: u32, u: vec4f) -> Filter {
    let v = weights[i + 3u];
    let w = weights[i + 4u];
    return Filter(vec4f(u.yzw, v.x), vec4f(v.yzw, w.x), w.y, w);
}

fn filter2(i: u32, u: vec4f) -> Filter {
    let v = weights[i + 5u];
    let w = weights[i + 6u];
    return Filter(vec4f(u.zw, v.xy), vec4f(v.zw, w.xy), w.z, w);
}

fn filter3(i: u32, u: vec4f) -> Filter {
    let v = weights[i + 7u];
    let w = weights[i + 8u];
    return Filter(vec4f(u.w, v.xyz), vec4f(v.w, w.xyz), w.w, w);
}",
);

/// The text of a variant for software Vulkan, whose file in `shaders/software` is `shader`, with `parts` put in.
pub fn software(shader: &str, parts: &[(&str, &str)]) -> String {
    unroll_with(shader, &[&[TAPS], &quads::WIDE[..], parts].concat())
}

/// Whether tiles of `tile` channels come in pairs, so that tiles twice as large leave none of them empty.
pub fn even(channels: u32, tile: u32) -> bool {
    channels.div_ceil(tile).is_multiple_of(2)
}

/// Channels of a thread in the variants for hardware GPUs.
pub const CHANNELS: u32 = 8;

/// The text of a variant for hardware GPUs, whose file in `shaders/hardware` is `shader`, with `parts` put in.
pub fn hardware(shader: &str, parts: &[(&str, &str)]) -> String {
    unroll_with(shader, &[&[FOUR_FILTERS], parts].concat())
}

/// The grid of the variants for hardware: a thread for every so many `blocks`, `tiles` of channels and `images`.
pub fn threads_of(p: &ConvParams, blocks: u32, tiles: u32, images: u32) -> [u32; 3] {
    grid::folded((blocks * tiles * p.chunks * (32 / images)).div_ceil(64) as usize, p.slots)
}

/// Whether the filters of every four channels begin at a vec4.
pub fn filters_by_four(p: &ConvParams) -> bool {
    (p.in_channels | p.weights_at).is_multiple_of(4)
}

/// What one thread owns, and how it comes by the filters, which are the same for the 8 threads of a chunk.
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    pub name: &'static str,
    /// Channels of a thread.
    pub channels: u32,
    /// Whether a lane loads one filter and hands it to the other seven. Only where a subgroup is the 8 threads of a chunk:
    /// software Vulkan, which loads for each lane apart even what is the same for all, and 64 bits as fast as 32.
    shared: bool,
}

impl Tile {
    pub const PLAIN: Self = Self { name: "8 channels", channels: 8, shared: false };
    /// Half as many accumulators, for GPUs with few registers.
    pub const NARROW: Self = Self { name: "4 channels", channels: 4, shared: false };
    pub const SHARED: Self = Self { name: "8 channels, filters through the subgroup", channels: 8, shared: true };

    /// The shader's text. A thread finds its filter of the loop variable's channel at word `at`; where filters are shared,
    /// the lane of number `lane` holds it, and loads it from word `mine`.
    pub fn text(&self, shader: &str, at: &str, lane: &str, mine: &str) -> String {
        let (share, filter) = if self.shared {
            let part = |field: &str| format!("subgroupBroadcast(mine.{field}, {lane})");
            (format!("let mine = filter_at({mine});"), format!("Filter({}, {}, {})", part("a"), part("b"), part("c")))
        } else {
            (String::new(), format!("filter_at({at})"))
        };
        let (own, bias) = match self.shared {
            true => (
                "let own_bias = word(row + p.bias_at + min(first + lane % QUADS, last));",
                "subgroupBroadcast(own_bias, $mu)",
            ),
            false => ("", "word(row + p.bias_at + m$m)"),
        };
        let tile = self.channels.to_string();
        let parts =
            [("TILE", tile.as_str()), ("SHARE", &share), ("FILTER", &filter), ("OWN", own), ("BIAS", bias), TAPS];
        let quads = if self.shared { quads::WIDE } else { quads::PLAIN };
        unroll_with(shader, &[&parts[..], &quads[..]].concat())
    }
}

/// The ways to cut besides the plain one: what the kernel adds for software Vulkan, those of its `text(&Tile)` and
/// `groups(&ConvParams, Tile)`, and what it adds for hardware.
macro_rules! tile_variants {
    ($text:ident, $groups:ident, [$($software:expr),+ $(,)?], [$($hardware:expr),+ $(,)?]) => {
        &[
            $($software,)+
            $crate::device::Variant::for_software(
                Tile::SHARED.name,
                || $text(&Tile::SHARED),
                |p| $groups(parsed(p), Tile::SHARED),
                $crate::device::always,
            ),
            $($hardware,)+
            $crate::device::Variant::new(
                Tile::NARROW.name,
                || $text(&Tile::NARROW),
                |p| $groups(parsed(p), Tile::NARROW),
                $crate::device::always,
            ),
        ]
    };
}
pub(in crate::kernels) use tile_variants;

/// The words of a convolution's uniform block, or the first of a sparse one's.
pub fn parsed(params: &[u32]) -> &ConvParams {
    bytemuck::from_bytes(bytemuck::cast_slice(&params[..CONV_WORDS]))
}

/// Whether filters are of 3x3 before a pooling, and padded by one of `paddings`.
pub fn pooled_3x3(p: &ConvParams, paddings: std::ops::RangeInclusive<u32>) -> bool {
    p.kernel == 3 && p.pool == 2 && paddings.contains(&p.padding)
}
