//! Decoders of other crates on damaged input: some give an error, some panic. Here both are errors, and silent ones.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::task::Poll;

use futures::{Stream, StreamExt};

use crate::error::{Error, Result, panic_text};

thread_local! {
    /// A decoder is at work in this thread: what it has to say is an error and nothing to print.
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a decoder. What it was working on has to be dropped after an error.
///
/// # Errors
/// Its own, and Data if it panics.
pub(crate) fn guarded<T>(decode: impl FnOnce() -> Result<T>) -> Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !DECODING.get() {
                before(info);
            }
        }));
    });
    let outer = DECODING.replace(true);
    let done = catch_unwind(AssertUnwindSafe(decode));
    DECODING.set(outer);
    done.unwrap_or_else(|panic| {
        let text = panic_text(&*panic).unwrap_or("it cannot be decoded");
        Err(Error::data(format!("damaged data: {text}")))
    })
}

/// The same for a stream, which ends after an error.
pub(crate) fn guarded_stream<T>(
    mut stream: impl Stream<Item = Result<T>> + Unpin,
) -> impl Stream<Item = Result<T>> {
    let mut ended = false;
    futures::stream::poll_fn(move |cx| {
        if ended {
            return Poll::Ready(None);
        }
        let polled = guarded(|| Ok(stream.poll_next_unpin(cx))).unwrap_or_else(|e| Poll::Ready(Some(Err(e))));
        ended = matches!(polled, Poll::Ready(Some(Err(_)) | None));
        polled
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error() {
        assert_eq!(guarded(|| Ok(1)).unwrap(), 1);
        assert_eq!(guarded(|| Err::<(), _>(Error::data("bad"))).unwrap_err().to_string(), "bad");
        let e = guarded::<()>(|| panic!("page {}", 7)).unwrap_err();
        assert_eq!(e.to_string(), "damaged data: page 7");
        let numbers = futures::stream::iter([1, 2, 0, 4]).map(|n| Ok(8 / n));
        let all: Vec<_> = guarded_stream(numbers).collect().await;
        assert_eq!(all.len(), 3);
        assert!(all[2].as_ref().unwrap_err().to_string().contains("divide by zero"));
    }
}
