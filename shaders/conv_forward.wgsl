// Convolution (stride 1) with bias, gates, an optional ReLU and optional 2x2 max-pooling, in one pass:
//   z[m][y][x] = (sum over c, ky, kx of W[m][c][ky][kx] X[c][y + ky - padding][x + kx - padding] + bias[m]) * gate[m]
//   output     = relu(maximum of z over the window)      code = place of the first maximum, 4 where no gradient passes
//
// A thread owns $TILE output channels of a 2x2 block of z, which is one pooling window, for 4 images. Every z sums over c,
// then ky, then kx; the bias comes last. Filters of 3x3 keep the block's 4x4 patch of the input in registers.
//
// $TILE, $SHARE, $FILTER, $OWN and $BIAS are what variants differ in: channels of a thread, and how it comes by their
// filters and biases; and $QUAD, what four images are read as.

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
@group(0) @binding(1) var<storage, read> weights: array<vec4f>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read> counts: array<u32>;
@group(0) @binding(4) var<storage, read> gates: array<f32>;
@group(0) @binding(5) var<storage, read_write> output: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> codes: array<u32>;
@group(0) @binding(7) var<uniform> p: Params;

const TILE = $TILEu;    // output channels of a thread
const QUADS = 8u;   // vec4s of images in a chunk
const DEAD = 4u;

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

// The pixel at column x of the row y that starts at `row`; 0 outside of the image.
fn input_at(row: u32, y: u32, x: u32, quads: u32) -> vec4f {
    if (y < p.height && x < p.width) {
        return narrow(input[row + x * quads]);
    }
    return vec4f(0.0);
}

// An output and its code.
struct Value {
    z: vec4f,
    code: vec4u,
}

// What ReLU and gate leave of z; nothing for padding images.
fn activate(z: vec4f, place: vec4u, gate: f32, live: vec4<bool>) -> Value {
    // Behind a closed gate nothing is left of a sum, whatever it is.
    let closed = vec4<bool>(p.relu != 0u) & ((z <= vec4f(0.0)) | vec4<bool>(gate == 0.0));
    let value = select(z, vec4f(0.0), closed);
    let code = select(place, vec4u(DEAD), closed | vec4<bool>(gate == 0.0));
    return Value(select(vec4f(0.0), value, live), select(vec4u(0u), code, live));
}

