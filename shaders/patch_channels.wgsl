// Activation patching: channels of one batch's output take the place of those of another, slot by slot, where the gate of
// the channel is 1. Words are copied as they are.

struct Params {
    channels: u32,    // C
    plane: u32,       // words of a channel of a slot: H * W * B
    gate_words: u32,  // G
    gates_at: u32,    // first gate of the layer
}

@group(0) @binding(0) var<storage, read> donor: array<u32>;               // [donors][C][H][W][B]
@group(0) @binding(1) var<storage, read> donors: array<u32>;              // [slots]: whose output a slot is patched with
@group(0) @binding(2) var<storage, read> gates: array<f32>;               // [slots][G]: 1 takes the donor's
@group(0) @binding(3) var<storage, read_write> output: array<u32>;        // [slots][C][H][W][B]
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * 65535u) * 64u + lane;
    let words = p.channels * p.plane;
    if (i >= words || gates[group.z * p.gate_words + p.gates_at + i / p.plane] == 0.0) {
        return;
    }
    output[group.z * words + i] = donor[donors[group.z] * words + i];
}
