//! Drives operators in tests with a small text language.
//!
//! ```text
//!  +I 1 a 12:00:01        a row: its kind, then one word per column
//!  -U 1 'a b' null        quotes for words with spaces; null (or '' for the empty string)
//!                         an empty line ends a batch, so does every control line
//!  ~ 12:00:05             a watermark: time of 1970-01-01, `1970-01-02T00:00:00`, or milliseconds
//!  @ 12:00:05             processing time
//!  | 3                    barrier of epoch 3: drain, then snapshot
//!  | 3 x4                 as above, then restore into four fresh subtasks
//!  .                      end of input: the greatest watermark, flush, on_end
//! ```
//!
//! What comes out is printed in the same language, one line per row, watermarks and barriers echoed.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::{Error, Result};
use crate::runtime::operator::{Operator, OperatorMetrics, Output, Progress, Spillable};
use crate::runtime::spilling::memory::StateMemory;
use crate::runtime::spilling::{PartitionFactory, SpillingConfig, SpillingOperator};
use crate::state::key::hash_columns;
use crate::stream::key_group::{KeyGroup, KeyGroupRange, subtask_of};
use crate::stream::snapshot::{OperatorSnapshot, SnapshotReader, SnapshotWriter};
use crate::stream::{ChangeBatch, RowKind, RowKinds, Timestamp};

/// Makes one subtask's instance.
pub type Make = Arc<dyn Fn(KeyGroupRange) -> Result<Box<dyn Operator>> + Send + Sync>;

/// Runs an operator, in one or several subtasks, through scripts.
pub struct OperatorHarness {
    make: Make,
    input: SchemaRef,
    /// Input columns that decide the subtask.
    keys: Vec<usize>,
    subtasks: Vec<Box<dyn Operator>>,
    /// State as of the last barrier.
    snapshot: OperatorSnapshot,
}

impl OperatorHarness {
    /// One subtask with rows of `input`; `keys` are the input columns that the exchange hashes.
    pub fn new(
        input: SchemaRef,
        keys: &[usize],
        make: impl Fn(KeyGroupRange) -> Result<Box<dyn Operator>> + Send + Sync + 'static,
    ) -> Self {
        let mut harness = OperatorHarness {
            make: Arc::new(make),
            input,
            keys: keys.to_vec(),
            subtasks: Vec::new(),
            snapshot: OperatorSnapshot::new(),
        };
        harness.start(1);
        harness
    }

    /// The same with room for no state: it rests on disk by key group. Rows and watermarks wait until a barrier or the end.
    #[must_use]
    pub fn resting(mut self) -> Self {
        let memory = StateMemory::new(2, std::env::temp_dir());
        let (make, keys) = (Arc::clone(&self.make), self.keys.clone());
        self.make = Arc::new(move |range| {
            let factory: PartitionFactory = make.clone();
            let operator = factory(range)?;
            assert_ne!(operator.spillable(), Spillable::No, "{} cannot rest", operator.name());
            let config = SpillingConfig { factory, keys: vec![keys.clone()], range };
            Ok(Box::new(SpillingOperator::new(operator, config, memory.share())))
        });
        self.start(1);
        self
    }

    /// Replaces all subtasks by fresh ones that start from the last barrier.
    pub fn start(&mut self, parallelism: usize) {
        self.subtasks = (0..parallelism)
            .map(|i| {
                let range = KeyGroupRange::of_subtask(i, parallelism);
                let mut subtask = (self.make)(range).expect("the operator can be made");
                let reader = SnapshotReader::new(self.snapshot.clone(), range);
                subtask.restore(&reader).expect("the state can be restored");
                reader.finish().expect("all state is known");
                subtask
            })
            .collect();
    }

    /// Runs a script and gives what came out.
    ///
    /// # Panics
    /// When the script does not parse or an operator fails.
    pub fn run(&mut self, script: &str) -> String {
        self.try_run(script).expect("the script runs")
    }

