//! `tidelake maintain`: keep Iceberg tables small.
//!
//! ```text
//!  arguments ─► Maintenance ─► connectors::iceberg::maintain ─► a line per table as it is done
//! ```

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::catalog_args::CatalogArgs;
use super::duration;
use super::progress::{counted, size};
use crate::connectors::iceberg::{Maintained, Maintenance, maintain};
use crate::error::{Error, Result};
use crate::options::parse_bytes;

/// Keep Iceberg tables small: put small files together, let old snapshots go, delete files that nothing names.
///
/// Safe beside writers and readers: what is young or named by a kept snapshot stays.
#[derive(Debug, Args)]
pub(super) struct MaintainArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
    /// NAMESPACE.TABLE, or a regular expression of whole names. May be repeated [default: all tables].
    #[arg(long = "table", value_name = "PATTERN")]
    tables: Vec<String>,
    /// Leave files as they are.
    #[arg(long)]
    no_compact: bool,
    /// Keep all snapshots.
    #[arg(long)]
    no_expire: bool,
    /// Leave files that nothing names.
    #[arg(long)]
    no_orphans: bool,
    /// Size of the files that are made, e.g. 128MB [default: write.target-file-size-bytes of the table, or 512 MB].
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    target_file_size: Option<u64>,
    /// Small files of a partition, or files with deleted rows, from which on they are put together.
    #[arg(long, value_name = "N", default_value_t = 5)]
    min_input_files: usize,
    /// Age of snapshots that go [default: history.expire.max-snapshot-age-ms of the table, or 5 days].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    snapshot_age: Option<Duration>,
    /// Newest snapshots that stay, whatever their age [default: history.expire.min-snapshots-to-keep, or 1].
    #[arg(long, value_name = "N")]
    snapshots_to_keep: Option<usize>,
    /// Age of files that may be deleted though nothing names them: younger ones may belong to a commit under way.
    #[arg(long, value_name = "DURATION", default_value = "3d", value_parser = duration)]
    orphan_age: Duration,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

fn bytes(text: &str) -> Result<u64, String> {
    parse_bytes(text).filter(|n| *n > 0).ok_or_else(|| "expected a size such as 128MB".to_owned())
}

/// Entry point.
pub(super) async fn main(args: MaintainArgs) -> ExitCode {
    match run(args).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("error: {} could not be maintained", counted(failed, "table"));
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: MaintainArgs) -> Result<u64> {
    let what = Maintenance {
        compact: !args.no_compact,
        target_file_size: args.target_file_size,
        min_input_files: args.min_input_files,
        expire: !args.no_expire,
        snapshot_age: args.snapshot_age,
        snapshots_to_keep: args.snapshots_to_keep,
        orphans: !args.no_orphans,
        orphan_age: args.orphan_age,
        dry_run: args.dry_run,
    };
    let patterns = args
        .tables
        .iter()
        .map(|p| {
            regex::Regex::new(&format!("^(?:{p})$"))
                .map_err(|_| Error::validation(format!("--table {p}: not a name and no regular expression")))
        })
        .collect::<Result<Vec<_>>>()?;
    let wanted = |name: &str| patterns.is_empty() || patterns.iter().any(|p| p.is_match(name));
    let (mut seen, mut failed) = (0, 0);
    let mut each = |name: &str, done: Result<Maintained>| {
        seen += 1;
        match done {
            Ok(done) => println!("{name}: {}", told(&done, what.dry_run)),
            Err(e) => {
                failed += 1;
                eprintln!("error: {e}");
            }
        }
    };
    maintain(&args.catalog.options()?, &std::env::current_dir()?, &wanted, &what, &mut each).await?;
    if seen == 0 {
        let which = if patterns.is_empty() { "no table" } else { "no table of that name" };
        return Err(Error::validation(format!("the catalog has {which}")).hint("SHOW TABLES lists them"));
    }
    Ok(failed)
}

/// What was done, in a line.
fn told(done: &Maintained, dry_run: bool) -> String {
    let mut parts = Vec::new();
    let (from, to) = done.compacted;
    if from > 0 {
        let bytes = size(done.compacted_bytes);
        parts.push(match dry_run {
            true => format!("{} of {bytes} to be put together", counted(from as u64, "file")),
            false => format!("{} of {bytes} put together into {to}", counted(from as u64, "file")),
        });
    }
    let verb = if dry_run { "to be deleted" } else { "deleted" };
    if done.expired > 0 {
        parts.push(format!(
            "{} expired, {} {verb}",
            counted(done.expired as u64, "snapshot"),
            counted(done.expired_files as u64, "file")
        ));
    }
    if done.orphans > 0 {
        parts.push(format!(
            "{} of {} that nothing names {verb}",
            counted(done.orphans as u64, "file"),
            size(done.orphan_bytes)
        ));
    }
    parts.extend(done.skipped.iter().map(|why| format!("left alone: {why}")));
    if parts.is_empty() { "nothing to do".to_owned() } else { parts.join("; ") }
}
