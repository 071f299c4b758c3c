//! `cargo bench [-- FILTER]`: what `fedcircuit bench` measures, under criterion, which keeps a history and says what has
//! changed since the last time. The device is the one that `FEDCIRCUIT_DEVICE` names, as `--device` does; default `auto`.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fedcircuit::bench::kernels::{Prepared, timed};
use fedcircuit::bench::sample::Runs;
use fedcircuit::bench::{Discovery, Training};
use fedcircuit::device::{Device, GpuOptions, open};
use fedcircuit::kernels::ALL;

fn device() -> Box<dyn Device> {
    let choice = std::env::var("FEDCIRCUIT_DEVICE").unwrap_or_else(|_| "auto".into());
    let Ok(choice) = choice.parse();
    let (device, chosen) = open(&choice, GpuOptions::default(), None).unwrap_or_else(|e| panic!("{e}"));
    eprintln!("device: {chosen}");
    device
}

fn kernels(criterion: &mut Criterion) {
    let device = device();
    for kernel in ALL {
        let mut group = criterion.benchmark_group(kernel.name);
        group.sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
        for case in timed(kernel) {
            // Operations where the kernel has any, and the bytes of all bindings otherwise.
            group.throughput(match case.flops {
                0 => Throughput::Bytes(case.bytes()),
                flops => Throughput::Elements(flops),
            });
            let name = case.name;
            group.bench_function(name, |bencher| {
                let prepared = Prepared::new(device.as_ref(), kernel, case.clone()).expect("the case fits the device");
                bencher.iter_custom(|repeats| prepared.run(repeats).expect("the kernel runs"));
            });
        }
        group.finish();
    }
}

fn steps(criterion: &mut Criterion) {
    let device = device();
    let mut group = criterion.benchmark_group("steps");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for clients in [1, 8] {
        let training = Training { clients, batch: 32, steps: 1 };
        group.throughput(Throughput::Elements(training.images()));
        group.bench_function(format!("training, {clients} clients"), |bencher| {
            let timed = |runs: Runs<'_>| {
                bencher.iter_custom(|repeats| runs(repeats).expect("training runs"));
                Ok(())
            };
            training.with(device.as_ref(), timed).expect("training is prepared");
        });
    }
    // A step is timed, a whole search is run.
    let search = Discovery { clients: 5, images: 26, steps: 20 };
    group.throughput(Throughput::Elements(search.images()));
    for (sparse, name) in [(false, "discovery, all weights"), (true, "discovery, survivors")] {
        group.bench_function(name, |bencher| {
            let timed = |runs: Runs<'_>| {
                bencher.iter_custom(|repeats| runs(repeats).expect("the search runs"));
                Ok(())
            };
            search.with(device.as_ref(), sparse, timed).expect("the search is prepared");
        });
    }
    group.finish();
}

criterion_group!(benches, kernels, steps);
criterion_main!(benches);
