//! `'connector' = 'faker'`: made-up rows, with the options of flink-faker and the expressions of its library, datafaker.
//!
//! ```text
//!  row numbers ─► one template per column ('#{Name.firstName} of #{Address.city}') ─► text ─► value of the column's type
//! ```
//!
//! Every value is a function of the seed, the column and the row number, as in `datagen`, and two options are the same as
//! there: `seed` (default: another one each time) and `base-time`, which takes the place of the clock: row n happens
//! n / `rows-per-second` after it. Times are wall clocks of UTC, as flink-faker makes them on a machine in UTC.
//!
//! As the table of a lookup join it has one row for any key, which is made up anew each time.

mod expression;
mod field;
mod function;
mod lookup;
mod regexify;
mod words;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use xxhash_rust::xxh3::xxh3_64;

use crate::catalog::ResolvedTable;
use crate::connectors::synthetic::clock::Clock;
use crate::connectors::synthetic::pace::{Pace, takes_time};
use crate::connectors::synthetic::random::fresh_seed;
use crate::connectors::synthetic::{self, BLOCK_ROWS, Origin, Plan, RowGenerator};
use crate::connectors::{ConnectorFactory, not_a};
use crate::edges::lookup::{LookupCache, LookupTable};
use crate::edges::{ConnectorEnv, ScanRequest, Sink, Source, SourceReader, SplitState};
use crate::error::{Error, Result};
use crate::options::Options;
use crate::sql::ast::ColumnKind;
use crate::types::{LogicalType, TypeRoot};

use expression::{Compiler, Template};
use field::{Field, Made};
use lookup::FakerLookups;

/// Elements of a collection at most.
const MOST_ELEMENTS: u32 = 10_000;

/// Makes `faker` sources.
#[derive(Debug, Default)]
pub struct FakerFactory;

impl ConnectorFactory for FakerFactory {
    fn identifier(&self) -> &'static str {
        "faker"
    }

    fn source(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        synthetic::refuse_metadata(table, "faker")?;
        let options = Options::new(&table.def.path, "faker", &table.options);
        let per_second = options.parse::<i64>("rows-per-second", "a whole number")?.unwrap_or(10_000);
        let per_second = u64::try_from(per_second)
            .ok()
            .filter(|r| *r > 0)
            .ok_or_else(|| options.invalid("rows-per-second", &per_second.to_string(), "a number above 0"))?;
        // -1 is flink-faker's default.
        let rows = options.parse::<i64>("number-of-rows", "a whole number")?.unwrap_or(-1);
        let end = match rows {
            -1 => u64::MAX,
            n => u64::try_from(n).map_err(|_| {
                options.invalid("number-of-rows", &n.to_string(), "a number of rows, or -1 for no end")
            })?,
        };
        let seed = options.parse::<u64>("seed", "a whole number")?;
        let base_time = match options.take("base-time") {
            None => None,
            Some(text) => Some(synthetic::parse_time(&text).ok_or_else(|| {
                options.invalid("base-time", &text, "milliseconds since the epoch or 'YYYY-MM-DD HH:MM:SS'")
            })?),
        };
        let mut builder =
            Builder { options: &options, compiler: Compiler::default(), missing: BTreeSet::new() };
        let mut fields = Vec::new();
        let columns = table.def.columns.iter().filter(|c| matches!(c.kind, ColumnKind::Physical));
        for (column, physical) in columns.zip(table.physical.fields()) {
            let Some(ty) = &column.ty else {
                return Err(Error::internal(format!("column `{}` has no type", column.name)));
            };
            fields.extend(builder.field(&column.name, ty, physical.is_nullable())?);
        }
        let missing = builder.missing;
        // Recipes of others give expressions to computed columns, which flink-faker does not look at.
        for column in table.def.columns.iter().filter(|c| !matches!(c.kind, ColumnKind::Physical)) {
            if !options.prefix(&format!("fields.{}.", column.name)).is_empty() {
                let key = format!("faker {} {}", table.def.path, column.name);
                env.notices.once(&key, || {
                    format!(
                        "table {}: `{}` is a computed column, so its expression 'fields.{}.*' is not used",
                        table.def.path, column.name, column.name
                    )
                });
            }
        }
        options.finish()?;
        if !missing.is_empty() {
            let missing: Vec<String> = missing.into_iter().collect();
            return Err(Error::validation(format!(
                "table {}: Every column needs a corresponding expression. None found for {}",
                table.def.path,
                missing.join(", ")
            ))
            .hint("add 'fields.<column>.expression' = '#{…}'; docs/faker.md lists the expressions"));
        }
        let clock = match base_time {
            Some(base) => Clock::Simulated { base, rows_per_second: per_second },
            None => Clock::System(env.time_zone),
        };
        Ok(Arc::new(FakerSource {
            schema: table.scan_schema(),
            rows: Arc::new(Rows { fields, clock }),
            per_second,
            end,
            origin: Origin { seed: seed.unwrap_or_else(fresh_seed), base_time: base_time.unwrap_or(0) },
        }))
    }

    fn sink(&self, table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        Err(not_a("sink", table, "faker"))
    }
}

/// Reads the options of columns.
struct Builder<'a> {
    options: &'a Options,
    compiler: Compiler,
    /// Options that are not there and have to be.
    missing: BTreeSet<String>,
}

