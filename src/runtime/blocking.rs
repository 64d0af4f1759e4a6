//! Waiting within a task.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does something that waits for another thread. Whatever else the worker of a runtime has to do is done by another one meanwhile;
/// a runtime of a single thread has none.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
