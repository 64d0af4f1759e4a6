//! Looking rows up: a request for each key, some of them at a time.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::kernels::zip::zip;
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};

use super::config::{Meaning, RestTable, request_error};
use super::request::{Asked, Requests};
use crate::edges::lookup::{LookupRequest, LookupRows, LookupSource, PointLookups};
use crate::error::{Error, Result};

/// Keys whose answers are decoded together.
const MOST_KEYS: usize = 1000;
/// Bytes of an answer that are told where it is no row.
const TOLD: usize = 200;

/// A service that can be asked for keys.
#[derive(Debug)]
pub(super) struct RestLookups {
    table: Arc<RestTable>,
    schema: SchemaRef,
}

impl RestLookups {
    pub(super) fn new(table: Arc<RestTable>, schema: SchemaRef) -> Self {
        RestLookups { table, schema }
    }
}

impl PointLookups for RestLookups {
    fn open(&self, request: LookupRequest) -> Result<Arc<dyn LookupSource>> {
        // Keys come first; a column that is wanted and a key is read once.
        let mut read = request.keys.clone();
        for column in &request.projection {
            if !read.contains(column) {
                read.push(*column);
            }
        }
        let keys = request.keys.iter().map(|k| self.schema.field(*k).clone().with_nullable(true));
        let keys: Vec<Field> = keys.collect();
        let place = |column: &usize| read.iter().position(|r| r == column);
        let wanted = request.projection.iter().map(place).collect::<Option<Vec<usize>>>();
        Ok(Arc::new(RestLookup {
            requests: Requests::new(&self.table, &keys)?,
            keys: keys.len(),
            wanted: wanted.ok_or_else(|| Error::internal("a column of a lookup is not read"))?,
            schema: Arc::new(self.schema.project(&read)?),
            read,
            table: Arc::clone(&self.table),
        }))
    }
}

struct RestLookup {
    table: Arc<RestTable>,
    requests: Requests,
    /// Number of key columns.
    keys: usize,
    /// Columns of the table that are read of an answer.
    read: Vec<usize>,
    /// Of these.
    schema: SchemaRef,
    /// Which of them are wanted.
    wanted: Vec<usize>,
}

impl fmt::Debug for RestLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestLookup").field("table", &self.table.name).finish_non_exhaustive()
    }
}

/// How one request ended.
enum Outcome {
    Body(Vec<u8>),
    Nothing,
    Again(Error),
    Failed(Error),
}

impl RestLookup {
    /// The body of the answer to a request; `None` if it has no rows.
    async fn ask(&self, asked: &Asked) -> Result<Option<Vec<u8>>> {
        let mut again = 0;
        let failed = loop {
            match self.once(asked).await {
                Outcome::Body(body) => return Ok(Some(body)),
                Outcome::Nothing => return Ok(None),
                Outcome::Again(_) if again < self.table.retries => {
                    tokio::time::sleep(self.table.delay.before(again)).await;
                    again += 1;
                }
                Outcome::Again(e) | Outcome::Failed(e) => break e,
            }
        };
        if !self.table.continue_on_error {
            return Err(failed);
        }
        self.table.notices.once(&format!("rest {}", self.table.name), || {
            format!("{failed}; lookups that fail find no row, as the table says (continue-on-error)")
        });
        Ok(None)
    }

