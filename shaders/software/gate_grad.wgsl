// gate_grad for software Vulkan, with the same terms in the same order; what is peculiar to it is told in
// sparse_conv_forward.wgsl beside this file. A subgroup owns a channel, and a thread what eight lanes of gate_grad own: there
// are no barriers.

struct Params {
    slots: u32,       // a row of workgroups each
    quads: u32,       // B / 4
    channels: u32,    // M
    pixels: u32,      // H x W of the output
    gate_words: u32,  // G
    gates_at: u32,
}

@group(0) @binding(0) var<storage, read> output: array<$QUAD>;
@group(0) @binding(1) var<storage, read> output_grad: array<$QUAD>;
@group(0) @binding(2) var<storage, read> hard: array<f32>;
@group(0) @binding(3) var<storage, read_write> gate_grads: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

$NARROW

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let quads = p.quads;
    let channels = p.channels;
    let pixels = p.pixels;
    let own = lane % 8u;
    let channel = group.x * 8u + lane / 8u;
    let gate = group.y * p.gate_words + p.gates_at + channel;
    let first = (group.y * channels + channel) * pixels * quads;
    var open = 0.0;
    if (own == 0u && channel < channels) {
        open = hard[gate];
    }
    open = subgroupShuffle(open, 0u);
    //@ for i in 0..8
    var sum$i = vec4f(0.0);
    //@ end
    // A closed gate feels nothing.
    if (open != 0.0) {
        var pixel = 0u;
        loop {
            var quad = own;
            loop {
                //@ for i in 0..8
                if (pixel + $iu < pixels && quad < quads) {
                    let at = first + (pixel + $iu) * quads + quad;
                    sum$i += narrow(output[at]) * narrow(output_grad[at]);
                }
                //@ end
                quad += 8u;
                if (quad - own >= quads) {
                    break;
                }
            }
            pixel += 8u;
            if (pixel >= pixels) {
                break;
            }
        }
    }
    // Of gate_grad's tree, the levels of 32, 16 and 8 lanes are one thread's, and the last three go through the subgroup.
    var sum = ((sum0 + sum4) + (sum2 + sum6)) + ((sum1 + sum5) + (sum3 + sum7));
    //@ for level in 0..3
    sum += vec4f(
        subgroupShuffle(sum.x, (own + (4u >> $levelu)) & 7u),
        subgroupShuffle(sum.y, (own + (4u >> $levelu)) & 7u),
        subgroupShuffle(sum.z, (own + (4u >> $levelu)) & 7u),
        subgroupShuffle(sum.w, (own + (4u >> $levelu)) & 7u),
    );
    //@ end
    if (own == 0u && channel < channels) {
        let pair = sum.xy + sum.zw;
        gate_grads[gate] = pair.x + pair.y;
    }
}
