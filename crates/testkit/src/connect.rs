//! How a connection is asked for: which carrier brings the credential, and what else stands in the request.

/// The parts of a request for a WebSocket that a test chooses. Empty by default: no credential at all.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    pub(crate) base_url: Option<String>,
    pub(crate) protocols: Vec<String>,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
}

impl ConnectOptions {
    /// Offers one more sub-protocol, such as `jwt.T` (AUTH-2).
    #[must_use]
    pub fn with_protocol(mut self, protocol: impl Into<String>) -> Self {
        self.protocols.push(protocol.into());
        self
    }

    /// Offers sub-protocols, in order.
    #[must_use]
    pub fn with_protocols(mut self, protocols: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.protocols.extend(protocols.into_iter().map(Into::into));
        self
    }

    /// Sends `Authorization: Bearer T`.
    #[must_use]
    pub fn with_bearer(self, token: &str) -> Self {
        self.with_header("Authorization", format!("Bearer {token}"))
    }

    /// Sends the query `ticket`.
    #[must_use]
    pub fn with_ticket(self, ticket: &str) -> Self {
        self.with_query("ticket", ticket)
    }

    /// Sends the query `token`.
    #[must_use]
    pub fn with_token_query(self, token: &str) -> Self {
        self.with_query("token", token)
    }

    /// Sends one more query parameter.
    #[must_use]
    pub fn with_query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends `Origin`.
    #[must_use]
    pub fn with_origin(self, origin: &str) -> Self {
        self.with_header("Origin", origin)
    }

    /// Sends one more header, as it is.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Asks another node of the target than the first.
    #[must_use]
    pub fn with_base_url(mut self, base_url: &str) -> Self {
        self.base_url = Some(base_url.to_owned());
        self
    }

    pub(crate) fn path_and_query(&self, path: &str) -> String {
        let query: Vec<String> = self
            .query
            .iter()
            .map(|(name, value)| format!("{}={}", percent(name), percent(value)))
            .collect();
        if query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", query.join("&"))
        }
    }

    /// Whether a ticket is the credential.
    pub(crate) fn has_ticket(&self) -> bool {
        self.query.iter().any(|(name, _)| name == "ticket")
    }

    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        let mut headers = self.headers.clone();
        if !self.protocols.is_empty() {
            headers.push(("Sec-WebSocket-Protocol".to_owned(), self.protocols.join(", ")));
        }
        headers
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_encoded_and_protocols_share_one_header() {
        let options = ConnectOptions::default()
            .with_protocols(["jwt.a", "bearer.b"])
            .with_query("token", "a b+/=");
        assert_eq!(options.path_and_query("/ws"), "/ws?token=a%20b%2B%2F%3D");
        assert_eq!(
            options.headers(),
            [("Sec-WebSocket-Protocol".to_owned(), "jwt.a, bearer.b".to_owned())]
        );
    }
}
