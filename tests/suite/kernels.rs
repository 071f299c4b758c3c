//! Every kernel: its shader validates with no GPU and matches its declaration, and agrees with its twin.

use std::time::Duration;

use fedcircuit::Error;
use fedcircuit::device::{
    Access, Case, Choice, Compare, Cpu, Cut, Device, GpuOptions, Kernel, Pace, View, compare, open,
};
use fedcircuit::kernels::ALL;
use wgpu::naga;

use crate::common::gpu;

/// A word that no kernel writes: with a buffer's number added, it stands before and after the buffer.
const SENTINEL: u32 = 0x7fa5_a5a5;

#[test]
fn shaders_validate_and_match_their_declarations() {
    for kernel in ALL {
        declaration(kernel, &validated(kernel, kernel.source, false, false).0);
        for v in kernel.variants {
            declaration(kernel, &validated(kernel, v.source, v.lanes > 0, v.wide).0);
        }
    }
}

/// A shader's text, parsed, and what the validator found in it.
fn validated(
    kernel: &Kernel,
    source: fn() -> String,
    subgroups: bool,
    wide: bool,
) -> (naga::Module, naga::valid::ModuleInfo) {
    use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
    let source = source();
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|e| panic!("{}: {}", kernel.name, e.emit_to_string(&source)));
    let mut needs = Capabilities::default();
    needs.set(Capabilities::SUBGROUP, subgroups);
    needs.set(Capabilities::SHADER_INT64, wide);
    let mut validator = Validator::new(ValidationFlags::all(), needs);
    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).unwrap_or_else(|e| panic!("{}: {}", kernel.name, e.emit_to_string(&source)));
    (module, info)
}

/// Whatever any GPU may be given translates to the languages of Metal 2.0 and of the oldest compiler of DirectX 12, neither
/// of which has to be at hand for that.
#[test]
fn shaders_translate_for_metal_and_directx() {
    use naga::back::{hlsl, msl};
    let metal = msl::Options { lang_version: (2, 0), ..Default::default() };
    let directx = hlsl::Options { shader_model: hlsl::ShaderModel::V5_1, ..Default::default() };
    for kernel in ALL {
        let anywhere = kernel.variants.iter().filter(|v| v.lanes == 0 && !v.wide).map(|v| v.source);
        for source in std::iter::once(kernel.source).chain(anywhere) {
            let (module, info) = validated(kernel, source, false, false);
            let (_, metal) = msl::write_string(&module, &info, &metal, &Default::default())
                .unwrap_or_else(|e| panic!("{}, for Metal: {e}", kernel.name));
            let mut text = String::new();
            let directx = hlsl::Writer::new(&mut text, &directx, &Default::default())
                .write(&module, &info, None)
                .unwrap_or_else(|e| panic!("{}, for DirectX 12: {e}", kernel.name));
            assert!(metal.entry_point_names[0].is_ok(), "{}, for Metal: {:?}", kernel.name, metal.entry_point_names);
            let names = directx.entry_point_names;
            assert!(names[0].is_ok(), "{}, for DirectX 12: {names:?}", kernel.name);
        }
    }
}

