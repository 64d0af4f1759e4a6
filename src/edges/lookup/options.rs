//! The `lookup.*` options of tables, in Flink's names.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::options::Options;

/// `lookup.cache`: what is kept of the rows that were looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupCache {
    /// Nothing: each key is asked for each time.
    None,
    /// The rows of keys that were asked for.
    Partial(PartialCacheOptions),
    /// The whole table.
    Full(FullCacheOptions),
}

/// `lookup.partial-cache.*`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialCacheOptions {
    /// Keys that are kept at most.
    pub max_rows: Option<usize>,
    /// How long a key is kept since it was asked for.
    pub expire_after_write: Option<Duration>,
    /// How long a key is kept since it was used.
    pub expire_after_access: Option<Duration>,
    /// Whether keys without rows are kept, too.
    pub cache_missing_key: bool,
}

/// `lookup.full-cache.*`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FullCacheOptions {
    /// Time between the end of a read and the next one; `None` reads once.
    pub reload_interval: Option<Duration>,
    /// Whether the interval is from begin to begin.
    pub fixed_rate: bool,
}

const CACHE: &str = "lookup.cache";
const MAX_ROWS: &str = "lookup.partial-cache.max-rows";
const AFTER_WRITE: &str = "lookup.partial-cache.expire-after-write";
const AFTER_ACCESS: &str = "lookup.partial-cache.expire-after-access";
const MISSING_KEY: &str = "lookup.partial-cache.cache-missing-key";
const STRATEGY: &str = "lookup.full-cache.reload-strategy";
const INTERVAL: &str = "lookup.full-cache.periodic-reload.interval";
const SCHEDULE: &str = "lookup.full-cache.periodic-reload.schedule-mode";
const TIMED: [&str; 2] =
    ["lookup.full-cache.timed-reload.iso-time", "lookup.full-cache.timed-reload.interval-in-days"];

/// The options that [`LookupCache::parse`] takes: a table that is written to may have them, too.
pub fn lookup_option_keys() -> impl Iterator<Item = &'static str> {
    [CACHE, MAX_ROWS, AFTER_WRITE, AFTER_ACCESS, MISSING_KEY, STRATEGY, INTERVAL, SCHEDULE]
        .into_iter()
        .chain(TIMED)
}

impl LookupCache {
    /// Takes the options of a table that can be asked by key (`points`), or is always read whole.
    ///
    /// # Errors
    /// Validation for bad values and for options of another cache than the one asked for, Unsupported for reloads at a time
    /// of the day and for other caches than FULL where the table is always read whole.
    pub fn parse(options: &Options, points: bool) -> Result<Self> {
        let cache = options.one_of(CACHE, &["NONE", "PARTIAL", "FULL"])?;
        let cache =
            match cache {
                Some(cache @ ("NONE" | "PARTIAL")) if !points => {
                    return Err(Error::unsupported(format!(
                    "'{CACHE}' = '{cache}' is not supported: this connector cannot be asked for single keys"
                ))
                .hint(format!("leave the option out: the table is read whole; '{INTERVAL}' reads it again")));
                }
                Some(cache) => cache,
                None if points => "NONE",
                None => "FULL",
            };
        let partial = PartialCacheOptions {
            max_rows: options.parse(MAX_ROWS, "a number of rows")?,
            expire_after_write: options.duration(AFTER_WRITE)?,
            expire_after_access: options.duration(AFTER_ACCESS)?,
            cache_missing_key: true,
        };
        let missing = options.take(MISSING_KEY);
        let cache_missing_key = match missing.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("true") => true,
            Some("false") => false,
            Some(_) => {
                return Err(options.invalid(
                    MISSING_KEY,
                    missing.as_deref().unwrap_or_default(),
                    "true or false",
                ));
            }
        };
        let is_set = |set: bool, key: &'static str| set.then_some(key);
        let of_partial = is_set(partial.max_rows.is_some(), MAX_ROWS)
            .or(is_set(partial.expire_after_write.is_some(), AFTER_WRITE))
            .or(is_set(partial.expire_after_access.is_some(), AFTER_ACCESS));
        let bounds = of_partial;
        let of_partial = of_partial.or(is_set(missing.is_some(), MISSING_KEY));
        let (full, of_full) = full(options)?;
        match (cache, of_partial, of_full) {
            ("PARTIAL", _, Some(key)) | ("NONE", _, Some(key)) => Err(belongs(key, "FULL", cache)),
            ("FULL", Some(key), _) | ("NONE", Some(key), _) => Err(belongs(key, "PARTIAL", cache)),
            ("PARTIAL", ..) if bounds.is_none() => {
                Err(Error::validation(format!("'{CACHE}' = 'PARTIAL' needs a bound, or it grows for ever"))
                    .hint(format!("set '{MAX_ROWS}', '{AFTER_WRITE}' or '{AFTER_ACCESS}'")))
            }
            ("PARTIAL", ..) => Ok(LookupCache::Partial(PartialCacheOptions { cache_missing_key, ..partial })),
            ("FULL", ..) => Ok(LookupCache::Full(full)),
            _ => Ok(LookupCache::None),
        }
    }
}

