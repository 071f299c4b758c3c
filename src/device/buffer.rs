//! Buffers: runs of 32-bit words that live on a device, and views of parts of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

/// Words of a device's memory. Cloning shares the same memory.
#[derive(Clone, Debug)]
pub struct Buffer(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub id: u64,
    pub label: String,
    pub words: usize,
    pub store: Store,
    /// Told of the buffer's end, so that a device can drop what it cached about it.
    pub graveyard: Option<Arc<Mutex<Vec<u64>>>>,
}

#[derive(Debug)]
pub(super) enum Store {
    Cpu(RwLock<Vec<u32>>),
    Gpu(wgpu::Buffer),
    Both { cpu: Buffer, gpu: Buffer },
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(graveyard) = &self.graveyard {
            graveyard.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(self.id);
        }
    }
}

impl Buffer {
    pub(super) fn new(label: &str, words: usize, store: Store, graveyard: Option<Arc<Mutex<Vec<u64>>>>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Inner { id, label: label.to_string(), words, store, graveyard }))
    }

    /// How many 32-bit words it holds.
    pub fn words(&self) -> usize {
        self.0.words
    }

    /// How many bytes they are.
    pub fn bytes(&self) -> u64 {
        4 * self.words() as u64
    }

    /// What it was called when it was made.
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// The whole buffer.
    pub fn all(&self) -> View<'_> {
        View { buffer: self, start: 0, words: self.0.words }
    }

    /// `words` words from `start`. As a kernel's binding, `start` must be a multiple of [`View::ALIGN`].
    pub fn view(&self, start: usize, words: usize) -> View<'_> {
        View { buffer: self, start, words }
    }
}

/// Part of a buffer.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The buffer it is part of.
    pub buffer: &'a Buffer,
    /// First word.
    pub start: usize,
    /// Number of words.
    pub words: usize,
}

impl View<'_> {
    /// Words to which the start of a binding is aligned: 256 bytes, the strictest alignment of any GPU.
    pub const ALIGN: usize = 64;

    pub(super) fn fits(&self) -> bool {
        self.start.checked_add(self.words).is_some_and(|end| end <= self.buffer.words())
    }
}

impl<'a> From<&'a Buffer> for View<'a> {
    fn from(buffer: &'a Buffer) -> Self {
        buffer.all()
    }
}
