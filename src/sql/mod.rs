//! The SQL front end: text to statements.
//!
//! ```text
//!  script text ─► split into statements (spans kept) ─► Flink statement parser ─► ast::Statement
//!                                                        └─ queries: token fix-ups ─► sqlparser with FlinkDialect
//! ```
//!
//! Every token is consumed or refused: what is not understood is an error with line, column and what is supported.

pub mod ast;
