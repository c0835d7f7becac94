//! Throws bytes that are nearly right at a decoder: a corpus of real ones, broken in the ways in
//! which bytes break. Used by `tests/fuzz` and, for decoders that nobody outside sees, by the
//! tests of `api`.
//!
//! | variable | what |
//! |---|---|
//! | `MAINSTAY_FUZZ_SECONDS` | how long each target is fed; [`SECONDS`] when nobody says |
//! | `MAINSTAY_FUZZ_SEED` | another order of mutations |

use std::{
    fs,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// How long a target is fed when nobody says: enough to notice what broke altogether.
const SECONDS: u64 = 2;

/// Longest input. A decoder's own bound may be higher; what grows faster than its input shows here.
const BYTES_MAX: usize = 64 << 10;

/// Processor time that one input may take, unoptimised. Linear work over 64 KiB takes milliseconds.
const ONE_INPUT_MAX: Duration = Duration::from_secs(2);

/// By how much one target may raise the peak of the process's memory, others at work beside it.
const MEMORY_BYTES_MAX: u64 = 1 << 30;

/// After how many inputs the peak of memory is looked at.
const LOOK: u64 = 512;

/// Bytes that mean something to one format or another.
const WORDS: [&[u8]; 24] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b":",
    b",",
    b"null",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"\x00",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"&a *a",
    b"!!",
    b"~1",
    b"/-",
    b"$patch",
    b"k:{\"name\":\"a\"}",
    b"()",
];

/// Prints the input that a panic came from.
struct Told<'a>(&'a str, &'a [u8]);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: broken by {:?}", self.0, String::from_utf8_lossy(self.1));
            eprintln!("in hexadecimal: {}", self.1.iter().map(hex).collect::<String>());
        }
    }
}

fn hex(byte: &u8) -> String {
    format!("{byte:02x}")
}

/// Feeds `decode` the corpus, and then what becomes of it, until the time is over. A panic, an
/// input that takes too long and memory that grows fail the test.
pub(crate) fn feed(name: &str, corpus: &[Vec<u8>], mut decode: impl FnMut(&[u8])) {
    assert!(!corpus.is_empty(), "{name}: nothing to begin with");
    let seconds = number("MAINSTAY_FUZZ_SECONDS").unwrap_or(SECONDS);
    let mut random = StdRng::seed_from_u64(number("MAINSTAY_FUZZ_SEED").unwrap_or_default());
    let (begun, peak) = (Instant::now(), peak_memory());
    let mut count = 0;
    let mut one = |input: &[u8]| {
        let (_told, before) = (Told(name, input), processor_time());
        decode(input);
        let took = processor_time().saturating_sub(before);
        assert!(took < ONE_INPUT_MAX, "{} bytes took {took:?}", input.len());
        if count % LOOK == 0 {
            let more = peak_memory().saturating_sub(peak);
            assert!(more < MEMORY_BYTES_MAX, "{more} bytes of memory more than before");
        }
        count += 1;
    };
    corpus.iter().for_each(|input| one(input));
    while begun.elapsed() < Duration::from_secs(seconds) {
        let mut input = corpus.choose(&mut random).cloned().unwrap_or_default();
        for _ in 0..random.random_range(1..6) {
            mutate(&mut input, corpus, &mut random);
        }
        input.truncate(BYTES_MAX);
        one(&input);
    }
    eprintln!("{name}: {count} inputs in {} s", begun.elapsed().as_secs());
}

fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut StdRng) {
    let (from, to) = range(input.len(), random);
    let at = random.random_range(0..=input.len());
    match random.random_range(0..10) {
        0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (at % 8)),
        1 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.random()),
        2 => input.truncate(at),
        3 => drop(input.drain(from..to)),
        4 => {
            let part = input[from..to].to_vec();
            input.splice(at..at, part);
        }
        // The same again and again: what nests, and what is counted.
        5 => {
            let part = input[from..to.min(from + 64)].to_vec();
            let times = random.random_range(2..400);
            input.splice(at..at, part.repeat(times));
        }
        6 | 7 => {
            let word = WORDS.choose(random).copied().unwrap_or_default();
            input.splice(at..at, word.iter().copied());
        }
        8 => {
            let other = corpus.choose(random).cloned().unwrap_or_default();
            let (from, to) = range(other.len(), random);
            input.splice(at..at, other[from..to].iter().copied());
        }
        // One number for another.
        _ => input.iter_mut().filter(|byte| byte.is_ascii_digit()).for_each(|byte| {
            if random.random_ratio(1, 4) {
                *byte = random.random_range(b'0'..=b'9');
            }
        }),
    }
}

fn range(length: usize, random: &mut StdRng) -> (usize, usize) {
    let (a, b) = (random.random_range(0..=length), random.random_range(0..=length));
    (a.min(b), a.max(b))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// What this thread has had of a processor.
fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// The most memory that this process has had.
fn peak_memory() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}
