//! The GGUF container, versions 2 and 3, little-endian: metadata, then tensor descriptions, then aligned data.
//!
//! The reader borrows from the file and allocates only in proportion to what is really there: a count or a length in
//! the file is believed only as far as bytes follow it.

use std::collections::HashMap;

use super::quant::DType;
use super::tensor::TensorInfo;

const MAGIC: &[u8] = b"GGUF";
/// Where the data of tensors may begin, unless `general.alignment` says otherwise.
const DEFAULT_ALIGNMENT: u32 = 32;
/// The format's own limit.
const MAX_DIMENSIONS: u32 = 4;
/// Arrays of arrays are legal; no known file has one. Deeper ones serve only to exhaust the stack.
const MAX_NESTING: u32 = 4;

/// Why bytes are not a GGUF file that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GgufError {
    /// Another kind of file.
    #[error("it does not begin with the four letters GGUF")]
    Magic,
    /// The format's rules are broken at this byte.
    #[error("{what} at byte {at}")]
    Damaged { what: String, at: usize },
    /// Legal, but not known here.
    #[error("{key} is {value}")]
    Unsupported { key: String, value: String, remedy: &'static str },
}

/// A parsed file. Strings and arrays still lie in its bytes.
#[derive(Debug)]
pub struct Gguf<'a> {
    metadata: HashMap<&'a str, Value<'a>>,
    tensors: HashMap<&'a str, TensorInfo>,
}

/// A value of the metadata; integers and floats keep no width, since writers disagree about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// An unsigned integer.
    Unsigned(u64),
    /// A signed integer.
    Signed(i64),
    /// A floating-point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Str(&'a str),
    /// An array of values of one type.
    Array(Array<'a>),
}

/// An array of the metadata, checked but not yet taken apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Array<'a> {
    kind: Kind,
    len: usize,
    bytes: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Str,
    Array,
    U64,
    I64,
    F64,
}

impl<'a> Gguf<'a> {
    /// Reads header, metadata and tensor descriptions of a whole file, and checks that all tensors lie inside it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, GgufError> {
        let mut cursor = Cursor { bytes, at: 0 };
        if !bytes.starts_with(MAGIC) {
            return Err(GgufError::Magic);
        }
        cursor.at = MAGIC.len();
        let version = cursor.u32()?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Unsupported {
                key: "GGUF version".into(),
                value: if version.swap_bytes() <= 3 {
                    format!("{} (big-endian)", version.swap_bytes())
                } else {
                    version.to_string()
                },
                remedy: "convert the model with a current converter to version 3, little-endian",
            });
        }
        let tensors = cursor.u64()?;
        let keys = cursor.u64()?;
        let metadata = read_metadata(&mut cursor, keys)?;
        let alignment = alignment(&metadata, cursor.at)?;
        let tensors = read_tensors(&mut cursor, tensors, alignment)?;
        Ok(Self { metadata, tensors })
    }

    /// The value of a metadata key.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.metadata.get(key).copied()
    }

    /// The value as an unsigned number, if it is there and is one.
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Unsigned(n) => Some(n),
            Value::Signed(n) => n.try_into().ok(),
            Value::Float(_) | Value::Bool(_) | Value::Str(_) | Value::Array(_) => None,
        }
    }

    /// The value as a float, if it is there and is one.
    pub fn float(&self, key: &str) -> Option<f32> {
        match self.get(key)? {
            Value::Float(n) => Some(n as f32),
            Value::Unsigned(_) | Value::Signed(_) | Value::Bool(_) | Value::Str(_) | Value::Array(_) => None,
        }
    }

    /// The value as a text, if it is there and is one.
    pub fn str(&self, key: &str) -> Option<&'a str> {
        match self.get(key)? {
            Value::Str(text) => Some(text),
            Value::Unsigned(_) | Value::Signed(_) | Value::Bool(_) | Value::Float(_) | Value::Array(_) => None,
        }
    }

    /// The value as a truth value, if it is there and is one.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(yes) => Some(yes),
            Value::Unsigned(_) | Value::Signed(_) | Value::Str(_) | Value::Float(_) | Value::Array(_) => None,
        }
    }

    /// The value as an array, if it is there and is one.
    pub fn array(&self, key: &str) -> Option<Array<'a>> {
        match self.get(key)? {
            Value::Array(array) => Some(array),
            Value::Unsigned(_) | Value::Signed(_) | Value::Str(_) | Value::Float(_) | Value::Bool(_) => None,
        }
    }

    /// All metadata keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.metadata.keys().copied()
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &HashMap<&'a str, TensorInfo> {
        &self.tensors
    }
}

