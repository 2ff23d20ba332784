//! The frame level (CON-1, CON-3): hand-made bytes, each breach with the close code that the contract names.

use std::io;

use kingsguard_testkit::PATIENCE;
use kingsguard_testkit::prelude::*;
use kingsguard_testkit::raw::ReadFrame;
use pretty_assertions::assert_eq;

covers!("CONN");

const MIB: usize = 1024 * 1024;

/// A socket of this user whose greeting was read; the handshake is left out, frames are judged before it.
async fn greeted(ctx: &TestContext, user: &SimulatedUser) -> RawSocket {
    let mut socket = ctx.raw().await;
    socket.upgrade(&user.options()).await;
    socket.read_until("connection_established").await;
    socket.read_until("handshake_response").await;
    socket
}

/// Sends each row's bytes on a connection of its own and compares the close codes of all of them.
async fn judge_breaches(ctx: &TestContext, rows: Vec<(&'static str, Vec<u8>, u16)>) {
    let ada = ctx.user("ada").await;
    let mut came = Vec::new();
    let mut expected = Vec::new();
    for (name, bytes, code) in rows {
        let mut socket = greeted(ctx, &ada).await;
        let written = socket.write(&bytes).await;
        came.push((name, Broken::of(written, &mut socket).await));
        expected.push((name, Broken::Closed(code)));
    }
    assert_eq!(came, expected);
    // The breaches disturbed nobody else (ERR-2).
    let mut chat = ada.connect().await;
    let message_id = chat.send_ping_message().await;
    assert_eq!(chat.answer_to(&message_id).await.frame_type(), "pong");
}

/// How the target ended a connection.
#[derive(Debug, PartialEq, Eq)]
enum Broken {
    Closed(u16),
    EmptyClose,
    Cut,
    /// It did not read what was sent to its end.
    WriteFailed(io::ErrorKind),
}

impl Broken {
    async fn of(written: io::Result<()>, socket: &mut RawSocket) -> Self {
        match read_to_close(socket).await {
            Some(frame) => frame.close_code().map_or(Self::EmptyClose, Self::Closed),
            None => written.err().map_or(Self::Cut, |error| Self::WriteFailed(error.kind())),
        }
    }
}

async fn read_to_close(socket: &mut RawSocket) -> Option<ReadFrame> {
    while let Some(frame) = socket.read_frame().await {
        if frame.opcode == 8 {
            return Some(frame);
        }
    }
    None
}

trait PingMessage {
    async fn send_ping_message(&mut self) -> MessageId;
}

impl PingMessage for Chat {
    async fn send_ping_message(&mut self) -> MessageId {
        self.send(kingsguard_protocol::client::Ping {}).await
    }
}

fn ping_text(message_id: &str) -> String {
    json!({ "type": "ping", "message_id": message_id }).to_string()
}

/// A `ping` message of exactly this many bytes.
fn ping_text_of(bytes: usize) -> String {
    let bare = json!({ "type": "ping", "message_id": "message_large", "padding": "" }).to_string();
    json!({ "type": "ping", "message_id": "message_large", "padding": "x".repeat(bytes - bare.len()) }).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_frame_closes_with_1002() {
    TestContext::wire(case!("CON-1", "ERR-2"))
        .run(async |ctx| {
            let text = || RawFrame::text(ping_text("message_a"));
            let rows = vec![
                ("unmasked text", text().unmasked().to_bytes(), 1002),
                ("unmasked ping", RawFrame::new(9, "").unmasked().to_bytes(), 1002),
                ("RSV1", text().with_reserved(0b100).to_bytes(), 1002),
                ("RSV2", text().with_reserved(0b010).to_bytes(), 1002),
                ("RSV3", text().with_reserved(0b001).to_bytes(), 1002),
                (
                    "RSV1 on a ping",
                    RawFrame::new(9, "").with_reserved(0b100).to_bytes(),
                    1002,
                ),
                ("opcode 3", RawFrame::new(3, "x").to_bytes(), 1002),
                ("opcode 4", RawFrame::new(4, "x").to_bytes(), 1002),
                ("opcode 5", RawFrame::new(5, "x").to_bytes(), 1002),
                ("opcode 6", RawFrame::new(6, "x").to_bytes(), 1002),
                ("opcode 7", RawFrame::new(7, "x").to_bytes(), 1002),
                ("opcode 11", RawFrame::new(11, "").to_bytes(), 1002),
                ("opcode 12", RawFrame::new(12, "").to_bytes(), 1002),
                ("opcode 13", RawFrame::new(13, "").to_bytes(), 1002),
                ("opcode 14", RawFrame::new(14, "").to_bytes(), 1002),
                ("opcode 15", RawFrame::new(15, "").to_bytes(), 1002),
            ];
            judge_breaches(ctx, rows).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_fragmentation_closes_with_1002() {
    TestContext::wire(case!("CON-1"))
        .run(async |ctx| {
            let whole = ping_text("message_a");
            let (head, tail) = whole.split_at(9);
            let first = RawFrame::text(head).not_final().to_bytes();
            let rows = vec![
                (
                    "continuation without a beginning",
                    RawFrame::continuation(tail).to_bytes(),
                    1002,
                ),
                (
                    "continuation after a message was whole",
                    [
                        RawFrame::text(whole.clone()).to_bytes(),
                        RawFrame::continuation("x").to_bytes(),
                    ]
                    .concat(),
                    1002,
                ),
                (
                    "text within a fragmented text",
                    [first.clone(), RawFrame::text(whole.clone()).to_bytes()].concat(),
                    1002,
                ),
                (
                    "binary within a fragmented text",
                    [first.clone(), RawFrame::new(2, "x").to_bytes()].concat(),
                    1002,
                ),
                ("fragmented ping", RawFrame::new(9, "x").not_final().to_bytes(), 1002),
                ("fragmented pong", RawFrame::new(10, "x").not_final().to_bytes(), 1002),
                (
                    "fragmented close",
                    RawFrame::close(1000, b"").not_final().to_bytes(),
                    1002,
                ),
                ("ping of 126 bytes", RawFrame::new(9, [b'p'; 126]).to_bytes(), 1002),
                ("pong of 126 bytes", RawFrame::new(10, [b'p'; 126]).to_bytes(), 1002),
                (
                    "close of 126 bytes",
                    RawFrame::close(1000, &[b'r'; 124]).to_bytes(),
                    1002,
                ),
            ];
            judge_breaches(ctx, rows).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_close_frame_closes_with_1002() {
    TestContext::wire(case!("CON-1"))
        .run(async |ctx| {
            let mut rows = vec![("payload of one byte", RawFrame::new(8, [3]).to_bytes(), 1002)];
            for (name, code) in [
                ("0", 0),
                ("999", 999),
                ("1004", 1004),
                ("1005", 1005),
                ("1006", 1006),
                ("1015", 1015),
                ("1016", 1016),
                ("1100", 1100),
                ("2000", 2000),
                ("2999", 2999),
                ("5000", 5000),
                ("65535", u16::MAX),
            ] {
                rows.push((name, RawFrame::close(code, b"bye").to_bytes(), 1002));
            }
            judge_breaches(ctx, rows).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_that_is_not_utf_8_closes_with_1007() {
    TestContext::wire(case!("CON-3"))
        .run(async |ctx| {
            let fragments = |parts: [&[u8]; 2]| {
                [
                    RawFrame::text(parts[0]).not_final().to_bytes(),
                    RawFrame::continuation(parts[1]).to_bytes(),
                ]
                .concat()
            };
            let rows = vec![
                (
                    "a byte that never occurs",
                    RawFrame::text(b"{\"type\":\"\xff\"}").to_bytes(),
                    1007,
                ),
                ("an encoded surrogate", RawFrame::text(b"\xed\xa0\x80").to_bytes(), 1007),
                ("an overlong slash", RawFrame::text(b"\xc0\xaf").to_bytes(), 1007),
                ("above U+10FFFF", RawFrame::text(b"\xf4\x90\x80\x80").to_bytes(), 1007),
                (
                    "half a character at the end",
                    RawFrame::text(b"\"\xf0\x9f\x98").to_bytes(),
                    1007,
                ),
                (
                    "half a character and then another",
                    fragments([b"\"\xc3", b"x\""]),
                    1007,
                ),
                (
                    "bad bytes in the second fragment",
                    fragments([b"\"ok", b"\xfe\""]),
                    1007,
                ),
                ("close reason", RawFrame::close(1000, b"\xff\xfe").to_bytes(), 1007),
                (
                    "close reason cut within a character",
                    RawFrame::close(1000, b"\xc3").to_bytes(),
                    1007,
                ),
            ];
            judge_breaches(ctx, rows).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binary_frame_closes_with_1003() {
    TestContext::wire(case!("CON-3"))
        .run(async |ctx| {
            let rows = vec![
                ("binary", RawFrame::new(2, ping_text("message_a")).to_bytes(), 1003),
                ("empty binary", RawFrame::new(2, "").to_bytes(), 1003),
                (
                    "binary in fragments",
                    [
                        RawFrame::new(2, "a").not_final().to_bytes(),
                        RawFrame::continuation("b").to_bytes(),
                    ]
                    .concat(),
                    1003,
                ),
            ];
            judge_breaches(ctx, rows).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_above_the_limit_closes_with_1009() {
    TestContext::wire(case!("CON-3", "LIM-1"))
        .run(async |ctx| {
            let mib = || vec![b'x'; MIB];
            let mut six = vec![RawFrame::text(mib()).not_final().to_bytes()];
            six.extend((0..4).map(|_| RawFrame::continuation(mib()).not_final().to_bytes()));
            six.push(RawFrame::continuation(mib()).to_bytes());
            let rows = vec![
                (
                    "6 MiB in one piece",
                    RawFrame::text(vec![b'x'; 6 * MIB]).to_bytes(),
                    1009,
                ),
                ("6 MiB in fragments of 1 MiB", six.concat(), 1009),
                (
                    "one byte above the limit",
                    RawFrame::text(ping_text_of(5 * MIB + 1)).to_bytes(),
                    1009,
                ),
                (
                    "stated length above the limit, nothing sent",
                    RawFrame::text("").with_stated_length(6 * MIB as u64).to_bytes(),
                    1009,
                ),
                (
                    "stated length of a terabyte",
                    RawFrame::text("").with_stated_length(1 << 40).to_bytes(),
                    1009,
                ),
            ];
            judge_breaches(ctx, rows).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_exactly_the_limit_is_answered() {
    TestContext::wire(case!("CON-3", "LIM-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let limit = ada.connect().await.established().limits.message_bytes_max;
            assert_eq!(limit, 5 * MIB as u64, "LIM-1 states 5 MiB");
            let text = ping_text_of(5 * MIB);
            let mut socket = greeted(ctx, &ada).await;
            socket
                .send(&RawFrame::text(text.clone()))
                .await
                .expect("the target reads");
            assert_eq!(socket.read_until("pong").await["correlation_id"], "message_large");
            let (head, tail) = text.split_at(3 * MIB);
            socket
                .send(&RawFrame::text(head).not_final())
                .await
                .expect("the target reads");
            socket
                .send(&RawFrame::continuation(tail))
                .await
                .expect("the target reads");
            assert_eq!(socket.read_until("pong").await["correlation_id"], "message_large");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_breach_the_target_ends_the_connection_and_answers_nothing_more() {
    TestContext::wire(case!("CON-1", "CON-3"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut socket = greeted(ctx, &ada).await;
            let bytes = [
                RawFrame::new(2, "x").to_bytes(),
                RawFrame::text(ping_text("message_after")).to_bytes(),
            ];
            socket.write(&bytes.concat()).await.expect("the target reads on");
            socket.expect_close(CloseCode::Unsupported).await;
            socket.send(&RawFrame::close(1003, b"")).await.ok(); // it may have gone already
            assert!(
                socket.ends_within(PATIENCE).await,
                "the connection goes on after its close frame"
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_is_answered_by_a_pong_with_its_payload() {
    TestContext::wire(case!("CON-2", "CON-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut socket = greeted(ctx, &ada).await;
            let long = vec![0xee; 125];
            for payload in [b"".as_slice(), b"once", &[0, 0xff, 0x80], &long] {
                socket
                    .send(&RawFrame::new(9, payload))
                    .await
                    .expect("the connection is open");
                let pong = ReadFrame {
                    is_final: true,
                    reserved: 0,
                    opcode: 10,
                    is_masked: false,
                    payload: payload.to_vec(),
                };
                assert_eq!(socket.read_frame().await, Some(pong));
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_within_a_fragmented_message_is_answered_before_it() {
    TestContext::wire(case!("CON-1", "CON-2"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut socket = greeted(ctx, &ada).await;
            let whole = ping_text("message_in_parts");
            let (head, tail) = whole.split_at(12);
            socket.send(&RawFrame::text(head).not_final()).await.expect("open");
            socket.send(&RawFrame::new(9, "between")).await.expect("open");
            socket.send(&RawFrame::new(10, "nobody asked")).await.expect("open");
            let pong = socket.read_frame().await.expect("a pong");
            assert_eq!((pong.opcode, pong.text().as_str()), (10, "between"));
            socket.send(&RawFrame::continuation(tail)).await.expect("open");
            assert_eq!(socket.read_until("pong").await["correlation_id"], "message_in_parts");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fragments_are_put_together_whatever_their_cut() {
    TestContext::wire(case!("CON-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut socket = greeted(ctx, &ada).await;
            // Cut within a character of four bytes, with empty fragments before, between and after.
            let whole = ping_text("message_😀");
            let cut = whole.find('😀').expect("it is there") + 2;
            let (head, tail) = whole.as_bytes().split_at(cut);
            let frames = [
                RawFrame::text("").not_final(),
                RawFrame::continuation(head).not_final(),
                RawFrame::continuation("").not_final(),
                RawFrame::continuation(tail).not_final(),
                RawFrame::continuation(""),
            ];
            for frame in &frames {
                socket.send(frame).await.expect("open");
            }
            assert_eq!(socket.read_until("pong").await["correlation_id"], "message_😀");
            // One byte at a time, in frames and on TCP.
            let whole = ping_text("message_bytewise");
            let last = whole.len() - 1;
            for (place, byte) in whole.bytes().enumerate() {
                let frame = if place == 0 {
                    RawFrame::text([byte])
                } else {
                    RawFrame::continuation([byte])
                };
                let frame = if place == last { frame } else { frame.not_final() };
                socket.send(&frame).await.expect("open");
            }
            assert_eq!(socket.read_until("pong").await["correlation_id"], "message_bytewise");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mask_of_zeros_and_header_bytes_one_by_one_are_read() {
    TestContext::wire(case!("CON-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut socket = greeted(ctx, &ada).await;
            let plain = RawFrame {
                mask: Some([0; 4]),
                ..RawFrame::text(ping_text("message_plain"))
            };
            socket.send(&plain).await.expect("open");
            assert_eq!(socket.read_until("pong").await["correlation_id"], "message_plain");
            for byte in RawFrame::text(ping_text("message_slow")).to_bytes() {
                socket.write(&[byte]).await.expect("open");
            }
            assert_eq!(socket.read_until("pong").await["correlation_id"], "message_slow");
            let two = [
                RawFrame::text(ping_text("message_one")).to_bytes(),
                RawFrame::text(ping_text("message_two")).to_bytes(),
            ];
            socket.write(&two.concat()).await.expect("open");
            assert_eq!(socket.read_until("pong").await["correlation_id"], "message_one");
            assert_eq!(socket.read_until("pong").await["correlation_id"], "message_two");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_frame_is_answered_with_its_code_and_the_connection_ends() {
    TestContext::wire(case!("CON-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut came = Vec::new();
            let codes = [1000, 1001, 1003, 1007, 1009, 1011, 3000, 3999, 4000, 4999];
            for code in codes {
                let mut socket = greeted(ctx, &ada).await;
                socket
                    .send(&RawFrame::close(code, "goodbye".as_bytes()))
                    .await
                    .expect("open");
                let answer = read_to_close(&mut socket).await.and_then(|frame| frame.close_code());
                came.push((answer, socket.ends_within(PATIENCE).await));
            }
            let expected: Vec<(Option<u16>, bool)> = codes.into_iter().map(|code| (Some(code), true)).collect();
            assert_eq!(came, expected);
            let mut socket = greeted(ctx, &ada).await;
            socket.send(&RawFrame::new(8, "")).await.expect("open");
            let answer = read_to_close(&mut socket).await.expect("a close frame");
            assert!(
                matches!(answer.close_code(), None | Some(1000)),
                "an empty close frame is answered by one without a fault, not {answer:?}"
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_target_never_masks_fragments_or_compresses_its_frames() {
    TestContext::wire(case!("CON-1", "CON-5"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut socket = ctx.raw().await;
            let options = ada
                .options()
                .with_header("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits");
            let head = socket.upgrade(&options).await;
            let negotiated = head.header("sec-websocket-extensions").map(str::to_owned);
            if let Some(negotiated) = negotiated {
                assert!(negotiated.starts_with("permessage-deflate"), "negotiated {negotiated}");
                return;
            }
            for _ in 0..2 {
                let frame = socket.read_frame().await.expect("the greeting");
                let shape = (frame.is_final, frame.reserved, frame.opcode, frame.is_masked);
                assert_eq!(shape, (true, 0, 1, false), "{}", frame.text());
            }
        })
        .await;
}
