//! The options of a registry, as the formats of Flink have them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::HeaderValue;
use reqwest::{Certificate, Identity};
use url::Url;

use crate::error::{Error, Result};
use crate::options::Options;

const TIMEOUT: Duration = Duration::from_secs(10);
/// How often all URLs are tried, with 0.2, 0.4 and 0.8 s in between.
const ROUNDS: u32 = 4;

/// What a request proves itself with.
#[derive(Clone, Default)]
pub(super) enum Auth {
    #[default]
    None,
    /// The value of the header.
    Header(HeaderValue),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Auth::None => "none",
            Auth::Header(_) => "******",
        })
    }
}

impl Auth {
    pub(super) fn header(&self) -> Option<HeaderValue> {
        match self {
            Auth::None => None,
            Auth::Header(value) => Some(value.clone()),
        }
    }

    fn new(text: &str) -> Result<Self> {
        let mut value = HeaderValue::from_str(text).map_err(|_| {
            Error::validation("the secret for the schema registry holds characters that cannot be sent")
        })?;
        value.set_sensitive(true);
        Ok(Auth::Header(value))
    }

    fn basic(user_info: &str) -> Result<Self> {
        Auth::new(&format!("Basic {}", BASE64_STANDARD.encode(user_info)))
    }
}

/// Where a registry is and how to talk to it.
pub struct RegistryConfig {
    /// Without secrets.
    pub(super) urls: Vec<Url>,
    /// Of each URL.
    pub(super) auth: Vec<Auth>,
    pub(super) certificates: Vec<Certificate>,
    pub(super) identity: Option<Identity>,
    pub(super) timeout: Duration,
    pub(super) rounds: u32,
    pub(super) headers: BTreeMap<String, String>,
}

impl fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<&str> = self.urls.iter().map(Url::as_str).collect();
        f.debug_struct("RegistryConfig")
            .field("urls", &urls)
            .field("auth", &self.auth)
            .finish_non_exhaustive()
    }
}

/// Options of a registry with what only formats need.
#[derive(Debug)]
pub struct RegistryOptions {
    /// The registry.
    pub config: RegistryConfig,
    /// Whether a sink may register schemas (`auto.register.schemas`).
    pub register: bool,
}

impl RegistryConfig {
    /// One or more URLs with commas between them, with `user:password@` where it is needed.
    ///
    /// # Errors
    /// Validation.
    pub fn new(urls: &str) -> Result<Self> {
        let (urls, auth) = parse_urls(urls)?.into_iter().unzip();
        Ok(RegistryConfig {
            urls,
            auth,
            certificates: Vec::new(),
            identity: None,
            timeout: TIMEOUT,
            rounds: ROUNDS,
            headers: BTreeMap::new(),
        })
    }

    /// Tries all URLs only so often.
    #[must_use]
    pub fn with_rounds(mut self, rounds: u32) -> Self {
        self.rounds = rounds;
        self
    }

    /// Takes the options that begin with `prefix`, such as `avro-confluent.`.
    ///
    /// # Errors
    /// Validation for bad options; External for files of certificates that cannot be read.
    pub fn from_options(options: &Options, prefix: &str) -> Result<RegistryOptions> {
        let key = |name: &str| format!("{prefix}{name}");
        // Flink's older names stand for the newer ones.
        let take = |name: &str| {
            options.take(&key(name)).or_else(|| options.take(&key(&format!("schema-registry.{name}"))))
        };
        let Some(urls) = take("url") else {
            options.require(&key("url"))?;
            return Err(Error::internal("a required option is there and is not"));
        };
        let mut config = RegistryConfig::new(&urls).map_err(|e| e.context(format!("'{}'", key("url"))))?;
        let mut more = options.prefix(&key("properties."));
        let mut both = |name: &str, property: &str| take(name).or_else(|| more.remove(property));

        let source = both("basic-auth.credentials-source", "basic.auth.credentials.source");
        let user_info = both("basic-auth.user-info", "basic.auth.user.info");
        let bearer_source = both("bearer-auth.credentials-source", "bearer.auth.credentials.source");
        let token = both("bearer-auth.token", "bearer.auth.token");
        let truststore = both("ssl.truststore.location", "schema.registry.ssl.truststore.location");
        let keystore = both("ssl.keystore.location", "schema.registry.ssl.keystore.location");
        let passwords = [
            both("ssl.truststore.password", "schema.registry.ssl.truststore.password"),
            both("ssl.keystore.password", "schema.registry.ssl.keystore.password"),
        ];
        let register = match more.remove("auto.register.schemas").as_deref() {
            None | Some("true") => true,
            Some("false") => false,
            Some(other) => {
                return Err(options.invalid(
                    &key("properties.auto.register.schemas"),
                    other,
                    "true or false",
                ));
            }
        };
        if let Some(text) = more.remove("request.timeout.ms") {
            let millis = text.parse().ok().filter(|ms| *ms > 0);
            let invalid =
                || options.invalid(&key("properties.request.timeout.ms"), &text, "milliseconds above 0");
            config.timeout = Duration::from_millis(millis.ok_or_else(invalid)?);
        }
        if let Some(text) = more.remove("max.retries") {
            let retries = text.parse::<u32>().ok().filter(|n| *n <= 10);
            let invalid = || options.invalid(&key("properties.max.retries"), &text, "a number up to 10");
            config.rounds = 1 + retries.ok_or_else(invalid)?;
        }
        let headers: Vec<String> =
            more.keys().filter(|k| k.starts_with("request.header.")).cloned().collect();
        for header in headers {
            if let Some(value) = more.remove(&header) {
                config.headers.insert(header["request.header.".len()..].to_owned(), value);
            }
        }
        if let Some(unknown) = more.keys().next() {
            return Err(Error::validation(format!("'{}' is not supported", key(&format!("properties.{unknown}"))))
                .hint("supported properties: auto.register.schemas, request.timeout.ms, max.retries, request.header.*, basic.auth.*, bearer.auth.*, schema.registry.ssl.*"));
        }

        config.prove(&key, source.as_deref(), user_info, bearer_source.as_deref(), token)?;
        if passwords.iter().flatten().any(|p| !p.is_empty()) {
            return Err(Error::unsupported(format!(
                "'{}': PEM files need no password here",
                key("ssl.….password")
            ))
            .hint(PEM));
        }
        if let Some(path) = truststore {
            config.certificates =
                Certificate::from_pem_bundle(&read(&key("ssl.truststore.location"), &path)?)
                    .ok()
                    .filter(|found| !found.is_empty())
                    .ok_or_else(|| no_pem(&key("ssl.truststore.location"), &path, "certificates"))?;
        }
        if let Some(path) = keystore {
            let identity = Identity::from_pem(&read(&key("ssl.keystore.location"), &path)?);
            let no_pem =
                |_| no_pem(&key("ssl.keystore.location"), &path, "a certificate and an unencrypted key");
            config.identity = Some(identity.map_err(no_pem)?);
        }
        Ok(RegistryOptions { config, register })
    }

