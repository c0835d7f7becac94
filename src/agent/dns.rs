//! The name server of a node.
//!
//! In: questions over UDP and TCP, at an address of the node itself, so that no translation stands
//! between a pod and its names. Out: answers from the agent's own copy of the [`Zone`]; other names
//! are asked of the node's own resolvers. It goes on answering when every server is gone.
//! `agent::proxy` swaps the zone.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Header, HeaderCounts, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, CNAME, PTR, SOA, SRV},
    },
};
use hickory_server::{
    Server,
    net::runtime::Time,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
    time::timeout,
};

use crate::node::dns::{Answer, Data, Question, Record as ZoneRecord, TTL_SECONDS, Zone};

/// How long a silent TCP client is kept.
const TCP_IDLE: Duration = Duration::from_secs(10);

/// Answers queued for one TCP client.
const TCP_QUEUE: usize = 32;

/// How long one of the node's resolvers may take; the C library in the pod asks again after 5 s.
const UPSTREAM_DEADLINE: Duration = Duration::from_secs(2);

/// Questions that wait for the node's resolvers at a time; more are told to come back (SERVFAIL).
/// Each holds a socket and a few KiB.
const FORWARDS_MAX: usize = 256;

/// Most bytes of a UDP answer that we take from a resolver and promise to clients (RFC 9715).
const UDP_BYTES_MAX: u16 = 1_232;

/// The name server, until it is dropped.
pub struct Dns {
    server: Server<Handler>,
    zone: watch::Sender<Arc<Zone>>,
    upstreams: watch::Sender<Vec<SocketAddr>>,
    address: SocketAddr,
}

impl Dns {
    /// Starts to answer at an address, both protocols. Port 0 takes a free one (see
    /// [`address`](Self::address)).
    pub async fn start(at: SocketAddr, upstreams: Vec<SocketAddr>) -> io::Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        let socket = UdpSocket::bind(address).await?;
        let (zone, zone_seen) = watch::channel(Arc::default());
        let (upstreams, upstreams_seen) = watch::channel(upstreams);
        let mut server = Server::new(Handler {
            zone: zone_seen,
            upstreams: upstreams_seen,
            forwards: Semaphore::new(FORWARDS_MAX),
        });
        server.register_socket(socket);
        server.register_listener(listener, TCP_IDLE, TCP_QUEUE);
        Ok(Self { server, zone, upstreams, address })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers from this zone from now on; answers that were begun end with the old one.
    pub fn set_zone(&self, zone: Arc<Zone>) {
        self.zone.send_replace(zone);
    }

    /// Asks these resolvers from now on, in this order.
    pub fn set_upstreams(&self, upstreams: Vec<SocketAddr>) {
        self.upstreams.send_replace(upstreams);
    }

    /// Runs until a socket fails; the caller starts another one then.
    pub async fn failed(&mut self) -> String {
        match self.server.block_until_done().await {
            Ok(()) => "the name server ended".to_owned(),
            Err(cause) => format!("the name server ended: {cause}"),
        }
    }
}

struct Handler {
    zone: watch::Receiver<Arc<Zone>>,
    upstreams: watch::Receiver<Vec<SocketAddr>>,
    forwards: Semaphore,
}

/// An answer in the words of the wire.
#[derive(Default)]
struct Reply {
    code: ResponseCode,
    ours: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let reply = self.reply(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.ours;
        metadata.recursion_available = true;
        // The size that the client offered bounds a UDP answer; what does not fit is cut and
        // marked, and the client asks again over TCP.
        let mut edns = Edns::new();
        edns.set_max_payload(request.max_payload().clamp(512, UDP_BYTES_MAX));
        let edns = request.edns.as_ref().map(|_| &edns);
        let builder = MessageResponseBuilder::new(&request.queries, edns);
        let message = builder.build(
            metadata,
            &reply.answers,
            &reply.authorities,
            std::iter::empty(),
            &reply.additionals,
        );
        match response.send_response(message).await {
            Ok(info) => info,
            Err(cause) => {
                tracing::debug!("answer to {}: {cause}", request.src());
                metadata.response_code = ResponseCode::ServFail;
                Header { metadata, counts: HeaderCounts::default() }.into()
            }
        }
    }
}

impl Handler {
    async fn reply(&self, request: &Request) -> Reply {
        let code = |code| Reply { code, ..Reply::default() };
        let asks = request.metadata.op_code == OpCode::Query
            && request.metadata.message_type == MessageType::Query;
        let [query] = request.queries.queries() else { return code(ResponseCode::FormErr) };
        if !asks {
            return code(ResponseCode::NotImp);
        }
        let query = query.original();
        if query.query_class() != DNSClass::IN {
            return code(ResponseCode::Refused);
        }
        let zone = self.zone.borrow().clone();
        self.resolve(&zone, query, request.metadata.id).await
    }

    async fn resolve(&self, zone: &Zone, query: &Query, id: u16) -> Reply {
        match zone.answer(&query.name().to_ascii(), question(query.query_type())) {
            Answer::Elsewhere => self.forward(query).await,
            Answer::Alias(target) => self.follow(zone, query, &target, id).await,
            Answer::NoName => nothing(zone, ResponseCode::NXDomain),
            Answer::NoData => nothing(zone, ResponseCode::NoError),
            Answer::Records { mut answers, additionals } => {
                // Clients take the first address: another one comes first in each answer.
                let turn = usize::from(id) % answers.len().max(1);
                answers.rotate_left(turn);
                Reply {
                    ours: true,
                    answers: answers.iter().filter_map(wire).collect(),
                    additionals: additionals.iter().filter_map(wire).collect(),
                    ..Reply::default()
                }
            }
        }
    }