impl<'a> Array<'a> {
    /// Its items as texts; none unless it is an array of texts.
    pub fn strings(&self) -> Option<Vec<&'a str>> {
        self.items(Kind::Str, |value| match value {
            Value::Str(text) => Some(text),
            Value::Unsigned(_) | Value::Signed(_) | Value::Float(_) | Value::Bool(_) | Value::Array(_) => None,
        })
    }

    /// Its items as floats; none unless it is an array of `f32`.
    pub fn floats(&self) -> Option<Vec<f32>> {
        self.items(Kind::F32, |value| match value {
            Value::Float(n) => Some(n as f32),
            Value::Unsigned(_) | Value::Signed(_) | Value::Str(_) | Value::Bool(_) | Value::Array(_) => None,
        })
    }

    /// Its items as integers; none unless it is an array of 32-bit integers.
    pub fn integers(&self) -> Option<Vec<i64>> {
        let integer = |value| match value {
            Value::Signed(n) => Some(n),
            Value::Unsigned(n) => n.try_into().ok(),
            Value::Float(_) | Value::Str(_) | Value::Bool(_) | Value::Array(_) => None,
        };
        self.items(Kind::I32, integer).or_else(|| self.items(Kind::U32, integer))
    }

    fn items<T>(&self, kind: Kind, item: impl Fn(Value<'a>) -> Option<T>) -> Option<Vec<T>> {
        if self.kind != kind {
            return None;
        }
        let mut cursor = Cursor { bytes: self.bytes, at: 0 };
        (0..self.len).map(|_| cursor.value(kind, 0).ok().and_then(&item)).collect()
    }
}

fn read_metadata<'a>(cursor: &mut Cursor<'a>, keys: u64) -> Result<HashMap<&'a str, Value<'a>>, GgufError> {
    let mut metadata = HashMap::new();
    for _ in 0..keys {
        let at = cursor.at;
        let key = cursor.str()?;
        let kind = cursor.kind()?;
        let value = cursor.value(kind, 0)?;
        if metadata.insert(key, value).is_some() {
            return Err(GgufError::Damaged { what: format!("the key {key:?} appears twice"), at });
        }
    }
    Ok(metadata)
}

fn alignment(metadata: &HashMap<&str, Value<'_>>, at: usize) -> Result<usize, GgufError> {
    let alignment = match metadata.get("general.alignment") {
        None => u64::from(DEFAULT_ALIGNMENT),
        Some(Value::Unsigned(n)) => *n,
        Some(Value::Signed(_) | Value::Float(_) | Value::Bool(_) | Value::Str(_) | Value::Array(_)) => 0,
    };
    match usize::try_from(alignment) {
        // A page is the most that a memory map can promise.
        Ok(alignment) if alignment.is_power_of_two() && (8..=4096).contains(&alignment) => Ok(alignment),
        Ok(_) | Err(_) => {
            Err(GgufError::Damaged { what: "general.alignment must be a power of two between 8 and 4096".into(), at })
        }
    }
}

