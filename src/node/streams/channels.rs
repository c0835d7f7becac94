//! Channels in messages of a WebSocket, as Kubernetes speaks them: the first byte names the channel
//! (kubernetes.io/docs/reference/command-line-tools-reference: `channel.k8s.io` subprotocols).

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Ended, Size, Sizes, multiplex::Source};

/// The subprotocols of exec and attach, the best first.
pub const COMMAND_PROTOCOLS: [&str; 5] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];

/// The subprotocols of port-forward in which each port has two channels, the best first.
pub const FORWARD_PROTOCOLS: [&str; 2] = ["v4.channel.k8s.io", "v4.base64.channel.k8s.io"];

/// The subprotocol of port-forward in which the messages carry SPDY.
pub const TUNNEL_PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";

/// Most ports of one port-forward by channels: the channel's number is a byte, and a port has two.
pub const PORTS_MAX: usize = 128;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Version 5: the channel that the next byte names is over.
const CLOSE: u8 = 255;

/// A message that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is empty, so it has no channel.
    #[error("a message without a channel")]
    Empty,
    /// Nothing is read from that channel.
    #[error("channel {0} is not read")]
    Channel(u8),
    /// It is not base64, as was agreed.
    #[error("a message that is not base64")]
    Base64,
}

/// How messages are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    base64: bool,
    /// Ends are told as a `Status`, since version 4.
    status: bool,
    /// Channels can be closed, since version 5.
    close: bool,
}

/// What a client of exec or attach says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Input.
    Input(Vec<u8>),
    /// The input is over.
    InputEnds,
    /// The terminal's size.
    Size(Size),
    /// Nothing that matters.
    Nothing,
}

impl Packing {
    /// Of a subprotocol; of none for a client that asked for none.
    pub fn of(protocol: &str) -> Self {
        Self {
            base64: protocol.contains("base64"),
            status: protocol.starts_with("v4.") || protocol.starts_with("v5."),
            close: protocol.starts_with("v5."),
        }
    }

    /// Whether its messages are text.
    pub fn is_text(self) -> bool {
        self.base64
    }

    /// One message to send.
    pub fn pack(self, channel: u8, bytes: &[u8]) -> Vec<u8> {
        match self.base64 {
            // The channel is its digit here.
            true => format!("{channel}{}", STANDARD.encode(bytes)).into_bytes(),
            false => [&[channel], bytes].concat(),
        }
    }

    /// The channel and bytes of one message.
    pub fn unpack(self, message: &[u8]) -> Result<(u8, Vec<u8>), Error> {
        let (&channel, bytes) = message.split_first().ok_or(Error::Empty)?;
        if !self.base64 {
            return Ok((channel, bytes.to_vec()));
        }
        let bytes = STANDARD.decode(bytes).map_err(|_| Error::Base64)?;
        match channel {
            b'0'..=b'9' => Ok((channel - b'0', bytes)),
            other => Err(Error::Channel(other)),
        }
    }

    /// Output of a command.
    pub fn output(self, source: Source, bytes: &[u8]) -> Vec<u8> {
        let channel = match source {
            Source::Stdout => STDOUT,
            Source::Stderr => STDERR,
        };
        self.pack(channel, bytes)
    }

    /// The end of a command.
    pub fn end(self, ended: &Ended) -> Vec<u8> {
        let text = match self.status {
            true => ended.status().to_string(),
            false => ended.text(),
        };
        self.pack(ERROR, text.as_bytes())
    }
}

/// Reads the messages of a client of exec or attach.
#[derive(Debug)]
pub struct Commands {
    packing: Packing,
    sizes: Sizes,
}

impl Commands {
    /// For one connection.
    pub fn new(packing: Packing) -> Self {
        Self { packing, sizes: Sizes::default() }
    }

    /// What a message says.
    pub fn receive(&mut self, message: &[u8]) -> Result<Said, Error> {
        let (channel, bytes) = self.packing.unpack(message)?;
        Ok(match channel {
            STDIN => Said::Input(bytes),
            RESIZE => self.sizes.receive(&bytes).map_or(Said::Nothing, Said::Size),
            CLOSE if self.packing.close && bytes == [STDIN] => Said::InputEnds,
            CLOSE if self.packing.close => Said::Nothing,
            other => return Err(Error::Channel(other)),
        })
    }
}

/// The channels of a port-forward: each port's data on an even one, its errors on the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    packing: Packing,
    ports: Vec<u16>,
}

impl Ports {
    /// For the ports of a request, at most [`PORTS_MAX`] of them.
    pub fn new(packing: Packing, ports: Vec<u16>) -> Self {
        Self { packing, ports }
    }

    /// What is sent first: every channel says the port it is for.
    pub fn begin(&self) -> Vec<Vec<u8>> {
        let both = |(at, port): (usize, &u16)| {
            [2 * at, 2 * at + 1].map(|channel| self.pack(channel, &port.to_le_bytes()))
        };
        self.ports.iter().enumerate().flat_map(both).collect()
    }

