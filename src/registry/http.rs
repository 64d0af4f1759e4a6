//! Requests: where to, with which secrets, how often, and what a refusal means.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::config::{Auth, RegistryConfig};
use crate::error::{Error, Result};

const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before the second round over all URLs; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Rounds in which something that was written elsewhere may reach this registry.
const MISSING_ROUNDS: u32 = 2;

/// What came back.
pub(super) enum Answer {
    /// The body of a success.
    Found(Vec<u8>),
    /// There is no such thing; why.
    Missing(String),
}

/// How one request ended.
enum Outcome {
    Answer(Answer),
    /// Another URL or another time may do.
    Again(Error),
}

/// An error as the registry tells it.
#[derive(Debug, Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    error_code: Option<i64>,
    #[serde(default)]
    message: Option<String>,
}

/// Sends requests.
pub(super) struct Http {
    client: Client,
    urls: Vec<Url>,
    auth: Vec<Auth>,
    rounds: u32,
    /// The URL that answered last.
    current: AtomicUsize,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("urls", &self.shown()).finish_non_exhaustive()
    }
}

impl Http {
    pub(super) fn new(config: RegistryConfig) -> Result<Self> {
        let RegistryConfig { urls, auth, certificates, identity, timeout, rounds, headers } = config;
        let mut all = HeaderMap::new();
        all.insert(
            ACCEPT,
            HeaderValue::from_static("application/vnd.schemaregistry.v1+json, application/json"),
        );
        for (name, value) in headers {
            let bad = || {
                Error::validation(format!("'{name}' cannot be a header of requests to the schema registry"))
            };
            let mut text = HeaderValue::from_str(&value).map_err(|_| bad())?;
            text.set_sensitive(true);
            all.insert(HeaderName::try_from(&name).map_err(|_| bad())?, text);
        }
        let mut builder = Client::builder()
            .default_headers(all)
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .timeout(timeout)
            .user_agent(concat!("tidelake/", env!("CARGO_PKG_VERSION")));
        for certificate in certificates {
            builder = builder.add_root_certificate(certificate);
        }
        if let Some(identity) = identity {
            builder = builder.identity(identity);
        }
        let client = builder.build().map_err(|e| {
            Error::external(format!("the client of the schema registry: {}", chain(&e.without_url())))
        })?;
        Ok(Http { client, urls, auth, rounds, current: AtomicUsize::new(0) })
    }

    /// The URLs, without secrets.
    pub(super) fn shown(&self) -> String {
        self.urls.iter().map(Url::as_str).collect::<Vec<_>>().join(", ")
    }

    /// Asks. `patient`: what is missing is asked for again, since it may have been written a moment ago elsewhere.
    pub(super) async fn get(&self, path: &[&str], patient: bool) -> Result<Answer> {
        self.ask(&Method::GET, path, None, patient).await
    }

    /// Sends a body.
    pub(super) async fn post(&self, path: &[&str], body: Vec<u8>) -> Result<Answer> {
        self.ask(&Method::POST, path, Some(body), false).await
    }

    /// Reads a body.
    pub(super) fn parse<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        serde_json::from_slice(body).map_err(|e| {
            Error::external(format!("the answer of {} is not a schema registry's: {e}", self.shown()))
                .hint("the URL has to be the root of its API: Apicurio's is …/apis/ccompat/v7")
        })
    }

    async fn ask(
        &self,
        method: &Method,
        path: &[&str],
        body: Option<Vec<u8>>,
        patient: bool,
    ) -> Result<Answer> {
        let mut pause = FIRST_PAUSE;
        let mut failed = None;
        for round in 0..self.rounds.max(1) {
            if round > 0 {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            let first = self.current.load(Ordering::Relaxed);
            for step in 0..self.urls.len() {
                let at = (first + step) % self.urls.len();
                match self.one(at, method, path, body.clone()).await? {
                    Outcome::Answer(Answer::Missing(_))
                        if patient && round + 1 < MISSING_ROUNDS.min(self.rounds) =>
                    {
                        break;
                    }
                    Outcome::Answer(answer) => {
                        self.current.store(at, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Outcome::Again(error) => failed = Some(error),
                }
            }
        }
        Err(failed.unwrap_or_else(|| Error::internal("no URL of a schema registry")))
    }

    async fn one(&self, at: usize, method: &Method, path: &[&str], body: Option<Vec<u8>>) -> Result<Outcome> {
        let (Some(base), Some(auth)) = (self.urls.get(at), self.auth.get(at)) else {
            return Err(Error::internal("no such URL of a schema registry"));
        };
        let mut url = base.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => {
                segments.pop_if_empty().extend(path);
            }
            Err(()) => return Err(Error::internal("a URL of a schema registry without a path")),
        }
        let mut request = self.client.request(method.clone(), url);
        if let Some(secret) = auth.header() {
            request = request.header(AUTHORIZATION, secret);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, MEDIA_TYPE).body(body);
        }
        let failed = |e: reqwest::Error| {
            let what = if e.is_timeout() { "did not answer in time" } else { "cannot be reached" };
            Error::external(format!("the schema registry at {base} {what}: {}", chain(&e.without_url())))
                .hint("is it running, and are the URL, the port and http or https right?")
        };
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(e) => return Ok(Outcome::Again(failed(e))),
        };
        let status = answer.status();
        let bytes = match answer.bytes().await {
            Ok(bytes) => bytes.to_vec(),
            Err(e) => return Ok(Outcome::Again(failed(e))),
        };
        if status.is_success() {
            return Ok(Outcome::Answer(Answer::Found(bytes)));
        }
        let refusal: Refusal = serde_json::from_slice(&bytes).unwrap_or_default();
        let mut why = refusal.message.clone().unwrap_or_else(|| status.to_string());
        if let Some(code) = refusal.error_code.filter(|c| *c != i64::from(status.as_u16())) {
            why = format!("{why} ({code})");
        }
        let says =
            |kind: fn(String) -> Error| kind(format!("the schema registry at {base} says {status}: {why}"));
        Ok(match status {
            // Without a code of its own it is some other server, or another path, that knows nothing of schemas.
            StatusCode::NOT_FOUND if refusal.error_code.is_none() => {
                return Err(says(Error::external)
                    .hint("the URL has to be the root of its API: Apicurio's is …/apis/ccompat/v7"));
            }
            StatusCode::NOT_FOUND => Outcome::Answer(Answer::Missing(why)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(says(Error::validation).hint(
                    "give the user in 'basic-auth.user-info' = 'user:password' or a token in 'bearer-auth.token' of the format",
                ));
            }
            StatusCode::CONFLICT => {
                return Err(says(Error::validation).hint(
                    "the columns of the table don't fit what is registered under the subject: change them, name another 'subject', or relax its compatibility",
                ));
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Outcome::Again(says(Error::external))
            }
            _ if status.is_server_error() => Outcome::Again(says(Error::external)),
            _ => return Err(says(Error::validation)),
        })
    }
}

/// An error with what is behind it: the outer text alone only says that something failed.
fn chain(e: &reqwest::Error) -> String {
    let mut text = e.to_string();
    let mut source = std::error::Error::source(e);
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = inner.source();
    }
    text
}
