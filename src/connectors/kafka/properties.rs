//! `properties.*`: from the Java client's spelling, which Flink's scripts use, to librdkafka's configuration.
//!
//! Most keys are the same in both. The few that differ are translated; those that only a Java process can honour
//! (serializers, interceptors, JKS stores, …) are refused with the way out. What tidelake itself depends on
//! (offset handling, end-of-partition events) is not for the user to change.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use super::shared::ROOMS;
use crate::error::{Error, Result};
use crate::options::is_secret;

/// Where to begin when the group has no committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OffsetReset {
    /// Fail: Flink's default.
    None,
    /// From the oldest record.
    Earliest,
    /// From the records to come.
    Latest,
}

/// The client properties of a table.
#[derive(Clone)]
pub(super) struct Properties {
    /// `bootstrap.servers` as given; `embedded` or `embedded:NAME` stand for the broker inside the process.
    pub(super) servers: String,
    /// `group.id`, when given.
    pub(super) group_id: Option<String>,
    /// `auto.offset.reset`, for `group-offsets` only.
    pub(super) auto_offset_reset: OffsetReset,
    /// `commit.offsets.on.checkpoint`.
    pub(super) commit_on_checkpoint: bool,
    /// `default.api.timeout.ms`: how long to wait for a cluster before giving up.
    api_timeout: Option<Duration>,
    /// Bytes that the process may hold, if that is limited.
    memory: Option<u64>,
    /// In librdkafka's words.
    native: BTreeMap<String, String>,
    /// Values that no message may show.
    pub(super) secrets: Vec<String>,
}

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<&String> = self.native.keys().collect();
        f.debug_struct("Properties").field("servers", &self.servers).field("keys", &keys).finish()
    }
}

/// How long to look for a cluster that never answered.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a cluster that has been seen may be away before a reader gives up.
const OUTAGE_TIMEOUT: Duration = Duration::from_secs(30);

impl Properties {
    /// Reads the options that began with `properties.`, the prefix taken off. `table` is for messages; `memory` is what the
    /// process may hold.
    pub(super) fn parse(table: &str, given: BTreeMap<String, String>, memory: Option<u64>) -> Result<Self> {
        let mut properties = Properties {
            servers: String::new(),
            group_id: None,
            auto_offset_reset: OffsetReset::None,
            commit_on_checkpoint: true,
            api_timeout: None,
            memory,
            native: BTreeMap::new(),
            secrets: Vec::new(),
        };
        for (key, value) in &given {
            if is_secret(key) && !value.is_empty() {
                properties.secrets.push(value.clone());
            }
            properties.take(key, value, &given).map_err(|e| e.context(format!("table {table}")))?;
        }
        if properties.servers.trim().is_empty() {
            return Err(Error::validation(format!(
                "table {table}: one or more required options are missing: 'properties.bootstrap.servers'"
            ))
            .hint("give 'host:port' of a Kafka broker, or 'embedded' for the broker inside tidelake"));
        }
        properties.check(table)?;
        Ok(properties)
    }