    async fn once(&self, asked: &Asked) -> Outcome {
        let table = &self.table;
        let mut request = table.client.request(table.method.clone(), asked.url.clone());
        if let Some(body) = &asked.body {
            request = request.body(body.clone());
        }
        let failed = |e: reqwest::Error| {
            Outcome::Again(
                Error::external(format!("table {}: {}: {}", table.name, shown(asked), request_error(&e)))
                    .hint("is the service running, and are the URL, the port and http or https right?"),
            )
        };
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(e) => return failed(e),
        };
        let status = answer.status();
        let meaning = table.codes.meaning(status.as_u16());
        if meaning == Meaning::Nothing {
            return Outcome::Nothing;
        }
        let body = match answer.bytes().await {
            Ok(body) => body.to_vec(),
            Err(e) => return failed(e),
        };
        let says = || {
            let text = start_of(&body);
            let text = if text.is_empty() { String::new() } else { format!(": {text}") };
            Error::external(format!("table {}: {} says {status}{text}", table.name, shown(asked)))
        };
        match meaning {
            Meaning::Again => Outcome::Again(says()),
            Meaning::Failed => Outcome::Failed(says().hint(
                "statuses without rows, such as 404, belong into '…source.lookup.ignored-response-codes'",
            )),
            Meaning::Rows | Meaning::Nothing => Outcome::Body(body),
        }
    }

    /// The rows of some keys with the number of the key that each belongs to.
    async fn part(&self, keys: &RecordBatch) -> Result<(RecordBatch, Vec<u32>)> {
        let asked = self.requests.make(keys)?;
        let requests: Vec<_> = asked.iter().map(|asked| self.ask(asked)).collect();
        let answers: Vec<Option<Vec<u8>>> =
            stream::iter(requests).buffered(self.table.at_a_time).try_collect().await?;
        let mut decoder = self.table.format.record_decoder(&self.read, &[])?;
        let mut of_record = Vec::new();
        for (key, body) in answers.iter().enumerate() {
            if let Some(body) = body {
                decoder.push(body);
                of_record.push(key as u32);
            }
        }
        let decoded = decoder.flush().map_err(|bad| {
            let key = of_record.get(bad.record).copied().unwrap_or_default() as usize;
            let place = asked.get(key).map(shown).unwrap_or_default();
            let body = answers.get(key).and_then(Option::as_deref).unwrap_or_default();
            bad.error.context(format!("table {}: the answer of {place}, {}", self.table.name, start_of(body)))
        })?;
        let records = decoded.records.unwrap_or_else(|| (0..decoded.rows.num_rows() as u32).collect());
        let of: Option<Vec<u32>> = records.iter().map(|r| of_record.get(*r as usize).copied()).collect();
        let of = of.ok_or_else(|| Error::internal("a row of an answer that nobody gave"))?;
        self.of_their_keys(keys, &decoded.rows, of)
    }

    /// Rows with the key that was asked for where they have none; those of another key are left out.
    fn of_their_keys(
        &self,
        keys: &RecordBatch,
        rows: &RecordBatch,
        of: Vec<u32>,
    ) -> Result<(RecordBatch, Vec<u32>)> {
        let indices = UInt32Array::from(of.clone());
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        let mut belongs: Option<BooleanArray> = None;
        for (column, key) in columns.iter_mut().zip(keys.columns()).take(self.keys) {
            let asked = take(key, &indices, None)?;
            if column.null_count() > 0 {
                *column = zip(&arrow::compute::is_null(column)?, &asked, column)?;
            }
            let same = not_distinct(column, &asked)?;
            belongs = Some(match belongs {
                Some(before) => arrow::compute::and(&before, &same)?,
                None => same,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(rows.schema_ref()), columns, &options)?;
        let Some(belongs) = belongs.filter(|b| b.true_count() < b.len()) else { return Ok((rows, of)) };
        let rows = filter_record_batch(&rows, &belongs)?;
        Ok((rows, of.into_iter().zip(belongs.values()).filter(|(_, b)| *b).map(|(key, _)| key).collect()))
    }

    /// The columns that are wanted, of which those that are NOT NULL have to be there.
    fn finish(&self, parts: &[RecordBatch]) -> Result<RecordBatch> {
        let wanted: Vec<Field> = self.wanted.iter().map(|c| self.schema.field(*c).clone()).collect();
        let loose =
            Arc::new(Schema::new(wanted.iter().map(|f| f.clone().with_nullable(true)).collect::<Vec<_>>()));
        let parts =
            parts.iter().map(|p| p.project(&self.wanted)).collect::<std::result::Result<Vec<_>, _>>()?;
        let rows = arrow::compute::concat_batches(&loose, &parts)?;
        if let Some(missing) =
            wanted.iter().zip(rows.columns()).find(|(f, c)| !f.is_nullable() && c.null_count() > 0)
        {
            return Err(Error::data(format!(
                "table {}: an answer has nothing for the column `{}`, which is NOT NULL",
                self.table.name,
                missing.0.name()
            )));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let schema = Arc::new(Schema::new(wanted));
        Ok(RecordBatch::try_new_with_options(schema, rows.columns().to_vec(), &options)?)
    }
}

/// Where a request goes, without what may be a secret.
fn shown(asked: &Asked) -> String {
    let mut url = asked.url.clone();
    if url.password().is_some() {
        // Only a URL without a host could not.
        let _ = url.set_password(Some("******"));
    }
    url.to_string()
}

/// The start of a body as a text of one line.
fn start_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..body.len().min(4 * TOLD)).unwrap_or_default());
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(TOLD) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line,
    }
}

#[async_trait]
impl LookupSource for RestLookup {
    async fn lookup(&self, keys: &RecordBatch) -> Result<LookupRows> {
        let (mut parts, mut of) = (Vec::new(), Vec::new());
        for begin in (0..keys.num_rows()).step_by(MOST_KEYS) {
            let part = keys.slice(begin, MOST_KEYS.min(keys.num_rows() - begin));
            let (rows, of_part) = self.part(&part).await?;
            parts.push(rows);
            of.extend(of_part.into_iter().map(|key| key + begin as u32));
        }
        LookupRows::of_keys(self.finish(&parts)?, &of, keys.num_rows())
    }
}
