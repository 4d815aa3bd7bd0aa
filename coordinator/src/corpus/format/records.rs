//! Whole records, as [`Record`](crate::corpus::Record) documents them.

use super::spec::{Rows, Spec, llama_factory_messages};

/// As JSON Lines and as Parquet.
pub(super) const RECORDS: Spec = Spec {
    name: "records",
    contents: "whole records, as Parquet and as JSON Lines",
    extensions: &["jsonl", "parquet"],
    rows: Rows::Whole,
    llama_factory: Some(llama_factory_messages),
};

/// In typed columns, as Parquet only.
pub(super) const PARQUET: Spec = Spec {
    name: "parquet",
    contents: "whole records, as Parquet",
    extensions: &["parquet"],
    rows: Rows::Whole,
    llama_factory: Some(llama_factory_messages),
};
