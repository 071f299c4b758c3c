// Which channels of the layer before feed each channel: a bit a source, set when any of the weights looked at survives:
// all of a filter's, or that at one position. An invocation makes one word of one row: up to 32 sources of one
// destination.

struct Params {
    rows: u32,
    row_words: u32,     // P
    edge_words: u32,    // E, words of a row of bits
}

@group(0) @binding(0) var<storage, read> weights: array<u32>;       // [rows][P], floats
@group(0) @binding(1) var<storage, read> words: array<vec4u>;       // [E]: first weight, sources, weights looked at a source, step
@group(0) @binding(2) var<storage, read_write> edges: array<u32>;   // [rows][E]
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * 65535u) * 64u + lane;
    let row = group.z;
    if (i >= p.edge_words || row >= p.rows) {
        return;
    }
    let word = words[i];
    var at = row * p.row_words + word.x;
    var bits = 0u;
    for (var source = 0u; source < word.y; source++) {
        var alive = false;
        for (var tap = 0u; tap < word.z; tap++) {
            // By its bits, as the lists of survivors are made: some GPUs take the smallest numbers for 0.
            alive = alive || ((weights[at + tap] & 0x7fffffffu) != 0u);
        }
        bits |= select(0u, 1u << source, alive);
        at += word.w;
    }
    edges[row * p.edge_words + i] = bits;
}