    /// Runs a script and gives what came out.
    ///
    /// # Errors
    /// What the operator fails with.
    pub fn try_run(&mut self, script: &str) -> Result<String> {
        let mut text = Vec::new();
        let mut rows: Vec<&str> = Vec::new();
        for line in script.lines().map(str::trim) {
            if line.starts_with(['+', '-']) {
                rows.push(line);
                continue;
            }
            if !rows.is_empty() {
                let batch = parse_batch(&self.input, &rows);
                rows.clear();
                self.process(&batch, &mut text)?;
            }
            let (command, rest) = line.split_at(line.len().min(1));
            let rest = rest.trim();
            match command {
                "" => {}
                "~" => {
                    self.watermark(Timestamp(parse_time(rest)), &mut text)?;
                    text.push(line.to_owned());
                }
                "@" => {
                    for i in 0..self.subtasks.len() {
                        self.call(i, &mut text, |s, out| s.on_timer(Timestamp(parse_time(rest)), out))?;
                    }
                }
                "|" => {
                    self.barrier(&mut text)?;
                    text.push(line.to_owned());
                    if let Some((_, parallelism)) = rest.split_once('x') {
                        self.start(parallelism.parse().expect("a number of subtasks"));
                    }
                }
                "." => {
                    self.watermark(Timestamp::MAX, &mut text)?;
                    for i in 0..self.subtasks.len() {
                        self.call(i, &mut text, |s, out| s.flush(out))?;
                        self.call(i, &mut text, |s, out| s.on_end(out))?;
                    }
                }
                _ => panic!("not a line of a script: {line}"),
            }
        }
        if !rows.is_empty() {
            let batch = parse_batch(&self.input, &rows);
            self.process(&batch, &mut text)?;
        }
        Ok(text.join("\n"))
    }

    /// Sends one batch through the exchange.
    ///
    /// # Errors
    /// What the operator fails with.
    pub fn process(&mut self, batch: &ChangeBatch, text: &mut Vec<String>) -> Result<()> {
        let n = self.subtasks.len();
        let mut targets: Vec<Vec<u32>> = vec![Vec::new(); n];
        let keys: Vec<ArrayRef> = self.keys.iter().map(|k| Arc::clone(batch.rows.column(*k))).collect();
        let mut hashes = Vec::new();
        hash_columns(&keys, batch.num_rows(), &mut hashes)?;
        for (row, hash) in hashes.iter().enumerate() {
            targets[subtask_of(KeyGroup::of_hash(*hash), n)].push(row as u32);
        }
        for (i, rows) in targets.into_iter().enumerate() {
            if rows.is_empty() && n > 1 {
                continue;
            }
            let part = if rows.len() == batch.num_rows() {
                batch.clone()
            } else {
                let kinds: Option<Vec<u8>> = batch
                    .kinds
                    .as_ref()
                    .map(|k| rows.iter().map(|r| k.codes()[*r as usize]).collect::<Vec<u8>>());
                let rows = take_record_batch(&batch.rows, &UInt32Array::from(rows))?;
                match kinds {
                    Some(kinds) => ChangeBatch::with_kinds(rows, RowKinds::new(kinds)),
                    None => ChangeBatch::insert_only(rows),
                }
            };
            self.call(i, text, |s, out| s.process(0, part.clone(), out))?;
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: Timestamp, text: &mut Vec<String>) -> Result<()> {
        for i in 0..self.subtasks.len() {
            self.call(i, text, |s, out| s.flush(out))?;
            self.call(i, text, |s, out| s.on_watermark(watermark, out))?;
        }
        Ok(())
    }

    fn barrier(&mut self, text: &mut Vec<String>) -> Result<()> {
        let mut all = OperatorSnapshot::new();
        for i in 0..self.subtasks.len() {
            self.call(i, text, |s, out| s.drain(out))?;
            let mut writer = SnapshotWriter::new();
            self.subtasks[i].snapshot(&mut writer)?;
            for (table, parts) in writer.finish() {
                all.entry(table).or_default().extend(parts);
            }
        }
        self.snapshot = all;
        Ok(())
    }

    fn call(
        &mut self,
        subtask: usize,
        text: &mut Vec<String>,
        f: impl FnOnce(&mut dyn Operator, &mut Output) -> Result<Progress>,
    ) -> Result<()> {
        let mut out = Output::new();
        let mut progress = f(self.subtasks[subtask].as_mut(), &mut out)?;
        loop {
            for batch in out.drain() {
                text.extend(format_batch(&batch));
            }
            if progress == Progress::Done {
                return Ok(());
            }
            progress = self.subtasks[subtask].resume(&mut out)?;
        }
    }

    /// Counters of all subtasks, added up.
    pub fn metrics(&self) -> OperatorMetrics {
        let mut all = OperatorMetrics::default();
        self.subtasks.iter().for_each(|s| all += s.metrics());
        all
    }

    /// State as of the last barrier.
    pub fn snapshot(&self) -> &OperatorSnapshot {
        &self.snapshot
    }
}

/// What remains of a changelog: its rows without kinds, sorted.
pub fn materialize(output: &str) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    for line in output.lines().filter(|l| l.starts_with(['+', '-'])) {
        let (kind, row) = line.split_at(2);
        let row = row.trim();
        if kind.starts_with('+') {
            rows.push(row.to_owned());
        } else {
            let at = rows.iter().position(|r| r == row);
            rows.remove(
                at.unwrap_or_else(|| panic!("{line} takes away a row that was never sent:\n{output}")),
            );
        }
    }
    rows.sort();
    rows
}

