//! What tools and people really write, and no format allows: read as it is meant, or told with the way out.

use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BinaryArray, BinaryViewArray, DictionaryArray, FixedSizeListArray, LargeBinaryArray, RecordBatch,
    StringArray, StructArray, TimestampMicrosecondArray, TimestampSecondArray,
};
use arrow_schema::{DataType, Field};

use super::*;

fn told(row: &str) -> String {
    row_error(row)
}

#[test]
fn objects_over_lines_and_on_one_line_are_told_with_the_tool_that_mends_them() {
    for (row, want) in [
        (r#"{"prompt":"a"}{"prompt":"b"}"#, "several JSON objects on one line"),
        (r#"{"prompt":"a"} {"prompt":"b"}"#, "several JSON objects on one line"),
        ("{\"prompt\":\"a\"}\r{\"prompt\":\"b\"}\r", "several JSON objects on one line"),
    ] {
        let told = told(row);
        assert!(told.contains(want) && told.contains("jq -c . FILE"), "{told}");
    }
    assert!(told(r#"{"prompt":"a"},"#).contains("a comma behind the object; leave it out"));
    let pretty = rows(b"{\n  \"prompt\": \"a\"\n}\n");
    assert!(pretty[0].as_ref().unwrap_err().to_string().contains("a JSON object over several lines"));
}

#[test]
fn a_row_without_text_says_where_it_may_be() {
    let error = told(r#"{"Prompt":"a","id":1}"#);
    assert!(error.contains("longhand import --field`: the row has `Prompt`"), "{error}");
    let error = told(r#"{"data":[{"prompt":"a"},{"prompt":"b"}]}"#);
    assert!(error.contains("the rows are in `data`: write them out with `jq -c '.data[]'`"), "{error}");
    assert!(!told("{\"\\u001b[31m\":1}").contains('\u{1b}'), "no mark of a terminal");
}

#[test]
fn a_text_that_nobody_sees_is_empty() {
    for text in ["\\u200b\\u200b", "\\ufeff", " \\u0000\\u00ad\\n", "\\u202e\\u2060"] {
        assert!(told(&format!(r#"{{"prompt":"{text}"}}"#)).contains("`prompt`: is empty"), "{text}");
    }
    assert_eq!(one(r#"{"prompt":"\u200bWrite."}"#).unwrap().text(), "\u{200b}Write.");
}

/// As pandas and spreadsheets write what is missing.
#[test]
fn an_empty_text_or_nan_beside_the_prompt_says_nothing() {
    for missing in [r#""""#, r#"" ""#, "NaN", "null"] {
        let row = one(&format!(
            r#"{{"prompt":"Write 300 words.","id":{missing},"length":{missing},"language":{missing},"context":{missing},"metadata":{missing}}}"#
        ));
        let row = row.unwrap();
        assert_eq!((row.id, row.required_words, row.language), (None, Some(300), Language::En), "{missing}");
        assert!(row.context.is_empty() && row.metadata.is_empty());
    }
}

#[test]
fn languages_have_many_names() {
    for (names, language) in [
        (["en", " EN ", "en-US", "English", "eng", "英文"], Language::En),
        (["zh", "zh_Hans", "Chinese (Simplified)", "cmn", "zho", "中文"], Language::Zh),
    ] {
        for name in names {
            assert_eq!(one(&format!(r#"{{"prompt":"x","language":"{name}"}}"#)).unwrap().language, language, "{name}");
        }
    }
    assert!(told(r#"{"prompt":"x","language":"german"}"#).contains("unknown language \"german\""));
}

#[test]
fn one_text_is_a_context_of_one() {
    let row = one(r#"{"prompt":"x","context":"Some facts."}"#).unwrap();
    assert_eq!((row.context.len(), row.context[0].text.as_str()), (1, "Some facts."));
    assert!(told(r#"{"prompt":"x","context":["a",""]}"#).contains("`context[1]`: is empty; leave it out"));
}

#[test]
fn a_file_of_another_kind_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let utf_32 = "{\"prompt\": 1}".chars().flat_map(|c| (c as u32).to_le_bytes()).collect::<Vec<u8>>();
    let marked = [b"\xff\xfe\0\0".to_vec(), utf_32.clone()].concat();
    let record = [&21_u64.to_le_bytes()[..], b"\xaa\xbb\xcc\xddrecord"].concat();
    let gzip = |bytes: &[u8]| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    };
    let twice = gzip(&gzip(b"{\"prompt\": \"one\"}\n"));
    for (name, bytes, kind, remedy) in [
        ("a", utf_32, "UTF-32", "iconv -f UTF-32LE"),
        ("a", marked, "UTF-32", "iconv -f UTF-32 "),
        ("a", record, "a TFRecord file", "Parquet"),
        ("a", vec![0; 600], "a file of zero bytes", "fetch it again"),
        ("a", b"\x80\x04\x95".to_vec(), "a Python pickle", "JSON Lines"),
        ("a", b"\x89HDF\r\n\x1a\n".to_vec(), "an HDF5 file", "Parquet"),
        ("a", b"FEA1".to_vec(), "a Feather file", "Parquet"),
        ("a", b"PAREabc".to_vec(), "an encrypted Parquet file", "decrypt"),
        ("a", b"PK\x03\x04..[Content_Types].xml".to_vec(), "an Excel workbook", "JSON Lines"),
        ("a", b"PK\x03\x04..x.npy".to_vec(), "a NumPy archive", "Parquet"),
        ("a", twice, "gzip inside a compressed file", "unpack it once"),
        ("a", gzip(b"PAR1..."), "a Parquet file inside a compressed file", "unpack it first"),
        ("a.csv", b"id,prompt\n1,x\n".to_vec(), "a CSV file", "read_csv"),
        ("a.TSV.gz", gzip(b"id\tprompt\n"), "a TSV file", "read_csv"),
        ("a.txt", b"Write about tea.\n".to_vec(), "a text file", "jq -Rc"),
        ("a.yml", b"- prompt: x\n".to_vec(), "a YAML file", "JSON Lines"),
        ("a.jsonl.br", b"\x0b\x0c\x80abc".to_vec(), "Brotli", "brotli -d"),
    ] {
        let error = read(file(&folder, name, &bytes)).unwrap_err().to_string();
        assert!(error.contains(kind) && error.contains(remedy), "{kind}: {error}");
    }
    let misnamed = read(file(&folder, "rows.csv", b"{\"prompt\": \"one\"}\n")).unwrap();
    assert_eq!(misnamed.map(|row| row.unwrap().text()).collect::<Vec<_>>(), ["one"], "what a file holds counts");
}

/// Rows of a Parquet file with these columns.
fn parquet(columns: Vec<(&str, ArrayRef)>) -> Vec<Result<Instruction, BadRow>> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let folder = tempfile::tempdir().unwrap();
    read(file(&folder, "rows.parquet", &bytes)).unwrap().collect()
}

/// Spark, Impala and fastparquet leave out that a column is text.
#[test]
fn bytes_of_a_parquet_file_that_are_text_are_text() {
    let texts: Vec<&[u8]> = vec!["Write \"one\"\n写".as_bytes(), b"caf\xe9", b"three"];
    let keys: DictionaryArray<Int32Type> =
        DictionaryArray::new(vec![0, 1, 2].into(), Arc::new(BinaryArray::from_vec(texts.clone())));
    let columns: [ArrayRef; 4] = [
        Arc::new(BinaryArray::from_vec(texts.clone())),
        Arc::new(LargeBinaryArray::from_vec(texts.clone())),
        Arc::new(BinaryViewArray::from_iter_values(texts)),
        Arc::new(keys),
    ];
    for column in columns {
        let rows = parquet(vec![("prompt", column)]);
        assert_eq!(rows[0].as_ref().unwrap().text(), "Write \"one\"\n写");
        let bad = rows[1].as_ref().unwrap_err().to_string();
        assert!(bad.contains("rows.parquet:2: `prompt`: holds a value that is not JSON"), "{bad}");
        assert_eq!(rows[2].as_ref().unwrap().text(), "three");
    }
    let column = |bytes: &'static [u8]| -> ArrayRef { Arc::new(BinaryArray::from_vec(vec![bytes])) };
    let turn = RecordBatch::try_from_iter([("role", column(b"user")), ("content", column(b"Hi"))]).unwrap();
    let item = Field::new("item", DataType::Struct(turn.schema().fields().clone()), true);
    let turns = FixedSizeListArray::new(Arc::new(item), 1, Arc::new(StructArray::from(turn)), None);
    assert_eq!(parquet(vec![("messages", Arc::new(turns))])[0].as_ref().unwrap().text(), "Hi");
}

#[test]
fn times_and_bytes_beside_the_text_are_kept() {
    let prompts: ArrayRef = Arc::new(StringArray::from(vec!["one", "two"]));
    let ids: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_700_000_000_250_000, i64::MAX]));
    let zoned: ArrayRef = Arc::new(TimestampSecondArray::from(vec![1_700_000_000; 2]).with_timezone("Asia/Shanghai"));
    let image: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"\xff\x00".as_slice(), b"text"]));
    let metadata = RecordBatch::try_from_iter([("time", zoned), ("image", image)]).unwrap();
    let metadata: ArrayRef = Arc::new(StructArray::from(metadata));
    let rows = parquet(vec![("id", ids), ("prompt", prompts), ("metadata", metadata)]);
    let first = rows[0].as_ref().unwrap();
    assert_eq!(first.id.as_deref(), Some("2023-11-14T22:13:20.250"));
    assert_eq!(first.metadata["time"], "2023-11-14T22:13:20Z", "as it is stored");
    assert_eq!(first.metadata["image"], "ff00");
    let second = rows[1].as_ref().unwrap();
    assert_eq!((second.text().as_str(), &second.metadata["image"]), ("two", &"text".into()));
}
