//! The head of a source task: computed columns, watermarks per split, idleness.
//!
//! ```text
//!  SourceReader ─► batch of split s ─► computed columns ─► watermark of s = max(expr) ─► minimum over active splits
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast, max};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit};
use datafusion::physical_plan::PhysicalExpr;

use crate::edges::SplitId;
use crate::error::{Error, Result, ResultExt};
use crate::functions::room::Parts;
use crate::runtime::alignment::{Alignment, Member};
use crate::runtime::event_time::{Behind, SourceTime, tell_stalled};
use crate::runtime::job::JobMetrics;
use crate::stream::watermark::{Change, WatermarkTracker};
use crate::stream::{Activity, BATCH_BYTES, ChangeBatch, RowKind, Timestamp};

/// How the watermark follows from a batch.
#[derive(Debug, Clone)]
pub enum WatermarkExpr {
    /// `column - delay`: the maximum of the column is enough.
    Delay {
        /// Row-time column.
        column: usize,
        /// Milliseconds; may be negative.
        delay_ms: i64,
    },
    /// Any other expression, evaluated for every row.
    Any {
        /// Row-time column.
        column: usize,
        /// The watermark, a timestamp.
        expr: Arc<dyn PhysicalExpr>,
    },
}

/// What a source task does to the rows of its reader.
#[derive(Debug, Clone, Default)]
pub struct SourceSpec {
    /// The columns to make of the reader's, with their schema; `None` to take them as they are.
    pub projection: Option<(Vec<Arc<dyn PhysicalExpr>>, SchemaRef)>,
    /// Its watermark, over the columns made.
    pub watermark: Option<WatermarkExpr>,
    /// Nobody needs the old rows of updates.
    pub drop_update_before: bool,
    /// A split without rows for so long no longer holds the watermark back, nor does a reader without splits.
    pub idle_timeout: Option<Duration>,
    /// A watermark follows every row.
    pub on_event: bool,
    /// Readers of its group wait for each other.
    pub alignment: Option<Alignment>,
    /// Splits are read one after the other: one without rows waits for its turn.
    pub in_turn: bool,
    /// Name of the table, for messages.
    pub table: String,
    /// What all subtasks of the source have seen of time.
    pub time: Arc<SourceTime>,
}

/// How often it is looked whether something is wrong with time.
const LOOK_EVERY: Duration = Duration::from_secs(2);

struct Split {
    input: usize,
    last_row: Instant,
    watermark: Timestamp,
    idle: bool,
}

/// Applies a [`SourceSpec`] batch by batch.
pub struct SourceHead {
    spec: SourceSpec,
    tracker: WatermarkTracker,
    splits: HashMap<SplitId, Split>,
    /// Holds the watermark between the end of one split and the start of the next.
    running: usize,
    /// Since when there is no split, and whether that no longer holds the watermark back.
    without: (Instant, bool),
    behind: Behind,
    /// Among the readers that wait for each other.
    member: Option<Member>,
    /// When to look again whether something is wrong with time.
    tell_at: Option<Instant>,
}

impl SourceHead {
    /// A head without splits.
    pub fn new(spec: SourceSpec) -> Self {
        let mut tracker = WatermarkTracker::default();
        let (running, now) = (tracker.add(), Instant::now());
        let tell_at = spec.watermark.is_some().then(|| now + LOOK_EVERY);
        let member = spec.alignment.clone().map(Member::new);
        SourceHead {
            member,
            spec,
            tracker,
            splits: HashMap::new(),
            running,
            without: (now, false),
            behind: Behind::default(),
            tell_at,
        }
    }

    /// Goes on from where a snapshot left time.
    #[must_use]
    pub fn restored(mut self, watermark: Option<Timestamp>) -> Self {
        self.tracker.restore(watermark.unwrap_or(Timestamp::MIN));
        self
    }

    /// Splits whose time is held, and one for the time between splits.
    #[cfg(test)]
    pub fn inputs(&self) -> usize {
        self.tracker.len()
    }

    /// Whether a watermark follows every row.
    pub fn is_on_event(&self) -> bool {
        self.spec.on_event
    }

    /// How long to wait for other readers before the next row; `None` if there is nobody to wait for.
    pub fn waits(&self) -> Option<Duration> {
        let member = self.member.as_ref()?;
        // Who has no split yet, or only idle ones, is not waited for.
        let counts = self.splits.values().any(|s| !s.idle);
        let watermark = self.tracker.current();
        member.tell(Some(watermark).filter(|_| counts));
        (counts && member.is_ahead(watermark)).then(|| member.interval())
    }

    /// No row comes any more: nobody waits for this reader.
    pub fn leave(&mut self) {
        self.member = None;
    }

    /// The watermark so far.
    pub fn watermark(&self) -> Timestamp {
        self.tracker.current()
    }