fn store(at: u32, value: Value) {
    output[at] = value.z;
    let c = value.code;
    codes[at] = c.x | (c.y << 8u) | (c.z << 16u) | (c.w << 24u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.z;
    let quads = p.stride / 4u;
    let tiles = (p.out_channels + TILE - 1u) / TILE;
    let side = p.pool ^ 3u;     // outputs along a block's side
    let blocks_y = (p.out_height + side - 1u) / side;
    let blocks_x = (p.out_width + side - 1u) / side;
    let item = (group.x + group.y * 65535u) * 64u + lane;
    // 8 threads side by side read the same chunk of 32 images, the next 8 the same images for other channels.
    let work = item / QUADS;
    let first = work % tiles * TILE;
    let block = work / tiles % (blocks_y * blocks_x);
    let quad = work / tiles / (blocks_y * blocks_x) * QUADS + item % QUADS;
    let by = block / blocks_x;
    let bx = block % blocks_x;
    let row = rows[slot] * p.row_words;
    let count = counts[p.counts_at + slot];
    let plane = p.height * p.width * quads;
    let last = p.out_channels - 1u;
    let in_batch = quad < quads;

    //@ for m in 0..$TILE
    //@ for i in 0..2
    //@ for j in 0..2
    var z$m_$i$j = vec4f(0.0);
    //@ end
    //@ end
    let m$m = min(first + $mu, last);
    //@ end
    // One answer for all threads of a chunk: they may share what they load.
    if (4u * (quad - quad % QUADS) < count) {
        let filter_words = p.kernel * p.kernel;
        let base = row + p.weights_at;
        //@ for m in 0..$TILE
        var w$m = base + m$m * p.in_channels * filter_words;
        //@ end
        var at = slot * p.in_channels * plane + quad;
        if (p.kernel == 3u) {
            // Above and left of the image a row or column wraps to a large number, so one comparison finds both edges.
            //@ for i in 0..4
            let y$i = 2u * by + $iu - p.padding;
            let in_y$i = in_batch && y$i < p.height;
            let row$i = y$i * p.width * quads;
            let x$i = 2u * bx + $iu - p.padding;
            let in_x$i = x$i < p.width;
            let col$i = x$i * quads;
            //@ end
            for (var c = 0u; c < p.in_channels; c++) {
                $SHARE
                //@ for i in 0..4
                //@ for j in 0..4
                var x$i_$j = vec4f(0.0);
                if (in_y$i && in_x$j) {
                    x$i_$j = narrow(input[at + row$i + col$j]);
                }
                //@ end
                //@ end
                //@ for m in 0..$TILE
                let f$m = $FILTER;
                z$m_00 = z$m_00 + f$m.a.x * x0_0 + f$m.a.y * x0_1 + f$m.a.z * x0_2 + f$m.a.w * x1_0 + f$m.b.x * x1_1
                    + f$m.b.y * x1_2 + f$m.b.z * x2_0 + f$m.b.w * x2_1 + f$m.c * x2_2;
                z$m_01 = z$m_01 + f$m.a.x * x0_1 + f$m.a.y * x0_2 + f$m.a.z * x0_3 + f$m.a.w * x1_1 + f$m.b.x * x1_2
                    + f$m.b.y * x1_3 + f$m.b.z * x2_1 + f$m.b.w * x2_2 + f$m.c * x2_3;
                z$m_10 = z$m_10 + f$m.a.x * x1_0 + f$m.a.y * x1_1 + f$m.a.z * x1_2 + f$m.a.w * x2_0 + f$m.b.x * x2_1
                    + f$m.b.y * x2_2 + f$m.b.z * x3_0 + f$m.b.w * x3_1 + f$m.c * x3_2;
                z$m_11 = z$m_11 + f$m.a.x * x1_1 + f$m.a.y * x1_2 + f$m.a.z * x1_3 + f$m.a.w * x2_1 + f$m.b.x * x2_2
                    + f$m.b.y * x2_3 + f$m.b.z * x3_1 + f$m.b.w * x3_2 + f$m.c * x3_3;
                w$m += 9u;
                //@ end
                at += plane;
            }
        } else if (in_batch) {
            for (var c = 0u; c < p.in_channels; c++) {
                for (var ky = 0u; ky < p.kernel; ky++) {
                    //@ for i in 0..2
                    let y$i = 2u * by + $iu + ky - p.padding;
                    let row$i = at + y$i * p.width * quads;
                    //@ end
                    // The right column of one step is the left of the next.
                    var x = 2u * bx - p.padding;
                    //@ for i in 0..2
                    var v$i1 = input_at(row$i, y$i, x, quads);
                    //@ end
                    for (var kx = 0u; kx < p.kernel; kx++) {
                        x += 1u;
                        //@ for i in 0..2
                        let v$i0 = v$i1;
                        v$i1 = input_at(row$i, y$i, x, quads);
                        //@ end
                        //@ for m in 0..$TILE
                        let f$m = word(w$m);
                        //@ for i in 0..2
                        //@ for j in 0..2
                        z$m_$i$j += f$m * v$i$j;
                        //@ end
                        //@ end
                        w$m += 1u;
                        //@ end
                    }
                }
                at += plane;
            }
        }
    }

    let live = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u) < vec4u(count);
    let out_plane = p.out_height * p.out_width * quads;
    $OWN
    //@ for m in 0..$TILE
    let bias$m = $BIAS;
    if (in_batch && first + $mu <= last) {
        var gate = 1.0;
        if (p.gate_words > 0u) {
            gate = gates[slot * p.gate_words + p.gates_at + m$m];
        }
        let to = (slot * p.out_channels + m$m) * out_plane + quad;
        //@ for i in 0..2
        //@ for j in 0..2
        var z$i$j = (z$m_$i$j + bias$m) * gate;
        //@ end
        //@ end
        var place = vec4u(0u);
        if (p.pool == 2u) {
            //@ for i in 0..2
            //@ for j in 0..2
            place = select(place, vec4u(2u * $iu + $ju), z$i$j > z00);
            z00 = select(z00, z$i$j, z$i$j > z00);
            //@ end
            //@ end
        }
        // One output, or without pooling the four of the block. A loop, for its body costs more than its turns.
        var i = 0u;
        loop {
            let y = by * side + i / 2u;
            let x = bx * side + i % 2u;
            if (y < p.out_height && x < p.out_width) {
                store(to + (y * p.out_width + x) * quads, activate(z00, place, gate, live));
            }
            z00 = z01;
            z01 = z10;
            z10 = z11;
            i += 1u;
            if (i >= side * side) {
                break;
            }
        }
    }
    //@ end
}
