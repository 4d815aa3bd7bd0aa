//! A file's tensors against the weights that its configuration promises. A weight too many is as wrong as one too few: the
//! forward pass would leave it out.

use std::collections::HashMap;
use std::path::Path;

use super::weight::{Format, Part, WeightId, WeightSpec};
use crate::model::error::ModelError;
use crate::model::tensor::{StoredTensor, TensorInfo};

/// The shape of the matrix of this name.
pub(super) fn matrix(
    file: &Path,
    tensors: &HashMap<String, StoredTensor>,
    name: &str,
) -> Result<[usize; 2], ModelError> {
    let shape = &tensors.get(name).ok_or_else(|| missing(file, name))?.info.shape;
    shape[..].try_into().map_err(|_| ModelError::Damaged {
        file: file.to_owned(),
        what: format!("weight {name} has the shape {shape:?}: expected a matrix"),
    })
}

/// The file's tensors by what they do. Names, shapes and types of all of them are checked. Specs of one name, one behind the
/// other, are the rows of one tensor, in their order; experts of one name are its matrices.
pub(super) fn bind(
    file: &Path,
    format: Format,
    family: &str,
    specs: &[WeightSpec],
    mut tensors: HashMap<String, StoredTensor>,
) -> Result<HashMap<WeightId, StoredTensor>, ModelError> {
    let mut weights = HashMap::with_capacity(specs.len());
    for parts in specs.chunk_by(|a, b| a.name(format) == b.name(format)) {
        let name = parts[0].name(format);
        let StoredTensor { file: index, info } = tensors.remove(name).ok_or_else(|| missing(file, name))?;
        let TensorInfo { dtype, shape, range } = info;
        let mut expected = parts[0].shape.clone();
        if format == Format::Gguf && parts[0].id.part() == Part::Experts {
            expected.insert(0, parts.len());
        } else {
            expected[0] = parts.iter().map(|part| part.shape[0]).sum();
        }
        if shape != expected {
            return Err(ModelError::Damaged {
                file: file.to_owned(),
                what: format!("weight {name} has the shape {shape:?}: the configuration expects {expected:?}"),
            });
        }
        // Norms and biases are added or multiplied element by element; no known file quantises them.
        if shape.len() == 1 && dtype.block() > 1 {
            return Err(ModelError::Unsupported {
                file: file.to_owned(),
                key: format!("the type of weight {name}"),
                value: dtype.name().into(),
                remedy: "convert the model again and leave its vectors as F32".into(),
            });
        }
        let row = range.len() / parts.iter().map(|part| part.shape[0]).sum::<usize>();
        let mut start = range.start;
        for WeightSpec { id, shape, .. } in parts {
            let range = start..start + row * shape[0];
            start = range.end;
            weights.insert(*id, StoredTensor { file: index, info: TensorInfo { dtype, shape: shape.clone(), range } });
        }
    }
    match tensors.into_keys().min() {
        None => Ok(weights),
        Some(extra) => Err(ModelError::Unsupported {
            file: file.to_owned(),
            key: "a weight".into(),
            value: extra,
            remedy: format!(
                "the {family} family has no such weight: use a model of a supported family, or serve this one with vLLM and use \
                 --engine openai"
            ),
        }),
    }
}

pub(super) fn missing(file: &Path, name: &str) -> ModelError {
    ModelError::Missing {
        file: file.to_owned(),
        key: format!("weight {name}"),
        remedy: "the file is incomplete, or of another architecture than it says: fetch it again".into(),
    }
}
