//! Keys and values of records: their formats and columns.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};

use crate::catalog::ResolvedTable;
use crate::edges::SourceChangelog;
use crate::error::{Error, Result, ResultExt};
use crate::formats::{RecordFormat, RecordPlace, message_format};
use crate::options::Options;

/// The key or the value of the records.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// The format of its columns, as the format names them (a key prefix taken off).
    pub(super) format: Arc<dyn RecordFormat>,
    /// Positions of its columns among the physical columns.
    pub(super) columns: Vec<usize>,
    /// Whether a record without bytes is read as a row of NULLs: `raw`, and values that delete.
    pub(super) null_is_row: bool,
    /// Whether NULL in the first column is written as a record without bytes: `raw`.
    pub(super) null_is_absent: bool,
}

impl Part {
    /// Its columns out of a batch, under the names the format knows. `at` tells where they are.
    pub(super) fn select(&self, rows: &RecordBatch, at: &[usize]) -> Result<RecordBatch> {
        let columns = rows.project(at)?.columns().to_vec();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(self.format.schema()), columns, &options)?)
    }
}

/// Formats and columns of key and value, and the name of the value's format.
pub(super) fn parts(
    options: &Options,
    table: &ResolvedTable,
    name: &str,
    topic: Option<&str>,
) -> Result<(Option<Part>, Part, String)> {
    let fail = |text: &str| Error::validation(format!("table {name}: {text}"));
    // The options of a format stand under the key that chose it: `json.…`, `value.json.…`, `key.json.…`.
    let (value_format, value_prefix) = match (options.take("format"), options.take("value.format")) {
        (Some(_), Some(_)) => {
            return Err(fail("'format' and 'value.format' are the same option: give one of them"));
        }
        (Some(f), None) => (f.clone(), format!("{f}.")),
        (None, Some(f)) => (f.clone(), format!("value.{f}.")),
        (None, None) => {
            return Err(fail("one or more required options are missing: 'format'")
                .hint("add 'format' = 'json', 'csv' or 'raw' to the WITH clause"));
        }
    };
    let key_format = options.take("key.format");
    let key_fields = options.take("key.fields");
    let prefix = options.take("key.fields-prefix").unwrap_or_default();
    let except_key = options.one_of("value.fields-include", &["ALL", "EXCEPT_KEY"])? == Some("EXCEPT_KEY");

    if !prefix.is_empty() && !except_key {
        return Err(fail(OVERLAP));
    }
    let key = match (key_format, key_fields) {
        (None, None) => None,
        (None, Some(_)) => {
            return Err(fail(
                "The option 'key.fields' can only be declared if a key format is defined using 'key.format'.",
            ));
        }
        (Some(format), fields) => {
            let fields: Vec<String> = fields
                .iter()
                .flat_map(|f| f.split(';'))
                .map(|f| f.trim().to_owned())
                .filter(|f| !f.is_empty())
                .collect();
            if fields.is_empty() {
                return Err(fail(&format!(
                    "A key format '{format}' requires the declaration of one or more of key fields using 'key.fields'."
                )));
            }
            let what = "'key.fields'";
            Some(key_part(options, table, name, (&format, topic), &fields, &prefix, what)?)
        }
    };
    let value = value_part(
        options,
        table,
        name,
        (&value_format, &value_prefix, topic),
        key.as_ref().filter(|_| except_key),
    )?;
    Ok((key, value, value_format))
}

