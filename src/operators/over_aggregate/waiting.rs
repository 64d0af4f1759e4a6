//! Rows that wait until the watermark has passed them, to go on in the order of their time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};

use crate::error::{Error, Result};
use crate::operators::keyed_rows::PART_ROWS;
use crate::operators::window_aggregate::assign::to_millis;
use crate::state::{GroupDirectory, RowStore, anonymous};
use crate::stream::Timestamp;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};

const WAITING: &str = "waiting";

/// Milliseconds of the times that are looked through together.
const BUCKET: i64 = 64;

/// See the module.
pub(super) struct Waiting {
    schema: SchemaRef,
    partition: Vec<usize>,
    time: usize,
    directory: GroupDirectory,
    rows: RowStore,
    /// By id, in ms.
    times: Vec<i64>,
    /// Partition, by id.
    slots: Vec<u32>,
    /// Order of arrival, by id.
    arrivals: Vec<u64>,
    free: Vec<u32>,
    /// Rows by the bucket of their time.
    buckets: BTreeMap<i64, Vec<u32>>,
    /// By slot: rows that wait.
    counts: Vec<u32>,
    next: u64,
    pub(super) late_rows: u64,
    pub(super) null_times: u64,
}

impl Waiting {
    pub(super) fn new(schema: SchemaRef, partition: Vec<usize>, time: usize) -> Result<Self> {
        let ty = |c: &usize| schema.field(*c).data_type().clone();
        let types: Vec<DataType> = schema.fields().iter().map(|f| f.data_type().clone()).collect();
        Ok(Waiting {
            directory: GroupDirectory::new(&partition.iter().map(ty).collect::<Vec<_>>())?,
            rows: RowStore::new(&types)?,
            schema,
            partition,
            time,
            times: Vec::new(),
            slots: Vec::new(),
            arrivals: Vec::new(),
            free: Vec::new(),
            buckets: BTreeMap::new(),
            counts: Vec::new(),
            next: 0,
            late_rows: 0,
            null_times: 0,
        })
    }

    /// No row that waits is earlier.
    pub(super) fn next_due(&self) -> Timestamp {
        self.buckets.keys().next().map_or(Timestamp::MAX, |bucket| Timestamp(bucket.saturating_mul(BUCKET)))
    }

    /// Keeps the rows that the watermark has not passed; `arrivals` are those of restored rows.
    pub(super) fn keep(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        watermark: i64,
        arrivals: Option<&Int64Array>,
    ) -> Result<()> {
        let partition: Vec<ArrayRef> = self.partition.iter().map(|c| Arc::clone(&columns[*c])).collect();
        let mut times = Vec::with_capacity(rows);
        to_millis(&columns[self.time], &mut times)?;
        let nulls = columns[self.time].nulls();
        let mut slots = Vec::new();
        self.directory.intern(&partition, rows, &mut slots)?;
        self.counts.resize(self.directory.capacity(), 0);
        let source = self.rows.source(columns)?;
        let (mut ids, mut kept, mut idle) = (Vec::with_capacity(rows), Vec::with_capacity(rows), Vec::new());
        for row in 0..rows {
            if nulls.is_some_and(|n| n.is_null(row)) {
                self.null_times += 1;
                idle.push(slots[row]);
                continue;
            }
            if times[row] <= watermark {
                self.late_rows += 1;
                idle.push(slots[row]);
                continue;
            }
            let id = self.free.pop().unwrap_or_else(|| {
                self.times.push(0);
                self.slots.push(0);
                self.arrivals.push(0);
                (self.times.len() - 1) as u32
            });
            let at = id as usize;
            let arrival = arrivals.map_or(self.next, |a| a.value(row) as u64);
            self.next = self.next.max(arrival) + 1;
            (self.times[at], self.slots[at], self.arrivals[at]) = (times[row], slots[row], arrival);
            self.counts[slots[row] as usize] += 1;
            self.buckets.entry(times[row].div_euclid(BUCKET)).or_default().push(id);
            ids.push(id);
            kept.push(row as u32);
        }
        self.rows.put(&ids, &source, &kept);
        self.drop_idle(idle);
        Ok(())
    }

