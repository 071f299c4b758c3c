// Closes gates of channels that reach nothing: gates[slot][gates_at + c] = 0 where no surviving weight of the next layer reads
// channel c into an output whose own gate is open. Gates that are closed stay so.
// Gone over from the last layer to the first, those are left open from which a path of surviving weights leads to the logits.
//
// The next layer's lists are by input (survivors.wgsl); a fully connected one has a list for each of a channel's pixels.

struct Params {
    channels: u32,    // of the layer
    pixels: u32,      // lists of a channel
    longest: u32,     // places of a list
    list_words: u32,  // S
    lists_at: u32,
    counts_at: u32,
    gate_words: u32,  // G
    gates_at: u32,    // of the layer
    next_at: u32,     // of the next layer; NO_GATES where it has none
}

@group(0) @binding(0) var<storage, read> rows: array<u32>;
@group(0) @binding(1) var<storage, read> lists: array<u32>;
@group(0) @binding(2) var<storage, read_write> gates: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

const NO_GATES = 0xffffffffu;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let c = group.x * 64u + lane;
    if (c >= p.channels) {
        return;
    }
    let own = group.y * p.gate_words;
    let row = rows[group.y] * p.list_words;
    for (var list = c * p.pixels; list < (c + 1u) * p.pixels; list++) {
        let first = row + p.lists_at + list * p.longest;
        let end = first + lists[row + p.counts_at + list];
        for (var i = first; i < end; i++) {
            if (p.next_at == NO_GATES || gates[own + p.next_at + (lists[i] >> 8u)] != 0.0) {
                return;
            }
        }
    }
    gates[own + p.gates_at + c] = 0.0;
}
