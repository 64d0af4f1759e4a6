//! Batches of events, column by column.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray, StructArray,
    TimestampMillisecondArray, new_null_array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use crate::connectors::synthetic::{BLOCK_ROWS, Origin, RowGenerator};
use crate::edges::ScanRequest;
use crate::error::{Error, Result};
use crate::stream::Timestamp;

use super::Config;
use super::bid::BidColumns;
use super::person_auction::{AuctionColumns, PersonColumns};
use super::schema::{self, Column};
use super::segments::{EventKind, KINDS, Segment, segments};

/// The generator of one scan.
pub(super) struct Events {
    config: Config,
    base_time: i64,
    schema: SchemaRef,
    columns: Vec<Column>,
    /// Kinds that pass the pushed-down filters.
    wanted: [bool; 3],
    /// Whether the row times of the others have to be told.
    dropped_matters: bool,
    /// An all-NULL array of a block for each field that nobody reads, shared by all batches.
    unread: Vec<Vec<Option<ArrayRef>>>,
    persons: PersonColumns,
    auctions: AuctionColumns,
    bids: BidColumns,
}

impl Events {
    pub(super) fn new(
        config: Config,
        origin: Origin,
        schema: &SchemaRef,
        scan: &ScanRequest,
    ) -> Result<Self> {
        let columns = schema::columns(schema, scan)?;
        let projected = match &scan.projection {
            Some(p) => Arc::new(schema.project(p)?),
            None => schema.clone(),
        };
        let mut wanted = [true; 3];
        let dropped_matters = !scan.filters_behind_watermark.is_empty();
        for filter in scan.filters.iter().chain(&scan.filters_behind_watermark) {
            if let Some(passing) = wanted_by(filter) {
                for (w, p) in wanted.iter_mut().zip(passing) {
                    *w &= p;
                }
            }
        }
        let unread = columns
            .iter()
            .map(|column| match column {
                Column::EventType => Vec::new(),
                Column::Event { children, .. } => children
                    .iter()
                    .map(|c| (!c.read).then(|| new_null_array(c.field.data_type(), BLOCK_ROWS as usize)))
                    .collect(),
            })
            .collect();
        Ok(Events {
            base_time: origin.base_time,
            schema: projected,
            columns,
            wanted,
            dropped_matters: dropped_matters && wanted != [true; 3],
            unread,
            persons: PersonColumns::new(origin.seed),
            auctions: AuctionColumns::new(origin.seed),
            bids: BidColumns::new(origin.seed),
            config,
        })
    }

    fn child(&self, kind: EventKind, field: &FieldRef, batch: &Batch<'_>) -> Result<ArrayRef> {
        let (config, base) = (&self.config, self.base_time);
        if field.name() == "dateTime" {
            let times = batch.numbers(kind, |s, out| {
                for (t, id) in out.iter_mut().zip(s.ids()) {
                    *t = config.timestamp(base, id);
                }
            });
            return Ok(batch.array(kind, times, field.data_type()));
        }
        match kind {
            EventKind::Person => self.persons.column(config, field, batch),
            EventKind::Auction => self.auctions.column(config, base, field, batch),
            EventKind::Bid => self.bids.column(config, field, batch),
        }
    }
}

impl RowGenerator for Events {
    fn rows(&self, numbers: Range<u64>) -> Result<RecordBatch> {
        let (segments, rows) = segments(&self.config, numbers, self.wanted);
        let batch = Batch::new(&segments, rows);
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for ((column, unread), field) in self.columns.iter().zip(&self.unread).zip(self.schema.fields()) {
            let Column::Event { kind, children } = column else {
                let mut types = vec![0; rows];
                for s in &segments {
                    if let Some(part) = types.get_mut(s.row..s.row + s.len) {
                        part.fill(s.kind as i32);
                    }
                }
                arrays.push(Arc::new(Int32Array::from(types)));
                continue;
            };
            let mut built = Vec::with_capacity(children.len());
            for (child, unread) in children.iter().zip(unread) {
                built.push(match unread {
                    Some(nulls) if nulls.len() >= rows => nulls.slice(0, rows),
                    Some(_) => new_null_array(child.field.data_type(), rows),
                    None => self.child(*kind, &child.field, &batch)?,
                });
            }
            let DataType::Struct(fields) = field.data_type() else {
                return Err(Error::internal("an event column is a struct"));
            };
            arrays.push(Arc::new(StructArray::try_new(fields.clone(), built, batch.nulls(*kind).cloned())?));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?)
    }

