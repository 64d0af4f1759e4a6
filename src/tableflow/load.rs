//! Records for a topic of the embedded broker, out of a file: a first run needs no services.

use std::path::Path;

use super::config::TableflowConfig;
use super::statements::quote_text;
use crate::error::{Error, Result};

/// Partitions of a topic that is made: each keeps 5 MB.
const PARTITIONS: u32 = 4;

/// Writes each line of a file as a record.
///
/// # Errors
/// Validation if the broker is not the embedded one, which a real cluster's topics must not be filled for; External.
pub async fn load(config: &TableflowConfig, topic: &str, file: &Path) -> Result<()> {
    if !config.servers.to_ascii_lowercase().starts_with("embedded") {
        return Err(Error::validation("--load fills topics of the embedded broker only")
            .hint("--bootstrap-servers embedded, or write to your topics with a producer"));
    }
    let mut session = super::session(config).await?;
    session.set("execution.runtime-mode", "batch")?;
    let path = file.display().to_string();
    let lines = format!(
        "CREATE TEMPORARY TABLE lines (v STRING) WITH ('connector' = 'filesystem', 'path' = {}, 'format' = 'raw')",
        quote_text(&path)
    );
    let records = format!(
        "CREATE TEMPORARY TABLE records (v STRING) WITH ('connector' = 'kafka', 'topic' = {}, \
         'properties.bootstrap.servers' = {}, 'embedded.partitions' = '{PARTITIONS}', 'format' = 'raw')",
        quote_text(topic),
        quote_text(&config.servers)
    );
    for sql in [lines.as_str(), &records, "INSERT INTO records SELECT v FROM lines"] {
        super::execute(&mut session, sql).await?;
    }
    Ok(())
}
