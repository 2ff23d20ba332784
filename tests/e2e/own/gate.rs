//! A door between the backend and one of its services, which a test can shut.

use std::sync::Arc;

use kingsguard_testkit::stack::Stack;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Forwards TCP to a service while it is open; shut, it cuts what there is and refuses what comes.
pub struct Gate {
    open: watch::Sender<bool>,
    port: u16,
    _ends_with_this: DropGuard,
}

impl Gate {
    /// Opens a gate to `authority` (host and port).
    pub async fn to(authority: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("127.0.0.1 has a free port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let (open, state) = watch::channel(true);
        let ending = CancellationToken::new();
        let authority = Arc::new(authority);
        let token = ending.clone();
        tokio::spawn(ending.clone().run_until_cancelled_owned(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (authority, mut state) = (Arc::clone(&authority), state.clone());
                tokio::spawn(token.clone().run_until_cancelled_owned(async move {
                    if !*state.borrow() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(authority.as_str()).await else {
                        return;
                    };
                    tokio::select! {
                        // However it ends, both sides are let go with it.
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = state.wait_for(|open| !open) => {}
                    }
                }));
            }
        }));
        Self {
            open,
            port,
            _ends_with_this: ending.drop_guard(),
        }
    }

    /// A gate to the Redis of the suite run, and the URL that leads through it.
    pub async fn to_redis() -> (Self, String) {
        Self::before(&Stack::from_env().expect("own tests run on a stack").redis_url).await
    }

    /// A gate to the host of a URL, and the URL that leads through it.
    pub async fn before(url: &str) -> (Self, String) {
        let (scheme, rest) = url.split_once("://").expect("a URL has a scheme");
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, host) = authority
            .rsplit_once('@')
            .map_or(("", authority), |(who, host)| (who, host));
        let gate = Self::to(host.to_owned()).await;
        let credentials = if credentials.is_empty() {
            String::new()
        } else {
            format!("{credentials}@")
        };
        let url = format!("{scheme}://{credentials}127.0.0.1:{}/{path}", gate.port);
        (gate, url)
    }

    /// Cuts all connections and refuses new ones.
    pub fn shut(&self) {
        self.open.send_replace(false);
    }

    /// Lets connections through again.
    pub fn reopen(&self) {
        self.open.send_replace(true);
    }
}