/// Formats and columns of key and value of an `upsert-kafka` table: the key is the primary key.
pub(super) fn upsert_parts(
    options: &Options,
    table: &ResolvedTable,
    name: &str,
    topic: Option<&str>,
) -> Result<(Option<Part>, Part, String)> {
    let fail = |text: &str| Error::validation(format!("table {name}: {text}"));
    let Some(pk) = &table.def.primary_key else {
        return Err(fail(
            "'upsert-kafka' tables require to define a PRIMARY KEY constraint. The PRIMARY KEY specifies which columns should be read from or write to the Kafka message key. The PRIMARY KEY also defines records in the 'upsert-kafka' table should update or delete on which keys.",
        )
        .hint("add PRIMARY KEY (…) NOT ENFORCED"));
    };
    let key_format = options.require("key.format")?;
    let value_format = options.require("value.format")?;
    let prefix = options.take("key.fields-prefix").unwrap_or_default();
    let except_key = options.one_of("value.fields-include", &["ALL", "EXCEPT_KEY"])? == Some("EXCEPT_KEY");
    if !prefix.is_empty() && !except_key {
        return Err(fail(OVERLAP));
    }
    let key = key_part(options, table, name, (&key_format, topic), &pk.columns, &prefix, "the PRIMARY KEY")?;
    let value_prefix = format!("value.{value_format}.");
    let mut value =
        value_part(options, table, name, (&value_format, &value_prefix, topic), except_key.then_some(&key))?;
    if value.format.changelog() != SourceChangelog::AppendOnly {
        return Err(fail(&format!(
            "'upsert-kafka' connector doesn't support '{value_format}' as value format, because '{value_format}' is not in insert-only mode."
        ))
        .hint("use 'connector' = 'kafka' for change messages, or 'json', 'csv' or 'raw' here"));
    }
    // A record without a value deletes the row of its key.
    value.null_is_row = true;
    Ok((Some(key), value, value_format))
}

const OVERLAP: &str = "A key prefix is not allowed when option 'value.fields-include' is set to 'ALL'. Set it to 'EXCEPT_KEY' instead to avoid field overlaps.";

/// The key out of the columns `fields`, which `what` names.
fn key_part(
    options: &Options,
    table: &ResolvedTable,
    name: &str,
    (format, topic): (&str, Option<&str>),
    fields: &[String],
    prefix: &str,
    what: &str,
) -> Result<Part> {
    let fail = |text: &str| Error::validation(format!("table {name}: {text}"));
    let mut columns = Vec::new();
    let mut stripped = Vec::new();
    for field in fields {
        let Ok(index) = table.physical.index_of(field) else {
            let known: Vec<&str> = table.physical.fields().iter().map(|f| f.name().as_str()).collect();
            return Err(fail(&format!(
                "Could not find the field '{field}' in the table schema for usage in the key format. A key field must be a regular, physical column."
            ))
            .hint(format!("the following columns can be selected in the 'key.fields' option: {}", known.join(", "))));
        };
        let Some(short) = field.strip_prefix(prefix) else {
            return Err(fail(&format!(
                "All fields in {what} must be prefixed with '{prefix}' when option 'key.fields-prefix' is set but field '{field}' is not prefixed."
            )));
        };
        if columns.contains(&index) {
            return Err(fail(&format!("{what} names '{field}' twice")));
        }
        columns.push(index);
        let column = table.physical.field(index);
        stripped.push(Field::new(short, column.data_type().clone(), column.is_nullable()));
    }
    let schema = Arc::new(Schema::new(stripped));
    let null_is_row = format == "raw";
    let place = RecordPlace { topic: topic.map(str::to_owned), key: true };
    let part = message_format(format, options, &format!("key.{format}."), schema, &place)
        .context(|| format!("table {name}, key format"))?;
    if part.changelog() != SourceChangelog::AppendOnly {
        return Err(fail(&format!(
            "A key format should only deal with INSERT-only records. But '{format}' has a changelog mode of [INSERT, UPDATE_BEFORE, UPDATE_AFTER, DELETE]."
        )));
    }
    Ok(Part { format: part, columns, null_is_row, null_is_absent: null_is_row })
}

/// The value: all columns but those of `except`.
fn value_part(
    options: &Options,
    table: &ResolvedTable,
    name: &str,
    (format, prefix, topic): (&str, &str, Option<&str>),
    except: Option<&Part>,
) -> Result<Part> {
    let columns: Vec<usize> = (0..table.physical.fields().len())
        .filter(|i| except.is_none_or(|k| !k.columns.contains(i)))
        .collect();
    let schema = Arc::new(table.physical.project(&columns)?);
    let place = RecordPlace { topic: topic.map(str::to_owned), key: false };
    let part = message_format(format, options, prefix, schema, &place)
        .context(|| format!("table {name}, value format"))?;
    let raw = format == "raw";
    Ok(Part { format: part, columns, null_is_row: raw, null_is_absent: raw })
}