/// Variants add the same terms in the same order, so they give the same bits; and so does whichever is found the fastest.
/// Those with an order of their own have that in common.
#[test]
fn every_variant_gives_the_bits_of_the_kernel_itself() {
    if gpu().is_none() {
        return;
    }
    let with = |cut| open(&Choice::Gpu, GpuOptions { checked: true, cut, ..Default::default() }, None).unwrap().0;
    let plain = with(Cut::Number(0));
    let varied = || ALL.iter().filter(|k| !k.variants.is_empty());
    let most = varied().map(|k| k.variants.len()).max().unwrap_or(0);
    assert!(most > 0);
    let (cpu, software) = (Cpu::new(Some(2)).unwrap(), plain.info().software);
    let cuts = (1..=most).map(Cut::Number).chain([Cut::Tried]);
    let devices: Vec<_> = cuts.map(|cut| (cut, with(cut))).collect();
    for kernel in varied() {
        let suits = |n: usize, case: &Case| kernel.variants.get(n - 1).is_some_and(|v| (v.suits)(&case.params));
        let cases = (kernel.cases)();
        let tested = |n: usize| cases.iter().any(|case| suits(n, case));
        assert!((1..=kernel.variants.len()).all(tested), "{}: a variant that no case suits", kernel.name);
        let own_order = |cut| match cut {
            Cut::Number(n) => kernel.variants.get(n - 1).is_some_and(|v| v.own_order),
            _ => !software && kernel.variants.iter().any(|v| v.own_order),
        };
        for case in cases {
            let (mut as_declared, mut own) = (Some(run(plain.as_ref(), kernel, &case)), None);
            for (cut, device) in &devices {
                if matches!(cut, Cut::Number(n) if !suits(*n, &case)) {
                    continue;
                }
                let got = run(device.as_ref(), kernel, &case);
                let want = if own_order(*cut) { &mut own } else { &mut as_declared };
                let same = *want.get_or_insert_with(|| got.clone()) == got;
                assert!(same, "{}, {cut:?}, case {:?}", kernel.name, case.name);
            }
            if let Some(own) = own {
                agree(&cpu, kernel, &case, &own);
            }
        }
    }
}

/// Whether the buffers hold what the kernel's twin leaves in them, as closely as its bindings say.
fn agree(cpu: &Cpu, kernel: &'static Kernel, case: &Case, got: &[Vec<u32>]) {
    let want = run(cpu, kernel, case);
    for ((binding, got), want) in kernel.bindings.iter().zip(got).zip(&want) {
        let place = format!("{}, case {:?}, {}", kernel.name, case.name, binding.name);
        if matches!(binding.compare, Compare::Close(_) | Compare::ExactFloats) {
            let finite = |w: &[u32]| fedcircuit::device::f32s(w).iter().all(|v| v.is_finite());
            assert!(finite(want) && finite(got), "{place}: not finite");
        }
        compare(binding.compare, got, want).unwrap_or_else(|e| panic!("{place}: {e}"));
    }
}

/// A dispatch in parts is the same dispatch: however short a device may be busy at a time, every kernel gives the same bits.
#[test]
fn a_kernel_in_parts_gives_the_bits_of_the_whole() {
    if gpu().is_none() {
        return;
    }
    let with = |pace| {
        open(&Choice::Gpu, GpuOptions { checked: true, cut: Cut::Number(0), pace, ..Default::default() }, None)
            .unwrap()
            .0
    };
    let whole = with(Some(Pace::ENDLESS));
    // Thirty workgroups at first, then as many as take 2 ms; what takes half a millisecond is timed each time.
    let (dispatch, submission) = (Duration::from_millis(2), Duration::from_millis(8));
    let device = with(Some(Pace { dispatch, submission, first: 30 }));
    for kernel in ALL {
        for case in (kernel.cases)() {
            let same = run(device.as_ref(), kernel, &case) == run(whole.as_ref(), kernel, &case);
            assert!(same, "{}, case {:?}", kernel.name, case.name);
        }
    }
    let traffic = device.traffic();
    assert!(traffic.parts > traffic.dispatches, "{traffic:?}");
    let traffic = whole.traffic();
    assert_eq!(traffic.parts, traffic.dispatches);
}

/// A grid too long for one row of workgroups is the same grid in several: with rows of three, those of the cases are.
#[test]
fn a_folded_grid_gives_the_bits_of_a_straight_one() {
    if gpu().is_none() {
        return;
    }
    let with =
        |cut, row| open(&Choice::Gpu, GpuOptions { checked: true, cut, row, ..Default::default() }, None).unwrap().0;
    let most = ALL.iter().map(|k| k.variants.len()).max().unwrap_or(0);
    let mut folded = 0;
    for n in 0..=most {
        let (straight, in_rows) = (with(Cut::Number(n), None), with(Cut::Number(n), Some(3)));
        for kernel in ALL.iter().filter(|k| n <= k.variants.len()) {
            let source = n.checked_sub(1).map_or(kernel.source, |n| kernel.variants[n].source)();
            let suits = |case: &Case| n.checked_sub(1).is_none_or(|n| (kernel.variants[n].suits)(&case.params));
            let small = |case: &Case| case.flops < 10_000_000 && source.contains("65535") && suits(case);
            for case in (kernel.cases)().into_iter().filter(small) {
                let same = run(in_rows.as_ref(), kernel, &case) == run(straight.as_ref(), kernel, &case);
                assert!(same, "{}, variant {n}, case {:?}", kernel.name, case.name);
                folded += usize::from(case.groups[0] > 3);
            }
        }
    }
    assert!(folded > 100, "{folded} grids of several rows");
}

