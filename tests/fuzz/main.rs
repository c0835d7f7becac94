//! Decoders of what arrives on streams, and of selectors, fed with broken bytes. Those of bodies,
//! patches and tokens stand beside them, in `api`. `MAINSTAY_FUZZ_SECONDS=60` takes longer.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test of a shell")]

mod engine;

use engine::feed;
use mainstay::{
    model::{Labels, Quantity, Selector},
    node::streams::{
        Sizes,
        channels::{Commands, Packing, Ports},
        multiplex::{Frames, Source},
        spdy::{Decoder, Encoder, Event},
    },
    render::{FileObject, render_file},
    seal::Keyring,
};
use serde_json::Value;

/// What moby/spdystream sent for an exec: its streams, input, its end; then a ping and the rest.
const SPDY: [&str; 9] = [
    "80030001000000290000000100000000000078f9e3c6a7c26260606004a7b392a2d4c45c6851c29a0a0a6800000000ffff",
    "800300010000001700000003000000000000c22e555c92929907000000ffff",
    "800300010000001900000005000000000000c22ac5565c92925f5a02000000ffff",
    "000000030000000668656c6c6f0a",
    "0000000301000000",
    "800300060000000400000007",
    "80030004000000040000000000000000",
    "800300030000000800000005000000050000",
    "80030007000000080000000500000000",
];

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn spdy_frames() {
    let whole: Vec<u8> = SPDY.iter().flat_map(|part| bytes(part)).collect();
    let corpus = [vec![whole], SPDY.iter().map(|part| bytes(part)).collect()].concat();
    feed("spdy", &corpus, |input| {
        let events = Decoder::default().receive(input);
        // Cut anywhere, it is the same: the same streams, and the same error in the end.
        let mut cut = Decoder::default();
        let parts: Result<Vec<Vec<Event>>, _> =
            input.chunks(input.len() / 3 + 1).map(|part| cut.receive(part)).collect();
        match (events, parts) {
            (Ok(events), Ok(parts)) => assert_eq!(opened(&events), opened(&parts.concat())),
            (Err(error), Err(other)) => assert_eq!(error, other),
            (one, other) => panic!("whole {one:?}, cut {other:?}"),
        }
    });
}

fn opened(events: &[Event]) -> Vec<&Event> {
    events.iter().filter(|event| !matches!(event, Event::Data { .. })).collect()
}

