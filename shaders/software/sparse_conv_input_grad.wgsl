// sparse_conv_input_grad for software Vulkan, with the same terms in the same order; what is peculiar to it is told in
// sparse_conv_forward.wgsl beside this file. A thread owns an input channel's plane for 4 images, and goes over it by tiles of
// two rows of places, as wide as four pooling windows: places that share a window share what is loaded, wherever the filter's
// place shifts the windows to. Without pooling a window is a place, and a tile five wide.
//
// An entry of the list is m << 8 | ky << 4 | kx.

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

@group(0) @binding(0) var<storage, read> output_grad: array<$QUAD>;
@group(0) @binding(1) var<storage, read> codes: array<u32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;
@group(0) @binding(4) var<storage, read> counts: array<u32>;
@group(0) @binding(5) var<storage, read> gates: array<f32>;
@group(0) @binding(6) var<storage, read> lists: array<u32>;
@group(0) @binding(7) var<storage, read_write> input_grad: array<$QUAD>;
@group(0) @binding(8) var<uniform> p: Params;

const LANES = 8u;   // threads of a subgroup, which read a chunk of 32 images
const NO_GATES = 0xffffffffu;

$NARROW

// The codes of four images, the first in the lowest byte.
fn unpacked(bytes: u32) -> vec4u {
    return (vec4u(bytes) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.z;
    let quads = p.stride / 4u;
    let kernel = p.kernel;
    let padding = p.padding;
    let height = p.height;
    let width = p.width;
    let halve = p.pool - 1u;
    let out_height = p.out_height;
    let out_width = p.out_width;
    let in_channels = p.in_channels;
    let count = counts[p.counts_at + slot];
    let row = rows[slot];
    let own_gates = p.input_gates_at != NO_GATES;
    let output_gates = p.gates_at != NO_GATES;
    let own_gates_at = slot * p.gate_words + p.input_gates_at;
    let output_gates_at = slot * p.gate_words + p.gates_at;

    let tiles = (in_channels + 7u) / 8u;
    let work = group.x + group.y * 65535u;
    let chunk = work / tiles;
    let own = lane % LANES;
    let c = (work - chunk * tiles) * 8u + lane / LANES;
    let quad = chunk * LANES + own;
    let in_batch = quad < quads && c < in_channels;

    let square = kernel * kernel;
    let filter_words = in_channels * square;
    let weights_at = row * p.row_words + p.weights_at + c * square;
    let entries = row * p.list_words + p.lists_at + c * p.out_channels * square;
    let listed_at = row * p.list_words + p.list_counts_at + c;
    let plane = out_height * out_width * quads;
    let grad_at = slot * p.out_channels * plane + quad;
    let line = width * quads;
    let in_at = (slot * in_channels + c) * height * line + quad;
    let live = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u) < vec4u(count);

    var gate = 1.0;
    var listed = 0u;
    if (own == 0u && c < in_channels) {
        if (own_gates) {
            gate = gates[own_gates_at + c];
        }
        listed = lists[listed_at];
    }
    gate = subgroupShuffle(gate, 0u);
    listed = subgroupShuffle(listed, 0u);

    // Entries of the list, one a lane.
    var mine = 0u;
    var weight = 0.0;
    var open = false;

    // Nobody uses the gradient of a closed channel: it is left as it is. Without weights or images it is 0.
    if (gate != 0.0 && listed > 0u && 4u * (quad - own) < count) {
        var y = 0u;
        var x = 0u;
        loop {
            // Of window w's columns the first, and the one after it.
            //@ for i in 0..2
            //@ for w in 0..4
            var even$i$w = vec4f(0.0);
            var odd$i$w = vec4f(0.0);
            //@ end
            //@ end
            var first = 0u;
            loop {
                // Mostly the first eight are all, and are loaded for the first tile alone.
                if (listed > LANES || y + x == 0u) {
                    open = false;
                    if (first + own < listed) {
                        mine = lists[entries + first + own];
                        let m = mine >> 8u;
                        weight = weights[weights_at + m * filter_words + ((mine >> 4u) & 15u) * kernel + (mine & 15u)];
                        open = true;
                        if (output_gates) {
                            open = gates[output_gates_at + m] != 0.0;
                        }
                    }
                }
                var left = subgroupBallot(open).x;
                if (left != 0u) {
                    loop {
                        let holder = firstTrailingBit(left);
                        let place = subgroupShuffle(mine, holder);
                        let factor = subgroupShuffle(weight, holder);
                        // The first place, above and left of the output where the padding is, and its window.
                        let zy = i32(y + padding) - i32((place >> 4u) & 15u);
                        let zx = i32(x + padding) - i32(place & 15u);
                        let wy = u32(zy >> halve);
                        let wx = u32(zx >> halve);
                        // Whether the place after it lies in another window.
                        let next_row = halve == 0u || (zy & 1) == 1;
                        let next_column = halve == 0u || (zx & 1) == 1;
                        let at = grad_at + (place >> 8u) * plane + (wy * out_width + wx) * quads;
                        //@ for r in 0..2
                        //@ for w in 0..5
                        var grad$r$w = vec4f(0.0);
                        var bytes$r$w = 0u;
                        if (in_batch && wy + $ru < out_height && wx + $wu < out_width && ($r == 0 || next_row)
                            && ($w < 4 || next_column)) {
                            grad$r$w = narrow(output_grad[at + ($ru * out_width + $wu) * quads]);
                            bytes$r$w = codes[at + ($ru * out_width + $wu) * quads];
                        }
                        //@ end
                        //@ end
                        //@ for w in 0..5
                        grad1$w = select(grad0$w, grad1$w, next_row);
                        bytes1$w = select(bytes0$w, bytes1$w, next_row);
                        //@ end
                        //@ for i in 0..2
                        let row$i = (u32(zy + $i) & halve) << 1u;
                        let here$i = vec4u(row$i + (u32(zx) & halve));
                        let after$i = vec4u(row$i + (u32(zx + 1) & halve));
                        let after_grad$i0 = select(grad$i0, grad$i1, next_column);
                        let after_grad$i1 = select(grad$i1, grad$i2, next_column);
                        let after_grad$i2 = select(grad$i2, grad$i3, next_column);
                        let after_grad$i3 = select(grad$i3, grad$i4, next_column);
                        let after_bytes$i0 = select(bytes$i0, bytes$i1, next_column);
                        let after_bytes$i1 = select(bytes$i1, bytes$i2, next_column);
                        let after_bytes$i2 = select(bytes$i2, bytes$i3, next_column);
                        let after_bytes$i3 = select(bytes$i3, bytes$i4, next_column);
                        //@ for w in 0..4
                        even$i$w += factor * select(vec4f(0.0), grad$i$w, unpacked(bytes$i$w) == here$i);
                        odd$i$w += factor * select(vec4f(0.0), after_grad$i$w, unpacked(after_bytes$i$w) == after$i);
                        //@ end
                        //@ end
                        left &= left - 1u;
                        if (left == 0u) {
                            break;
                        }
                    }
                }
                first += LANES;
                if (first >= listed) {
                    break;
                }
            }
            // Without pooling an even column after the first is the odd one before it.
            //@ for i in 0..2
            //@ for w in 0..4
            let column$i$w = x + $wu * (halve + 1u);
            if (in_batch && y + $iu < height && column$i$w < width && ($w == 0 || halve == 1u)) {
                input_grad[in_at + (y + $iu) * line + column$i$w * quads] = wide(select(vec4f(0.0), even$i$w, live));
            }
            if (in_batch && y + $iu < height && column$i$w + 1u < width) {
                input_grad[in_at + (y + $iu) * line + (column$i$w + 1u) * quads] = wide(select(vec4f(0.0), odd$i$w, live));
            }
            //@ end
            //@ end
            x += 5u + 3u * halve;
            if (x >= width) {
                x = 0u;
                y += 2u;
            }
            if (y >= height) {
                break;
            }
        }
    } else if (in_batch && gate != 0.0) {
        let end = in_at + height * line;
        var at = in_at;
        loop {
            input_grad[at] = vec2<u64>();
            at += quads;
            if (at >= end) {
                break;
            }
        }
    }
}
