//! Each kind, each direction, the seed and the guard, over real sockets.

use std::io;
use std::time::{Duration, Instant};

use pretty_assertions::assert_eq;
use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Direction, Fault, FaultProxy};
use crate::raw::RawFrame;

kingsguard_report::covers!("KIT-8");

/// Far above what loopback takes, far below what a test may take.
const SOON: Duration = Duration::from_secs(10);

/// Long enough to see that nothing comes.
const A_WHILE: Duration = Duration::from_millis(150);

const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n";
const ACCEPTED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

/// A proxy with one connection through it, both of its ends in the test's hand.
struct Line {
    proxy: FaultProxy,
    upstream: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

impl Line {
    async fn of_bytes(seed: u64) -> Self {
        let upstream = listener().await;
        let proxy = FaultProxy::before_bytes(&authority(&upstream), seed).await;
        Self::through(proxy, upstream).await
    }

    /// An upgraded one.
    async fn of_frames(seed: u64) -> Self {
        let upstream = listener().await;
        let proxy = FaultProxy::before_websocket(&authority(&upstream), seed).await;
        let mut line = Self::through(proxy, upstream).await;
        line.client.write_all(UPGRADE).await.expect("open");
        assert_eq!(read(&mut line.server, UPGRADE.len()).await, UPGRADE);
        line.server.write_all(ACCEPTED).await.expect("open");
        assert_eq!(read(&mut line.client, ACCEPTED.len()).await, ACCEPTED);
        line
    }

    async fn through(proxy: FaultProxy, upstream: TcpListener) -> Self {
        let client = TcpStream::connect(proxy.address()).await.expect("the proxy listens");
        let (server, _) = upstream.accept().await.expect("the proxy connects");
        Self {
            proxy,
            upstream,
            client,
            server,
        }
    }

    /// The ends by direction: who sends, who receives.
    fn ends(&mut self, way: Direction) -> (&mut TcpStream, &mut TcpStream) {
        match way {
            Direction::ToUpstream => (&mut self.client, &mut self.server),
            Direction::ToClient | Direction::Both => (&mut self.server, &mut self.client),
        }
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a port")
}

fn authority(listener: &TcpListener) -> String {
    listener.local_addr().expect("it is bound").to_string()
}

async fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut came = vec![0; bytes];
    match tokio::time::timeout(SOON, stream.read_exact(&mut came)).await {
        Ok(Ok(_)) => came,
        Ok(Err(error)) => panic!("reading {bytes} bytes: {error}"),
        Err(_) => panic!("{bytes} bytes did not come within {} s", SOON.as_secs()),
    }
}

/// Everything until the connection's end, and how that looks.
async fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
    let mut came = Vec::new();
    match tokio::time::timeout(SOON, stream.read_to_end(&mut came)).await {
        Ok(result) => (came, result.map(drop)),
        Err(_) => panic!("no end within {} s", SOON.as_secs()),
    }
}

async fn stays_silent(stream: &mut TcpStream) {
    let mut byte = [0];
    let read = tokio::time::timeout(A_WHILE, stream.read(&mut byte)).await;
    assert!(read.is_err(), "expected silence, but {read:?}");
}

