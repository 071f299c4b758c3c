// What a round of training came to, one thread a slot: (mean loss of the last epoch's images, images guessed right in it,
// images in it, first step whose loss is not finite or 0xffffffff).
// Not finite is read off the exponent's bits: a comparison with NaN may be optimised away.

struct Params {
    slots: u32,
    steps: u32,  // rows of stats and counts
}

@group(0) @binding(0) var<storage, read> stats: array<vec2u>;  // [steps][slots]: (loss, right)
@group(0) @binding(1) var<storage, read> counts: array<u32>;   // [steps][slots]
@group(0) @binding(2) var<storage, read> steps: array<u32>;
@group(0) @binding(3) var<storage, read> last_from: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4u>;
@group(0) @binding(5) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = (group.x + group.y * 65535u) * 64u + lane;
    if (slot >= p.slots) {
        return;
    }
    var loss = 0.0;
    var right = 0u;
    var images = 0u;
    var diverged = 0xffffffffu;
    for (var t = 0u; t < min(steps[slot], p.steps); t++) {
        let step = stats[t * p.slots + slot];
        if ((step.x & 0x7f800000u) == 0x7f800000u) {
            diverged = min(diverged, t);
        }
        if (t >= last_from[slot]) {
            loss += bitcast<f32>(step.x);
            right += step.y;
            images += counts[t * p.slots + slot];
        }
    }
    out[slot] = vec4u(bitcast<u32>(loss / f32(max(images, 1u))), right, images, diverged);
}
