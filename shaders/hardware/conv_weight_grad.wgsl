// conv_weight_grad for hardware GPUs, in an order of its own:
//   partials[chunk][m][c][ky][kx] = sum over images of (sum over y, x of dZ[m][y][x] X[c][y + ky - padding][x + kx - padding])
//   partials[chunk][M C k k + m]  = sum over images of (sum over y, x of dZ[m][y][x])
// where dZ is output_grad at the place its code names, and 0 elsewhere and where the code is 4.
//
// A thread owns $OUTPUTS output channels, $INPUTS input channels and 3x3 taps for one image: it multiplies by all four places
// of a window, three of them 0, which is cheaper than to pick the fourth for every tap (and gives NaN where X is infinite
// beside a winner). The 32 threads of a chunk add their sums in the order of the images. Filters wider than 3 are covered by
// several blocks of 3x3 taps.

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

@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read> output_grad: array<f32>;
@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read> counts: array<u32>;
@group(0) @binding(4) var<storage, read_write> partials: array<f32>;
@group(0) @binding(5) var<uniform> p: Params;

const OUTPUTS = $OUTPUTSu;  // output channels of a thread
const INPUTS = $INPUTSu;    // input channels of a thread
const ROUND = $ROUNDu;      // output channels whose sums are added at a time: taps, then biases
const IMAGES = 32u;         // of a chunk
const LINE = 33u;           // of the images' sums, a word apart so that no two threads meet in a bank
const DEAD = 4u;

var<workgroup> sums: array<f32, $WORDS>;

