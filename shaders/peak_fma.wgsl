// The device's rate of multiplications and additions: value <- scale value + shift, again and again, in registers.
// Twelve chains an invocation hide the latency of each and fit sixteen registers.

struct Params {
    triples: u32,  // invocations, three vec4s each
    turns: u32,    // of eight steps
    scale: f32,
    shift: f32,
}

@group(0) @binding(0) var<storage, read> start: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> end: array<vec4f>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * 65535u) * 64u + lane;
    if (i >= p.triples) {
        return;
    }
    var x = start[3u * i];
    var y = start[3u * i + 1u];
    var z = start[3u * i + 2u];
    // Read once: software Vulkan would read a uniform in every turn.
    let turns = p.turns;
    let scale = p.scale;
    let shift = p.shift;
    for (var turn = 0u; turn < turns; turn += 1u) {
        //@ for s in 0..8
        x = x * scale + shift;
        y = y * scale + shift;
        z = z * scale + shift;
        //@ end
    }
    end[3u * i] = x;
    end[3u * i + 1u] = y;
    end[3u * i + 2u] = z;
}
