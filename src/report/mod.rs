//! What the cluster says of itself: from a [`View`](crate::state::View) to values and text.
//!
//! In: a View, and as arguments whatever a View does not hold (the clock, facts of the log, why a
//! node does not fit). Out: [`ClusterStatus`] for `mainstay status`, the files of the status
//! branch, when they are due ([`Burst`]) and the text of their commits, the note on a desired
//! commit, metric samples, the steps of `mainstay why`, the lines of `mainstay history` and the
//! [`PlanReport`] of `mainstay plan`. `api`, `server::export` and `cli` call it. Never here: Git,
//! the metrics registry, clocks, and a Secret's data.

pub mod amounts;
mod burst;
mod cluster;
mod diary;
mod diff;
mod events;
mod files;
mod health;
mod history;
pub mod metrics;
pub mod names;
mod notice;
mod page;
mod plan_text;
mod samples;
mod tree;
mod wait;
mod why;

pub use burst::Burst;
pub use cluster::{
    ClusterStatus, CommitSummary, ConditionSummary, KindCount, LogFacts, Member, NodeSummary,
    SourceSummary, status,
};
pub use diary::{note, status_commit_message};
pub use diff::{
    FieldChange, HookLine, ObjectChange, ObjectLine, PlacedPods, PlanReport, UnplacedPods, diff,
    hooks,
};
pub use events::{EventLine, events};
pub use files::{
    CommitFile, NodeFile, ObjectFile, PodLine, ServiceLine, StatusFiles, TimingLines,
    is_remembered, object_file, status_branch,
};
pub use health::{Health, health, pod_state, pods_of};
pub use history::{CommitLine, history, state_word};
pub use notice::{NoticeRequest, notice, notice_id};
pub use plan_text::{NOTE_BYTES_MAX, is_note_of, plan_note, plan_text, unmergeable};
pub use samples::{Sample, Spread, samples};
pub use tree::{TreeNode, TreeReport, tree, tree_text};
pub use wait::{WaitOutcome, WaitReport, wait_on};
pub use why::{NodeVerdict, WhyStep, why};

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
