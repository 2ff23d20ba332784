//! Cutting a stream into the units that faults act on: frames of RFC 6455 after an upgrade, pieces of bytes otherwise.

use std::io;
use std::sync::OnceLock;

use rand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The largest piece of bytes that is read at once.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// A larger frame is not gathered: it passes in pieces as it comes, and no fault of frames touches it. Above the largest
/// message of the contract (LIM-1), so that every frame a backend accepts is known whole.
const FRAME_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A longer head of HTTP is no upgrade; the connection stays one of bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PONG: u8 = 10;

/// What the proxy takes for the stream's units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Units {
    /// Pieces of bytes.
    Bytes,
    /// Bytes until an upgrade was accepted, then frames.
    Frames,
}

/// Whether the upgrade of a connection was accepted. Written by the way to the client before the answer passes; the client
/// sends no frame before it has read that.
#[derive(Debug, Default)]
pub(crate) struct Upgrade {
    accepted: OnceLock<bool>,
}

impl Upgrade {
    /// Of a connection that is upgraded.
    pub(crate) fn accepted() -> Self {
        Self {
            accepted: OnceLock::from(true),
        }
    }
}

/// The bytes of a whole text message; masked by a key of zeros where a client sends it.
pub(crate) fn text_frame(text: &str, masked: bool) -> Vec<u8> {
    let mask_bit = if masked { 0x80 } else { 0 };
    let mut bytes = vec![0x80 | TEXT];
    match text.len() {
        short @ 0..=125 => bytes.push(mask_bit | u8::try_from(short).unwrap_or(u8::MAX)),
        long => match u16::try_from(long) {
            Ok(long) => {
                bytes.push(mask_bit | 126);
                bytes.extend(long.to_be_bytes());
            }
            Err(_) => {
                bytes.push(mask_bit | 127);
                bytes.extend((long as u64).to_be_bytes());
            }
        },
    }
    if masked {
        bytes.extend([0; 4]);
    }
    bytes.extend(text.as_bytes());
    bytes
}

/// Something that passes through a proxy as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) bytes: Vec<u8>,
    pub(crate) frame: Option<FrameHead>,
}

/// What the header of a whole frame says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameHead {
    is_final: bool,
    opcode: u8,
    mask: Option<[u8; 4]>,
    header_bytes: usize,
}

impl Unit {
    fn bytes(bytes: Vec<u8>) -> Self {
        Self { bytes, frame: None }
    }

    /// Whether it is a whole text or binary message.
    pub(crate) fn is_whole_message(&self) -> bool {
        self.frame
            .is_some_and(|head| head.is_final && matches!(head.opcode, TEXT | BINARY))
    }

    /// The text of a whole text message, unmasked.
    pub(crate) fn text(&self) -> Option<String> {
        let head = self.frame.filter(|head| head.is_final && head.opcode == TEXT)?;
        String::from_utf8(self.payload(head)).ok()
    }

    /// The code of a close frame that has one.
    pub(crate) fn close_code(&self) -> Option<u16> {
        let head = self.frame.filter(|head| head.opcode == CLOSE)?;
        let payload = self.payload(head);
        Some(u16::from_be_bytes([*payload.first()?, *payload.get(1)?]))
    }

    /// Gives a close frame of the backend, which is not masked, another code.
    pub(crate) fn set_close_code(&mut self, code: u16) {
        if let Some(head) = self.frame
            && let Some(place) = self.bytes.get_mut(head.header_bytes..head.header_bytes + 2)
        {
            place.copy_from_slice(&code.to_be_bytes());
        }
    }

    pub(crate) fn is_pong(&self) -> bool {
        self.frame.is_some_and(|head| head.opcode == PONG)
    }

    fn payload(&self, head: FrameHead) -> Vec<u8> {
        let key = head.mask.unwrap_or_default();
        let masked = self.bytes[head.header_bytes..].iter().zip(key.iter().cycle());
        masked.map(|(byte, key)| byte ^ key).collect()
    }

    /// Changes it as [`Fault::corrupt`](super::Fault::corrupt) says.
    pub(crate) fn corrupt(&mut self, dice: &mut impl Rng) {
        let bytes = self.bytes.len();
        if bytes == 0 {
            return;
        }
        match self.frame {
            None => {
                let place = dice.random_range(0..bytes);
                self.bytes[place] ^= 1 << dice.random_range(0..8);
            }
            Some(head) => {
                let payload_bytes = bytes - head.header_bytes;
                let in_payload = dice.random_bool(0.5);
                let place = dice.random_range(0..payload_bytes.max(1));
                if head.opcode == TEXT && payload_bytes > 0 && in_payload {
                    // After unmasking it is 0xFF, which UTF-8 never has.
                    let key = head.mask.map_or(0, |mask| mask[place % 4]);
                    self.bytes[head.header_bytes + place] = 0xff ^ key;
                } else {
                    // RSV3, which no extension defines.
                    self.bytes[0] |= 0x10;
                }
            }
        }
    }
}

