//! What stands between a lookup join and the table that it asks.
//!
//! ```text
//!  keys ─► PartialCache ─► MissRetry ─► PointLookups of the connector ─► Shaped: filters and columns of the right side
//!  keys ─► FullCache: the rows of a bounded source, shaped, by key; read again at intervals
//! ```

mod full;
mod partial;
mod retry;
mod shape;

pub use full::{FullCache, FullCacheConfig};
pub use partial::PartialCache;
pub use retry::MissRetry;
pub use shape::{Shape, Shaped};

#[cfg(test)]
pub(crate) mod tests;
