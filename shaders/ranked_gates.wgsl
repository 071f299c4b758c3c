// Circuits of given sizes: in every layer as many channels are open as in the circuit that a slot mimics, and they are
// those with the lowest of the slot's keys. With random keys every set of that size is as likely.
// An invocation makes one gate: it counts the open gates of its layer in the model circuit, and the keys below its own.

struct Params {
    slots: u32,
    gate_words: u32,    // G
    circuit_rows: u32,  // slot s mimics circuit s / circuit_span, counted from the first again after the last
    circuit_span: u32,
    key_rows: u32,      // and uses the row of keys s / key_span, likewise
    key_span: u32,
}

@group(0) @binding(0) var<storage, read> circuits: array<f32>;      // [circuit_rows][G], hard
@group(0) @binding(1) var<storage, read> keys: array<u32>;          // [key_rows][G]
@group(0) @binding(2) var<storage, read> layers: array<vec2u>;      // [G]: first gate and gates of the layer
@group(0) @binding(3) var<storage, read_write> gates: array<f32>;   // [slots][G]
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * 65535u) * 64u + lane;
    if (i >= p.slots * p.gate_words) {
        return;
    }
    let slot = i / p.gate_words;
    let gate = i % p.gate_words;
    let layer = layers[gate];
    let circuit = slot / p.circuit_span % p.circuit_rows * p.gate_words;
    let row = slot / p.key_span % p.key_rows * p.gate_words;
    let key = keys[row + gate];
    var open = 0u;
    var below = 0u;
    for (var c = layer.x; c < layer.x + layer.y; c++) {
        open += select(0u, 1u, circuits[circuit + c] > 0.0);
        let other = keys[row + c];
        below += select(0u, 1u, other < key || (other == key && c < gate));
    }
    gates[i] = select(0.0, 1.0, below < open);
}