fn declaration(kernel: &Kernel, module: &naga::Module) {
    let name = kernel.name;
    let entry = &module.entry_points[0];
    assert_eq!((entry.name.as_str(), module.entry_points.len()), ("main", 1), "{name}");
    assert_eq!(entry.workgroup_size, kernel.workgroup, "{name}: workgroup size");
    assert!(kernel.workgroup.iter().product::<u32>() <= 256, "{name}: WebGPU guarantees 256 invocations");
    let mut found = vec![None; kernel.bindings.len() + 1];
    let mut workgroup_bytes = 0;
    for (_, var) in module.global_variables.iter() {
        let size = module.types[var.ty].inner.size(module.to_ctx());
        match (&var.binding, var.space) {
            (Some(at), space) => found[at.binding as usize] = Some((var.name.clone().unwrap_or_default(), space, size)),
            (None, naga::AddressSpace::WorkGroup) => workgroup_bytes += size,
            _ => {}
        }
    }
    assert!(
        workgroup_bytes <= 16 << 10,
        "{name}: {workgroup_bytes} bytes of workgroup memory; WebGPU guarantees 16 KiB"
    );
    assert!(kernel.bindings.len() <= 8, "{name}: WebGPU guarantees 8 storage buffers");
    for (binding, var) in kernel.bindings.iter().zip(&found) {
        let (var, space, _) = var.as_ref().unwrap_or_else(|| panic!("{name}: {} is not in the shader", binding.name));
        assert_eq!(var, binding.name, "{name}");
        let naga::AddressSpace::Storage { access } = space else { panic!("{name}: {var} is not a storage buffer") };
        let writes = access.contains(naga::StorageAccess::STORE);
        assert_eq!(writes, binding.access == Access::Write, "{name}: access of {var}");
    }
    let (_, space, size) = found.last().unwrap().as_ref().unwrap_or_else(|| panic!("{name}: no uniform block"));
    assert_eq!(*space, naga::AddressSpace::Uniform, "{name}");
    assert_eq!(*size as usize, 4 * kernel.params_words, "{name}: size of the uniform block");
    let reads_first = kernel.bindings.is_sorted_by_key(|b| b.access == Access::Write);
    assert!(reads_first, "{name}: bindings that are read come first");
}

#[test]
fn shaders_agree_with_their_twins() {
    let Some(gpu) = gpu() else { return };
    let cpu = Cpu::new(Some(2)).unwrap();
    for kernel in ALL {
        for case in (kernel.cases)() {
            agree(&cpu, kernel, &case, &run(gpu, kernel, &case));
        }
    }
}

/// The device's own clock counts what its kernels took, which is a part of what the host waited.
#[test]
fn the_devices_clock_runs_within_the_hosts() {
    if gpu().is_none_or(|gpu| !gpu.has_clock()) {
        return;
    }
    // A device of its own: on the shared one other tests' kernels would count.
    let (gpu, _) = open(&Choice::Gpu, GpuOptions { checked: true, ..Default::default() }, None).unwrap();
    let kernel = &fedcircuit::kernels::conv_forward::KERNEL;
    let case = (kernel.cases)().into_iter().max_by_key(|case| case.flops).unwrap();
    let prepared = fedcircuit::bench::kernels::Prepared::new(gpu.as_ref(), kernel, case).unwrap();
    prepared.run(1).unwrap();
    let host = std::time::Instant::now();
    let own = prepared.run(3).unwrap();
    assert!(own <= host.elapsed() && own.as_micros() > 0, "{own:?}");
}

