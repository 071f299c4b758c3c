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
        let pixels = device.alloc("pixels", image_words * split.len())?;
        let mut filling = Filling::new(device, &pixels);
        for source in split.pixels.chunks_exact(image) {
            bytemuck::cast_slice_mut::<u32, u8>(filling.next(image_words)?)[..image].copy_from_slice(source);
        }
        filling.flush()?;
        let labels: Vec<u32> = split.labels.iter().map(|l| u32::from(*l)).collect();
        let scale = |(mean, std): (&f32, &f32)| [1.0 / (255.0 * std), -mean / std].map(f32::to_bits);
        let norm: Vec<u32> = dataset.mean.iter().zip(&dataset.std).flat_map(scale).collect();
        Ok(Self {
            pixels,
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
        let steps = batches.iter().map(Vec::len).max().unwrap_or(0);
        Self::made(device, [batches.len(), steps], stride, |slot, take| batches[slot].iter().try_for_each(|b| take(b)))
    }

    /// As [`Orders::upload`], of slots of which none has more steps than given: `batches` hands a slot's over one after the
    /// other, and of all of them the host never holds more than a part.
    ///
    /// # Errors
    /// What the device says.
    pub fn made(
        device: &dyn Device,
        [slots, steps]: [usize; 2],
        stride: usize,
        mut batches: impl FnMut(usize, Taker<'_>) -> Result<()>,
    ) -> Result<Self> {
        let steps = steps.max(1);
        let order = device.alloc("order of examples", slots * steps * stride)?;
        let mut counts = vec![0u32; steps * slots];
        let mut filling = Filling::new(device, &order);
        for slot in 0..slots {
            let mut step = 0;
            batches(slot, &mut |batch| {
                filling.next(stride)?[..batch.len()].copy_from_slice(batch);
                counts[step * slots + slot] = batch.len() as u32;
                step += 1;
                Ok(())
            })?;
            (step..steps).try_for_each(|_| filling.next(stride).map(drop))?;
        }
        filling.flush()?;
        Ok(Self { order, counts: upload(device, "numbers of images", &counts)?, steps, slots, stride })
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

/// What takes the batches of a slot, one after the other.
pub type Taker<'a> = &'a mut dyn FnMut(&[u32]) -> Result<()>;

/// Words of a large buffer that the host holds while it fills it.
const PART: usize = 1 << 18;

/// Fills a buffer from its start on, part by part.
struct Filling<'a> {
    device: &'a dyn Device,
    buffer: &'a Buffer,
    at: usize,
    part: Vec<u32>,
}

impl<'a> Filling<'a> {
    fn new(device: &'a dyn Device, buffer: &'a Buffer) -> Self {
        Self { device, buffer, at: 0, part: Vec::new() }
    }

    /// The next `words` of the buffer, zero unless they are changed.
    fn next(&mut self, words: usize) -> Result<&mut [u32]> {
        if self.part.len() + words > PART {
            self.flush()?;
        }
        let start = self.part.len();
        self.part.resize(start + words, 0);
        Ok(&mut self.part[start..])
    }

    /// Writes what is still on the host.
    fn flush(&mut self) -> Result<()> {
        if !self.part.is_empty() {
            self.device.write(self.buffer.view(self.at, self.part.len()), &self.part)?;
        }
        self.at += self.part.len();
        self.part.clear();
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::blank;
    use crate::device::{Cpu, f32s};

    fn words(cpu: &Cpu, buffer: &Buffer) -> Vec<u32> {
        pollster::block_on(cpu.read(&[buffer.all()])).unwrap().remove(0)
    }

    /// More images than four parts hold, none of which fills a part to its end.
    #[test]
    fn images_of_many_parts_lie_where_they_belong() {
        let cpu = Cpu::new(Some(1)).unwrap();
        let (images, image_words) = (5500usize, 196usize);
        assert!(images * image_words > 4 * PART && !PART.is_multiple_of(image_words));
        let mut dataset = blank(images, 1, 10);
        for (n, image) in dataset.train.pixels.chunks_exact_mut(784).enumerate() {
            image[..4].copy_from_slice(&(n as u32).to_le_bytes());
            image[783] = (n % 251) as u8;
        }
        let examples = Examples::upload(&cpu, &dataset, &dataset.train).unwrap();
        let pixels = words(&cpu, &examples.pixels);
        assert_eq!(pixels.len(), images * image_words);
        for (n, image) in pixels.chunks_exact(image_words).enumerate() {
            assert_eq!((image[0], image[195] >> 24), (n as u32, n as u32 % 251), "image {n}");
        }
        assert_eq!(words(&cpu, &examples.labels), (0..images as u32).map(|n| n % 10).collect::<Vec<_>>());
        assert_eq!(examples.bytes(), 4 * (pixels.len() + images + 2) as u64);
    }

    /// A byte p becomes (p / 255 - mean) / std: what the device multiplies it by, and adds.
    #[test]
    fn normalisation_is_a_factor_and_a_summand_of_a_byte() {
        let cpu = Cpu::new(Some(1)).unwrap();
        let dataset = Dataset { mean: vec![0.25], std: vec![0.5], ..blank(1, 1, 10) };
        let norm = words(&cpu, &Examples::upload(&cpu, &dataset, &dataset.train).unwrap().norm);
        let [factor, summand] = f32s(&norm)[..] else { panic!("one channel") };
        assert!((factor * 127.5 - 1.0).abs() < 1e-6 && summand == -0.5, "{factor} {summand}");
    }

    /// Slots of different numbers of steps, over several parts: what is missing counts nothing, and moves nobody's place.
    #[test]
    fn batches_of_slots_of_unequal_length_lie_in_rows_of_their_own() {
        let cpu = Cpu::new(Some(1)).unwrap();
        // Whole rows that no part ends with.
        let (stride, steps) = (1000, [700, 2, 0, 699]);
        let batch = |slot: usize, step: usize| vec![(1000 * slot + step) as u32 + 1; if step == 1 { 3 } else { 1000 }];
        let batches: Vec<Vec<Vec<u32>>> =
            steps.iter().enumerate().map(|(slot, n)| (0..*n).map(|step| batch(slot, step)).collect()).collect();
        let orders = Orders::upload(&cpu, &batches, stride).unwrap();
        assert_eq!((orders.steps, orders.slots), (700, 4));
        let (order, counts) = (words(&cpu, &orders.order), words(&cpu, &orders.counts));
        assert!(order.len() > 10 * PART);
        for (slot, rows) in order.chunks_exact(700 * stride).enumerate() {
            for (step, row) in rows.chunks_exact(stride).enumerate() {
                let mut want = if step < steps[slot] { batch(slot, step) } else { Vec::new() };
                assert_eq!(counts[step * 4 + slot] as usize, want.len(), "slot {slot}, step {step}");
                want.resize(stride, 0);
                assert!(row == want, "slot {slot}, step {step}");
            }
        }
    }
}
