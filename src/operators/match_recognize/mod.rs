//! `MATCH_RECOGNIZE`: runs of rows, in the order of their time, that match a row pattern.
//!
//! ```text
//!  rows ══ partition ══► wait for the watermark ─► of each key, in order ─► search from the first row on ─► match ─► +I
//!                        bits and values of DEFINE,   r0 r1 r2 r3 …         (`search`, `condition`)      (`output`)
//!                        computed per batch (`rows`)  └ gone once no match begins there
//! ```
//!
//! | state | key → value | dropped |
//! |---|---|---|
//! | directory | partition → slot | with its last row |
//! | waiting | time → rows that the watermark has not passed | when it has |
//! | partition | slot → rows in order, from the first that a match may begin at; the search from there | when no match begins at a row, or by AFTER MATCH |
//! | deadlines | time → slot, with WITHIN | when time is over for the first row |
//!
//! By processing time (ORDER BY a `PROCTIME()`) no row waits: each is of the time at which it comes, and WITHIN ends by the
//! clock. Input and output are append-only. Rows at or below the watermark are late and dropped, and so are rows without a time:
//! counted in a stream, silently in batch, whose plan filters them out below the sort.
//! Equal rows stand in the order of their arrival. A search that has to wait goes on where it was, so where conditions are
//! about the row at hand alone, a watermark costs what the new rows cost. Conditions on other rows make each first row
//! search for itself, as far as a match from it may go, and some patterns try the same rows in many ways: WITHIN bounds
//! both, and a search that finds no end fails. Rows are kept as long as a match from them is undecided: WITHIN bounds that, without it a key
//! keeps what no later row decides. A barrier writes the rows; searches are made again. At the end, what waits is decided
//! by the rows that are there.
//!
//! `MATCH_ROWTIME` is a row time: the watermark behind is held back before the first row by which what is undecided can be
//! complete, since the match may come later. With WITHIN that is by so much at most; without it, as long as a key has rows
//! that nothing decides. With ALL ROWS PER MATCH the watermark is held back before the first undecided row, which comes
//! with its own time; without WITHIN a row that nothing decides would hold it for good, so there no column is a row time
//! (`plan::match_recognize::row_times`), and windows behind need WITHIN.
//!
//! A key has one match under way, that from its first row: what may begin at later rows is searched when it is decided, so
//! prefixes are shared as far as they can be. How many keys have one is the metric `partial_matches`.
//!
//! The pattern has the meaning of the SQL standard, which is that of regular expressions: what is preferred comes first,
//! and what was taken is given back where the rest would fail otherwise. Flink's automaton differs:
//!
//! | | Flink | here |
//! |---|---|---|
//! | a row that fits both parts of `A+ B` | stays with `A+`: often no match | goes to `B` where the match needs it |
//! | several ends: `A B* C` where rows are `B` and `C` | the first that is complete | the preferred one: the longest for a greedy `B*` |
//! | a match behind an earlier row that nothing decides until the input ends | is lost | comes at the end |
//! | `A B?` and other optional greedy ends | without `B` | with `B` where the next row is one |
//! | `A B*`, `A B+`, `A B{2,3}` at the end | refused | ends where no further row is `B` |
//! | groups `(A B)+`, alternatives `A \| B`, a variable that stands twice, `B??`, `B{,2}`, `A+ B?`, ALL ROWS PER MATCH, CLASSIFIER() | refused | as in the standard |
//! | `^`, `$`, SUBSET, DEFINE of a variable that is not in PATTERN | without effect | refused |

mod advance;
mod condition;
mod output;
mod pattern;
mod rows;
mod search;
mod snapshot;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};

use crate::error::{Error, Result};
use crate::operators::top_n::SortColumn;
use crate::operators::window_aggregate::assign::to_millis;
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::state::sort_key::{SortKeyEncoder, SortKeys};
use crate::state::{GroupDirectory, RowStore};
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{ChangeBatch, Timestamp};