fn read_tensors<'a>(
    cursor: &mut Cursor<'a>,
    count: u64,
    alignment: usize,
) -> Result<HashMap<&'a str, TensorInfo>, GgufError> {
    let mut tensors = HashMap::new();
    for _ in 0..count {
        let at = cursor.at;
        let name = cursor.str()?;
        let info = cursor.tensor(name)?;
        if tensors.insert(name, (at, info)).is_some() {
            return Err(GgufError::Damaged { what: format!("the tensor {name:?} appears twice"), at });
        }
    }
    let start = cursor.at.checked_next_multiple_of(alignment);
    tensors
        .into_iter()
        .map(|(name, (at, TensorInfo { dtype, shape, range }))| {
            let damaged = |what: &str| GgufError::Damaged { what: format!("tensor {name:?} {what}"), at };
            if !range.start.is_multiple_of(alignment) {
                return Err(damaged("is not aligned"));
            }
            let inside = |offset| start.and_then(|start| start.checked_add(offset));
            match (inside(range.start), inside(range.end)) {
                (Some(start), Some(end)) if end <= cursor.bytes.len() => {
                    Ok((name, TensorInfo { dtype, shape, range: start..end }))
                }
                _ => Err(damaged("ends behind the end of the file")),
            }
        })
        .collect()
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn damaged(&self, what: impl Into<String>) -> GgufError {
        GgufError::Damaged { what: what.into(), at: self.at }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], GgufError> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| self.damaged(format!("the file ends inside {len} bytes")))?;
        let bytes = &self.bytes[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        self.array().map(u64::from_le_bytes)
    }

    fn size(&mut self) -> Result<usize, GgufError> {
        let size = self.u64()?;
        usize::try_from(size).map_err(|_| self.damaged(format!("{size} is more than a file can hold")))
    }

    fn str(&mut self) -> Result<&'a str, GgufError> {
        let len = self.size()?;
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map_err(|_| self.damaged("a text is not UTF-8"))
    }

    fn kind(&mut self) -> Result<Kind, GgufError> {
        Ok(match self.u32()? {
            0 => Kind::U8,
            1 => Kind::I8,
            2 => Kind::U16,
            3 => Kind::I16,
            4 => Kind::U32,
            5 => Kind::I32,
            6 => Kind::F32,
            7 => Kind::Bool,
            8 => Kind::Str,
            9 => Kind::Array,
            10 => Kind::U64,
            11 => Kind::I64,
            12 => Kind::F64,
            other => return Err(self.damaged(format!("invalid type {other} of a metadata value"))),
        })
    }

    fn value(&mut self, kind: Kind, nesting: u32) -> Result<Value<'a>, GgufError> {
        Ok(match kind {
            Kind::U8 => Value::Unsigned(self.array::<1>()?[0].into()),
            Kind::U16 => Value::Unsigned(u16::from_le_bytes(self.array()?).into()),
            Kind::U32 => Value::Unsigned(self.u32()?.into()),
            Kind::U64 => Value::Unsigned(self.u64()?),
            Kind::I8 => Value::Signed(i8::from_le_bytes(self.array()?).into()),
            Kind::I16 => Value::Signed(i16::from_le_bytes(self.array()?).into()),
            Kind::I32 => Value::Signed(i32::from_le_bytes(self.array()?).into()),
            Kind::I64 => Value::Signed(i64::from_le_bytes(self.array()?)),
            Kind::F32 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            Kind::F64 => Value::Float(f64::from_le_bytes(self.array()?)),
            Kind::Bool => Value::Bool(self.array::<1>()?[0] != 0),
            Kind::Str => Value::Str(self.str()?),
            Kind::Array => {
                if nesting >= MAX_NESTING {
                    return Err(self.damaged("arrays are nested too deep"));
                }
                let kind = self.kind()?;
                let len = self.size()?;
                let start = self.at;
                // Every item takes at least a byte, so a false length ends at the end of the file.
                for _ in 0..len {
                    self.value(kind, nesting + 1)?;
                }
                Value::Array(Array { kind, len, bytes: &self.bytes[start..self.at] })
            }
        })
    }

    /// Its range is relative to the start of the data, which is not known yet.
    fn tensor(&mut self, name: &str) -> Result<TensorInfo, GgufError> {
        let dimensions = self.u32()?;
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(self.damaged(format!("tensor {name:?} has {dimensions} dimensions")));
        }
        let mut shape = (0..dimensions).map(|_| self.size()).collect::<Result<Vec<_>, _>>()?;
        let row = shape[0];
        shape.reverse();
        let code = self.u32()?;
        let dtype = dtype(code).ok_or_else(|| GgufError::Unsupported {
            key: format!("the type of tensor {name}"),
            value: type_name(code),
            remedy: "use a file quantised to F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL \
                     or IQ4_XS, or serve this one with llama.cpp and use --engine openai",
        })?;
        let offset = self.size()?;
        let end = shape
            .iter()
            .try_fold(1usize, |product, &n| product.checked_mul(n))
            .filter(|_| row.is_multiple_of(dtype.block()))
            .and_then(|numbers| (numbers / dtype.block()).checked_mul(dtype.block_bytes()))
            .and_then(|len| len.checked_add(offset))
            .ok_or_else(|| self.damaged(format!("tensor {name:?} has the impossible shape {shape:?}")))?;
        Ok(TensorInfo { dtype, shape, range: offset..end })
    }
}

fn dtype(code: u32) -> Option<DType> {
    Some(match code {
        0 => DType::F32,
        1 => DType::F16,
        2 => DType::Q4_0,
        3 => DType::Q4_1,
        6 => DType::Q5_0,
        7 => DType::Q5_1,
        8 => DType::Q8_0,
        10 => DType::Q2K,
        11 => DType::Q3K,
        12 => DType::Q4K,
        13 => DType::Q5K,
        14 => DType::Q6K,
        20 => DType::Iq4Nl,
        23 => DType::Iq4Xs,
        30 => DType::BF16,
        _ => return None,
    })
}

/// Names of the types that are not read, for the message that refuses them.
fn type_name(code: u32) -> String {
    match code {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        21 => "IQ3_S",
        22 => "IQ2_S",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        other => return format!("number {other}"),
    }
    .into()
}
