//! What a file is, by its first bytes, and by its name where its first bytes are any text.

use std::path::Path;

/// Bytes that tell: a tar archive has its name at 257.
pub(super) const LEN: usize = 512;

/// A format that holds rows, or might, and cannot be read here: its name, and what to do.
pub(super) fn refused(start: &[u8]) -> Option<(&'static str, &'static str)> {
    const FORMATS: [(&[u8], &str, &str); 25] = [
        (b"\xfd7zXZ\0", "xz", "unpack it with `xz -d`, or compress it with gzip or zstd"),
        (b"BZh", "bzip2", "unpack it with `bunzip2`, or compress it with gzip or zstd"),
        (b"\x04\x22\x4d\x18", "lz4", "unpack it with `lz4 -d`, or compress it with gzip or zstd"),
        (b"ARROW1", "an Arrow file", "write it as Parquet or JSON Lines"),
        (b"\xff\xff\xff\xff", "an Arrow stream", "write it as Parquet or JSON Lines"),
        (b"ORC", "an ORC file", "write it as Parquet or JSON Lines"),
        (b"Obj\x01", "an Avro file", "write it as Parquet or JSON Lines"),
        (b"SQLite format 3\0", "an SQLite database", "write its table as JSON Lines"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
        (b"Rar!", "a RAR archive", "unpack it first"),
        (b"%PDF", "a PDF document", "write its instructions as JSON Lines"),
        (b"version https://git-lfs", "a Git LFS pointer, not the file", "fetch the file with `git lfs pull`"),
        (b"<!DOCTYPE", "a web page", "fetch the file itself, not the page that shows it"),
        (b"<?xml", "XML", "write it as JSON Lines"),
        (b"PARE", "an encrypted Parquet file", "decrypt it, and write it as Parquet or JSON Lines"),
        (b"FEA1", "a Feather file", "write it as Parquet or JSON Lines"),
        (b"\x89HDF", "an HDF5 file", "write it as Parquet or JSON Lines"),
        (b"\x93NUMPY", "a NumPy array", "write it as Parquet or JSON Lines"),
        (b"\x80\x02", "a Python pickle", "write it as Parquet or JSON Lines"),
        (b"\x80\x03", "a Python pickle", "write it as Parquet or JSON Lines"),
        (b"\x80\x04", "a Python pickle", "write it as Parquet or JSON Lines"),
        (b"\x80\x05", "a Python pickle", "write it as Parquet or JSON Lines"),
        (b"\xff\x06\0\0sNaPpY", "Snappy", "unpack it with `snzip -d`, or compress it with gzip or zstd"),
        (b"\x1f\x9d", "compress", "unpack it with `uncompress`, or compress it with gzip or zstd"),
        (b"<html", "a web page", "fetch the file itself, not the page that shows it"),
    ];
    if start.get(257..262) == Some(b"ustar") {
        return Some(("a tar archive", "unpack it first with `tar -xf`"));
    }
    if start.starts_with(b"PK\x03\x04") {
        return Some(zipped(start));
    }
    if let Some((_, name, remedy)) = FORMATS.iter().find(|(magic, ..)| start.starts_with(magic)) {
        return Some((name, remedy));
    }
    zeros(start)
}

/// What a zip archive is for, by the name of its first file.
fn zipped(start: &[u8]) -> (&'static str, &'static str) {
    let holds = |name: &[u8]| start.windows(name.len()).any(|window| window == name);
    if holds(b"[Content_Types].xml") || holds(b"xl/") {
        ("an Excel workbook", "save its sheet as CSV, and convert that to JSON Lines")
    } else if holds(b".npy") {
        ("a NumPy archive", "write it as Parquet or JSON Lines")
    } else {
        ("a zip archive", "unpack it first")
    }
}

/// No JSON has a zero byte: text in wider characters, or records of numbers.
fn zeros(start: &[u8]) -> Option<(&'static str, &'static str)> {
    const UTF_32: (&str, &str) = ("UTF-32 text", "convert it with `iconv -f UTF-32 -t UTF-8`");
    const UTF_32_LE: (&str, &str) = ("UTF-32 text", "convert it with `iconv -f UTF-32LE -t UTF-8`");
    const UTF_32_BE: (&str, &str) = ("UTF-32 text", "convert it with `iconv -f UTF-32BE -t UTF-8`");
    const UTF_16: (&str, &str) = ("UTF-16 text", "convert it with `iconv -f UTF-16 -t UTF-8`");
    const UTF_16_LE: (&str, &str) = ("UTF-16 text", "convert it with `iconv -f UTF-16LE -t UTF-8`");
    const UTF_16_BE: (&str, &str) = ("UTF-16 text", "convert it with `iconv -f UTF-16BE -t UTF-8`");
    match start {
        [] => None,
        _ if start.iter().all(|byte| *byte == 0) => {
            Some(("a file of zero bytes", "it was not written whole: fetch it again"))
        }
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some(UTF_32),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(UTF_16),
        // A length in eight bytes comes first.
        [_, _, _, 0, 0, 0, 0, 0, ..] => Some(("a TFRecord file", "write it as Parquet or JSON Lines")),
        [_, 0, 0, 0, _, 0, 0, 0, ..] => Some(UTF_32_LE),
        [0, 0, 0, _, 0, 0, 0, _, ..] => Some(UTF_32_BE),
        [first, 0, ..] if *first != 0 => Some(UTF_16_LE),
        [0, second, ..] if *second != 0 => Some(UTF_16_BE),
        _ => None,
    }
}

/// What is inside a compressed file and is compressed again, or read otherwise.
pub(super) fn packed_twice(start: &[u8]) -> Option<(&'static str, &'static str)> {
    match start {
        [0x1f, 0x8b, ..] => Some(("gzip inside a compressed file", "unpack it once")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(("zstd inside a compressed file", "unpack it once")),
        [b'P', b'A', b'R', b'1', ..] => Some(("a Parquet file inside a compressed file", "unpack it first")),
        _ => None,
    }
}

/// A text format without marks of its own, by its name, if it does not begin as JSON does.
pub(super) fn text_format(path: &Path, start: &[u8]) -> Option<(&'static str, &'static str)> {
    if matches!(start.trim_ascii_start().first(), None | Some(b'{' | b'[')) {
        return None;
    }
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    let name = [".gz", ".zst"].into_iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    let (_, extension) = name.rsplit_once('.')?;
    Some(match extension {
        "csv" => (
            "a CSV file",
            "convert it, for example with Python: `pandas.read_csv(FILE).to_json(NEW, orient=\"records\", lines=True)`",
        ),
        "tsv" => (
            "a TSV file",
            "convert it, for example with Python: `pandas.read_csv(FILE, sep=\"\\t\").to_json(NEW, orient=\"records\", lines=True)`",
        ),
        "txt" | "md" => ("a text file", "make each line a row with `jq -Rc '{prompt: .}'`"),
        "yaml" | "yml" => ("a YAML file", "convert it to JSON Lines, for example with `yq -o json -I 0 '.[]'`"),
        "br" => ("Brotli", "unpack it with `brotli -d`, or compress it with gzip or zstd"),
        _ => return None,
    })
}
