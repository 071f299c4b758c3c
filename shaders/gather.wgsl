// A batch out of the data set, batch innermost: input[slot][pixel][b] = byte * scale + shift, with scale and shift of
// the pixel's channel. Beyond a slot's count, inputs are 0 and targets 0xffffffff.
// A thread takes four neighbouring images and sixteen of their bytes: whole words in, whole vec4s out.

struct Params {
    stride: u32,        // B
    channels: u32,      // C
    plane: u32,         // H x W
    image_words: u32,   // words of an image, its last one padded
    order_at: u32,
    order_stride: u32,
    counts_at: u32,
}

@group(0) @binding(0) var<storage, read> pixels: array<u32>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<storage, read> counts: array<u32>;
@group(0) @binding(4) var<storage, read> norm: array<vec2f>;
@group(0) @binding(5) var<storage, read_write> input: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> targets: array<vec4u>;
@group(0) @binding(7) var<uniform> p: Params;

const WORDS = 4u;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.z;
    let quads = p.stride / 4u;
    let i = (group.x + group.y * 65535u) * 64u + lane;
    let quad = i % quads;
    let first = i / quads * WORDS;
    if (first >= p.image_words) {
        return;
    }
    let live = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u) < vec4u(counts[p.counts_at + slot]);
    let at = p.order_at + slot * p.order_stride + 4u * quad;
    // The order may end at the count; image 0 stands in beyond it.
    var image = vec4u(0u);
    if (live.x) { image.x = order[at]; }
    if (live.y) { image.y = order[at + 1u]; }
    if (live.z) { image.z = order[at + 2u]; }
    if (live.w) { image.w = order[at + 3u]; }
    if (first == 0u) {
        let label = vec4u(labels[image.x], labels[image.y], labels[image.z], labels[image.w]);
        targets[slot * quads + quad] = select(vec4u(0xffffffffu), label, live);
    }
    let start = image * p.image_words;
    let bytes = p.channels * p.plane;
    for (var word = first; word < min(first + WORDS, p.image_words); word++) {
        let packed =
            vec4u(pixels[start.x + word], pixels[start.y + word], pixels[start.z + word], pixels[start.w + word]);
        for (var j = 0u; j < 4u; j++) {
            let pixel = 4u * word + j;
            if (pixel < bytes) {
                let n = norm[pixel / p.plane];
                let x = vec4f((packed >> vec4u(8u * j)) & vec4u(255u)) * n.x + n.y;
                input[(slot * bytes + pixel) * quads + quad] = select(vec4f(0.0), x, live);
            }
        }
    }
}
