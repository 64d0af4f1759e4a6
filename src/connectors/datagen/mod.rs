//! `'connector' = 'datagen'`: rows of random values or sequences, with the options of Flink's connector.
//!
//! ```text
//!  row numbers ─► one generator per column (nested ones for ROW, ARRAY, MAP) ─► Arrow
//! ```
//!
//! Every value is a function of the seed, the column and the row number. So rows do not depend on parallelism, and a
//! snapshot is the next row number. Two options of our own make them the same from run to run: `seed` (default:
//! another one each time) and `base-time`, which takes the place of the clock for times: row n happens
//! n / `rows-per-second` after it.
//!
//! Bounded when `number-of-rows` is set or a column is a sequence (the shortest one ends it). Where `rows-per-second`
//! makes it last longer than a second, it is read as a stream all the same unless batch mode is asked for.

mod build;
mod field;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use crate::catalog::ResolvedTable;
use crate::connectors::synthetic::clock::Clock;
use crate::connectors::synthetic::pace::{Pace, takes_time};
use crate::connectors::synthetic::random::fresh_seed;
use crate::connectors::synthetic::{self, BLOCK_ROWS, Origin, Plan, RowGenerator};
use crate::connectors::{ConnectorFactory, not_a};
use crate::edges::{ConnectorEnv, ScanRequest, Sink, Source, SourceReader, SplitState};
use crate::error::{Error, Result};
use crate::options::Options;
use crate::sql::ast::ColumnKind;

use build::FieldBuilder;
use field::Field;

/// Makes `datagen` sources.
#[derive(Debug, Default)]
pub struct DatagenFactory;

impl ConnectorFactory for DatagenFactory {
    fn identifier(&self) -> &'static str {
        "datagen"
    }

    fn source(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        synthetic::refuse_metadata(table, "datagen")?;
        let options = Options::new(&table.def.path, "datagen", &table.options);
        let per_second = options.parse::<i64>("rows-per-second", "a whole number")?.unwrap_or(10_000);
        let per_second = u64::try_from(per_second)
            .ok()
            .filter(|r| *r > 0)
            .ok_or_else(|| options.invalid("rows-per-second", &per_second.to_string(), "a number above 0"))?;
        let rows = options.parse::<u64>("number-of-rows", "a whole number")?;
        let seed = options.parse::<u64>("seed", "a whole number")?;
        let base_time = match options.take("base-time") {
            None => None,
            Some(text) => Some(synthetic::parse_time(&text).ok_or_else(|| {
                options.invalid("base-time", &text, "milliseconds since the epoch or 'YYYY-MM-DD HH:MM:SS'")
            })?),
        };
        let mut builder = FieldBuilder::new(&options);
        let mut fields = Vec::new();
        let columns = table.def.columns.iter().filter(|c| matches!(c.kind, ColumnKind::Physical));
        for (column, physical) in columns.zip(table.physical.fields()) {
            let Some(ty) = &column.ty else {
                return Err(Error::internal(format!("column `{}` has no type", column.name)));
            };
            fields.push(builder.field(&column.name, ty, physical.is_nullable())?);
        }
        let sequence_rows = builder.shortest_sequence();
        options.finish()?;
        let end = rows.unwrap_or(u64::MAX).min(sequence_rows.unwrap_or(u64::MAX));
        Ok(Arc::new(DatagenSource {
            schema: table.scan_schema(),
            fields: Arc::new(fields),
            per_second,
            end,
            origin: Origin { seed: seed.unwrap_or_else(fresh_seed), base_time: base_time.unwrap_or(0) },
            clock: match base_time {
                Some(_) => Clock::Simulated { base: 0, rows_per_second: per_second },
                None => Clock::System(env.time_zone),
            },
        }))
    }

    fn sink(&self, table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        Err(not_a("sink", table, "datagen"))
    }
}

#[derive(Debug)]
struct DatagenSource {
    schema: SchemaRef,
    fields: Arc<Vec<Field>>,
    per_second: u64,
    /// One past the last row; `u64::MAX` if there is none.
    end: u64,
    origin: Origin,
    clock: Clock,
}

#[async_trait]
impl Source for DatagenSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn bounded(&self) -> bool {
        self.end != u64::MAX
    }

    fn paced(&self) -> bool {
        takes_time(self.end, self.per_second as f64)
    }

    async fn readers(
        &self,
        scan: ScanRequest,
        parallelism: usize,
        restored: Option<Vec<SplitState>>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let (lanes, origin) = match synthetic::restore(restored.as_deref().unwrap_or_default())? {
            Some((lanes, origin)) => (Some(lanes), origin),
            None => (None, self.origin),
        };
        let all: Vec<usize> = (0..self.fields.len()).collect();
        let projection = scan.projection.clone().unwrap_or(all);
        let clock = match self.clock {
            Clock::Simulated { rows_per_second, .. } => {
                Clock::Simulated { base: origin.base_time, rows_per_second }
            }
            system => system,
        };
        let rows = Rows {
            schema: Arc::new(self.schema.project(&projection)?),
            fields: self.fields.clone(),
            projection,
            seed: origin.seed,
            clock,
        };
        // Blocks small enough that a slow reader need not hold rows back and every reader has a share.
        let share = self.end / parallelism.max(1) as u64;
        let block = (self.per_second / 50).min(share).clamp(1, BLOCK_ROWS);
        let plan = Plan {
            generator: Arc::new(rows),
            origin,
            end: self.end,
            keep_alive: false,
            pace: Pace::rate(self.per_second as f64),
            block,
        };
        Ok(plan.readers(&scan, parallelism, lanes))
    }
}

/// The columns of one scan.
struct Rows {
    schema: SchemaRef,
    fields: Arc<Vec<Field>>,
    projection: Vec<usize>,
    seed: u64,
    clock: Clock,
}

impl RowGenerator for Rows {
    fn row_bytes(&self) -> u64 {
        let fields = self.projection.iter().filter_map(|i| self.fields.get(*i));
        fields.map(Field::bytes_of_one).fold(0, u64::saturating_add)
    }

    fn rows(&self, numbers: std::ops::Range<u64>) -> Result<RecordBatch> {
        let clock = self.clock.now();
        let columns = self
            .projection
            .iter()
            .filter_map(|i| self.fields.get(*i))
            .map(|field| field.generate(self.seed, numbers.clone(), &clock))
            .collect::<Result<Vec<ArrayRef>>>()?;
        let rows = usize::try_from(numbers.end - numbers.start).unwrap_or(0);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

#[cfg(test)]
mod tests;
