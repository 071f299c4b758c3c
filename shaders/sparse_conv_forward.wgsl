// conv_forward over the surviving weights alone: the same sums with their zero terms left out, in the same order.
//   z[m][y][x] = (sum over m's list of W[m][c][ky][kx] X[c][y + ky - padding][x + kx - padding] + bias[m]) * gate[m]
//   output     = relu(maximum of z over the window)      code = place of the first maximum, 4 where no gradient passes
// An entry of the list is c << 8 | ky << 4 | kx.
//
// A thread owns one output channel of a 2x2 block of z, which is one pooling window, for 4 images. The bias comes last.

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
    gate_words: u32,    // G
    gates_at: u32,      // NO_GATES where the output channels have none
    chunks: u32,        // of 32 images
    reserved: u32,
    list_words: u32,      // S
    lists_at: u32,
    list_counts_at: u32,
    input_gates_at: u32,  // NO_GATES where the input channels have none
    closed_unread: u32,   // 1 where nobody reads closed channels
    needed_at: u32,       // ALL_NEEDED, or of each channel's blocks, which are needed (needed.wgsl): others are left as they are
}

@group(0) @binding(0) var<storage, read> input: array<vec4f>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read> counts: array<u32>;
@group(0) @binding(4) var<storage, read> gates: array<f32>;
@group(0) @binding(5) var<storage, read> lists: array<u32>;
@group(0) @binding(6) var<storage, read_write> output: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> codes: array<u32>;
@group(0) @binding(8) var<uniform> p: Params;

const QUADS = 8u;   // vec4s of images in a chunk
const NO_GATES = 0xffffffffu;
const ALL_NEEDED = 0xffffffffu;
const DEAD = 4u;

// The pixel at column x of the row y that starts at `row`; 0 outside of the image.
fn input_at(row: u32, y: u32, x: u32, quads: u32) -> vec4f {
    if (y < p.height && x < p.width) {
        return input[row + x * quads];
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
    // Behind a closed gate nothing is left of a bias, whatever it is.
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

// The gate of a channel: 1 where there is none.
fn gate_at(slot: u32, first: u32, channel: u32) -> f32 {
    if (first == NO_GATES) {
        return 1.0;
    }
    return gates[slot * p.gate_words + first + channel];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.z;
    let quads = p.stride / 4u;
    let side = p.pool ^ 3u;     // outputs along a block's side
    let blocks_y = (p.out_height + side - 1u) / side;
    let blocks_x = (p.out_width + side - 1u) / side;
    let item = (group.x + group.y * 65535u) * 64u + lane;
    // 8 threads side by side read the same chunk of 32 images, the next 8 another block: all follow the same list.
    let work = item / QUADS;
    let block = work % (blocks_y * blocks_x);
    let m = work / (blocks_y * blocks_x) % p.out_channels;
    let quad = work / (blocks_y * blocks_x) / p.out_channels * QUADS + item % QUADS;
    if (quad >= quads) {
        return;
    }
    let by = block / blocks_x;
    let bx = block % blocks_x;
    let count = counts[p.counts_at + slot];
    let row = rows[slot];
    if (p.needed_at != ALL_NEEDED) {
        let words = (blocks_y * blocks_x + 31u) / 32u;
        let bits = lists[row * p.list_words + p.needed_at + m * words + block / 32u];
        if ((bits >> (block % 32u) & 1u) == 0u) {
            return;
        }
    }
    let gate = gate_at(slot, p.gates_at, m);
    // Behind a closed gate and a ReLU nothing is left of a sum.
    let closed = gate == 0.0 && p.relu != 0u;
    if (closed && p.closed_unread != 0u) {
        return;
    }

    //@ for i in 0..2
    //@ for j in 0..2
    var z$i$j = vec4f(0.0);
    //@ end
    //@ end
    if (4u * quad < count && !closed) {
        let square = p.kernel * p.kernel;
        let plane = p.height * p.width * quads;
        let filter_at = row * p.row_words + p.weights_at + m * p.in_channels * square;
        let entries = row * p.list_words + p.lists_at + m * p.in_channels * square;
        let end = entries + lists[row * p.list_words + p.list_counts_at + m];
        let at = slot * p.in_channels * plane + quad;
        for (var e = entries; e < end; e++) {
            let place = lists[e];
            let c = place >> 8u;
            if (gate_at(slot, p.input_gates_at, c) == 0.0) {
                continue;
            }
            let ky = (place >> 4u) & 15u;
            let kx = place & 15u;
            let weight = weights[filter_at + c * square + ky * p.kernel + kx];
            let x = 2u * bx + kx - p.padding;
            //@ for i in 0..2
            let y$i = 2u * by + $iu + ky - p.padding;
            let row$i = at + c * plane + y$i * p.width * quads;
            //@ for j in 0..2
            z$i$j += weight * input_at(row$i, y$i, x + $ju, quads);
            //@ end
            //@ end
        }
    }

    let live = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u) < vec4u(count);
    let to = (slot * p.out_channels + m) * p.out_height * p.out_width * quads + quad;
    let bias = weights[row * p.row_words + p.bias_at + m];
    //@ for i in 0..2
    //@ for j in 0..2
    z$i$j = (z$i$j + bias) * gate;
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
    // One output, or without pooling the four of the block.
    for (var i = 0u; i < side * side; i++) {
        let y = by * side + i / 2u;
        let x = bx * side + i % 2u;
        if (y < p.out_height && x < p.out_width) {
            store(to + (y * p.out_width + x) * quads, activate(z00, place, gate, live));
        }
        z00 = z01;
        z01 = z10;
        z10 = z11;
    }
}
