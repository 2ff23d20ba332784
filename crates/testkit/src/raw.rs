//! Hand-made HTTP and WebSocket bytes, for what no library would send (CON-1, CON-3).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::capture::Capture;
use crate::chat::PATIENCE;
use crate::connect::ConnectOptions;
use crate::link::Head;
use crate::session::Session;
use crate::transport::{Stream, authority};

/// One TCP or TLS connection to the target; the test writes its bytes.
#[derive(Debug)]
pub struct RawSocket {
    stream: Stream,
    authority: String,
    buffer: Vec<u8>,
    capture: Capture,
    /// Where the target's WebSocket is.
    path: String,
    session: Session,
}

/// A frame made by hand (RFC 6455 §5.2). By default a final, masked frame with honest length.
#[derive(Clone, Debug)]
pub struct RawFrame {
    /// FIN: the last fragment.
    pub is_final: bool,
    /// RSV1–3 as the upper three of four bits: `0b100` is RSV1.
    pub reserved: u8,
    /// The opcode: 0 continuation, 1 text, 2 binary, 8 close, 9 ping, 10 pong; others are reserved.
    pub opcode: u8,
    /// The masking key; `None` sends an unmasked frame, which a client must not.
    pub mask: Option<[u8; 4]>,
    /// The payload.
    pub payload: Vec<u8>,
    /// What the header says about the payload's length; the truth by default.
    pub stated_length: Option<u64>,
}

impl RawFrame {
    /// A final, masked frame.
    #[must_use]
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        let mask = Some([0x12, 0x34, 0x56, 0x78]);
        Self {
            is_final: true,
            reserved: 0,
            opcode,
            mask,
            payload: payload.into(),
            stated_length: None,
        }
    }

    /// A text frame.
    #[must_use]
    pub fn text(text: impl Into<Vec<u8>>) -> Self {
        Self::new(1, text)
    }

    /// A continuation frame.
    #[must_use]
    pub fn continuation(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(0, payload)
    }

    /// A close frame.
    #[must_use]
    pub fn close(code: u16, reason: &[u8]) -> Self {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason);
        Self::new(8, payload)
    }

    /// Not the last fragment.
    #[must_use]
    pub fn not_final(self) -> Self {
        Self {
            is_final: false,
            ..self
        }
    }

    /// Without a mask.
    #[must_use]
    pub fn unmasked(self) -> Self {
        Self { mask: None, ..self }
    }

    /// With reserved bits.
    #[must_use]
    pub fn with_reserved(self, reserved: u8) -> Self {
        Self { reserved, ..self }
    }

    /// With a header that states another length.
    #[must_use]
    pub fn with_stated_length(self, length: u64) -> Self {
        Self {
            stated_length: Some(length),
            ..self
        }
    }

    /// The frame's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = self.stated_length.unwrap_or(self.payload.len() as u64);
        let mask_bit = if self.mask.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![(u8::from(self.is_final) << 7) | ((self.reserved & 7) << 4) | (self.opcode & 15)];
        match length {
            0..=125 => bytes.push(mask_bit | length as u8),
            126..=0xffff => {
                bytes.push(mask_bit | 126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask_bit | 127);
                bytes.extend_from_slice(&length.to_be_bytes());
            }
        }
        match self.mask {
            Some(mask) => {
                bytes.extend_from_slice(&mask);
                bytes.extend(
                    self.payload
                        .iter()
                        .zip(mask.iter().cycle())
                        .map(|(byte, key)| byte ^ key),
                );
            }
            None => bytes.extend_from_slice(&self.payload),
        }
        bytes
    }
}

/// A frame as the target sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFrame {
    /// FIN.
    pub is_final: bool,
    /// RSV1–3.
    pub reserved: u8,
    /// The opcode.
    pub opcode: u8,
    /// Whether it was masked, which a server must not.
    pub is_masked: bool,
    /// The payload.
    pub payload: Vec<u8>,
}

impl ReadFrame {
    /// The code of a close frame.
    #[must_use]
    pub fn close_code(&self) -> Option<u16> {
        match (self.opcode, self.payload.as_slice()) {
            (8, [high, low, ..]) => Some(u16::from_be_bytes([*high, *low])),
            _ => None,
        }
    }

    /// The payload as text; bytes that are none are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

impl RawSocket {
    pub(crate) async fn open(session: &Session) -> Self {
        let authority = authority(session.http().base());
        match session.dial().await {
            Ok(stream) => Self {
                stream,
                authority,
                buffer: Vec::new(),
                capture: session.capture().clone(),
                path: session.profile().connection.path.clone(),
                session: session.clone(),
            },
            Err(error) => panic!("connecting to {authority}: {error}"),
        }
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, frame: &RawFrame) -> io::Result<()> {
        if frame.opcode == 1 {
            self.session.may_write_by_hand();
        }
        self.write(&frame.to_bytes()).await
    }

    /// Writes a whole request for an upgrade, head as given by `lines` (without line ends), and reads the answer's head.
    /// The path `/ws` stands for that of the target.
    ///
    /// # Panics
    /// The target does not answer HTTP.
    pub async fn request(&mut self, lines: &[&str]) -> Head {
        let lines = lines.join("\r\n").replacen(" /ws", &format!(" {}", self.path), 1);
        let head = format!("{lines}\r\nHost: {}\r\n\r\n", self.authority);
        self.exchange(head).await
    }

