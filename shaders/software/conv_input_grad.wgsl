// conv_input_grad for software Vulkan, for filters of 3x3 before a pooling, with the same terms in the same order; what is
// peculiar to it is told in sparse_conv_forward.wgsl beside this file. A thread owns 8 input channels, or twice as many,
// of a 2x2 block of pixels for four images, and the 8 threads of a subgroup 8 blocks that follow each other. The windows left
// and right of a block's own are those of its neighbours, so a lane loads but its own column; what lies left of the first lane
// and right of the last, each lane one of it. Blocks follow each other by column, then by images, then by row: below the last
// windows, where images of odd height have a row of blocks more, whole subgroups have but the windows above, and a loop of
// their own.
//
// Of a window's two places in a row one at most has a gradient, so one product with the weight that meets it, left or right,
// stands for two. (A product with 0 is left out, which changes no bit where weights are finite.)
//
// The loads come before all else, and in an order that was found by trying: others take up to a fifth longer, as
// does this one with parameters read once, before the loops.

struct Params {
    slots: u32,
    stride: u32,        // B, a multiple of 4
    in_channels: u32,   // C
    out_channels: u32,  // M
    height: u32,        // of the input
    width: u32,
    kernel: u32,
    padding: u32,
    out_height: u32,    // of the output, after the pooling
    out_width: u32,
    pool: u32,          // 1 or 2
    relu: u32,
    row_words: u32,     // P
    weights_at: u32,
    bias_at: u32,
    counts_at: u32,
    gate_words: u32,    // G, or 0 where no gates apply
    gates_at: u32,
    chunks: u32,        // of 32 images
    normwise: u32,      // read by the CPU engine alone
}

@group(0) @binding(0) var<storage, read> output_grad: array<$QUAD>;
@group(0) @binding(1) var<storage, read> codes: array<u32>;
@group(0) @binding(2) var<storage, read> weights: array<$QUAD>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;
@group(0) @binding(4) var<storage, read> counts: array<u32>;
@group(0) @binding(5) var<storage, read_write> input_grad: array<$QUAD>;
@group(0) @binding(6) var<uniform> p: Params;

const TILE = 8u * $SETSu;   // input channels of a thread
const LANES = 8u;           // threads of a subgroup, and blocks
const DEAD = 0x04040404u;
const BYTES = vec4u(1u, 0x100u, 0x10000u, 0x1000000u);  // the lowest bit of each image's code

$NARROW

$TAPS

// The 9 words from word `at`. Three vec4s always cover them, and reach no further than the vec4 of the last.
fn filter_at(at: u32) -> Filter {
    let i = at >> 2u;
    return filter_of(narrow(weights[i]), narrow(weights[i + 1u]), narrow(weights[i + 2u]), at);
}

// Gradients of four images' windows, and the places they go to: the first in the lowest byte.
struct Window {
    grad: vec4f,
    code: u32,
}

// Nothing of what lies outside is taken.
fn window_at(at: u32, inside: bool) -> Window {
    return Window(narrow(output_grad[at]), select(DEAD, codes[at], inside));
}

fn from_lane(window: Window, lane: u32) -> Window {
    return Window(subgroupShuffle(window.grad, lane), subgroupShuffle(window.code, lane));
}

// `window`, or `other` in the lane at the end, which has no neighbour there.
fn choose(window: Window, other: Window, edge: bool) -> Window {
    return Window(select(window.grad, other.grad, edge), select(window.code, other.code, edge));
}

// What of the window goes to places whose bits in `mask` are those of `place`.
fn routed(window: Window, mask: u32, place: u32) -> vec4f {
    return select(vec4f(0.0), window.grad, (vec4u(window.code) & (mask * BYTES)) == place * BYTES);
}

// Whether it goes to a place in the right column.
fn goes_right(window: Window) -> vec4<bool> {
    return (vec4u(window.code) & BYTES) != vec4u(0u);
}

