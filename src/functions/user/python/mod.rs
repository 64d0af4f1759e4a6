//! `LANGUAGE PYTHON`: a process for each thread that evaluates the function at the same time.
//!
//! ```text
//!  batch ─► Arrow stream ─► stdin of `python3 -c worker.py` ─► the function, row by row ─► stdout ─► Arrow stream ─► result
//! ```
//!
//! A process of its own takes any interpreter and any environment, runs beside others without their lock, and is killed
//! where it takes too long. What it needs of the interpreter is pyarrow.

mod process;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, Int8Array, RecordBatch, RecordBatchOptions, StringArray, UInt32Array,
};
use arrow::datatypes::{Field, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use super::engine::{Abilities, Accumulate, Engine};
use super::pool::Pool;
use super::{Signature, limits};
use crate::error::{Error, Location, Result};
use crate::functions::cast::{Mode, cast_array};
use crate::sql::ast::{CreateFunction, Returns};
use crate::types::sql_name;
use process::Process;

/// How long the rows of a batch may take unless 'timeout' says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Requests, by their first byte.
const LOAD: u8 = 0;
const CALL: u8 = 1;
const ACCUMULATE: u8 = 2;
const MERGE: u8 = 3;
const FINISH: u8 = 4;

/// What a process is started with.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) interpreter: String,
    pub(super) timeout: Duration,
    pub(super) body_location: Location,
    /// The parts of the first request.
    pub(super) load: Vec<Vec<u8>>,
}

/// The engine; see the module.
pub(super) struct Python {
    signature: Arc<Signature>,
    spec: Arc<Spec>,
    pool: Pool<Process>,
    abilities: OnceLock<Abilities>,
}

impl fmt::Debug for Python {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Python").field("signature", &self.signature).finish_non_exhaustive()
    }
}

impl Python {
    /// # Errors
    /// Validation for options that make no sense.
    pub(super) fn new(create: &CreateFunction, signature: &Arc<Signature>) -> Result<Self> {
        let mut limits = limits(create, &["python"])?;
        let (timeout, memory) = (limits.timeout.unwrap_or(TIMEOUT), limits.memory);
        let interpreter = limits
            .others
            .remove("python")
            .or_else(|| std::env::var("TIDELAKE_PYTHON").ok().filter(|p| !p.is_empty()))
            .unwrap_or_else(|| "python3".to_owned());
        let parameters: Vec<&str> = signature.parameters.iter().map(|p| p.name.as_str()).collect();
        let about = serde_json::json!({
            "name": signature.name,
            "body": create.body,
            "aggregate": create.aggregate,
            "table": matches!(signature.returns, Returns::Table(_)),
            "parameters": parameters,
            "returns": match &signature.returns {
                Returns::Value(ty, _) => sql_name(&ty.to_arrow()),
                Returns::Table(_) => "table of the declared columns".to_owned(),
            },
            "memory": memory,
        });
        let result = Field::new("result", signature.result(), signature.result_is_nullable());
        let types = RecordBatch::new_empty(Arc::new(Schema::new(vec![result])));
        let spec = Spec {
            name: signature.name.clone(),
            interpreter,
            timeout,
            body_location: create.body_location,
            load: vec![about.to_string().into_bytes(), stream(&types)?],
        };
        let signature = Arc::clone(signature);
        Ok(Python { signature, spec: Arc::new(spec), pool: Pool::default(), abilities: OnceLock::new() })
    }

    fn ask(&self, kind: u8, parts: Vec<Vec<u8>>) -> Result<Vec<u8>> {
        let made = || {
            let (process, abilities) = Process::start(&self.spec)?;
            let _ = self.abilities.set(abilities);
            Ok(process)
        };
        let answer = self.pool.with(made, Process::is_whole, |process| process.ask(kind, parts, &self.spec));
        answer.map_err(|e| e.context(format!("function {}", self.spec.name)))
    }

    fn column(&self, kind: u8, parts: Vec<Vec<u8>>) -> Result<ArrayRef> {
        let answer = self.ask(kind, parts)?;
        let mut batches = StreamReader::try_new(answer.as_slice(), None)?;
        let batch = batches.next().ok_or_else(|| Error::internal("an answer without rows"))??;
        Ok(Arc::clone(batch.column(0)))
    }

    fn results(&self, kind: u8, parts: Vec<Vec<u8>>) -> Result<ArrayRef> {
        let column = self.column(kind, parts)?;
        // Names and nullability of nested fields are Python's.
        cast_array(&column, &self.signature.result(), Mode { lenient: false, zone: chrono_tz::Tz::UTC })
    }

    fn texts(&self, kind: u8, parts: Vec<Vec<u8>>) -> Result<StringArray> {
        let column = self.column(kind, parts)?;
        let texts = column.as_string_opt::<i32>().cloned();
        texts.ok_or_else(|| Error::internal("states of an aggregate that are no texts"))
    }
}

/// Columns as an Arrow stream.
fn columns(columns: Vec<ArrayRef>, rows: usize) -> Result<Vec<u8>> {
    let field = |(i, c): (usize, &ArrayRef)| Field::new(format!("c{i}"), c.data_type().clone(), true);
    let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    stream(&RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)?)
}

fn stream(batch: &RecordBatch) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut writer = StreamWriter::try_new(&mut out, &batch.schema())?;
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    Ok(out)
}

impl Engine for Python {
    fn load(&self) -> Result<()> {
        let made = || {
            let (process, abilities) = Process::start(&self.spec)?;
            let _ = self.abilities.set(abilities);
            Ok(process)
        };
        let loaded = self.pool.with(made, Process::is_whole, |_| Ok(()));
        loaded.map_err(|e| e.context(format!("function {}", self.spec.name)))
    }

    fn call(&self, args: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let mut parts = vec![(rows as u64).to_le_bytes().to_vec()];
        if !args.is_empty() {
            parts.push(columns(args.to_vec(), rows)?);
        }
        self.results(CALL, parts)
    }

    fn accumulate(&self, rows: &Accumulate<'_>) -> Result<StringArray> {
        let states: ArrayRef = Arc::new(rows.states.clone());
        let count = rows.groups.len();
        let signs = rows.signs.map_or_else(|| vec![1; count], <[i8]>::to_vec);
        let mut all: Vec<ArrayRef> =
            vec![Arc::new(UInt32Array::from(rows.groups.to_vec())), Arc::new(Int8Array::from(signs))];
        all.extend(rows.args.iter().cloned());
        self.texts(ACCUMULATE, vec![columns(vec![states], rows.states.len())?, columns(all, count)?])
    }

    fn merge(&self, states: &StringArray, groups: &[u32], others: &StringArray) -> Result<StringArray> {
        let count = states.len();
        let rows: Vec<ArrayRef> =
            vec![Arc::new(UInt32Array::from(groups.to_vec())), Arc::new(others.clone())];
        self.texts(MERGE, vec![columns(vec![Arc::new(states.clone())], count)?, columns(rows, groups.len())?])
    }

    fn finish(&self, states: &StringArray) -> Result<ArrayRef> {
        let count = states.len();
        self.results(FINISH, vec![columns(vec![Arc::new(states.clone())], count)?])
    }

    fn abilities(&self) -> Result<Abilities> {
        if self.abilities.get().is_none() {
            self.load()?;
        }
        Ok(self.abilities.get().copied().unwrap_or_default())
    }
}
