//! Places at which a test kills the process, as `kill -9` would: the steps between which a crash must neither lose nor
//! repeat anything.
//!
//! `TIDELAKE_FAILPOINT=manifest-written` kills it when it first comes there, `manifest-written:3` the third time. Without
//! the variable a place costs one comparison.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

static ARMED: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();

fn parse(text: &str) -> (String, AtomicU32) {
    let (name, times) = match text.rsplit_once(':') {
        Some((name, times)) => (name, times.parse().unwrap_or(1)),
        None => (text, 1),
    };
    (name.to_owned(), AtomicU32::new(times))
}

/// The process comes by the place `name`.
pub fn failpoint(name: &str) {
    let armed = ARMED.get_or_init(|| std::env::var("TIDELAKE_FAILPOINT").ok().map(|text| parse(&text)));
    if let Some((place, times)) = armed
        && place == name
        && times.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_with_the_time_that_counts() {
        let parsed = |text| {
            let (name, times) = parse(text);
            (name, times.into_inner())
        };
        assert_eq!(parsed("manifest-written"), ("manifest-written".to_owned(), 1));
        assert_eq!(parsed("sink-committed:3"), ("sink-committed".to_owned(), 3));
    }
}
