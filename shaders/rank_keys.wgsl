// Scores to keys that sort the other way round: keys[i] < keys[j] exactly where the score i is the larger.
// The bits of positive floats ascend with the value and those of negative ones descend.

struct Params {
    words: u32,
    absolute: u32,      // 1: scores are compared without their signs
}

@group(0) @binding(0) var<storage, read> scores: array<u32>;        // floats, by their bits
@group(0) @binding(1) var<storage, read_write> keys: array<u32>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * 65535u) * 64u + lane;
    if (i >= p.words) {
        return;
    }
    let bits = select(scores[i], scores[i] & 0x7fffffffu, p.absolute != 0u);
    keys[i] = select(0x7fffffffu ^ bits, bits, bits >= 0x80000000u);
}
