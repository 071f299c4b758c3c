// Adds the partial weight gradients of a convolution, chunk by chunk in ascending order:
//   grads[slot][weights_at + i] = sum over chunks of partials[slot][chunk][i], and the biases likewise at bias_at

struct Params {
    slots: u32,
    stride: u32,        // B, a multiple of 4
    in_channels: u32,   // C
    out_channels: u32,  // M
    height: u32,        // of the input
    width: u32,
    kernel: u32,
    padding: u32,
    out_height: u32,    // of the output, after the pooling
    out_width: u32,
    pool: u32,          // 1 or 2
    relu: u32,
    row_words: u32,     // P
    weights_at: u32,
    bias_at: u32,
    counts_at: u32,
    gate_words: u32,    // G, or 0 where no gates apply
    gates_at: u32,
    chunks: u32,        // of 32 images
    reserved: u32,
}

@group(0) @binding(0) var<storage, read> partials: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> grads: array<f32>;
@group(0) @binding(2) var<uniform> p: Params;

// Word `at` of the partial sums.
fn partial(at: u32) -> f32 {
    return partials[at >> 2u][at & 3u];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.z;
    let weights = p.out_channels * p.in_channels * p.kernel * p.kernel;
    let words = weights + p.out_channels;
    let i = 4u * ((group.x + group.y * 65535u) * 64u + lane);
    if (i >= words) {
        return;
    }
    let first = slot * p.chunks * words + i;
    let to = slot * p.row_words;
    if (((words | weights | p.weights_at | p.bias_at) & 3u) == 0u) {
        // Everything begins at a vec4.
        var sum = partials[first >> 2u];
        for (var chunk = 1u; chunk < p.chunks; chunk++) {
            sum += partials[(first + chunk * words) >> 2u];
        }
        let at = to + select(p.weights_at + i, p.bias_at + i - weights, i >= weights);
        grads[at] = sum.x;
        grads[at + 1u] = sum.y;
        grads[at + 2u] = sum.z;
        grads[at + 3u] = sum.w;
        return;
    }
    for (var j = i; j < min(i + 4u, words); j++) {
        var sum = partial(first + j - i);
        for (var chunk = 1u; chunk < p.chunks; chunk++) {
            sum += partial(first + j - i + chunk * words);
        }
        // A word alone: to write a part of a vector is to write all of it, and a neighbour's thread may write the rest.
        grads[to + select(p.weights_at + j, p.bias_at + j - weights, j >= weights)] = sum;
    }
}
