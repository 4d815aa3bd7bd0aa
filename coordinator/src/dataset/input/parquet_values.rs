//! How values of a Parquet file are written as JSON where arrow's own way would say something else: bytes that are text (older
//! writers leave out that they are), and times whose zone needs a database.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, BinaryArray, BinaryViewArray, LargeBinaryArray};
use arrow_json::writer::NullableEncoder;
use arrow_json::{Encoder, EncoderFactory, EncoderOptions};
use arrow_schema::{ArrowError, DataType, FieldRef, TimeUnit};
use chrono::DateTime;

/// In place of bytes that should be text and are not: no JSON, so the row is told with its key.
const NOT_TEXT: &[u8] = b"bytes-that-are-not-UTF-8";

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Values {
    /// Fields that hold text. Bytes of any other may be anything, and are written in hexadecimal if they are no text.
    texts: Vec<String>,
}

impl Values {
    pub(super) fn new(columns: &[String]) -> Arc<Self> {
        let columns = columns.iter().map(String::as_str).filter(|name| *name != "metadata");
        Arc::new(Self { texts: columns.chain(["content", "value", "text"]).map(str::to_owned).collect() })
    }
}

impl EncoderFactory for Values {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = if let DataType::Timestamp(unit, zone) = array.data_type() {
            Box::new(Times { array, unit: *unit, zoned: zone.is_some() })
        } else if let Some(array) = BytesArray::of(array) {
            Box::new(Bytes { array, text: self.texts.contains(field.name()) })
        } else {
            return Ok(None);
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

enum BytesArray<'a> {
    Small(&'a BinaryArray),
    Large(&'a LargeBinaryArray),
    View(&'a BinaryViewArray),
}

impl<'a> BytesArray<'a> {
    fn of(array: &'a dyn Array) -> Option<Self> {
        let small = array.as_binary_opt().map(Self::Small);
        small.or(array.as_binary_opt().map(Self::Large)).or(array.as_binary_view_opt().map(Self::View))
    }
}

struct Bytes<'a> {
    array: BytesArray<'a>,
    text: bool,
}

impl Encoder for Bytes<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        let bytes = match self.array {
            BytesArray::Small(array) => array.value(index),
            BytesArray::Large(array) => array.value(index),
            BytesArray::View(array) => array.value(index),
        };
        match std::str::from_utf8(bytes) {
            Ok(text) => string(text, out),
            Err(_) if self.text => out.extend_from_slice(NOT_TEXT),
            Err(_) => string(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), out),
        }
    }
}

/// Times as text: in UTC, as they are stored, if they have a zone.
struct Times<'a> {
    array: &'a dyn Array,
    unit: TimeUnit,
    zoned: bool,
}

impl Encoder for Times<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        let time = match self.unit {
            TimeUnit::Second => {
                DateTime::from_timestamp(self.array.as_primitive::<TimestampSecondType>().value(index), 0)
            }
            TimeUnit::Millisecond => {
                DateTime::from_timestamp_millis(self.array.as_primitive::<TimestampMillisecondType>().value(index))
            }
            TimeUnit::Microsecond => {
                DateTime::from_timestamp_micros(self.array.as_primitive::<TimestampMicrosecondType>().value(index))
            }
            TimeUnit::Nanosecond => {
                Some(DateTime::from_timestamp_nanos(self.array.as_primitive::<TimestampNanosecondType>().value(index)))
            }
        };
        let form = if self.zoned { "%Y-%m-%dT%H:%M:%S%.fZ" } else { "%Y-%m-%dT%H:%M:%S%.f" };
        match time {
            Some(time) => string(&time.format(form).to_string(), out),
            // One that no calendar has.
            None => out.extend_from_slice(b"null"),
        }
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
}
