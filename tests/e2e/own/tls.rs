//! TLS in front of the backend, as a proxy of a deployment speaks it, with a certificate of a private authority.

use std::path::PathBuf;
use std::sync::Arc;

use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// A private authority, and what proves that a server of it is `localhost`.
struct Authority {
    folder: TempDir,
    acceptor: TlsAcceptor,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("there is randomness");
        let mut own = CertificateParams::default();
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = own.self_signed(&key).expect("the parameters are sound");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("written");

        let server_key = KeyPair::generate().expect("there is randomness");
        let server = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let signed = server.signed_by(&server_key, &Issuer::new(own, key));
        let chain = vec![signed.expect("the parameters are sound").der().clone()];
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(chain, PrivatePkcs8KeyDer::from(server_key.serialize_der()).into())
            .expect("the key is that of the certificate");
        Self {
            folder,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Speaks TLS on a port of its own and hands what is in it to the backend; says its address.
    async fn stand_before(&self, backend: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let backend = backend.trim_start_matches("http://").to_owned();
        let acceptor = self.acceptor.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, backend) = (acceptor.clone(), backend.clone());
                tokio::spawn(async move {
                    // Who does not believe the certificate hangs up, and a cut connection is cut on both sides.
                    let mut client = acceptor.accept(client).await.ok()?;
                    let mut backend = TcpStream::connect(&backend).await.ok()?;
                    copy_bidirectional(&mut client, &mut backend).await.ok()
                });
            }
        });
        format!("https://localhost:{port}")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_over_tls_is_judged_like_any_other() {
    let authority = Authority::new();
    TestContext::own(case!("HSK-1", "ORD-1", "EVT-7", "SEQ-3", "SEQ-5"))
        .with_ca_file(authority.ca_file())
        .run(async |ctx| {
            let front = authority.stand_before(&ctx.http_url()).await;
            let answer = ctx.http().at(&front).get("/health/ready").await;
            assert_eq!(answer.status(), 200);

            let ada = ctx.user("ada").await;
            let options = || ada.options().with_base_url(&front);
            let mut chat = ada.connect_with(options()).await;
            let run = chat.ask("How can I spend less?").await;
            assert_eq!(run.completed().status, RunStatus::Completed);
            assert_eq!(run.types().last(), Some(&"agent_completed"));
            chat.drop_connection().await;

            let mut again = ada.connect_with(options()).await;
            let run = again.ask("And by model?").await;
            assert_eq!(run.completed().status, RunStatus::Completed);
            assert_eq!(again.close().await, Some(1000));

            let refused = ctx.refused(ConnectOptions::default().with_base_url(&front), ErrorCode::AuthRequired);
            assert_eq!(refused.await.status, 401);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_an_unknown_authority_is_not_believed() {
    let (authority, other) = (Authority::new(), Authority::new());
    for known in [None, Some(other.ca_file())] {
        let mut test = TestContext::own(case!("HSK-1"));
        if let Some(ca_file) = known {
            test = test.with_ca_file(ca_file);
        }
        let failure = test
            .run_to_failure(async |ctx| {
                let front = authority.stand_before(&ctx.http_url()).await;
                let ada = ctx.user("ada").await;
                ada.connect_with(ada.options().with_base_url(&front)).await;
            })
            .await;
        assert!(
            failure.contains("not believed") && failure.contains("`connection.ca_file`"),
            "{failure}"
        );
    }
}