    fn take(&mut self, key: &str, value: &str, all: &BTreeMap<String, String>) -> Result<()> {
        let mut set = |k: &str, v: &str| {
            self.native.insert(k.to_owned(), v.to_owned());
        };
        match key {
            "bootstrap.servers" => self.servers = value.trim().to_owned(),
            "group.id" => self.group_id = Some(value.to_owned()).filter(|v| !v.is_empty()),
            "auto.offset.reset" => {
                self.auto_offset_reset = match value.trim().to_ascii_lowercase().as_str() {
                    "none" | "error" => OffsetReset::None,
                    "earliest" | "smallest" | "beginning" => OffsetReset::Earliest,
                    "latest" | "largest" | "end" => OffsetReset::Latest,
                    _ => return Err(invalid(key, value, "earliest, latest or none")),
                }
            }
            "commit.offsets.on.checkpoint" => {
                self.commit_on_checkpoint =
                    value.trim().parse().map_err(|_| invalid(key, value, "true or false"))?;
            }
            "default.api.timeout.ms" => {
                let ms: u64 =
                    value.trim().parse().map_err(|_| invalid(key, value, "a number of milliseconds"))?;
                self.api_timeout = Some(Duration::from_millis(ms.max(1)));
            }
            // The same thing under another name.
            "fetch.max.wait.ms" => set("fetch.wait.max.ms", value),
            "send.buffer.bytes" => set("socket.send.buffer.bytes", value),
            "receive.buffer.bytes" => set("socket.receive.buffer.bytes", value),
            "max.request.size" => set("message.max.bytes", value),
            "socket.connection.setup.timeout.max.ms" => set("socket.connection.setup.timeout.ms", value),
            "buffer.memory" => {
                let bytes: u64 =
                    value.trim().parse().map_err(|_| invalid(key, value, "a number of bytes"))?;
                set("queue.buffering.max.kbytes", &(bytes / 1024).max(1).to_string());
            }
            "ssl.endpoint.identification.algorithm" => {
                set(key, if value.trim().is_empty() { "none" } else { value });
            }
            "sasl.jaas.config" => {
                let (user, password) = parse_jaas(value)?;
                self.secrets.push(password.clone());
                set("sasl.username", &user);
                set("sasl.password", &password);
            }
            "sasl.mechanism" | "sasl.mechanisms" => match value.trim() {
                "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512" => set("sasl.mechanism", value.trim()),
                _ => {
                    return Err(Error::unsupported(format!(
                        "the SASL mechanism '{value}' of 'properties.{key}' is not supported"
                    ))
                    .hint("PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 are"));
                }
            },
            "ssl.truststore.location" => match store_type(all, "ssl.truststore.type") {
                "PEM" => set("ssl.ca.location", value),
                _ => return Err(java_store(key, "'properties.ssl.ca.location' = 'ca.pem'")),
            },
            "ssl.truststore.type" | "ssl.keystore.type" => match value.trim().to_ascii_uppercase().as_str() {
                "PEM" => {}
                "PKCS12" if key == "ssl.keystore.type" => {}
                _ => return Err(java_store(key, "PEM files")),
            },
            "ssl.truststore.password" => {}
            "ssl.truststore.certificates" => set("ssl.ca.pem", value),
            "ssl.keystore.certificate.chain" => set("ssl.certificate.pem", value),
            "ssl.keystore.key" => set("ssl.key.pem", value),
            "ssl.keystore.location" => match store_type(all, "ssl.keystore.type") {
                "PKCS12" => set(key, value),
                "PEM" => {
                    set("ssl.certificate.location", value);
                    set("ssl.key.location", value);
                }
                _ => {
                    return Err(java_store(
                        key,
                        "'properties.ssl.keystore.type' = 'PKCS12', or PEM files in 'properties.ssl.certificate.location' and 'properties.ssl.key.location'",
                    ));
                }
            },
            "key.deserializer" | "value.deserializer" | "key.serializer" | "value.serializer" => {
                return Err(Error::validation(format!("'properties.{key}' cannot be set")).hint(
                    "the formats decide how bytes become rows: 'format', 'key.format', 'value.format'",
                ));
            }
            "partitioner.class" => {
                return Err(Error::validation("'properties.partitioner.class' cannot be set")
                    .hint("use 'sink.partitioner' = 'default', 'fixed' or 'round-robin'"));
            }
            "partition.discovery.interval.ms" => {
                return Err(Error::validation(format!("'properties.{key}' cannot be set"))
                    .hint("use 'scan.topic-partition-discovery.interval'"));
            }
            "transactional.id" => {
                return Err(Error::unsupported("'properties.transactional.id' cannot be set")
                    .hint("the sink writes at least once, without transactions"));
            }
            "max.poll.records" => {
                return Err(Error::unsupported("'properties.max.poll.records' means nothing here")
                    .hint("remove it: batches have a fixed size in rows and the consumer's memory is bounded by 'properties.queued.max.messages.kbytes'"));
            }
            // Loads code into the process, or changes what reading and committing rest on.
            "plugin.library.paths"
            | "enable.partition.eof"
            | "enable.auto.offset.store"
            | "offset.store.method"
            | "log.queue"
            | "enabled_events"
            | "statistics.interval.ms"
            | "delivery.report.only.error"
            | "metadata.broker.list" => {
                return Err(Error::validation(format!("'properties.{key}' cannot be set")).hint("remove it"));
            }
            _ => set(key, value),
        }
        Ok(())
    }

    /// Lets librdkafka judge keys and values before anything connects.
    fn check(&self, table: &str) -> Result<()> {
        for config in [self.consumer("localhost:1", "check"), self.producer("localhost:1")] {
            if let Err(e) = config.create_native_config() {
                return Err(self.refused(table, e));
            }
        }
        Ok(())
    }

