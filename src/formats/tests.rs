//! What tests of several formats share.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::RecordFormat;
use crate::error::Result;
use crate::options::Options;

/// Columns as SQL has them: `a INT NOT NULL, b ROW<c STRING>`.
pub(crate) fn schema(columns: &str) -> SchemaRef {
    if columns.is_empty() {
        return Arc::new(Schema::empty());
    }
    let row = crate::sql::parse_type(&format!("ROW<{columns}>")).unwrap().to_arrow();
    let DataType::Struct(fields) = row else { panic!("{row}") };
    Arc::new(Schema::new(fields))
}

/// Options under a prefix.
pub(crate) fn options(prefix: &str, options: &[(&str, &str)]) -> Options {
    let all: BTreeMap<String, String> =
        options.iter().map(|(k, v)| (format!("{prefix}{k}"), (*v).to_owned())).collect();
    Options::new("t", "test", &all)
}

/// Rows as text.
pub(crate) fn show(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> =
        batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
    (0..batch.num_rows())
        .map(|i| columns.iter().map(|c| c.value(i).to_string()).collect::<Vec<_>>().join("|"))
        .collect()
}

/// The rows of records.
pub(crate) fn read<R: AsRef<[u8]>>(format: &dyn RecordFormat, records: &[R]) -> Result<RecordBatch> {
    let all: Vec<usize> = (0..format.schema().fields().len()).collect();
    let mut decoder = format.row_decoder(&all)?;
    for record in records {
        let before = decoder.rows();
        if let Err(e) = decoder.decode(record.as_ref()) {
            assert_eq!(decoder.rows(), before, "rows of a bad record");
            return Err(e);
        }
    }
    decoder.finish()
}

/// The records of rows.
pub(crate) fn write(format: &dyn RecordFormat, rows: &RecordBatch) -> Result<Vec<Vec<u8>>> {
    let (mut buffer, mut ends) = (Vec::new(), Vec::new());
    format.encoder()?.encode(rows, &mut buffer, &mut ends)?;
    let mut start = 0;
    Ok(ends.into_iter().map(|end| buffer[std::mem::replace(&mut start, end)..end].to_vec()).collect())
}

/// Bytes from hexadecimal text.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// Bytes as hexadecimal text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Decodes damaged copies of a record among good ones: whatever becomes of them, the good ones are as they were.
pub(crate) fn survive(format: &dyn RecordFormat, good: &[u8]) {
    let all: Vec<usize> = (0..format.schema().fields().len()).collect();
    let wanted = show(&read(format, &[good]).unwrap());
    let mut decoder = format.row_decoder(&all).unwrap();
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for _ in 0..2_000 {
        let mut bad = good.to_vec();
        for _ in 0..=random(3) {
            match random(3) {
                0 => bad.truncate(random(bad.len().max(1))),
                1 if !bad.is_empty() => {
                    let at = random(bad.len());
                    bad[at] = random(256) as u8;
                }
                _ => bad.insert(random(bad.len() + 1), random(256) as u8),
            }
        }
        decoder.decode(good).unwrap();
        let rows = decoder.rows();
        if decoder.decode(&bad).is_err() {
            assert_eq!(decoder.rows(), rows, "rows of a bad record");
        }
        let after = decoder.rows();
        decoder.decode(good).unwrap();
        let batch = decoder.finish().unwrap();
        assert_eq!(show(&batch.slice(0, 1)), wanted);
        assert_eq!(show(&batch.slice(after, 1)), wanted);
    }
}
