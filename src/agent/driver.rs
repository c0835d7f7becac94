//! The driver of pods, its doing half: the loop around [`Pods`].

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use futures_util::{StreamExt, stream::BoxStream};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, JoinSet},
};

use super::{
    pods::{Effect, Event, Missing, Place, Pods, Settings, Wanted},
    runtime::{Error, LogOptions, LogStream, Make, Runtime},
};
use crate::{
    model::{
        Key, Object,
        session::{ObservedEvent, ObservedPod},
    },
    node::{Assignment, Step, probe::Outcome},
};

/// Requests that may wait for the loop; it takes them at once.
const REQUESTS: usize = 16;
/// Observations that may wait for their reader. Beyond, pods are kept as their newest status only.
const OBSERVATIONS: usize = 64;
/// Events kept for a reader that does not read; the oldest go first, as events may be lost in
/// Kubernetes too.
const EVENTS_KEPT: usize = 1024;
/// The longest a post-start hook may take; Kubernetes sets no limit, and one without would hold the
/// pod for ever.
const POST_START: Duration = Duration::from_secs(300);

/// Something seen of this node's pods.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// A pod's status changed, or nothing is left of it.
    Pod(ObservedPod),
    /// Something worth telling a user.
    Event(ObservedEvent),
}

enum Request {
    Event(Box<Event>),
    Find { pod: (String, String), wanted: Wanted, answer: Answer },
}

type Answer = oneshot::Sender<Result<Place, Missing>>;

/// Speaks to the loop. Cheap to clone; when the last one is dropped, the loop ends and the pods run
/// on.
#[derive(Clone, Debug)]
pub struct PodsHandle<R> {
    requests: mpsc::Sender<Request>,
    runtime: R,
}

/// The loop has ended.
#[derive(Debug, thiserror::Error)]
#[error("the driver of pods has ended")]
pub struct Ended;

impl<R: Runtime> PodsHandle<R> {
    /// Gives a whole desired set: this node's pods, and the ConfigMaps and Secrets they use. Pods
    /// that are not in it are stopped and removed.
    pub async fn desired(&self, objects: BTreeMap<Key, Object>) -> Result<(), Ended> {
        self.send(Request::Event(Box::new(Event::Desired(objects)))).await
    }

    /// Tells what changed of the node: its facts, its pod range, its DNS.
    pub async fn settings(&self, settings: Settings) -> Result<(), Ended> {
        self.send(Request::Event(Box::new(Event::Settings(Box::new(settings))))).await
    }

    /// The log of a container (the pod's first when none is named), or why there is none in
    /// Kubernetes' words.
    pub async fn logs(
        &self,
        namespace: &str,
        pod: &str,
        container: Option<&str>,
        options: &LogOptions,
    ) -> Result<LogStream, Missing> {
        let container = container.map(str::to_owned);
        let wanted = Wanted::Log { container, previous: options.previous };
        let place = self.find(namespace, pod, wanted).await?;
        Ok(self.runtime.logs(&place.id, options))
    }

    /// Where something of a pod is on the machine.
    pub async fn find(&self, namespace: &str, pod: &str, wanted: Wanted) -> Result<Place, Missing> {
        let (answer, place) = oneshot::channel();
        let pod = (namespace.to_owned(), pod.to_owned());
        let ended = |_| Missing::Part(Ended.to_string());
        self.send(Request::Find { pod, wanted, answer }).await.map_err(|Ended| ended(()))?;
        place.await.map_err(|_| ended(()))?
    }

    /// The machine that the pods run on.
    pub fn runtime(&self) -> &R {
        &self.runtime
    }

    async fn send(&self, request: Request) -> Result<(), Ended> {
        self.requests.send(request).await.map_err(|_| Ended)
    }
}

/// Starts the loop. What it sees comes out of the receiver; nobody needs to read it for pods to
/// run.
pub fn start<R: Runtime>(
    runtime: R,
    settings: Settings,
) -> (PodsHandle<R>, mpsc::Receiver<Observation>, JoinHandle<()>) {
    let (requests, inbox) = mpsc::channel(REQUESTS);
    let (outbox, observations) = mpsc::channel(OBSERVATIONS);
    let (pods, first) = Pods::new(settings);
    let driver = Driver {
        runtime: runtime.clone(),
        pods,
        inbox,
        outbox,
        statuses: BTreeMap::new(),
        events: VecDeque::new(),
        tasks: JoinSet::new(),
        watch: None,
    };
    let task = tokio::spawn(driver.run(first));
    (PodsHandle { requests, runtime }, observations, task)
}

