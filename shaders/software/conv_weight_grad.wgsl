// conv_weight_grad for software Vulkan, with the same terms in the same order; what is peculiar to it is told in
// sparse_conv_forward.wgsl beside this file. A thread owns 8 output channels, 16 or 32, one input channel and 3x3 taps for all
// images of a chunk, four after four; the 8 threads of a subgroup own 8 input channels side by side, so that all of them read
// the same gradients, of which each loads those of every eighth output channel.

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

@group(0) @binding(0) var<storage, read> input: array<$QUAD>;
@group(0) @binding(1) var<storage, read> output_grad: array<$QUAD>;
@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read> counts: array<u32>;
@group(0) @binding(4) var<storage, read_write> partials: array<f32>;
@group(0) @binding(5) var<uniform> p: Params;

const TILE = $TILEu;       // output channels of a thread
const LANES = 8u;       // threads of a subgroup, and input channels
const QUADS = 8u;       // vec4s of images in a chunk

$NARROW

// Four images' pixel; 0 outside of them.
fn input_at(at: u32, inside: bool) -> vec4f {
    if (inside) {
        return narrow(input[at]);
    }
    return vec4f(0.0);
}

fn total(v: vec4f) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

// Gradients of four images, and their codes: the first in the lowest byte.
struct Routed {
    grad: vec4f,
    code: u32,
}

fn routed_at(at: u32) -> Routed {
    let code = codes[at];
    let dead = (vec4u(code) & vec4u(4u, 0x400u, 0x40000u, 0x4000000u)) != vec4u(0u);
    return Routed(select(narrow(output_grad[at]), vec4f(0.0), dead), code);
}

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.z;
    let quads = p.stride / 4u;
    let kernel = p.kernel;
    let padding = p.padding;
    let height = p.height;
    let width = p.width;
    let out_height = p.out_height;
    let out_width = p.out_width;
    let in_channels = p.in_channels;
    let out_channels = p.out_channels;
    let pool = p.pool;
    let pooled = pool == 2u;
    let line = width * quads;
    let tiles = (out_channels + TILE - 1u) / TILE;
    let spans = (in_channels + LANES - 1u) / LANES;
    let side = (kernel + 2u) / 3u;
    let own = lane % LANES;
    let item = (group.x + group.y * 65535u) * 4u + lane / LANES;
    let first = item % tiles * TILE;
    let span = item / tiles % spans;
    let corner = item / tiles / spans % (side * side);
    let chunk = item / tiles / spans / (side * side);
    if (chunk >= p.chunks) {
        return;
    }
    let ky = corner / side * 3u;
    let kx = corner % side * 3u;
    let c = span * LANES + own;
    let last = out_channels - 1u;
    let plane = (slot * in_channels + min(c, in_channels - 1u)) * height * line;
    let out_plane = out_height * out_width * quads;
    // What a lane loads for all of them.
    //@ for g in 0..$SETS
    let out$g = (slot * out_channels + min(first + LANES * $gu + own, last)) * out_plane;
    //@ end
    let end = min(min(chunk * QUADS + QUADS, quads), (counts[p.counts_at + slot] + 3u) / 4u);

    //@ for m in 0..$TILE
    //@ for t in 0..10
    var a$m_$t = 0.0;
    //@ end
    //@ end
    for (var quad = chunk * QUADS; quad < end; quad++) {
        //@ for m in 0..$TILE
        //@ for t in 0..9
        var s$m_$t = 0.0;
        //@ end
        var b$m = 0.0;
        //@ end
        var at = quad;
        for (var oy = 0u; oy < out_height; oy++) {
            // Above and left of the image a row or column wraps to a large number, so one comparison finds both edges.
            //@ for i in 0..4
            let y$i = pool * oy + $iu + ky - padding;
            let in_y$i = y$i < height;
            let row$i = plane + y$i * line + quad;
            //@ end
            // The patch keeps the columns that the next window reads too.
            var x = kx - padding;
            //@ for i in 0..4
            var left$i = input_at(row$i + x * quads, in_y$i && x < width);
            var right$i = input_at(row$i + (x + 1u) * quads, in_y$i && x + 1u < width);
            //@ end
            x += 2u;
            for (var ox = 0u; ox < out_width; ox++) {
                //@ for i in 0..4
                let x$i_0 = left$i;
                let x$i_1 = right$i;
                let x$i_2 = input_at(row$i + x * quads, in_y$i && x < width);
                let x$i_3 = input_at(row$i + (x + 1u) * quads, in_y$i && x + 1u < width && pooled);
                left$i = select(x$i_1, x$i_2, pooled);
                right$i = select(x$i_2, x$i_3, pooled);
                //@ end
                x += pool;
                var mine: array<Routed, $SETS>;
                //@ for g in 0..$SETS
                mine[$g] = routed_at(out$g + at);
                //@ end
                at += quads;
                // Only the winner of a window has a gradient, so a tap meets one of four neighbouring pixels.
                //@ for m in 0..$TILE
                {
                    let d = subgroupBroadcast(mine[$mu / LANES].grad, $mu % LANES);
                    let code = vec4u(subgroupBroadcast(mine[$mu / LANES].code, $mu % LANES));
                    let right = (code & vec4u(1u, 0x100u, 0x10000u, 0x1000000u)) != vec4u(0u);
                    let below = (code & vec4u(2u, 0x200u, 0x20000u, 0x2000000u)) != vec4u(0u);
                    s$m_0 += total(d * select(select(x0_0, x0_1, right), select(x1_0, x1_1, right), below));
                    s$m_1 += total(d * select(select(x0_1, x0_2, right), select(x1_1, x1_2, right), below));
                    s$m_2 += total(d * select(select(x0_2, x0_3, right), select(x1_2, x1_3, right), below));
                    s$m_3 += total(d * select(select(x1_0, x1_1, right), select(x2_0, x2_1, right), below));
                    s$m_4 += total(d * select(select(x1_1, x1_2, right), select(x2_1, x2_2, right), below));
                    s$m_5 += total(d * select(select(x1_2, x1_3, right), select(x2_2, x2_3, right), below));
                    s$m_6 += total(d * select(select(x2_0, x2_1, right), select(x3_0, x3_1, right), below));
                    s$m_7 += total(d * select(select(x2_1, x2_2, right), select(x3_1, x3_2, right), below));
                    s$m_8 += total(d * select(select(x2_2, x2_3, right), select(x3_2, x3_3, right), below));
                    b$m += total(d);
                }
                //@ end
            }
        }
        // As the eight threads of the plain kernel, whose sums are added in this order.
        //@ for m in 0..$TILE
        //@ for t in 0..9
        a$m_$t += s$m_$t;
        //@ end
        a$m_9 += b$m;
        //@ end
    }

    let filter_words = kernel * kernel;
    let weights = out_channels * in_channels * filter_words;
    let to = (slot * p.chunks + chunk) * (weights + out_channels);
    // A loop, for its body costs more than its turns.
    var m = first;
    loop {
        let words = to + (m * in_channels + c) * filter_words + ky * kernel + kx;
        //@ for t in 0..9
        if (m <= last && c < in_channels && ky + $tu / 3u < kernel && kx + $tu % 3u < kernel) {
            partials[words + $tu / 3u * kernel + $tu % 3u] = a0_$t;
        }
        //@ end
        if (m <= last && c == 0u && corner == 0u) {
            partials[to + weights + m] = a0_9;
        }
        //@ for t in 0..10
        $SHIFT
        //@ end
        m += 1u;
        if (m >= first + TILE) {
            break;
        }
    }
}
