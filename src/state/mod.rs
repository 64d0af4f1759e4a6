//! Keyed state: the stable key hash and the group directory.
//!
//! ```text
//!  key columns ──► key::hash_columns ──► 64-bit hash ──► key group (top 7 bits) ──► subtask
//!                                            │
//!                                            └──► directory: hash + key ──► dense slot ──► typed state vectors
//! ```

pub mod directory;
pub mod key;
pub mod ordinal;

pub use directory::{GroupDirectory, NO_SLOT};
pub use key::{hash_columns, key_groups_of};
