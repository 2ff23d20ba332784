//! Frames by hand, over a pipe in memory.

use pretty_assertions::assert_eq;
use rstest::rstest;
use tokio::io::{DuplexStream, duplex, split};

use super::*;

const MESSAGE_BYTES_MAX: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(5);

/// A masked frame with a mask of zeros: its payload stands as it is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

async fn wire(pipe_bytes: usize) -> (Wire<DuplexStream>, DuplexStream) {
    let (ours, theirs) = duplex(pipe_bytes);
    let bounds = Bounds {
        message_bytes_max: MESSAGE_BYTES_MAX,
        frame_out_bytes_max: 10_000,
    };
    (Wire::new(ours, bounds).await, theirs)
}

/// Reads unmasked frames until the end; returns opcode and payload of each.
async fn frames_until_end(peer: &mut (impl AsyncRead + Unpin)) -> Vec<(u8, Vec<u8>)> {
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).await.expect("the pipe holds");
    let mut frames = Vec::new();
    let mut rest = bytes.as_slice();
    while let [first, length, tail @ ..] = rest {
        let (length, tail) = match length {
            126 => (usize::from(u16::from_be_bytes([tail[0], tail[1]])), &tail[2..]),
            length => (usize::from(*length), tail),
        };
        frames.push((first & 0x0f, tail[..length].to_vec()));
        rest = &tail[length..];
    }
    frames
}

fn close_code(frames: &[(u8, Vec<u8>)]) -> Option<u16> {
    match frames {
        [.., (0x8, payload)] if payload.len() >= 2 => Some(u16::from_be_bytes([payload[0], payload[1]])),
        _ => None,
    }
}

/// Sends bytes, lets the wire read until it ends, and returns the close code that the peer sees.
async fn code_after(bytes: Vec<u8>) -> Option<u16> {
    let (mut wire, peer) = wire(64).await;
    let server = async move {
        let ending = loop {
            match wire.moved(Reads::On).await {
                Moved::Ending(ending) => break ending,
                Moved::Text(_) | Moved::Idle => {}
            }
        };
        wire.farewell(ending, PATIENCE).await;
    };
    let (mut reader, mut writer) = split(peer);
    let client = async {
        let send = async {
            writer.write_all(&bytes).await.expect("the server reads on");
        };
        let ((), frames) = tokio::join!(send, frames_until_end(&mut reader));
        writer.shutdown().await.expect("the pipe holds");
        close_code(&frames)
    };
    tokio::join!(server, client).1
}

const FIN: u8 = 0x80;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;

#[rstest]
#[case::unmasked(vec![FIN | TEXT, 2, b'h', b'i'], 1002)]
#[case::reserved_bit_1(frame(FIN | 0x40 | TEXT, b"hi"), 1002)]
#[case::reserved_bit_2(frame(FIN | 0x20 | TEXT, b"hi"), 1002)]
#[case::reserved_bit_3(frame(FIN | 0x10 | TEXT, b"hi"), 1002)]
#[case::reserved_data_opcode(frame(FIN | 0x3, b"hi"), 1002)]
#[case::reserved_control_opcode(frame(FIN | 0xb, b""), 1002)]
#[case::continuation_of_nothing(frame(FIN, b"hi"), 1002)]
#[case::text_within_fragments([frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat(), 1002)]
#[case::fragmented_ping(frame(PING, b""), 1002)]
#[case::ping_of_126_bytes(frame(FIN | PING, &[b'p'; 126]), 1002)]
#[case::close_of_126_bytes(frame(FIN | CLOSE, &[[3, 232].as_slice(), &[b'r'; 124]].concat()), 1002)]
#[case::close_of_one_byte(frame(FIN | CLOSE, &[3]), 1002)]
#[case::close_code_0(frame(FIN | CLOSE, &[0, 0]), 1002)]
#[case::close_code_999(frame(FIN | CLOSE, &999_u16.to_be_bytes()), 1002)]
#[case::close_code_1004(frame(FIN | CLOSE, &1004_u16.to_be_bytes()), 1002)]
#[case::close_code_1005(frame(FIN | CLOSE, &1005_u16.to_be_bytes()), 1002)]
#[case::close_code_1006(frame(FIN | CLOSE, &1006_u16.to_be_bytes()), 1002)]
#[case::close_code_1016(frame(FIN | CLOSE, &1016_u16.to_be_bytes()), 1002)]
#[case::close_code_2999(frame(FIN | CLOSE, &2999_u16.to_be_bytes()), 1002)]
#[case::close_code_5000(frame(FIN | CLOSE, &5000_u16.to_be_bytes()), 1002)]
#[case::close_code_is_echoed(frame(FIN | CLOSE, &1000_u16.to_be_bytes()), 1000)]
#[case::own_close_code_is_echoed(frame(FIN | CLOSE, &4321_u16.to_be_bytes()), 4321)]
#[case::close_reason_not_utf8(frame(FIN | CLOSE, &[3, 232, 0xff]), 1007)]
#[case::binary(frame(FIN | BINARY, b"hi"), 1003)]
#[case::binary_in_fragments([frame(BINARY, b"h"), frame(FIN, b"i")].concat(), 1003)]
#[case::text_not_utf8(frame(FIN | TEXT, &[0xff, 0xfe]), 1007)]
#[case::text_ends_within_a_character(frame(FIN | TEXT, &[0xc3]), 1007)]
#[case::surrogate(frame(FIN | TEXT, &[0xed, 0xa0, 0x80]), 1007)]
#[case::not_utf8_over_fragments([frame(TEXT, &[0xc3]), frame(FIN, b"x")].concat(), 1007)]
#[case::too_large(frame(FIN | TEXT, &[b'x'; MESSAGE_BYTES_MAX + 1]), 1009)]
#[case::too_large_in_fragments(
    [frame(TEXT, &[b'x'; 600]), frame(0, &[b'x'; 400]), frame(FIN, b"x")].concat(), 1009)]
