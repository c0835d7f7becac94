use expect_test::{Expect, expect};
use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

use super::{decode::CONTROL_BYTES_MAX, dictionary::dictionary, *};

/// What moby/spdystream, on which kubectl is built, sent: the streams `error`, `stdin` and
/// `stdout`, input, its end.
const RECORDED: [&str; 5] = [
    "80030001000000290000000100000000000078f9e3c6a7c26260606004a7b392a2d4c45c6851c29a0a0a6800000000ffff",
    "800300010000001700000003000000000000c22e555c92929907000000ffff",
    "800300010000001900000005000000000000c22ac5565c92925f5a02000000ffff",
    "000000030000000668656c6c6f0a",
    "0000000301000000",
];

fn hex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn recorded() -> Vec<u8> {
    RECORDED.iter().flat_map(|part| hex(part)).collect()
}

fn told(events: &[Event]) -> String {
    let line = |event: &Event| match event {
        Event::Opened { stream, headers } => format!("{} opened {headers:?}\n", stream.0),
        Event::Refused(stream) => format!("{} refused\n", stream.0),
        Event::Data { stream, bytes } => {
            format!("{} data {:?}\n", stream.0, String::from_utf8_lossy(bytes))
        }
        Event::Finished(stream) => format!("{} finished\n", stream.0),
        Event::Reset(stream) => format!("{} reset\n", stream.0),
        Event::Ping(number) => format!("ping {number}\n"),
        Event::GoAway => "go away\n".to_owned(),
    };
    events.iter().map(line).collect()
}

fn check(bytes: &[u8], expected: Expect) {
    let mut decoder = Decoder::default();
    let text = match decoder.receive(bytes) {
        Ok(events) => told(&events),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&text);
}

/// A control frame of a client.
fn control(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[0x80, 3, 0, kind, flags], &length[1..], body].concat()
}

fn open(number: u32, packed: &[u8]) -> Vec<u8> {
    control(1, 0, &[&number.to_be_bytes()[..], &[0; 6], packed].concat())
}

/// Headers as a client packs them that has sent none before.
fn pack(text: &[u8]) -> Vec<u8> {
    let mut packer = Compress::new(Compression::best(), true);
    packer.set_dictionary(&dictionary()).unwrap();
    let mut packed = Vec::with_capacity(text.len() + 1024);
    packer.compress_vec(text, &mut packed, FlushCompress::Sync).unwrap();
    packed
}

