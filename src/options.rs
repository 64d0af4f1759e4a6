//! Reading table options so that nothing is silently ignored.
//!
//! A connector takes what it knows from an [`Options`]; [`Options::finish`] then refuses whatever is left and lists
//! what would have been understood. Secrets are masked wherever options are printed ([`redact`]).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};

/// Options of one table, taken key by key.
#[derive(Debug)]
pub struct Options {
    owner: String,
    connector: String,
    left: RefCell<BTreeMap<String, String>>,
    known: RefCell<BTreeSet<String>>,
}

impl Options {
    /// Options of `owner` (a table or catalog name, for messages) read by `connector`.
    pub fn new(owner: impl Display, connector: &str, options: &BTreeMap<String, String>) -> Self {
        let left = options.clone();
        let options = Options {
            owner: owner.to_string(),
            connector: connector.to_owned(),
            left: RefCell::new(left),
            known: RefCell::default(),
        };
        options.take("connector");
        options
    }

    /// Takes an option; `None` if it is not set.
    pub fn take(&self, key: &str) -> Option<String> {
        self.known.borrow_mut().insert(key.to_owned());
        self.left.borrow_mut().remove(key)
    }

    /// Takes an option that has to be there.
    ///
    /// # Errors
    /// Validation, in Flink's words.
    pub fn require(&self, key: &str) -> Result<String> {
        self.take(key).ok_or_else(|| {
            Error::validation(format!(
                "table {}: one or more required options are missing: '{key}'",
                self.owner
            ))
            .hint(format!("add '{key}' = '…' to the WITH clause"))
        })
    }

    /// Takes an option and parses it.
    ///
    /// # Errors
    /// Validation naming key, value and what is expected.
    pub fn parse<T: FromStr>(&self, key: &str, expected: &str) -> Result<Option<T>> {
        match self.take(key) {
            None => Ok(None),
            Some(v) => v.trim().parse().map(Some).map_err(|_| self.invalid(key, &v, expected)),
        }
    }

    /// `true` or `false`, any case.
    ///
    /// # Errors
    /// Validation.
    pub fn bool(&self, key: &str, default: bool) -> Result<bool> {
        match self.take(key) {
            None => Ok(default),
            Some(v) if v.eq_ignore_ascii_case("true") => Ok(true),
            Some(v) if v.eq_ignore_ascii_case("false") => Ok(false),
            Some(v) => Err(self.invalid(key, &v, "true or false")),
        }
    }

    /// A duration such as `10s`, `5 min`, `500 ms`.
    ///
    /// # Errors
    /// Validation.
    pub fn duration(&self, key: &str) -> Result<Option<Duration>> {
        match self.take(key) {
            None => Ok(None),
            Some(v) => parse_duration(&v)
                .map(Some)
                .ok_or_else(|| self.invalid(key, &v, "a duration such as '10 s', '5 min' or '500 ms'")),
        }
    }

    /// A size such as `64mb` or `128 kb`, in bytes.
    ///
    /// # Errors
    /// Validation.
    pub fn bytes(&self, key: &str) -> Result<Option<u64>> {
        match self.take(key) {
            None => Ok(None),
            Some(v) => parse_bytes(&v)
                .map(Some)
                .ok_or_else(|| self.invalid(key, &v, "a size such as '64 mb' or '128 kb'")),
        }
    }

