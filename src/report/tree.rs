//! What a commit has become: its objects, what the cluster made of them, down to the pods.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{cluster::running, health::health, history::state_word};
use crate::{
    kinds::CommitState,
    model::{Key, Object},
    state::View,
};

/// How far down from an object of the commit is looked: a Deployment's pods are two steps below.
const DEPTH_MAX: usize = 4;

/// The commit that runs and what it has become.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TreeReport {
    /// The full id of the commit; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// How far it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<CommitState>,
    /// The first line of its message.
    pub subject: String,
    /// Its objects.
    pub objects: Vec<TreeNode>,
}

/// One object and what was made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TreeNode {
    /// `Deployment shop/web`
    pub object: String,
    /// Where it stands, `apps/web.yaml:1`; absent for what the cluster made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Whether it is as it should be.
    pub settled: bool,
    /// How it fares: `2/2 Available`.
    pub says: String,
    /// What it controls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<TreeNode>,
}

/// The objects of the commit that runs, in the order of their keys, each with what it controls.
pub fn tree(view: &View) -> TreeReport {
    let commit = running(view);
    let node = |key: &Key| match view.object(key) {
        Some(object) => node(view, object, DEPTH_MAX),
        None => TreeNode {
            object: key.to_string(),
            says: "is not there".to_owned(),
            ..TreeNode::default()
        },
    };
    let objects = view.origins().map(|(key, origin)| TreeNode {
        place: Some(format!("{}:{}", origin.file, origin.line)),
        ..node(key)
    });
    TreeReport {
        commit: commit.and_then(|commit| commit.metadata.name.clone()),
        state: commit.map(|commit| commit.status.state),
        subject: commit.map(|commit| commit.spec.subject.clone()).unwrap_or_default(),
        objects: objects.collect(),
    }
}

fn node(view: &View, object: &Object, depth: usize) -> TreeNode {
    let health = health(object);
    let said = [health.ratio(), health.reason.clone(), health.message.clone()];
    let said: Vec<String> = said.into_iter().filter(|text| !text.is_empty()).collect();
    let children = view.owned_by(object.uid()).filter(|_| depth > 0);
    let children = children.map(|child| node(view, child, depth - 1));
    // A ReplicaSet of an earlier version has no pods and nothing to say.
    let lives = |child: &TreeNode| {
        !child.object.starts_with("ReplicaSet ") || !child.children.is_empty() || !child.settled
    };
    TreeNode {
        object: object.key().to_string(),
        place: None,
        settled: health.settled,
        says: said.join(" "),
        children: children.filter(lives).collect(),
    }
}

/// What `mainstay tree` prints.
pub fn tree_text(report: &TreeReport) -> String {
    let (Some(commit), Some(state)) = (&report.commit, report.state) else {
        return "no commit was admitted yet\n".to_owned();
    };
    let id = super::cluster::short(commit);
    let mut text = format!("{id} {} “{}”\n", state_word(state), report.subject);
    branches(&report.objects, "", &mut text);
    text
}

fn branches(nodes: &[TreeNode], before: &str, text: &mut String) {
    for (at, node) in nodes.iter().enumerate() {
        let last = at + 1 == nodes.len();
        let (joint, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let place = node.place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
        let says = if node.says.is_empty() { "" } else { ": " };
        *text += &format!("{before}{joint}{}{place}{says}{}\n", node.object, node.says);
        branches(&node.children, &format!("{before}{below}"), text);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::report::fixture::Cluster;

    #[test]
    fn a_tree_goes_from_the_commit_to_its_pods() {
        let cluster = Cluster::web();
        expect![[r#"
            9f8e7d6 Healthy “web: change 9”
            ├─ Deployment shop/web (apps/web.yaml:1): 2/2 Complete
            │  └─ ReplicaSet shop/web-1: 2/2 Complete
            │     ├─ Pod shop/web-1-0: 1/1 Running
            │     └─ Pod shop/web-1-1: 1/1 Running
            ├─ Secret shop/key (apps/web.yaml:32): 1/1 Stored
            └─ Service shop/web (apps/web.yaml:20): 1/1 Stored
        "#]]
        .assert_eq(&tree_text(&tree(cluster.state.view())));
        let empty = tree_text(&tree(Cluster::empty().state.view()));
        assert_eq!(empty, "no commit was admitted yet\n");
    }
}