    /// Whether it may still hold the watermark back.
    pub fn activity(&self) -> Activity {
        self.tracker.activity()
    }

    /// The reader has begun to read a split.
    pub fn start_split(&mut self, split: SplitId, now: Instant) -> Change {
        if self.splits.contains_key(&split) {
            return Change::default();
        }
        let input = self.tracker.add();
        self.splits.insert(split, Split { input, last_row: now, watermark: Timestamp::MIN, idle: false });
        // From now on the splits decide.
        self.tracker.on_activity(self.running, Activity::Idle)
    }

    /// A split has ended. While none is left the watermark stays where it is.
    pub fn finish_split(&mut self, split: SplitId, now: Instant) -> Change {
        let Some(split) = self.splits.remove(&split) else { return Change::default() };
        if self.splits.is_empty() {
            self.without = (now, false);
            let reached = self.tracker.current();
            self.tracker.on_watermark(self.running, reached);
            self.tracker.on_activity(self.running, Activity::Active);
        }
        self.tracker.forget(split.input)
    }

    /// Rows of a split: gives the rows to send on, and what they do to the watermark (to be sent after them).
    ///
    /// # Errors
    /// Data for a NULL row time or a failing expression.
    pub fn batch(
        &mut self,
        split: SplitId,
        batch: ChangeBatch,
        now: Instant,
    ) -> Result<(Vec<ChangeBatch>, Change)> {
        let mut change = self.start_split(split, now);
        let batch = if self.spec.drop_update_before { batch.without_update_before()? } else { batch };
        let batches = match &self.spec.projection {
            _ if batch.num_rows() == 0 => return Ok((Vec::new(), change)),
            None => vec![batch],
            Some((exprs, schema)) => {
                let (mut parts, mut made, mut at) = (Parts::of(batch.num_rows()), Vec::with_capacity(1), 0);
                while let Some(rows) =
                    parts.project(&batch.rows, exprs, schema, |row| batch.holds_next(row))?
                {
                    let kinds = batch.kinds.as_ref().map(|k| k.slice(at, rows.num_rows()));
                    at += rows.num_rows();
                    made.push(ChangeBatch { rows, kinds });
                }
                made
            }
        };
        let mut reached = None;
        for batch in &batches {
            reached = reached.max(self.time_of(batch, now)?);
        }
        self.advance(split, reached, now, &mut change);
        Ok((batches.into_iter().flat_map(|b| b.slices(BATCH_BYTES)).collect(), change))
    }

    /// The watermark of a batch, and what it says of whether the split is behind.
    fn time_of(&mut self, batch: &ChangeBatch, now: Instant) -> Result<Option<Timestamp>> {
        let Some(expr) = &self.spec.watermark else { return Ok(None) };
        let (before, watermark) = (self.tracker.current(), watermark_of(expr, batch)?);
        // Most batches are ahead, and then nobody has to know by how much.
        if watermark.is_some_and(|w| w < before) {
            let (name, latest) = latest_row_time(expr, batch)?;
            self.behind.rows(batch.num_rows() as u64, name, latest, before, now);
        } else {
            self.behind.ahead(batch.num_rows() as u64);
        }
        Ok(watermark)
    }

    /// A source dropped rows up to `row_time` that the query would drop behind the watermark.
    pub fn dropped(&mut self, split: SplitId, row_time: Timestamp, now: Instant) -> Change {
        let mut change = self.start_split(split, now);
        let watermark = match &self.spec.watermark {
            Some(WatermarkExpr::Delay { delay_ms, .. }) => {
                Some(Timestamp(row_time.0.saturating_sub(*delay_ms)))
            }
            _ => None,
        };
        self.advance(split, watermark, now, &mut change);
        change
    }

    /// Rows of a split were there.
    fn advance(&mut self, split: SplitId, watermark: Option<Timestamp>, now: Instant, change: &mut Change) {
        let Some(s) = self.splits.get_mut(&split) else { return };
        s.last_row = now;
        if let Some(watermark) = watermark {
            s.watermark = s.watermark.max(watermark);
            self.spec.time.rows(s.watermark, now);
        }
        if s.idle {
            s.idle = false;
            merge(change, self.tracker.on_activity(s.input, Activity::Active));
        }
        if let Some(watermark) = watermark {
            merge(change, self.tracker.on_watermark(s.input, watermark));
        }
    }

    /// When the next split may become idle.
    fn next_idle_check(&self) -> Option<Instant> {
        let timeout = self.spec.idle_timeout?;
        if self.splits.is_empty() {
            return Some(self.without.0 + timeout).filter(|_| !self.without.1);
        }
        let split = self.splits.values().filter(|s| !s.idle && !self.spec.in_turn);
        split.map(|s| s.last_row + timeout).min()
    }

