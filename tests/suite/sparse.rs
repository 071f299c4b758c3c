//! The sparse path against the dense one, where nothing but their speed may differ.

use fedcircuit::device::{Case, Kernel};
use fedcircuit::kernels::{
    conv_forward, conv_input_grad, linear_forward, linear_input_grad, sparse_conv_forward, sparse_conv_input_grad,
    sparse_linear_forward, sparse_linear_input_grad,
};

use crate::common::gpu;

/// A sparse kernel leaves out terms that are zero and adds the others in the dense kernel's order: the same bits.
#[test]
fn sparse_shaders_give_the_bits_of_dense_ones() {
    let Some(gpu) = gpu() else { return };
    let couples: [(&'static Kernel, &'static Kernel); 4] = [
        (&sparse_conv_forward::KERNEL, &conv_forward::KERNEL),
        (&sparse_conv_input_grad::KERNEL, &conv_input_grad::KERNEL),
        (&sparse_linear_forward::KERNEL, &linear_forward::KERNEL),
        (&sparse_linear_input_grad::KERNEL, &linear_input_grad::KERNEL),
    ];
    for (sparse, dense) in couples {
        let known = (dense.cases)();
        let mut compared = 0;
        for case in (sparse.cases)() {
            // The dense case of that name says how many workgroups it takes.
            let Some(like) = known.iter().find(|other| other.name == case.name) else { continue };
            let shared = |buffers: Vec<Vec<u32>>| -> Vec<Vec<u32>> {
                let names = sparse.bindings.iter().map(|b| b.name).zip(buffers);
                let has = |name| dense.bindings.iter().any(|b| b.name == name);
                names.filter(|(name, _)| has(*name)).map(|(_, words)| words).collect()
            };
            let same = Case { params: like.params.clone(), buffers: shared(case.buffers.clone()), ..like.clone() };
            let got = shared(crate::kernels::run(gpu, sparse, &case));
            assert!(got == crate::kernels::run(gpu, dense, &same), "{}, case {:?}", sparse.name, case.name);
            compared += 1;
        }
        assert!(compared >= 7, "{}: {compared} cases compared", sparse.name);
    }
}
