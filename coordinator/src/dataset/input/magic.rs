//! What a file is, by its first bytes.

/// Bytes that tell: a tar archive has its name at 257.
pub(super) const LEN: usize = 512;

/// A format that holds rows, or might, and cannot be read here: its name, and what to do.
pub(super) fn refused(start: &[u8]) -> Option<(&'static str, &'static str)> {
    const FORMATS: [(&[u8], &str, &str); 15] = [
        (b"\xfd7zXZ\0", "xz", "unpack it with `xz -d`, or compress it with gzip or zstd"),
        (b"BZh", "bzip2", "unpack it with `bunzip2`, or compress it with gzip or zstd"),
        (b"\x04\x22\x4d\x18", "lz4", "unpack it with `lz4 -d`, or compress it with gzip or zstd"),
        (b"ARROW1", "an Arrow file", "write it as Parquet or JSON Lines"),
        (b"\xff\xff\xff\xff", "an Arrow stream", "write it as Parquet or JSON Lines"),
        (b"ORC", "an ORC file", "write it as Parquet or JSON Lines"),
        (b"Obj\x01", "an Avro file", "write it as Parquet or JSON Lines"),
        (b"SQLite format 3\0", "an SQLite database", "write its table as JSON Lines"),
        (b"PK\x03\x04", "a zip archive", "unpack it first"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
        (b"Rar!", "a RAR archive", "unpack it first"),
        (b"%PDF", "a PDF document", "write its instructions as JSON Lines"),
        (b"version https://git-lfs", "a Git LFS pointer, not the file", "fetch the file with `git lfs pull`"),
        (b"<!DOCTYPE", "a web page", "fetch the file itself, not the page that shows it"),
        (b"<html", "a web page", "fetch the file itself, not the page that shows it"),
    ];
    const UTF_16: (&str, &str) = ("UTF-16 text", "convert it with `iconv -f UTF-16 -t UTF-8`");
    const UTF_16_LE: (&str, &str) = ("UTF-16 text", "convert it with `iconv -f UTF-16LE -t UTF-8`");
    const UTF_16_BE: (&str, &str) = ("UTF-16 text", "convert it with `iconv -f UTF-16BE -t UTF-8`");
    if start.get(257..262) == Some(b"ustar") {
        return Some(("a tar archive", "unpack it first with `tar -xf`"));
    }
    if let Some((_, name, remedy)) = FORMATS.iter().find(|(magic, ..)| start.starts_with(magic)) {
        return Some((name, remedy));
    }
    match start {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(UTF_16),
        // Without a byte order mark: no JSON has a zero byte.
        [first, 0, ..] if *first != 0 => Some(UTF_16_LE),
        [0, second, ..] if *second != 0 => Some(UTF_16_BE),
        _ => None,
    }
}