use condition::Trail;
use output::Emitting;
use rows::ComputedRows;
use search::Search;

pub use condition::{Comparison, Condition, Input, RowRef};
pub use output::MatchOutput;
pub use pattern::{Pattern, Program};
pub use rows::{RowValues, is_comparable};

/// Where the next match may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd)]
pub enum AfterMatch {
    /// Behind the match.
    PastLastRow,
    /// At its second row.
    ToNextRow,
    /// At its first row of a variable.
    ToFirst(u8),
    /// At its last row of a variable.
    ToLast(u8),
}

/// A MATCH_RECOGNIZE.
#[derive(Debug, Clone)]
pub struct MatchRecognizeConfig {
    /// Columns of the rows.
    pub input: SchemaRef,
    /// The key.
    pub partition: Vec<usize>,
    /// The time that orders rows, ascending.
    pub time: usize,
    /// The order of rows of one time.
    pub then: Vec<SortColumn>,
    /// The pattern.
    pub program: Program,
    /// Rows that a match has at least.
    pub least_rows: u64,
    /// Names of the variables.
    pub variables: Vec<String>,
    /// By variable: which rows can be one; all where there is none.
    pub defines: Vec<Option<Condition>>,
    /// What these read of a row.
    pub values: RowValues,
    /// A match ends earlier than this after its first row, in ms.
    pub within: Option<i64>,
    /// Where the next match begins.
    pub after: AfterMatch,
    /// What comes out.
    pub output: MatchOutput,
    /// Whether a column of the output is a row time.
    pub has_row_time: bool,
    /// Rows are of the processing time at which they come, and matched at once.
    pub by_proctime: bool,
}

/// The rows of a key.
struct Partition {
    /// Rows that there are, waiting ones too.
    live: u32,
    /// Ids of the rows that the watermark has passed, in order, from the first that a match may begin at.
    rows: VecDeque<u32>,
    search: Search,
    trails: Vec<Trail>,
    /// Rows of the match that is found that have come out.
    made: Option<usize>,
    /// Whether a deadline of its is known.
    has_deadline: bool,
    /// The time that holds the watermark back.
    holds: Option<i64>,
    /// Whether a match has begun that is undecided.
    is_partial: bool,
}

impl Partition {
    fn new(referred: usize) -> Self {
        Partition {
            live: 0,
            rows: VecDeque::new(),
            search: Search::new(referred),
            trails: Vec::new(),
            made: None,
            has_deadline: false,
            holds: None,
            is_partial: false,
        }
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.rows.capacity() * 4 + self.search.size()
    }
}

/// The operator; see the module.
pub struct MatchRecognizeOperator {
    config: MatchRecognizeConfig,
    /// Whether whether a row fits depends on the row alone.
    local: bool,
    referred: usize,
    directory: GroupDirectory,
    encoder: SortKeyEncoder,
    store: RowStore,
    computed: ComputedRows,
    /// By id: order, time in ms, slot.
    keys: SortKeys,
    times: Vec<i64>,
    slots: Vec<u32>,
    free: Vec<u32>,
    /// Ids of rows that the watermark has not passed, by time.
    waiting: BTreeMap<i64, Vec<u32>>,
    /// By slot.
    partitions: Vec<Partition>,
    /// Slots to go on with, and whether no more rows of them can come.
    queue: VecDeque<(u32, bool)>,
    /// Slots with rows from a snapshot, which nobody has looked at yet.
    restored: Vec<u32>,
    /// The slot of the last row, where rows come in order, key by key.
    current: Option<u32>,
    deadlines: BinaryHeap<Reverse<(i64, u32)>>,
    emitting: Emitting,
    /// Ids of rows that nothing looks at but what is about to come out.
    gone: Vec<u32>,
    /// First rows of what is undecided, by time.
    held: BTreeMap<i64, u32>,
    watermark: i64,
    arrivals: u64,
    late_rows: u64,
    null_times: u64,
    live_rows: u64,
    /// Keys with a match that has begun.
    partial_matches: u64,
}

