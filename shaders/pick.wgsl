// Chosen words: picked[i] = words[places[i]].

struct Params {
    picks: u32,
    words: u32,     // places beyond them give 0
}

@group(0) @binding(0) var<storage, read> words: array<u32>;
@group(0) @binding(1) var<storage, read> places: array<u32>;
@group(0) @binding(2) var<storage, read_write> picked: array<u32>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * 65535u) * 64u + lane;
    if (i >= p.picks) {
        return;
    }
    let place = places[i];
    picked[i] = select(0u, words[min(place, p.words - 1u)], place < p.words);
}