    fn dropped_row_time(&self, numbers: Range<u64>) -> Option<Timestamp> {
        // Times rise with the numbers.
        let last = numbers.end.checked_sub(1)?;
        self.dropped_matters.then(|| Timestamp(self.config.timestamp_of_row(self.base_time, last)))
    }
}

/// The layout of one batch.
pub(super) struct Batch<'a> {
    segments: &'a [Segment],
    rows: usize,
    nulls: [Option<NullBuffer>; 3],
}

impl<'a> Batch<'a> {
    fn new(segments: &'a [Segment], rows: usize) -> Self {
        let nulls = KINDS.map(|kind| {
            let mut bits = arrow::array::BooleanBufferBuilder::new(rows);
            for s in segments {
                bits.append_n(s.len, s.kind == kind);
            }
            let bits: BooleanBuffer = bits.finish();
            Some(NullBuffer::new(bits)).filter(|n| n.null_count() > 0)
        });
        Batch { segments, rows, nulls }
    }

    /// Where rows are of another kind.
    pub(super) fn nulls(&self, kind: EventKind) -> Option<&NullBuffer> {
        self.nulls.get(kind as usize)?.as_ref()
    }

    fn of(&self, kind: EventKind) -> impl Iterator<Item = &'a Segment> {
        self.segments.iter().filter(move |s| s.kind == kind)
    }

    /// A number per row; `fill` gets the rows of one segment.
    pub(super) fn numbers(&self, kind: EventKind, mut fill: impl FnMut(&Segment, &mut [i64])) -> Vec<i64> {
        let mut values = vec![0; self.rows];
        for s in self.of(kind) {
            if let Some(part) = values.get_mut(s.row..s.row + s.len) {
                fill(s, part);
            }
        }
        values
    }

    /// An array of such numbers: BIGINT, or a time.
    pub(super) fn array(&self, kind: EventKind, values: Vec<i64>, ty: &DataType) -> ArrayRef {
        let (values, nulls) = (ScalarBuffer::from(values), self.nulls(kind).cloned());
        match ty {
            DataType::Timestamp(..) => Arc::new(TimestampMillisecondArray::new(values, nulls)),
            _ => Arc::new(Int64Array::new(values, nulls)),
        }
    }

    /// A text per row; `write` appends the text of row `k` of a segment.
    pub(super) fn strings(
        &self,
        kind: EventKind,
        bytes_per_row: usize,
        mut write: impl FnMut(&Segment, u64, &mut Vec<u8>),
    ) -> Result<ArrayRef> {
        let count: usize = self.of(kind).map(|s| s.len).sum();
        let mut bytes = Vec::with_capacity(count * bytes_per_row + 64);
        let mut ends: Vec<i32> = Vec::with_capacity(self.rows + 1);
        ends.push(0);
        for s in self.of(kind) {
            // Rows of other kinds in between are empty.
            ends.resize(s.row + 1, bytes.len() as i32);
            for k in 0..s.len as u64 {
                write(s, k, &mut bytes);
                ends.push(bytes.len() as i32);
            }
        }
        ends.resize(self.rows + 1, bytes.len() as i32);
        if bytes.len() > i32::MAX as usize {
            return Err(
                Error::data("nexmark: the texts of one batch exceed 2 GiB").hint("lower the average sizes")
            );
        }
        let offsets = OffsetBuffer::new(ends.into());
        Ok(Arc::new(StringArray::try_new(offsets, bytes.into(), self.nulls(kind).cloned())?))
    }
}

/// The kinds that pass a predicate on `event_type`; `None` if it is not one.
fn wanted_by(filter: &Expr) -> Option<[bool; 3]> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let code = match (left.as_ref(), right.as_ref()) {
                (Expr::Column(c), Expr::Literal(v, _)) | (Expr::Literal(v, _), Expr::Column(c))
                    if c.name == "event_type" =>
                {
                    match v {
                        ScalarValue::Int32(Some(v)) => i64::from(*v),
                        ScalarValue::Int64(Some(v)) => *v,
                        _ => return None,
                    }
                }
                _ => return None,
            };
            Some(KINDS.map(|k| k as i64 == code))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            match (wanted_by(left), wanted_by(right)) {
                (Some(mut a), Some(b)) => {
                    for (a, b) in a.iter_mut().zip(b) {
                        *a &= b;
                    }
                    Some(a)
                }
                (a, b) => a.or(b),
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (mut a, b) = (wanted_by(left)?, wanted_by(right)?);
            for (a, b) in a.iter_mut().zip(b) {
                *a |= b;
            }
            Some(a)
        }
        _ => None,
    }
}
