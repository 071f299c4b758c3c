//! What a GPU has compiled: of every kernel the variants that it ran.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::pipeline::{Compiler, Pipeline};
use super::variants::{Cut, Variants};
use crate::device::Kernel;

/// Pipelines, made when they are first asked for.
#[derive(Default)]
pub(super) struct Compiled {
    /// By kernel, the number of the variant that was picked.
    picked: HashMap<&'static str, usize>,
    /// By kernel and number of its variant.
    pipelines: HashMap<(&'static str, usize), Arc<Pipeline>>,
    /// Those variants that the driver does not take.
    refused: HashSet<(&'static str, usize)>,
}

impl Compiled {
    /// The pipeline for `kernel` with these parameters. The driver may not take a variant, for which the next then stands in;
    /// the kernel itself has to do, and so has what was asked for by number.
    pub fn get(
        &mut self,
        variants: &Variants,
        compiler: &Compiler<'_>,
        queue: &wgpu::Queue,
        kernel: &'static Kernel,
        params: &[u32],
    ) -> Arc<Pipeline> {
        let picked = self.picked.get(kernel.name).copied().unwrap_or_else(|| {
            let (n, pipeline) = variants.pick(compiler, queue, kernel);
            self.picked.insert(kernel.name, n);
            self.pipelines.extend(pipeline.map(|p| ((kernel.name, n), Arc::new(p))));
            n
        });
        loop {
            let n = variants.suiting(kernel, picked, params, |n| self.refused.contains(&(kernel.name, n)));
            if let Some(pipeline) = self.pipelines.get(&(kernel.name, n)) {
                return pipeline.clone();
            }
            let has_to_do = n == 0 || matches!(variants.cut, Cut::Number(_));
            let made = if has_to_do { Some(compiler.compile(kernel, n)) } else { compiler.attempt(kernel, n) };
            match made {
                Some(pipeline) => drop(self.pipelines.insert((kernel.name, n), Arc::new(pipeline))),
                None => drop(self.refused.insert((kernel.name, n))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Gpu, GpuOptions, any_adapter};
    use super::*;
    use crate::device::{Buffer, Case, Cpu, Device, Variant, always};
    use crate::error::Result;
    use crate::kernels::pick;

    /// A kernel as it is, in front of whose variants are some that no driver takes.
    fn with_broken_variants() -> &'static Kernel {
        let nonsense = || "this is no shader".to_string();
        let too_many = || {
            let shader = (pick::KERNEL.source)();
            assert!(shader.contains("@workgroup_size(64)"));
            shader.replace("@workgroup_size(64)", "@workgroup_size(65536)")
        };
        let grid = |_: &[u32]| [1, 1, 1];
        let variants =
            [Variant::new("nonsense", nonsense, grid, always), Variant::new("large", too_many, grid, always)];
        let Kernel { name, source, bindings, params_words, workgroup, twin, cases, large, .. } = pick::KERNEL;
        let variants = Box::leak(Box::new(variants));
        let kernel = Kernel { name, source, variants, bindings, params_words, workgroup, twin, cases, large };
        Box::leak(Box::new(kernel))
    }

    fn run(device: &dyn Device, kernel: &'static Kernel, case: &Case) -> Result<Vec<Vec<u32>>> {
        let buffers: Vec<_> = case.buffers.iter().map(|words| device.alloc("test", words.len()).unwrap()).collect();
        let views: Vec<_> = buffers.iter().map(Buffer::all).collect();
        views.iter().zip(&case.buffers).for_each(|(view, words)| device.write(*view, words).unwrap());
        device.dispatch(kernel, &case.params, &views, case.groups)?;
        pollster::block_on(device.read(&views))
    }

    #[test]
    fn variants_that_a_driver_does_not_take_are_done_without() {
        let Some(adapter) = any_adapter() else { return };
        let open = |cut| Gpu::open(&adapter, GpuOptions { checked: true, cut, ..Default::default() }).unwrap();
        let (kernel, cpu) = (with_broken_variants(), Cpu::new(Some(1)).unwrap());
        for cut in [Cut::Tried, Cut::Fastest] {
            let gpu = open(cut);
            for case in (kernel.cases)() {
                assert!(
                    run(&gpu, kernel, &case).unwrap() == run(&cpu, kernel, &case).unwrap(),
                    "{cut:?}, {}",
                    case.name
                );
            }
        }
        // What was asked for by number has to do.
        assert!(run(&open(Cut::Number(1)), kernel, &(kernel.cases)().remove(0)).is_err());
    }
}