/// What is written on a stream that a client opened reads as the same bytes.
#[test]
fn spdy_data_comes_back() {
    let open = bytes(SPDY[0]);
    feed("spdy data", &[vec![], b"hello\n".to_vec(), vec![0; 70_000]], |input| {
        let mut decoder = Decoder::default();
        let events = decoder.receive(&open).unwrap();
        let Some(Event::Opened { stream, .. }) = events.first() else { panic!("{events:?}") };
        let sent = Encoder::default().data(*stream, input);
        let heard: Vec<u8> = decoder
            .receive(&sent)
            .unwrap()
            .into_iter()
            .flat_map(|event| match event {
                Event::Data { bytes, .. } => bytes,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(heard == input, "{} bytes of {}", heard.len(), input.len());
    });
}

const PROTOCOLS: [&str; 4] =
    ["v4.channel.k8s.io", "v5.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io"];

#[test]
fn websocket_channels() {
    let corpus =
        texts(&["\0hello\n", "\x04{\"Width\":97,\"Height\":31}", "0aGVsbG8K", "4e30K", "\u{ff}\0"]);
    feed("channels", &corpus, |input| {
        for protocol in PROTOCOLS {
            let packing = Packing::of(protocol);
            let _heard = Commands::new(packing).receive(input);
            let _sent = Ports::new(packing, vec![80, 443]).receive(input);
            let packed = packing.pack(3, input);
            assert_eq!(packing.unpack(&packed), Ok((3, input.to_vec())), "{protocol}");
        }
    });
}

#[test]
fn docker_frames() {
    let corpus = [
        b"\x01\0\0\0\0\0\0\x03out\x02\0\0\0\0\0\0\x04errr".to_vec(),
        b"\x02\0\0\0\xff\xff\xff\xffx".to_vec(),
    ];
    feed("frames", &corpus, |input| {
        let whole = Frames::default().receive(input).map(|parts| joined(&parts));
        let mut cut = Frames::default();
        let mut parts: Vec<(Source, Vec<u8>)> = Vec::new();
        for piece in input.chunks(7) {
            match cut.receive(piece) {
                Ok(more) => parts.extend(more.iter().map(|(of, bytes)| (*of, bytes.to_vec()))),
                Err(_) => return assert!(whole.is_err()),
            }
        }
        let parts: Vec<(Source, &[u8])> = parts.iter().map(|(of, b)| (*of, &b[..])).collect();
        assert_eq!(whole.unwrap(), joined(&parts));
    });
}

/// The bytes of each source.
fn joined(parts: &[(Source, &[u8])]) -> (Vec<u8>, Vec<u8>) {
    let of = |source: Source| {
        let own = parts.iter().filter(|(of, _)| *of == source);
        own.flat_map(|(_, bytes)| bytes.iter().copied()).collect()
    };
    (of(Source::Stdout), of(Source::Stderr))
}

#[test]
fn sizes_of_terminals() {
    let corpus = texts(&["{\"Width\":97,\"Height\":31}\n", "{\"Width\":0,\"Height\":65536}"]);
    feed("sizes", &corpus, |input| {
        let mut sizes = Sizes::default();
        for part in input.chunks(11) {
            let _size = sizes.receive(part);
        }
    });
}

#[test]
fn label_selectors() {
    let corpus = texts(&[
        "app=web,tier!=back",
        "environment in (production, qa),!canary",
        "tier notin (frontend,backend),partition",
        "a==b, c > 1 ,d<2,example.com/key",
    ]);
    let labels: Labels = [("app".to_owned(), "web".to_owned())].into();
    feed("label selectors", &corpus, |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        if let Ok(selector) = Selector::parse(text) {
            let (_one, _none) = (selector.matches(Some(&labels)), selector.matches(None));
            // What was read once reads the same with spaces around it.
            assert_eq!(Selector::parse(&format!(" {text} ")).unwrap(), selector);
        }
    });
}

#[test]
fn quantities() {
    let corpus = texts(&["100m", "1.5Gi", "-2e3", "128974848", "0.1", "1E", "12E-3"]);
    feed("quantities", &corpus, |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let read = Quantity::parse(text).ok();
        // What is beyond that, Kubernetes reads as that.
        let fits = |q: &Quantity| !matches!(q.as_milli(), i64::MIN | i64::MAX);
        if let Some(quantity) = read.filter(fits) {
            let written = quantity.to_string();
            assert_eq!(Quantity::parse(&written).unwrap(), quantity, "{text} as {written}");
        }
    });
}

/// Sealed files: whatever is done to one, no value comes out of it that was not sealed in it.
#[test]
fn sealed_files() {
    let fixture = |name: &str| {
        let path = format!("{}/tests/sealed/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).unwrap()
    };
    let keyring = Keyring::parse(&String::from_utf8(fixture("key.txt")).unwrap()).unwrap();
    let opened = |input: &[u8]| -> Option<Vec<Value>> {
        let result = render_file("a.yaml", input);
        let proven = result.sealed.iter().all(|file| keyring.prove(file).is_empty());
        if result.sealed.is_empty() || !result.problems.is_empty() || !proven {
            return None;
        }
        let open = |found: &FileObject| keyring.open(&found.object).unwrap().value();
        let objects = result.objects.iter().map(open);
        Some(
            objects
                .flat_map(|o| o["data"].as_object().cloned())
                .flatten()
                .map(|(_, v)| v)
                .collect(),
        )
    };
    let corpus = ["secret.yaml", "several.yaml", "secret.json"].map(fixture);
    let known: Vec<Value> = corpus.iter().flat_map(|file| opened(file).unwrap()).collect();
    feed("sealed files", &corpus, |input| {
        for value in opened(input).into_iter().flatten() {
            assert!(known.contains(&value), "{value}");
        }
    });
}
