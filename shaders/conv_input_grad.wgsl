// Gradient of a convolution's input, through the pooling and the ReLU in front of it:
//   dX[c][y][x] = sum over m, ky, kx of W[m][c][ky][kx] dZ[m][y + padding - ky][x + padding - kx]
// where dZ is output_grad at the place its code names, and 0 elsewhere and where the code is 4.
//
// A thread owns $TILE input channels of a 2x2 block of pixels for 4 images. Every sum runs over m, then ky, then kx.
// Filters of 3x3 before a pooling keep the 4x4 patch of dZ around the block in registers.
//
// $TILE, $SHARE and $FILTER are what variants differ in: channels of a thread, and how it comes by their filters; and $QUAD,
// what four images are read as.

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
@group(0) @binding(2) var<storage, read> weights: array<vec4f>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;
@group(0) @binding(4) var<storage, read> counts: array<u32>;
@group(0) @binding(5) var<storage, read_write> input_grad: array<vec4f>;
@group(0) @binding(6) var<uniform> p: Params;

const TILE = $TILEu;    // input channels of a thread
const QUADS = 8u;   // vec4s of images in a chunk

$NARROW

// Word `at` of the parameters.
fn word(at: u32) -> f32 {
    return weights[at >> 2u][at & 3u];
}

$TAPS

// The 9 words from word `at`. Three vec4s always cover them, and reach no further than the vec4 of the last.
fn filter_at(at: u32) -> Filter {
    let i = at >> 2u;
    return filter_of(weights[i], weights[i + 1u], weights[i + 2u], at);
}

// The codes of four images, the first in the lowest byte.
fn unpacked(bytes: u32) -> vec4u {
    return (vec4u(bytes) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u);
}

// What of `grad` goes to `place`.
fn routed(grad: vec4f, code: vec4u, place: u32) -> vec4f {
    return select(vec4f(0.0), grad, code == vec4u(place));
}