#[case::huge_declared_length(
    [vec![FIN | TEXT, 0x80 | 127], u64::MAX.to_be_bytes().to_vec(), vec![0; 4]].concat(), 1009)]
#[case::much_sent_after_the_breach([frame(FIN | BINARY, b"hi"), vec![b'x'; 100_000]].concat(), 1003)]
#[tokio::test]
async fn a_peer_s_breach_is_closed_with_its_code(#[case] bytes: Vec<u8>, #[case] code: u16) {
    assert_eq!(code_after(bytes).await, Some(code));
}

#[tokio::test]
async fn a_close_without_a_code_is_answered_without_one() {
    let (mut wire, mut peer) = wire(64).await;
    peer.write_all(&frame(FIN | CLOSE, b"")).await.expect("written");
    let Moved::Ending(ending) = wire.moved(Reads::On).await else {
        panic!("the peer closed")
    };
    assert_eq!(ending, Ending::Peer(None));
    let client = async {
        let frames = frames_until_end(&mut peer).await;
        drop(peer);
        frames
    };
    let ((), frames) = tokio::join!(wire.farewell(ending, PATIENCE), client);
    assert_eq!(frames, vec![(CLOSE, Vec::new())]);
}

#[tokio::test]
async fn a_message_of_exactly_the_limit_is_taken_whole_and_in_fragments() {
    let (mut wire, mut peer) = wire(8_192).await;
    let text = "x".repeat(MESSAGE_BYTES_MAX);
    let (head, tail) = text.as_bytes().split_at(300);
    let bytes = [
        frame(FIN | TEXT, text.as_bytes()),
        frame(TEXT, head),
        frame(FIN | PING, b"between"),
        frame(FIN, tail),
    ]
    .concat();
    peer.write_all(&bytes).await.expect("written");
    assert_eq!(wire.moved(Reads::On).await, Moved::Text(text.as_str().into()));
    assert_eq!(wire.moved(Reads::On).await, Moved::Text(text.as_str().into()));
}

#[tokio::test]
async fn a_character_split_over_fragments_is_one() {
    let (mut wire, mut peer) = wire(64).await;
    let bytes = [frame(TEXT, &[0xc3]), frame(FIN, &[0xa9])].concat();
    peer.write_all(&bytes).await.expect("written");
    assert_eq!(wire.moved(Reads::On).await, Moved::Text("é".into()));
}

#[tokio::test]
async fn the_end_of_tcp_is_seen_while_frames_wait_that_the_peer_does_not_read() {
    let (mut wire, peer) = wire(64).await;
    for _ in 0..10 {
        wire.queue("x".repeat(5_000).into());
    }
    let (reader, mut writer) = split(peer);
    writer.write_all(&frame(FIN | TEXT, b"hi")).await.expect("written");
    assert_eq!(wire.moved(Reads::On).await, Moved::Text("hi".into()));
    drop((reader, writer));
    assert_eq!(wire.moved(Reads::On).await, Moved::Ending(Ending::Bare));
}

#[tokio::test]
async fn every_ping_is_answered_while_frames_are_written() {
    let (mut wire, peer) = wire(256).await;
    for _ in 0..100 {
        wire.queue("x".repeat(100).into());
    }
    let (mut reader, mut writer) = split(peer);
    let server = async move {
        let ending = loop {
            if let Moved::Ending(ending) = wire.moved(Reads::On).await {
                break ending;
            }
        };
        wire.farewell(ending, PATIENCE).await;
    };
    let client = async {
        let send = async {
            for number in 0..20_u8 {
                writer.write_all(&frame(FIN | PING, &[number])).await.expect("written");
            }
            writer.write_all(&frame(FIN | CLOSE, &[3, 232])).await.expect("written");
        };
        let ((), frames) = tokio::join!(send, frames_until_end(&mut reader));
        writer.shutdown().await.expect("the pipe holds");
        frames
    };
    let ((), frames) = tokio::join!(server, client);
    let pongs: Vec<u8> = frames
        .iter()
        .filter(|(opcode, _)| *opcode == 0xa)
        .map(|(_, payload)| payload[0])
        .collect();
    assert_eq!(pongs, (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_neither_reads_nor_closes_is_left_after_the_patience() {
    let (mut wire, _peer) = wire(64).await;
    wire.queue("x".repeat(5_000).into());
    let began = Instant::now();
    wire.farewell(Ending::Close(CloseCode::GoingAway, "silent"), PATIENCE)
        .await;
    assert_eq!(began.elapsed(), PATIENCE);
}

#[tokio::test]
async fn what_is_queued_goes_before_the_close_frame() {
    let (mut wire, peer) = wire(64).await;
    wire.queue("last words".into());
    wire.ping();
    let (mut reader, mut writer) = split(peer);
    let client = async {
        writer.write_all(&frame(FIN | CLOSE, &[3, 232])).await.expect("written");
        let frames = frames_until_end(&mut reader).await;
        writer.shutdown().await.expect("the pipe holds");
        frames
    };
    let ((), frames) = tokio::join!(wire.farewell(Ending::Close(CloseCode::Normal, "bye"), PATIENCE), client);
    let expected = vec![
        (PING, Vec::new()),
        (TEXT, b"last words".to_vec()),
        (CLOSE, [&1000_u16.to_be_bytes(), b"bye".as_slice()].concat()),
    ];
    assert_eq!(frames, expected);
}
