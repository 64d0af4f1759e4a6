//! Lookup join: each row beside the rows that a table outside has for its key when the row goes by.
//!
//! ```text
//!  o JOIN t FOR SYSTEM_TIME AS OF o.proctime ON o.k = t.k AND …
//!
//!  batch ─► keys ─► distinct ones without NULL ─► asked ⏳ … answered ─► pairs ─► residual condition ─► output
//!                                                    └ in order, several batches at a time (`runtime::in_flight`)
//! ```
//!
//! | | |
//! |---|---|
//! | state | none. Batches wait for their answers, and none of them is left at a barrier |
//! | changelog | any in, the same out: the row that a retraction takes back is looked up again, as in Flink. Where a row may have several, or a half of an update has another number of rows than one, halves become `-D` and `+I`: as `-U` that of another right row could be dropped, and its key would stay for ever |
//! | watermark | waits behind the rows that came before it |
//! | barrier, end | wait until all is answered and out |

mod pairs;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::physical_plan::PhysicalExpr;

use crate::edges::lookup::turn::within;
use crate::edges::lookup::{LookupRows, LookupSource};
use crate::error::{Error, Result};
use crate::functions::room::evaluate;
use crate::operators::join::{JoinColumn, JoinFilter};
use crate::runtime::in_flight::InFlight;
use crate::runtime::operator::{Asked, Operator, Output, Progress};
use crate::state::GroupDirectory;
use crate::stream::bytes::batch_bytes;
use crate::stream::{BATCH_ROWS, ChangeBatch, Timestamp};
use pairs::Pairs;

/// A lookup join.
#[derive(Debug, Clone)]
pub struct LookupJoinConfig {
    /// For messages.
    pub table: String,
    /// Whether rows without a match come out, padded with NULL.
    pub outer: bool,
    /// Key expressions over the left rows; constants among them.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Their types.
    pub key_types: Vec<DataType>,
    /// Who is asked.
    pub lookup: Arc<dyn LookupSource>,
    /// Columns of its rows.
    pub right: SchemaRef,
    /// The rest of the condition.
    pub filter: Option<JoinFilter>,
    /// Output columns.
    pub output: Vec<JoinColumn>,
    /// Their schema.
    pub output_schema: SchemaRef,
    /// Whether updates may stay updates: a row has at most one of the table, so that keys of the left side are keys of the
    /// result. Otherwise each half is a `-D` or a `+I`.
    pub keeps_updates: bool,
    /// Batches that wait for answers at the same time.
    pub capacity: usize,
    /// How long an answer may take, beside waiting for a connection.
    pub timeout: Option<Duration>,
}

/// The operator; see the module.
pub struct LookupJoinOperator {
    config: Arc<LookupJoinConfig>,
    key_schema: SchemaRef,
    /// Keys of the batch at hand.
    directory: GroupDirectory,
    asked: InFlight<Question, LookupRows>,
    /// What has been answered and is not out yet.
    answered: VecDeque<Pairs>,
}

/// A batch that waits.
struct Question {
    batch: ChangeBatch,
    /// For each row the number of its key; [`NO_KEY`] if a part of it is NULL.
    keys: Vec<u32>,
}

/// The key of a row that matches nothing.
const NO_KEY: u32 = u32::MAX;

impl std::fmt::Debug for LookupJoinOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LookupJoinOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl LookupJoinOperator {
    /// An instance.
    ///
    /// # Errors
    /// Unsupported for key types that cannot be keys.
    pub fn new(config: LookupJoinConfig) -> Result<Self> {
        let fields = config.key_types.iter().enumerate();
        let fields: Vec<Field> = fields.map(|(i, t)| Field::new(format!("k{i}"), t.clone(), false)).collect();
        Ok(LookupJoinOperator {
            key_schema: Arc::new(Schema::new(fields)),
            directory: GroupDirectory::new(&config.key_types)?,
            asked: InFlight::new(config.capacity),
            answered: VecDeque::new(),
            config: Arc::new(config),
        })
    }