    /// Sets what all requests prove themselves with.
    fn prove(
        &mut self,
        key: &dyn Fn(&str) -> String,
        source: Option<&str>,
        user_info: Option<String>,
        bearer_source: Option<&str>,
        token: Option<String>,
    ) -> Result<()> {
        match bearer_source {
            None | Some("STATIC_TOKEN") => {}
            Some(_) => {
                let name = key("bearer-auth.credentials-source");
                return Err(Error::unsupported(format!("'{name}' other than STATIC_TOKEN"))
                    .hint(format!("give a token in '{}'", key("bearer-auth.token"))));
            }
        }
        let user_info = match source {
            None => user_info,
            Some("USER_INFO") if user_info.is_some() => user_info,
            Some("USER_INFO") => {
                return Err(Error::validation(format!(
                    "'{}' = 'USER_INFO' needs '{}' = 'user:password'",
                    key("basic-auth.credentials-source"),
                    key("basic-auth.user-info")
                )));
            }
            Some("URL") if user_info.is_none() => None,
            Some("URL") => {
                return Err(Error::validation(format!(
                    "'{}' = 'URL' and '{}' cannot both be given",
                    key("basic-auth.credentials-source"),
                    key("basic-auth.user-info")
                )));
            }
            Some(_) => {
                return Err(Error::unsupported(format!(
                    "'{}' other than USER_INFO and URL",
                    key("basic-auth.credentials-source")
                )));
            }
        };
        if bearer_source.is_some() && token.is_none() {
            return Err(Error::validation(format!(
                "'{}' needs '{}'",
                key("bearer-auth.credentials-source"),
                key("bearer-auth.token")
            )));
        }
        let in_url = self.auth.iter().any(|a| matches!(a, Auth::Header(_)));
        let given = usize::from(in_url) + usize::from(user_info.is_some()) + usize::from(token.is_some());
        if given > 1 {
            return Err(Error::validation(format!(
                "more than one of a user in '{}', '{}' and '{}' is given",
                key("url"),
                key("basic-auth.user-info"),
                key("bearer-auth.token")
            ))
            .hint("keep one"));
        }
        if let Some(user_info) = user_info {
            if !user_info.contains(':') {
                return Err(Error::validation(format!(
                    "'{}' is not 'user:password'",
                    key("basic-auth.user-info")
                )));
            }
            self.auth = vec![Auth::basic(&user_info)?; self.urls.len()];
        }
        if let Some(token) = token {
            self.auth = vec![Auth::new(&format!("Bearer {token}"))?; self.urls.len()];
        }
        Ok(())
    }
}

const PEM: &str = "convert a Java keystore: keytool -importkeystore -srckeystore k.jks -destkeystore k.p12 -deststoretype PKCS12, then openssl pkcs12 -in k.p12 -nodes -out k.pem";

fn read(key: &str, path: &str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::external(format!("'{key}': cannot read {path}: {e}")))
}

fn no_pem(key: &str, path: &str, what: &str) -> Error {
    Error::validation(format!("'{key}': {path} does not hold {what} in PEM form")).hint(PEM)
}

/// The URLs without secrets, each with what it proves itself with. No error shows a URL: it may hold a secret.
fn parse_urls(text: &str) -> Result<Vec<(Url, Auth)>> {
    let bad = |what: &str| {
        Error::validation(format!("the URL of the schema registry {what}"))
            .hint("expected 'http://host:8081' or 'https://…', several with commas between them")
    };
    let mut all = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let mut url = Url::parse(part).map_err(|e| bad(&format!("is none: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(bad("is not one of http or https"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("has a '?' or '#' part"));
        }
        let mut auth = Auth::None;
        if !url.username().is_empty() || url.password().is_some() {
            let plain = |s: &str| -> String {
                // Percent-decoding as in forms, but for `+`, which stands for itself here.
                let pair = format!("k={}", s.replace('+', "%2B"));
                form_urlencoded::parse(pair.as_bytes())
                    .next()
                    .map(|(_, v)| v.into_owned())
                    .unwrap_or_default()
            };
            auth = Auth::basic(&format!(
                "{}:{}",
                plain(url.username()),
                plain(url.password().unwrap_or_default())
            ))?;
            let cleared = url.set_username("").and_then(|()| url.set_password(None));
            cleared.map_err(|()| bad("has a user that cannot be taken out of it"))?;
        }
        all.push((url, auth));
    }
    if all.is_empty() { Err(bad("is empty")) } else { Ok(all) }
}
