//! `mainstay why <object>`

use super::{
    Common, Error,
    client::{Client, quoted},
    output, text,
};
use crate::report::WhyStep;

/// Say why an object is as it is, from its containers to the line of the file and its author
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// deployment/web, pod/web-1, svc/web, node/n1
    object: String,
    /// Namespace of the object
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    let (object, namespace) = (quoted(&verb.object), quoted(&verb.namespace));
    let path = format!("/mainstay/v1/why?object={object}&namespace={namespace}");
    let steps: Vec<WhyStep> = Client::find(&verb.common)?.get(&path).await?;
    output::print(verb.common.output, &steps, |steps| text::why(steps))
}