    /// Gives back partitions among those where nothing waits.
    fn drop_idle(&mut self, mut slots: Vec<u32>) {
        slots.sort_unstable();
        slots.dedup();
        slots.retain(|slot| self.counts[*slot as usize] == 0);
        self.directory.remove(&slots);
    }

    /// Takes the rows that a watermark has passed: partition by partition, in the order of their time, equal ones as they
    /// came. They stay until [`Waiting::forget`].
    pub(super) fn take_due(&mut self, watermark: i64) -> Vec<u32> {
        let mut due = Vec::new();
        while let Some(bucket) =
            self.buckets.first_entry().filter(|b| b.key().saturating_mul(BUCKET) <= watermark)
        {
            let (number, ids) = bucket.remove_entry();
            if number.saturating_mul(BUCKET).saturating_add(BUCKET - 1) <= watermark {
                due.extend(ids);
                continue;
            }
            let times = &self.times;
            let (passed, left): (Vec<u32>, Vec<u32>) =
                ids.into_iter().partition(|id| times[*id as usize] <= watermark);
            due.extend(passed);
            if !left.is_empty() {
                self.buckets.insert(number, left);
            }
            break;
        }
        let order = |id: &u32| {
            let at = *id as usize;
            (self.slots[at], self.times[at], self.arrivals[at])
        };
        due.sort_unstable_by_key(order);
        due
    }

    /// Cuts rows as [`Waiting::take_due`] gives them into chunks; rows of one partition and time stay together.
    pub(super) fn chunks(&self, due: &[u32], rows: usize) -> Vec<Vec<u32>> {
        let key = |id: &u32| (self.slots[*id as usize], self.times[*id as usize]);
        let (mut chunks, mut from) = (Vec::new(), 0);
        for run in self.rows.cut(due, rows) {
            let mut to = run.end.max(from);
            while to < due.len() && to > 0 && key(&due[to - 1]) == key(&due[to]) {
                to += 1;
            }
            if to > from {
                chunks.push(due[from..to].to_vec());
            }
            from = to;
        }
        chunks
    }

    /// Rows, and their times in ms.
    pub(super) fn gather(&self, ids: &[u32]) -> Result<(RecordBatch, Vec<i64>)> {
        let options = RecordBatchOptions::new().with_row_count(Some(ids.len()));
        let columns = self.rows.gather(ids)?;
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        Ok((rows, ids.iter().map(|id| self.times[*id as usize]).collect()))
    }

    /// Drops rows.
    pub(super) fn forget(&mut self, ids: &[u32]) {
        let slots: Vec<u32> = ids.iter().map(|id| self.slots[*id as usize]).collect();
        slots.iter().for_each(|slot| self.counts[*slot as usize] -= 1);
        self.rows.free(ids);
        self.free.extend(ids);
        self.drop_idle(slots);
    }

    /// Rows that wait.
    pub(super) fn len(&self) -> usize {
        self.buckets.values().map(Vec::len).sum()
    }

    pub(super) fn snapshot(&self, writer: &mut SnapshotWriter) -> Result<()> {
        for ids in self.buckets.values() {
            for run in self.rows.cut(ids, PART_ROWS) {
                let ids = &ids[run];
                let mut columns = self.rows.gather(ids)?;
                let arrivals = ids.iter().map(|id| self.arrivals[*id as usize] as i64);
                columns.push(Arc::new(Int64Array::from_iter_values(arrivals)));
                let slots: Vec<u32> = ids.iter().map(|id| self.slots[*id as usize]).collect();
                writer.keyed(WAITING, anonymous(columns, ids.len())?, self.directory.key_groups(&slots))?;
            }
        }
        Ok(())
    }

    pub(super) fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        let broken = || Error::internal("the state of OVER has other columns than it should");
        for batch in reader.table(WAITING)? {
            let (arrivals, columns) = batch.columns().split_last().ok_or_else(broken)?;
            let arrivals = arrivals.as_primitive_opt::<Int64Type>().ok_or_else(broken)?;
            if columns.len() != self.schema.fields().len() {
                return Err(broken());
            }
            self.keep(columns, batch.num_rows(), i64::MIN, Some(arrivals))?;
        }
        Ok(())
    }

    pub(super) fn size(&self) -> usize {
        let by_id = self.times.capacity() * 24 + (self.free.capacity() + self.counts.capacity()) * 4;
        self.directory.size() + self.rows.size() + by_id
    }
}
