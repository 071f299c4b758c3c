// sparse_conv_forward for software Vulkan, with the same terms in the same order. There, the eight lanes of a subgroup load one
// after the other, 64 bits as fast as 32; a shuffle is one instruction; a branch runs both of its sides, and a loop its body
// once at least. So:
// - a subgroup owns all blocks of a filter's plane for 32 images, and each lane holds an entry of the filter's list;
// - closed channels are filled in a loop of their own, if anybody reads them, which costs the open ones one turn;
// - loops are left at their end, and parameters are read before the first branch: inside of one they are read lane by lane;
// - in the dense kernels, a loop is no more machine code than the 32 KiB of instructions that a core with AVX-512 keeps at hand;
// - of a single channel's 3x3 filters, which all need the same pixels, each lane holds four, and a block's pixels are loaded once
//   for 32 of them: a variant of its own ($SINGLE), since in one for all layers the loops of either would run once for the other.
//
// An entry of the list is c << 8 | ky << 4 | kx.

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
}

@group(0) @binding(0) var<storage, read> input: array<$QUAD>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read> counts: array<u32>;
@group(0) @binding(4) var<storage, read> gates: array<f32>;
@group(0) @binding(5) var<storage, read> lists: array<u32>;
@group(0) @binding(6) var<storage, read_write> output: array<$QUAD>;
@group(0) @binding(7) var<storage, read_write> codes: array<u32>;
@group(0) @binding(8) var<uniform> p: Params;

const LANES = 8u;   // threads of a subgroup, which read a chunk of 32 images
const SINGLE = $SINGLE;
const FILTERS = $FILTERSu;  // of a workgroup
const PARTS = $PARTSu;      // workgroups for the same filters and images, each for some of the rows
const NO_GATES = 0xffffffffu;
const DEAD = 4u;

$NARROW

// An output and its code.
struct Value {
    z: vec4f,
    code: vec4u,
}

// What ReLU and gate leave of z; nothing for padding images.
fn activate(z: vec4f, place: vec4u, relu: bool, shut: bool, live: vec4<bool>) -> Value {
    let closed = vec4<bool>(relu) & (z <= vec4f(0.0));
    let value = select(z, vec4f(0.0), closed);
    let code = select(place, vec4u(DEAD), closed | vec4<bool>(shut));
    return Value(select(vec4f(0.0), value, live), select(vec4u(0u), code, live));
}

fn store(at: u32, value: Value) {
    output[at] = wide(value.z);
    let c = value.code;
    codes[at] = c.x | (c.y << 8u) | (c.z << 16u) | (c.w << 24u);
}

// Every output of a plane the same.
fn fill(start: u32, words: u32, step: u32, value: Value) {
    var at = start;
    loop {
        store(at, value);
        at += step;
        if (at >= start + words) {
            break;
        }
    }
}

// Which of four, 0 to 3.
fn one_of(a: f32, b: f32, c: f32, d: f32, which: u32) -> f32 {
    return select(select(a, b, which == 1u), select(c, d, which == 3u), which > 1u);
}

// Where and how a thread's outputs end.
struct Ending {
    height: u32,
    width: u32,
    pool: u32,
    quads: u32,
    relu: bool,
    in_batch: bool,
    live: vec4<bool>,
}

