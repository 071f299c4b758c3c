// Overlap of pairs of circuits, layer by layer: out[pair][layer] = (|a and b|, |a|, |b|). IoU is i / (|a| + |b| - i).

struct Params {
    pairs: u32,
    words: u32,   // W, words of a mask
    layers: u32,  // L
}

@group(0) @binding(0) var<storage, read> masks_a: array<u32>;
@group(0) @binding(1) var<storage, read> masks_b: array<u32>;
@group(0) @binding(2) var<storage, read> pairs: array<vec2u>;   // (row of a, row of b)
@group(0) @binding(3) var<storage, read> layers: array<vec2u>;  // (first word, words)
@group(0) @binding(4) var<storage, read_write> out: array<u32>;
@group(0) @binding(5) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * 65535u) * 64u + lane;
    if (i >= p.pairs * p.layers) {
        return;
    }
    let rows = pairs[i / p.layers] * p.words;
    let layer = layers[i % p.layers];
    var sizes = vec3u(0u);
    for (var w = layer.x; w < layer.x + layer.y; w++) {
        let a = masks_a[rows.x + w];
        let b = masks_b[rows.y + w];
        sizes += countOneBits(vec3u(a & b, a, b));
    }
    out[3u * i] = sizes.x;
    out[3u * i + 1u] = sizes.y;
    out[3u * i + 2u] = sizes.z;
}