/// A time of the language in milliseconds.
pub fn parse_time(word: &str) -> i64 {
    if let Ok(millis) = word.parse() {
        return millis;
    }
    let column: ArrayRef = Arc::new(StringArray::from(vec![full_time(word)]));
    let millis = cast_with_options(
        &column,
        &DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None),
        &CastOptions { safe: false, ..Default::default() },
    )
    .unwrap_or_else(|e| panic!("{word} is no time: {e}"));
    arrow::array::cast::AsArray::as_primitive::<arrow::datatypes::TimestampMillisecondType>(&millis).value(0)
}

fn full_time(word: &str) -> String {
    let is_clock = word.len() >= 8 && word.as_bytes()[2] == b':';
    if is_clock { format!("1970-01-01T{word}") } else { word.to_owned() }
}

/// Rows of the language as one batch.
pub fn parse_batch(schema: &SchemaRef, lines: &[&str]) -> ChangeBatch {
    let mut kinds = Vec::new();
    let mut columns: Vec<Vec<Option<String>>> = vec![Vec::new(); schema.fields().len()];
    for line in lines {
        let words = words(line);
        assert_eq!(words.len(), columns.len() + 1, "number of columns in: {line}");
        kinds.push(match words[0].as_deref() {
            Some("+I") => RowKind::Insert as u8,
            Some("-U") => RowKind::UpdateBefore as u8,
            Some("+U") => RowKind::UpdateAfter as u8,
            Some("-D") => RowKind::Delete as u8,
            _ => panic!("no row kind in: {line}"),
        });
        for (column, word) in columns.iter_mut().zip(&words[1..]) {
            column.push(word.clone());
        }
    }
    let options = CastOptions { safe: false, ..Default::default() };
    let arrays = columns
        .into_iter()
        .zip(schema.fields())
        .map(|(words, field)| {
            let is_time = matches!(field.data_type(), DataType::Timestamp(..));
            let words: StringArray =
                words.into_iter().map(|w| w.map(|w| if is_time { full_time(&w) } else { w })).collect();
            cast_with_options(&words, field.data_type(), &options)
                .unwrap_or_else(|e| panic!("column {}: {e}", field.name()))
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(lines.len()));
    let rows = RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options).expect("a batch");
    ChangeBatch::with_kinds(rows, RowKinds::new(kinds))
}

fn words(line: &str) -> Vec<Option<String>> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, after) = if let Some(quoted) = rest.strip_prefix('\'') {
            let (word, after) = quoted.split_once('\'').expect("a closing quote");
            (Some(word.to_owned()), after)
        } else {
            let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            ((word != "null").then(|| word.to_owned()), after)
        };
        words.push(word);
        rest = after.trim_start();
    }
    words
}

/// A batch as lines of the language.
pub fn format_batch(batch: &ChangeBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let formatters: Vec<ArrayFormatter<'_>> = batch
        .rows
        .columns()
        .iter()
        .map(|c| ArrayFormatter::try_new(c.as_ref(), &options).expect("a type that prints"))
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            let mut line = batch.kind(row).symbol().to_owned();
            for (column, f) in batch.rows.columns().iter().zip(&formatters) {
                let word = f.value(row).to_string();
                let is_time = matches!(column.data_type(), DataType::Timestamp(..));
                let word = if is_time { word.trim_start_matches("1970-01-01T") } else { &word };
                line.push(' ');
                if word.is_empty() || word.contains(' ') {
                    line.push_str(&format!("'{word}'"));
                } else {
                    line.push_str(word);
                }
            }
            line
        })
        .collect()
}

/// Removes the indentation of script lines, for comparing with output.
pub fn dedent(script: &str) -> String {
    let lines: Vec<&str> = script.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    lines.join("\n")
}

/// Runs and compares; the message shows both.
pub fn check(harness: &mut OperatorHarness, script: &str, expected: &str) {
    let got = harness.run(script);
    assert_eq!(got, dedent(expected), "\n--- got:\n{got}\n---");
}

/// The message of the error that a script ends in.
pub fn failure(harness: &mut OperatorHarness, script: &str) -> String {
    match harness.try_run(script) {
        Ok(out) => panic!("no error, but:\n{out}"),
        Err(e) => Error::message(&e),
    }
}