    /// Bytes from the port at a place in the list.
    pub fn data(&self, at: usize, bytes: &[u8]) -> Vec<u8> {
        self.pack(2 * at, bytes)
    }

    /// Why the port at a place in the list is not reached.
    pub fn error(&self, at: usize, why: &str) -> Vec<u8> {
        self.pack(2 * at + 1, why.as_bytes())
    }

    /// The place in the list and the bytes for that port; nothing is read from error channels.
    pub fn receive(&self, message: &[u8]) -> Result<(usize, Vec<u8>), Error> {
        let (channel, bytes) = self.packing.unpack(message)?;
        let at = usize::from(channel / 2);
        match channel % 2 == 0 && at < self.ports.len() {
            true => Ok((at, bytes)),
            false => Err(Error::Channel(channel)),
        }
    }

    fn pack(&self, channel: usize, bytes: &[u8]) -> Vec<u8> {
        self.packing.pack(u8::try_from(channel).unwrap_or(u8::MAX), bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(protocol: &str, message: &[u8]) -> Result<Said, Error> {
        Commands::new(Packing::of(protocol)).receive(message)
    }

    #[test]
    fn input_sizes_and_ends_are_told_apart() {
        assert_eq!(said("v5.channel.k8s.io", b"\0ls\n"), Ok(Said::Input(b"ls\n".to_vec())));
        assert_eq!(said("v5.channel.k8s.io", b"\xff\0"), Ok(Said::InputEnds));
        assert_eq!(said("v5.channel.k8s.io", b"\xff\x01"), Ok(Said::Nothing));
        assert_eq!(said("v4.channel.k8s.io", b"\xff\0"), Err(Error::Channel(255)));
        let size = Ok(Said::Size(Size { width: 80, height: 24 }));
        assert_eq!(said("v4.channel.k8s.io", b"\x04{\"Width\":80,\"Height\":24}\n"), size);
        assert_eq!(said("v4.channel.k8s.io", b"\x01x"), Err(Error::Channel(1)));
        assert_eq!(said("v4.channel.k8s.io", b""), Err(Error::Empty));
        assert_eq!(said("base64.channel.k8s.io", b"0bHMK"), Ok(Said::Input(b"ls\n".to_vec())));
        assert_eq!(said("base64.channel.k8s.io", b"0!"), Err(Error::Base64));
    }

    #[test]
    fn ends_are_told_as_each_version_reads_them() {
        let exit = Ended::Exit(3);
        let v4 = Packing::of("v4.channel.k8s.io").end(&exit);
        assert_eq!(v4[0], 3);
        assert!(v4.ends_with(b"\"status\":\"Failure\"}"), "{}", String::from_utf8_lossy(&v4));
        let old = Packing::of("channel.k8s.io").end(&exit);
        assert_eq!(old, b"\x03command terminated with non-zero exit code: 3");
        let text = Packing::of("v4.base64.channel.k8s.io").output(Source::Stderr, b"ls\n");
        assert_eq!(text, b"2bHMK");
    }

    #[test]
    fn every_port_has_two_channels() {
        let ports = Ports::new(Packing::of("v4.channel.k8s.io"), vec![80, 8080]);
        let begin: [&[u8]; 4] = [b"\0\x50\0", b"\x01\x50\0", b"\x02\x90\x1f", b"\x03\x90\x1f"];
        assert_eq!(ports.begin(), begin);
        assert_eq!(ports.receive(b"\x02hi"), Ok((1, b"hi".to_vec())));
        assert_eq!(ports.receive(b"\x03hi"), Err(Error::Channel(3)));
        assert_eq!(ports.receive(b"\x04hi"), Err(Error::Channel(4)));
        assert_eq!(ports.data(1, b"hi"), b"\x02hi");
        assert_eq!(ports.error(1, "no"), b"\x03no");
    }

    proptest! {
        #[test]
        fn no_message_breaks_it(protocol in 0..COMMAND_PROTOCOLS.len(), message: Vec<u8>) {
            let packing = Packing::of(COMMAND_PROTOCOLS[protocol]);
            let mut commands = Commands::new(packing);
            if let Ok(Said::Input(bytes)) = commands.receive(&message) {
                prop_assert!(bytes.len() < message.len());
            }
            let ports = Ports::new(packing, vec![1, 2]);
            if let Ok((at, _)) = ports.receive(&message) {
                prop_assert!(at < 2);
            }
        }

        #[test]
        fn what_is_packed_is_unpacked(protocol in 0..COMMAND_PROTOCOLS.len(), bytes: Vec<u8>) {
            let packing = Packing::of(COMMAND_PROTOCOLS[protocol]);
            prop_assert_eq!(packing.unpack(&packing.pack(1, &bytes)), Ok((1, bytes)));
        }
    }
}