    /// When there is something to do though no row comes: [`SourceHead::check_idle`] or [`SourceHead::tell`].
    pub fn next_check(&self) -> Option<Instant> {
        self.next_idle_check().into_iter().chain(self.tell_at).min()
    }

    /// Tells what is wrong with time, if anything is and it is time to look.
    pub fn tell(&mut self, metrics: &JobMetrics, now: Instant, end: bool) {
        if !end && self.tell_at.is_none_or(|at| now < at) {
            return;
        }
        self.tell_at = Some(now + LOOK_EVERY);
        let table = &self.spec.table;
        self.behind.tell(table, metrics, now, end);
        if self.spec.idle_timeout.is_some() {
            return;
        }
        let tell = |what: &str, since: Instant, watermark: Timestamp| {
            tell_stalled((table, what), &self.spec.time, since, watermark, now, &metrics.notices);
        };
        if self.splits.is_empty() {
            tell("a subtask without partitions or files", self.without.0, self.tracker.current());
        }
        for split in self.splits.values().filter(|_| !self.spec.in_turn) {
            tell("a partition without rows", split.last_row, split.watermark);
        }
    }

    /// Marks splits idle that had no rows for the timeout, or the reader if it has no splits.
    pub fn check_idle(&mut self, now: Instant) -> Change {
        let mut change = Change::default();
        let Some(timeout) = self.spec.idle_timeout else { return change };
        if self.splits.is_empty() && !self.without.1 && now >= self.without.0 + timeout {
            self.without.1 = true;
            return self.tracker.on_activity(self.running, Activity::Idle);
        }
        if self.spec.in_turn {
            return change;
        }
        for split in self.splits.values_mut() {
            if !split.idle && now >= split.last_row + timeout {
                split.idle = true;
                merge(&mut change, self.tracker.on_activity(split.input, Activity::Idle));
            }
        }
        change
    }
}

fn merge(change: &mut Change, later: Change) {
    change.watermark = later.watermark.or(change.watermark);
    change.activity = later.activity.or(change.activity);
}

/// The row time column and the latest time in it.
fn latest_row_time<'a>(expr: &WatermarkExpr, batch: &'a ChangeBatch) -> Result<(&'a str, Timestamp)> {
    let (WatermarkExpr::Delay { column, .. } | WatermarkExpr::Any { column, .. }) = expr;
    let latest = max_millis(batch.rows.column(*column))?.unwrap_or(i64::MIN);
    Ok((batch.rows.schema_ref().field(*column).name(), Timestamp(latest)))
}

fn watermark_of(expr: &WatermarkExpr, batch: &ChangeBatch) -> Result<Option<Timestamp>> {
    let rows = &batch.rows;
    let (column, values, delay_ms) = match expr {
        WatermarkExpr::Delay { column, delay_ms } => (*column, rows.column(*column).clone(), *delay_ms),
        WatermarkExpr::Any { column, expr } => {
            (*column, expr.evaluate(rows)?.into_array(rows.num_rows())?, 0)
        }
    };
    // A deletion by key has no more than the key.
    let time = rows.column(column);
    if time.null_count() > 0 && (0..time.len()).any(|i| time.is_null(i) && batch.kind(i) != RowKind::Delete) {
        let name = rows.schema_ref().field(column).name().clone();
        return Err(Error::data(format!("the row time column `{name}` is NULL in a row")).hint(
            "filter such rows in a computed column, e.g. ts AS COALESCE(t, TIMESTAMP '1970-01-01 00:00:00')",
        ));
    }
    Ok(max_millis(&values).context(|| "watermark")?.map(|ms| Timestamp(ms.saturating_sub(delay_ms))))
}

