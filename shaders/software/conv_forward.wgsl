// conv_forward for software Vulkan, for filters of 3x3 before a pooling, with the same terms in the same order; what is
// peculiar to it is told in sparse_conv_forward.wgsl beside this file. A thread owns 8 output channels, or twice as many,
// of a pooling window for four images, and the 8 threads of a subgroup 8 windows that follow each other. The columns left and
// right of a window are its neighbours', so a lane loads but its own two; what lies left of the first lane and right of the
// last, each lane a pixel of it. Where a row's last window reads a column of the image that no other does ($BEYOND), its lane
// loads that too.
//
// The loads come before all else, and in an order that was found by trying: others take up to a fifth longer.

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
@group(0) @binding(1) var<storage, read> weights: array<$QUAD>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read> counts: array<u32>;
@group(0) @binding(4) var<storage, read> gates: array<f32>;
@group(0) @binding(5) var<storage, read_write> output: array<$QUAD>;
@group(0) @binding(6) var<storage, read_write> codes: array<u32>;
@group(0) @binding(7) var<uniform> p: Params;

const TILE = 8u * $SETSu;   // output channels of a thread
const LANES = 8u;           // threads of a subgroup, and windows
const DEAD = 4u;
const BEYOND = $BEYOND;

$NARROW

$TAPS

// The 9 words from word `at`. Three vec4s always cover them, and reach no further than the vec4 of the last.
fn filter_at(at: u32) -> Filter {
    let i = at >> 2u;
    return filter_of(narrow(weights[i]), narrow(weights[i + 1u]), narrow(weights[i + 2u]), at);
}

// All bits or none of them: what an integer `and` keeps of four pixels is one instruction for each.
fn keeping(inside: bool) -> vec4u {
    return vec4u(select(0u, 0xffffffffu, inside));
}