// From the sums of a 2x2 block to outputs and codes, in the plane that starts at `to`.
fn finish(e: Ending, sums: array<vec4f, 4>, bias: f32, gate: f32, to: u32, by: u32, bx: u32) {
    //@ for i in 0..4
    var z$i = (sums[$i] + bias) * gate;
    //@ end
    var place = vec4u(0u);
    if (e.pool == 2u) {
        //@ for i in 0..4
        place = select(place, vec4u($iu), z$i > z0);
        z0 = select(z0, z$i, z$i > z0);
        //@ end
    }
    let side = e.pool ^ 3u;
    // One output, or without pooling the four of the block: each picked, not handed on from turn to turn, since vectors that a
    // loop changes are written to memory under its mask.
    var i = 0u;
    loop {
        let y = by * side + i / 2u;
        let x = bx * side + i % 2u;
        if (e.in_batch && y < e.height && x < e.width) {
            let z = select(select(z0, z1, i == 1u), select(z2, z3, i == 3u), i > 1u);
            store(to + (y * e.width + x) * e.quads, activate(z, place, e.relu, gate == 0.0, e.live));
        }
        i += 1u;
        if (i >= side * side) {
            break;
        }
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.z;
    let quads = p.stride / 4u;
    let relu = p.relu != 0u;
    let pool = p.pool;
    let kernel = p.kernel;
    let padding = p.padding;
    let height = p.height;
    let width = p.width;
    let out_height = p.out_height;
    let out_width = p.out_width;
    let out_channels = p.out_channels;
    let closed_unread = p.closed_unread != 0u;
    let count = counts[p.counts_at + slot];
    let row = rows[slot];
    let own_gates = p.gates_at != NO_GATES;
    let input_gates = p.input_gates_at != NO_GATES;
    let own_gates_at = slot * p.gate_words + p.gates_at;
    let input_gates_at = slot * p.gate_words + p.input_gates_at;

    let tiles = (out_channels + FILTERS - 1u) / FILTERS;
    let number = group.x + group.y * 65535u;
    let work = number / PARTS;
    let part = number % PARTS;
    let chunk = work / tiles;
    let own = lane % LANES;
    let first_m = (work - chunk * tiles) * FILTERS;
    let quad = chunk * LANES + own;
    let in_batch = quad < quads;
    let has_images = 4u * (quad - own) < count;

    let square = kernel * kernel;
    let filter_words = p.in_channels * square;
    let filters_at = row * p.row_words + p.weights_at;
    let biases_at = row * p.row_words + p.bias_at;
    let lists_at = row * p.list_words + p.lists_at;
    let list_counts_at = row * p.list_words + p.list_counts_at;
    let line = width * quads;
    let plane = height * line;
    let in_at = slot * p.in_channels * plane + quad;
    let out_plane = out_height * out_width * quads;
    let outputs_at = slot * out_channels * out_plane + quad;
    let live = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u) < vec4u(count);

    let side = pool ^ 3u;   // outputs along a block's side
    let blocks_x = (out_width + side - 1u) / side;
    let blocks_y = (out_height + side - 1u) / side;

    if (SINGLE) {
        // Of each eight filters, one a lane.
        var shown = 0u;
        //@ for g in 0..4
        let m$g = first_m + LANES * $gu + own;
        var gate$g = 1.0;
        var bias$g = 0.0;
        if (m$g < out_channels) {
            if (own_gates) {
                gate$g = gates[own_gates_at + m$g];
            }
            bias$g = weights[biases_at + m$g];
        }
        // Behind a closed gate and a ReLU nothing is left of a sum, and of images that are not there nothing is wanted.
        shown |= subgroupBallot(has_images && m$g < out_channels && (gate$g != 0.0 || !relu)).x << (LANES * $gu);
        //@ end
        // A thread computes all of them, in some rows of blocks.
        if (shown != 0u) {
            var open = true;
            if (input_gates) {
                open = gates[input_gates_at] != 0.0;
            }
            //@ for g in 0..4
            //@ for t in 0..9
            var w$g_$t = 0.0;
            //@ end
            if (open && m$g < out_channels) {
                //@ for t in 0..9
                w$g_$t = weights[filters_at + m$g * 9u + $tu];
                //@ end
            }
            //@ end
            let ending = Ending(out_height, out_width, pool, quads, relu, in_batch, live);
            var by = part * LANES + lane / LANES;
            var bx = 0u;
            if (by < blocks_y) {
                loop {
                    //@ for i in 0..4
                    let y$i = 2u * by + $iu - padding;
                    let x$i = 2u * bx + $iu - padding;
                    //@ end
                    //@ for i in 0..4
                    //@ for j in 0..4
                    var v$i$j = vec4f(0.0);
                    if (in_batch && y$i < height && x$j < width) {
                        v$i$j = narrow(input[in_at + y$i * line + x$j * quads]);
                    }
                    //@ end
                    //@ end
                    var left = shown;
                    loop {
                        let next = firstTrailingBit(left);
                        let holder = next % LANES;
                        let eight = next / LANES;
                        //@ for t in 0..9
                        let f$t = subgroupShuffle(one_of(w0_$t, w1_$t, w2_$t, w3_$t, eight), holder);
                        let is$t = vec4<bool>(f$t != 0.0);
                        //@ end
                        //@ for i in 0..2
                        //@ for j in 0..2
                        var z$i$j = vec4f(0.0);
                        //@ end
                        //@ end
                        z00 = select(z00, z00 + f0 * v00, is0);
                        z01 = select(z01, z01 + f0 * v01, is0);
                        z10 = select(z10, z10 + f0 * v10, is0);
                        z11 = select(z11, z11 + f0 * v11, is0);
                        z00 = select(z00, z00 + f1 * v01, is1);
                        z01 = select(z01, z01 + f1 * v02, is1);
                        z10 = select(z10, z10 + f1 * v11, is1);
                        z11 = select(z11, z11 + f1 * v12, is1);
                        z00 = select(z00, z00 + f2 * v02, is2);
                        z01 = select(z01, z01 + f2 * v03, is2);
                        z10 = select(z10, z10 + f2 * v12, is2);
                        z11 = select(z11, z11 + f2 * v13, is2);
                        z00 = select(z00, z00 + f3 * v10, is3);
                        z01 = select(z01, z01 + f3 * v11, is3);
                        z10 = select(z10, z10 + f3 * v20, is3);
                        z11 = select(z11, z11 + f3 * v21, is3);
                        z00 = select(z00, z00 + f4 * v11, is4);
                        z01 = select(z01, z01 + f4 * v12, is4);
                        z10 = select(z10, z10 + f4 * v21, is4);
                        z11 = select(z11, z11 + f4 * v22, is4);
                        z00 = select(z00, z00 + f5 * v12, is5);
                        z01 = select(z01, z01 + f5 * v13, is5);
                        z10 = select(z10, z10 + f5 * v22, is5);
                        z11 = select(z11, z11 + f5 * v23, is5);
                        z00 = select(z00, z00 + f6 * v20, is6);
                        z01 = select(z01, z01 + f6 * v21, is6);
                        z10 = select(z10, z10 + f6 * v30, is6);
                        z11 = select(z11, z11 + f6 * v31, is6);
                        z00 = select(z00, z00 + f7 * v21, is7);
                        z01 = select(z01, z01 + f7 * v22, is7);
                        z10 = select(z10, z10 + f7 * v31, is7);
                        z11 = select(z11, z11 + f7 * v32, is7);
                        z00 = select(z00, z00 + f8 * v22, is8);
                        z01 = select(z01, z01 + f8 * v23, is8);
                        z10 = select(z10, z10 + f8 * v32, is8);
                        z11 = select(z11, z11 + f8 * v33, is8);
                        let bias = subgroupShuffle(one_of(bias0, bias1, bias2, bias3, eight), holder);
                        let gate = subgroupShuffle(one_of(gate0, gate1, gate2, gate3, eight), holder);
                        let to = outputs_at + (first_m + next) * out_plane;
                        finish(ending, array(z00, z01, z10, z11), bias, gate, to, by, bx);
                        left &= left - 1u;
                        if (left == 0u) {
                            break;
                        }
                    }
                    bx += 1u;
                    if (bx == blocks_x) {
                        bx = 0u;
                        by += LANES * PARTS;
                    }
                    if (by >= blocks_y) {
                        break;
                    }
                }
            }
        }

        // The others, eight planes at a time.
        //@ for g in 0..4
        {
            let m = first_m + LANES * $gu + lane / LANES;
            let gate = subgroupShuffle(gate$g, lane / LANES);
            let bias = subgroupShuffle(bias$g, lane / LANES);
            let closed = gate == 0.0 && relu;
            if (part == 0u && (closed || !has_images) && in_batch && m < out_channels && !(closed && closed_unread)) {
                let value = activate(vec4f((0.0 + bias) * gate), vec4u(0u), relu, gate == 0.0, live);
                fill(outputs_at + m * out_plane, out_plane, quads, value);
            }
        }
        //@ end
        return;
    }

    // Of eight filters, one a lane; then a thread has a filter's whole plane.
    let m = first_m + lane / LANES;
    let is_filter = m < out_channels;
    let filter_at = filters_at + m * filter_words;
    let entries = lists_at + m * filter_words;
    var gate = 1.0;
    var bias = 0.0;
    if (first_m + own < out_channels) {
        if (own_gates) {
            gate = gates[own_gates_at + first_m + own];
        }
        bias = weights[biases_at + first_m + own];
    }
    gate = subgroupShuffle(gate, lane / LANES);
    bias = subgroupShuffle(bias, lane / LANES);
    let out_at = outputs_at + m * out_plane;
    let closed = gate == 0.0 && relu;
    let shut = closed || !has_images;
    var listed = 0u;
    if (own == 0u && is_filter && !shut) {
        listed = lists[list_counts_at + m];
    }
    listed = subgroupShuffle(listed, 0u);
    // Entries of the list, one a lane.
    var mine = 0u;
    var weight = 0.0;
    var open = false;

    let ending = Ending(out_height, out_width, pool, quads, relu, in_batch && is_filter, live);
    if (!shut) {
        var by = 0u;
        var bx = 0u;
        loop {
            //@ for i in 0..2
            //@ for j in 0..2
            var z$i$j = vec4f(0.0);
            //@ end
            //@ end
            let top = 2u * by - padding;
            let before = 2u * bx - padding;
            var first = 0u;
            loop {
                // Mostly the first eight are all, and are loaded for the first block alone.
                if (listed > LANES || by + bx == 0u) {
                    open = false;
                    if (first + own < listed) {
                        mine = lists[entries + first + own];
                        let c = mine >> 8u;
                        weight = weights[filter_at + c * square + ((mine >> 4u) & 15u) * kernel + (mine & 15u)];
                        open = true;
                        if (input_gates) {
                            open = gates[input_gates_at + c] != 0.0;
                        }
                    }
                }
                var left = subgroupBallot(open).x;
                if (left != 0u) {
                    loop {
                        let holder = firstTrailingBit(left);
                        let place = subgroupShuffle(mine, holder);
                        let factor = subgroupShuffle(weight, holder);
                        let y = top + ((place >> 4u) & 15u);
                        let x = before + (place & 15u);
                        let at = in_at + (place >> 8u) * plane + y * line + x * quads;
                        //@ for i in 0..2
                        //@ for j in 0..2
                        var v$i$j = vec4f(0.0);
                        if (in_batch && is_filter && y + $iu < height && x + $ju < width) {
                            v$i$j = narrow(input[at + $iu * line + $ju * quads]);
                        }
                        z$i$j += factor * v$i$j;
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

            finish(ending, array(z00, z01, z10, z11), bias, gate, out_at, by, bx);
            bx += 1u;
            if (bx == blocks_x) {
                bx = 0u;
                by += 1u;
            }
            if (by == blocks_y) {
                break;
            }
        }
    } else if (in_batch && is_filter && !(closed && closed_unread)) {
        let value = activate(vec4f((0.0 + bias) * gate), vec4u(0u), relu, gate == 0.0, live);
        fill(out_at, out_plane, quads, value);
    }
}