fn is_reset(result: &io::Result<()>) -> bool {
    result
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

/// A server's text frame, or a client's.
fn frame(way: Direction, text: &str) -> Vec<u8> {
    let frame = RawFrame::text(text);
    match way {
        Direction::ToUpstream => frame.to_bytes(),
        Direction::ToClient | Direction::Both => frame.unmasked().to_bytes(),
    }
}

const NUMBERS: usize = 40;

/// Sends two-digit numbers as frames and says which arrive, in order; the last frame is a ping, which nothing touches.
async fn numbers_that_arrive(line: &mut Line, way: Direction) -> Vec<usize> {
    let (sender, receiver) = line.ends(way);
    let width = frame(way, "00").len();
    for number in 0..NUMBERS {
        sender
            .write_all(&frame(way, &format!("{number:02}")))
            .await
            .expect("open");
    }
    let mut arrived = Vec::new();
    let ping = RawFrame {
        mask: (way == Direction::ToUpstream).then_some([0; 4]),
        ..RawFrame::new(9, *b"zz")
    };
    sender.write_all(&ping.to_bytes()).await.expect("open");
    loop {
        let bytes = read(receiver, width).await;
        if bytes[0] & 15 == 9 {
            return arrived;
        }
        let payload: Vec<u8> = if way == Direction::ToUpstream {
            let (mask, payload) = bytes[2..].split_at(4);
            payload.iter().zip(mask).map(|(byte, key)| byte ^ key).collect()
        } else {
            bytes[2..].to_vec()
        };
        let text = String::from_utf8(payload).expect("digits");
        arrived.push(text.parse().expect("digits"));
    }
}

#[tokio::test]
async fn without_a_fault_bytes_and_ends_pass_both_ways() {
    let mut line = Line::of_bytes(1).await;
    line.client.write_all(b"there").await.expect("open");
    assert_eq!(read(&mut line.server, 5).await, b"there");
    line.server.write_all(b"back").await.expect("open");
    assert_eq!(read(&mut line.client, 4).await, b"back");
    line.client.shutdown().await.expect("open");
    assert_eq!(read_to_end(&mut line.server).await.0, b"");
    line.server.write_all(b"a last word").await.expect("half of it is open");
    drop(line.server);
    assert_eq!(read_to_end(&mut line.client).await.0, b"a last word");
}

#[tokio::test]
async fn a_large_message_passes_whole_through_frames_with_faults_that_do_nothing() {
    let mut line = Line::of_frames(1).await;
    let _never = line.proxy.inject(Fault::drop(0.0));
    for bytes in [0, 125, 126, 65_535, 65_536, 9 * 1024 * 1024] {
        let sent = RawFrame::new(2, vec![7; bytes]).unmasked().to_bytes();
        let (mut receiving, mut sending) = (line.client, line.server);
        let expected = sent.clone();
        let sender = tokio::spawn(async move {
            sending.write_all(&sent).await.expect("open");
            sending
        });
        assert!(read(&mut receiving, expected.len()).await == expected, "{bytes} bytes");
        (line.client, line.server) = (receiving, sender.await.expect("it sent"));
    }
}

#[rstest]
#[case(Direction::ToUpstream)]
#[case(Direction::ToClient)]
#[tokio::test]
async fn latency_delays_its_direction_and_keeps_the_order(#[case] way: Direction) {
    let mut line = Line::of_frames(2).await;
    let latency = Fault::latency(Duration::from_millis(60)).with_jitter(Duration::from_millis(20));
    let guard = line.proxy.inject(latency.with_direction(way));
    let sent = Instant::now();
    assert_eq!(
        numbers_that_arrive(&mut line, way).await,
        (0..NUMBERS).collect::<Vec<_>>()
    );
    assert!(sent.elapsed() >= Duration::from_millis(40), "{:?}", sent.elapsed());
    assert_eq!(guard.happened(), NUMBERS as u64 + 1, "each frame");

    let other = if way == Direction::ToClient {
        Direction::ToUpstream
    } else {
        Direction::ToClient
    };
    numbers_that_arrive(&mut line, other).await;
    assert_eq!(guard.lift(), NUMBERS as u64 + 1, "none of the other direction");
}

#[tokio::test]
async fn bandwidth_lets_so_many_bytes_pass_in_a_second() {
    let mut line = Line::of_bytes(3).await;
    let guard = line.proxy.inject(Fault::bandwidth(100_000));
    let began = Instant::now();
    line.client.write_all(&[1; 30_000]).await.expect("open");
    read(&mut line.server, 30_000).await;
    assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
    assert!(guard.lift() >= 1);
    line.client.write_all(&[1; 1_000_000]).await.expect("open");
    read(&mut line.server, 1_000_000).await;
}

#[tokio::test]
async fn a_narrow_link_is_felt_by_its_sender() {
    let mut line = Line::of_bytes(3).await;
    let _guard = line.proxy.inject(Fault::bandwidth(1_000));
    let mut taken = 0usize;
    let piece = [0; 65_536];
    while let Ok(Ok(written)) = tokio::time::timeout(A_WHILE, line.server.write(&piece)).await {
        taken += written;
    }
    assert!(taken < 8 * 1024 * 1024, "{taken} bytes were taken");
}

#[tokio::test]
async fn slices_arrive_in_pieces() {
    let mut line = Line::of_bytes(4).await;
    let guard = line.proxy.inject(Fault::slice(3, Duration::from_millis(2)));
    line.client.write_all(b"twelve bytes").await.expect("open");
    let mut came = Vec::new();
    let mut reads = 0;
    while came.len() < 12 {
        line.server.read_buf(&mut came).await.expect("open");
        reads += 1;
    }
    assert_eq!(came, b"twelve bytes");
    assert!(reads > 1, "it came at once");
    assert_eq!(guard.lift(), 1);
}

#[rstest]
#[case(Direction::ToUpstream)]
#[case(Direction::ToClient)]
#[tokio::test]
async fn a_drop_swallows_frames_of_its_direction_and_counts_them(#[case] way: Direction) {
    let mut line = Line::of_frames(5).await;
    let guard = line.proxy.inject(Fault::drop(0.45).with_direction(way));
    let arrived = numbers_that_arrive(&mut line, way).await;
    assert!(arrived.is_sorted() && arrived.len() < NUMBERS, "{arrived:?}");
    assert_eq!(guard.lift(), (NUMBERS - arrived.len()) as u64);
    assert_eq!(
        numbers_that_arrive(&mut line, way).await.len(),
        NUMBERS,
        "a lifted fault does nothing"
    );
}

#[tokio::test]
async fn a_duplicate_arrives_twice_in_its_place() {
    let mut line = Line::of_frames(6).await;
    let guard = line.proxy.inject(Fault::duplicate(0.3));
    let arrived = numbers_that_arrive(&mut line, Direction::ToClient).await;
    assert!(arrived.is_sorted(), "{arrived:?}");
    let repeated = guard.lift();
    assert!(repeated > 0);
    assert_eq!(arrived.len() as u64, NUMBERS as u64 + repeated);
}

#[tokio::test]
async fn a_reordered_frame_arrives_after_its_follower() {
    let mut line = Line::of_frames(7).await;
    let guard = line.proxy.inject(Fault::reorder(0.3));
    let arrived = numbers_that_arrive(&mut line, Direction::ToClient).await;
    let swapped = arrived.windows(2).filter(|pair| pair[0] > pair[1]).count() as u64;
    assert!(swapped > 0, "{arrived:?}");
    assert_eq!(guard.lift(), swapped);
    let mut sorted = arrived.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..NUMBERS).collect::<Vec<_>>(), "nothing is lost");
}

