//! What several modules of the suite need.

use std::sync::OnceLock;

use fedcircuit::device::{Choice, Device, GpuOptions, open};

/// The first GPU (software Vulkan included) with shader checks on, opened once for the whole suite; or `None`, said
/// aloud. Under `FEDCIRCUIT_REQUIRE_GPU=1` a missing adapter is a failure.
pub fn gpu() -> Option<&'static dyn Device> {
    static GPU: OnceLock<Option<Box<dyn Device>>> = OnceLock::new();
    let gpu = GPU.get_or_init(|| match open(&Choice::Gpu, GpuOptions { checked: true, ..Default::default() }, None) {
        Ok((device, _)) => Some(device),
        Err(e) if std::env::var_os("FEDCIRCUIT_REQUIRE_GPU").is_some() => panic!("a GPU adapter is required: {e}"),
        Err(e) => {
            println!("skipped: {e}");
            None
        }
    });
    gpu.as_deref()
}