impl Builder<'_> {
    /// A column; `None` if its expression is missing.
    fn field(&mut self, name: &str, ty: &LogicalType, nullable: bool) -> Result<Option<Field>> {
        let path = format!("fields.{name}");
        let made = self.made(&path, ty)?;
        let rate = format!("{path}.null-rate");
        let null_rate = self.options.parse::<f64>(&rate, "a number from 0 to 1")?.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&null_rate) {
            return Err(self.options.invalid(&rate, &null_rate.to_string(), "a number from 0 to 1"));
        }
        if null_rate > 0.0 && !nullable {
            return Err(Error::validation(format!(
                "column `{name}` is NOT NULL, but '{rate}' is {null_rate}"
            )));
        }
        let field = |made| Field {
            name: name.to_owned(),
            ty: ty.to_arrow(),
            made,
            null_rate,
            salt: xxh3_64(name.as_bytes()),
        };
        Ok(made.map(field))
    }

    fn made(&mut self, path: &str, ty: &LogicalType) -> Result<Option<Made>> {
        Ok(match &ty.root {
            TypeRoot::Array(element) | TypeRoot::Multiset(element) => {
                self.check(path, element)?;
                let length = self.length(path)?;
                let template = self.template(&format!("{path}.expression"))?;
                let multiset = matches!(ty.root, TypeRoot::Multiset(_));
                template.map(|t| if multiset { Made::Multiset(t, length) } else { Made::Array(t, length) })
            }
            TypeRoot::Map(key, value) => {
                self.check(&format!("{path}.key"), key)?;
                self.check(&format!("{path}.value"), value)?;
                let length = self.length(path)?;
                let key = self.template(&format!("{path}.key.expression"))?;
                let value = self.template(&format!("{path}.value.expression"))?;
                key.zip(value).map(|(k, v)| Made::Map(k, v, length))
            }
            TypeRoot::Row(fields) => {
                let fields = fields
                    .iter()
                    .map(|f| self.made(&format!("{path}.{}", f.name), &f.ty))
                    .collect::<Result<Vec<_>>>()?;
                fields.into_iter().collect::<Option<Vec<_>>>().map(Made::Row)
            }
            _ => {
                self.check(path, ty)?;
                self.template(&format!("{path}.expression"))?.map(Made::Scalar)
            }
        })
    }

    /// Only what a text can be read as.
    fn check(&self, path: &str, ty: &LogicalType) -> Result<()> {
        match ty.root {
            TypeRoot::Binary(_)
            | TypeRoot::Varbinary(_)
            | TypeRoot::IntervalYearMonth
            | TypeRoot::IntervalDayTime
            | TypeRoot::Array(_)
            | TypeRoot::Multiset(_)
            | TypeRoot::Map(..)
            | TypeRoot::Row(_)
            | TypeRoot::Null => Err(Error::validation(format!("'{path}': faker makes no {ty} there"))
                .hint("columns are scalar values, or collections and rows of them")),
            _ => Ok(()),
        }
    }

    fn length(&self, path: &str) -> Result<u32> {
        let key = format!("{path}.length");
        let length = self.options.parse::<u32>(&key, "a whole number")?.unwrap_or(1);
        if !(1..=MOST_ELEMENTS).contains(&length) {
            let expected = format!("a number from 1 to {MOST_ELEMENTS}");
            return Err(self.options.invalid(&key, &length.to_string(), &expected));
        }
        Ok(length)
    }

    fn template(&mut self, key: &str) -> Result<Option<Template>> {
        match self.options.take(key) {
            None => {
                self.missing.insert(format!("'{key}'"));
                Ok(None)
            }
            Some(text) => self
                .compiler
                .compile(&text)
                .map(Some)
                .map_err(|e| e.context(format!("Invalid expression of the option '{key}'"))),
        }
    }
}

/// The columns of a table.
#[derive(Debug)]
struct Rows {
    fields: Vec<Field>,
    clock: Clock,
}

#[derive(Debug)]
struct FakerSource {
    schema: SchemaRef,
    rows: Arc<Rows>,
    per_second: u64,
    /// One past the last row; `u64::MAX` if there is none.
    end: u64,
    origin: Origin,
}

#[async_trait]
impl Source for FakerSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn bounded(&self) -> bool {
        self.end != u64::MAX
    }

    fn paced(&self) -> bool {
        takes_time(self.end, self.per_second as f64)
    }

    fn lookup(&self) -> Option<LookupTable> {
        let points =
            FakerLookups { rows: self.rows.clone(), schema: self.schema.clone(), seed: self.origin.seed };
        Some(LookupTable { cache: LookupCache::None, points: Some(Arc::new(points)) })
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
        let all: Vec<usize> = (0..self.rows.fields.len()).collect();
        let projection = scan.projection.clone().unwrap_or(all);
        let clock = match self.rows.clock {
            Clock::Simulated { rows_per_second, .. } => {
                Clock::Simulated { base: origin.base_time, rows_per_second }
            }
            system => system,
        };
        let rows = Projected {
            schema: Arc::new(self.schema.project(&projection)?),
            rows: self.rows.clone(),
            projection,
            seed: origin.seed,
            clock,
        };
        // As datagen: blocks small enough that a slow reader need not hold rows back and every reader has a share.
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
struct Projected {
    schema: SchemaRef,
    rows: Arc<Rows>,
    projection: Vec<usize>,
    seed: u64,
    clock: Clock,
}

impl RowGenerator for Projected {
    fn row_bytes(&self) -> u64 {
        let fields = self.projection.iter().filter_map(|i| self.rows.fields.get(*i));
        fields.map(Field::most_bytes).fold(0, u64::saturating_add)
    }

    fn rows(&self, numbers: std::ops::Range<u64>) -> Result<RecordBatch> {
        let now = self.clock.now();
        let columns = self
            .projection
            .iter()
            .filter_map(|i| self.rows.fields.get(*i))
            .map(|field| field.generate(self.seed, numbers.clone(), now))
            .collect::<Result<Vec<ArrayRef>>>()?;
        let rows = usize::try_from(numbers.end - numbers.start).unwrap_or(0);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

#[cfg(test)]
mod tests;
