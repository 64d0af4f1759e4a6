//! The formats of change data capture tools: `debezium-json`, `canal-json`, `maxwell-json`, `ogg-json`.
//!
//! ```text
//!  message ─► envelope (op, places of the row images) ─► dialect ─► row images ─► ObjectReader of `json` ─► rows + kinds
//!  rows + kinds ─► `json` objects in an envelope: +I and +U as inserts, -U and -D as deletes
//! ```
//!
//! | format | written by | operation | new row | old row |
//! |---|---|---|---|---|
//! | debezium-json | Debezium | `op`: c, r, u, d | `after` | `before`, whole |
//! | canal-json | Canal | `type`: INSERT, UPDATE, DELETE | `data`: several rows | `old`: the changed fields of each |
//! | maxwell-json | Maxwell | `type`: insert, update, delete | `data` | `old`: the changed fields |
//! | ogg-json | Oracle GoldenGate | `op_type`: I, U, D | `after` | `before`, whole |
//!
//! An insert is `+I`, an update `-U` and `+U`, a delete `-D`. A message without text (the tombstone that Debezium sends
//! after a delete) is no row. A message that cannot be read gives none of its rows.
//!
//! `rest-column` is an option of our own, as of `json`: a column for all fields of a row that have none.
//!
//! Options and results are Flink's otherwise, with two differences: `canal-json` looks for the changed fields of a row in the old
//! image of that row only (Flink looks in all of them), and `ogg-json` reads timestamps of its metadata in both notations
//! whatever `timestamp-format.standard` says, as GoldenGate writes both.

mod decode;
mod encode;
mod metadata;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};
use regex::Regex;

use self::metadata::METADATA;
use super::json::{JsonOptions, check_types, loosened, rest_column};
use super::{RecordEncoder, RecordFormat, RowDecoder};
use crate::edges::SourceChangelog;
use crate::error::{Error, Result};
use crate::options::Options;

/// Whose messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Debezium,
    Canal,
    Maxwell,
    Ogg,
}

/// What a message says that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Insert,
    Update,
    Delete,
    /// A change of the table's definition.
    Definition,
}

impl Dialect {
    /// As the messages of errors call it.
    fn title(self) -> &'static str {
        match self {
            Dialect::Debezium => "Debezium",
            Dialect::Canal => "Canal",
            Dialect::Maxwell => "Maxwell",
            Dialect::Ogg => "Ogg",
        }
    }

    /// Name of the format.
    fn format(self) -> &'static str {
        match self {
            Dialect::Debezium => "debezium-json",
            Dialect::Canal => "canal-json",
            Dialect::Maxwell => "maxwell-json",
            Dialect::Ogg => "ogg-json",
        }
    }

    /// Names of the fields that hold the new row, the old row and the operation.
    fn fields(self) -> [&'static str; 3] {
        match self {
            Dialect::Debezium => ["after", "before", "op"],
            Dialect::Canal | Dialect::Maxwell => ["data", "old", "type"],
            Dialect::Ogg => ["after", "before", "op_type"],
        }
    }

    /// What the text of the operation means.
    fn op(self, text: &str) -> Option<Op> {
        Some(match (self, text) {
            (Dialect::Debezium, "c" | "r") => Op::Insert,
            (Dialect::Debezium, "u") => Op::Update,
            (Dialect::Debezium, "d") => Op::Delete,
            (Dialect::Canal, "INSERT") | (Dialect::Maxwell, "insert") | (Dialect::Ogg, "I") => Op::Insert,
            (Dialect::Canal, "UPDATE") | (Dialect::Maxwell, "update") | (Dialect::Ogg, "U") => Op::Update,
            (Dialect::Canal, "DELETE") | (Dialect::Maxwell, "delete") | (Dialect::Ogg, "D") => Op::Delete,
            (Dialect::Canal, "CREATE") => Op::Definition,
            _ => return None,
        })
    }

    /// The texts it writes for an insert and a delete.
    fn written_ops(self) -> (&'static str, &'static str) {
        match self {
            Dialect::Debezium => ("c", "d"),
            Dialect::Canal => ("INSERT", "DELETE"),
            Dialect::Maxwell => ("insert", "delete"),
            Dialect::Ogg => ("I", "D"),
        }
    }
}

