//! **tidelake**: Flink SQL over files, Kafka topics and Iceberg tables, as a batch query or as a stream that never
//! ends, with the same answer either way.
//!
//! ```text
//!  SQL text
//!    │ sql        lexical rules, statements, types: text → `Statement`, every token consumed or refused
//!    ▼
//!  statements ──► catalog    catalogs, databases, tables, views
//!    │
//!    │ plan       `Statement` → DataFusion logical plan + own nodes (window TVF, watermark) → optimizer
//!    ├── batch ─────► DataFusion execution plan
//!    └── streaming ─► stream graph → chains → tasks
//!                     runtime    messages, operators, task driver, exchange, watermarks, barriers
//!                     operators  one operator, one file        state   keyed state
//!  both ends: connectors (kafka, iceberg, filesystem, …) × formats (json, csv, raw, parquet)
//!  around it: cli (run, test, explain, broker)             functions  Flink's built-in functions
//! ```

pub mod catalog;
#[allow(clippy::disallowed_methods, reason = "shows how long things take")]
pub mod cli;
#[allow(
    clippy::disallowed_methods,
    reason = "the world outside has clocks; names of files and transactions are random"
)]
pub mod connectors;
pub mod edges;
pub mod error;
pub mod formats;
pub mod functions;
pub mod operators;
pub mod options;
pub mod plan;
#[allow(
    clippy::disallowed_methods,
    reason = "processing time, idleness, intervals of checkpoints; names of spill folders"
)]
pub mod runtime;
#[allow(clippy::disallowed_methods, reason = "takes the time of a query")]
pub mod session;
pub mod sql;
pub mod state;
pub mod stream;
pub mod text;
pub mod types;

pub use error::{Error, ErrorKind, Location, Result};