impl std::fmt::Debug for MatchRecognizeOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MatchRecognizeOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl MatchRecognizeOperator {
    /// An instance without rows.
    ///
    /// # Errors
    /// Internal if the parts do not fit together; unsupported for columns that cannot be kept or compared.
    pub fn new(config: MatchRecognizeConfig) -> Result<Self> {
        if config.variables.len() > usize::from(u8::MAX) || config.defines.len() != config.variables.len() {
            return Err(Error::internal("a row pattern whose variables are not defined"));
        }
        if config.least_rows == 0 {
            return Err(Error::internal("a row pattern without rows"));
        }
        let ty = |c: usize| config.input.field(c).data_type().clone();
        let types: Vec<DataType> = config.input.fields().iter().map(|f| f.data_type().clone()).collect();
        let ascending = SortColumn { column: config.time, options: SortOptions::default() };
        let sort: Vec<_> =
            std::iter::once(&ascending).chain(&config.then).map(|o| (ty(o.column), o.options)).collect();
        let partition: Vec<DataType> = config.partition.iter().map(|c| ty(*c)).collect();
        let defines = config.defines.iter().flatten();
        Ok(MatchRecognizeOperator {
            local: defines.clone().all(Condition::is_local),
            referred: defines.map(Condition::referred).max().unwrap_or(0),
            directory: GroupDirectory::new(&partition)?,
            encoder: SortKeyEncoder::new(&sort)?,
            store: RowStore::new(&types)?,
            computed: ComputedRows::new(config.values.clone(), Arc::clone(&config.input))?,
            emitting: Emitting::new(config.output.clone(), Arc::clone(&config.input)),
            config,
            keys: SortKeys::default(),
            times: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            waiting: BTreeMap::new(),
            partitions: Vec::new(),
            queue: VecDeque::new(),
            restored: Vec::new(),
            current: None,
            deadlines: BinaryHeap::new(),
            gone: Vec::new(),
            held: BTreeMap::new(),
            watermark: i64::MIN,
            arrivals: 0,
            late_rows: 0,
            null_times: 0,
            live_rows: 0,
            partial_matches: 0,
        })
    }

    /// Stores the rows of a batch that are not late; gives their ids.
    fn keep(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        arrival: impl Fn(usize) -> Option<u64>,
        is_late: impl Fn(usize, i64) -> bool,
    ) -> Result<Vec<u32>> {
        let of =
            |wanted: &[usize]| -> Vec<ArrayRef> { wanted.iter().map(|c| Arc::clone(&columns[*c])).collect() };
        let order: Vec<usize> =
            std::iter::once(self.config.time).chain(self.config.then.iter().map(|o| o.column)).collect();
        let keys = self.encoder.encode(&of(&order), rows)?;
        let mut times = Vec::with_capacity(rows);
        to_millis(&columns[self.config.time], &mut times)?;
        let nulls = columns[self.config.time].logical_nulls();
        let mut slots = Vec::new();
        self.directory.intern(&of(&self.config.partition), rows, &mut slots)?;
        let (capacity, referred) = (self.directory.capacity().max(self.partitions.len()), self.referred);
        self.partitions.resize_with(capacity, || Partition::new(referred));
        let source = self.store.source(columns)?;
        let (mut ids, mut kept) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let mut idle = Vec::new();
        for row in 0..rows {
            if nulls.as_ref().is_some_and(|n| n.is_null(row)) {
                self.null_times += 1;
                idle.push(slots[row]);
                continue;
            }
            if is_late(row, times[row]) {
                self.late_rows += 1;
                idle.push(slots[row]);
                continue;
            }
            let id = self.free.pop().unwrap_or_else(|| {
                self.slots.push(0);
                self.times.push(0);
                (self.slots.len() - 1) as u32
            });
            self.slots[id as usize] = slots[row];
            self.partitions[slots[row] as usize].live += 1;
            self.times[id as usize] = times[row];
            let arrival = arrival(row).unwrap_or(self.arrivals);
            self.arrivals = self.arrivals.max(arrival) + 1;
            self.keys.put(id, &keys, row, arrival);
            ids.push(id);
            kept.push(row as u32);
        }
        self.store.put(&ids, &source, &kept);
        let batch = RecordBatch::try_new(Arc::clone(&self.config.input), columns.to_vec())?;
        self.computed.put(&batch, &kept, &ids)?;
        self.live_rows += ids.len() as u64;
        self.forget(idle);
        Ok(ids)
    }

