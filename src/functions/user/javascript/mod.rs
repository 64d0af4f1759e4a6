//! `LANGUAGE JAVASCRIPT`: QuickJS, one interpreter for each thread that evaluates the function at the same time.
//!
//! ```text
//!  batch ─► wire types ─► thread of its own: interpreter, values one by one ─► column of a wire type ─► result
//! ```
//!
//! The interpreter has a thread of its own because it measures its stack from where it was made, and the threads of
//! queries move to other stacks in deep plans. It has neither files nor network nor clock; `Date` and `Math.random` are
//! there only if the function is declared NOT DETERMINISTIC. A batch that takes too long is interrupted.

mod script;
mod values;
mod worker;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::DataType;

use super::engine::{Abilities, Accumulate, Engine};
use super::pool::Pool;
use super::wire::{from_wire, to_wire, wire_type};
use super::{Signature, limits};
use crate::error::{Error, Location, Result};
use crate::sql::ast::CreateFunction;
use worker::{Answer, Request, Worker};

/// How long the rows of a batch may take unless 'timeout' says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// What an interpreter may hold unless 'memory' says otherwise.
const MEMORY: u64 = 128 << 20;

/// What an interpreter is made of.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) signature: Arc<Signature>,
    pub(super) body: String,
    pub(super) body_location: Location,
    pub(super) aggregate: bool,
    pub(super) memory: usize,
    pub(super) timeout: Duration,
    /// BIGINT comes as a number, which is many times faster to compute with than a BigInt.
    pub(super) numbers: bool,
    /// Types in which arguments come and results go.
    pub(super) result: DataType,
}

/// The engine; see the module.
pub(super) struct JavaScript {
    spec: Arc<Spec>,
    pool: Pool<Worker>,
    abilities: OnceLock<Abilities>,
}

impl fmt::Debug for JavaScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JavaScript").field("signature", &self.spec.signature).finish_non_exhaustive()
    }
}

impl JavaScript {
    /// # Errors
    /// Validation for options that make no sense.
    pub(super) fn new(create: &CreateFunction, signature: &Arc<Signature>) -> Result<Self> {
        let limits = limits(create, &["bigint"])?;
        let numbers = match limits.others.get("bigint").map(|v| v.to_ascii_lowercase()).as_deref() {
            None | Some("bigint") => false,
            Some("number") => true,
            Some(other) => {
                return Err(Error::validation(format!(
                    "the option 'bigint' = '{other}' is neither 'bigint' nor 'number'"
                ))
                .at(create.name.location));
            }
        };
        let (timeout, memory) = (limits.timeout.unwrap_or(TIMEOUT), limits.memory.unwrap_or(MEMORY));
        let spec = Spec {
            signature: Arc::clone(signature),
            body: create.body.clone(),
            body_location: create.body_location,
            aggregate: create.aggregate,
            memory: usize::try_from(memory).unwrap_or(usize::MAX).max(1 << 20),
            timeout,
            numbers,
            result: wire_type(&signature.result()),
        };
        Ok(JavaScript { spec: Arc::new(spec), pool: Pool::default(), abilities: OnceLock::new() })
    }

    fn ask(&self, request: Request) -> Result<Answer> {
        let made = || {
            let (worker, abilities) = Worker::start(&self.spec)?;
            let _ = self.abilities.set(abilities);
            Ok(worker)
        };
        // After an error an interpreter may be out of memory, and a new one is cheap.
        let answer = self.pool.with(made, |_| false, |worker| worker.ask(request, &self.spec));
        answer.map_err(|e| e.context(format!("function {}", self.spec.signature.name)))
    }

    fn column(&self, request: Request) -> Result<ArrayRef> {
        match self.ask(request)? {
            Answer::Column(column) => from_wire(&column, &self.spec.signature.result())
                .map_err(|e| e.context(format!("function {}", self.spec.signature.name))),
            Answer::Done => Err(Error::internal("a script gave no column")),
        }
    }

    fn texts(&self, request: Request) -> Result<StringArray> {
        match self.ask(request)? {
            Answer::Column(column) => column
                .as_string_opt::<i32>()
                .cloned()
                .ok_or_else(|| Error::internal("states of an aggregate that are no texts")),
            Answer::Done => Err(Error::internal("a script gave no states")),
        }
    }
}

fn wired(args: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    args.iter().map(to_wire).collect()
}

impl Engine for JavaScript {
    fn load(&self) -> Result<()> {
        self.ask(Request::Nothing).map(drop)
    }

    fn call(&self, args: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        self.column(Request::Call { args: wired(args)?, rows })
    }

    fn accumulate(&self, rows: &Accumulate<'_>) -> Result<StringArray> {
        self.texts(Request::Accumulate {
            states: rows.states.clone(),
            groups: rows.groups.to_vec(),
            signs: rows.signs.map(<[i8]>::to_vec),
            args: wired(rows.args)?,
        })
    }

    fn merge(&self, states: &StringArray, groups: &[u32], others: &StringArray) -> Result<StringArray> {
        let (states, others) = (states.clone(), others.clone());
        self.texts(Request::Merge { states, groups: groups.to_vec(), others })
    }

    fn finish(&self, states: &StringArray) -> Result<ArrayRef> {
        self.column(Request::Finish { states: states.clone() })
    }

    fn abilities(&self) -> Result<Abilities> {
        if self.abilities.get().is_none() {
            self.load()?;
        }
        Ok(self.abilities.get().copied().unwrap_or_default())
    }
}
