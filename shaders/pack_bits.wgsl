// Hard gates to bit masks: bit i of a word is 1 where gate first + i of the word's row in the table is open.

struct Params {
    slots: u32,
    gate_words: u32,  // G
    words: u32,       // W, words of a mask
}

@group(0) @binding(0) var<storage, read> hard: array<f32>;
@group(0) @binding(1) var<storage, read> table: array<vec2u>;  // (first gate, gates: 1 to 32)
@group(0) @binding(2) var<storage, read_write> bits: array<u32>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * 65535u) * 64u + lane;
    if (i >= p.slots * p.words) {
        return;
    }
    let row = table[i % p.words];
    let at = i / p.words * p.gate_words + row.x;
    var word = 0u;
    for (var bit = 0u; bit < row.y; bit++) {
        word |= select(0u, 1u, hard[at + bit] > 0.0) << bit;
    }
    bits[i] = word;
}
