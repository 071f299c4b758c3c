// sparse_conv_forward for software Vulkan, with the same terms in the same order. There, the eight lanes of a subgroup load one
// after the other, 64 bits as fast as 32; a shuffle is one instruction; a branch runs both of its sides, and a loop its body
// once at least. So:
// - a subgroup owns all blocks of a filter's plane for 32 images, and each lane holds an entry of the filter's list; it goes from
//   one bit of the blocks that are needed to the next;
// - closed channels are filled in a loop of their own, if anybody reads them, which costs the open ones one turn;
// - loops are left at their end, and parameters are read before the first branch: inside of one they are read lane by lane;
// - in the dense kernels, a loop is no more machine code than the 32 KiB of instructions that a core with AVX-512 keeps at hand;
// - of a single channel's 3x3 filters, which all need the same pixels, each lane holds four, and a block's pixels are loaded once
//   for 32 of them: a variant of its own, since in one for all layers the loops of either would run once for the other. What
//   the two have not in common is in sparse_conv_forward_planes.wgsl and sparse_conv_forward_single.wgsl.
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
    needed_at: u32,       // ALL_NEEDED, or of each channel's blocks, which are needed (needed.wgsl): others are left as they are
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
const FILTERS = $FILTERSu;  // of a workgroup
const PARTS = $PARTSu;      // workgroups for the same filters and images, each for some of the rows
const NO_GATES = 0xffffffffu;
const ALL_NEEDED = 0xffffffffu;
const DEAD = 4u;

$NARROW

// An output and its code.
struct Value {
    z: vec4f,
    code: vec4u,
}

// What ReLU and gate leave of z; nothing for padding images.
fn activate(z: vec4f, place: vec4u, relu: bool, shut: bool, live: vec4<bool>) -> Value {
    // Behind a closed gate nothing is left of a bias, whatever it is.
    let closed = vec4<bool>(relu) & ((z <= vec4f(0.0)) | vec4<bool>(shut));
    let value = select(z, vec4f(0.0), closed);
    let code = select(place, vec4u(DEAD), closed | vec4<bool>(shut));
    return Value(select(vec4f(0.0), value, live), select(vec4u(0u), code, live));
}

fn store(at: u32, value: Value) {
    output[at] = wide(value.z);
    let c = value.code;
    codes[at] = c.x | (c.y << 8u) | (c.z << 16u) | (c.w << 24u);
}

// Of the 32 blocks from `first` on, those that are there and needed: as bits, which one lane `loads` unless all are.
fn wanted(first: u32, blocks: u32, all: bool, loads: bool, at: u32) -> u32 {
    var bits = 0u;
    if (loads) {
        bits = lists[at + first / 32u];
    }
    bits = subgroupShuffle(bits, 0u);
    let rest = blocks - first;
    let there = select((1u << (rest & 31u)) - 1u, 0xffffffffu, rest >= 32u);
    return select(bits, there, all);
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

// Outputs and codes of a block in the plane that starts at `to`: one, or without pooling four, each picked, not handed on from
// turn to turn, since vectors that a loop changes are written to memory under its mask.
fn put(e: Ending, z: array<vec4f, 4>, place: vec4u, shut: bool, to: u32, by: u32, bx: u32) {
    let side = e.pool ^ 3u;
    var i = 0u;
    loop {
        let y = by * side + i / 2u;
        let x = bx * side + i % 2u;
        if (e.in_batch && y < e.height && x < e.width) {
            let own = select(select(z[0], z[1], i == 1u), select(z[2], z[3], i == 3u), i > 1u);
            store(to + (y * e.width + x) * e.quads, activate(own, place, e.relu, shut, e.live));
        }
        i += 1u;
        if (i >= side * side) {
            break;
        }
    }
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
    put(e, array(z0, z1, z2, z3), place, gate == 0.0, to, by, bx);
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
    let all_needed = p.needed_at == ALL_NEEDED;
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
    let needed_from = row * p.list_words + p.needed_at;
    let line = width * quads;
    let plane = height * line;
    let in_at = slot * p.in_channels * plane + quad;
    let out_plane = out_height * out_width * quads;
    let outputs_at = slot * out_channels * out_plane + quad;
    let live = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u) < vec4u(count);

    let side = pool ^ 3u;   // outputs along a block's side
    let blocks_x = (out_width + side - 1u) / side;
    let blocks_y = (out_height + side - 1u) / side;

    $BODY
}
