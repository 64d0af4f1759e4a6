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
#[allow(clippy::indexing_slicing, reason = "positions within arrays and groups, checked once per batch")]
pub mod functions;
#[allow(
    clippy::indexing_slicing,
    reason = "slots and rows that the operator itself handed out, in inner loops"
)]
pub mod operators;
pub mod options;
#[allow(
    clippy::indexing_slicing,
    reason = "nodes of the graph and columns, by numbers that the planner itself handed out"
)]
pub mod plan;
#[allow(
    clippy::indexing_slicing,
    reason = "tasks, chains and nodes, by numbers that the runtime itself handed out"
)]
#[allow(
    clippy::disallowed_methods,
    reason = "processing time, idleness, intervals of checkpoints; names of spill folders"
)]
pub mod runtime;
#[allow(clippy::disallowed_methods, reason = "takes the time of a query")]
pub mod session;
pub mod sql;
#[allow(clippy::indexing_slicing, reason = "slots that the directory itself handed out, in inner loops")]
pub mod state;
#[allow(clippy::indexing_slicing, reason = "kinds beside rows, one per row")]
pub mod stream;
#[allow(clippy::indexing_slicing, reason = "tables of 16 or 256 entries, by half or whole bytes")]
pub mod text;
pub mod types;

/// Arrow, in the version of the batches that come and go.
pub use arrow;
pub use error::{Error, ErrorKind, Location, Result};