    /// Upgrades properly, with the credential that `options` carry.
    ///
    /// # Panics
    /// The target refuses.
    pub async fn upgrade(&mut self, options: &ConnectOptions) -> Head {
        let mut head = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            options.path_and_query(&self.path),
            self.authority,
        );
        for (name, value) in options.headers() {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let answer = self.exchange(head).await;
        assert!(answer.status == 101, "upgrade is refused with {}", answer.status);
        answer
    }

    async fn exchange(&mut self, head: String) -> Head {
        if let Err(error) = self.write(head.as_bytes()).await {
            panic!("writing a request: {error}");
        }
        match tokio::time::timeout(PATIENCE, Head::read(&mut self.stream)).await {
            Ok(Ok(answer)) => {
                self.buffer.extend_from_slice(&answer.rest);
                self.capture.count_check();
                answer
            }
            Ok(Err(error)) => panic!("reading the answer: {error}"),
            Err(_) => panic!("no answer within {} s", PATIENCE.as_secs()),
        }
    }

    /// Reads the next frame; `None` where the connection ends before one is whole.
    ///
    /// # Panics
    /// Nothing comes within [`PATIENCE`].
    pub async fn read_frame(&mut self) -> Option<ReadFrame> {
        match tokio::time::timeout(PATIENCE, self.read_frame_unbounded()).await {
            Ok(frame) => frame,
            Err(_) => panic!("neither a frame nor an end within {} s", PATIENCE.as_secs()),
        }
    }

    async fn read_frame_unbounded(&mut self) -> Option<ReadFrame> {
        loop {
            if let Some((frame, used)) = parse(&self.buffer) {
                self.buffer.drain(..used);
                return Some(frame);
            }
            // A reset is an end: the target may have left bytes of ours unread.
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Reads text frames until one has this `type`, and gives it.
    ///
    /// # Panics
    /// The connection ends first.
    pub async fn read_until(&mut self, frame_type: &str) -> serde_json::Value {
        match frame_type {
            "connection_established" | "handshake_response" | "handshake_complete" => self.session.needs_handshake(),
            "message_received" => self.session.needs_acknowledgement(),
            _ => {}
        }
        while let Some(frame) = self.read_frame().await {
            let json: serde_json::Value =
                serde_json::from_slice(&self.session.in_the_contracts_words(frame.payload)).unwrap_or_default();
            if json.get("type").and_then(serde_json::Value::as_str) == Some(frame_type) {
                self.capture.count_check();
                return json;
            }
        }
        panic!("connection ended before `{frame_type}`");
    }

    /// Reads until the target's close frame and says its code, then until the connection's end; `None` of a bare end.
    ///
    /// # Panics
    /// The connection is still open after [`PATIENCE`].
    pub async fn read_close(&mut self) -> Option<u16> {
        self.capture.count_check();
        while let Some(frame) = self.read_frame().await {
            if frame.opcode == 8 {
                return frame.close_code();
            }
        }
        None
    }

    /// Claims that the target closes with this code.
    ///
    /// # Panics
    /// It closes with another or with none.
    pub async fn expect_close(&mut self, code: kingsguard_protocol::CloseCode) {
        let came = self.read_close().await;
        assert!(
            came == Some(code.as_u16()),
            "expected close {}, but {came:?}",
            code.as_u16()
        );
    }

    /// Whether the connection ends within `patience` without a further byte.
    pub async fn ends_within(&mut self, patience: Duration) -> bool {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(patience, self.stream.read_to_end(&mut rest)).await;
        read.is_ok() && rest.is_empty()
    }
}

fn parse(bytes: &[u8]) -> Option<(ReadFrame, usize)> {
    let [first, second, ..] = *bytes else { return None };
    let (length, mut used) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
        short => (u64::from(short), 2),
    };
    let is_masked = second & 0x80 != 0;
    let mask = if is_masked {
        used += 4;
        bytes.get(used - 4..used)?.to_vec()
    } else {
        vec![0; 4]
    };
    let end = used.checked_add(usize::try_from(length).ok()?)?;
    let payload = bytes
        .get(used..end)?
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, key)| byte ^ key)
        .collect();
    let frame = ReadFrame {
        is_final: first & 0x80 != 0,
        reserved: (first >> 4) & 7,
        opcode: first & 15,
        is_masked,
        payload,
    };
    Some((frame, end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_frame_reads_back_as_it_was_made(
            is_final: bool, reserved in 0u8..8, opcode in 0u8..16, masked: bool,
            first: u8, bytes in prop_oneof![0usize..300, 65_530usize..65_540],
        ) {
            // Every length that is written in another way, around its bounds; the content only has to differ by place.
            let payload: Vec<u8> = (0..bytes).map(|place| first.wrapping_add(place as u8)).collect();
            let frame = RawFrame {
                is_final, reserved, opcode, mask: masked.then_some([1, 2, 3, 4]), payload: payload.clone(), stated_length: None,
            };
            let bytes = frame.to_bytes();
            let expected = ReadFrame { is_final, reserved, opcode, is_masked: masked, payload };
            prop_assert_eq!(parse(&bytes), Some((expected, bytes.len())));
            prop_assert_eq!(parse(&bytes[..bytes.len() - 1]), None);
        }
    }
}
