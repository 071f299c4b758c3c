// Overlap of every row with its partners, summed: for each task and layer the sum of floor(IoU * 2^24) as two words and
// how many pairs had an IoU (of two empty masks it is undefined). Whole numbers only, so that devices agree to the bit.
// IoU is |a and b| / |a or b|; an invocation walks one task in one layer, and neighbours meet the same partners.

struct Params {
    words: u32,   // W, words of a mask: below 2^19
    layers: u32,  // L
    first: u32,   // first task of this dispatch
    count: u32,   // tasks of this dispatch
}

@group(0) @binding(0) var<storage, read> masks: array<u32>;       // [N][W]
@group(0) @binding(1) var<storage, read> tasks: array<vec4u>;     // row, first partner, end of partners, partner left out
@group(0) @binding(2) var<storage, read> partners: array<u32>;    // rows
@group(0) @binding(3) var<storage, read> layers: array<vec2u>;    // (first word, words)
@group(0) @binding(4) var<storage, read_write> out: array<u32>;   // [tasks][L][3]: low word, high word, pairs
@group(0) @binding(5) var<uniform> p: Params;

// floor(part * 2^24 / whole) for part <= whole < 2^24, eight bits at a time.
fn share(part: u32, whole: u32) -> u32 {
    var rest = part;
    var quotient = 0u;
    for (var digit = 0u; digit < 3u; digit++) {
        rest <<= 8u;
        quotient = (quotient << 8u) + rest / whole;
        rest %= whole;
    }
    return quotient;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * 65535u) * 64u + lane;
    if (i >= p.count * p.layers) {
        return;
    }
    let layer = layers[i / p.count];
    let t = p.first + i % p.count;
    let task = tasks[t];
    let own = task.x * p.words + layer.x;
    var low = 0u;
    var high = 0u;
    var pairs = 0u;
    // From the last partner down: the tasks of a triangle have their ends, not their beginnings, in common.
    for (var k = task.z; k > task.y; k--) {
        if (k - 1u == task.w) {
            continue;
        }
        let other = partners[k - 1u] * p.words + layer.x;
        var both = 0u;
        var either = 0u;
        for (var w = 0u; w < layer.y; w++) {
            let a = masks[own + w];
            let b = masks[other + w];
            both += countOneBits(a & b);
            either += countOneBits(a | b);
        }
        if (either > 0u) {
            let term = share(both, either);
            low += term;
            high += select(0u, 1u, low < term);
            pairs += 1u;
        }
    }
    let at = 3u * (t * p.layers + i / p.count);
    out[at] = low;
    out[at + 1u] = high;
    out[at + 2u] = pairs;
}
