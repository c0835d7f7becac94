//! What happens to the driver of pods, and what it answers with.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use crate::{
    agent::runtime::{Error, Found, FoundImage, Make},
    model::{
        Key, Object,
        session::{ObservedEvent, ObservedPod},
    },
    node::{
        Assignment, NodeFacts, Step,
        files::PodDns,
        ipam::PodRange,
        probe::{Action, Kind, Outcome},
        registry::Login,
        tokens::{Token, Wish},
    },
};

/// What the node is, as far as its pods see it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node.
    pub node: NodeFacts,
    /// How its pods resolve names.
    pub dns: PodDns,
    /// Its pod range; `None` until the server has given one.
    pub range: Option<PodRange>,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A whole desired set: this node's pods and the ConfigMaps and Secrets they use.
    Desired(BTreeMap<Key, Object>),
    /// The node's facts, DNS or range changed.
    Settings(Box<Settings>),
    /// The machine was listed; `asked` is the number its effect carried.
    Listed {
        /// From [`Effect::List`] or [`Effect::Connect`].
        asked: u64,
        /// What there is.
        result: Result<BTreeMap<String, Found>, Error>,
    },
    /// The daemon went away.
    Disconnected,
    /// Something happened to a pod.
    Changed(String),
    /// A step (or a mere look) was done, and the pod was looked at after it.
    Stepped {
        /// The pod.
        uid: String,
        /// What was done; `None` for a look.
        step: Option<Step>,
        /// A warning, or why it failed.
        result: Result<Option<String>, Error>,
        /// What there is of the pod now.
        found: Result<Option<Box<Found>>, Error>,
    },
    /// An image was looked for or pulled.
    Image {
        /// Its reference.
        image: String,
        /// The pod and container start for which it was pulled; `None` for a look.
        pulled: Option<(String, String, u32)>,
        /// How long it took.
        took: Duration,
        /// What there is now.
        result: Result<Option<FoundImage>, Error>,
    },
    /// A container was asked to stop.
    Stopped {
        /// The pod.
        uid: String,
        /// The container's id.
        id: String,
        /// What its hook said, when that failed.
        hook: Option<String>,
        /// What came of the signal.
        result: Result<(), Error>,
    },
    /// A probe was answered.
    Probed {
        /// The pod.
        uid: String,
        /// The container's id.
        id: String,
        /// Which.
        kind: Kind,
        /// The answer.
        outcome: Outcome,
    },
    /// A token was asked for.
    Token {
        /// The pod.
        uid: String,
        /// Which.
        wish: Wish,
        /// The token, or why there is none.
        result: Result<Token, Error>,
    },
    /// The time that [`super::Pods::wake`] named has come.
    Tick,
}

/// Something to do.
#[derive(Debug)]
pub enum Effect {
    /// Wait, watch the machine, then list it.
    Connect {
        /// To be given back.
        asked: u64,
        /// How long to wait first.
        after: Duration,
    },
    /// List the machine.
    List {
        /// To be given back.
        asked: u64,
    },
    /// Do a step, then look at the pod; only look when there is none.
    Do {
        /// The pod.
        want: Arc<Assignment>,
        /// What to do.
        step: Option<Step>,
        /// The address for a new sandbox.
        ip: Option<Ipv4Addr>,
        /// The container to make.
        make: Option<Make>,
        /// Done when the container was started.
        post_start: Option<Action>,
        /// The pod's address.
        pod_ip: Option<IpAddr>,
    },
    /// Look for an image, or pull it.
    Image {
        /// Its reference.
        image: String,
        /// The pod and container start that ask for a pull.
        pull: Option<(String, String, u32)>,
        /// Who to be when it is pulled, the most fitting first.
        logins: Vec<Login>,
    },
    /// Run the hook, then send the signal.
    Stop {
        /// The pod.
        uid: String,
        /// The container's id.
        id: String,
        /// Done before the signal.
        hook: Option<Action>,
        /// How long the hook may take.
        grace: Duration,
        /// The signal the pod asks for.
        signal: Option<String>,
        /// The pod's address.
        pod_ip: Option<IpAddr>,
    },
    /// Probe a container.
    Probe {
        /// The pod.
        uid: String,
        /// The container's id.
        id: String,
        /// Which.
        kind: Kind,
        /// What to ask.
        action: Action,
        /// How long it may take.
        timeout: Duration,
        /// The pod's address.
        pod_ip: Option<IpAddr>,
    },
    /// Ask a server for a token of the pod's account.
    Token {
        /// The pod.
        want: Arc<Assignment>,
        /// Which.
        wish: Wish,
    },
    /// Tell the server about a pod.
    Report(ObservedPod),
    /// Tell the server an event.
    Tell(ObservedEvent),
}

impl Effect {
    /// Only look for an image.
    pub(super) fn look_for(image: String) -> Self {
        Self::Image { image, pull: None, logins: vec![] }
    }

    /// Only look at a pod.
    pub(super) fn look(want: Arc<Assignment>) -> Self {
        Self::Do { want, step: None, ip: None, make: None, post_start: None, pod_ip: None }
    }
}

/// Steps of which only [`super::STARTS_MAX`] are done together.
pub(super) fn is_start(step: &Step) -> bool {
    matches!(
        step,
        Step::CreateSandbox
            | Step::StartSandbox { .. }
            | Step::CreateContainer { .. }
            | Step::StartContainer { .. }
    )
}
