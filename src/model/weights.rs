//! Weights in and out of safetensors files, under PyTorch's names and shapes.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::Layout;
use crate::error::{Error, Result};

/// Reads a row of parameters from `path`.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::File`] when it is not safetensors or a tensor is missing, too
/// many, of another shape, not float32, or not finite.
pub fn load(path: &Path, layout: &Layout) -> Result<Vec<f32>> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let wanted = || {
        let list: Vec<_> = layout.tensors.iter().map(|t| format!("{} {:?}", t.name, t.shape)).collect();
        format!("accepted: float32 tensors {}", list.join(", "))
    };
    let fault = |problem: String| Error::file(path, problem, wanted());
    let file = SafeTensors::deserialize(&bytes).map_err(|e| fault(format!("not a readable safetensors file ({e})")))?;
    if let Some(extra) = file.names().into_iter().find(|name| !layout.tensors.iter().any(|t| t.name == *name)) {
        return Err(fault(format!("holds a tensor {extra:?} that the model does not have")));
    }
    let mut row = vec![0.0; layout.words];
    for tensor in &layout.tensors {
        let name = &tensor.name;
        let found = file.tensor(name).map_err(|_| fault(format!("lacks the tensor {name:?}")))?;
        if found.dtype() != Dtype::F32 {
            return Err(fault(format!("{name} is {:?}, not float32", found.dtype())));
        }
        if found.shape() != tensor.shape {
            return Err(fault(format!("{name} has shape {:?}, the model {:?}", found.shape(), tensor.shape)));
        }
        for (i, (value, b)) in row[tensor.at..].iter_mut().zip(found.data().chunks_exact(4)).enumerate() {
            *value = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            if !value.is_finite() {
                return Err(fault(format!("{name} holds {value} at element {i}")));
            }
        }
    }
    Ok(row)
}

/// The bytes of a safetensors file that holds `row`.
pub fn save(layout: &Layout, row: &[f32]) -> Result<Vec<u8>> {
    let fault =
        |e: safetensors::SafeTensorError| Error::config("weights", format!("cannot be written: {e}"), "report this");
    let bytes: Vec<(String, Vec<u8>)> = layout
        .tensors
        .iter()
        .map(|t| (t.name.clone(), row[t.at..t.at + t.words()].iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let mut views = BTreeMap::new();
    for (tensor, (name, data)) in layout.tensors.iter().zip(&bytes) {
        views.insert(name.clone(), TensorView::new(Dtype::F32, tensor.shape.clone(), data).map_err(fault)?);
    }
    safetensors::serialize(views, None).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::super::{Input, LayerSpec, SpecKind, chain};
    use super::*;

    fn layout(features: usize) -> Layout {
        let spec = LayerSpec { name: "fc".into(), kind: SpecKind::Linear { features }, relu: false };
        Layout::new(&chain(&[spec], Input { channels: 1, height: 2, width: 3 }, features).unwrap())
    }

    fn written(layout: &Layout, row: &[f32]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), save(layout, row).unwrap()).unwrap();
        file
    }

    #[test]
    fn weights_come_back_as_they_were() {
        let layout = layout(3);
        let row = super::super::initial_weights(&layout, 1);
        let file = written(&layout, &row);
        assert_eq!(load(file.path(), &layout).unwrap(), row);
    }

    #[test]
    fn a_file_that_does_not_match_is_refused_with_the_tensor_named() {
        let three = layout(3);
        let file = written(&three, &super::super::initial_weights(&three, 1));
        let error = load(file.path(), &layout(4)).unwrap_err();
        assert!(error.to_string().contains("fc.bias") || error.to_string().contains("fc.weight"), "{error}");
        assert_eq!(error.exit_code(), 2);

        let mut row = super::super::initial_weights(&three, 1);
        row[2] = f32::NAN;
        let error = load(written(&three, &row).path(), &three).unwrap_err();
        assert!(error.to_string().contains("NaN at element 2"), "{error}");

        let garbage = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(garbage.path(), b"not tensors").unwrap();
        assert!(load(garbage.path(), &three).unwrap_err().to_string().contains("safetensors"));
        assert!(load(Path::new("/nowhere/at/all"), &three).is_err());

        let mut other = three.clone();
        other.tensors[0].name = "extra.weight".into();
        let error = load(written(&other, &row).path(), &three).unwrap_err();
        assert!(error.to_string().contains("extra.weight"), "{error}");
    }

    /// As many numbers in another shape would load in a wrong order, and half as many bytes each are other numbers.
    #[test]
    fn another_shape_another_type_and_infinities_are_refused() {
        let three = layout(3);
        let row = super::super::initial_weights(&three, 1);
        let mut turned = three.clone();
        turned.tensors[0].shape.reverse();
        let error = load(written(&turned, &row).path(), &three).unwrap_err().to_string();
        assert!(error.contains("fc.weight has shape [6, 3], the model [3, 6]"), "{error}");
        for infinite in [f32::INFINITY, f32::NEG_INFINITY] {
            let mut row = row.clone();
            row[17] = infinite;
            let error = load(written(&three, &row).path(), &three).unwrap_err().to_string();
            assert!(error.contains("inf at element 17"), "{error}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let (weight, bias) = ([0u8; 72], [0u8; 12]);
        let view = |dtype, shape: &[usize], data| TensorView::new(dtype, shape.to_vec(), data).unwrap();
        let tensors =
            [("fc.weight", view(Dtype::I32, &[3, 6], &weight[..])), ("fc.bias", view(Dtype::F32, &[3], &bias[..]))];
        std::fs::write(file.path(), safetensors::serialize(tensors, None).unwrap()).unwrap();
        let error = load(file.path(), &three).unwrap_err().to_string();
        assert!(error.contains("fc.weight is I32, not float32"), "{error}");
    }
}