// dZ of one pixel of the plane that starts at `at`.
fn routed_at(at: u32, y: u32, x: u32, quads: u32) -> vec4f {
    let halve = p.pool - 1u;
    if (y >= p.out_height * p.pool || x >= p.out_width * p.pool) {
        return vec4f(0.0);
    }
    let i = at + ((y >> halve) * p.out_width + (x >> halve)) * quads;
    return routed(narrow(output_grad[i]), unpacked(codes[i]), ((y & halve) << 1u) + (x & halve));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    // Blocks start where the patch of a 3x3 filter begins with the second row of a pooling window: one row early where
    // the padding is even.
    let early = 1u - (p.padding & 1u);
    let slot = group.z;
    let quads = p.stride / 4u;
    let tiles = (p.in_channels + TILE - 1u) / TILE;
    let blocks_y = (p.height + early + 1u) / 2u;
    let blocks_x = (p.width + early + 1u) / 2u;
    let item = (group.x + group.y * 65535u) * 64u + lane;
    // 8 threads side by side read the same chunk of 32 images, the next 8 the same images for other channels.
    let work = item / QUADS;
    let first = work % tiles * TILE;
    let block = work / tiles % (blocks_y * blocks_x);
    let quad = work / tiles / (blocks_y * blocks_x) * QUADS + item % QUADS;
    let y = 2u * (block / blocks_x) - early;
    let x = 2u * (block % blocks_x) - early;
    let plane = p.out_height * p.out_width * quads;
    let last = p.in_channels - 1u;
    let in_batch = quad < quads;

    //@ for c in 0..$TILE
    //@ for i in 0..2
    //@ for j in 0..2
    var d$c_$i$j = vec4f(0.0);
    //@ end
    //@ end
    let c$c = min(first + $cu, last);
    //@ end
    let count = counts[p.counts_at + slot];
    // One answer for all threads of a chunk: they may share what they load.
    if (4u * (quad - quad % QUADS) < count) {
        let base = rows[slot] * p.row_words + p.weights_at;
        var at = slot * p.out_channels * plane + quad;
        let filter_words = p.kernel * p.kernel;
        //@ for c in 0..$TILE
        var w$c = base + c$c * filter_words;
        //@ end
        if (p.kernel == 3u && p.pool == 2u) {
            let reach = (p.padding + 1u - early) / 2u;
            // Windows of the patch: the first and last row and column touch it with half of their places. Above and
            // left of the image their numbers wrap, so one comparison finds both edges.
            //@ for i in 0..3
            let wy$i = block / blocks_x + reach + $iu - 2u;
            let in_y$i = in_batch && wy$i < p.out_height;
            let row$i = wy$i * p.out_width * quads;
            let wx$i = block % blocks_x + reach + $iu - 2u;
            let in_x$i = wx$i < p.out_width;
            let col$i = wx$i * quads;
            //@ end
            for (var m = 0u; m < p.out_channels; m++) {
                $SHARE
                //@ for i in 0..3
                //@ for j in 0..3
                var g$i_$j = vec4f(0.0);
                var k$i_$j = vec4u(0u);
                if (in_y$i && in_x$j) {
                    g$i_$j = narrow(output_grad[at + row$i + col$j]);
                    k$i_$j = unpacked(codes[at + row$i + col$j]);
                }
                //@ end
                //@ end
                let x0_0 = routed(g0_0, k0_0, 3u);
                let x0_1 = routed(g0_1, k0_1, 2u);
                let x0_2 = routed(g0_1, k0_1, 3u);
                let x0_3 = routed(g0_2, k0_2, 2u);
                let x1_0 = routed(g1_0, k1_0, 1u);
                let x1_1 = routed(g1_1, k1_1, 0u);
                let x1_2 = routed(g1_1, k1_1, 1u);
                let x1_3 = routed(g1_2, k1_2, 0u);
                let x2_0 = routed(g1_0, k1_0, 3u);
                let x2_1 = routed(g1_1, k1_1, 2u);
                let x2_2 = routed(g1_1, k1_1, 3u);
                let x2_3 = routed(g1_2, k1_2, 2u);
                let x3_0 = routed(g2_0, k2_0, 1u);
                let x3_1 = routed(g2_1, k2_1, 0u);
                let x3_2 = routed(g2_1, k2_1, 1u);
                let x3_3 = routed(g2_2, k2_2, 0u);
                //@ for c in 0..$TILE
                let f$c = $FILTER;
                d$c_00 = d$c_00 + f$c.a.x * x2_2 + f$c.a.y * x2_1 + f$c.a.z * x2_0 + f$c.a.w * x1_2 + f$c.b.x * x1_1
                    + f$c.b.y * x1_0 + f$c.b.z * x0_2 + f$c.b.w * x0_1 + f$c.c * x0_0;
                d$c_01 = d$c_01 + f$c.a.x * x2_3 + f$c.a.y * x2_2 + f$c.a.z * x2_1 + f$c.a.w * x1_3 + f$c.b.x * x1_2
                    + f$c.b.y * x1_1 + f$c.b.z * x0_3 + f$c.b.w * x0_2 + f$c.c * x0_1;
                d$c_10 = d$c_10 + f$c.a.x * x3_2 + f$c.a.y * x3_1 + f$c.a.z * x3_0 + f$c.a.w * x2_2 + f$c.b.x * x2_1
                    + f$c.b.y * x2_0 + f$c.b.z * x1_2 + f$c.b.w * x1_1 + f$c.c * x1_0;
                d$c_11 = d$c_11 + f$c.a.x * x3_3 + f$c.a.y * x3_2 + f$c.a.z * x3_1 + f$c.a.w * x2_3 + f$c.b.x * x2_2
                    + f$c.b.y * x2_1 + f$c.b.z * x1_3 + f$c.b.w * x1_2 + f$c.c * x1_1;
                w$c += p.in_channels * 9u;
                //@ end
                at += plane;
            }
        } else if (in_batch) {
            for (var m = 0u; m < p.out_channels; m++) {
                for (var ky = 0u; ky < p.kernel; ky++) {
                    let zy = y + p.padding - ky;
                    // The left column of one step is the right of the next.
                    var zx = x + p.padding + 1u;
                    //@ for i in 0..2
                    var v$i0 = routed_at(at, zy + $iu, zx, quads);
                    //@ end
                    for (var kx = 0u; kx < p.kernel; kx++) {
                        zx -= 1u;
                        //@ for i in 0..2
                        let v$i1 = v$i0;
                        v$i0 = routed_at(at, zy + $iu, zx, quads);
                        //@ end
                        //@ for c in 0..$TILE
                        let f$c = word(w$c);
                        //@ for i in 0..2
                        //@ for j in 0..2
                        d$c_$i$j += f$c * v$i$j;
                        //@ end
                        //@ end
                        w$c += 1u;
                        //@ end
                    }
                }
                //@ for c in 0..$TILE
                w$c += (p.in_channels - 1u) * filter_words;
                //@ end
                at += plane;
            }
        }
    }

    let live = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u) < vec4u(count);
    let in_plane = p.height * p.width * quads;
    //@ for c in 0..$TILE
    if (in_batch && first + $cu <= last) {
        let to = (slot * p.in_channels + c$c) * in_plane + quad;
        //@ for i in 0..2
        //@ for j in 0..2
        if (y + $iu < p.height && x + $ju < p.width) {
            input_grad[to + ((y + $iu) * p.width + x + $ju) * quads] = select(vec4f(0.0), d$c_$i$j, live);
        }
        //@ end
        //@ end
    }
    //@ end
}
