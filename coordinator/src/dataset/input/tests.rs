//! Every kind of bad input says where it is and what to do; no good row beside it is lost.

use std::io::Write;
use std::path::PathBuf;

use super::*;
use crate::domain::instruction::{BadRow, Instruction};
use crate::domain::language::Language;

mod odd;

fn file(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn rows(bytes: &[u8]) -> Vec<Result<Instruction, BadRow>> {
    let folder = tempfile::tempdir().unwrap();
    read(file(&folder, "rows.jsonl", bytes)).unwrap().collect()
}

fn one(row: &str) -> Result<Instruction, Box<BadRow>> {
    let mut rows = rows(row.as_bytes());
    assert_eq!(rows.len(), 1);
    rows.remove(0).map_err(Box::new)
}

/// Key, problem and remedy of the only row.
fn row_error(row: &str) -> String {
    let bad = one(row).unwrap_err();
    let text = bad.to_string();
    text.split_once("rows.jsonl:").unwrap().1.to_owned()
}

#[test]
fn each_shape_of_row_gives_its_text() {
    let text = |row: &str| one(row).unwrap().text();
    assert_eq!(text(r#"{"prompt": " Write. "}"#), "Write.");
    assert_eq!(text(r#"{"instruction": "Rewrite this.", "input": ""}"#), "Rewrite this.");
    assert_eq!(text(r#"{"instruction": "Rewrite this.", "input": "A text"}"#), "Rewrite this.\n\nA text");
    assert_eq!(text(r#"{"messages": [{"role": "user", "content": "Hi"}]}"#), "Hi");
    assert_eq!(text(r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}"#), "Hi");
    let batch = r#"{"custom_id": "r-1", "method": "POST", "body": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}}"#;
    let row = one(batch).unwrap();
    assert_eq!((row.id.as_deref(), row.text().as_str()), (Some("r-1"), "Hi"));
    assert_eq!(one(r#"{"id": 7, "prompt": "Hi", "extra": [1]}"#).unwrap().id.as_deref(), Some("7"));
}

#[test]
fn earlier_turns_stand_before_the_request_and_later_answers_are_dropped() {
    let row =
        one(r#"{"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Name a city."},
           {"role": "assistant", "content": "Lima."}, {"role": "user", "content": "Write 900 words on it."},
           {"role": "assistant", "content": "An old answer"}]}"#
            .replace('\n', " ")
            .as_str())
        .unwrap();
    assert_eq!(row.messages.len(), 4);
    assert_eq!(row.required_words, Some(900));
    assert_eq!(
        row.text(),
        "The conversation so far:\n\nRules: Be kind.\n\nUser: Name a city.\n\nAssistant: Lima.\n\nThe request now:\n\n\
         Write 900 words on it."
    );
}

#[test]
fn roles_compare_without_case_and_an_unknown_one_is_named() {
    let row = one(
        r#"{"messages": [{"role": " User ", "content": "One."}, {"role": "GPT", "content": "Two."}, {"role": "HUMAN", "content": "Three."}]}"#,
    );
    let messages = row.unwrap().messages;
    assert_eq!(messages.iter().map(|it| it.role.as_str()).collect::<Vec<_>>(), ["user", "assistant", "user"]);
    let behind = r#"{"messages": [{"role": "user", "content": "One."}, {"role": "Oracle", "content": "x"}]}"#;
    assert!(row_error(behind).contains("`messages[1].role`: unknown role \"Oracle\""));
}

#[test]
fn what_stands_behind_the_last_user_turn_is_not_looked_at() {
    for answer in [r#""""#, "null", "5", r#"[{"type": "image"}]"#] {
        let row = one(&format!(
            r#"{{"messages": [{{"role": "user", "content": "Write about a port."}}, {{"role": "assistant", "content": {answer}}}]}}"#
        ));
        assert_eq!(row.unwrap().text(), "Write about a port.", "{answer}");
    }
}

#[test]
fn a_prompt_may_hold_turns_or_parts() {
    for row in [
        r#"{"prompt": [{"role": "user", "content": "Write about a harbour."}]}"#,
        r#"{"prompt": [{"from": "human", "value": "Write about a harbour."}]}"#,
        r#"{"prompt": [{"type": "text", "text": "Write about a harbour."}]}"#,
        r#"{"instruction": [{"role": "user", "content": "Write about a harbour."}]}"#,
    ] {
        assert_eq!(one(row).unwrap().text(), "Write about a harbour.", "{row}");
    }
}

#[test]
fn a_length_may_be_a_float_or_a_text() {
    for length in ["3000", "3000.0", "3e3", r#""3000""#, r#"" 3000.0 ""#, r#""3,000""#] {
        let row = one(&format!(r#"{{"prompt": "x", "length": {length}}}"#));
        assert_eq!(row.unwrap().required_words, Some(3000), "{length}");
    }
    for length in ["3000.5", r#""3000 or so""#, r#""3,00""#, "1e9", "-3000", "true", "[3000]", "1e999"] {
        assert!(row_error(&format!(r#"{{"prompt": "x", "length": {length}}}"#)).contains("`length`"), "{length}");
    }
}

#[test]
fn ids_beyond_64_bits_stay_apart() {
    let rows = rows(
        br#"{"id": 123456789012345678901234567890, "prompt": "a", "metadata": {"n": 98765432109876543210987}}
{"id": 123456789012345678901234567891, "prompt": "b", "metadata": "{\"n\": 98765432109876543210987}"}
"#,
    );
    let rows: Vec<_> = rows.into_iter().map(Result::unwrap).collect();
    let ids: Vec<_> = rows.iter().map(|row| row.id.as_deref().unwrap()).collect();
    assert_eq!(ids, ["123456789012345678901234567890", "123456789012345678901234567891"]);
    assert!(rows.iter().all(|row| row.metadata["n"] == "98765432109876543210987"));
}

#[test]
fn a_value_that_nobody_reads_costs_no_row() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for odd in ["NaN", "1e999", r#""\ud83d""#, &deep] {
        assert_eq!(one(&format!(r#"{{"prompt": "x", "score": {odd}}}"#)).unwrap().text(), "x", "{odd}");
        assert!(row_error(&format!(r#"{{"prompt": {odd}}}"#)).starts_with("1: `prompt`: "), "{odd}");
    }
}

#[test]
fn stated_fields_come_before_what_the_text_says() {
    let row = one(
        r#"{"prompt": "写一篇500字的文章", "length": 3000, "language": "en", "context": ["a", {"id": "k", "text": "b"}],
            "metadata": {"source": "x"}}"#
            .replace('\n', " ")
            .as_str(),
    )
    .unwrap();
    assert_eq!((row.required_words, row.language), (Some(3000), Language::En));
    assert_eq!(
        row.context.iter().map(|c| (c.id.as_str(), c.text.as_str())).collect::<Vec<_>>(),
        [("1", "a"), ("k", "b")]
    );
    assert_eq!(row.metadata["source"], "x");
    let row = one(r#"{"prompt": "写一篇500字的文章", "length": null}"#).unwrap();
    assert_eq!((row.required_words, row.language), (Some(500), Language::Zh));
}

#[test]
fn a_bad_row_names_line_key_and_remedy_and_the_others_are_read() {
    let mut text = String::new();
    for line in 1..=9 {
        text += &if line == 7 { "{\"prompt\": \"cut".to_owned() } else { format!("{{\"prompt\": \"row {line}\"}}") };
        text.push('\n');
    }
    let rows = rows(text.as_bytes());
    assert_eq!(rows.iter().filter(|row| row.is_ok()).count(), 8);
    let bad = rows[6].as_ref().unwrap_err();
    assert_eq!(bad.line, 7);
    let message = bad.to_string();
    assert!(
        message.contains("rows.jsonl:7: broken JSON") && message.ends_with("write one whole JSON object on each line")
    );
    assert_eq!(rows[8].as_ref().unwrap().line, 9);
}

#[test]
fn each_fault_is_told() {
    for (row, want) in [
        (r#"{"id": "a"}"#, "1: the row has no text; add one of `prompt`, `instruction`, `messages` or `body.messages`"),
        (r#"{"prompt": "  "}"#, "1: `prompt`: is empty; write the instruction there"),
        (r#"{"prompt": 5}"#, "1: `prompt`: is a number; expected a string"),
        ("[1]", "1: a list instead of an object; write one JSON object on each line"),
        (
            r#"{"prompt": "x", "length": 5}"#,
            "1: `length`: 5 is out of range; give whole words, 10 to 1000000, or leave the key out",
        ),
        (
            r#"{"prompt": "x", "length": "long"}"#,
            "1: `length`: \"long\" is not a number; give whole words, 10 to 1000000, or leave the key out",
        ),
        (
            r#"{"prompt": "x", "language": "de"}"#,
            "1: `language`: unknown language \"de\"; use `en` or `zh`, or leave the key out",
        ),
        (r#"{"prompt": "x", "metadata": 1}"#, "1: `metadata`: is a number; expected an object"),
        (r#"{"prompt": "x", "context": [{}]}"#, "1: `context[0].text`: is missing; give each text its `text`"),
        (
            r#"{"messages": []}"#,
            "1: `messages`: no turn has the role `user`; add the instruction as a turn with role `user`",
        ),
        (
            r#"{"messages": [{"role": "bot", "content": "x"}]}"#,
            "1: `messages[0].role`: unknown role \"bot\"; use system, user or assistant",
        ),
        (r#"{"body": {}}"#, "1: `body.messages`: is missing; an OpenAI batch line holds its turns there"),
    ] {
        // A list as the first character would make the file a JSON list.
        let row = if row.starts_with('[') { format!("[{row}]") } else { row.to_owned() };
        assert_eq!(row_error(&row), want);
    }
}

#[test]
fn bytes_that_are_not_utf8_are_a_bad_row() {
    let rows = rows(b"{\"prompt\": \"caf\xe9\"}\n{\"prompt\": \"good\"}\n");
    assert!(rows[0].as_ref().unwrap_err().to_string().contains("byte 16 is not UTF-8; convert the file to UTF-8"));
    assert!(rows[1].is_ok());
}

#[test]
fn a_text_of_five_megabytes_is_refused_and_a_line_without_end_is_not_held() {
    let big = format!("{{\"prompt\": \"{}\"}}\n{{\"prompt\": \"good\"}}\n", "x".repeat(5 << 20));
    let rows = rows(big.as_bytes());
    assert!(
        rows[0].as_ref().unwrap_err().to_string().contains("`prompt`: a text of 5242880 bytes; the limit is 1048576")
    );
    assert!(rows[1].is_ok());

    let endless = "x".repeat(MAX_LINE_BYTES * 2 + 5) + "\n{}";
    let mut input: &[u8] = endless.as_bytes();
    let Some(lines::Line::TooLong { bytes, .. }) = lines::next(&mut input).unwrap() else { panic!("held") };
    assert_eq!(bytes, MAX_LINE_BYTES as u64 * 2 + 5);
    assert_eq!(lines::next(&mut input).unwrap(), Some(lines::Line::Whole(b"{}".to_vec())));
    assert_eq!(lines::next(&mut input).unwrap(), None);
}

#[test]
fn an_id_twice_is_one_document_or_a_bad_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(
        &folder,
        "rows.jsonl",
        br#"{"id": "a", "prompt": "one"}
{"id": "a", "prompt": "one"}
{"id": "a", "prompt": "two"}
{"prompt": "no id"}
{"prompt": "no id"}
"#,
    );
    let mut reader = read(&path).unwrap();
    let rows: Vec<_> = (&mut reader).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(reader.repeated(), 2);
    let bad = rows[1].as_ref().unwrap_err();
    assert_eq!((bad.line, bad.key.as_str()), (3, "id"));
    assert!(
        bad.to_string()
            .contains("duplicate id \"a\": line 1 has it too, with other content; give each row a unique id")
    );
}

#[test]
fn compressed_files_are_read_by_content_not_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let text = b"{\"prompt\": \"one\"}\n{\"prompt\": \"two\"}";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text).unwrap();
    let gzip = gzip.finish().unwrap();
    for bytes in [gzip, zstd::encode_all(&text[..], 0).unwrap(), text.to_vec(), [b"\xef\xbb\xbf", &text[..]].concat()] {
        let path = file(&folder, "rows", &bytes);
        let texts: Vec<String> = read(path).unwrap().map(|row| row.unwrap().text()).collect();
        assert_eq!(texts, ["one", "two"]);
    }
    let many: String = (0..5000).map(|n| format!("{{\"prompt\": \"row {n}\"}}\n")).collect();
    let mut cut = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    cut.write_all(many.as_bytes()).unwrap();
    let mut cut = cut.finish().unwrap();
    cut.truncate(cut.len() / 2);
    let last = read(file(&folder, "cut.gz", &cut)).unwrap().last().unwrap().unwrap_err();
    assert!(last.to_string().contains("no row from here on was read"), "{last}");
}

#[test]
fn compressed_files_are_read_as_their_tools_write_them() {
    let folder = tempfile::tempdir().unwrap();
    let texts = |bytes: &[u8]| -> Vec<String> {
        read(file(&folder, "rows", bytes)).unwrap().map(|row| row.unwrap().text()).collect()
    };
    let gzip = |text: &[u8]| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        out.write_all(text).unwrap();
        out.finish().unwrap()
    };
    let (one, two) = (b"{\"prompt\": \"one\"}\n", b"{\"prompt\": \"two\"}\n");
    assert_eq!(texts(&[gzip(one), gzip(two), vec![0; 1000]].concat()), ["one", "two"]);
    assert_eq!(texts(&[gzip(one), vec![0; 70_000], gzip(two)].concat()), ["one", "two"]);

    let frame = zstd::encode_all(&one[..], 0).unwrap();
    let skipped = [&b"\x50\x2a\x4d\x18\x04\0\0\0skip"[..], &frame].concat();
    assert_eq!(texts(&skipped), ["one"]);
    let mut long = zstd::Encoder::new(Vec::new(), 1).unwrap();
    long.window_log(28).unwrap();
    long.write_all(one).unwrap();
    assert_eq!(texts(&long.finish().unwrap()), ["one"]);
}

#[test]
fn a_byte_order_mark_in_the_middle_is_skipped() {
    let rows = rows("\u{feff}{\"prompt\": \"one\"}\n\u{feff}{\"prompt\": \"two\"}\n".as_bytes());
    assert_eq!(rows.into_iter().map(|row| row.unwrap().text()).collect::<Vec<_>>(), ["one", "two"]);
}

#[test]
fn a_format_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut tar = vec![0; 1024];
    tar[..9].copy_from_slice(b"rows.json");
    tar[257..262].copy_from_slice(b"ustar");
    tar.extend_from_slice(b"{\"prompt\": \"one\"}\n");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(&tar).unwrap();
    let utf16 = |encode: fn(u16) -> [u8; 2]| "{\"prompt\": 1}".encode_utf16().flat_map(encode).collect::<Vec<u8>>();
    for (bytes, name, remedy) in [
        (b"\xfd7zXZ\0rest".to_vec(), "xz", "xz -d"),
        (b"BZh91AY".to_vec(), "bzip2", "bunzip2"),
        (b"ARROW1\0\0".to_vec(), "an Arrow file", "Parquet"),
        (b"\xff\xff\xff\xff\x10".to_vec(), "an Arrow stream", "Parquet"),
        (tar, "a tar archive", "tar -xf"),
        (packed.finish().unwrap(), "a tar archive", "tar -xf"),
        (utf16(u16::to_le_bytes), "UTF-16", "iconv -f UTF-16LE"),
        (utf16(u16::to_be_bytes), "UTF-16", "iconv -f UTF-16BE"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "Git LFS", "git lfs pull"),
    ] {
        let error = read(file(&folder, "rows", &bytes)).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(remedy), "{error}");
    }
}

#[test]
fn parquet_decodes_only_what_is_needed() {
    use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
    use parquet::basic::Compression;
    let folder = tempfile::tempdir().unwrap();
    let times: ArrayRef = std::sync::Arc::new(TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC"));
    let prompts: ArrayRef = std::sync::Arc::new(StringArray::from(vec!["one"]));
    let lengths: ArrayRef = std::sync::Arc::new(Float64Array::from(vec![3000.0]));
    let turn = arrow_array::StructArray::from(RecordBatch::try_from_iter([("seen", times.clone())]).unwrap());
    let nested: ArrayRef = std::sync::Arc::new(turn);
    let batch =
        RecordBatch::try_from_iter([("time", times), ("prompt", prompts), ("length", lengths), ("metadata", nested)]);
    let batch = batch.unwrap();
    let write = |compression| {
        let properties = parquet::file::properties::WriterProperties::builder().set_compression(compression).build();
        let mut bytes = Vec::new();
        let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        bytes
    };
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(Default::default())] {
        let row = read(file(&folder, "rows", &write(compression))).unwrap().next().unwrap().unwrap();
        assert_eq!((row.text().as_str(), row.required_words), ("one", Some(3000)));
    }
}

#[test]
fn a_json_list_is_read_one_row_at_a_time() {
    let list = r#"
  [
    {"prompt": "one, [two] and {three}", "metadata": {"a": [1, {"b": "\\\"], ["}]}},
    {"prompt": "four\\"} , 5,
    {
      "prompt": "six"
    }
  ]
"#;
    let read = rows(list.as_bytes());
    let texts: Vec<_> = read.iter().map(|row| row.as_ref().map(Instruction::text).unwrap_or_default()).collect();
    assert_eq!(texts, ["one, [two] and {three}", "four\\", "", "six"]);
    assert_eq!(read[2].as_ref().unwrap_err().line, 3);
    let cut = rows(&list.as_bytes()[..list.len() - 20]);
    assert_eq!(cut.iter().filter(|row| row.is_ok()).count(), 2);
    assert!(cut.last().unwrap().as_ref().unwrap_err().to_string().contains("the JSON list has no end"));
}

#[test]
fn parquet_rows_are_read_like_lines() {
    use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    let prompts: ArrayRef = std::sync::Arc::new(StringArray::from(vec![Some("one"), None, Some("写一篇")]));
    let lengths: ArrayRef = std::sync::Arc::new(Int64Array::from(vec![Some(700), Some(800), None]));
    let batch =
        RecordBatch::try_from_iter_with_nullable([("prompt", prompts, true), ("length", lengths, true)]).unwrap();
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<_> = read(file(&folder, "rows.parquet", &bytes)).unwrap().collect();
    assert_eq!(rows[0].as_ref().unwrap().required_words, Some(700));
    assert!(rows[1].as_ref().unwrap_err().to_string().contains("rows.parquet:2: the row has no text"));
    assert_eq!(rows[2].as_ref().unwrap().text(), "写一篇");
    let other = batch.project(&[1]).unwrap();
    let mut odd = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut odd, other.schema(), None).unwrap();
    writer.write(&other).unwrap();
    writer.close().unwrap();
    let error = read(file(&folder, "odd.parquet", &odd)).unwrap_err().to_string();
    assert!(
        error.contains("odd.parquet: no column holds instructions; the columns are `length`; expected `prompt`"),
        "{error}"
    );
    assert!(error.contains("longhand import --field"), "{error}");
    bytes.truncate(bytes.len() / 2);
    assert!(read(file(&folder, "cut.parquet", &bytes)).unwrap_err().to_string().contains("not a Parquet file"));
}

#[test]
fn a_file_that_cannot_be_used_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let error = |bytes: &[u8]| read(file(&folder, "rows", bytes)).unwrap_err().to_string();
    for empty in [&b""[..], b"\n \r\n\n"] {
        assert!(error(empty).contains("the file holds no rows; expected one JSON object on each line"));
    }
    assert!(error(b"[ ]").contains("no rows"));
    assert!(error(b"\xff\xfe{\0").contains("UTF-16"));
    assert!(error(b"PK\x03\x04zip").contains("a zip archive"));
    assert!(error(b"\x1f\x8bnot gzip").contains("rows"));
    assert!(read(folder.path().join("none")).unwrap_err().to_string().contains("check the path"));
}

#[test]
fn the_summary_counts_every_row_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(
        &folder,
        "rows.jsonl",
        "{\"prompt\": \"Write 300 words\"}\n{\"prompt\": \"Write 300 words\"}\n{\"prompt\": \"写2000字\"}\n{\"prompt\": \"Write\"}\n\
         {\"prompt\": \"a\", \"length\": 20000}\n{\"prompt\": \"b\", \"length\": 20001}\n{\"prompt\": \"c\", \"length\": 500}\nbroken\n"
            .as_bytes(),
    );
    let summary = validate(path).unwrap();
    assert_eq!((summary.rows, summary.repeated, summary.bad), (6, 1, 1));
    assert_eq!((summary.english, summary.chinese), (5, 1));
    assert_eq!((summary.lengths, summary.no_length), ([1, 1, 1, 1, 1], 1));
    assert_eq!(summary.bad_rows[0].line, 8);
}
