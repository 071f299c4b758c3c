//! The driver's compilations, kept from run to run where the backend lets a program do so.

use std::path::PathBuf;

use super::cache;

/// A pipeline cache and the file it came from; written back when the device is closed.
pub(super) struct Remembered {
    pub cache: wgpu::PipelineCache,
    path: PathBuf,
    before: Option<Vec<u8>>,
}

impl Remembered {
    /// What is remembered for the adapter, if the backend keeps such caches and there is a place for them.
    #[allow(unsafe_code)]
    pub fn open(device: &wgpu::Device, about: &wgpu::AdapterInfo) -> Option<Self> {
        let key =
            device.features().contains(wgpu::Features::PIPELINE_CACHE).then(|| wgpu::util::pipeline_cache_key(about));
        let path = cache::folder()?.join(key??);
        let before = cache::read(&path);
        let descriptor =
            wgpu::PipelineCacheDescriptor { label: Some("fedcircuit"), data: before.as_deref(), fallback: true };
        // SAFETY: the data is what `get_data` gave for an adapter of the same key. The file is the user's own, in the folder
        // that the system keeps for such; wgpu checks its header against the adapter, driver and length, and starts an empty
        // cache where they differ.
        let cache = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(Self { cache, path, before })
    }
}

impl Drop for Remembered {
    fn drop(&mut self) {
        if let Some(now) = self.cache.get_data().filter(|now| self.before.as_ref() != Some(now)) {
            cache::write(&self.path, &now);
        }
    }
}