// Column x of the row that starts at `row`; 0 outside of the image. It reads in any case, or every read would wait for a branch.
fn input_at(row: u32, x: u32, in_y: bool) -> f32 {
    let value = input[row + min(x, p.width - 1u) * p.stride];
    return select(0.0, value, in_y && x < p.width);
}

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.z;
    let tiles = (p.out_channels + OUTPUTS - 1u) / OUTPUTS;
    let spans = (p.in_channels + INPUTS - 1u) / INPUTS;
    let side = (p.kernel + 2u) / 3u;
    let item = group.x + group.y * 65535u;
    let span = item % spans * INPUTS;
    let first = item / spans % tiles * OUTPUTS;
    let corner = item / spans / tiles % (side * side);
    let chunk = item / spans / tiles / (side * side);
    if (chunk >= p.chunks) {
        return;
    }
    let ky = corner / side * 3u;
    let kx = corner % side * 3u;
    let image = chunk * IMAGES + lane;

    //@ for r in 0..$ROUNDS
    //@ for k in 0..$ROUND
    //@ for c in 0..$INPUTS
    //@ for t in 0..9
    var s$r_$k_$c_$t = 0.0;
    //@ end
    //@ end
    var b$r_$k = 0.0;
    //@ end
    //@ end
    if (image < min(counts[p.counts_at + slot], p.stride)) {
        let plane = p.height * p.width * p.stride;
        let out_plane = p.out_height * p.out_width * p.stride;
        //@ for c in 0..$INPUTS
        let in$c = (slot * p.in_channels + min(span + $cu, p.in_channels - 1u)) * plane + image;
        //@ end
        //@ for r in 0..$ROUNDS
        //@ for k in 0..$ROUND
        let out$r_$k = (slot * p.out_channels + min(first + $ru * ROUND + $ku, p.out_channels - 1u)) * out_plane + image;
        //@ end
        //@ end
        // Of the word with the codes of four images.
        let shift = 8u * (image & 3u);
        var at = 0u;
        if (p.pool == 2u) {
            for (var oy = 0u; oy < p.out_height; oy++) {
                // Above and left of the image a row or column wraps to a large number, so one comparison finds both
                // edges. The patch keeps its right half for the next window.
                var x = kx - p.padding;
                //@ for i in 0..4
                let y$i = 2u * oy + $iu + ky - p.padding;
                let in_y$i = y$i < p.height;
                let row$i = min(y$i, p.height - 1u) * p.width * p.stride;
                //@ for c in 0..$INPUTS
                var x$c_$i_2 = input_at(in$c + row$i, x, in_y$i);
                var x$c_$i_3 = input_at(in$c + row$i, x + 1u, in_y$i);
                //@ end
                //@ end
                for (var ox = 0u; ox < p.out_width; ox++) {
                    x += 2u;
                    //@ for i in 0..4
                    //@ for c in 0..$INPUTS
                    let x$c_$i_0 = x$c_$i_2;
                    let x$c_$i_1 = x$c_$i_3;
                    x$c_$i_2 = input_at(in$c + row$i, x, in_y$i);
                    x$c_$i_3 = input_at(in$c + row$i, x + 1u, in_y$i);
                    //@ end
                    //@ end
                    //@ for r in 0..$ROUNDS
                    //@ for k in 0..$ROUND
                    {
                        let code = (codes[(out$r_$k + at) / 4u] >> shift) & 255u;
                        let d = select(output_grad[out$r_$k + at], 0.0, code == DEAD);
                        let d0 = select(0.0, d, code == 0u);
                        let d1 = select(0.0, d, code == 1u);
                        let d2 = select(0.0, d, code == 2u);
                        let d3 = select(0.0, d, code == 3u);
                        //@ for c in 0..$INPUTS
                        s$r_$k_$c_0 = s$r_$k_$c_0 + d0 * x$c_0_0 + d1 * x$c_0_1 + d2 * x$c_1_0 + d3 * x$c_1_1;
                        s$r_$k_$c_1 = s$r_$k_$c_1 + d0 * x$c_0_1 + d1 * x$c_0_2 + d2 * x$c_1_1 + d3 * x$c_1_2;
                        s$r_$k_$c_2 = s$r_$k_$c_2 + d0 * x$c_0_2 + d1 * x$c_0_3 + d2 * x$c_1_2 + d3 * x$c_1_3;
                        s$r_$k_$c_3 = s$r_$k_$c_3 + d0 * x$c_1_0 + d1 * x$c_1_1 + d2 * x$c_2_0 + d3 * x$c_2_1;
                        s$r_$k_$c_4 = s$r_$k_$c_4 + d0 * x$c_1_1 + d1 * x$c_1_2 + d2 * x$c_2_1 + d3 * x$c_2_2;
                        s$r_$k_$c_5 = s$r_$k_$c_5 + d0 * x$c_1_2 + d1 * x$c_1_3 + d2 * x$c_2_2 + d3 * x$c_2_3;
                        s$r_$k_$c_6 = s$r_$k_$c_6 + d0 * x$c_2_0 + d1 * x$c_2_1 + d2 * x$c_3_0 + d3 * x$c_3_1;
                        s$r_$k_$c_7 = s$r_$k_$c_7 + d0 * x$c_2_1 + d1 * x$c_2_2 + d2 * x$c_3_1 + d3 * x$c_3_2;
                        s$r_$k_$c_8 = s$r_$k_$c_8 + d0 * x$c_2_2 + d1 * x$c_2_3 + d2 * x$c_3_2 + d3 * x$c_3_3;
                        //@ end
                        b$r_$k += d;
                    }
                    //@ end
                    //@ end
                    at += p.stride;
                }
            }
        } else {
            for (var oy = 0u; oy < p.out_height; oy++) {
                for (var ox = 0u; ox < p.out_width; ox++) {
                    //@ for i in 0..3
                    let y$i = oy + $iu + ky - p.padding;
                    let in_y$i = y$i < p.height;
                    let row$i = min(y$i, p.height - 1u) * p.width * p.stride;
                    //@ for j in 0..3
                    //@ for c in 0..$INPUTS
                    let x$c_$i_$j = input_at(in$c + row$i, ox + $ju + kx - p.padding, in_y$i);
                    //@ end
                    //@ end
                    //@ end
                    //@ for r in 0..$ROUNDS
                    //@ for k in 0..$ROUND
                    {
                        let code = (codes[(out$r_$k + at) / 4u] >> shift) & 255u;
                        let d = select(output_grad[out$r_$k + at], 0.0, code == DEAD);
                        //@ for c in 0..$INPUTS
                        s$r_$k_$c_0 += d * x$c_0_0;
                        s$r_$k_$c_1 += d * x$c_0_1;
                        s$r_$k_$c_2 += d * x$c_0_2;
                        s$r_$k_$c_3 += d * x$c_1_0;
                        s$r_$k_$c_4 += d * x$c_1_1;
                        s$r_$k_$c_5 += d * x$c_1_2;
                        s$r_$k_$c_6 += d * x$c_2_0;
                        s$r_$k_$c_7 += d * x$c_2_1;
                        s$r_$k_$c_8 += d * x$c_2_2;
                        //@ end
                        b$r_$k += d;
                    }
                    //@ end
                    //@ end
                    at += p.stride;
                }
            }
        }
    }

    let weights = p.out_channels * p.in_channels * p.kernel * p.kernel;
    let to = (slot * p.chunks + chunk) * (weights + p.out_channels);
    //@ for r in 0..$ROUNDS
    workgroupBarrier();
    //@ for k in 0..$ROUND
    //@ for c in 0..$INPUTS
    //@ for t in 0..9
    sums[(($ku * INPUTS + $cu) * 9u + $tu) * LINE + lane] = s$r_$k_$c_$t;
    //@ end
    //@ end
    sums[(ROUND * INPUTS * 9u + $ku) * LINE + lane] = b$r_$k;
    //@ end
    workgroupBarrier();
    for (var i = lane; i < ROUND * (INPUTS * 9u + 1u); i += 32u) {
        var sum = sums[i * LINE];
        for (var b = 1u; b < IMAGES; b++) {
            sum += sums[i * LINE + b];
        }
        if (i >= ROUND * INPUTS * 9u) {
            let m = first + $ru * ROUND + i - ROUND * INPUTS * 9u;
            if (m < p.out_channels && span == 0u && corner == 0u) {
                partials[to + weights + m] = sum;
            }
        } else {
            let m = first + $ru * ROUND + i / (INPUTS * 9u);
            let c = span + i / 9u % INPUTS;
            let y = ky + i % 9u / 3u;
            let x = kx + i % 3u;
            if (m < p.out_channels && c < p.in_channels && y < p.kernel && x < p.kernel) {
                partials[to + ((m * p.in_channels + c) * p.kernel + y) * p.kernel + x] = sum;
            }
        }
    }
    //@ end
}
