//! `SET` options: what they are, what they mean, their defaults.
//!
//! A key that tidelake does not know is an error; a key of Flink's that has no meaning in one process is accepted with
//! a notice, so that scripts run unchanged.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use chrono_tz::Tz;

use crate::edges::PROCESS_MEMORY;
use crate::edges::not_null::NotNullEnforcer;
use crate::error::{Error, Result};
use crate::options::{parse_bytes, parse_duration};
use crate::plan::stream::{AggPhase, EmitOptions, LookupOptions, WhenNeeded};
use crate::runtime::spilling::memory::StateMemory;
use crate::session::keys::{FUNCTION_LANGUAGES, KEYS};
use crate::sql::ast::FunctionLanguage;
use crate::sql::nearest_name;

/// `execution.runtime-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeMode {
    /// As a stream, also over bounded tables.
    Streaming,
    /// In batch; every table has to be bounded.
    Batch,
    /// Batch when every table is bounded and has its rows at hand, streaming otherwise.
    Automatic,
}

/// How often INSERTs commit whose end nobody wants to wait for.
pub const LIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Prefixes whose keys go to connectors as they are.
const PASSED_ON: &[&str] = &["s3.", "fs.s3", "iceberg."];

/// Keys of Flink's without a meaning in one process, by prefix.
const WITHOUT_MEANING: &[&str] = &[
    "execution.attached",
    "execution.batch-shuffle-mode",
    "execution.buffer-timeout",
    "execution.checkpointing.",
    "execution.state-recovery.",
    "execution.target",
    "jobmanager.",
    "pipeline.auto-watermark-interval",
    "pipeline.jars",
    "pipeline.max-parallelism",
    "pipeline.object-reuse",
    "pipeline.operator-chaining",
    "rest.",
    "restart-strategy",
    "sql-client.",
    "state.backend",
    "state.checkpoints",
    "state.savepoints",
    "table.dml-sync",
    "table.exec.resource.",
    "table.optimizer.",
    "table.plan.",
    "table.sql-dialect",
    "taskmanager.",
];

/// The options of a session.
#[derive(Debug, Clone, Default)]
pub struct SessionConfig {
    values: BTreeMap<String, String>,
}

