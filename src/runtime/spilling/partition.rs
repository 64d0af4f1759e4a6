//! The partitions of an operator that has been split, and which of them is worked on.

use std::collections::VecDeque;

use arrow::array::{ArrayRef, UInt8Array, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;

use super::PartitionFactory;
use super::queue::{Queue, Waiting};
use crate::error::{Error, Result};
use crate::runtime::exchange::split_by;
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::runtime::spilling::file::SpillFile;
use crate::runtime::spilling::memory::StateShare;
use crate::state::hash_columns;
use crate::stream::BATCH_ROWS;
use crate::stream::key_group::{KEY_GROUPS, KeyGroup, KeyGroupRange};
use crate::stream::snapshot::{OperatorSnapshot, PartKind, SnapshotReader, SnapshotWriter, TablePart};
use crate::stream::{ChangeBatch, Epoch, Timestamp};

/// Partitions per instance, if it has so many key groups.
const PARTITIONS: u16 = 64;

/// Shortest time that rows wait for others when a partition has to be read for them.
const PATIENCE_MS: i64 = 1_000;

/// State that is read, restored and written again per millisecond, roughly: waiting rows wait ten times as long as a
/// pass over all partitions takes, so that passes do not follow each other without pause.
const PASS_BYTES_PER_MS: u64 = 100_000;

/// What one call of [`Partitions::step`] did.
pub(super) enum Step {
    Worked,
    Nothing,
}

struct Partition {
    range: KeyGroupRange,
    /// Its operator, while in memory.
    operator: Option<Box<dyn Operator>>,
    /// Its state, while on disk.
    file: Option<SpillFile>,
    /// What the operator last said of itself.
    metrics: OperatorMetrics,
    queue: Queue,
    /// The last watermark that its operators have heard of.
    time: Timestamp,
    /// The least watermark that its operator has to hear of.
    due: Timestamp,
    /// How far the watermark may be behind its operator.
    holds: Option<Timestamp>,
    /// Pass in which it was last worked on.
    used: u64,
    scheduled: bool,
    /// Its operator has been told the end.
    ended: bool,
}

impl Partition {
    /// Whether there is state that a watermark, or the end, can mean something to.
    fn has_state(&self) -> bool {
        self.operator.is_some() || self.file.is_some()
    }
}

/// The partition under work.
struct Current {
    partition: usize,
    waiting: VecDeque<Waiting>,
    /// The operator has more to give of its last call.
    more: bool,
    flushed: bool,
}

/// All partitions; see the module above.
pub(super) struct Partitions {
    parts: Vec<Partition>,
    /// Partition of each key group.
    of_group: Vec<u16>,
    /// Schema of each input, to give to rows that come back from disk.
    schemas: Vec<Option<SchemaRef>>,
    schedule: VecDeque<usize>,
    current: Option<Current>,
    /// Whether partitions hear of watermarks and of the end.
    is_timed: bool,
    is_ending: bool,
    /// The last watermark that came.
    watermark: Timestamp,
    uses: u64,
    hashes: Vec<u64>,
    late_rows: u64,
    null_times: u64,
}

impl Partitions {
    /// The partitions of an operator that has heard of `watermark`.
    pub(super) fn new(range: KeyGroupRange, ports: usize, of: &dyn Operator, watermark: Timestamp) -> Self {
        let groups = range.end - range.start;
        let count = PARTITIONS.min(groups).max(1);
        let mut of_group = vec![0; KEY_GROUPS as usize];
        let parts = (0..count)
            .map(|i| {
                let bound =
                    |i: u16| range.start + (u32::from(i) * u32::from(groups) / u32::from(count)) as u16;
                let range = KeyGroupRange { start: bound(i), end: bound(i + 1) };
                of_group[range.start as usize..range.end as usize].fill(i);
                Partition {
                    range,
                    operator: None,
                    file: None,
                    metrics: OperatorMetrics::default(),
                    queue: Queue::default(),
                    time: watermark,
                    due: of.next_due(),
                    holds: of.output_watermark(),
                    used: 0,
                    scheduled: false,
                    ended: false,
                }
            })
            .collect();
        Partitions {
            parts,
            of_group,
            schemas: vec![None; ports],
            schedule: VecDeque::new(),
            current: None,
            is_timed: of.spillable() == Spillable::ByWatermark,
            is_ending: false,
            watermark,
            uses: 0,
            hashes: Vec::new(),
            late_rows: 0,
            null_times: 0,
        }
    }

    /// Writes the state of the whole operator to one file per partition.
    pub(super) fn take_state(&mut self, state: OperatorSnapshot, share: &StateShare) -> Result<()> {
        let mut shared = Vec::new();
        for (name, tables) in state {
            for part in tables {
                let Some(groups) = &part.key_groups else {
                    shared.push((name.clone(), part));
                    continue;
                };
                for (i, rows) in self.rows_of_partitions(groups).into_iter().enumerate() {
                    if rows.is_empty() {
                        continue;
                    }
                    let rows = UInt32Array::from(rows);
                    let groups = rows.values().iter().map(|r| groups.value(*r as usize));
                    let key_groups = Some(UInt8Array::from_iter_values(groups));
                    let rows = take_record_batch(&part.rows, &rows)?;
                    self.parts[i].metrics.state_entries += rows.num_rows() as u64;
                    self.write_state(i, &name, TablePart { rows, key_groups, kind: PartKind::Whole }, share)?;
                }
            }
        }
        for (name, part) in shared {
            for i in 0..self.parts.len() {
                // A watermark belongs to the state of which it says what is over; without state there is the time.
                if !self.is_timed || self.parts[i].file.is_some() {
                    self.write_state(i, &name, part.clone(), share)?;
                }
            }
        }
        Ok(())
    }

    fn rows_of_partitions(&self, groups: &UInt8Array) -> Vec<Vec<u32>> {
        let mut rows = vec![Vec::new(); self.parts.len()];
        for (row, group) in groups.values().iter().enumerate() {
            rows[usize::from(self.of_group[usize::from(*group)])].push(row as u32);
        }
        rows
    }

    fn write_state(&mut self, i: usize, name: &str, part: TablePart, share: &StateShare) -> Result<()> {
        let file = match &mut self.parts[i].file {
            Some(file) => file,
            none => none.insert(SpillFile::new(share.store().new_file()?)),
        };
        let before = file.bytes;
        file.append_state(&OperatorSnapshot::from([(name.to_owned(), vec![part])]))?;
        share.spilled(file.bytes - before);
        Ok(())
    }

    /// Puts rows into the queues of their partitions, and decides what is worth being worked on.
    pub(super) fn enqueue(
        &mut self,
        port: usize,
        batch: &ChangeBatch,
        keys: &[usize],
        share: &mut StateShare,
    ) -> Result<()> {
        self.schemas[port].get_or_insert_with(|| batch.schema());
        let columns: Vec<ArrayRef> = keys.iter().map(|c| batch.rows.column(*c).clone()).collect();
        hash_columns(&columns, batch.num_rows(), &mut self.hashes)?;
        let bytes: usize = (batch.rows.columns().iter())
            .map(|c| c.to_data().get_slice_memory_size().unwrap_or_else(|_| c.get_array_memory_size()))
            .sum();
        let row_bytes = bytes.div_ceil(batch.num_rows().max(1));
        let of_group = &self.of_group;
        let target = |hash: u64| usize::from(of_group[usize::from(KeyGroup::of_hash(hash).0)]);
        for (i, part) in split_by(batch, &self.hashes, self.parts.len(), target)? {
            let bytes = part.num_rows() * row_bytes;
            let partition = &mut self.parts[i];
            partition.queue.push(port, part, bytes);
            // In memory already: only as many rows as make a good batch.
            if partition.operator.is_some() && partition.queue.rows >= BATCH_ROWS && !partition.scheduled {
                partition.scheduled = true;
                self.schedule.push_back(i);
            }
        }
        let room = share.fair() / 4;
        if self.queued_bytes() > room {
            let mut fullest: Vec<usize> = (0..self.parts.len()).collect();
            fullest.sort_by_key(|i| std::cmp::Reverse(self.parts[*i].queue.bytes));
            for i in fullest {
                if self.queued_bytes() <= room / 2 {
                    break;
                }
                self.parts[i].queue.spill(share)?;
            }
            let on_disk: u64 = self.parts.iter().map(|p| p.queue.disk_bytes()).sum();
            if on_disk > self.cold_bytes().max(share.fair() as u64) / 2 {
                self.schedule_all();
            }
        }
        self.report(share);
        Ok(())
    }

    /// The watermark rose, which each partition hears of behind the rows that wait for it.
    pub(super) fn tell_time(&mut self, watermark: Timestamp) {
        if self.is_timed {
            self.watermark = watermark;
            self.parts.iter_mut().for_each(|part| part.queue.tell_time(watermark));
        }
    }

    /// The input has ended: each partition hears of it once nothing waits for it.
    pub(super) fn end(&mut self) {
        self.is_ending = self.is_timed;
    }

    /// How far the watermark may be behind the operators.
    pub(super) fn holds(&self) -> Option<Timestamp> {
        self.parts.iter().filter(|p| p.has_state()).filter_map(|p| p.holds).min()
    }

    fn queued_bytes(&self) -> usize {
        self.parts.iter().map(|p| p.queue.bytes).sum()
    }

    /// Bytes of state on disk.
    fn cold_bytes(&self) -> u64 {
        self.parts.iter().flat_map(|p| &p.file).map(|f| f.bytes).sum()
    }

    fn report(&self, share: &mut StateShare) {
        let live = self.parts.iter().filter(|p| p.operator.is_some());
        let state: usize = live.map(|p| p.metrics.state_bytes as usize).sum();
        share.report(state + self.queued_bytes());
    }

    /// Whether something waits that can have results.
    pub(super) fn has_waiting(&self) -> bool {
        self.parts.iter().any(|p| self.is_waiting(p))
    }

    fn is_waiting(&self, part: &Partition) -> bool {
        let is_due = part.time < self.watermark && part.due <= self.watermark;
        let hears = self.is_timed && part.has_state();
        part.queue.rows > 0 || hears && (is_due || self.is_ending && !part.ended)
    }

    /// How long rows may wait.
    pub(super) fn patience_ms(&self) -> i64 {
        PATIENCE_MS.max((self.cold_bytes() / PASS_BYTES_PER_MS) as i64 * 10)
    }

    /// Every partition for which something waits is worked on next.
    pub(super) fn schedule_all(&mut self) {
        for i in 0..self.parts.len() {
            if self.is_waiting(&self.parts[i]) && !self.parts[i].scheduled {
                self.parts[i].scheduled = true;
                // Those in memory first: they need no reading.
                if self.parts[i].operator.is_some() {
                    self.schedule.push_front(i);
                } else {
                    self.schedule.push_back(i);
                }
            }
        }
    }

    /// Partitions in memory with a timer that is due are worked on next.
    pub(super) fn schedule_due(&mut self, now: Timestamp) {
        for (i, part) in self.parts.iter_mut().enumerate() {
            let due = part.operator.as_ref().and_then(|o| o.next_timer()).is_some_and(|t| t <= now);
            if due && !part.scheduled {
                part.scheduled = true;
                self.schedule.push_front(i);
            }
        }
    }

    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        self.parts.iter().filter_map(|p| p.operator.as_ref()?.next_timer()).min()
    }

    /// One call of one operator.
    pub(super) fn step(
        &mut self,
        factory: &PartitionFactory,
        share: &mut StateShare,
        now: Option<Timestamp>,
        out: &mut Output,
    ) -> Result<Step> {
        let Some(mut current) = self.current.take() else {
            let Some(i) = self.schedule.pop_front() else { return Ok(Step::Nothing) };
            self.current = Some(self.begin(i, factory, share, now, out)?);
            return Ok(Step::Worked);
        };
        let part = &mut self.parts[current.partition];
        let operator = part.operator.as_mut().ok_or_else(|| Error::internal("a partition left too early"))?;
        let progress = if current.more {
            operator.resume(out)?
        } else if let Some(waiting) = current.waiting.pop_front() {
            match waiting {
                Waiting::Rows(port, batch) => {
                    current.flushed = false;
                    let schema = self.schemas.get(port).and_then(Clone::clone);
                    operator.process(port, with_schema(batch, schema)?, out)?
                }
                // What it holds back belongs before the watermark.
                Waiting::Time(_) if !current.flushed => {
                    current.flushed = true;
                    current.waiting.push_front(waiting);
                    operator.flush(out)?
                }
                Waiting::Time(watermark) => {
                    part.time = watermark;
                    operator.on_watermark(watermark, out)?
                }
            }
        } else if !current.flushed {
            current.flushed = true;
            operator.flush(out)?
        } else if self.is_ending && !part.ended {
            part.ended = true;
            operator.on_end(out)?
        } else {
            part.metrics = operator.metrics();
            (part.due, part.holds) = (operator.next_due(), operator.output_watermark());
            self.report(share);
            return Ok(Step::Worked);
        };
        current.more = progress == Progress::More;
        self.current = Some(current);
        Ok(Step::Worked)
    }

    /// Brings partition `i` into memory, others out of it.
    fn begin(
        &mut self,
        i: usize,
        factory: &PartitionFactory,
        share: &mut StateShare,
        now: Option<Timestamp>,
        out: &mut Output,
    ) -> Result<Current> {
        self.uses += 1;
        self.parts[i].scheduled = false;
        self.parts[i].used = self.uses;
        let is_new = self.parts[i].operator.is_none();
        if is_new {
            self.report(share);
            while share.is_over(0.5) {
                let live = (0..self.parts.len()).filter(|p| *p != i && self.parts[*p].operator.is_some());
                let Some(oldest) = live.min_by_key(|p| self.parts[*p].used) else { break };
                self.evict(oldest, share)?;
                self.report(share);
            }
            let part = &mut self.parts[i];
            let mut operator = factory(part.range)?;
            if let Some(file) = part.file.take() {
                operator.restore(&SnapshotReader::new(file.read_state()?, part.range))?;
            }
            part.operator = Some(operator);
        }
        let part = &mut self.parts[i];
        let mut waiting = part.queue.take()?;
        if is_new && self.is_timed && part.time > Timestamp::MIN {
            waiting.push_front(Waiting::Time(part.time));
        }
        let mut more = false;
        if let (Some(now), Some(operator)) = (now, &mut part.operator)
            && operator.next_timer().is_some_and(|t| t <= now)
        {
            more = operator.on_timer(now, out)? == Progress::More;
        }
        if let Some(operator) = &part.operator {
            part.metrics = operator.metrics();
        }
        self.report(share);
        Ok(Current { partition: i, waiting, more, flushed: false })
    }

    fn evict(&mut self, i: usize, share: &StateShare) -> Result<()> {
        let part = &mut self.parts[i];
        let Some(mut operator) = part.operator.take() else { return Ok(()) };
        part.metrics = operator.metrics();
        // The next operator of the partition counts from zero.
        self.late_rows += std::mem::take(&mut part.metrics.late_rows_dropped);
        self.null_times += std::mem::take(&mut part.metrics.null_times_dropped);
        let mut writer = SnapshotWriter::new();
        operator.snapshot(&mut writer)?;
        drop(operator);
        let state = writer.finish();
        // A watermark alone is no state: the next operator is told it.
        let is_state = |p: &TablePart| p.rows.num_rows() > 0 && (!self.is_timed || p.key_groups.is_some());
        if state.values().flatten().any(is_state) {
            let mut file = SpillFile::new(share.store().new_file()?);
            file.append_state(&state)?;
            share.spilled(file.bytes);
            part.file = Some(file);
        }
        Ok(())
    }

    pub(super) fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        if self.has_waiting() || self.current.is_some() {
            return Err(Error::internal("rows wait for spilled state at a barrier"));
        }
        for part in &mut self.parts {
            if let Some(operator) = &mut part.operator {
                // One that has nothing due need not have heard, and writes what it has.
                if self.is_timed && part.time < self.watermark {
                    let mut out = Output::new();
                    let progress = operator.on_watermark(self.watermark, &mut out)?;
                    if progress == Progress::More || !out.is_empty() {
                        return Err(Error::internal(format!(
                            "{} had more due than it said",
                            operator.name()
                        )));
                    }
                    part.time = self.watermark;
                }
                operator.snapshot(writer)?;
            } else if let Some(file) = &part.file {
                for (name, tables) in file.read_state()? {
                    for table in tables {
                        match table.key_groups {
                            Some(groups) => writer.keyed(&name, table.rows, groups)?,
                            // The watermark, which stands there already: none has been due since.
                            None if self.is_timed => {}
                            None => writer.broadcast(&name, table.rows),
                        }
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn on_commit(&mut self, epoch: Epoch) -> Result<()> {
        self.parts.iter_mut().filter_map(|p| p.operator.as_mut()).try_for_each(|o| o.on_commit(epoch))
    }

    pub(super) fn metrics(&self) -> OperatorMetrics {
        let mut all = OperatorMetrics {
            late_rows_dropped: self.late_rows,
            null_times_dropped: self.null_times,
            state_bytes: self.queued_bytes() as u64,
            ..OperatorMetrics::default()
        };
        for part in &self.parts {
            all += match &part.operator {
                Some(operator) => operator.metrics(),
                None => OperatorMetrics { state_bytes: 0, ..part.metrics },
            };
        }
        all
    }
}

fn with_schema(batch: ChangeBatch, schema: Option<SchemaRef>) -> Result<ChangeBatch> {
    match schema {
        Some(schema) if batch.schema() != schema => {
            Ok(ChangeBatch { rows: batch.rows.with_schema(schema)?, kinds: batch.kinds })
        }
        _ => Ok(batch),
    }
}
