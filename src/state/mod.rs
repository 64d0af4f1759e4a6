//! Keyed state: the stable key hash, the group directory, rows and sort keys under its slots, and when they expire.
//!
//! ```text
//!  key columns ──► key::hash_columns ──► 64-bit hash ──► key group (top 7 bits) ──► subtask
//!                                            │
//!                                            └──► directory: hash + key ──► dense slot ──► typed state vectors
//! ```

pub mod directory;
pub mod key;
pub mod ordinal;
pub mod row_store;
pub mod sort_key;
pub mod ttl;

pub use directory::{GroupDirectory, NO_SLOT, anonymous};
pub use key::{hash_columns, key_groups_of};
pub use row_store::RowStore;
