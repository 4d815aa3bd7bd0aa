//! Families of models, a file each: how a family's files state its configuration, which weights it has under which names,
//! and what its layers compute.
//!
//! A new family is a file here, a line in `FAMILIES` and a fixture. Devices know nothing of families: they read the
//! [`LayerSpec`](super::LayerSpec) of the configuration and ask for weights by [`WeightId`].

mod dense;
mod expert_names;
mod experts;
pub(super) mod family;
mod gemma3;
pub(super) mod gguf;
pub(super) mod hugging_face;
mod hugging_face_rope;
mod llama;
mod manifest;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3_moe;
pub(super) mod weight;

use self::family::Family;
pub(super) use self::weight::Format;
pub use self::weight::{LayerWeight, Part, WeightId};

static FAMILIES: [&Family; 6] =
    [&gemma3::FAMILY, &llama::FAMILY, &phi3::FAMILY, &qwen2::FAMILY, &qwen3::FAMILY, &qwen3_moe::FAMILY];

/// What documentation says of a family.
#[derive(Debug, Clone, Copy)]
pub struct FamilyInfo {
    /// Its name.
    pub title: &'static str,
    /// The models of it that people know.
    pub models: &'static str,
    /// What `architectures` of its `config.json` names.
    pub classes: &'static [&'static str],
    /// `general.architecture` of its GGUF files.
    pub architecture: &'static str,
}

/// All families that the engine runs.
pub fn families() -> impl Iterator<Item = FamilyInfo> {
    FAMILIES.into_iter().map(|family| FamilyInfo {
        title: family.title,
        models: family.models,
        classes: family.classes,
        architecture: family.name,
    })
}

/// The family whose GGUF files name this architecture.
pub(super) fn of_architecture(name: &str) -> Option<&'static Family> {
    FAMILIES.into_iter().find(|family| family.name == name)
}

/// The family whose `config.json` names this class.
pub(super) fn of_class(class: &str) -> Option<&'static Family> {
    FAMILIES.into_iter().find(|family| family.classes.contains(&class))
}

/// All that [`of_architecture`] knows, in words.
pub(super) fn architectures() -> String {
    any_of(FAMILIES.map(|family| family.name).to_vec())
}

/// All that [`of_class`] knows, in words.
pub(super) fn classes() -> String {
    any_of(FAMILIES.iter().flat_map(|family| family.classes).copied().collect())
}

fn any_of(names: Vec<&str>) -> String {
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}
