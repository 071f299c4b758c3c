//! A split of the data set on the device, and the order in which slots see its examples.

use crate::data::{Dataset, Split};
use crate::device::{Buffer, Device};
use crate::error::{Error, Result};
use crate::kernels::gather::{self, ImageShape, Order, gather};
use crate::kernels::shape::Batch;
use crate::model::Workspace;

/// Images as bytes and labels, shared by all clients.
#[derive(Debug)]
pub struct Examples {
    pixels: Buffer,
    labels: Buffer,
    norm: Buffer,
    shape: ImageShape,
    /// Labels, on the host.
    pub host_labels: Vec<u8>,
}

impl Examples {
    /// Uploads `split` of `dataset`.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when the images do not fit one buffer of the device.
    pub fn upload(device: &dyn Device, dataset: &Dataset, split: &Split) -> Result<Self> {
        let image = dataset.example_len();
        let shape = ImageShape { channels: dataset.channels, plane: dataset.height * dataset.width };
        let image_words = shape.words();
        let (bytes, limit) = (4 * image_words as u64 * split.len() as u64, device.info().max_binding_bytes);
        if bytes > limit {
            let gib = |b: u64| format!("{:.2} GiB", b as f64 / f64::from(1 << 30));
            return Err(Error::TooLarge {
                what: format!("{} images of {}", split.len(), dataset.name),
                needed: gib(bytes),
                limit: format!("the device allows {} a buffer", gib(limit)),
                help: "use fewer examples (data.train_examples) or --device cpu".into(),
            });
        }
        let mut words = vec![0u32; image_words * split.len()];
        for (target, source) in words.chunks_exact_mut(image_words).zip(split.pixels.chunks_exact(image)) {
            bytemuck::cast_slice_mut::<u32, u8>(target)[..image].copy_from_slice(source);
        }
        let labels: Vec<u32> = split.labels.iter().map(|l| u32::from(*l)).collect();
        let scale = |(mean, std): (&f32, &f32)| [1.0 / (255.0 * std), -mean / std].map(f32::to_bits);
        let norm: Vec<u32> = dataset.mean.iter().zip(&dataset.std).flat_map(scale).collect();
        Ok(Self {
            pixels: upload(device, "pixels", &words)?,
            labels: upload(device, "labels", &labels)?,
            norm: upload(device, "normalisation", &norm)?,
            shape,
            host_labels: split.labels.clone(),
        })
    }

    /// Bytes of the device's memory that they take.
    pub fn bytes(&self) -> u64 {
        [&self.pixels, &self.labels, &self.norm].into_iter().map(Buffer::bytes).sum()
    }

    /// Fills the workspace's images and targets with batch `step` of `orders`.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn gather(
        &self,
        device: &dyn Device,
        orders: &Orders,
        step: usize,
        batch: Batch,
        space: &Workspace,
    ) -> Result<()> {
        let order = Order { at: step * orders.stride, stride: orders.steps * orders.stride };
        let buffers = gather::Buffers {
            pixels: self.pixels.all(),
            labels: self.labels.all(),
            order: orders.order.all(),
            counts: orders.counts.all(),
            norm: self.norm.all(),
            input: space.input.all(),
            targets: space.targets.all(),
        };
        gather(device, self.shape, batch, order, &buffers)
    }
}

/// Which examples each slot sees in each step.
#[derive(Debug)]
pub struct Orders {
    order: Buffer,
    /// `[steps][slots]`: numbers of images.
    pub counts: Buffer,
    /// S: steps of the longest slot.
    pub steps: usize,
    /// K.
    pub slots: usize,
    /// B: images a step, padded.
    pub stride: usize,
}

impl Orders {
    /// Uploads `batches[slot][step]`, lists of example indices of at most `stride` each. Slots may have fewer steps than
    /// others: the missing ones count no image.
    ///
    /// # Errors
    /// What the device says.
    pub fn upload(device: &dyn Device, batches: &[Vec<Vec<u32>>], stride: usize) -> Result<Self> {
        let slots = batches.len();
        let steps = batches.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let mut order = vec![0u32; slots * steps * stride];
        let mut counts = vec![0u32; steps * slots];
        for (slot, list) in batches.iter().enumerate() {
            for (step, batch) in list.iter().enumerate() {
                let at = (slot * steps + step) * stride;
                order[at..at + batch.len()].copy_from_slice(batch);
                counts[step * slots + slot] = batch.len() as u32;
            }
        }
        Ok(Self {
            order: upload(device, "order of examples", &order)?,
            counts: upload(device, "numbers of images", &counts)?,
            steps,
            slots,
            stride,
        })
    }

    /// Bytes of the device's memory that they take.
    pub fn bytes(&self) -> u64 {
        self.order.bytes() + self.counts.bytes()
    }

    /// The batch of `step` for the first `slots` slots.
    pub fn batch(&self, step: usize, slots: usize) -> Batch {
        Batch { slots, stride: self.stride, counts_at: step * self.slots }
    }
}

/// A new buffer that holds `words`.
pub(crate) fn upload(device: &dyn Device, label: &str, words: &[u32]) -> Result<Buffer> {
    let buffer = device.alloc(label, words.len())?;
    if !words.is_empty() {
        device.write(buffer.view(0, words.len()), words)?;
    }
    Ok(buffer)
}
