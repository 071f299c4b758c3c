//! Which channels reach the logits over surviving weights.

use super::survivors::filters;
use super::{Network, Rows};
use crate::device::{Device, View};
use crate::error::Result;
use crate::kernels::reach::reach;
use crate::kernels::shape::Gates;
use crate::kernels::sparse::Side;

impl Network {
    /// Closes, in `gates` (`[slots][G]`), the gates of channels from which no path of surviving weights through open channels
    /// leads to the logits, as far as there are lists of survivors. Neither the logits nor any gate's gradient of a pass with
    /// zeros for closed channels depend on those, so long as their numbers are finite.
    ///
    /// At 99.5% sparsity that is most channels of a convolution in front of a fully connected layer.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn reach(&self, device: &dyn Device, slots: usize, from: Rows<'_>, gates: View<'_>) -> Result<()> {
        for range in self.layout.gates.iter().rev() {
            let next = range.layer + 1;
            let Some(lists) = from.lists(next, Side::Inputs, true) else { continue };
            let next_at = self.layout.gates_of(next).map(|g| g.at);
            let own = Gates { values: gates, row_words: self.layout.gate_words, at: range.at };
            reach(device, slots, range.channels, from.rows, (lists, &filters(&self.layers[next])), own, next_at)?;
        }
        Ok(())
    }
}