#[test]
fn a_client_is_understood() {
    check(
        &recorded(),
        expect![[r#"
            1 opened [("streamtype", "error")]
            3 opened [("streamtype", "stdin")]
            5 opened [("streamtype", "stdout")]
            3 data "hello\n"
            3 finished
        "#]],
    );
    let rest = [
        recorded(),
        control(6, 0, &[0, 0, 0, 7]),
        control(6, 0, &[0, 0, 0, 8]),
        control(4, 0, &[0, 0, 0, 0]),
        control(9, 0, &[0, 0, 0, 1, 0, 0, 0, 9]),
        control(3, 0, &[0, 0, 0, 5, 0, 0, 0, 5]),
        // Nothing is heard of a stream that is over.
        hex("000000050000000261620000000301000000"),
        control(7, 0, &[0, 0, 0, 5, 0, 0, 0, 0]),
    ];
    let mut decoder = Decoder::default();
    let events = decoder.receive(&rest.concat()).unwrap();
    expect![[r#"
        ping 7
        5 reset
        go away
    "#]]
    .assert_eq(&told(&events[5..]));
}

#[test]
fn it_does_not_matter_where_the_bytes_are_cut() {
    let whole = told(&Decoder::default().receive(&recorded()).unwrap());
    for size in 1..40 {
        let mut decoder = Decoder::default();
        let parts = recorded();
        let events = parts.chunks(size).flat_map(|part| decoder.receive(part).unwrap());
        // Data comes as it was cut.
        let text = told(&events.collect::<Vec<_>>()).replace("\"\n3 data \"", "");
        assert_eq!(text, whole, "cut every {size} bytes");
    }
}

#[test]
fn what_breaks_the_rules_ends_the_connection() {
    let empty = pack(&[0; 4]);
    check(&hex("8002000100000000"), expect!["SPDY version 2 is not spoken here, only 3.1"]);
    check(&hex("80030001ffffffff"), expect!["a frame of type 1 is too large"]);
    check(&open(1, &pack(&vec![0; 100_000])), expect!["a frame of type 1 is too large"]);
    check(&open(1, b"nonsense"), expect!["a frame of type 1 is broken"]);
    check(&open(1, &pack(&[255; 8])), expect!["a frame of type 1 is broken"]);
    check(&control(3, 0, &[0]), expect!["a frame of type 3 is broken"]);
    check(&open(2, &empty), expect!["stream 2 cannot be opened"]);
    check(&open(0, &empty), expect!["stream 0 cannot be opened"]);
    let again = [open(1, &empty), hex(RECORDED[0])].concat();
    check(&again, expect!["a frame of type 1 is broken"]);
}

#[test]
fn streams_are_counted() {
    // One packer through the whole connection, as a client has.
    let mut packer = Compress::new(Compression::best(), true);
    packer.set_dictionary(&dictionary()).unwrap();
    let mut decoder = Decoder::default();
    let mut last = Vec::new();
    for n in 0..=u32::try_from(decode::STREAMS_MAX).unwrap() {
        let mut packed = Vec::with_capacity(256);
        packer.compress_vec(&[0; 4], &mut packed, FlushCompress::Sync).unwrap();
        last = decoder.receive(&open(2 * n + 1, &packed)).unwrap();
    }
    assert_eq!(told(&last), "2049 refused\n");
    decoder.forget(StreamId(1));
    let mut packed = Vec::with_capacity(256);
    packer.compress_vec(&[0; 4], &mut packed, FlushCompress::Sync).unwrap();
    let events = decoder.receive(&open(2051, &packed)).unwrap();
    assert_eq!(told(&events), "2051 opened []\n");
}

#[test]
fn answers_are_what_a_client_reads() {
    let mut encoder = Encoder::default();
    let stream = StreamId(3);
    let first = encoder.reply(stream);
    assert_eq!(first[..4], [0x80, 3, 0, 2]);
    assert_eq!(first[8..12], [0, 0, 0, 3]);
    // The head of zlib and the name of the dictionary, once.
    assert_eq!(first[13..18], [0xf9, 0xe3, 0xc6, 0xa7, 0xc2]);
    let mut headers = flate2::Decompress::new(true);
    let mut out = Vec::with_capacity(64);
    let asks = headers.decompress_vec(&first[12..], &mut out, flate2::FlushDecompress::Sync);
    assert!(asks.unwrap_err().needs_dictionary().is_some());
    headers.set_dictionary(&dictionary()).unwrap();
    headers.decompress_vec(&first[18..], &mut out, flate2::FlushDecompress::Sync).unwrap();
    let second = encoder.reply(stream);
    headers.decompress_vec(&second[12..], &mut out, flate2::FlushDecompress::Sync).unwrap();
    assert_eq!(out, [0; 8], "two replies without headers");
    assert_eq!(encoder.data(stream, b"hello\n"), hex(RECORDED[3]));
    assert_eq!(encoder.finish(stream), hex(RECORDED[4]));
    assert_eq!(encoder.pong(7), control(6, 0, &[0, 0, 0, 7]));
    let reset = encoder.reset(stream, Reset::Refused);
    assert_eq!(reset, control(3, 0, &[0, 0, 0, 3, 0, 0, 0, 3]));
    let large = encoder.data(stream, &vec![7; 100_000]);
    let opened = [open(3, &pack(&[0; 4])), large].concat();
    let events = Decoder::default().receive(&opened).unwrap();
    let lengths = events.iter().filter_map(|event| match event {
        Event::Data { bytes, .. } => Some(bytes.len()),
        _ => None,
    });
    assert_eq!(lengths.collect::<Vec<_>>(), [65_536, 34_464]);
}

proptest! {
    #[test]
    fn no_bytes_break_it_and_it_keeps_little(
        begun in 0..4usize,
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..32),
    ) {
        let mut decoder = Decoder::default();
        for part in &RECORDED[..begun] {
            decoder.receive(&hex(part)).unwrap();
        }
        for part in parts {
            // A head of a control frame now and then gets further than chance would.
            let part = match part.first() {
                Some(n) if n % 2 == 0 => control(n / 2 % 10, n % 4, &part),
                _ => part,
            };
            let Ok(events) = decoder.receive(&part) else { break };
            let data = events.iter().map(|event| match event {
                Event::Data { bytes, .. } => bytes.len(),
                _ => 0,
            });
            prop_assert!(data.sum::<usize>() <= part.len());
            prop_assert!(decoder.held() <= CONTROL_BYTES_MAX + HEAD_BYTES);
        }
    }

    #[test]
    fn headers_of_all_kinds_go_through(
        pairs in prop::collection::vec(("[a-z:-]{1,20}", "[ -~]{0,40}"), 0..20),
    ) {
        let string = |text: &str| {
            [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
        };
        let count = u32::try_from(pairs.len()).unwrap().to_be_bytes().to_vec();
        let each = pairs.iter().flat_map(|(name, value)| [string(name), string(value)]);
        let text = [count].into_iter().chain(each).collect::<Vec<_>>().concat();
        let events = Decoder::default().receive(&open(1, &pack(&text))).unwrap();
        prop_assert_eq!(events, [Event::Opened { stream: StreamId(1), headers: pairs }]);
    }
}
