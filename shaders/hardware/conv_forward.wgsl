// conv_forward for hardware GPUs: pooled convolutions of 3x3 whose filters come by fours.
//   z[m][y][x] = (sum over c, ky, kx of W[m][c][ky][kx] X[c][y + ky - padding][x + kx - padding] + bias[m]) * gate[m]
//   output     = relu(maximum of z over the window)      code = place of the first maximum, 4 where no gradient passes
//
// A thread owns 8 output channels of a window for two images, few enough for a GPU to hide its loads behind the work of
// others. Four input channels follow each other in a turn, since the filters of four begin at a vec4: none has to be cut out,
// and a vec4 that two of them share is read once.
// Every z sums over c, then ky, then kx; the bias comes last.

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

@group(0) @binding(0) var<storage, read> input: array<vec2f>;
@group(0) @binding(1) var<storage, read> weights: array<vec4f>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read> counts: array<u32>;
@group(0) @binding(4) var<storage, read> gates: array<f32>;
@group(0) @binding(5) var<storage, read_write> output: array<vec2f>;
@group(0) @binding(6) var<storage, read_write> codes: array<u32>;
@group(0) @binding(7) var<uniform> p: Params;

const TILE = 8u;    // output channels of a thread
const PAIRS = 16u;  // vec2s of images in a chunk
const DEAD = 4u;

// Of each output channel and thread, the two codes that are half of a word.
var<workgroup> halves: array<u32, 512>;

$FOUR_FILTERS

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.z;
    let pairs = p.stride / 2u;
    let tiles = (p.out_channels + TILE - 1u) / TILE;
    let windows = p.out_height * p.out_width;
    let item = (group.x + group.y * 65535u) * 64u + lane;
    // 16 threads side by side read the same chunk of 32 images, the next 16 those of the next window, and all the same
    // filters.
    let work = item / PAIRS;
    let window = work % windows;
    let first = work / windows % tiles * TILE;
    let pair = work / windows / tiles * PAIRS + item % PAIRS;
    let row = rows[slot] * p.row_words;
    let count = counts[p.counts_at + slot];
    let plane = p.height * p.width * pairs;
    let last = p.out_channels - 1u;
    let in_batch = pair < pairs;

    //@ for m in 0..8
    //@ for i in 0..2
    //@ for j in 0..2
    var z$m_$i$j = vec2f(0.0);
    //@ end
    //@ end
    let m$m = min(first + $mu, last);
    //@ end
    if (in_batch && 2u * pair < count) {
        // Above and left of the image a row or column wraps to a large number, so one comparison finds both edges.
        //@ for i in 0..4
        let y$i = 2u * (window / p.out_width) + $iu - p.padding;
        let in_y$i = y$i < p.height;
        let row$i = y$i * p.width * pairs;
        let x$i = 2u * (window % p.out_width) + $iu - p.padding;
        let in_x$i = x$i < p.width;
        let col$i = x$i * pairs;
        //@ end
        let quarter = p.in_channels * 9u / 4u;
        let base = (row + p.weights_at) / 4u;
        //@ for m in 0..8
        let w$m = base + m$m * quarter;
        //@ end
        var at = slot * p.in_channels * plane + pair;
        for (var f = 0u; f < quarter; f += 9u) {
            //@ for m in 0..8
            var next$m = vec4f(0.0);
            //@ end
            //@ for c in 0..4
            {
                //@ for i in 0..4
                //@ for j in 0..4
                var x$i_$j = vec2f(0.0);
                if (in_y$i && in_x$j) {
                    x$i_$j = input[at + row$i + col$j];
                }
                //@ end
                //@ end
                //@ for m in 0..8
                let f$m = filter$c(w$m + f, next$m);
                next$m = f$m.next;
                z$m_00 = z$m_00 + f$m.a.x * x0_0 + f$m.a.y * x0_1 + f$m.a.z * x0_2 + f$m.a.w * x1_0 + f$m.b.x * x1_1
                    + f$m.b.y * x1_2 + f$m.b.z * x2_0 + f$m.b.w * x2_1 + f$m.c * x2_2;
                z$m_01 = z$m_01 + f$m.a.x * x0_1 + f$m.a.y * x0_2 + f$m.a.z * x0_3 + f$m.a.w * x1_1 + f$m.b.x * x1_2
                    + f$m.b.y * x1_3 + f$m.b.z * x2_1 + f$m.b.w * x2_2 + f$m.c * x2_3;
                z$m_10 = z$m_10 + f$m.a.x * x1_0 + f$m.a.y * x1_1 + f$m.a.z * x1_2 + f$m.a.w * x2_0 + f$m.b.x * x2_1
                    + f$m.b.y * x2_2 + f$m.b.z * x3_0 + f$m.b.w * x3_1 + f$m.c * x3_2;
                z$m_11 = z$m_11 + f$m.a.x * x1_1 + f$m.a.y * x1_2 + f$m.a.z * x1_3 + f$m.a.w * x2_1 + f$m.b.x * x2_2
                    + f$m.b.y * x2_3 + f$m.b.z * x3_1 + f$m.b.w * x3_2 + f$m.c * x3_3;
                //@ end
                at += plane;
            }
            //@ end
        }
    }

    let live = vec2u(2u * pair) + vec2u(0u, 1u) < vec2u(count);
    let to = (slot * p.out_channels * windows + window) * pairs + pair;
    //@ for m in 0..8
    {
        var gate = 1.0;
        if (p.gate_words > 0u) {
            gate = gates[slot * p.gate_words + p.gates_at + m$m];
        }
        let at = row + p.bias_at + m$m;
        let bias = weights[at >> 2u][at & 3u];
        //@ for i in 0..2
        //@ for j in 0..2
        var z$i$j = (z$m_$i$j + bias) * gate;
        //@ end
        //@ end
        var code = vec2u(0u);
        //@ for i in 0..2
        //@ for j in 0..2
        code = select(code, vec2u(2u * $iu + $ju), z$i$j > z00);
        z00 = select(z00, z$i$j, z$i$j > z00);
        //@ end
        //@ end
        // Behind a closed gate nothing is left of a sum, whatever it is.
        let closed = vec2<bool>(p.relu != 0u) & ((z00 <= vec2f(0.0)) | vec2<bool>(gate == 0.0));
        code = select(code, vec2u(DEAD), closed | vec2<bool>(gate == 0.0));
        code = select(vec2u(0u), code, live);
        halves[$mu * 64u + lane] = code.x | (code.y << 8u);
        if (in_batch && first + $mu <= last) {
            output[to + m$m * windows * pairs] = select(vec2f(0.0), select(z00, vec2f(0.0), closed), live);
        }
    }
    //@ end
    workgroupBarrier();
    // The thread of an even pair writes the codes of the odd one beside it too.
    //@ for m in 0..8
    if (in_batch && (lane & 1u) == 0u && first + $mu <= last) {
        codes[(to + m$m * windows * pairs) / 2u] = halves[$mu * 64u + lane] | (halves[$mu * 64u + lane + 1u] << 16u);
    }
    //@ end
}
