//! The callbacks of librdkafka, and its errors in tidelake's words.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{NoCustomPartitioner, ProducerContext};

use super::health::Health;
use super::options::TableOptions;
use super::properties::mask;
use crate::error::Error;

/// What the callbacks of one client have seen. librdkafka's own log lines are kept off the terminal: what matters of
/// them comes as error events and ends up in tidelake's errors.
#[derive(Debug)]
pub(super) struct Context {
    servers: String,
    secrets: Vec<String>,
    debug: bool,
    /// How long a broker may take for a fetch without records.
    fetch_wait: Duration,
    health: Health,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    last: Option<(Code, String)>,
    /// Authentication or TLS: waiting does not help.
    refused: Option<(Code, String)>,
    all_down_since: Option<Instant>,
    /// A broker has answered once: what it is told is right.
    was_up: bool,
    undelivered: Option<Undelivered>,
}

/// The first record that could not be delivered.
#[derive(Debug, Clone)]
pub(super) struct Undelivered {
    topic: String,
    partition: i32,
    code: Option<Code>,
    reason: String,
}

impl Context {
    /// For a client of `servers` that one table has for itself.
    pub(super) fn new(servers: &str, options: &TableOptions) -> Self {
        let context = Context::shared(servers, options);
        context.health.listen(&options.notices);
        context
    }

    /// For a client of `servers` with others' options of the same meaning. Who hears of its brokers is not said yet.
    pub(super) fn shared(servers: &str, options: &TableOptions) -> Self {
        let properties = &options.properties;
        Context {
            servers: servers.to_owned(),
            secrets: properties.secrets.clone(),
            debug: options.debug,
            fetch_wait: properties.fetch_wait(),
            health: Health::new(&properties.secrets),
            seen: Mutex::default(),
        }
    }

    /// Which brokers cannot be reached.
    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when no broker could be reached, if so.
    pub(super) fn all_down_since(&self) -> Option<Instant> {
        self.seen().all_down_since
    }

    /// A broker answered.
    pub(super) fn mark_up(&self) {
        let mut seen = self.seen();
        seen.all_down_since = None;
        seen.was_up = true;
    }

    /// The first failed delivery.
    pub(super) fn undelivered(&self) -> Option<Error> {
        let u = self.seen().undelivered.clone()?;
        let place = format!("topic {} partition {}", u.topic, u.partition);
        Some(match u.code {
            Some(Code::MessageTimedOut) => {
                let last = self.seen().last.as_ref().map(|(_, r)| format!(": {r}")).unwrap_or_default();
                Error::external(format!(
                    "{place}: records were not acknowledged by {} in time{last}",
                    self.servers
                ))
                .hint("'properties.delivery.timeout.ms' sets how long to try")
            }
            Some(code) => self.explain(&place, code, &u.reason),
            None => Error::external(format!("{place}: {}", u.reason)),
        })
    }

    /// A refusal that waiting does not cure: login or TLS.
    pub(super) fn refusal(&self) -> Option<Error> {
        let (code, reason) = self.seen().refused.clone()?;
        Some(self.explain("", code, &reason))
    }

    /// The error for a failed call.
    pub(super) fn error(&self, place: &str, e: &KafkaError) -> Error {
        if let Some(refusal) = self.refusal() {
            return refusal;
        }
        match e.rdkafka_error_code() {
            Some(code) => {
                let last = self.seen().last.clone();
                let reason = match last {
                    Some((c, reason)) if c == code || is_connection(code) => reason,
                    _ => e.to_string(),
                };
                self.explain(place, code, &reason)
            }
            None => Error::external(self.at(place, &mask(&self.secrets, &e.to_string()))),
        }
    }

    fn at(&self, place: &str, text: &str) -> String {
        if place.is_empty() { text.to_owned() } else { format!("{place}: {text}") }
    }

    fn explain(&self, place: &str, code: Code, reason: &str) -> Error {
        let reason = mask(&self.secrets, reason);
        let servers = &self.servers;
        match code {
            Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
                Error::external(format!("Kafka at {servers} refused the login: {reason}"))
                    .hint("check 'properties.sasl.mechanism', the user and the password")
            }
            Code::SSL => Error::external(format!("no TLS connection to Kafka at {servers}: {reason}"))
                .hint("check 'properties.security.protocol' and 'properties.ssl.ca.location'"),
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed => {
                Error::external(self.at(place, &format!("Kafka at {servers} denies access: {reason}")))
                    .hint("the principal needs the ACLs for it")
            }
            c if is_connection(c) => {
                Error::external(self.at(place, &format!("cannot reach Kafka at {servers}: {reason}")))
                    .hint("check that a broker listens there ('properties.bootstrap.servers')")
            }
            Code::MessageSizeTooLarge => {
                Error::external(self.at(place, &format!("a record is too large: {reason}")))
                    .hint("'properties.message.max.bytes' and the topic's max.message.bytes set the limit")
            }
            _ => Error::external(self.at(place, &format!("Kafka at {servers}: {reason}"))),
        }
    }

    /// The servers, for messages.
    pub(super) fn servers(&self) -> &str {
        &self.servers
    }
}

fn is_connection(code: Code) -> bool {
    matches!(
        code,
        Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::NetworkException
    )
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, fac: &str, message: &str) {
        if self.debug {
            eprintln!("librdkafka {fac}: {}", mask(&self.secrets, message));
        }
    }

    fn stats_raw(&self, json: &[u8]) {
        if self.health.statistics(json, self.fetch_wait) {
            self.mark_up();
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        if is_connection(code) {
            self.health.failed(reason);
        }
        let mut seen = self.seen();
        match code {
            Code::PartitionEOF => return,
            Code::AllBrokersDown => {
                seen.all_down_since.get_or_insert_with(Instant::now);
                // Says less than the connection errors before it.
                if seen.last.is_some() {
                    return;
                }
            }
            // A handshake that fails later is one with a broker that is just ending or starting.
            Code::SSL if seen.was_up => {}
            Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL => {
                seen.refused = Some((code, reason.to_owned()));
            }
            _ => {}
        }
        seen.last = Some((code, reason.to_owned()));
    }
}

impl ConsumerContext for Context {}

impl ProducerContext<NoCustomPartitioner> for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((e, message)) = result {
            let mut seen = self.seen();
            if seen.undelivered.is_none() {
                seen.undelivered = Some(Undelivered {
                    topic: message.topic().to_owned(),
                    partition: message.partition(),
                    code: e.rdkafka_error_code(),
                    reason: mask(&self.secrets, &e.to_string()),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context {
            servers: "h:1".to_owned(),
            secrets: Vec::new(),
            debug: false,
            fetch_wait: Duration::ZERO,
            health: Health::new(&[]),
            seen: Mutex::default(),
        }
    }

    #[test]
    fn a_handshake_that_fails_is_a_refusal_as_long_as_none_has_succeeded() {
        let first = context();
        ClientContext::error(&first, KafkaError::Global(Code::SSL), "handshake failed");
        assert!(first.refusal().unwrap().to_string().contains("no TLS connection"));
        let later = context();
        later.mark_up();
        ClientContext::error(&later, KafkaError::Global(Code::SSL), "handshake failed");
        assert!(later.refusal().is_none());
        ClientContext::error(&later, KafkaError::Global(Code::SaslAuthenticationFailed), "who?");
        assert!(later.refusal().is_some());
    }
}