    /// The error for a configuration that librdkafka does not take.
    pub(super) fn refused(&self, table: &str, e: KafkaError) -> Error {
        match e {
            KafkaError::ClientConfig(_, reason, key, _) if reason.starts_with("No such") => {
                Error::validation(format!("table {table}: the Kafka client does not know 'properties.{key}'"))
                    .hint("it is librdkafka, which has most of the Java client's properties: see its CONFIGURATION.md")
            }
            KafkaError::ClientConfig(_, reason, key, _) => Error::validation(format!(
                "table {table}: the Kafka client refuses 'properties.{key}': {}",
                if is_secret(&key) { "******".to_owned() } else { self.mask(&reason) }
            )),
            other => Error::validation(format!(
                "table {table}: the Kafka client refuses its properties: {}",
                self.mask(&other.to_string())
            )),
        }
    }

    /// A text without the secrets of these properties.
    pub(super) fn mask(&self, text: &str) -> String {
        mask(&self.secrets, text)
    }

    /// How long to wait for a cluster at the start.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.api_timeout.unwrap_or(CONNECT_TIMEOUT)
    }

    /// How long a cluster may be away while a reader runs.
    pub(super) fn outage_timeout(&self) -> Duration {
        self.api_timeout.unwrap_or(OUTAGE_TIMEOUT)
    }

    /// How long a broker may wait for records before it answers a fetch.
    pub(super) fn fetch_wait(&self) -> Duration {
        let millis = self.native.get("fetch.wait.max.ms").and_then(|ms| ms.trim().parse().ok());
        Duration::from_millis(millis.unwrap_or(500))
    }

    fn base(&self, servers: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Error);
        config.set("client.id", "tidelake");
        config.set("enable.metrics.push", "false");
        for (key, value) in &self.native {
            config.set(key, value);
        }
        config.set("bootstrap.servers", servers);
        config
    }

    fn default(&self, config: &mut ClientConfig, key: &str, value: &str) {
        if !self.native.contains_key(key) {
            config.set(key, value);
        }
    }

    /// KiB for a buffer of a client: `most`, or a sixteenth of what the process may hold.
    fn share(&self, most: u64) -> u64 {
        self.memory.map_or(most, |bytes| (bytes / 16 / 1024).clamp(1024, most))
    }

    /// A consumer's configuration. `fallback_group` is used when no group is given: librdkafka wants a name even
    /// though nothing joins it or commits to it.
    pub(super) fn consumer(&self, servers: &str, fallback_group: &str) -> ClientConfig {
        let mut config = self.base(servers);
        // As the Java client; librdkafka's own default is read_committed.
        self.default(&mut config, "isolation.level", "read_uncommitted");
        self.default(&mut config, "enable.auto.commit", "false");
        // After a full queue has drained the next fetch must not wait the default second.
        self.default(&mut config, "fetch.queue.backoff.ms", "20");
        self.default(&mut config, "fetch.error.backoff.ms", "100");
        // Each reader has a queue, and a response under way that is not in it yet.
        let kib = self.share(65_536);
        self.default(&mut config, "queued.max.messages.kbytes", &kib.to_string());
        self.default(&mut config, "fetch.max.bytes", &(kib * 1024).min(52_428_800).to_string());
        config.set("group.id", self.group_id.as_deref().unwrap_or(fallback_group));
        // A lost offset is an error to tell, never something to jump over.
        config.set("auto.offset.reset", "error");
        config.set("enable.partition.eof", "true");
        config
    }

    /// Takes what the queues of a consumer hold down to the room that each of many partitions has.
    pub(super) fn narrow(&self, config: &mut ClientConfig, room: usize) {
        let part = ROOMS.get(room).map_or(1, |room| room.part);
        if part == 1 {
            return;
        }
        let kib = (self.share(65_536) / part).max(64);
        // librdkafka wants the largest message to fit.
        let message = self.native.get("message.max.bytes").and_then(|v| v.trim().parse().ok());
        let answer = (kib * 1024).max(8 << 20).min(self.share(65_536) * 1024).max(message.unwrap_or(0));
        self.default(config, "queued.max.messages.kbytes", &kib.to_string());
        self.default(config, "fetch.max.bytes", &answer.to_string());
        if !["max.partition.fetch.bytes", "fetch.message.max.bytes"]
            .iter()
            .any(|k| self.native.contains_key(*k))
        {
            config.set("fetch.message.max.bytes", (kib * 1024).min(1 << 20).to_string());
        }
        // Each one that waits costs some hundred bytes, however small it is.
        self.default(config, "queued.min.messages", &(kib * 20).to_string());
        self.default(config, "fetch.queue.backoff.ms", "5");
    }

    /// How long a broker may wait for records. A client asks it for one answer at a time, and leaves partitions out whose queues
    /// are full: that answer then waits for records of all others, and a topic that has many waits with it. To ask for very many
    /// partitions is work, however idle they are: for a thousand of them every 50 ms a broker needs a third of a core.
    pub(super) fn wait(&self, config: &mut ClientConfig, room: usize) {
        self.default(config, "fetch.wait.max.ms", if room + 1 < ROOMS.len() { "20" } else { "100" });
    }

    /// A producer's configuration.
    pub(super) fn producer(&self, servers: &str) -> ClientConfig {
        let mut config = self.base(servers);
        let acks_all = match self.native.get("acks").or_else(|| self.native.get("request.required.acks")) {
            None => true,
            Some(v) => v == "all" || v == "-1",
        };
        // As the Java client: retries neither duplicate nor reorder.
        self.default(&mut config, "enable.idempotence", if acks_all { "true" } else { "false" });
        // Kafka's murmur2, so that keys land where Java producers put them.
        self.default(&mut config, "partitioner", "murmur2_random");
        if !self.native.contains_key("message.timeout.ms") {
            self.default(&mut config, "delivery.timeout.ms", "120000");
        }
        self.default(&mut config, "queue.buffering.max.messages", "500000");
        self.default(&mut config, "queue.buffering.max.kbytes", &self.share(131_072).to_string());
        // Acknowledgements are counted, failures reported: nothing is paid per message for success.
        config.set("delivery.report.only.error", "true");
        config
    }

    /// The configuration of a producer whose records are committed together.
    ///
    /// # Errors
    /// Validation if the properties do not allow that.
    pub(super) fn transactional(&self, servers: &str, id: &str) -> Result<ClientConfig> {
        let mut config = self.producer(servers);
        if config.get("enable.idempotence") == Some("false") {
            return Err(Error::validation(
                "'sink.delivery-guarantee' = 'exactly-once' needs 'properties.acks' = 'all' and an idempotent producer",
            )
            .hint("leave 'properties.acks' and 'properties.enable.idempotence' out"));
        }
        config.set("transactional.id", id);
        // The most that a broker allows unless it is told otherwise: a checkpoint has to be complete by then.
        self.default(&mut config, "transaction.timeout.ms", "900000");
        Ok(config)
    }
}

