//! `--update`: rewrites the expectations of a file.
//!
//! ```text
//!  records ─► batch run ─────► new expectations
//!          └► streaming run ─► those of records that batch skips (onlyif streaming, changelogs)
//! ```
//!
//! Comments, blank lines, records that fail, as expected or not, and results that already match stay as they are.

use std::fmt::Write;
use std::path::Path;

use sqllogictest::runner::{default_column_validator, default_validator, update_record_with_output};
use sqllogictest::{DefaultColumnType, QueryExpect, Record, RecordOutput, StatementExpect};

use crate::error::{Error, Result, ResultExt};

use super::{Mode, NORMALIZER, Run, TestOptions, TestRecord, TestSession, is_changelog};

/// Rewrites `file`, which holds `records`.
pub(super) async fn update(file: &Path, records: Vec<TestRecord>, options: &TestOptions) -> Result<()> {
    if records.iter().any(|r| matches!(r, Record::Include { .. })) {
        return Err(Error::unsupported(format!("{}: files with include cannot be updated", file.display()))
            .hint("update the included files by themselves"));
    }
    let mut updated: Vec<Option<TestRecord>> = vec![None; records.len()];
    let mut settled = vec![false; records.len()];
    let modes: &[bool] = match options.mode {
        Mode::Batch => &[true],
        Mode::Streaming => &[false],
        Mode::Both => &[true, false],
    };
    for batch in modes {
        if settled.iter().all(|s| *s) {
            break;
        }
        let run = Run { batch: *batch, parallelism: vec![1], ..Run::default() };
        let mut session = TestSession::open(&run, options).await;
        for ((record, new), settled) in records.iter().zip(&mut updated).zip(&mut settled) {
            if matches!(record, Record::Halt { .. }) {
                break;
            }
            if is_changelog(record) && !run.compares_changelogs() {
                continue;
            }
            session.prepare(record, &run);
            let output = session.runner.apply_record(record.clone()).await;
            // Settled by an earlier mode, and run again only for what it does to the session.
            if *settled || matches!(output, RecordOutput::Nothing) {
                continue;
            }
            *settled = true;
            // A failure that nobody expected stays a failure: it is no answer to write down.
            if failed_unexpectedly(record, &output) {
                continue;
            }
            let (valid, columns) = (default_validator, default_column_validator);
            *new = update_record_with_output(record, &output, " ", valid, NORMALIZER, columns);
        }
        session.runner.shutdown_async().await;
    }
    let mut text = String::new();
    for (record, new) in records.iter().zip(&updated) {
        let _ = writeln!(text, "{}", new.as_ref().unwrap_or(record));
    }
    let text = format!("{}\n", text.trim_end());
    std::fs::write(file, text).context(|| file.display().to_string())
}

fn failed_unexpectedly(record: &TestRecord, output: &RecordOutput<DefaultColumnType>) -> bool {
    let failed = matches!(
        output,
        RecordOutput::Query { error: Some(_), .. } | RecordOutput::Statement { error: Some(_), .. }
    );
    let expected = matches!(
        record,
        Record::Query { expected: QueryExpect::Error(_), .. }
            | Record::Statement { expected: StatementExpect::Error(_), .. }
    );
    failed && !expected
}