fn belongs(key: &str, to: &str, cache: &str) -> Error {
    Error::validation(format!("the option '{key}' belongs to '{CACHE}' = '{to}', and the cache is {cache}"))
        .hint(format!("set '{CACHE}' = '{to}', or leave the option out"))
}

/// The options of a full cache, and one that is set of them.
fn full(options: &Options) -> Result<(FullCacheOptions, Option<&'static str>)> {
    let strategy = options.one_of(STRATEGY, &["PERIODIC", "TIMED"])?;
    let timed = TIMED.into_iter().find(|key| options.take(key).is_some());
    if strategy == Some("TIMED") || timed.is_some() {
        let key = timed.unwrap_or(STRATEGY);
        return Err(Error::unsupported(format!("'{key}': reloads at a time of the day are not supported"))
            .hint(format!("'{INTERVAL}' = '1 d' reloads once a day")));
    }
    let reload_interval = options.duration(INTERVAL)?;
    if reload_interval.is_some_and(|interval| interval.is_zero()) {
        return Err(options.invalid(INTERVAL, "0", "a duration above 0"));
    }
    let schedule = options.one_of(SCHEDULE, &["FIXED_DELAY", "FIXED_RATE"])?;
    if reload_interval.is_none()
        && let Some(key) = strategy.map(|_| STRATEGY).or(schedule.map(|_| SCHEDULE))
    {
        return Err(Error::validation(format!("'{key}' needs '{INTERVAL}'"))
            .hint("for example '10 min'; without both the table is read once"));
    }
    let full = FullCacheOptions { reload_interval, fixed_rate: schedule == Some("FIXED_RATE") };
    Ok((full, reload_interval.map(|_| INTERVAL)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(set: &[(&str, &str)], points: bool) -> Result<LookupCache> {
        let set = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let options = Options::new("t", "jdbc", &set);
        let cache = LookupCache::parse(&options, points)?;
        options.finish()?;
        Ok(cache)
    }

    #[test]
    fn each_cache_has_its_options() {
        assert_eq!(parse(&[], true).unwrap(), LookupCache::None);
        assert_eq!(parse(&[], false).unwrap(), LookupCache::Full(FullCacheOptions::default()));
        let partial = [(CACHE, "partial"), (MAX_ROWS, "10"), (MISSING_KEY, "FALSE")];
        let LookupCache::Partial(found) = parse(&partial, true).unwrap() else { panic!("partial") };
        assert_eq!((found.max_rows, found.cache_missing_key), (Some(10), false));
        let full = [(CACHE, "FULL"), (INTERVAL, "5 s"), (SCHEDULE, "fixed_rate")];
        let expected = FullCacheOptions { reload_interval: Some(Duration::from_secs(5)), fixed_rate: true };
        assert_eq!(parse(&full, true).unwrap(), LookupCache::Full(expected));
        assert_eq!(parse(&full[1..], false).unwrap(), LookupCache::Full(expected));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        for (set, points, says) in [
            (&[(CACHE, "PARTIAL")][..], true, "needs a bound"),
            (&[(CACHE, "PARTIAL"), (MAX_ROWS, "1")], false, "single keys"),
            (&[(MAX_ROWS, "1")], true, "belongs to 'lookup.cache' = 'PARTIAL'"),
            (&[(CACHE, "FULL"), (MISSING_KEY, "true")], true, "belongs to"),
            (&[(INTERVAL, "1 s")], true, "belongs to 'lookup.cache' = 'FULL'"),
            (&[(STRATEGY, "TIMED")], false, "time of the day"),
            (&[(TIMED[0], "10:00")], false, "time of the day"),
            (&[(STRATEGY, "PERIODIC")], false, "needs 'lookup.full-cache.periodic-reload.interval'"),
            (&[(CACHE, "SOME")], true, "invalid value 'SOME'"),
        ] {
            let e = parse(set, points).unwrap_err().to_string();
            assert!(e.contains(says), "{e}");
        }
    }
}
