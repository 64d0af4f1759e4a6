//! Time limits of lookups that do not count waiting for one's turn.
//!
//! ```text
//!  within(timeout, asked ── waiting(a connection) ── query ── waiting(a connection) ── query …)
//!                           not counted              counted
//! ```
//!
//! Many batches wait at the same time for a few connections: the last of them would be out of time before anybody was asked.

#![expect(clippy::disallowed_methods, reason = "a time limit is about the clock")]

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

tokio::task_local! {
    static WAITED: Arc<Mutex<Waited>>;
}

/// How long a lookup has waited for its turn.
#[derive(Debug, Default)]
struct Waited {
    total: Duration,
    /// It waits now.
    since: Option<Instant>,
}

/// Waits for `turn`, which is not part of the time of the lookup that is under way.
pub async fn waiting<T>(turn: impl Future<Output = T>) -> T {
    let Ok(waited) = WAITED.try_with(Arc::clone) else { return turn.await };
    let lock = || waited.lock().unwrap_or_else(PoisonError::into_inner);
    lock().since = Some(Instant::now());
    let out = turn.await;
    let mut waited = lock();
    if let Some(since) = waited.since.take() {
        waited.total += since.elapsed();
    }
    out
}

/// The answer, if it takes at most so long beside [`waiting`].
pub async fn within<T>(timeout: Duration, asked: impl Future<Output = T>) -> Option<T> {
    let waited = Arc::new(Mutex::new(Waited::default()));
    let mut asked = pin!(WAITED.scope(waited.clone(), asked));
    let begun = Instant::now();
    loop {
        let not_counted = {
            let waited = waited.lock().unwrap_or_else(PoisonError::into_inner);
            waited.total + waited.since.map(|since| since.elapsed()).unwrap_or_default()
        };
        let left = timeout.saturating_add(not_counted).saturating_sub(begun.elapsed());
        if left.is_zero() {
            return None;
        }
        // While it waits the same time is left again and again: not too often.
        if let Ok(answer) = tokio::time::timeout(left.max(Duration::from_millis(5)), asked.as_mut()).await {
            return Some(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test]
    async fn waiting_for_a_turn_is_not_counted() {
        let short = Duration::from_millis(10);
        let long = Duration::from_millis(200);
        let asked = async {
            waiting(sleep(long)).await;
            1
        };
        assert_eq!(within(Duration::from_millis(100), asked).await, Some(1));
        let asked = async {
            waiting(sleep(short)).await;
            std::future::pending::<()>().await;
        };
        assert_eq!(within(short, asked).await, None);
        // Nobody counts.
        assert_eq!(waiting(async { 2 }).await, 2);
    }
}