/// A format of change messages with its options.
#[derive(Debug)]
pub struct CdcFormat {
    dialect: Dialect,
    schema: SchemaRef,
    json: JsonOptions,
    /// Messages come with their schema, in a `payload`.
    schema_include: bool,
    /// `canal-json`: databases and tables to read.
    database: Option<Regex>,
    table: Option<Regex>,
    /// `rest-column`: the column for all fields of a row that have none.
    rest: Option<usize>,
}

impl CdcFormat {
    /// The format `name`; takes the options that begin with `prefix`.
    ///
    /// # Errors
    /// Validation for bad options, Unsupported for column types that JSON cannot hold.
    pub fn new(name: &str, options: &Options, prefix: &str, schema: SchemaRef) -> Result<Self> {
        let dialect = [Dialect::Debezium, Dialect::Canal, Dialect::Maxwell, Dialect::Ogg]
            .into_iter()
            .find(|d| d.format() == name)
            .ok_or_else(|| Error::internal(format!("'{name}' is no format of change messages")))?;
        let json = JsonOptions::new(options, prefix)?;
        let rest = rest_column(options, &format!("{prefix}rest-column"), &schema)?;
        let mut format =
            CdcFormat { dialect, schema, json, schema_include: false, database: None, table: None, rest };
        match dialect {
            Dialect::Debezium => {
                format.schema_include = options.bool(&format!("{prefix}schema-include"), false)?;
            }
            Dialect::Canal => {
                let pattern = |key: &str| -> Result<Option<Regex>> {
                    let key = format!("{prefix}{key}");
                    options
                        .take(&key)
                        .map(|text| {
                            Regex::new(&format!("^(?:{text})$"))
                                .map_err(|_| options.invalid(&key, &text, "a regular expression"))
                        })
                        .transpose()
                };
                format.database = pattern("database.include")?;
                format.table = pattern("table.include")?;
            }
            Dialect::Maxwell | Dialect::Ogg => {}
        }
        check_types(&format.schema)?;
        Ok(format)
    }
}

impl RecordFormat for CdcFormat {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn changelog(&self) -> SourceChangelog {
        SourceChangelog::Retract
    }

    fn metadata(&self) -> Vec<Field> {
        METADATA.iter().filter(|m| m.dialect == self.dialect).map(metadata::Metadata::field).collect()
    }

    fn row_decoder(&self, projection: &[usize]) -> Result<Box<dyn RowDecoder>> {
        self.row_decoder_with(projection, &[])
    }

    fn row_decoder_with(&self, projection: &[usize], metadata: &[usize]) -> Result<Box<dyn RowDecoder>> {
        let all: Vec<_> = METADATA.iter().filter(|m| m.dialect == self.dialect).collect();
        let chosen = metadata
            .iter()
            .map(|i| all.get(*i).copied().ok_or_else(|| Error::internal("metadata out of range")))
            .collect::<Result<Vec<_>>>()?;
        Ok(Box::new(match self.rest.filter(|rest| projection.contains(rest)) {
            None => decode::CdcDecoder::new(self, &self.schema.project(projection)?, None, &chosen)?,
            // Only with all columns is it known what has none, or does not fit its own.
            Some(rest) => {
                let schema = loosened(&self.schema, projection);
                decode::CdcDecoder::new(self, &schema, Some(rest), &chosen)?.only(projection)
            }
        }))
    }

    fn encoder(&self) -> Result<Box<dyn RecordEncoder>> {
        if self.schema_include {
            return Err(Error::validation(
                "Debezium JSON serialization doesn't support 'debezium-json.schema-include' option been set to true.",
            )
            .hint("read such topics; write without the option"));
        }
        Ok(Box::new(encode::CdcEncoder::new(self.dialect, Arc::clone(&self.schema), self.json)))
    }

    /// The changes of one key have to stay in order, so a file has one reader.
    fn splittable(&self) -> bool {
        false
    }
}
