//! How a source or sink reaches its catalog: through one that is open, or by opening it when it is first needed, unless another
//! has done so.
//!
//! Sources and sinks are made while planning, which does no IO; a table declared with `'connector' = 'iceberg'` opens
//! its catalog only when it is read or written.

use std::fmt;
use std::sync::Arc;

use tokio::sync::OnceCell;

use super::config::CatalogConfig;
use super::lake::Lake;
use crate::error::Result;

/// A catalog, perhaps not open yet. Clones share it.
#[derive(Clone)]
pub(super) struct Connection {
    config: Arc<CatalogConfig>,
    lake: Arc<OnceCell<Arc<Lake>>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.config.name)
    }
}

impl Connection {
    /// To a catalog that is open.
    pub fn opened(lake: Arc<Lake>) -> Self {
        Connection { config: Arc::new(lake.config.clone()), lake: Arc::new(OnceCell::new_with(Some(lake))) }
    }

    /// To a catalog that is opened when needed.
    pub fn lazy(config: CatalogConfig) -> Self {
        Connection { config: Arc::new(config), lake: Arc::default() }
    }

    /// The open catalog.
    ///
    /// # Errors
    /// External.
    pub async fn open(&self) -> Result<Arc<Lake>> {
        let lake = self.lake.get_or_try_init(|| Lake::shared(&self.config)).await?;
        Ok(Arc::clone(lake))
    }
}