impl SessionConfig {
    /// Sets a key; gives a notice if it has no meaning here.
    ///
    /// # Errors
    /// Validation for unknown keys and values that make no sense.
    pub fn set(&mut self, key: &str, value: &str) -> Result<Option<String>> {
        let known = KEYS.iter().any(|(k, ..)| *k == key);
        let passed_on = PASSED_ON.iter().any(|p| key.starts_with(p));
        if !known && !passed_on {
            if WITHOUT_MEANING.iter().any(|p| key.starts_with(p)) {
                return Ok(Some(format!("'{key}' has no effect: tidelake runs in one process")));
            }
            let keys: Vec<&str> = KEYS.iter().map(|(k, ..)| *k).collect();
            let hint = match nearest_name(key, keys.iter().copied()) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("supported keys: {}", keys.join(", ")),
            };
            return Err(Error::validation(format!("the configuration key '{key}' is not known")).hint(hint));
        }
        let allowed = self.values.contains_key(FUNCTION_LANGUAGES).then(|| self.function_languages());
        let before = self.values.insert(key.to_owned(), value.to_owned());
        if let Err(e) = self.validate().and_then(|()| self.at_most(allowed)) {
            match before {
                Some(v) => self.values.insert(key.to_owned(), v),
                None => self.values.remove(key),
            };
            return Err(e);
        }
        Ok(None)
    }

    /// Unsets a key, or all but the languages that functions may have.
    ///
    /// # Errors
    /// Validation for the languages that functions may have.
    pub fn reset(&mut self, key: Option<&str>) -> Result<()> {
        match key {
            Some(FUNCTION_LANGUAGES) if self.values.contains_key(FUNCTION_LANGUAGES) => {
                return Err(only_fewer_languages());
            }
            Some(key) => drop(self.values.remove(key)),
            None => self.values.retain(|key, _| key == FUNCTION_LANGUAGES),
        }
        Ok(())
    }

    /// `table.functions.languages`.
    ///
    /// # Errors
    /// Validation.
    pub fn function_languages(&self) -> Result<Vec<FunctionLanguage>> {
        use FunctionLanguage::{JavaScript, Python, Sql};
        self.parsed(FUNCTION_LANGUAGES, "some of SQL, JAVASCRIPT and PYTHON, or none", |v| {
            if v.eq_ignore_ascii_case("none") {
                return Some(Vec::new());
            }
            let language = |word: &str| {
                [Sql, JavaScript, Python].into_iter().find(|l| l.keyword().eq_ignore_ascii_case(word.trim()))
            };
            v.split(',').map(language).collect()
        })
    }

    /// Refuses languages of functions that were not `allowed`.
    fn at_most(&self, allowed: Option<Result<Vec<FunctionLanguage>>>) -> Result<()> {
        let Some(allowed) = allowed.transpose()? else { return Ok(()) };
        if self.function_languages()?.iter().all(|l| allowed.contains(l)) {
            return Ok(());
        }
        Err(only_fewer_languages())
    }

    /// What was set.
    pub fn values(&self) -> &BTreeMap<String, String> {
        &self.values
    }

    /// A value, or its default.
    pub(super) fn text(&self, key: &str) -> &str {
        match self.values.get(key) {
            Some(v) => v.trim(),
            None => KEYS.iter().find(|(k, ..)| *k == key).map_or("", |(_, default, _)| default),
        }
    }

    pub(super) fn parsed<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let value = self.text(key);
        parse(value).ok_or_else(|| {
            Error::validation(format!("invalid value '{value}' for '{key}'"))
                .hint(format!("expected {expected}"))
        })
    }

    fn validate(&self) -> Result<()> {
        self.runtime_mode()?;
        self.parallelism()?;
        self.checkpoint_interval(None)?;
        self.idle_timeout()?;
        self.bundle_rows()?;
        self.state_ttl()?;
        self.emit()?;
        self.lookups()?;
        self.mini_batch_latency()?;
        self.agg_phase()?;
        self.not_null_enforcer()?;
        self.time_zone()?;
        self.keyed_shuffle()?;
        self.upsert_materialize()?;
        self.require_on_conflict()?;
        self.bool("table.exec.source.cdc-events-duplicate")?;
        self.hints_allowed()?;
        self.max_column_width()?;
        self.process_memory()?;
        self.function_languages()?;
        self.validate_checkpointing()
    }

    /// `execution.runtime-mode`.
    ///
    /// # Errors
    /// Validation.
    pub fn runtime_mode(&self) -> Result<RuntimeMode> {
        self.parsed("execution.runtime-mode", "streaming, batch or automatic", |v| {
            match v.to_ascii_lowercase().as_str() {
                "streaming" => Some(RuntimeMode::Streaming),
                "batch" => Some(RuntimeMode::Batch),
                "automatic" => Some(RuntimeMode::Automatic),
                _ => None,
            }
        })
    }

    /// `parallelism.default`.
    ///
    /// # Errors
    /// Validation.
    pub fn parallelism(&self) -> Result<usize> {
        self.parsed("parallelism.default", "a number from 1 to 128", |v| {
            v.parse().ok().filter(|n| (1..=usize::from(crate::stream::key_group::KEY_GROUPS)).contains(n))
        })
    }

    /// `execution.checkpointing.interval`; `default` if it is not set.
    ///
    /// # Errors
    /// Validation.
    pub fn checkpoint_interval(&self, default: Option<Duration>) -> Result<Option<Duration>> {
        self.parsed("execution.checkpointing.interval", "a duration such as '10 s'", |v| {
            if v.is_empty() {
                Some(default)
            } else {
                parse_duration(v).map(|d| Some(d).filter(|d| !d.is_zero()))
            }
        })
    }

    /// `table.exec.source.idle-timeout`.
    ///
    /// # Errors
    /// Validation.
    pub fn idle_timeout(&self) -> Result<Option<Duration>> {
        self.parsed("table.exec.source.idle-timeout", "a duration such as '10 s'", |v| {
            parse_duration(v).map(|d| Some(d).filter(|d| !d.is_zero()))
        })
    }

    /// `table.exec.mini-batch.size`, and 1 when `table.exec.mini-batch.enabled` is `false`.
    ///
    /// # Errors
    /// Validation.
    pub fn bundle_rows(&self) -> Result<Option<usize>> {
        let enabled = self.parsed("table.exec.mini-batch.enabled", "true or false", |v| {
            v.to_ascii_lowercase().parse::<bool>().ok()
        })?;
        let rows = self.mini_batch_rows()?;
        Ok(if enabled { rows } else { Some(1) })
    }

    fn mini_batch_latency(&self) -> Result<Duration> {
        self.parsed("table.exec.mini-batch.allow-latency", "a duration such as '2 s'", parse_duration)
    }

    /// `table.optimizer.agg-phase-strategy`.
    ///
    /// # Errors
    /// Validation.
    pub fn agg_phase(&self) -> Result<AggPhase> {
        self.parsed("table.optimizer.agg-phase-strategy", "AUTO, ONE_PHASE or TWO_PHASE", |v| {
            match v.to_ascii_uppercase().as_str() {
                "AUTO" => Some(AggPhase::Auto),
                "ONE_PHASE" => Some(AggPhase::OnePhase),
                "TWO_PHASE" => Some(AggPhase::TwoPhase),
                _ => None,
            }
        })
    }

    /// `table.optimizer.multi-join.enabled`.
    ///
    /// # Errors
    /// Validation.
    pub fn multi_join(&self) -> Result<bool> {
        self.bool("table.optimizer.multi-join.enabled")
    }

    fn mini_batch_rows(&self) -> Result<Option<usize>> {
        self.parsed("table.exec.mini-batch.size", "a number of rows above 0", |v| match v {
            "" | "-1" => Some(None),
            v => v.parse().ok().filter(|n| *n > 0).map(Some),
        })
    }

    /// `taskmanager.memory.process.size` in bytes.
    ///
    /// # Errors
    /// Validation.
    pub fn process_memory(&self) -> Result<usize> {
        self.parsed(PROCESS_MEMORY, "a size such as '2 GB'", |v| {
            if v.is_empty() {
                return Some(StateMemory::default_limit());
            }
            parse_bytes(v).and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes > 0)
        })
    }

    /// `io.tmp.dirs`, the first of them.
    pub fn temporary_folder(&self) -> PathBuf {
        match self.text("io.tmp.dirs").split([',', '|']).next().map(str::trim) {
            Some(dir) if !dir.is_empty() => PathBuf::from(dir),
            _ => std::env::temp_dir(),
        }
    }

    /// `table.exec.late-data.table`, empty if there is none.
    pub fn late_table(&self) -> &str {
        self.text("table.exec.late-data.table")
    }

    /// `table.exec.emit.*`: when windows of GROUP BY show results besides their end.
    ///
    /// # Errors
    /// Validation.
    pub fn emit(&self) -> Result<EmitOptions> {
        let delay = |key: &str| {
            self.parsed(key, "a duration such as '1 min'", |v| {
                if v.is_empty() {
                    Some(None)
                } else {
                    i64::try_from(parse_duration(v)?.as_millis()).ok().map(Some)
                }
            })
        };
        Ok(EmitOptions {
            early: self.bool("table.exec.emit.early-fire.enabled")?,
            early_delay: delay("table.exec.emit.early-fire.delay")?,
            late: self.bool("table.exec.emit.late-fire.enabled")?,
            late_delay: delay("table.exec.emit.late-fire.delay")?,
            allow_lateness: delay("table.exec.emit.allow-lateness")?,
        })
    }

    /// `table.exec.async-lookup.*`.
    ///
    /// # Errors
    /// Validation.
    pub fn lookups(&self) -> Result<LookupOptions> {
        let capacity = "table.exec.async-lookup.buffer-capacity";
        let timeout = "table.exec.async-lookup.timeout";
        let mode = "table.exec.async-lookup.output-mode";
        self.parsed(mode, "ORDERED or ALLOW_UNORDERED", |v| {
            ["ORDERED", "ALLOW_UNORDERED"].iter().find(|m| m.eq_ignore_ascii_case(v)).copied()
        })?;
        Ok(LookupOptions {
            capacity: self.parsed(capacity, "a number above 0", |v| v.parse().ok().filter(|n| *n > 0))?,
            timeout: self
                .parsed(timeout, "a duration above 0", |v| parse_duration(v).filter(|d| !d.is_zero()))?,
        })
    }

    /// `table.exec.state.ttl` in milliseconds; `None` keeps state for ever.
    ///
    /// # Errors
    /// Validation.
    pub fn state_ttl(&self) -> Result<Option<i64>> {
        self.parsed("table.exec.state.ttl", "a duration such as '1 h'", |v| {
            let millis = i64::try_from(parse_duration(v)?.as_millis()).ok()?;
            Some(Some(millis).filter(|m| *m > 0))
        })
    }

    /// `table.exec.sink.not-null-enforcer`.
    ///
    /// # Errors
    /// Validation.
    pub fn not_null_enforcer(&self) -> Result<NotNullEnforcer> {
        self.parsed("table.exec.sink.not-null-enforcer", "ERROR or DROP", |v| {
            match v.to_ascii_uppercase().as_str() {
                "ERROR" => Some(NotNullEnforcer::Error),
                "DROP" => Some(NotNullEnforcer::Drop),
                _ => None,
            }
        })
    }

    pub(super) fn bool(&self, key: &str) -> Result<bool> {
        self.parsed(key, "true or false", |v| v.to_ascii_lowercase().parse().ok())
    }

    fn when_needed(&self, key: &str) -> Result<WhenNeeded> {
        self.parsed(key, "NONE, AUTO or FORCE", |v| match v.to_ascii_uppercase().as_str() {
            "NONE" => Some(WhenNeeded::None),
            "AUTO" => Some(WhenNeeded::Auto),
            "FORCE" => Some(WhenNeeded::Force),
            _ => None,
        })
    }

    /// `table.exec.sink.keyed-shuffle`.
    ///
    /// # Errors
    /// Validation.
    pub fn keyed_shuffle(&self) -> Result<WhenNeeded> {
        self.when_needed("table.exec.sink.keyed-shuffle")
    }

    /// `table.exec.sink.upsert-materialize`.
    ///
    /// # Errors
    /// Validation.
    pub fn upsert_materialize(&self) -> Result<WhenNeeded> {
        self.when_needed("table.exec.sink.upsert-materialize")
    }

    /// `table.exec.sink.require-on-conflict`.
    ///
    /// # Errors
    /// Validation.
    pub fn require_on_conflict(&self) -> Result<bool> {
        self.bool("table.exec.sink.require-on-conflict")
    }

    /// `table.local-time-zone`, or the system's.
    ///
    /// # Errors
    /// Validation.
    pub fn time_zone(&self) -> Result<Tz> {
        self.parsed("table.local-time-zone", "a zone name such as 'Europe/Berlin' or 'UTC'", |v| {
            if v.is_empty() || v == "default" { Some(system_zone()) } else { crate::functions::parse_zone(v) }
        })
    }

    /// `table.dynamic-table-options.enabled`.
    ///
    /// # Errors
    /// Validation.
    pub fn hints_allowed(&self) -> Result<bool> {
        self.parsed("table.dynamic-table-options.enabled", "true or false", |v| {
            v.to_ascii_lowercase().parse().ok()
        })
    }

    /// `table.display.max-column-width`.
    ///
    /// # Errors
    /// Validation.
    pub fn max_column_width(&self) -> Result<usize> {
        self.parsed("table.display.max-column-width", "a number of characters", |v| v.parse().ok())
    }
}

/// The zone of `TZ` or of `/etc/localtime`, UTC if neither names one.
fn system_zone() -> Tz {
    let from_env = std::env::var("TZ").ok();
    let from_link = || {
        let target = std::fs::read_link("/etc/localtime").ok()?;
        let text = target.to_str()?;
        text.split_once("zoneinfo/").map(|(_, zone)| zone.to_owned())
    };
    from_env.or_else(from_link).and_then(|z| Tz::from_str(z.trim_start_matches(':')).ok()).unwrap_or(Tz::UTC)
}

/// The error of statements that would allow more.
fn only_fewer_languages() -> Error {
    Error::validation(format!("'{FUNCTION_LANGUAGES}' is set, and SET can only take languages away"))
        .hint(format!("it is given when tidelake starts: -s {FUNCTION_LANGUAGES}=SQL"))
}
