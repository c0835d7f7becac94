//! The words of the cluster: keys, ids, time, quantities, selectors and objects.
//!
//! Everything here is a value. Every other room uses these words and no other room defines them
//! again.
//!
//! Glossary (one word for one thing, in code, metrics, status files and docs):
//!
//! | word | meaning |
//! |---|---|
//! | commit | a Git commit of the desired branch; [`CommitId`], as one source has it [`CommitName`] |
//! | head | the newest commit that was admitted |
//! | admit | accept a commit whole: parsed, defaulted, validated, then one log entry makes it visible |
//! | revision | the counter that each object change raises; what Kubernetes calls `resourceVersion`; [`Revision`] |
//! | generation | of an object: how often its spec changed (Kubernetes' word); of an assignment: the [`Revision`] it was made from |
//! | object | one Kubernetes object, as canonical JSON with a typed view; [`Object`] |
//! | key | kind, namespace and name of an object; [`Key`] |
//! | node | a machine with an agent |
//! | server | a control-plane replica |
//! | assignment | what one agent is told to run |
//! | observed | what an agent has seen and reports |
//! | survivor | a pod of a cluster that is gone, whose node still runs it; [`session::Survivor`] |
//! | awaited | of a node: the cluster before had it, and it has not come back yet |
//! | sealed | encrypted until whoever may read it reads it; [`Seal`] |

mod cidr;
mod hash;
mod ids;
mod key;
mod object;
mod problem;
mod quantity;
mod reading;
mod seal;
mod selector;
pub mod session;
mod signature;
mod time;

pub use cidr::{Cidr, CidrError};
pub use hash::{fnv1a, fnv1a_from, name_suffix};
pub use ids::{CommitId, CommitName, MAIN_SOURCE, RequestId, Revision};
pub use key::{GroupKind, Key, KeyError, NodeName};
pub use object::{Controller, Object, ObjectError};
pub use problem::Problem;
pub use quantity::{Quantity, QuantityError};
pub use reading::{Place, ReadError, Step, read, read_noting, read_slice};
pub use seal::{Seal, Wrapped};
pub use selector::{Labels, Selector, SelectorError};
pub use signature::{Signature, Signed};
pub use time::Timestamp;