    /// An ExternalName: the alias, and what its target is. A target that is an alias itself is not
    /// followed again, so a circle of them ends.
    async fn follow(&self, zone: &Zone, query: &Query, target: &str, id: u16) -> Reply {
        let Ok(mut to) = Name::from_ascii(target) else {
            return Reply { code: ResponseCode::ServFail, ..Reply::default() };
        };
        to.set_fqdn(true);
        let data = RData::CNAME(CNAME(to.clone()));
        let alias = Record::from_rdata(query.name().clone(), TTL_SECONDS, data);
        let behind = Query::query(to, query.query_type());
        let mut reply = match zone.answer(target, question(query.query_type())) {
            _ if query.query_type() == RecordType::CNAME => Reply::default(),
            Answer::Elsewhere => self.forward(&behind).await,
            Answer::Records { answers, .. } => {
                Reply { answers: answers.iter().filter_map(wire).collect(), ..Reply::default() }
            }
            Answer::Alias(_) | Answer::NoData => nothing(zone, ResponseCode::NoError),
            Answer::NoName => nothing(zone, ResponseCode::NXDomain),
        };
        tracing::trace!(id, target, "followed an alias");
        reply.answers.insert(0, alias);
        reply.ours = true;
        reply
    }

    /// Asks the node's resolvers one after the other.
    async fn forward(&self, query: &Query) -> Reply {
        let failed = Reply { code: ResponseCode::ServFail, ..Reply::default() };
        let Ok(_permit) = self.forwards.try_acquire() else { return failed };
        let upstreams = self.upstreams.borrow().clone();
        for upstream in upstreams {
            match timeout(UPSTREAM_DEADLINE, ask(upstream, query)).await {
                Ok(Ok(message)) if message.metadata.response_code != ResponseCode::ServFail => {
                    return Reply {
                        code: message.metadata.response_code,
                        ours: false,
                        answers: message.answers,
                        authorities: message.authorities,
                        additionals: message.additionals,
                    };
                }
                Ok(Ok(_)) => tracing::debug!("{upstream} could not resolve {}", query.name()),
                Ok(Err(cause)) => tracing::debug!("ask {upstream}: {cause}"),
                Err(_) => tracing::debug!("ask {upstream}: no answer in {UPSTREAM_DEADLINE:?}"),
            }
        }
        failed
    }
}

fn question(kind: RecordType) -> Question {
    match kind {
        RecordType::A => Question::A,
        RecordType::SRV => Question::Srv,
        RecordType::PTR => Question::Ptr,
        _ => Question::Other,
    }
}

/// A negative answer, with the record that says for how long it may be kept (RFC 2308).
fn nothing(zone: &Zone, code: ResponseCode) -> Reply {
    let record = || -> Option<Record> {
        let name = |text: String| Name::from_ascii(text).ok();
        let domain = zone.domain();
        let (server, mail) =
            (name(format!("ns.dns.{domain}."))?, name(format!("hostmaster.{domain}."))?);
        let ttl = i32::try_from(TTL_SECONDS).ok()?;
        let soa = SOA::new(server, mail, 1, 7_200, 1_800, 86_400.max(ttl), TTL_SECONDS);
        Some(Record::from_rdata(name(format!("{domain}."))?, TTL_SECONDS, RData::SOA(soa)))
    };
    Reply { code, ours: true, authorities: record().into_iter().collect(), ..Reply::default() }
}

/// A record of the zone; `None` for a name that DNS cannot carry (no label over 63 bytes, no name
/// over 255), which validated objects do not have.
fn wire(record: &ZoneRecord) -> Option<Record> {
    let name = |text: &str| Name::from_ascii(format!("{text}.")).ok();
    let data = match &record.data {
        Data::A(ip) => RData::A(A(*ip)),
        Data::Srv { port, target, weight } => {
            RData::SRV(SRV::new(0, *weight, *port, name(target)?))
        }
        Data::Ptr(target) => RData::PTR(PTR(name(target)?)),
    };
    Some(Record::from_rdata(name(&record.name)?, TTL_SECONDS, data))
}

/// Asks one resolver over UDP, and over TCP when the answer was cut. A fresh id and port each time
/// make an answer hard to forge.
async fn ask(upstream: SocketAddr, query: &Query) -> io::Result<Message> {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_BYTES_MAX);
    message.set_edns(edns);
    let bytes = message.to_vec().map_err(io::Error::other)?;
    let answer = ask_udp(upstream, &bytes, &message).await?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    let answer = ask_tcp(upstream, &bytes).await?;
    accept(&answer, &message).ok_or_else(|| io::Error::other("an answer to another question"))
}

async fn ask_udp(upstream: SocketAddr, bytes: &[u8], asked: &Message) -> io::Result<Message> {
    let any: SocketAddr = match upstream {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        // What does not answer our question is not ours; the caller's deadline ends the wait.
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = accept(&buffer[..length], asked) {
            return Ok(answer);
        }
    }
}

async fn ask_tcp(upstream: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Reads an answer, if it is one to our question.
fn accept(bytes: &[u8], asked: &Message) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let same = answer.metadata.id == asked.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == asked.queries;
    same.then_some(answer)
}
