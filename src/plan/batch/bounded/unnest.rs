//! UNNEST of one list, some rows at a time: DataFusion's makes one batch of all elements of a batch, each with a copy of
//! the columns of its row.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{Result as DfResult, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, TryStreamExt};

use super::{guarded, sendable};
use crate::error::{Error, Result};
use crate::stream::BATCH_BYTES;
use crate::stream::bytes::row_bytes;

/// The node.
#[derive(Debug)]
pub(super) struct UnnestRowsExec {
    /// The list among the columns.
    list: usize,
    /// Whether a NULL gives a row.
    nulls: bool,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl UnnestRowsExec {
    /// Instead of DataFusion's node, if that unnests a single list.
    pub(super) fn over(unnest: &UnnestExec) -> Option<Arc<dyn ExecutionPlan>> {
        let ([list], []) = (unnest.list_column_indices(), unnest.struct_column_indices()) else {
            return None;
        };
        let (before, after) = (unnest.input().schema(), unnest.schema());
        let at = list.index_in_input_schema;
        let DataType::List(item) = before.fields().get(at)?.data_type() else { return None };
        let is_plain = list.depth == 1
            && before.fields().len() == after.fields().len()
            && item.data_type() == after.fields().get(at)?.data_type();
        is_plain.then(|| {
            Arc::new(UnnestRowsExec {
                list: at,
                nulls: unnest.options().preserve_nulls,
                input: Arc::clone(unnest.input()),
                properties: Arc::clone(unnest.properties()),
            }) as Arc<dyn ExecutionPlan>
        })
    }
}

/// The rows of a batch under way.
struct Unnested {
    batch: RecordBatch,
    schema: SchemaRef,
    at: usize,
    list: ListArray,
    nulls: bool,
    batch_rows: usize,
    /// Bytes of the other columns, by row, and of the elements.
    widths: (Vec<usize>, Vec<usize>),
    row: usize,
    /// Elements of the row that have been given.
    given: usize,
}

impl Unnested {
    fn new(batch: RecordBatch, node: (usize, bool), schema: &SchemaRef, batch_rows: usize) -> Result<Self> {
        let (at, nulls) = node;
        let list = batch.columns().get(at).and_then(|c| c.as_list_opt::<i32>()).cloned();
        let list = list.ok_or_else(|| Error::internal("UNNEST of a column that is no list"))?;
        let mut others = batch.columns().to_vec();
        others.remove(at);
        let elements = [Arc::clone(list.values())];
        let widths = (row_bytes(&others, batch.num_rows()), row_bytes(&elements, list.values().len()));
        let schema = Arc::clone(schema);
        Ok(Unnested { batch, schema, at, list, nulls, batch_rows, widths, row: 0, given: 0 })
    }

    fn make(&self, rows: Vec<u32>, places: Vec<Option<u32>>) -> Result<RecordBatch> {
        let n = rows.len();
        let first = places.first().copied().flatten();
        let follow = first.filter(|f| places.iter().zip(*f..).all(|(place, next)| *place == Some(next)));
        let values = self.list.values();
        let elements = match follow {
            Some(first) => values.slice(first as usize, n),
            None => take(values, &UInt32Array::from(places), None)?,
        };
        let rows = UInt32Array::from(rows);
        let column = |(i, column): (usize, &ArrayRef)| {
            if i == self.at { Ok(Arc::clone(&elements)) } else { Ok(take(column, &rows, None)?) }
        };
        let columns = self.batch.columns().iter().enumerate().map(column).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(n));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

impl Iterator for Unnested {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mut rows, mut places, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
        while self.row < self.list.len() && rows.len() < self.batch_rows {
            let offsets = self.list.value_offsets();
            let (from, to) = (offsets[self.row] as usize, offsets[self.row + 1] as usize);
            let is_null = self.list.is_null(self.row);
            let place = from + self.given;
            let has_element = !is_null && place < to;
            let more = self.widths.0[self.row] + if has_element { self.widths.1[place] } else { 0 };
            if !rows.is_empty() && bytes + more > BATCH_BYTES {
                break;
            }
            if has_element {
                rows.push(self.row as u32);
                places.push(Some(place as u32));
                bytes += more;
                self.given += 1;
                continue;
            }
            if is_null && self.nulls {
                rows.push(self.row as u32);
                places.push(None);
                bytes += more;
            }
            (self.row, self.given) = (self.row + 1, 0);
        }
        (!rows.is_empty()).then(|| self.make(rows, places))
    }
}

impl DisplayAs for UnnestRowsExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ExecutionPlan for UnnestRowsExec {
    fn name(&self) -> &str {
        "UnnestRowsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => {
                let (list, nulls, properties) = (self.list, self.nulls, Arc::clone(&self.properties));
                Ok(Arc::new(UnnestRowsExec { list, nulls, input, properties }))
            }
            Err(children) => internal_err!("UnnestRowsExec over {} inputs", children.len()),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let (schema, node) = (self.schema(), (self.list, self.nulls));
        let rows = context.session_config().batch_size();
        let batches = guarded(self.input.execute(partition, context)?);
        let unnested = batches.and_then(move |batch| {
            let parts = Unnested::new(batch, node, &schema, rows);
            futures::future::ready(parts.map(futures::stream::iter))
        });
        Ok(sendable(self, unnested.try_flatten().boxed()))
    }

    fn partition_statistics(&self, _partition: Option<usize>) -> DfResult<Arc<Statistics>> {
        Ok(Arc::new(Statistics::new_unknown(&self.schema())))
    }
}
