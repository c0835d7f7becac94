//! How machines join: a token lets a key be certified once, a certificate lets it be renewed.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{SERVERS_GROUP, Store, clock};
use crate::{
    api::Peer,
    config::SourceConfig,
    model::NodeName,
    plan::token::{Token, create, redeem},
    raft::{self, NodeId, ProposeError},
    state::{ClusterConfig, Outcome},
    trust::{self, Ca, Leaf, TokenKey},
};

/// How long a node's or server's certificate is valid, in days. Renewed when a third of it is left.
pub const CERTIFICATE_DAYS: i64 = 90;

/// The longest a token may be good for: 30 days.
const TOKEN_SECONDS_MAX: i64 = 30 * 86_400;

/// Most bytes of a request. A signing request has about one KB.
const BODY_BYTES_MAX: usize = 16 << 10;

/// What a joiner asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinRequest {
    /// The token.
    pub token: String,
    /// The certificate signing request, PEM.
    pub csr: String,
    /// What it wants to be.
    pub role: JoinRole,
}

/// What a joiner wants to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JoinRole {
    /// A node of this name.
    Node(NodeName),
    /// A server with these names and addresses in its certificate.
    Server(Vec<String>),
}

/// What a joiner gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinAnswer {
    /// Its certificate, PEM.
    pub certificate: String,
    /// The CA's certificate, PEM.
    pub ca_certificate: String,
    /// The CA's key, PEM; only for servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_key: Option<String>,
    /// The key that signs tokens of service accounts, PEM; only for servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_key: Option<String>,
    /// Addresses of all servers.
    pub servers: Vec<String>,
    /// What the cluster follows; only for servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceConfig>,
}

/// An administrator asks for a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRequest {
    /// Seconds it is good for, at most 30 days.
    pub ttl_seconds: i64,
    /// How many machines may join with it.
    pub joins: u32,
}

/// A token, and what else a joiner must know.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenAnswer {
    /// The token. Whoever has it can join.
    pub token: String,
    /// The hash of the CA's key.
    pub ca_hash: String,
    /// The address of the server that made it.
    pub server: String,
}

/// A server that has its certificate asks to become a member of the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemberRequest {
    /// Its id in the log.
    pub id: NodeId,
    /// Where the others dial it.
    pub address: SocketAddr,
}

/// A machine asks to have a new key certified as what it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenewRequest {
    /// The certificate signing request, PEM.
    pub csr: String,
    /// Names and addresses, for a server.
    #[serde(default)]
    pub names: Vec<String>,
}

/// What joining needs of the server.
pub(super) struct Joins {
    pub(super) store: Store,
    pub(super) ca: Ca,
    pub(super) token_key: TokenKey,
    pub(super) source: SourceConfig,
}

/// The routes of joining; to be merged into the API's.
pub(super) fn router(joins: Arc<Joins>) -> Router {
    Router::new()
        .route("/mainstay/v1/join", post(join))
        .route("/mainstay/v1/members", post(add_member))
        .route("/mainstay/v1/renew", post(renew))
        .route("/mainstay/v1/tokens", post(make_token))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(joins)
}

/// A refusal: a Kubernetes Status, and where the leader is when that is the reason.
pub(super) struct Refused {
    code: StatusCode,
    reason: &'static str,
    message: String,
    leader: Option<String>,
}

impl Refused {
    fn new(code: StatusCode, reason: &'static str, message: impl ToString) -> Self {
        Self { code, reason, message: message.to_string(), leader: None }
    }

    fn forbidden(message: impl ToString) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }
}

impl From<ProposeError> for Refused {
    fn from(error: ProposeError) -> Self {
        let message = error.to_string();
        let leader = match error {
            ProposeError::NotLeader { leader } => leader.map(|l| l.address),
            _ => None,
        };
        let (code, reason) = (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
        Self { leader, ..Self::new(code, reason, message) }
    }
}

impl From<raft::Error> for Refused {
    fn from(error: raft::Error) -> Self {
        match error {
            raft::Error::NotLeader(leader) => ProposeError::NotLeader { leader }.into(),
            error => unavailable(error),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        });
        let mut response = (self.code, Json(status)).into_response();
        if let Some(leader) = self.leader.and_then(|l| l.parse().ok()) {
            response.headers_mut().insert(LEADER_HEADER, leader);
        }
        response
    }
}

/// Names the leader's address in an answer of a server that does not lead.
pub const LEADER_HEADER: &str = "mainstay-leader";

async fn join(
    State(joins): State<Arc<Joins>>,
    Json(request): Json<JoinRequest>,
) -> Result<Json<JoinAnswer>, Refused> {
    let token = Token::parse(&request.token).map_err(Refused::forbidden)?;
    joins.store.barrier().await.map_err(unavailable)?;
    let view = joins.store.view();
    let command = redeem(&view, &token, clock::now()).map_err(Refused::forbidden)?;
    // The certificate is made first: a malformed request must not use up the token.
    let (leaf, is_server) = match &request.role {
        JoinRole::Node(node) => (node_leaf(node)?, false),
        JoinRole::Server(names) => (server_leaf(names, view.config()), true),
    };
    let certificate =
        joins.ca.sign(&request.csr, &leaf, clock::now()).map_err(|e| malformed(&e))?;
    let outcomes = joins.store.propose(vec![command]).await?;
    if let Some(Outcome::Refused(_)) = outcomes.first() {
        return Err(Refused::forbidden(crate::plan::token::TokenError::Used));
    }
    Ok(Json(JoinAnswer {
        certificate,
        ca_certificate: joins.ca.certificate().to_owned(),
        ca_key: is_server.then(|| joins.ca.key().to_owned()),
        token_key: is_server.then(|| joins.token_key.pem().to_owned()),
        servers: joins.store.members().into_iter().map(|m| m.address).collect(),
        source: is_server.then(|| joins.source.clone()),
    }))
}

