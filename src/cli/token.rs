//! `mainstay token create`

use serde::{Deserialize, Serialize};

use super::{Common, Error, client::Client, output};
use crate::server::{TokenAnswer, TokenRequest};

/// Make tokens with which machines join
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    #[command(subcommand)]
    verb: TokenVerb,
}

#[derive(clap::Subcommand, Debug)]
enum TokenVerb {
    /// Make a token and print how to join with it
    Create {
        /// Seconds it is good for
        #[arg(long, default_value_t = 86_400)]
        ttl_seconds: i64,
        /// How many machines may join with it
        #[arg(long, default_value_t = 1)]
        joins: u32,
        #[command(flatten)]
        common: Common,
    },
}

/// What is printed: the parts of a join.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JoinParts {
    pub(super) server: String,
    pub(super) token: String,
    pub(super) ca_hash: String,
}

impl JoinParts {
    /// The lines to run on the machines that join.
    pub(super) fn lines(&self) -> String {
        let Self { server, token, ca_hash } = self;
        format!(
            "on a node:           mainstay agent join {server} --token {token} --ca-hash {ca_hash}\n\
             on another server:   mainstay server join {server} --token {token} --ca-hash {ca_hash}\n"
        )
    }
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    let TokenVerb::Create { ttl_seconds, joins, common } = &verb.verb;
    let request = TokenRequest { ttl_seconds: *ttl_seconds, joins: *joins };
    let client = Client::find(common)?;
    let answer: TokenAnswer = client.send("/mainstay/v1/tokens", &request).await?;
    let parts = JoinParts { server: answer.server, token: answer.token, ca_hash: answer.ca_hash };
    output::print(common.output, &parts, JoinParts::lines)
}
