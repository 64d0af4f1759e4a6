//! Who of this process changes a table: the commits of a job and the rewriting of files take turns.
//!
//! Others need no turns, as every commit is checked against the head that it requires. But rows of a file that is being rewritten
//! may be taken away meanwhile, and then the rewriting was in vain: in a table whose keys change all the time it would never
//! get anywhere.
//!
//! State: a lock per table, for the life of the process.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError};

use iceberg::TableIdent;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::lake::Lake;

type Locks = std::sync::Mutex<HashMap<String, Arc<Mutex<()>>>>;

static LOCKS: LazyLock<Locks> = LazyLock::new(Locks::default);

/// Waits for the turn of a table; it ends with the guard.
pub(super) async fn turn(lake: &Lake, ident: &TableIdent) -> OwnedMutexGuard<()> {
    let name = format!("{} {} {}", lake.config.uri, lake.config.name, ident);
    let lock = {
        let mut locks = LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(name).or_default())
    };
    lock.lock_owned().await
}