    /// Gives back those of some slots that have no rows.
    fn forget(&mut self, mut slots: Vec<u32>) {
        if slots.is_empty() {
            return;
        }
        slots.sort_unstable();
        slots.dedup();
        slots.retain(|s| self.partitions[*s as usize].live == 0);
        self.directory.remove(&slots);
        for slot in slots {
            self.hold(slot as usize, None);
            self.note_partial(slot as usize, false);
            self.partitions[slot as usize] = Partition::new(self.referred);
        }
    }
}

impl Operator for MatchRecognizeOperator {
    fn name(&self) -> &'static str {
        "Match"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        if batch.kinds.is_some() {
            return Err(Error::internal("Match: updates in append-only input"));
        }
        if self.config.by_proctime {
            return self.process_arrivals(&batch.rows, out);
        }
        let watermark = self.watermark;
        let is_late = |_: usize, time: i64| time <= watermark;
        let ids = self.keep(batch.rows.columns(), batch.num_rows(), |_| None, is_late)?;
        self.wait(&ids);
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut Output) -> Result<Progress> {
        // By processing time only the end of all time means something.
        if self.config.by_proctime && watermark != Timestamp::MAX {
            return Ok(Progress::Done);
        }
        self.watermark = self.watermark.max(watermark.0);
        self.release();
        self.resume(out)
    }

    fn takes_time(&self) -> bool {
        self.config.by_proctime
    }

    fn on_timer(&mut self, now: Timestamp, out: &mut Output) -> Result<Progress> {
        if !self.config.by_proctime {
            return Ok(Progress::Done);
        }
        // A clock that was set back stands still.
        self.watermark = self.watermark.max(now.0);
        self.release();
        self.resume(out)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        let Reverse((time, _)) = self.deadlines.peek().filter(|_| self.config.by_proctime)?;
        Some(Timestamp(*time))
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        while let Some((slot, ended)) = self.queue.pop_front() {
            if self.advance(slot, ended, out)? == Progress::More {
                self.queue.push_front((slot, ended));
                return Ok(Progress::More);
            }
        }
        self.flush_matches(out)?;
        Ok(Progress::Done)
    }

    fn output_watermark(&self) -> Option<Timestamp> {
        self.held.first_key_value().map(|(time, _)| Timestamp(time.saturating_sub(1)))
    }

    fn spillable(&self) -> Spillable {
        Spillable::ByWatermark.if_keyed(!self.config.partition.is_empty() && !self.config.by_proctime)
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        self.write(writer)
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        self.read(reader)
    }

    fn metrics(&self) -> OperatorMetrics {
        let partitions: usize = self.partitions.iter().map(Partition::size).sum();
        let by_id = self.times.capacity() * 8 + (self.slots.capacity() + self.free.capacity()) * 4;
        let bytes = self.directory.size()
            + self.store.size()
            + self.computed.size()
            + self.keys.size()
            + self.deadlines.len() * 16
            + by_id
            + partitions;
        OperatorMetrics {
            late_rows_dropped: self.late_rows,
            null_times_dropped: self.null_times,
            state_entries: self.live_rows,
            state_bytes: bytes as u64,
            partial_matches: self.partial_matches,
        }
    }
}

#[cfg(test)]
mod tests;