async fn make_token(
    State(joins): State<Arc<Joins>>,
    peer: Option<Extension<Peer>>,
    Json(request): Json<TokenRequest>,
) -> Result<Json<TokenAnswer>, Refused> {
    let admin = |p: &Extension<Peer>| p.groups.iter().any(|g| g == "system:masters");
    if !peer.as_ref().is_some_and(admin) {
        return Err(Refused::forbidden("only an administrator makes tokens"));
    }
    if !(1..=TOKEN_SECONDS_MAX).contains(&request.ttl_seconds) || request.joins == 0 {
        let message = format!("a token is good for 1 to {TOKEN_SECONDS_MAX} s and at least 1 join");
        return Err(Refused::new(StatusCode::BAD_REQUEST, "BadRequest", message));
    }
    let token = Token::from_random(rand::random());
    let expires = clock::now().plus_seconds(request.ttl_seconds);
    let command = create(&token, request.joins, expires).map_err(unavailable)?;
    match joins.store.propose(vec![command]).await?.first() {
        Some(Outcome::Refused(refusal)) => Err(unavailable(refusal)),
        _ => Ok(Json(TokenAnswer {
            token: token.reveal(),
            ca_hash: joins.ca.hash().map_err(unavailable)?,
            server: joins.store.own_address(),
        })),
    }
}

async fn add_member(
    State(joins): State<Arc<Joins>>,
    peer: Option<Extension<Peer>>,
    Json(request): Json<MemberRequest>,
) -> Result<Json<Vec<String>>, Refused> {
    let is_server = |p: &Extension<Peer>| p.groups.iter().any(|g| g == SERVERS_GROUP);
    if !peer.as_ref().is_some_and(is_server) {
        return Err(Refused::forbidden("only a server that joined may become a member"));
    }
    joins.store.add_member(request.id, &request.address.to_string()).await?;
    Ok(Json(joins.store.members().into_iter().map(|m| m.address).collect()))
}

async fn renew(
    State(joins): State<Arc<Joins>>,
    peer: Option<Extension<Peer>>,
    Json(request): Json<RenewRequest>,
) -> Result<Json<JoinAnswer>, Refused> {
    let peer = peer.ok_or_else(|| Refused::forbidden("renewing needs a valid certificate"))?;
    let node = peer.user.strip_prefix("system:node:").map(NodeName::new);
    let leaf = match node {
        Some(node) => node_leaf(&node)?,
        None if peer.groups.iter().any(|g| g == SERVERS_GROUP) => {
            server_leaf(&request.names, joins.store.view().config())
        }
        None => return Err(Refused::forbidden("only nodes and servers renew certificates here")),
    };
    let certificate =
        joins.ca.sign(&request.csr, &leaf, clock::now()).map_err(|e| malformed(&e))?;
    Ok(Json(JoinAnswer {
        certificate,
        ca_certificate: joins.ca.certificate().to_owned(),
        ca_key: None,
        token_key: None,
        servers: joins.store.members().into_iter().map(|m| m.address).collect(),
        source: None,
    }))
}

/// Who a node is.
pub fn node_leaf_of(node: &NodeName, names: Vec<String>) -> Leaf {
    Leaf {
        common_name: format!("system:node:{node}"),
        organizations: vec!["system:nodes".to_owned()],
        names: [vec![node.to_string()], names].concat(),
        days: CERTIFICATE_DAYS,
    }
}

fn node_leaf(node: &NodeName) -> Result<Leaf, Refused> {
    let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    if node.as_str().is_empty() || node.as_str().len() > 253 || !node.as_str().bytes().all(plain) {
        let message =
            format!("{:?} is no node name: lower-case letters, digits, - and .", node.as_str());
        return Err(Refused::new(StatusCode::BAD_REQUEST, "BadRequest", message));
    }
    Ok(node_leaf_of(node, Vec::new()))
}

/// The names by which pods know the API, whichever server answers; to be among those of each
/// server's certificate. Programs in pods dial the address and expect it in the certificate.
fn api_names(cluster: &ClusterConfig) -> Vec<String> {
    let service = "kubernetes.default.svc";
    let mut names = vec!["kubernetes".to_owned(), "kubernetes.default".to_owned()];
    names.extend([service.to_owned(), format!("{service}.cluster.local")]);
    names.push(cluster.api_address().to_string());
    names
}

/// Who a server is; `names` are what its certificate answers to, beside [`api_names`].
pub fn server_leaf(names: &[String], cluster: Option<&ClusterConfig>) -> Leaf {
    let mut names = names.to_vec();
    names.extend(cluster.map(api_names).unwrap_or_default());
    names.sort();
    names.dedup();
    Leaf {
        common_name: "mainstay:server".to_owned(),
        organizations: vec![SERVERS_GROUP.to_owned(), "system:masters".to_owned()],
        names,
        days: CERTIFICATE_DAYS,
    }
}

fn malformed(error: &trust::Error) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "BadRequest", format!("the signing request: {error}"))
}

fn unavailable(error: impl ToString) -> Refused {
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", error)
}
