//! Frame headers, read as their bytes pass by.
//!
//! The WebSocket library judges a frame when all of it is there, and binary data when all of the message is. A header is
//! a breach by itself: who sends one and then nothing is not waited for (CON-1, CON-3).

use kingsguard_protocol::CloseCode;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const FIRST_CONTROL: u8 = 0x8;
const LAST_CONTROL: u8 = 0xa;
/// Payload bytes of a control frame (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: u8 = 125;
/// The longest header: two bytes, a length of eight and a mask of four.
const HEADER_BYTES_MAX: usize = 14;

/// Where a stream of frames stands.
#[derive(Debug, Default)]
pub struct FrameHeaders {
    header: [u8; HEADER_BYTES_MAX],
    held: usize,
    payload_left: u64,
    is_within_message: bool,
    breach: Option<CloseCode>,
}

impl FrameHeaders {
    /// The close code of the first header that was a breach.
    #[must_use]
    pub fn breach(&self) -> Option<CloseCode> {
        self.breach
    }

    /// Takes the next bytes of the stream.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while self.breach.is_none() {
            let skipped = usize::try_from(self.payload_left)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            self.payload_left -= skipped as u64;
            let [byte, rest @ ..] = &bytes[skipped..] else { return };
            bytes = rest;
            self.header[self.held] = *byte;
            self.held += 1;
            if self.held == 2 {
                self.breach = self.judge();
            }
            if self.held >= 2 && self.held == self.header_bytes() {
                self.payload_left = self.payload_bytes();
                self.held = 0;
            }
        }
    }

    /// Judges a header by its first two bytes.
    fn judge(&mut self) -> Option<CloseCode> {
        let [first, second, ..] = self.header;
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
        let is_masked = second & 0x80 != 0;
        if first & 0x70 != 0 || !is_masked {
            return Some(CloseCode::Protocol);
        }
        match opcode {
            CONTINUATION if self.is_within_message => self.is_within_message = !is_final,
            TEXT if !self.is_within_message => self.is_within_message = !is_final,
            BINARY if !self.is_within_message => return Some(CloseCode::Unsupported),
            FIRST_CONTROL..=LAST_CONTROL if is_final && second & 0x7f <= CONTROL_BYTES_MAX => {}
            _ => return Some(CloseCode::Protocol),
        }
        None
    }

    fn length_bytes(&self) -> usize {
        match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn header_bytes(&self) -> usize {
        let mask_bytes = 4; // an unmasked frame was a breach
        2 + self.length_bytes() + mask_bytes
    }

    fn payload_bytes(&self) -> u64 {
        match self.length_bytes() {
            0 => u64::from(self.header[1] & 0x7f),
            count => self.header[2..2 + count]
                .iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
        }
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload {
            0..=125 => bytes.push(0x80 | u8::try_from(payload).expect("short")),
            126..=65_535 => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(payload).expect("middle").to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend(MASK);
        bytes.resize(bytes.len() + payload, 0x82); // would be a binary frame if it were read as a header
        bytes
    }

    #[rstest]
    #[case::binary(vec![0x82, 0x81], Some(CloseCode::Unsupported))]
    #[case::first_fragment_of_binary(vec![0x02, 0x81], Some(CloseCode::Unsupported))]
    #[case::binary_within_a_text([frame(0x01, 3), vec![0x82, 0x80]].concat(), Some(CloseCode::Protocol))]
    #[case::ping_that_states_64_kib(vec![0x89, 0xff], Some(CloseCode::Protocol))]
    #[case::fragmented_ping(vec![0x09, 0x80], Some(CloseCode::Protocol))]
    #[case::unmasked(vec![0x81, 0x01], Some(CloseCode::Protocol))]
    #[case::reserved_bit(vec![0xc1, 0x81], Some(CloseCode::Protocol))]
    #[case::reserved_opcode(vec![0x83, 0x80], Some(CloseCode::Protocol))]
    #[case::continuation_of_nothing(vec![0x80, 0x80], Some(CloseCode::Protocol))]
    #[case::one_byte(vec![0x82], None)]
    #[case::texts_of_all_lengths([frame(0x81, 0), frame(0x81, 125), frame(0x81, 126), frame(0x81, 70_000), frame(0x88, 2)].concat(), None)]
    #[case::fragments_with_a_ping_between([frame(0x01, 5), frame(0x89, 125), frame(0x00, 0), frame(0x80, 300), frame(0x81, 1)].concat(), None)]
    fn a_header_is_judged_as_soon_as_it_is_there(#[case] bytes: Vec<u8>, #[case] breach: Option<CloseCode>) {
        for piece in [1, 3, bytes.len()] {
            let mut headers = FrameHeaders::default();
            bytes.chunks(piece).for_each(|bytes| headers.pass(bytes));
            assert_eq!(headers.breach(), breach, "in pieces of {piece} bytes");
        }
    }
}