#[tokio::test]
async fn a_frame_without_a_follower_passes_and_is_not_counted_as_reordered() {
    let mut line = Line::of_frames(7).await;
    let guard = line.proxy.inject(Fault::reorder(1.0));
    let sent = frame(Direction::ToClient, "00");
    line.server.write_all(&sent).await.expect("open");
    assert_eq!(read(&mut line.client, sent.len()).await, sent);
    assert_eq!(guard.lift(), 0);
}

#[rstest]
#[case(Direction::ToUpstream)]
#[case(Direction::ToClient)]
#[tokio::test]
async fn a_corrupt_frame_is_one_that_its_receiver_must_notice(#[case] way: Direction) {
    let mut line = Line::of_frames(8).await;
    let guard = line.proxy.inject(Fault::corrupt(1.0).with_direction(way));
    let sent = frame(way, "hello");
    let (mut reserved, mut no_text) = (0, 0);
    for _ in 0..20 {
        let (sender, receiver) = line.ends(way);
        sender.write_all(&sent).await.expect("open");
        let came = read(receiver, sent.len()).await;
        let payload: Vec<u8> = if way == Direction::ToUpstream {
            let (mask, payload) = came[2..].split_at(4);
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, key)| byte ^ key)
                .collect()
        } else {
            came[2..].to_vec()
        };
        match (came[0] & 0x70, String::from_utf8(payload)) {
            (0x10, Ok(text)) if text == "hello" => reserved += 1,
            (0, Err(_)) => no_text += 1,
            other => panic!("a receiver need not notice {other:?}"),
        }
    }
    assert!(reserved > 0 && no_text > 0, "{reserved} and {no_text}");
    assert_eq!(guard.lift(), 20);
}

