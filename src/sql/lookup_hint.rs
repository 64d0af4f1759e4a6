//! `/*+ LOOKUP('table' = 't', …) */`: how a lookup join asks its table.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::options::parse_duration;

/// The options of a LOOKUP hint, beside the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LookupHint {
    /// `async`: with `false` one batch waits at a time.
    pub is_async: Option<bool>,
    /// `capacity`: batches that wait at the same time.
    pub capacity: Option<usize>,
    /// `timeout`: how long an answer may take.
    pub timeout: Option<Duration>,
    /// `retry-predicate` = `lookup_miss`: delay and number of further attempts for keys without rows.
    pub retry: Option<(Duration, u32)>,
    /// `shuffle`: rows of one key are asked for by one subtask.
    pub shuffle: bool,
}

const KEYS: &str = "table, async, output-mode, capacity, timeout, retry-predicate, retry-strategy, fixed-delay, max-attempts, shuffle";

impl LookupHint {
    /// The table and the rest.
    ///
    /// # Errors
    /// Validation for unknown options, bad values, and retry options that are not together.
    pub(crate) fn parse(mut options: BTreeMap<String, String>) -> Result<(String, Self)> {
        let invalid = |key: &str, value: &str, expected: &str| {
            Error::validation(format!("invalid value '{value}' for '{key}' of the hint LOOKUP"))
                .hint(format!("expected {expected}"))
        };
        let Some(table) = options.remove("table") else {
            return Err(Error::validation("the hint LOOKUP needs 'table'")
                .hint("LOOKUP('table' = 't', …) names a table, or its alias if it has one"));
        };
        let bool_of = |key: &str, value: Option<String>| match value {
            None => Ok(None),
            Some(v) if v.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(v) if v.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(v) => Err(invalid(key, &v, "true or false")),
        };
        let duration_of = |key: &str, value: Option<String>| match value {
            None => Ok(None),
            Some(v) => match parse_duration(&v).filter(|d| !d.is_zero()) {
                Some(duration) => Ok(Some(duration)),
                None => Err(invalid(key, &v, "a duration such as '10 s'")),
            },
        };
        let number_of = |key: &str, value: Option<String>| match value {
            None => Ok(None),
            Some(v) => match v.trim().parse::<u32>() {
                Ok(n) if n > 0 => Ok(Some(n)),
                _ => Err(invalid(key, &v, "a number above 0")),
            },
        };
        let is_async = bool_of("async", options.remove("async"))?;
        // Answers come out in order in any case, which is among what is allowed.
        if let Some(mode) = options.remove("output-mode")
            && !["ordered", "allow_unordered"].contains(&mode.to_ascii_lowercase().as_str())
        {
            return Err(invalid("output-mode", &mode, "ordered or allow_unordered"));
        }
        let capacity = number_of("capacity", options.remove("capacity"))?.map(|n| n as usize);
        let timeout = duration_of("timeout", options.remove("timeout"))?;
        let predicate = options.remove("retry-predicate");
        if let Some(predicate) = predicate.as_ref().filter(|p| !p.eq_ignore_ascii_case("lookup_miss")) {
            return Err(invalid("retry-predicate", predicate, "lookup_miss"));
        }
        let strategy = options.remove("retry-strategy");
        if let Some(strategy) = strategy.as_ref().filter(|s| !s.eq_ignore_ascii_case("fixed_delay")) {
            return Err(invalid("retry-strategy", strategy, "fixed_delay"));
        }
        let delay = duration_of("fixed-delay", options.remove("fixed-delay"))?;
        let attempts = number_of("max-attempts", options.remove("max-attempts"))?;
        let retry = match (predicate, strategy, delay, attempts) {
            (None, None, None, None) => None,
            (Some(_), Some(_), Some(delay), Some(attempts)) => Some((delay, attempts)),
            _ => {
                return Err(Error::validation(
                    "the retry options of the hint LOOKUP come together: 'retry-predicate', 'retry-strategy', 'fixed-delay', 'max-attempts'",
                )
                .hint("for example 'retry-predicate'='lookup_miss', 'retry-strategy'='fixed_delay', 'fixed-delay'='10s', 'max-attempts'='3'"));
            }
        };
        let shuffle = bool_of("shuffle", options.remove("shuffle"))?.unwrap_or(false);
        if let Some(key) = options.keys().next() {
            return Err(Error::validation(format!("unknown option '{key}' of the hint LOOKUP"))
                .hint(format!("supported: {KEYS}")));
        }
        Ok((table, LookupHint { is_async, capacity, timeout, retry, shuffle }))
    }
}
