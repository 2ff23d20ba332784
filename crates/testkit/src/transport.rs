//! The way of the bytes to a target: TCP, and TLS on it where the address is `https://`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// A connection to a target: plain, or encrypted.
pub type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Whose certificates are believed: those of the authorities in a file, or those that this machine believes. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    ca_file: Option<PathBuf>,
    /// Made when it is needed first: reading a machine's authorities takes its time.
    config: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl Trust {
    pub(crate) fn of(ca_file: Option<&Path>) -> Self {
        Self {
            ca_file: ca_file.map(Path::to_path_buf),
            config: Arc::default(),
        }
    }

    /// Whether a target at this address is asked with it.
    pub(crate) fn is_about(&self, base: &str) -> bool {
        is_encrypted(base) || self.ca_file.is_some()
    }

    /// Options of TLS for a client.
    ///
    /// # Errors
    /// The authorities cannot be read.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("choosing a version of TLS")?;
        let builder = match &self.ca_file {
            Some(path) => builder.with_root_certificates(
                authorities(path).with_context(|| format!("reading `connection.ca_file` in {}", path.display()))?,
            ),
            None => builder
                .with_platform_verifier()
                .context("reading the authorities that this machine believes")?,
        };
        let config = Arc::new(builder.with_no_client_auth());
        Ok(self.config.get_or_init(|| config).clone())
    }
}

fn authorities(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path)? {
        roots.add(certificate?)?;
    }
    ensure!(
        !roots.is_empty(),
        "it holds no certificate: give one or more of them as PEM"
    );
    Ok(roots)
}

/// Connects to the target at `base`.
///
/// # Errors
/// It cannot be reached, does not speak TLS where it should, or its certificate is not believed.
pub(crate) async fn dial(base: &str, trust: &Trust) -> io::Result<Stream> {
    let authority = authority(base);
    let tcp = TcpStream::connect(&authority).await?;
    if !is_encrypted(base) {
        return Ok(Either::Left(tcp));
    }
    let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
    let config = trust.config().map_err(|error| io::Error::other(format!("{error:#}")))?;
    match TlsConnector::from(config).connect(name, tcp).await {
        Ok(tls) => Ok(Either::Right(Box::new(tls))),
        Err(error) => Err(explain(error)),
    }
}

/// Says what to do about the two usual mistakes.
fn explain(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let said = match inner {
        Some(rustls::Error::InvalidCertificate(why)) => {
            format!(
                "its certificate is not believed ({why}): name its authority by `connection.ca_file` of the profile"
            )
        }
        Some(rustls::Error::InvalidMessage(why)) => {
            format!("it does not speak TLS ({why:?}): name it by http:// or ws://")
        }
        _ => return error,
    };
    io::Error::new(error.kind(), said)
}

/// The TCP connection below.
pub(crate) fn socket(stream: &Stream) -> &TcpStream {
    match stream {
        Either::Left(tcp) => tcp,
        Either::Right(tls) => tls.get_ref().0,
    }
}

fn is_encrypted(base: &str) -> bool {
    base.starts_with("https://")
}

/// What an `http://` or `https://` address has between its scheme and its path, for the header `Host`.
///
/// # Panics
/// It is none of them.
pub(crate) fn host(base: &str) -> &str {
    let rest = base.strip_prefix("http://").or_else(|| base.strip_prefix("https://"));
    match rest {
        Some(rest) => rest.split('/').next().unwrap_or_default(),
        None => panic!("target must be an http:// or https:// address, not {base}"),
    }
}

/// Host and port of an `http://` or `https://` address.
///
/// # Panics
/// It is none of them.
pub(crate) fn authority(base: &str) -> String {
    let host = host(base);
    let after_brackets = host.rsplit_once(']').map_or(host, |(_, after)| after);
    let port = if is_encrypted(base) { 443 } else { 80 };
    match after_brackets.contains(':') {
        true => host.to_owned(),
        false => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn an_address_without_a_port_has_that_of_its_scheme() {
        for (base, expected) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://chat.example", "chat.example:80"),
            ("https://chat.example/x:y", "chat.example:443"),
            ("https://[::1]", "[::1]:443"),
            ("https://[::1]:8443", "[::1]:8443"),
        ] {
            assert_eq!(authority(base), expected, "{base}");
        }
    }

    #[tokio::test]
    async fn a_target_that_does_not_speak_tls_is_told_so() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let base = format!("https://{}", listener.local_addr().expect("it is bound"));
        let plain = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.expect("a client comes");
            let mut hello = [0; 1024];
            let said = client.read(&mut hello).await.expect("it says hello");
            assert!(said > 0);
            let answer = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            answer.expect("the client reads");
        });
        let error = dial(&base, &Trust::default()).await.expect_err("that is no TLS");
        assert!(error.to_string().contains("name it by http:// or ws://"), "{error}");
        plain.await.expect("it ends");
    }

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "no certificate\n").expect("written");
        for (path, said) in [(empty, "holds no certificate"), (folder.path().join("none"), "none")] {
            let error = Trust::of(Some(&path)).config().expect_err("nothing to believe");
            let error = format!("{error:#}");
            assert!(
                error.contains("`connection.ca_file`") && error.contains(said),
                "{error}"
            );
        }
    }
}
