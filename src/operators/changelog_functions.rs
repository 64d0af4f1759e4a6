//! `TO_CHANGELOG` and `FROM_CHANGELOG`: kinds of changes as values of a column, and back.
//!
//! ```text
//!  -U 1 a │ +U 1 b   ─► ToChangelog   ─► +I UPDATE_BEFORE 1 a │ +I UPDATE_AFTER 1 b
//!  +I UPDATE_BEFORE 1 a │ …           ─► FromChangelog ─► -U 1 a │ …
//! ```
//!
//! | | |
//! |---|---|
//! | state | none |
//! | changelog | To: any in, append-only out. From: append-only in, what the codes say out |
//! | watermark, barrier, end | pass |
//!
//! A `-U` of FROM_CHANGELOG whose `+U` is not the next row of its batch is a `-D`, and a `+U` by itself a `+I`: the table
//! is the same, and whoever looks at pairs finds them whole.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StringBuilder, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::runtime::operator::{Operator, Output, Progress};
use crate::stream::{ChangeBatch, RowKind, RowKinds};

/// Kinds become the values of a first column.
#[derive(Debug)]
pub struct ToChangelogOperator {
    codes: [Option<String>; 4],
    schema: SchemaRef,
}

impl ToChangelogOperator {
    /// `codes`: the value of each kind by its code, `None` for changes that are dropped. `schema`: of the result.
    pub fn new(codes: [Option<String>; 4], schema: SchemaRef) -> Self {
        ToChangelogOperator { codes, schema }
    }

    fn code(&self, kind: u8) -> Option<&str> {
        self.codes.get(usize::from(kind)).and_then(|c| c.as_deref())
    }
}

impl Operator for ToChangelogOperator {
    fn name(&self) -> &'static str {
        "ToChangelog"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let rows = batch.num_rows();
        let (ops, input): (ArrayRef, RecordBatch) = match &batch.kinds {
            None => match self.code(RowKind::Insert as u8) {
                Some(code) => {
                    (Arc::new(StringArray::from_iter_values(std::iter::repeat_n(code, rows))), batch.rows)
                }
                None => return Ok(Progress::Done),
            },
            Some(kinds) => {
                let mut ops = StringBuilder::with_capacity(rows, rows * 8);
                let mut kept: Vec<u32> = Vec::with_capacity(rows);
                for (row, kind) in kinds.codes().iter().enumerate() {
                    if let Some(code) = self.code(*kind) {
                        ops.append_value(code);
                        kept.push(row as u32);
                    }
                }
                let input = if kept.len() == rows {
                    batch.rows
                } else {
                    take_record_batch(&batch.rows, &UInt32Array::from(kept))?
                };
                (Arc::new(ops.finish()), input)
            }
        };
        let mut columns = vec![ops];
        columns.extend_from_slice(input.columns());
        out.emit(ChangeBatch::insert_only(RecordBatch::try_new(self.schema.clone(), columns)?));
        Ok(Progress::Done)
    }
}

/// The values of a column become kinds.
#[derive(Debug)]
pub struct FromChangelogOperator {
    op: usize,
    codes: Vec<(String, RowKind)>,
    schema: SchemaRef,
}

impl FromChangelogOperator {
    /// `op`: the column with the codes. `schema`: of the result, without it.
    pub fn new(op: usize, codes: Vec<(String, RowKind)>, schema: SchemaRef) -> Self {
        FromChangelogOperator { op, codes, schema }
    }
}

impl Operator for FromChangelogOperator {
    fn name(&self) -> &'static str {
        "FromChangelog"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        if batch.kinds.is_some() {
            return Err(Error::internal("FromChangelog: updates in append-only input"));
        }
        let mut columns = batch.rows.columns().to_vec();
        if self.op >= columns.len() {
            return Err(Error::internal("FromChangelog: its column is missing"));
        }
        let ops = columns.remove(self.op);
        let ops: &StringArray = ops
            .as_string_opt::<i32>()
            .ok_or_else(|| Error::internal("FromChangelog: its column is no text"))?;
        let mut kinds = Vec::with_capacity(ops.len());
        for op in ops {
            let Some(op) = op else {
                return Err(Error::data(
                    "Received NULL op code. Every changelog row must carry an operation code",
                )
                .hint("leave such rows out with WHERE"));
            };
            let Some((_, kind)) = self.codes.iter().find(|(code, _)| code == op) else {
                let known: Vec<&str> = self.codes.iter().map(|(code, _)| code.as_str()).collect();
                return Err(Error::data(format!("Received invalid op code '{op}'")).hint(format!(
                    "defined op codes are {}; map it by op_mapping, or leave such rows out with WHERE",
                    known.join(", ")
                )));
            };
            kinds.push(*kind as u8);
        }
        ChangeBatch::heal_pairs(&mut kinds);
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        out.emit(ChangeBatch::with_kinds(rows, RowKinds::new(kinds)));
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::operators::harness::OperatorHarness;

    fn schema(names: &[&str]) -> SchemaRef {
        let text = |n: &&str| Field::new(*n, DataType::Utf8, true);
        Arc::new(Schema::new(names.iter().map(text).collect::<Vec<_>>()))
    }

    fn to(codes: [Option<&str>; 4], script: &str) -> String {
        let codes = codes.map(|c| c.map(str::to_owned));
        OperatorHarness::new(schema(&["a", "b"]), &[], move |_| {
            Ok(Box::new(ToChangelogOperator::new(codes.clone(), schema(&["op", "a", "b"]))))
        })
        .run(script)
    }

    fn from(script: &str) -> Result<String> {
        let codes = vec![
            ("c".to_owned(), RowKind::Insert),
            ("b".to_owned(), RowKind::UpdateBefore),
            ("u".to_owned(), RowKind::UpdateAfter),
            ("d".to_owned(), RowKind::Delete),
        ];
        OperatorHarness::new(schema(&["a", "op"]), &[], move |_| {
            Ok(Box::new(FromChangelogOperator::new(1, codes.clone(), schema(&["a"]))))
        })
        .try_run(script)
    }

    #[test]
    fn kinds_become_values() {
        let script = "+I 1 x\n-U 1 x\n+U 1 null\n-D 1 null\n\n+I 2 y\n~ 5";
        let all = [Some("i"), Some("b"), Some("u"), Some("d")];
        assert_eq!(to(all, script), "+I i 1 x\n+I b 1 x\n+I u 1 null\n+I d 1 null\n+I i 2 y\n~ 5");
        assert_eq!(to([None, None, Some("u"), Some("")], script), "+I u 1 null\n+I '' 1 null\n~ 5");
        assert_eq!(to([None; 4], "+I 1 x"), "");
    }

    #[test]
    fn values_become_kinds() {
        let out = from("+I 1 c\n+I 1 b\n+I 2 u\n+I 3 u\n+I 2 d\n+I 9 b").unwrap();
        assert_eq!(out, "+I 1\n-U 1\n+U 2\n+I 3\n-D 2\n-D 9");
        let e = from("+I 1 c\n+I 1 x").unwrap_err().to_string();
        assert!(e.contains("invalid op code 'x'") && e.contains("c, b, u, d"), "{e}");
        let e = from("+I 1 null").unwrap_err().to_string();
        assert!(e.contains("NULL op code"), "{e}");
    }
}