/// Twins give the same bits whatever the number of threads.
#[test]
fn twins_do_not_depend_on_threads() {
    let (one, two) = (Cpu::new(Some(1)).unwrap(), Cpu::new(Some(2)).unwrap());
    for kernel in ALL {
        for case in (kernel.cases)() {
            assert_eq!(run(&one, kernel, &case), run(&two, kernel, &case), "{}, case {:?}", kernel.name, case.name);
        }
    }
}

/// Runs a case with sentinel words around every buffer and returns what the buffers then hold; checks that no
/// sentinel moved and nothing that is only read changed.
pub fn run(device: &dyn Device, kernel: &'static Kernel, case: &Case) -> Vec<Vec<u32>> {
    const MARGIN: usize = View::ALIGN;
    let buffers: Vec<_> = (SENTINEL..)
        .zip(&case.buffers)
        .zip(kernel.bindings)
        .map(|((sentinel, words), binding)| {
            let buffer = device.alloc(binding.name, words.len() + 2 * MARGIN).unwrap();
            let framed = [&[sentinel; MARGIN][..], words, &[sentinel; MARGIN]].concat();
            device.write(buffer.all(), &framed).unwrap();
            buffer
        })
        .collect();
    // On a GPU the words behind are bound too: its checks would drop what is written past a binding's end.
    let behind = if device.info().kind == "cpu" { 0 } else { MARGIN };
    let views = buffers.iter().zip(&case.buffers).map(|(b, words)| b.view(MARGIN, words.len() + behind));
    let views: Vec<_> = views.collect();
    device.dispatch(kernel, &case.params, &views, case.groups).unwrap();
    let whole: Vec<_> = buffers.iter().map(|b| b.all()).collect();
    let read = pollster::block_on(device.read(&whole)).unwrap();
    let mut inside = Vec::new();
    for ((sentinel, words), (case_words, binding)) in
        (SENTINEL..).zip(read).zip(case.buffers.iter().zip(kernel.bindings))
    {
        let (head, tail) = (&words[..MARGIN], &words[words.len() - MARGIN..]);
        let intact = head.iter().chain(tail).all(|w| *w == sentinel);
        assert!(intact, "{}, case {:?}: wrote outside of {}", kernel.name, case.name, binding.name);
        let body = words[MARGIN..words.len() - MARGIN].to_vec();
        if binding.access == Access::Read {
            assert_eq!(&body, case_words, "{}: changed its input {}", kernel.name, binding.name);
        }
        inside.push(body);
    }
    inside
}

/// The shadow device names the kernel whose shader and twin differ.
#[test]
fn the_shadow_device_names_a_kernel_whose_shader_is_wrong() {
    static WRONG: Kernel = Kernel {
        name: "wrong",
        source: || include_str!("../../shaders/complement.wgsl").into(),
        variants: &[],
        bindings: fedcircuit::kernels::complement::KERNEL.bindings,
        params_words: 1,
        workgroup: [64, 1, 1],
        // The shader gives 1 - gate, this twin leaves what was there.
        twin: |_| {},
        cases: Vec::new,
        large: Vec::new,
    };
    if gpu().is_none() {
        return;
    }
    let (shadow, _) = open(&Choice::Shadow, GpuOptions { checked: true, ..Default::default() }, Some(1)).unwrap();
    let (gates, others) = (shadow.alloc("gates", 64).unwrap(), shadow.alloc("others", 64).unwrap());
    let views = [gates.all(), others.all()];
    let right = shadow.dispatch(&fedcircuit::kernels::complement::KERNEL, &[64], &views, [1, 1, 1]);
    assert!(right.is_ok());
    shadow.clear(others.all()).unwrap();
    match shadow.dispatch(&WRONG, &[64], &views, [1, 1, 1]) {
        Err(Error::Mismatch { kernel: "wrong", output: "others", detail }) => {
            assert!(detail.contains("word 0"), "{detail}")
        }
        other => panic!("{other:?}"),
    }
}
