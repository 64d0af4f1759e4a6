//! Encrypted connections, as the parameters of a JDBC URL ask for them.
//!
//! | PostgreSQL `sslmode` | MySQL `sslMode` | encrypted | certificate of the server |
//! |---|---|---|---|
//! | `disable`, `allow` | `DISABLED` | no | |
//! | `prefer` (the default) | `PREFERRED` (the default) | if the server can | not looked at |
//! | `require` | `REQUIRED` | yes | not looked at; of a trusted authority if `sslrootcert` names one |
//! | `verify-ca` | `VERIFY_CA` | yes | of a trusted authority |
//! | `verify-full` | `VERIFY_IDENTITY` | yes | of a trusted authority, and for this host |
//!
//! Trusted are the system's authorities, or those in the PEM file that `sslrootcert` (PostgreSQL) or `serverSslCert` (MySQL,
//! MariaDB) names. What is not looked at protects against those who listen, not against those who answer.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

use crate::error::{Error, Result};

/// Whether a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Encryption {
    Never,
    /// If the server can.
    #[default]
    Preferred,
    Required,
    /// With a certificate of a trusted authority.
    Trusted,
    /// And for the host.
    Host,
}

/// What a URL says of encryption.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tls {
    pub encryption: Encryption,
    /// A PEM file of authorities in place of the system's.
    pub authorities: Option<PathBuf>,
}

impl Encryption {
    /// The value of `sslmode` or `sslMode`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().replace('_', "-").as_str() {
            "disable" | "disabled" | "allow" => Encryption::Never,
            "prefer" | "preferred" => Encryption::Preferred,
            "require" | "required" | "trust" => Encryption::Required,
            "verify-ca" => Encryption::Trusted,
            "verify-full" | "verify-identity" => Encryption::Host,
            _ => return None,
        })
    }

    /// Whether the server has to.
    pub(super) fn is_required(self) -> bool {
        !matches!(self, Encryption::Never | Encryption::Preferred)
    }
}

impl Tls {
    /// What connects; it looks at certificates as far as is asked for.
    ///
    /// # Errors
    /// External if the authorities cannot be read; Validation if there are none.
    pub(super) fn connector(&self) -> Result<TlsConnector> {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match self.encryption {
            Encryption::Never | Encryption::Preferred => Arc::new(AnyCertificate(Arc::clone(&provider))),
            Encryption::Required if self.authorities.is_none() => {
                Arc::new(AnyCertificate(Arc::clone(&provider)))
            }
            Encryption::Required | Encryption::Trusted => Arc::new(AnyHost(self.trusted(&provider)?)),
            Encryption::Host => self.trusted(&provider)?,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::internal(format!("TLS: {e}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }

    fn trusted(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            Some(path) => {
                let bad = |e: &dyn fmt::Display| {
                    Error::external(format!("cannot read certificates of {}: {e}", path.display()))
                        .hint("expected a file in PEM")
                };
                for certificate in CertificateDer::pem_file_iter(path).map_err(|e| bad(&e))? {
                    roots.add(certificate.map_err(|e| bad(&e))?).map_err(|e| bad(&e))?;
                }
            }
            None => {
                // Those that cannot be used are of no use to anybody.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            return Err(Error::validation("there is no authority whose certificates are trusted")
                .hint("name a PEM file: sslrootcert=… (PostgreSQL), serverSslCert=… (MySQL) in the 'url'"));
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|e| Error::validation(format!("certificates that are trusted: {e}")))
    }
}

/// The name of a host for certificates.
///
/// # Errors
/// Validation if it cannot be one.
pub(super) fn server_name(host: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).map_err(|_| {
        Error::validation(format!("'{host}' cannot be the name of a host of an encrypted connection"))
    })
}

/// Takes any certificate of whoever has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes a certificate of a trusted authority, whatever the host.
#[derive(Debug)]
struct AnyHost(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        // The name is looked at last.
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// How the client of PostgreSQL encrypts.
pub(super) struct PostgresTls(pub TlsConnector);

/// One handshake of it.
pub(super) struct Handshake {
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// An encrypted connection.
pub(super) struct Encrypted<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for PostgresTls {
    type Stream = Encrypted<S>;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<Handshake> {
        let name = ServerName::try_from(domain.to_owned()).map_err(io::Error::other)?;
        Ok(Handshake { connector: self.0.clone(), name })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Handshake {
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { self.connector.connect(self.name, stream).await.map(Encrypted) })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_of_both_drivers_are_known() {
        let all = ["disable", "PREFERRED", "require", "VERIFY_CA", "verify-full", "VERIFY_IDENTITY", "no"];
        use Encryption::{Host, Never, Preferred, Required, Trusted};
        let expected =
            [Some(Never), Some(Preferred), Some(Required), Some(Trusted), Some(Host), Some(Host), None];
        assert_eq!(all.map(Encryption::parse), expected);
        assert_eq!(
            [Never, Preferred, Required, Trusted].map(Encryption::is_required),
            [false, false, true, true]
        );
    }

    #[test]
    fn authorities_have_to_be_there() {
        let tls = |encryption, path: Option<&str>| Tls { encryption, authorities: path.map(PathBuf::from) };
        for encryption in [Encryption::Preferred, Encryption::Required] {
            assert!(tls(encryption, None).connector().is_ok());
        }
        let e = tls(Encryption::Required, Some("/no/such.pem")).connector().err().unwrap().to_string();
        assert!(e.contains("cannot read certificates of /no/such.pem"), "{e}");
        let e = tls(Encryption::Host, Some("Cargo.toml")).connector().err().unwrap().to_string();
        assert!(e.contains("no authority"), "{e}");
        assert!(
            server_name("db.example").is_ok() && server_name("::1").is_ok() && server_name("a b").is_err()
        );
    }
}
