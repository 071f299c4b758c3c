// conv_input_grad for hardware GPUs: pooled convolutions of 3x3 whose input channels come by eights.
//   dX[c][y][x] = sum over m, ky, kx of W[m][c][ky][kx] dZ[m][y + padding - ky][x + padding - kx]
// where dZ is output_grad at the place its code names, and 0 elsewhere and where the code is 4.
//
// A thread owns 8 input channels of a 2x2 block of pixels for $IMAGES images. The filters of four channels begin at a vec4:
// none has to be cut out. Every sum runs over m, then ky, then kx.
//
// $IMAGES, with $ORDER, their numbers, and $WHOLE are what variants differ in: the last says not to look for blocks without a
// window in their middle row, of which only images of odd height have many.

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

@group(0) @binding(0) var<storage, read> output_grad: array<Images>;
@group(0) @binding(1) var<storage, read> codes: array<u32>;
@group(0) @binding(2) var<storage, read> weights: array<vec4f>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;
@group(0) @binding(4) var<storage, read> counts: array<u32>;
@group(0) @binding(5) var<storage, read_write> input_grad: array<Images>;
@group(0) @binding(6) var<uniform> p: Params;

const TILE = 8u;      // input channels of a thread
const IMAGES = $IMAGESu;    // of a thread
const PARTS = 32u / IMAGES; // threads of a chunk

alias Images = vec$IMAGESf;
alias Words = vec$IMAGESu;

$FOUR_FILTERS

// What of `grad` goes to `place`.
fn routed(grad: Images, code: Words, place: u32) -> Images {
    return select(Images(0.0), grad, code == Words(place));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    // Blocks start where the patch of a 3x3 filter begins with the second row of a pooling window: one row early where
    // the padding is even.
    let early = 1u - (p.padding & 1u);
    let slot = group.z;
    let parts = p.stride / IMAGES;
    let tiles = p.in_channels / TILE;
    let across = (p.width + early + 1u) / 2u;
    let blocks = (p.height + early + 1u) / 2u * across;
    let item = (group.x + group.y * 65535u) * 64u + lane;
    // The threads of a chunk read side by side, the next ones those of the next block, and all the same filters.
    let work = item / PARTS;
    let block = work % blocks;
    let first = work / blocks % tiles * TILE;
    let part = work / blocks / tiles * PARTS + item % PARTS;
    let plane = p.out_height * p.out_width * parts;
    let count = counts[p.counts_at + slot];
    if (part >= parts) {
        return;
    }

    //@ for h in 0..2
    //@ for q in 0..4
    //@ for i in 0..2
    //@ for j in 0..2
    var d$h_$q_$i$j = Images(0.0);
    //@ end
    //@ end
    //@ end
    //@ end
    if (IMAGES * part < count) {
        let reach = (p.padding + 1u - early) / 2u;
        // Windows of the patch: the first and last row and column touch it with half of their places. Above and left of
        // the image their numbers wrap, so one comparison finds both edges.
        //@ for i in 0..3
        let wy$i = block / across + reach + $iu - 2u;
        let in_y$i = wy$i < p.out_height;
        let row$i = wy$i * p.out_width * parts;
        let wx$i = block % across + reach + $iu - 2u;
        let in_x$i = wx$i < p.out_width;
        let col$i = wx$i * parts;
        //@ end
        // Of a word's four codes.
        let shift = part * IMAGES % 4u * 8u;
        var at = slot * p.out_channels * plane + part;
        var w = (rows[slot] * p.row_words + p.weights_at + first * 9u) / 4u;
        for (var m = 0u; m < p.out_channels; m++) {
            //@ for i in 0..3
            //@ for j in 0..3
            var g$i_$j = Images(0.0);
            var k$i_$j = Words(0u);
            if (in_y$i && in_x$j) {
                g$i_$j = output_grad[at + row$i + col$j];
                let word = codes[(at + row$i + col$j) * IMAGES / 4u] >> shift;
                k$i_$j = (Words(word) >> (8u * Words($ORDER))) & Words(255u);
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
            var next = vec4f(0.0);
            if ($WHOLE || in_y1) {
                //@ for h in 0..2
                //@ for q in 0..4
                {
                    let f = filter$q(w + 9u * $hu, next);
                    next = f.next;
                    d$h_$q_00 = d$h_$q_00 + f.a.x * x2_2 + f.a.y * x2_1 + f.a.z * x2_0 + f.a.w * x1_2 + f.b.x * x1_1
                        + f.b.y * x1_0 + f.b.z * x0_2 + f.b.w * x0_1 + f.c * x0_0;
                    d$h_$q_01 = d$h_$q_01 + f.a.x * x2_3 + f.a.y * x2_2 + f.a.z * x2_1 + f.a.w * x1_3 + f.b.x * x1_2
                        + f.b.y * x1_1 + f.b.z * x0_3 + f.b.w * x0_2 + f.c * x0_1;
                    d$h_$q_10 = d$h_$q_10 + f.a.x * x3_2 + f.a.y * x3_1 + f.a.z * x3_0 + f.a.w * x2_2 + f.b.x * x2_1
                        + f.b.y * x2_0 + f.b.z * x1_2 + f.b.w * x1_1 + f.c * x1_0;
                    d$h_$q_11 = d$h_$q_11 + f.a.x * x3_3 + f.a.y * x3_2 + f.a.z * x3_1 + f.a.w * x2_3 + f.b.x * x2_2
                        + f.b.y * x2_1 + f.b.z * x1_3 + f.b.w * x1_2 + f.c * x1_1;
                }
                //@ end
                //@ end
            } else {
                // No window in the middle row: the two middle rows of the patch are 0.
                //@ for h in 0..2
                //@ for q in 0..4
                {
                    let f = filter$q(w + 9u * $hu, next);
                    next = f.next;
                    d$h_$q_00 = d$h_$q_00 + f.b.z * x0_2 + f.b.w * x0_1 + f.c * x0_0;
                    d$h_$q_01 = d$h_$q_01 + f.b.z * x0_3 + f.b.w * x0_2 + f.c * x0_1;
                    d$h_$q_10 = d$h_$q_10 + f.a.x * x3_2 + f.a.y * x3_1 + f.a.z * x3_0;
                    d$h_$q_11 = d$h_$q_11 + f.a.x * x3_3 + f.a.y * x3_2 + f.a.z * x3_1;
                }
                //@ end
                //@ end
            }
            w += p.in_channels * 9u / 4u;
            at += plane;
        }
    }

    let live = Words(IMAGES * part) + Words($ORDER) < Words(count);
    let y = 2u * (block / across) - early;
    let x = 2u * (block % across) - early;
    let to = (slot * p.in_channels + first) * p.height * p.width;
    //@ for h in 0..2
    //@ for q in 0..4
    //@ for i in 0..2
    //@ for j in 0..2
    if (y + $iu < p.height && x + $ju < p.width) {
        let pixel = to + (4u * $hu + $qu) * p.height * p.width + (y + $iu) * p.width + x + $ju;
        input_grad[pixel * parts + part] = select(Images(0.0), d$h_$q_$i$j, live);
    }
    //@ end
    //@ end
    //@ end
    //@ end
}
