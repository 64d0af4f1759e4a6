//! `UNION ALL`: batches of all inputs pass as they come; the driver combines watermarks.
//!
//! | | |
//! |---|---|
//! | state | none |
//! | changelog | any in, the same out |

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use crate::error::Result;
use crate::runtime::operator::{Operator, Output, Progress};
use crate::stream::ChangeBatch;

/// Gives every input the schema of the union.
#[derive(Debug)]
pub struct UnionOperator {
    schema: SchemaRef,
}

impl UnionOperator {
    /// A union with the columns `schema`.
    pub fn new(schema: SchemaRef) -> Self {
        UnionOperator { schema }
    }
}

impl Operator for UnionOperator {
    fn name(&self) -> &'static str {
        "Union"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let rows =
            RecordBatch::try_new_with_options(self.schema.clone(), batch.rows.columns().to_vec(), &options)?;
        out.emit(ChangeBatch { rows, kinds: batch.kinds });
        Ok(Progress::Done)
    }
}