#[tokio::test]
async fn corrupt_bytes_differ_by_one_bit() {
    let mut line = Line::of_bytes(9).await;
    let guard = line.proxy.inject(Fault::corrupt(1.0));
    line.client.write_all(b"hello").await.expect("open");
    let came = read(&mut line.server, 5).await;
    let bits: u32 = came
        .iter()
        .zip(b"hello")
        .map(|(came, sent)| (came ^ sent).count_ones())
        .sum();
    assert_eq!((bits, guard.lift()), (1, 1));
}

#[tokio::test]
async fn a_cut_resets_the_connection_in_place_of_a_unit() {
    let mut line = Line::of_bytes(10).await;
    let guard = line.proxy.inject(Fault::cut(1.0).with_direction(Direction::ToUpstream));
    line.server.write_all(b"back").await.expect("open");
    assert_eq!(read(&mut line.client, 4).await, b"back", "the other direction passes");
    line.client.write_all(b"there").await.expect("open");
    for end in [&mut line.client, &mut line.server] {
        let (came, end) = read_to_end(end).await;
        assert!(came.is_empty() && is_reset(&end), "{came:?} {end:?}");
    }
    assert_eq!(guard.lift(), 1);
}

#[tokio::test]
async fn bytes_that_are_dropped_are_the_end_of_their_connection() {
    let mut line = Line::of_bytes(11).await;
    let guard = line.proxy.inject(Fault::drop(1.0));
    line.client.write_all(b"there").await.expect("open");
    assert!(is_reset(&read_to_end(&mut line.client).await.1));
    assert_eq!(guard.lift(), 1);
}

#[tokio::test]
async fn a_half_open_connection_is_silent_until_it_is_reset_at_the_fault_s_end() {
    let mut line = Line::of_bytes(12).await;
    let guard = line
        .proxy
        .inject(Fault::half_open().with_direction(Direction::ToClient));
    guard.until_happened(1).await;
    line.client.write_all(b"there").await.expect("open");
    assert_eq!(read(&mut line.server, 5).await, b"there", "the other direction passes");
    line.server.write_all(b"lost").await.expect("open");
    drop(line.server);
    stays_silent(&mut line.client).await;
    assert_eq!(guard.lift(), 1);
    let (came, end) = read_to_end(&mut line.client).await;
    assert!(came.is_empty() && is_reset(&end), "{came:?} {end:?}");
}

#[tokio::test]
async fn a_reset_with_a_direction_is_a_plain_end_for_the_other_side() {
    let mut line = Line::of_bytes(13).await;
    let guard = line.proxy.inject(Fault::reset().with_direction(Direction::ToClient));
    assert!(is_reset(&read_to_end(&mut line.client).await.1));
    assert!(read_to_end(&mut line.server).await.1.is_ok());
    assert_eq!(guard.lift(), 1);
}

#[tokio::test]
async fn a_partition_ends_connections_and_closes_new_ones_until_its_repair() {
    let mut line = Line::of_bytes(14).await;
    let guard = line.proxy.inject(Fault::partition());
    assert_eq!(read_to_end(&mut line.client).await.0, b"");
    assert_eq!(read_to_end(&mut line.server).await.0, b"");
    let mut refused = TcpStream::connect(line.proxy.address()).await.expect("it listens");
    assert_eq!(read_to_end(&mut refused).await.0, b"");
    assert_eq!(guard.lift(), 2);
    let mut line = Line::through(line.proxy, line.upstream).await;
    line.client.write_all(b"again").await.expect("open");
    assert_eq!(read(&mut line.server, 5).await, b"again");
}

