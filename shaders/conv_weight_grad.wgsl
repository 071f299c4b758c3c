// Gradient of a convolution's weights and biases, one partial sum a chunk of 32 images:
//   partials[chunk][m][c][ky][kx] = sum over y, x, images of dZ[m][y][x] X[c][y + ky - padding][x + kx - padding]
//   partials[chunk][M C k k + m]  = sum over y, x, images of dZ[m][y][x]
// where dZ is output_grad at the place its code names, and 0 elsewhere and where the code is 4.
//
// A thread owns 8 output channels, one input channel and 3x3 taps for 4 images; 8 threads share a chunk, and their sums
// are added in order at the end. Filters wider than 3 are covered by several blocks of 3x3 taps. $QUAD is what four images
// are read as, in which variants differ.

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

const TILE = 8u;        // output channels of a thread
const CHANNELS = 4u;    // input channels of a workgroup
const QUADS = 8u;       // vec4s of images in a chunk
const DEAD = 4u;

$NARROW

// The threads' sums: per output channel taps 0 to 3 and 4 to 7, then taps 8 of four channels, then biases of four.
var<workgroup> sums: array<vec4f, 640>;

// The codes of four images, the first in the lowest byte.
fn unpacked(bytes: u32) -> vec4u {
    return (vec4u(bytes) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u);
}

// Column x of the row that starts at `row`; 0 outside of the image.
fn input_at(row: u32, x: u32, quads: u32, in_y: bool) -> vec4f {
    if (in_y && x < p.width) {
        return narrow(input[row + x * quads]);
    }
    return vec4f(0.0);
}