struct Driver<R> {
    runtime: R,
    pods: Pods,
    inbox: mpsc::Receiver<Request>,
    outbox: mpsc::Sender<Observation>,
    /// Reports not taken yet: of each pod only the newest counts.
    statuses: BTreeMap<String, ObservedPod>,
    events: VecDeque<ObservedEvent>,
    tasks: JoinSet<Done>,
    watch: Option<BoxStream<'static, String>>,
}

/// What a task came to; a new connection brings its watch along.
struct Done {
    event: Event,
    watch: Option<BoxStream<'static, String>>,
}

/// What [`Driver::select`] woke up for.
enum Woken {
    Event(Event),
    Request(Request),
    /// An observation was handed over.
    Sent,
    End,
}

impl<R: Runtime> Driver<R> {
    async fn run(mut self, first: Vec<Effect>) {
        self.begin(first);
        loop {
            let event = match self.select().await {
                Woken::Event(event) => event,
                Woken::Request(Request::Event(event)) => *event,
                Woken::Request(Request::Find { pod, wanted, answer }) => {
                    // Who asked may have gone; nobody needs the answer then.
                    let _gone = answer.send(self.pods.find(&pod.0, &pod.1, &wanted));
                    continue;
                }
                Woken::Sent => continue,
                Woken::End => return,
            };
            let now = self.runtime.now();
            let effects = self.pods.apply(event, now);
            self.begin(effects);
        }
    }

    /// Waits for the next thing to happen, and changes nothing but queues.
    async fn select(&mut self) -> Woken {
        let wake = self.pods.wake();
        let sleep = wake.map(|at| at.since(self.runtime.now()));
        let waiting = !self.statuses.is_empty() || !self.events.is_empty();
        tokio::select! {
            biased;
            permit = self.outbox.reserve(), if waiting => {
                // Nobody reads any more: the pods run on, there is nobody to tell.
                let Ok(permit) = permit else {
                    self.statuses.clear();
                    self.events.clear();
                    return Woken::Sent;
                };
                if let Some((_, pod)) = self.statuses.pop_first() {
                    permit.send(Observation::Pod(pod));
                } else if let Some(event) = self.events.pop_front() {
                    permit.send(Observation::Event(event));
                }
                Woken::Sent
            }
            request = self.inbox.recv() => request.map_or(Woken::End, Woken::Request),
            Some(done) = self.tasks.join_next() => match done {
                Ok(done) => {
                    if let Some(watch) = done.watch {
                        self.watch = Some(watch);
                    }
                    Woken::Event(done.event)
                }
                // A task that panicked would leave its pod busy for ever: the process is at fault,
                // not the pod.
                Err(e) => std::panic::resume_unwind(e.into_panic()),
            },
            changed = next(&mut self.watch) => match changed {
                Some(uid) => Woken::Event(Event::Changed(uid)),
                None => {
                    self.watch = None;
                    Woken::Event(Event::Disconnected)
                }
            },
            () = sleep_or_never(sleep) => Woken::Event(Event::Tick),
        }
    }

    fn begin(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Report(pod) => {
                    // The report that nothing is left must not be overtaken by nothing.
                    self.statuses.insert(pod.uid.clone(), pod);
                }
                Effect::Tell(event) => {
                    tracing::info!(
                        pod = %event.regarding, reason = event.reason, "{}", event.message
                    );
                    if self.events.len() == EVENTS_KEPT {
                        self.events.pop_front();
                    }
                    self.events.push_back(event);
                }
                other => {
                    self.tasks.spawn(perform(self.runtime.clone(), other));
                }
            }
        }
    }
}

