// conv_input_grad over the surviving weights alone: the same sums with their zero terms left out, in the same order.
//   dX[c][y][x] = sum over c's list of W[m][c][ky][kx] dZ[m][y + padding - ky][x + padding - kx]
// where dZ is output_grad at the place its code names, and 0 elsewhere and where the code is 4. An entry of the list is
// m << 8 | ky << 4 | kx.
//
// A thread owns one input channel of a 2x2 block of pixels for 4 images.

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
    closed_unread: u32,   // this and the next are the forward pass's
    needed_at: u32,
}

@group(0) @binding(0) var<storage, read> output_grad: array<vec4f>;
@group(0) @binding(1) var<storage, read> codes: array<u32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;
@group(0) @binding(4) var<storage, read> counts: array<u32>;
@group(0) @binding(5) var<storage, read> gates: array<f32>;
@group(0) @binding(6) var<storage, read> lists: array<u32>;
@group(0) @binding(7) var<storage, read_write> input_grad: array<vec4f>;
@group(0) @binding(8) var<uniform> p: Params;

const QUADS = 8u;   // vec4s of images in a chunk
const NO_GATES = 0xffffffffu;

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
    return routed(output_grad[i], unpacked(codes[i]), ((y & halve) << 1u) + (x & halve));
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
    let blocks_y = (p.height + 1u) / 2u;
    let blocks_x = (p.width + 1u) / 2u;
    let item = (group.x + group.y * 65535u) * 64u + lane;
    // 8 threads side by side read the same chunk of 32 images, the next 8 another block: all follow the same list.
    let work = item / QUADS;
    let block = work % (blocks_y * blocks_x);
    let c = work / (blocks_y * blocks_x) % p.in_channels;
    let quad = work / (blocks_y * blocks_x) / p.in_channels * QUADS + item % QUADS;
    if (quad >= quads) {
        return;
    }
    let y = 2u * (block / blocks_x);
    let x = 2u * (block % blocks_x);
    let count = counts[p.counts_at + slot];
    // Nobody uses the gradient of a closed channel: it is left as it is.
    if (gate_at(slot, p.input_gates_at, c) == 0.0) {
        return;
    }

    //@ for i in 0..2
    //@ for j in 0..2
    var d$i$j = vec4f(0.0);
    //@ end
    //@ end
    if (4u * quad < count) {
        let row = rows[slot];
        let square = p.kernel * p.kernel;
        let plane = p.out_height * p.out_width * quads;
        let weights_at = row * p.row_words + p.weights_at + c * square;
        let entries = row * p.list_words + p.lists_at + c * p.out_channels * square;
        let end = entries + lists[row * p.list_words + p.list_counts_at + c];
        let at = slot * p.out_channels * plane + quad;
        for (var e = entries; e < end; e++) {
            let place = lists[e];
            let m = place >> 8u;
            if (gate_at(slot, p.gates_at, m) == 0.0) {
                continue;
            }
            let ky = (place >> 4u) & 15u;
            let kx = place & 15u;
            let weight = weights[weights_at + m * p.in_channels * square + ky * p.kernel + kx];
            let zy = y + p.padding - ky;
            let zx = x + p.padding - kx;
            //@ for i in 0..2
            //@ for j in 0..2
            d$i$j += weight * routed_at(at + m * plane, zy + $iu, zx + $ju, quads);
            //@ end
            //@ end
        }
    }

    let live = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u) < vec4u(count);
    let to = (slot * p.in_channels + c) * p.height * p.width * quads + quad;
    //@ for i in 0..2
    //@ for j in 0..2
    if (y + $iu < p.height && x + $ju < p.width) {
        input_grad[to + ((y + $iu) * p.width + x + $ju) * quads] = select(vec4f(0.0), d$i$j, live);
    }
    //@ end
    //@ end
}
