//! Code of other crates on what it was not made for: damaged input, columns beyond 2 GB. Some of it gives an error, some
//! panics. Here both are errors, and silent ones.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::task::Poll;

use futures::{Stream, StreamExt};

use crate::error::{Error, Result, panic_text};

thread_local! {
    /// Guarded code is at work in this thread: what it has to say is an error and nothing to print.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    /// Where it panicked last.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs a decoder. What it was working on has to be dropped after an error.
///
/// # Errors
/// Its own, and Data if it panics.
pub(crate) fn guarded<T>(decode: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(decode, |panic| Error::data(format!("damaged data: {panic}")))
}

/// Runs what makes columns, of which some outgrow their offsets with a panic. What it was working on has to be dropped
/// after an error.
///
/// # Errors
/// Its own; [`Error::batch_overflow`] for an overflow, Internal for any other panic.
pub(crate) fn within_columns<T>(make: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(make, |panic| {
        // As Arrow and DataFusion say it; `attempt to add with overflow` is another thing.
        let overflows = panic.contains("overflow") && !panic.starts_with("attempt");
        if overflows || panic.contains("more than can be represented") {
            Error::batch_overflow(None)
        } else {
            Error::internal(format!("code panicked at {}: {panic}", PLACE.take()))
        }
    })
}

fn caught<T>(work: impl FnOnce() -> Result<T>, to_error: impl FnOnce(&str) -> Error) -> Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if GUARDED.get() {
                PLACE.set(info.location().map(ToString::to_string).unwrap_or_default());
            } else {
                before(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    done.unwrap_or_else(|panic| Err(to_error(panic_text(&*panic).unwrap_or("it does not say why"))))
}

/// [`guarded`] for a stream, which ends after an error.
pub(crate) fn guarded_stream<T>(
    stream: impl Stream<Item = Result<T>> + Unpin,
) -> impl Stream<Item = Result<T>> {
    caught_stream(stream, |poll| guarded(poll))
}

/// [`within_columns`] for a stream, which ends after an error.
pub(crate) fn stream_within_columns<T>(
    stream: impl Stream<Item = Result<T>> + Unpin,
) -> impl Stream<Item = Result<T>> {
    caught_stream(stream, |poll| within_columns(poll))
}

type Polled<T> = Poll<Option<Result<T>>>;

fn caught_stream<T>(
    mut stream: impl Stream<Item = Result<T>> + Unpin,
    guard: impl Fn(&mut dyn FnMut() -> Result<Polled<T>>) -> Result<Polled<T>>,
) -> impl Stream<Item = Result<T>> {
    let mut ended = false;
    futures::stream::poll_fn(move |cx| {
        if ended {
            return Poll::Ready(None);
        }
        let polled = guard(&mut || Ok(stream.poll_next_unpin(cx)));
        let polled = polled.unwrap_or_else(|e| Poll::Ready(Some(Err(e))));
        ended = matches!(polled, Poll::Ready(Some(Err(_)) | None));
        polled
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[tokio::test]
    async fn a_panic_is_an_error() {
        assert_eq!(guarded(|| Ok(1)).unwrap(), 1);
        assert_eq!(guarded(|| Err::<(), _>(Error::data("bad"))).unwrap_err().to_string(), "bad");
        let e = guarded::<()>(|| panic!("page {}", 7)).unwrap_err();
        assert_eq!(e.to_string(), "damaged data: page 7");
        assert!(
            within_columns::<()>(|| panic!("byte array offset overflow")).unwrap_err().is_batch_overflow()
        );
        let e = within_columns::<()>(|| panic!("{}", 7)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Internal);
        assert!(e.to_string().contains("guard.rs") && e.to_string().ends_with(": 7"), "{e}");
        let numbers = futures::stream::iter([1, 2, 0, 4]).map(|n| Ok(8 / n));
        let all: Vec<_> = guarded_stream(numbers).collect().await;
        assert_eq!(all.len(), 3);
        assert!(all[2].as_ref().unwrap_err().to_string().contains("divide by zero"));
    }
}
