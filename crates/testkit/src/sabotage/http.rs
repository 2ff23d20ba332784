//! The head of an HTTP/1 message, as lines that can be changed.

/// A longer head is not read as HTTP.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Start line and header lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    start: String,
    lines: Vec<(String, String)>,
}

impl Head {
    /// The head at the start of `bytes` and how long it is; `None` where it is not whole, or is no HTTP.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let text = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = text.split("\r\n");
        let start = lines.next()?.to_owned();
        if !start.contains("HTTP/1.") {
            return None;
        }
        let lines = lines.map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().to_owned()))
        });
        let lines = lines.collect::<Option<_>>()?;
        Some((Self { start, lines }, end + 4))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.lines {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.lines.iter().find(|(line, _)| line.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Whether there was such a line.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let before = self.lines.len();
        self.lines.retain(|(line, _)| !line.eq_ignore_ascii_case(name));
        self.lines.len() < before
    }

    /// Whether something changed.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> bool {
        if self.get(name) == Some(value) {
            return false;
        }
        self.remove(name);
        self.lines.push((name.to_owned(), value.to_owned()));
        true
    }

    /// Path and query of a request.
    pub(crate) fn target(&self) -> String {
        self.start.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    pub(crate) fn replace_in_target(&mut self, from: &str, to: &str) -> bool {
        let target = self.target();
        if !target.contains(from) {
            return false;
        }
        self.start = self.start.replacen(&target, &target.replace(from, to), 1);
        true
    }

    pub(crate) fn without_query(&mut self) {
        let target = self.target();
        if let Some((path, _)) = target.split_once('?') {
            self.start = self.start.replacen(&target, path, 1);
        }
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> Option<u16> {
        self.start.split(' ').nth(1)?.parse().ok()
    }

    pub(crate) fn set_status(&mut self, status: u16) -> bool {
        let changed = self.status() != Some(status);
        self.start = format!("HTTP/1.1 {status} Changed");
        changed
    }

    pub(crate) fn asks_for_server_sent_events(&self) -> bool {
        self.get("accept").is_some_and(is_event_stream)
    }

    pub(crate) fn holds_server_sent_events(&self) -> bool {
        self.get("content-type").is_some_and(is_event_stream)
    }

    /// Asks as HTTP/1.0, whose answers come without chunks.
    pub(crate) fn refuse_chunks(&mut self) {
        self.start = self.start.replace("HTTP/1.1", "HTTP/1.0");
    }

    pub(crate) fn asks_for_websocket(&self) -> bool {
        self.get("upgrade")
            .is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
    }

    /// Bytes of the body, where the head says it.
    pub(crate) fn content_length(&self) -> Option<usize> {
        self.get("content-length")?.parse().ok()
    }
}

fn is_event_stream(media_type: &str) -> bool {
    media_type.to_ascii_lowercase().contains("text/event-stream")
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn a_head_is_written_as_it_was_read_but_for_what_changed() {
        let text = b"GET /ws?token=x HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\n\r\nrest";
        let (mut head, bytes) = Head::parse(text).expect("a head");
        assert_eq!(
            (head.bytes(), &text[bytes..]),
            (text[..bytes].to_vec(), b"rest".as_slice())
        );
        assert!(head.asks_for_websocket());
        assert!(head.remove("host") && !head.remove("host"));
        head.without_query();
        head.set("a", "b");
        assert_eq!(head.bytes(), b"GET /ws HTTP/1.1\r\nUpgrade: WebSocket\r\na: b\r\n\r\n");
    }

    #[test]
    fn an_answer_has_a_status() {
        let (mut head, _) = Head::parse(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\n").expect("a head");
        assert_eq!((head.status(), head.content_length()), (Some(401), Some(3)));
        assert!(head.set_status(200));
        assert_eq!(head.status(), Some(200));
    }

    #[test]
    fn what_is_no_http_is_no_head() {
        assert_eq!(Head::parse(b"GET / HTTP/1.1\r\nHost"), None);
        assert_eq!(Head::parse(b"\x16\x03\x01\r\n\r\n"), None);
    }
}