fn kept(v: vec4f, mask: vec4u) -> vec4f {
    return bitcast<vec4f>(bitcast<vec4u>(v) & mask);
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

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.z;
    let quads = p.stride / 4u;
    let tiles = (p.out_channels + TILE - 1u) / TILE;
    let across = p.out_width;
    let blocks = p.out_height * across;
    let own = lane % LANES;
    let work = (group.x + group.y * 65535u) * 8u + lane / LANES;
    let first = work % tiles * TILE;
    let start = work / tiles * LANES;
    let block = (start + own) % blocks;
    let quad = (start + own) / blocks;
    let by = block / across;
    let bx = block % across;
    let in_batch = quad < quads;
    let row = rows[slot] * p.row_words;
    let count = counts[p.counts_at + slot];
    let plane = p.height * p.width * quads;
    let last = p.out_channels - 1u;
    let in_channels = p.in_channels;
    //@ for g in 0..$SETS
    let mine_m$g = min(first + LANES * $gu + own, last);
    //@ for l in 0..8
    //@ for i in 0..2
    //@ for j in 0..2
    var z$g$l_$i$j = vec4f(0.0);
    //@ end
    //@ end
    //@ end
    //@ end
    // One answer for all lanes: they share what they load.
    if (subgroupAny(in_batch && 4u * quad < count)) {
        //@ for g in 0..$SETS
        let mine_at$g = row + p.weights_at + mine_m$g * in_channels * 9u;
        //@ end
        let base = slot * in_channels * plane;
        // Above and left of the image the numbers of rows and columns wrap, so one comparison finds both edges.
        //@ for i in 0..4
        let y$i = 2u * by + $iu - p.padding;
        //@ for j in 1..3
        let x$i_$j_in = in_batch && y$i < p.height && 2u * bx + $ju - p.padding < p.width;
        let at$i_$j = base + select(0u, (y$i * p.width + 2u * bx + $ju - p.padding) * quads + quad, x$i_$j_in);
        let mask$i_$j = keeping(x$i_$j_in);
        //@ end
        //@ end
        // Lanes 0 to 3 load what is left of the first, lanes 4 to 7 what is right of the last.
        let end = start + select(0u, LANES - 1u, own >= 4u);
        let end_y = end % blocks / across * 2u + own % 4u - p.padding;
        let end_x = end % blocks % across * 2u + select(0u, 3u, own >= 4u) - p.padding;
        let end_in = end / blocks < quads && end_y < p.height && end_x < p.width;
        let end_at = base + select(0u, (end_y * p.width + end_x) * quads + end / blocks, end_in);
        let end_mask = keeping(end_in);
        let before = (own + LANES - 1u) % LANES;
        let after = (own + 1u) % LANES;
        let before_mask = keeping(bx > 0u);
        let at_edge = bx == across - 1u;
        //@ for i in 0..4
        let beyond$i_in = BEYOND && at_edge && x$i_2_in;
        let beyond$i_at = base + (y$i * p.width + 2u * bx + 3u - p.padding) * quads + quad;
        //@ end

        for (var c = 0u; c < in_channels; c++) {
            //@ for g in 0..$SETS
            let mine$g = filter_at(mine_at$g + c * 9u);
            //@ end
            let ends = kept(narrow(input[end_at + c * plane]), end_mask);
            //@ for i in 0..4
            var beyond$i = vec4f(0.0);
            if (beyond$i_in) {
                beyond$i = narrow(input[beyond$i_at + c * plane]);
            }
            //@ end
            //@ for i in 0..4
            let x$i_1 = kept(narrow(input[at$i_1 + c * plane]), mask$i_1);
            let x$i_2 = kept(narrow(input[at$i_2 + c * plane]), mask$i_2);
            //@ end
            //@ for i in 0..4
            let left$i = select(subgroupShuffle(x$i_2, before), subgroupBroadcast(ends, $iu), own == 0u);
            let x$i_0 = kept(left$i, before_mask);
            let right$i = select(subgroupShuffle(x$i_1, after), subgroupBroadcast(ends, $iu + 4u), own == LANES - 1u);
            let x$i_3 = select(right$i, beyond$i, at_edge);
            //@ end
            //@ for g in 0..$SETS
            //@ for l in 0..8
            {
                let f = Filter(subgroupBroadcast(mine$g.a, $lu), subgroupBroadcast(mine$g.b, $lu),
                    subgroupBroadcast(mine$g.c, $lu));
                z$g$l_00 = z$g$l_00 + f.a.x * x0_0 + f.a.y * x0_1 + f.a.z * x0_2 + f.a.w * x1_0 + f.b.x * x1_1
                    + f.b.y * x1_2 + f.b.z * x2_0 + f.b.w * x2_1 + f.c * x2_2;
                z$g$l_01 = z$g$l_01 + f.a.x * x0_1 + f.a.y * x0_2 + f.a.z * x0_3 + f.a.w * x1_1 + f.b.x * x1_2
                    + f.b.y * x1_3 + f.b.z * x2_1 + f.b.w * x2_2 + f.c * x2_3;
                z$g$l_10 = z$g$l_10 + f.a.x * x1_0 + f.a.y * x1_1 + f.a.z * x1_2 + f.a.w * x2_0 + f.b.x * x2_1
                    + f.b.y * x2_2 + f.b.z * x3_0 + f.b.w * x3_1 + f.c * x3_2;
                z$g$l_11 = z$g$l_11 + f.a.x * x1_1 + f.a.y * x1_2 + f.a.z * x1_3 + f.a.w * x2_1 + f.b.x * x2_2
                    + f.b.y * x2_3 + f.b.z * x3_1 + f.b.w * x3_2 + f.c * x3_3;
            }
            //@ end
            //@ end
        }
    }

    let live = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u) < vec4u(count);
    //@ for g in 0..$SETS
    let bias_word$g = row + p.bias_at + mine_m$g;
    let bias$g = narrow(weights[bias_word$g >> 2u])[bias_word$g & 3u];
    var gate$g = 1.0;
    if (p.gate_words > 0u) {
        gate$g = gates[slot * p.gate_words + p.gates_at + mine_m$g];
    }
    //@ end
    let to = ((slot * p.out_channels + first) * p.out_height * p.out_width + by * p.out_width + bx) * quads + quad;
    //@ for g in 0..$SETS
    //@ for l in 0..8
    {
        let gate = subgroupBroadcast(gate$g, $lu);
        let bias = subgroupBroadcast(bias$g, $lu);
        //@ for i in 0..2
        //@ for j in 0..2
        let z$i$j = (z$g$l_$i$j + bias) * gate;
        //@ end
        //@ end
        var place = vec4u(0u);
        var most = z00;
        //@ for i in 0..2
        //@ for j in 0..2
        place = select(place, vec4u(2u * $iu + $ju), z$i$j > most);
        most = select(most, z$i$j, z$i$j > most);
        //@ end
        //@ end
        let value = activate(most, place, gate, live);
        let m = LANES * $gu + $lu;
        if (in_batch && first + m <= last) {
            let at = to + m * p.out_height * p.out_width * quads;
            output[at] = wide(value.z);
            codes[at] = value.code.x | (value.code.y << 8u) | (value.code.z << 16u) | (value.code.w << 24u);
        }
    }
    //@ end
    //@ end
}
