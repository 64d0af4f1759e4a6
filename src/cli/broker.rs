//! `tidelake broker`: the embedded Kafka broker by itself, for other clients.

use std::io::Write;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::connectors::kafka::embedded;
use crate::error::{Error, Result};

/// Runs the embedded Kafka broker until Ctrl-C.
///
/// It is librdkafka's mock cluster: everything is in memory, gone when it stops, and a partition keeps its newest
/// 5 MB only. It listens on a loopback port that the system chooses.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct BrokerArgs {
    /// A fixed port to bootstrap from; clients are then sent on to the broker's own port.
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,

    /// A topic to make, with its number of partitions (1 if left out). Others are made when a client first names
    /// them, with 4 partitions.
    #[arg(long = "topic", value_name = "NAME[:PARTITIONS]")]
    pub topics: Vec<String>,
}

/// Runs the broker until Ctrl-C. Prints the address for `bootstrap.servers` to stdout.
///
/// # Errors
/// Validation for a bad topic; External if a port cannot be had.
pub async fn run(args: BrokerArgs) -> Result<()> {
    let topics = args.topics.iter().map(|t| parse_topic(t)).collect::<Result<Vec<_>>>()?;
    let broker = embedded("broker")?;
    for (topic, partitions) in topics {
        broker.ensure_topic(topic, Some(partitions))?;
    }
    let target = broker.bootstrap_servers().to_owned();
    let address = match args.port {
        None => target.clone(),
        Some(port) => {
            let listener = TcpListener::bind(("127.0.0.1", port))
                .await
                .map_err(|e| Error::external(format!("port {port} cannot be used: {e}")))?;
            let address = listener.local_addr()?.to_string();
            tokio::spawn(forward(listener, target));
            address
        }
    };
    let mut out = std::io::stdout();
    writeln!(out, "{address}")?;
    out.flush()?;
    eprintln!(
        "Kafka broker in memory at {address}: it keeps the newest 5 MB of a partition and forgets all when it stops. Ctrl-C stops it."
    );
    tokio::signal::ctrl_c().await?;
    Ok(())
}

/// `name` or `name:partitions`.
fn parse_topic(text: &str) -> Result<(&str, u32)> {
    let (name, partitions) = text.split_once(':').unwrap_or((text, "1"));
    match partitions.parse() {
        Ok(n) if !name.is_empty() => Ok((name, n)),
        _ => Err(Error::validation(format!("--topic {text}: expected NAME or NAME:PARTITIONS"))),
    }
}

/// Passes connections on, so that clients can begin at a port of the user's choosing.
async fn forward(listener: TcpListener, target: String) {
    while let Ok((mut client, _)) = listener.accept().await {
        let target = target.clone();
        tokio::spawn(async move {
            if let Ok(mut broker) = TcpStream::connect(&target).await {
                let _ = copy_bidirectional(&mut client, &mut broker).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::parse_topic;

    #[test]
    fn topics() {
        assert_eq!(parse_topic("orders:3").unwrap(), ("orders", 3));
        assert_eq!(parse_topic("orders").unwrap(), ("orders", 1));
        assert!(parse_topic("orders:many").unwrap_err().to_string().contains("NAME:PARTITIONS"));
        assert!(parse_topic(":3").is_err());
    }
}