/// Greatest value of a timestamp array in milliseconds, rounded down; `None` if there is none.
fn max_millis(values: &ArrayRef) -> Result<Option<i64>> {
    let DataType::Timestamp(unit, _) = values.data_type() else {
        return Err(Error::internal(format!("a watermark has type {}", values.data_type())));
    };
    let raw = cast(values, &DataType::Int64)?;
    Ok(max(raw.as_primitive::<Int64Type>()).map(|v| match unit {
        TimeUnit::Second => v.saturating_mul(1000),
        TimeUnit::Millisecond => v,
        TimeUnit::Microsecond => v.div_euclid(1000),
        TimeUnit::Nanosecond => v.div_euclid(1_000_000),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_without_splits_becomes_idle_and_one_that_reads_in_turn_does_not() {
        let second = Duration::from_secs(1);
        for in_turn in [false, true] {
            let spec = SourceSpec {
                watermark: Some(WatermarkExpr::Delay { column: 0, delay_ms: 0 }),
                idle_timeout: Some(second),
                in_turn,
                ..SourceSpec::default()
            };
            let mut head = SourceHead::new(spec);
            let start = Instant::now();
            assert!(head.next_idle_check().is_some());
            assert_eq!(head.check_idle(start + 2 * second).activity, Some(Activity::Idle));
            assert_eq!(head.next_idle_check(), None);
            assert_eq!(head.start_split(1, start).activity, Some(Activity::Active));
            head.start_split(2, start);
            head.dropped(1, Timestamp(7), start);
            // The second one waits for the first, or is silent.
            let change = head.check_idle(start + 2 * second);
            assert_eq!(
                (change.activity, head.watermark()),
                match in_turn {
                    true => (None, Timestamp::MIN),
                    false => (Some(Activity::Idle), Timestamp(7)),
                }
            );
            head.dropped(2, Timestamp(5), start);
            head.finish_split(1, start);
            head.finish_split(2, start + second);
            assert_eq!(head.activity(), Activity::Active);
            assert_eq!(head.check_idle(start + second + second / 2).activity, None);
            assert_eq!(head.check_idle(start + 2 * second).activity, Some(Activity::Idle));
        }
    }

    #[test]
    fn time_costs_by_the_open_splits_not_by_all_there_were() {
        let spec = SourceSpec {
            watermark: Some(WatermarkExpr::Delay { column: 0, delay_ms: 0 }),
            ..SourceSpec::default()
        };
        let (mut head, now) = (SourceHead::new(spec), Instant::now());
        let mut reached = Timestamp::MIN;
        for i in 0..1000 {
            let split = i as SplitId;
            head.start_split(split, now);
            // Every third file is older than the one before: time does not go back.
            let row_time = Timestamp(if i % 3 == 2 { i - 10 } else { i });
            reached = reached.max(row_time);
            head.dropped(split, row_time, now);
            assert_eq!(head.watermark(), reached);
            head.finish_split(split, now);
            assert_eq!((head.inputs(), head.watermark()), (1, reached));
        }
    }
    /// A split as the model has it.
    struct Told {
        watermark: i64,
        last_row: u64,
        idle: bool,
    }

    /// Splits that begin, have rows, are silent and end, in any order: the watermark is the lowest of those that are not
    /// idle, of idle ones alone the highest, and never goes back; a reader without any is idle after a while.
    #[test]
    fn whatever_splits_do_time_is_that_of_the_last_of_those_that_have_rows() {
        let mut state = 7_u64;
        let mut random = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        const TIMEOUT: u64 = 10;
        for run in 0..200 {
            let spec = SourceSpec {
                watermark: Some(WatermarkExpr::Delay { column: 0, delay_ms: 3 }),
                idle_timeout: Some(Duration::from_secs(TIMEOUT)),
                ..SourceSpec::default()
            };
            let mut head = SourceHead::new(spec);
            let begin = Instant::now();
            let at = |seconds: u64| begin + Duration::from_secs(seconds);
            let mut splits: std::collections::BTreeMap<SplitId, Told> = std::collections::BTreeMap::new();
            let (mut now, mut reached, mut none_since, mut none_is_idle) = (0, i64::MIN, 0, false);
            for step in 0..80 {
                now += random(4);
                let split = random(5) as SplitId;
                match random(10) {
                    0 => {
                        head.finish_split(split, at(now));
                        if splits.remove(&split).is_some() && splits.is_empty() {
                            (none_since, none_is_idle) = (now, false);
                        }
                    }
                    1 => {
                        head.start_split(split, at(now));
                        let told = Told { watermark: i64::MIN, last_row: now, idle: false };
                        splits.entry(split).or_insert(told);
                    }
                    2..=4 => {
                        head.check_idle(at(now));
                        splits.values_mut().for_each(|s| s.idle |= now >= s.last_row + TIMEOUT);
                        none_is_idle |= splits.is_empty() && now >= none_since + TIMEOUT;
                    }
                    _ => {
                        // Out of order, by more than the delay.
                        let time = (now * 10 + random(60)) as i64;
                        head.dropped(split, Timestamp(time), at(now));
                        let told = Told { watermark: i64::MIN, last_row: now, idle: false };
                        let told = splits.entry(split).or_insert(told);
                        told.watermark = told.watermark.max(time - 3);
                        (told.last_row, told.idle) = (now, false);
                    }
                }
                let lowest = splits.values().filter(|s| !s.idle).map(|s| s.watermark).min();
                let highest = splits.values().map(|s| s.watermark).max();
                reached = reached.max(lowest.or(highest).unwrap_or(i64::MIN));
                let is_idle = if splits.is_empty() { none_is_idle } else { lowest.is_none() };
                let about = format!("run {run}, step {step}, {} splits", splits.len());
                assert_eq!(head.watermark(), Timestamp(reached), "{about}");
                assert_eq!(head.activity() == Activity::Idle, is_idle, "{about}");
                assert_eq!(head.inputs(), splits.len() + 1, "{about}");
            }
        }
    }
}