async fn next(watch: &mut Option<BoxStream<'static, String>>) -> Option<String> {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}

async fn sleep_or_never(span: Option<Duration>) {
    match span {
        // A moment more than asked, so that the clock has surely passed it.
        Some(span) => tokio::time::sleep(span + Duration::from_millis(1)).await,
        None => std::future::pending().await,
    }
}

async fn perform<R: Runtime>(runtime: R, effect: Effect) -> Done {
    let plain = |event| Done { event, watch: None };
    match effect {
        Effect::Connect { asked, after } => {
            tokio::time::sleep(after).await;
            // First the watch, then the list: what happens in between is seen by one of them.
            let (watch, result) = match runtime.watch().await {
                Ok(watch) => (Some(watch), runtime.list(None).await),
                Err(e) => (None, Err(e)),
            };
            if let Err(e) = &result {
                tracing::warn!(error = %e, "container runtime");
            }
            Done { event: Event::Listed { asked, result }, watch }
        }
        Effect::List { asked } => plain(Event::Listed { asked, result: runtime.list(None).await }),
        Effect::Do { want, step, ip, make, post_start, pod_ip } => {
            let result = match &step {
                Some(step) => {
                    let result = do_step(&runtime, &want, step, ip, make.as_ref()).await;
                    match (result, step, post_start) {
                        (Ok(None), Step::StartContainer { id, name }, Some(hook)) => {
                            post_started(&runtime, id, name, &hook, pod_ip).await
                        }
                        (result, ..) => result,
                    }
                }
                None => Ok(None),
            };
            let found = runtime.list(Some(&want.uid)).await;
            let found = found.map(|mut pods| pods.remove(&want.uid).map(Box::new));
            plain(Event::Stepped { uid: want.uid.clone(), step, result, found })
        }
        Effect::Image { image, pull, logins } => {
            let begun = runtime.now();
            let pulled = match pull {
                Some(_) => runtime.pull(&image, &logins).await,
                None => Ok(()),
            };
            let result = match pulled {
                Ok(()) => runtime.find_image(&image).await,
                Err(e) => Err(e),
            };
            let took = runtime.now().since(begun);
            plain(Event::Image { image, pulled: pull, took, result })
        }
        Effect::Stop { uid, id, hook, grace, signal, pod_ip } => {
            let said = match &hook {
                Some(hook) => failure(runtime.act(hook, &id, pod_ip, grace).await),
                None => None,
            };
            let result = runtime.terminate(&id, signal.as_deref()).await;
            plain(Event::Stopped { uid, id, hook: said, result })
        }
        Effect::Probe { uid, id, kind, action, timeout, pod_ip } => {
            let outcome = runtime.act(&action, &id, pod_ip, timeout).await;
            plain(Event::Probed { uid, id, kind, outcome })
        }
        Effect::Token { want, wish } => {
            let result = runtime.token(&want, &wish).await;
            plain(Event::Token { uid: want.uid.clone(), wish, result })
        }
        Effect::Report(_) | Effect::Tell(_) => plain(Event::Tick),
    }
}

fn failure(outcome: Outcome) -> Option<String> {
    match outcome {
        Outcome::Failure(why) => Some(format!("PreStopHook failed: {why}")),
        Outcome::Success | Outcome::Unknown => None,
    }
}

/// Kubernetes ends a container whose post-start hook fails.
async fn post_started<R: Runtime>(
    runtime: &R,
    id: &str,
    name: &str,
    hook: &crate::node::probe::Action,
    ip: Option<std::net::IpAddr>,
) -> Result<Option<String>, Error> {
    match runtime.act(hook, id, ip, POST_START).await {
        Outcome::Success | Outcome::Unknown => Ok(None),
        Outcome::Failure(why) => {
            runtime.kill(id).await?;
            Ok(Some(format!("PostStartHook of container {name} failed: {why}")))
        }
    }
}

async fn do_step<R: Runtime>(
    runtime: &R,
    want: &Assignment,
    step: &Step,
    ip: Option<std::net::Ipv4Addr>,
    make: Option<&Make>,
) -> Result<Option<String>, Error> {
    match (step, make) {
        (Step::StartSandbox { id } | Step::StartContainer { id, .. }, _) => {
            return runtime.start(id).await;
        }
        (Step::WriteVolumes, _) => runtime.write_volumes(want).await,
        (Step::CreateSandbox, _) => runtime.create_sandbox(want, ip).await,
        (Step::CreateContainer { .. }, Some(make)) => runtime.create_container(want, make).await,
        (Step::Resize { id, limits, .. }, _) => runtime.resize_container(id, limits).await,
        (Step::Kill { id }, _) => runtime.kill(id).await,
        (Step::RemoveContainer { id } | Step::RemoveSandbox { id }, _) => runtime.remove(id).await,
        (Step::RemoveDirectory, _) => runtime.remove_directory(&want.uid).await,
        // The others are no work for the machine: `Pods` takes them itself.
        _ => Ok(()),
    }?;
    Ok(None)
}
