// The edges of a circuit: surviving connections whose destination is in the circuit and, but for the first layer, whose
// source is too. An invocation makes one word of one circuit: up to 32 sources of one destination.

struct Params {
    circuits: u32,
    mask_words: u32,    // W, words of a row of channels
    edge_words: u32,    // E, words of a row of edges
}

const EVERY_SOURCE: u32 = 0xffffffffu;

@group(0) @binding(0) var<storage, read> alive: array<u32>;         // [models][E], bits of surviving connections
@group(0) @binding(1) var<storage, read> models: array<u32>;        // [circuits]: the row of `alive` of each
@group(0) @binding(2) var<storage, read> masks: array<u32>;         // [circuits][W], bits of channels
@group(0) @binding(3) var<storage, read> words: array<vec4u>;       // [E]: destination's word and bit, sources' word, -
@group(0) @binding(4) var<storage, read_write> edges: array<u32>;   // [circuits][E]
@group(0) @binding(5) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * 65535u) * 64u + lane;
    if (i >= p.circuits * p.edge_words) {
        return;
    }
    let circuit = i / p.edge_words;
    let e = i % p.edge_words;
    let word = words[e];
    let mask = circuit * p.mask_words;
    var bits = alive[models[circuit] * p.edge_words + e];
    if (word.z != EVERY_SOURCE) {
        bits &= masks[mask + word.z];
    }
    let kept = ((masks[mask + word.x] >> word.y) & 1u) == 1u;
    edges[i] = select(0u, bits, kept);
}
