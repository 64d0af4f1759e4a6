//! Options of tables that are the planner's and not the connector's: every connector has them.

use std::time::Duration;

use crate::catalog::ResolvedTable;
use crate::error::{Error, Result};
use crate::options::parse_duration;
use crate::plan::table::{AlignmentOptions, WatermarkOptions};
use crate::stream::key_group::KEY_GROUPS;

/// Tasks of an operator at most.
const MAX_PARALLELISM: usize = KEY_GROUPS as usize;

/// What the options of a table say to the planner.
#[derive(Debug, Clone, Default)]
pub(crate) struct PlannerOptions {
    /// `scan.watermark.*`
    pub watermarks: WatermarkOptions,
    /// `scan.parallelism`: readers of a stream; the job's parallelism when `None`.
    pub source_parallelism: Option<usize>,
    /// `sink.parallelism`: writers of a stream; as many as the tasks before them when `None`.
    pub sink_parallelism: Option<usize>,
}

impl PlannerOptions {
    /// Takes them out of a table's options.
    ///
    /// # Errors
    /// Validation for bad values, Unsupported for other options of watermarks.
    pub fn take(table: &mut ResolvedTable) -> Result<Self> {
        Ok(PlannerOptions {
            watermarks: watermark_options(table)?,
            source_parallelism: parallelism(table, "scan.parallelism")?,
            sink_parallelism: parallelism(table, "sink.parallelism")?,
        })
    }
}

fn parallelism(table: &mut ResolvedTable, key: &str) -> Result<Option<usize>> {
    let Some(value) = table.options.remove(key) else { return Ok(None) };
    match value.trim().parse() {
        Ok(n @ 1..=MAX_PARALLELISM) => Ok(Some(n)),
        _ => Err(Error::validation(format!(
            "table {}: invalid value '{value}' for option '{key}'",
            table.def.path
        ))
        .hint(format!("expected a number from 1 to {MAX_PARALLELISM}"))),
    }
}

/// Takes the `scan.watermark.*` options.
fn watermark_options(table: &mut ResolvedTable) -> Result<WatermarkOptions> {
    let mut options = WatermarkOptions::default();
    let (mut group, mut drift, mut interval) = (None, None, None);
    let keys: Vec<String> =
        table.options.keys().filter(|k| k.starts_with("scan.watermark.")).cloned().collect();
    for key in keys {
        let Some(value) = table.options.remove(&key) else { continue };
        let invalid = |expected: &str| {
            Error::validation(format!("table {}: invalid value '{value}' for option '{key}'", table.def.path))
                .hint(format!("expected {expected}"))
        };
        let duration = || parse_duration(&value).ok_or_else(|| invalid("a duration such as '10 s'"));
        match key.as_str() {
            "scan.watermark.idle-timeout" => options.idle_timeout = Some(duration()?),
            // Without it the watermark follows every batch, which is more often than Flink's 200 ms.
            "scan.watermark.emit.strategy" => match value.as_str() {
                "on-periodic" => {}
                "on-event" => options.on_event = true,
                _ => return Err(invalid("on-periodic or on-event")),
            },
            "scan.watermark.alignment.group" => group = Some(value.clone()),
            "scan.watermark.alignment.max-drift" => drift = Some(duration()?),
            "scan.watermark.alignment.update-interval" => interval = Some(duration()?),
            _ => {
                return Err(Error::unsupported(format!(
                    "table {}: the option '{key}' is not supported",
                    table.def.path
                ))
                .hint("supported: scan.watermark.idle-timeout, scan.watermark.emit.strategy, scan.watermark.alignment.group, .max-drift and .update-interval"));
            }
        }
    }
    options.alignment = match (group, drift) {
        (Some(group), Some(max_drift)) => {
            let update_interval = interval.unwrap_or(Duration::from_secs(1));
            Some(AlignmentOptions { group, max_drift, update_interval })
        }
        (None, None) if interval.is_none() => None,
        _ => {
            return Err(Error::validation(format!(
                "table {}: 'scan.watermark.alignment.group' and 'scan.watermark.alignment.max-drift' belong together",
                table.def.path
            ))
            .hint("set both, or none of the options of the alignment"));
        }
    };
    Ok(options)
}