    /// One of `values`, any case; gives the value as listed.
    ///
    /// # Errors
    /// Validation.
    pub fn one_of(&self, key: &str, values: &[&'static str]) -> Result<Option<&'static str>> {
        match self.take(key) {
            None => Ok(None),
            Some(v) => values
                .iter()
                .find(|x| x.eq_ignore_ascii_case(v.trim()))
                .map(|x| Some(*x))
                .ok_or_else(|| self.invalid(key, &v, &format!("one of {}", values.join(", ")))),
        }
    }

    /// Takes every option that begins with `prefix`, without the prefix.
    pub fn prefix(&self, prefix: &str) -> BTreeMap<String, String> {
        self.known.borrow_mut().insert(format!("{prefix}*"));
        let mut left = self.left.borrow_mut();
        let keys: Vec<String> = left.keys().filter(|k| k.starts_with(prefix)).cloned().collect();
        keys.into_iter().filter_map(|k| left.remove(&k).map(|v| (k[prefix.len()..].to_owned(), v))).collect()
    }

    /// Keys not taken yet.
    pub fn remaining(&self) -> Vec<String> {
        self.left.borrow().keys().cloned().collect()
    }

    /// An error about the value of a key.
    pub fn invalid(&self, key: &str, value: &str, expected: &str) -> Error {
        let shown = redact(key, value);
        Error::validation(format!("table {}: invalid value '{shown}' for option '{key}'", self.owner))
            .hint(format!("expected {expected}"))
    }

    /// Refuses what nobody took.
    ///
    /// # Errors
    /// Validation listing the unsupported and the supported keys.
    pub fn finish(self) -> Result<()> {
        let left = self.left.into_inner();
        if left.is_empty() {
            return Ok(());
        }
        let unknown: Vec<&str> = left.keys().map(String::as_str).collect();
        let known: Vec<String> = self.known.into_inner().into_iter().collect();
        Err(Error::validation(format!(
            "table {}: unsupported options found for '{}': {}",
            self.owner,
            self.connector,
            unknown.join(", ")
        ))
        .hint(format!("supported options: {}", known.join(", "))))
    }
}

/// Flink's duration syntax: a number and a unit (`ms`, `s`, `min`, `h`, `d`, …), no unit meaning milliseconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().ok()?;
    let nanos: u64 = match text[split..].trim().to_ascii_lowercase().as_str() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000_000_000,
        "h" | "hour" | "hours" => 3_600_000_000_000,
        "d" | "day" | "days" => 86_400_000_000_000,
        _ => return None,
    };
    number.checked_mul(nanos).map(Duration::from_nanos)
}

/// Flink's memory size syntax: a number and a unit (`b`, `kb`, `mb`, `gb`, `tb`), powers of 1024.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().ok()?;
    let factor: u64 = match text[split..].trim().to_ascii_lowercase().as_str() {
        "" | "b" | "bytes" => 1,
        "k" | "kb" | "kib" | "kibibytes" => 1 << 10,
        "m" | "mb" | "mib" | "mebibytes" => 1 << 20,
        "g" | "gb" | "gib" | "gibibytes" => 1 << 30,
        "t" | "tb" | "tib" | "tebibytes" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Whether the value of `key` must never be printed.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    [
        "password",
        "secret",
        "token",
        "credential",
        "jaas",
        "api-key",
        "apikey",
        "access-key",
        "private",
        "basic.auth",
        "user-info",
        "user.info",
        "request.header",
        "lookup.header",
    ]
    .iter()
    .any(|s| key.contains(s))
}

/// Whether the value of an option must never be printed: of a secret, or a URL with a password.
pub fn hides_secret(key: &str, value: &str) -> bool {
    let key_says = |end: &str| key.to_ascii_lowercase().ends_with(end);
    is_secret(key) || ((key_says("url") || key_says("uri")) && url_hides_secret(value))
}

/// Whether a URL has a password, among its parameters or as `user:password@host`. Rather too often than not: a password
/// may hold what would end the name of the host.
pub fn url_hides_secret(url: &str) -> bool {
    let has_user = |rest: &str| rest.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    url.to_ascii_lowercase().contains("password=")
        || url.split_once("://").is_some_and(|(_, rest)| has_user(rest))
}

/// The value of an option as it may be printed.
pub fn redact<'a>(key: &str, value: &'a str) -> &'a str {
    if hides_secret(key, value) { "******" } else { value }
}

#[cfg(test)]
mod tests {
    use super::hides_secret;

    #[test]
    fn urls_with_passwords_are_not_shown() {
        for (key, value, hidden) in [
            ("url", "jdbc:postgresql://bob:hunter2@db/x", true),
            ("url", "jdbc:postgresql://bob:hun/ter?2@db/x", true),
            ("URI", "http://bob:hunter2@h", true),
            ("url", "jdbc:mysql://h/d?Password=x", true),
            ("url", "jdbc:postgresql://bob@db:5432/x?user=a:b", false),
            ("url", "http://h:8081/a", false),
            ("path", "a://b:c@d", false),
        ] {
            assert_eq!(hides_secret(key, value), hidden, "{value}");
        }
    }
}
