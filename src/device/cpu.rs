//! The CPU engine: buffers are vectors, kernels are their twins, run at once on a thread pool of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::buffer::Store;
use super::{Buffer, Call, Device, DeviceInfo, Kernel, Reading, Traffic, View};
use crate::error::{Error, Result};

/// Runs every kernel's twin on this machine's processor.
pub struct Cpu {
    info: DeviceInfo,
    pool: rayon::ThreadPool,
    readbacks: AtomicU64,
    bytes: AtomicU64,
    dispatches: AtomicU64,
}

impl Cpu {
    /// What stands in the place of a GPU's graphics interface.
    pub const BACKEND: &str = "rayon";

    /// An engine with `threads` worker threads, or one a core.
    ///
    /// # Errors
    /// When the system refuses to start the threads.
    pub fn new(threads: Option<usize>) -> Result<Self> {
        let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|e| {
            Error::device(format!("the CPU engine cannot start {threads} threads: {e}"), "set device.threads lower")
        })?;
        let info = DeviceInfo {
            kind: "cpu",
            name: "CPU engine".into(),
            backend: Self::BACKEND.into(),
            driver: Self::instructions().into(),
            software: false,
            threads,
            // Kernels count in words of 32 bits, as on a GPU.
            max_binding_bytes: 4 * u64::from(u32::MAX),
            max_buffer_bytes: 1 << 40,
        };
        Ok(Self { info, pool, readbacks: 0.into(), bytes: 0.into(), dispatches: 0.into() })
    }

    /// The widest instructions of this processor that kernels have code for, or else its architecture.
    pub fn instructions() -> &'static str {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                return "avx512";
            }
            if std::arch::is_x86_feature_detected!("avx2") {
                return "avx2";
            }
        }
        std::env::consts::ARCH
    }
}

fn words(buffer: &Buffer) -> &RwLock<Vec<u32>> {
    match &buffer.0.store {
        Store::Cpu(words) => words,
        _ => panic!("buffer {} belongs to another device", buffer.label()),
    }
}

// A lock is poisoned only when a twin panicked, and then the panic is already on its way to the user.
fn read(buffer: &Buffer) -> RwLockReadGuard<'_, Vec<u32>> {
    words(buffer).read().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn write(buffer: &Buffer) -> RwLockWriteGuard<'_, Vec<u32>> {
    words(buffer).write().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Device for Cpu {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn alloc(&self, label: &str, words: usize) -> Result<Buffer> {
        let mut store = Vec::new();
        store.try_reserve_exact(words.max(1)).map_err(|_| Error::TooLarge {
            what: label.to_string(),
            needed: format!("{:.2} GiB", words as f64 * 4.0 / f64::from(1 << 30)),
            limit: "this machine has not that much memory left".into(),
            help: "lower device.memory, device.max_wave or training.batch_size".into(),
        })?;
        store.resize(words.max(1), 0);
        Ok(Buffer::new(label, words.max(1), Store::Cpu(RwLock::new(store)), None))
    }

    fn write(&self, to: View<'_>, data: &[u32]) -> Result<()> {
        check_copy("write", data.len(), to)?;
        write(to.buffer)[to.start..to.start + to.words].copy_from_slice(data);
        Ok(())
    }

    fn copy(&self, from: View<'_>, to: View<'_>) -> Result<()> {
        check_copy("copy", from.words, to)?;
        check_copy("copy", from.words, from)?;
        let source = read(from.buffer);
        write(to.buffer)[to.start..to.start + to.words].copy_from_slice(&source[from.start..from.start + from.words]);
        Ok(())
    }

    fn clear(&self, view: View<'_>) -> Result<()> {
        check_copy("clear", view.words, view)?;
        write(view.buffer)[view.start..view.start + view.words].fill(0);
        Ok(())
    }

    fn dispatch(&self, kernel: &'static Kernel, params: &[u32], buffers: &[View<'_>], groups: [u32; 3]) -> Result<()> {
        kernel.check(params, buffers, groups)?;
        self.dispatches.fetch_add(1, Ordering::Relaxed);
        let (read_views, write_views) = buffers.split_at(kernel.reads());
        let read_guards: Vec<_> = read_views.iter().map(|v| read(v.buffer)).collect();
        let mut write_guards: Vec<_> = write_views.iter().map(|v| write(v.buffer)).collect();
        let call = Call {
            params,
            groups,
            read: read_views.iter().zip(&read_guards).map(|(v, g)| &g[v.start..v.start + v.words]).collect(),
            write: write_views.iter().zip(&mut write_guards).map(|(v, g)| &mut g[v.start..v.start + v.words]).collect(),
        };
        self.pool.install(|| (kernel.twin)(call));
        Ok(())
    }

    fn within(&self, work: &mut (dyn FnMut() + Send)) {
        self.pool.install(work);
    }

    fn wait(&self) -> Result<()> {
        Ok(())
    }

    fn read<'a>(&'a self, views: &[View<'a>]) -> Reading<'a> {
        let total: usize = views.iter().map(|v| v.words).sum();
        self.readbacks.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(4 * total as u64, Ordering::Relaxed);
        let result = views
            .iter()
            .map(|v| check_copy("read", v.words, *v).map(|()| read(v.buffer)[v.start..v.start + v.words].to_vec()))
            .collect();
        Box::pin(std::future::ready(result))
    }

    fn traffic(&self) -> Traffic {
        Traffic {
            readbacks: self.readbacks.load(Ordering::Relaxed),
            bytes_read_back: self.bytes.load(Ordering::Relaxed),
            dispatches: self.dispatches.load(Ordering::Relaxed),
            parts: self.dispatches.load(Ordering::Relaxed),
        }
    }
}

/// A transfer of `words` words fits `view` exactly, and `view` its buffer.
pub(super) fn check_copy(kernel: &'static str, words: usize, view: View<'_>) -> Result<()> {
    if words == view.words && view.fits() {
        return Ok(());
    }
    let (start, len, has) = (view.start, view.words, view.buffer.words());
    Err(Error::Kernel {
        kernel,
        problem: format!("{words} words for words {start}.. + {len} of {} ({has} words)", view.buffer.label()),
    })
}