#[tokio::test]
async fn what_is_held_arrives_at_the_release_in_order() {
    let mut line = Line::of_frames(15).await;
    let guard = line.proxy.inject(Fault::hold().with_direction(Direction::ToClient));
    let sent = frame(Direction::ToClient, "held");
    line.server.write_all(&sent).await.expect("open");
    stays_silent(&mut line.client).await;
    guard.until_happened(1).await;
    guard.lift();
    assert_eq!(read(&mut line.client, sent.len()).await, sent);
}

#[tokio::test]
async fn a_dropped_guard_ends_its_fault_and_no_other() {
    let mut line = Line::of_frames(16).await;
    let kept = line.proxy.inject(Fault::duplicate(1.0));
    drop(line.proxy.inject(Fault::drop(1.0)));
    assert_eq!(
        numbers_that_arrive(&mut line, Direction::ToClient).await.len(),
        2 * NUMBERS
    );
    assert_eq!(kept.happened(), NUMBERS as u64);
}

#[tokio::test]
async fn the_same_seed_makes_the_same_decisions_and_another_makes_others() {
    let mut outcomes = Vec::new();
    for seed in [17, 17, 18] {
        let mut line = Line::of_frames(seed).await;
        let _drop = line.proxy.inject(Fault::drop(0.3));
        let _duplicate = line.proxy.inject(Fault::duplicate(0.3));
        let there = numbers_that_arrive(&mut line, Direction::ToUpstream).await;
        let back = numbers_that_arrive(&mut line, Direction::ToClient).await;
        assert_ne!(there, back, "each direction has decisions of its own");
        outcomes.push((there, back));
    }
    assert_eq!(outcomes[0], outcomes[1]);
    assert_ne!(outcomes[0], outcomes[2]);
}

#[tokio::test]
async fn an_upstream_that_is_away_is_a_plain_end_and_the_proxy_finds_it_again() {
    let Line {
        proxy,
        upstream,
        client,
        server,
    } = Line::of_bytes(19).await;
    let address = upstream.local_addr().expect("it is bound");
    drop((upstream, client, server));
    for _ in 0..3 {
        let mut closed = TcpStream::connect(proxy.address()).await.expect("it listens");
        assert_eq!(read_to_end(&mut closed).await.0, b"");
    }
    let upstream = TcpListener::bind(address).await.expect("the port is free again");
    let line = Line::through(proxy, upstream).await;

    let elsewhere = listener().await;
    line.proxy.set_upstream(&authority(&elsewhere));
    let mut moved = Line::through(line.proxy, elsewhere).await;
    moved.client.write_all(b"moved").await.expect("open");
    assert_eq!(read(&mut moved.server, 5).await, b"moved");
}

#[tokio::test]
async fn a_url_leads_through_the_proxy_with_all_else_as_it_was() {
    let proxy = FaultProxy::before_bytes("127.0.0.1:9", 20).await;
    let own = proxy.address();
    for (url, expected) in [
        (
            "postgres://u:p@h:1/d?sslmode=disable",
            format!("postgres://u:p@{own}/d?sslmode=disable"),
        ),
        ("redis://h:1/", format!("redis://{own}/")),
        ("http://h", format!("http://{own}")),
    ] {
        assert_eq!(proxy.lead(url), expected);
    }
}

#[tokio::test]
#[should_panic(expected = "TCP neither swaps nor repeats its bytes")]
async fn faults_of_frames_are_refused_on_bytes() {
    let proxy = FaultProxy::before_bytes("127.0.0.1:9", 21).await;
    let _refused = proxy.inject(Fault::duplicate(0.1));
}

#[test]
#[should_panic(expected = "a partition has no direction")]
fn a_partition_with_a_direction_is_refused() {
    let _refused = Fault::partition().with_direction(Direction::ToClient);
}
