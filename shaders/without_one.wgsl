// Every circuit, and the whole network, without one channel of the circuit at a time:
//   kept[c][i] = circuit c without v, whole[c][i] = all channels but v,
// where v is the channel with rank i * size / min(size, removals) among the circuit's own, so that a circuit of at most
// `removals` channels loses each in turn. From i = size on all gates are closed, which costs least and is not looked at.

struct Params {
    circuits: u32,
    gate_words: u32,    // G
    removals: u32,
    first: u32,         // of the removals that are made
    count: u32,
}

@group(0) @binding(0) var<storage, read> hard: array<f32>;          // [circuits][G]
@group(0) @binding(1) var<storage, read_write> kept: array<f32>;    // [circuits][count][G]
@group(0) @binding(2) var<storage, read_write> whole: array<f32>;   // [circuits][count][G]
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = (group.x + group.y * 65535u) * 64u + lane;
    if (slot >= p.circuits * p.count) {
        return;
    }
    let row = slot / p.count * p.gate_words;
    var size = 0u;
    for (var g = 0u; g < p.gate_words; g++) {
        size += select(0u, 1u, hard[row + g] > 0.0);
    }
    let i = p.first + slot % p.count;
    let removes = i < size;
    let rank = i * size / max(min(size, p.removals), 1u);
    var before = 0u;
    for (var g = 0u; g < p.gate_words; g++) {
        let open = hard[row + g] > 0.0;
        let removed = open && before == rank;
        before += select(0u, 1u, open);
        kept[slot * p.gate_words + g] = select(0.0, 1.0, removes && open && !removed);
        whole[slot * p.gate_words + g] = select(0.0, 1.0, removes && !removed);
    }
}