/// Replaces every secret in a text.
pub(super) fn mask(secrets: &[String], text: &str) -> String {
    secrets.iter().filter(|s| !s.is_empty()).fold(text.to_owned(), |t, s| t.replace(s.as_str(), "******"))
}

fn invalid(key: &str, value: &str, expected: &str) -> Error {
    Error::validation(format!("invalid value '{value}' for option 'properties.{key}'"))
        .hint(format!("expected {expected}"))
}

fn java_store(key: &str, instead: &str) -> Error {
    Error::unsupported(format!("'properties.{key}' names a Java key store, which cannot be read"))
        .hint(format!("convert it with keytool and openssl and use {instead}"))
}

fn store_type<'a>(all: &'a BTreeMap<String, String>, key: &str) -> &'a str {
    match all.get(key).map(|v| v.trim()) {
        Some(v) if v.eq_ignore_ascii_case("PEM") => "PEM",
        Some(v) if v.eq_ignore_ascii_case("PKCS12") => "PKCS12",
        _ => "JKS",
    }
}

/// User and password of `…LoginModule required username="u" password="p";`.
fn parse_jaas(text: &str) -> Result<(String, String)> {
    let module = text.split_whitespace().next().unwrap_or_default();
    let known = ["PlainLoginModule", "ScramLoginModule"].iter().any(|m| module.ends_with(m));
    let value = |name: &str| {
        let rest = &text[text.find(&format!("{name}="))? + name.len() + 1..];
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        // Inside quotes a backslash keeps the next character.
        let mut value = String::new();
        let mut chars = rest[1..].chars();
        loop {
            match chars.next()? {
                '\\' => value.push(chars.next()?),
                c if c == quote => return Some(value),
                c => value.push(c),
            }
        }
    };
    match (known, value("username"), value("password")) {
        (true, Some(user), Some(password)) => Ok((user, password)),
        _ => Err(Error::unsupported("'properties.sasl.jaas.config' is not understood").hint(
            "PlainLoginModule and ScramLoginModule with username=\"…\" password=\"…\" are, or set 'properties.sasl.username' and 'properties.sasl.password'",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Properties> {
        let mut all: BTreeMap<String, String> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        all.entry("bootstrap.servers".to_owned()).or_insert_with(|| "localhost:9092".to_owned());
        Properties::parse("t", all, None)
    }

    #[test]
    fn buffers_fit_the_memory() {
        let of = |memory: Option<u64>, more: &[(&str, &str)]| {
            let mut all: BTreeMap<String, String> =
                more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            all.insert("bootstrap.servers".to_owned(), "localhost:9092".to_owned());
            let properties = Properties::parse("t", all, memory).unwrap();
            let (reads, writes) = (properties.consumer("s", "g"), properties.producer("s"));
            let get = |config: &ClientConfig, key: &str| config.get(key).unwrap().to_owned();
            [
                get(&reads, "queued.max.messages.kbytes"),
                get(&reads, "fetch.max.bytes"),
                get(&writes, "queue.buffering.max.kbytes"),
            ]
        };
        assert_eq!(of(None, &[]), ["65536", "52428800", "131072"]);
        assert_eq!(of(Some(200 << 20), &[]), ["12800", "13107200", "12800"]);
        assert_eq!(of(Some(1 << 10), &[]), ["1024", "1048576", "1024"]);
        let own = [("queued.max.messages.kbytes", "7"), ("fetch.max.bytes", "8"), ("buffer.memory", "9216")];
        assert_eq!(of(Some(200 << 20), &own), ["7", "8", "9"]);
    }

    #[test]
    fn java_spellings_are_translated() {
        let p = parse(&[
            ("fetch.max.wait.ms", "77"),
            ("buffer.memory", "1048576"),
            ("max.request.size", "2000000"),
            ("max.partition.fetch.bytes", "2097152"),
            ("linger.ms", "7"),
            ("compression.type", "zstd"),
            ("retries", "3"),
            ("client.rack", "a"),
            ("max.in.flight.requests.per.connection", "3"),
        ])
        .unwrap();
        let c = p.consumer("h:1", "g");
        assert_eq!(c.get("fetch.wait.max.ms"), Some("77"));
        assert_eq!(c.get("isolation.level"), Some("read_uncommitted"));
        let c = p.producer("h:1");
        assert_eq!(c.get("queue.buffering.max.kbytes"), Some("1024"));
        assert_eq!(c.get("enable.idempotence"), Some("true"));
    }

    #[test]
    fn jaas_becomes_user_and_password_and_stays_secret() {
        let p = parse(&[
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", "SCRAM-SHA-256"),
            (
                "sasl.jaas.config",
                "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"bob\" password=\"pa\\\"ss\";",
            ),
        ])
        .unwrap();
        let c = p.consumer("h:1", "g");
        assert_eq!((c.get("sasl.username"), c.get("sasl.password")), (Some("bob"), Some("pa\"ss")));
        assert!(!format!("{p:?}").contains("pa\"ss"));
        assert_eq!(p.mask("login pa\"ss failed"), "login ****** failed");
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_with_a_way_out() {
        for (key, value, part) in [
            ("key.deserializer", "x", "formats"),
            ("value.serializer", "x", "formats"),
            ("max.poll.records", "5", "remove it"),
            ("interceptor.classes", "x", "librdkafka"),
            ("ssl.truststore.location", "x.jks", "ca.pem"),
            ("sasl.mechanism", "GSSAPI", "PLAIN"),
            ("partitioner.class", "x", "sink.partitioner"),
            ("auto.offset.reset", "soon", "earliest"),
            ("acks", "maybe", "acks"),
            ("enable.partition.eof", "false", "remove"),
        ] {
            let e = parse(&[(key, value)]).unwrap_err().to_string();
            assert!(e.contains(key) && e.contains(part), "{key}: {e}");
        }
    }

    #[test]
    fn weaker_acks_turn_idempotence_off() {
        assert_eq!(parse(&[("acks", "1")]).unwrap().producer("h").get("enable.idempotence"), Some("false"));
    }

    #[test]
    fn a_bad_secret_is_not_printed() {
        let e = parse(&[("ssl.key.password", ""), ("sasl.mechanism", "PLAIN"), ("acks", "s3cret")])
            .unwrap_err()
            .to_string();
        assert!(e.contains("acks"), "{e}");
        assert!(parse(&[("bootstrap.servers", " ")]).unwrap_err().to_string().contains("embedded"));
    }
}