fn total(v: vec4f) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.z;
    let quads = p.stride / 4u;
    let tiles = (p.out_channels + TILE - 1u) / TILE;
    let spans = (p.in_channels + CHANNELS - 1u) / CHANNELS;
    let side = (p.kernel + 2u) / 3u;
    let item = group.x + group.y * 65535u;
    let span = item % spans;
    let first = item / spans % tiles * TILE;
    let corner = item / spans / tiles % (side * side);
    let chunk = item / spans / tiles / (side * side);
    if (chunk >= p.chunks) {
        return;
    }
    let ky = corner / side * 3u;
    let kx = corner % side * 3u;
    let c = span * CHANNELS + lane / QUADS;
    let quad = chunk * QUADS + lane % QUADS;
    let last = p.out_channels - 1u;

    //@ for m in 0..8
    //@ for t in 0..9
    var s$m_$t = 0.0;
    //@ end
    var b$m = 0.0;
    //@ end
    if (c < p.in_channels && 4u * quad < counts[p.counts_at + slot]) {
        let plane = (slot * p.in_channels + c) * p.height * p.width * quads + quad;
        let out_plane = p.out_height * p.out_width * quads;
        //@ for m in 0..8
        let out$m = (slot * p.out_channels + min(first + $mu, last)) * out_plane + quad;
        //@ end
        if (p.pool == 2u) {
            for (var oy = 0u; oy < p.out_height; oy++) {
                // Above and left of the image a row or column wraps to a large number, so one comparison finds both
                // edges.
                //@ for i in 0..4
                let y$i = 2u * oy + $iu + ky - p.padding;
                let in_y$i = y$i < p.height;
                let row$i = plane + y$i * p.width * quads;
                //@ end
                // The patch keeps its right half for the next window.
                var x = kx - p.padding;
                //@ for i in 0..4
                var x$i_2 = input_at(row$i, x, quads, in_y$i);
                var x$i_3 = input_at(row$i, x + 1u, quads, in_y$i);
                //@ end
                var at = oy * p.out_width * quads;
                for (var ox = 0u; ox < p.out_width; ox++) {
                    x += 2u;
                    //@ for i in 0..4
                    let x$i_0 = x$i_2;
                    let x$i_1 = x$i_3;
                    x$i_2 = input_at(row$i, x, quads, in_y$i);
                    x$i_3 = input_at(row$i, x + 1u, quads, in_y$i);
                    //@ end
                    // Only the winner of a window has a gradient, so a tap meets one of four neighbouring pixels.
                    //@ for m in 0..8
                    {
                        let code = unpacked(codes[out$m + at]);
                        let d = select(narrow(output_grad[out$m + at]), vec4f(0.0), code == vec4u(DEAD));
                        let right = (code & vec4u(1u)) != vec4u(0u);
                        let below = (code & vec4u(2u)) != vec4u(0u);
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
                    at += quads;
                }
            }
        } else {
            for (var oy = 0u; oy < p.out_height; oy++) {
                for (var ox = 0u; ox < p.out_width; ox++) {
                    //@ for i in 0..3
                    let y$i = oy + $iu + ky - p.padding;
                    let in_y$i = y$i < p.height;
                    let row$i = plane + y$i * p.width * quads;
                    //@ for j in 0..3
                    let x$i_$j = input_at(row$i, ox + $ju + kx - p.padding, quads, in_y$i);
                    //@ end
                    //@ end
                    let at = (oy * p.out_width + ox) * quads;
                    //@ for m in 0..8
                    {
                        let code = unpacked(codes[out$m + at]);
                        let d = select(narrow(output_grad[out$m + at]), vec4f(0.0), code == vec4u(DEAD));
                        s$m_0 += total(d * x0_0);
                        s$m_1 += total(d * x0_1);
                        s$m_2 += total(d * x0_2);
                        s$m_3 += total(d * x1_0);
                        s$m_4 += total(d * x1_1);
                        s$m_5 += total(d * x1_2);
                        s$m_6 += total(d * x2_0);
                        s$m_7 += total(d * x2_1);
                        s$m_8 += total(d * x2_2);
                        b$m += total(d);
                    }
                    //@ end
                }
            }
        }
    }

    //@ for m in 0..8
    sums[$mu * 64u + lane] = vec4f(s$m_0, s$m_1, s$m_2, s$m_3);
    sums[$mu * 64u + 32u + lane] = vec4f(s$m_4, s$m_5, s$m_6, s$m_7);
    //@ end
    sums[512u + lane] = vec4f(s0_8, s1_8, s2_8, s3_8);
    sums[544u + lane] = vec4f(s4_8, s5_8, s6_8, s7_8);
    sums[576u + lane] = vec4f(b0, b1, b2, b3);
    sums[608u + lane] = vec4f(b4, b5, b6, b7);
    workgroupBarrier();

    let filter_words = p.kernel * p.kernel;
    let weights = p.out_channels * p.in_channels * filter_words;
    let to = (slot * p.chunks + chunk) * (weights + p.out_channels);
    // 20 vec4s of each of the 4 input channels, 32 at a time.
    for (var i = lane; i < 20u * CHANNELS; i += 32u) {
        let part = i / CHANNELS;
        let channel = span * CHANNELS + i % CHANNELS;
        let start = part * 32u + i % CHANNELS * QUADS;
        var sum = sums[start];
        for (var j = 1u; j < QUADS; j++) {
            sum += sums[start + j];
        }
        if (channel >= p.in_channels) {
            continue;
        }
        //@ for e in 0..4
        {
            // Output channel and tap of this component; a part past the weights holds biases.
            let m = first + select(part / 2u, (part - 16u) % 2u * 4u + $eu, part >= 16u);
            let tap = select(part % 2u * 4u + $eu, 8u, part >= 16u);
            let y = ky + tap / 3u;
            let x = kx + tap % 3u;
            if (part >= 18u) {
                if (m <= last && channel == 0u && corner == 0u) {
                    partials[to + weights + m] = sum[$eu];
                }
            } else if (m <= last && y < p.kernel && x < p.kernel) {
                partials[to + ((m * p.in_channels + channel) * p.kernel + y) * p.kernel + x] = sum[$eu];
            }
        }
        //@ end
    }
}