fn pick(left: f32, right: f32, goes_right: vec4<bool>) -> vec4f {
    return select(vec4f(left), vec4f(right), goes_right);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    // Blocks start where the patch of a 3x3 filter begins with the second row of a pooling window: one row early where
    // the padding is even.
    let early = 1u - (p.padding & 1u);
    let reach = (p.padding + 1u - early) / 2u;
    let slot = group.z;
    let quads = p.stride / 4u;
    let tiles = (p.in_channels + TILE - 1u) / TILE;
    let blocks_x = (p.width + early + 1u) / 2u;
    let blocks_y = (p.height + early + 1u) / 2u;
    let own = lane % LANES;
    let work = (group.x + group.y * 65535u) * 8u + lane / LANES;
    let first = work % tiles * TILE;
    let start = work / tiles * LANES;
    let bx = (start + own) % blocks_x;
    let quad = (start + own) / blocks_x % quads;
    let by = (start + own) / blocks_x / quads;
    let in_batch = by < blocks_y;
    let plane = p.out_height * p.out_width * quads;
    let last = p.in_channels - 1u;
    let count = counts[p.counts_at + slot];

    //@ for g in 0..$SETS
    //@ for l in 0..8
    //@ for i in 0..2
    //@ for j in 0..2
    var d$g$l_$i$j = vec4f(0.0);
    //@ end
    //@ end
    //@ end
    //@ end
    // One answer for all lanes: they share what they load.
    if (subgroupAny(in_batch && 4u * quad < count)) {
        //@ for g in 0..$SETS
        let mine_at$g = rows[slot] * p.row_words + p.weights_at + min(first + LANES * $gu + own, last) * 9u;
        //@ end
        let base = slot * p.out_channels * plane;
        // Above and left of the image the numbers of rows and columns wrap, so one comparison finds both edges.
        let column = bx + reach - 1u;
        let in_column = in_batch && column < p.out_width;
        //@ for i in 0..3
        let wy$i = by + reach + $iu - 2u;
        let inside$i = in_column && wy$i < p.out_height;
        let at$i = base + select(0u, (wy$i * p.out_width + column) * quads + quad, inside$i);
        //@ end
        // Lanes 0 to 2 load what is left of the first, lanes 4 to 6 what is right of the last.
        let right = own >= 4u;
        let end = start + select(0u, LANES - 1u, right);
        let end_by = end / blocks_x / quads;
        let end_y = end_by + reach + own % 4u - 2u;
        let end_x = end % blocks_x + reach + select(0u, 2u, right) - 2u;
        let end_inside = own % 4u < 3u && end_by < blocks_y && end_y < p.out_height && end_x < p.out_width;
        let end_at = base + select(0u, (end_y * p.out_width + end_x) * quads + end / blocks_x % quads, end_inside);
        let before = (own + LANES - 1u) % LANES;
        let after = (own + 1u) % LANES;

        // A branch would run both of its sides; a loop that is not wanted ends at once.
        let below = subgroupAny(in_batch && (wy1 < p.out_height || wy2 < p.out_height));
        for (var m = select(p.out_channels, 0u, below); m < p.out_channels; m++) {
            let ends = window_at(end_at + m * plane, end_inside);
            //@ for i in 0..3
            let w$i_1 = window_at(at$i + m * plane, inside$i);
            //@ end
            //@ for g in 0..$SETS
            let mine$g = filter_at(mine_at$g + m * p.in_channels * 9u);
            //@ end
            //@ for i in 0..3
            var w$i_0 = choose(from_lane(w$i_1, before), from_lane(ends, $iu), own == 0u);
            w$i_0.code = select(w$i_0.code, DEAD, bx == 0u);
            var w$i_2 = choose(from_lane(w$i_1, after), from_lane(ends, $iu + 4u), own == LANES - 1u);
            w$i_2.code = select(w$i_2.code, DEAD, bx == blocks_x - 1u);
            //@ end
            let x0_0 = routed(w0_0, 7u, 3u);
            let x0_12 = routed(w0_1, 6u, 2u);
            let x0_3 = routed(w0_2, 7u, 2u);
            let x1_0 = routed(w1_0, 7u, 1u);
            let x1_12 = routed(w1_1, 6u, 0u);
            let x1_3 = routed(w1_2, 7u, 0u);
            let x2_0 = routed(w1_0, 7u, 3u);
            let x2_12 = routed(w1_1, 6u, 2u);
            let x2_3 = routed(w1_2, 7u, 2u);
            let x3_0 = routed(w2_0, 7u, 1u);
            let x3_12 = routed(w2_1, 6u, 0u);
            let x3_3 = routed(w2_2, 7u, 0u);
            let r0 = goes_right(w0_1);
            let r1 = goes_right(w1_1);
            let r2 = goes_right(w2_1);
            //@ for g in 0..$SETS
            //@ for l in 0..8
            {
                let f = Filter(subgroupBroadcast(mine$g.a, $lu), subgroupBroadcast(mine$g.b, $lu),
                    subgroupBroadcast(mine$g.c, $lu));
                let above_l = pick(f.a.y, f.a.x, r1);
                let above_r = pick(f.a.z, f.a.y, r1);
                let middle_l = pick(f.b.x, f.a.w, r1);
                let middle_r = pick(f.b.y, f.b.x, r1);
                let below_l = pick(f.b.w, f.b.z, r1);
                let below_r = pick(f.c, f.b.w, r1);
                d$g$l_00 = d$g$l_00 + above_l * x2_12 + f.a.z * x2_0 + middle_l * x1_12 + f.b.y * x1_0
                    + pick(f.b.w, f.b.z, r0) * x0_12 + f.c * x0_0;
                d$g$l_01 = d$g$l_01 + f.a.x * x2_3 + above_r * x2_12 + f.a.w * x1_3 + middle_r * x1_12
                    + f.b.z * x0_3 + pick(f.c, f.b.w, r0) * x0_12;
                d$g$l_10 = d$g$l_10 + pick(f.a.y, f.a.x, r2) * x3_12 + f.a.z * x3_0 + middle_l * x2_12 + f.b.y * x2_0
                    + below_l * x1_12 + f.c * x1_0;
                d$g$l_11 = d$g$l_11 + f.a.x * x3_3 + pick(f.a.z, f.a.y, r2) * x3_12 + f.a.w * x2_3 + middle_r * x2_12
                    + f.b.z * x1_3 + below_r * x1_12;
            }
            //@ end
            //@ end
        }
        for (var m = select(0u, p.out_channels, below); m < p.out_channels; m++) {
            //@ for g in 0..$SETS
            let mine$g = filter_at(mine_at$g + m * p.in_channels * 9u);
            //@ end
            let ends = window_at(end_at + m * plane, end_inside);
            let w1 = window_at(at0 + m * plane, inside0);
            var w0 = choose(from_lane(w1, before), from_lane(ends, 0u), own == 0u);
            w0.code = select(w0.code, DEAD, bx == 0u);
            var w2 = choose(from_lane(w1, after), from_lane(ends, 4u), own == LANES - 1u);
            w2.code = select(w2.code, DEAD, bx == blocks_x - 1u);
            let x0 = routed(w0, 7u, 3u);
            let x12 = routed(w1, 6u, 2u);
            let x3 = routed(w2, 7u, 2u);
            let r = goes_right(w1);
            //@ for g in 0..$SETS
            //@ for l in 0..8
            {
                let b = subgroupBroadcast(mine$g.b, $lu);
                let c = subgroupBroadcast(mine$g.c, $lu);
                d$g$l_00 = d$g$l_00 + pick(b.w, b.z, r) * x12 + c * x0;
                d$g$l_01 = d$g$l_01 + b.z * x3 + pick(c, b.w, r) * x12;
            }
            //@ end
            //@ end
        }
    }

    let y = 2u * by - early;
    let x = 2u * bx - early;
    let live = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u) < vec4u(count);
    let in_plane = p.height * p.width * quads;
    //@ for g in 0..$SETS
    //@ for l in 0..8
    if (in_batch && first + LANES * $gu + $lu <= last) {
        let to = (slot * p.in_channels + first + LANES * $gu + $lu) * in_plane + quad;
        //@ for i in 0..2
        //@ for j in 0..2
        if (y + $iu < p.height && x + $ju < p.width) {
            input_grad[to + ((y + $iu) * p.width + x + $ju) * quads] = wide(select(vec4f(0.0), d$g$l_$i$j, live));
        }
        //@ end
        //@ end
    }
    //@ end
    //@ end
}