    /// The key of each row, and the distinct keys.
    fn keys_of(&mut self, rows: &RecordBatch) -> Result<(Vec<u32>, RecordBatch)> {
        let n = rows.num_rows();
        let columns: Vec<ArrayRef> =
            self.config.keys.iter().map(|key| evaluate(key, rows)).collect::<Result<_>>()?;
        let mut has_key = vec![true; n];
        for nulls in columns.iter().filter_map(|c| c.logical_nulls()).filter(|nulls| nulls.null_count() > 0) {
            has_key.iter_mut().enumerate().for_each(|(row, has)| *has &= nulls.is_valid(row));
        }
        self.directory.clear();
        let mut keys = Vec::new();
        self.directory.intern(&columns, n, &mut keys)?;
        // The number of each slot among those without NULL.
        let mut numbers: Vec<u32> = vec![NO_KEY; self.directory.capacity()];
        let mut firsts: Vec<u32> = Vec::new();
        for (row, key) in keys.iter_mut().enumerate() {
            if !has_key[row] {
                *key = NO_KEY;
                continue;
            }
            let number = &mut numbers[*key as usize];
            if *number == NO_KEY {
                *number = firsts.len() as u32;
                firsts.push(row as u32);
            }
            *key = *number;
        }
        let firsts = UInt32Array::from(firsts);
        let columns = columns.iter().map(|c| Ok(take(c, &firsts, None)?)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(firsts.len()));
        let distinct = RecordBatch::try_new_with_options(self.key_schema.clone(), columns, &options)?;
        Ok((keys, distinct))
    }

    fn ask(&mut self, batch: ChangeBatch) -> Result<()> {
        let (keys, distinct) = self.keys_of(&batch.rows)?;
        let bytes = batch_bytes(&batch.rows);
        let config = self.config.clone();
        let answer = async move {
            if distinct.num_rows() == 0 {
                return Ok(LookupRows::none(0));
            }
            let asked = config.lookup.lookup(&distinct);
            let answer = match config.timeout {
                None => asked.await,
                Some(timeout) => match within(timeout, asked).await {
                    Some(answer) => answer,
                    None => Err(timed_out(timeout)),
                },
            };
            let answer = answer.map_err(|e| e.context(format!("lookup in table {}", config.table)))?;
            if answer.found.len() != distinct.num_rows() {
                return Err(Error::internal("a lookup answers another number of keys than were asked"));
            }
            Ok(answer)
        };
        self.asked.ask(Question { batch, keys }, bytes, answer);
        Ok(())
    }

    /// Hands out what is answered, oldest first.
    fn hand_out(&mut self, out: &mut Output) -> Result<Progress> {
        loop {
            while let Some(pairs) = self.answered.front_mut() {
                if out.is_full(2 * BATCH_ROWS) {
                    return Ok(Progress::More);
                }
                match pairs.next(&self.config)? {
                    Some(batch) => out.emit(batch),
                    None => {
                        self.answered.pop_front();
                        self.asked.is_out();
                    }
                }
            }
            match self.asked.next_answered() {
                Some((Question { batch, keys }, answer)) => {
                    self.answered.push_back(Pairs::new(batch, keys, answer?));
                }
                None => return Ok(Progress::Done),
            }
        }
    }
}

fn timed_out(timeout: Duration) -> Error {
    Error::external(format!("no answer within {} ms", timeout.as_millis())).hint(
        "raise 'table.exec.async-lookup.timeout', or the 'timeout' of the LOOKUP hint, if the other end is slow",
    )
}

impl Operator for LookupJoinOperator {
    fn name(&self) -> &'static str {
        "LookupJoin"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        self.ask(batch)?;
        self.hand_out(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        self.hand_out(out)
    }

    fn on_watermark(&mut self, watermark: Timestamp, _out: &mut Output) -> Result<Progress> {
        self.asked.watermark(watermark);
        Ok(Progress::Done)
    }

    fn output_watermark(&self) -> Option<Timestamp> {
        self.asked.held()
    }

    fn flush(&mut self, out: &mut Output) -> Result<Progress> {
        self.hand_out(out)
    }

    fn asked(&mut self) -> Option<&mut dyn Asked> {
        Some(&mut self.asked)
    }
}

#[cfg(test)]
mod tests;