/// Reads units from one direction of a connection.
#[derive(Debug)]
pub(crate) struct Cutter<'a> {
    units: Units,
    upgrade: &'a Upgrade,
    /// Whether this is the way on which the answer to an upgrade comes.
    answers: bool,
    buffer: Vec<u8>,
    /// What is left of a frame that is too large to be gathered.
    passing: u64,
}

impl<'a> Cutter<'a> {
    pub(crate) fn new(units: Units, upgrade: &'a Upgrade, answers: bool) -> Self {
        Self {
            units,
            upgrade,
            answers,
            buffer: Vec::new(),
            passing: 0,
        }
    }

    /// For a connection that was upgraded by somebody else, who has read `beginning` already.
    pub(crate) fn of_frames(accepted: &'a Upgrade, beginning: Vec<u8>) -> Self {
        Self {
            buffer: beginning,
            ..Self::new(Units::Frames, accepted, false)
        }
    }

    /// The next unit; `None` where the stream ended. What is no whole frame by then passes as bytes. May be cancelled: what
    /// was read stays.
    pub(crate) async fn next(&mut self, source: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Unit>> {
        loop {
            if let Some(unit) = self.cut() {
                return Ok(Some(unit));
            }
            self.buffer.reserve(PIECE_BYTES_MAX);
            let read = source.take(PIECE_BYTES_MAX as u64).read_buf(&mut self.buffer).await?;
            if read == 0 {
                let rest = std::mem::take(&mut self.buffer);
                return Ok((!rest.is_empty()).then(|| Unit::bytes(rest)));
            }
        }
    }

    fn cut(&mut self) -> Option<Unit> {
        if self.buffer.is_empty() {
            return None;
        }
        let accepted = self.upgrade.accepted.get().copied();
        match (self.units, accepted) {
            (Units::Frames, Some(true)) => self.cut_frame(),
            (Units::Frames, None) if self.answers => self.cut_answer(),
            (Units::Bytes, _) | (Units::Frames, _) => Some(Unit::bytes(std::mem::take(&mut self.buffer))),
        }
    }

    fn cut_answer(&mut self) -> Option<Unit> {
        let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
            if self.buffer.len() < HEAD_BYTES_MAX {
                return None;
            }
            self.upgrade.accepted.set(false).ok();
            return Some(Unit::bytes(std::mem::take(&mut self.buffer)));
        };
        let accepted = self.buffer.starts_with(b"HTTP/1.1 101 ");
        self.upgrade.accepted.set(accepted).ok();
        Some(Unit::bytes(self.buffer.drain(..end + 4).collect()))
    }

    fn cut_frame(&mut self) -> Option<Unit> {
        if self.passing > 0 {
            let take = usize::try_from(self.passing).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
            self.passing -= take as u64;
            return Some(Unit::bytes(self.buffer.drain(..take).collect()));
        }
        let (head, payload_bytes) = parse_header(&self.buffer)?;
        if payload_bytes > FRAME_BYTES_MAX {
            self.passing = payload_bytes;
            return Some(Unit::bytes(self.buffer.drain(..head.header_bytes).collect()));
        }
        let end = head.header_bytes + usize::try_from(payload_bytes).ok()?;
        if self.buffer.len() < end {
            return None;
        }
        Some(Unit {
            bytes: self.buffer.drain(..end).collect(),
            frame: Some(head),
        })
    }
}

/// The header at the start of `bytes` and the length of the payload that follows, once the header is whole.
fn parse_header(bytes: &[u8]) -> Option<(FrameHead, u64)> {
    let [first, second, ..] = *bytes else { return None };
    let (payload_bytes, mut header_bytes) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
        short => (u64::from(short), 2),
    };
    let mask = if second & 0x80 == 0 {
        None
    } else {
        header_bytes += 4;
        Some(bytes.get(header_bytes - 4..header_bytes)?.try_into().ok()?)
    };
    let head = FrameHead {
        is_final: first & 0x80 != 0,
        opcode: first & 15,
        mask,
        header_bytes,
    };
    Some((head, payload_bytes))
}
