use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use expect_test::{Expect, expect};
use tower::ServiceExt;

use super::{
    Class, Shares,
    lanes::Lane,
    seats::{Bounds, Seats},
};
use crate::{
    api::{Peer, REQUESTS_MAX, RequestInfo, User, routers, tests::Fake},
    report::fixture::Cluster,
};

fn known(name: &str, groups: &[&str]) -> User {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    User::of(&Peer { user: name.to_owned(), groups })
}

fn check(users: &[User], requests: &[(&str, &str)], expected: Expect) {
    let mut text = String::new();
    for user in users {
        for (method, target) in requests {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let info = RequestInfo::of(method, path, query);
            let lane = Lane::of(user, &info).name();
            text += &format!("{} {method} {target}: {lane} {:?}\n", user.name, Class::of(&info));
        }
    }
    expected.assert_eq(&text);
}

#[test]
fn who_asks_and_what_for_decides_the_lane() {
    let lease = ("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/x");
    let users = [
        known("ada", &["system:masters"]),
        known("system:node:n1", &["system:nodes"]),
        known("system:serviceaccount:a:b", &["system:serviceaccounts"]),
        known("jane", &["dev"]),
        User::anonymous(),
    ];
    check(
        &users,
        &[("GET", "/api/v1/pods"), lease],
        expect![[r#"
            ada GET /api/v1/pods: system Short
            ada PUT /apis/coordination.k8s.io/v1/namespaces/a/leases/x: system Short
            system:node:n1 GET /api/v1/pods: node-high Short
            system:node:n1 PUT /apis/coordination.k8s.io/v1/namespaces/a/leases/x: node-high Short
            system:serviceaccount:a:b GET /api/v1/pods: workload-low Short
            system:serviceaccount:a:b PUT /apis/coordination.k8s.io/v1/namespaces/a/leases/x: leader-election Short
            jane GET /api/v1/pods: global-default Short
            jane PUT /apis/coordination.k8s.io/v1/namespaces/a/leases/x: global-default Short
            system:anonymous GET /api/v1/pods: catch-all Short
            system:anonymous PUT /apis/coordination.k8s.io/v1/namespaces/a/leases/x: catch-all Short
        "#]],
    );
    check(
        &users[3..4],
        &[
            ("GET", "/readyz/log"),
            ("POST", "/readyz"),
            ("POST", "/hooks/git"),
            ("GET", "/api/v1/pods?watch=1"),
            ("GET", "/api/v1/namespaces/a/pods/p/log?follow=true"),
            ("POST", "/api/v1/namespaces/a/pods/p/exec"),
            ("GET", "/mainstay/v1/commits/a/wait"),
        ],
        expect![[r#"
            jane GET /readyz/log: global-default Free
            jane POST /readyz: global-default Short
            jane POST /hooks/git: global-default Short
            jane GET /api/v1/pods?watch=1: global-default Watch
            jane GET /api/v1/namespaces/a/pods/p/log?follow=true: global-default Stream
            jane POST /api/v1/namespaces/a/pods/p/exec: global-default Stream
            jane GET /mainstay/v1/commits/a/wait: global-default Stream
        "#]],
    );
}

#[test]
fn the_shares_are_all_there_is() {
    let seats: usize = Lane::ALL.iter().map(|lane| lane.bounds().seats).sum();
    assert_eq!(seats, REQUESTS_MAX);
    let mut names: Vec<_> = Lane::ALL.iter().map(|lane| lane.name()).collect();
    names.dedup();
    assert_eq!(names.len(), Lane::ALL.len());
}

const SMALL: Bounds = Bounds { seats: 4, seats_user: 3, waiting: 4 };

#[test]
fn users_take_turns_whoever_came_first() {
    let mut seats = Seats::new(SMALL);
    assert!((0..3).all(|_| seats.sit("flood")) && !seats.sit("flood"), "one user took every seat");
    assert!(seats.sit("late") && !seats.sit("late"), "there are more seats than there are");
    for n in 1..=3 {
        assert_eq!(seats.wait("flood", n), Ok(None));
    }
    assert_eq!(seats.wait("jane", 10), Ok(None));
    let called: Vec<_> = (0..4).filter_map(|_| seats.leave("flood")).collect();
    let of = |name: &str, n| (name.to_owned(), n);
    assert_eq!(called[..2], [of("flood", 1), of("jane", 10)]);
    assert_eq!(called.len(), 4);
    assert_eq!(seats.waiting(), 0);
    assert!(seats.seated() <= SMALL.seats);
}

/// A free seat is not given to one who has enough, and is not forgotten when they have less.
#[test]
fn a_seat_that_nobody_may_take_is_taken_later() {
    let mut seats = Seats::new(SMALL);
    assert!((0..3).all(|_| seats.sit("flood")) && seats.sit("jane"));
    assert_eq!(seats.wait("flood", 1), Ok(None));
    assert_eq!(seats.leave("jane"), None, "one user would have every seat");
    assert!(seats.sit("jane") && seats.leave("jane").is_none());
    assert_eq!(seats.leave("flood"), Some(("flood".to_owned(), 1)));
}

#[test]
fn a_full_queue_turns_away_who_fills_it() {
    let mut seats = Seats::new(SMALL);
    assert!((0..3).all(|_| seats.sit("flood")) && seats.sit("jane"));
    for n in 1..=4 {
        assert_eq!(seats.wait("flood", n), Ok(None));
    }
    assert_eq!(seats.wait("flood", 5), Err(5), "the flood goes on waiting in longer queues");
    assert_eq!(seats.wait("jane", 10), Ok(Some(4)));
    assert_eq!(seats.wait("joe", 20), Ok(Some(3)));
    assert_eq!(seats.wait("jane", 11), Err(11), "as many as the others");
    seats.prune(|n| *n < 10);
    assert_eq!(seats.waiting(), 2);
    assert_eq!(seats.leave("jane"), Some(("jane".to_owned(), 10)));
}

/// Random runs: seats are never more than there are, and never free while somebody may have one.
#[test]
fn no_seat_is_lost_and_none_is_given_twice() {
    proptest::proptest!(|(steps in proptest::collection::vec((0..3_u8, 0..4_u8), 0..200))| {
        let mut seats = Seats::new(SMALL);
        let mut seated: BTreeMap<String, usize> = BTreeMap::new();
        for (step, user) in steps {
            let user = format!("u{user}");
            if step < 2 {
                match seats.sit(&user) {
                    true => *seated.entry(user).or_default() += 1,
                    false => assert!(seats.wait(&user, ()).is_ok() || seats.waiting() > 0),
                }
            } else if seated.get(&user).is_some_and(|n| *n > 0) {
                *seated.entry(user.clone()).or_default() -= 1;
                if let Some((next, ())) = seats.leave(&user) {
                    *seated.entry(next).or_default() += 1;
                }
            }
            let total: usize = seated.values().sum();
            assert_eq!(total, seats.seated());
            assert!(total <= SMALL.seats && seated.values().all(|n| *n <= SMALL.seats_user));
            assert!(seats.waiting() <= SMALL.waiting);
            let full = seated.values().filter(|n| **n == SMALL.seats_user).count();
            assert!(seats.waiting() == 0 || total == SMALL.seats || full > 0, "a seat was lost");
        }
    });
}

fn small(wait_ms: u64) -> Shares {
    Shares::with(Duration::from_millis(wait_ms), |_| SMALL)
}

/// Deadline of what must happen at once.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_seat_is_passed_on_and_survives_those_who_do_not_wait() {
    let shares = Arc::new(small(60_000));
    let lane = Lane::GlobalDefault;
    let mut taken = Vec::new();
    for user in ["flood", "flood", "flood", "jane"] {
        taken.push(shares.seat(lane, user).await.unwrap());
    }
    let waits = tokio::spawn({
        let shares = shares.clone();
        async move { shares.seat(lane, "joe").await.is_ok() }
    });
    let line = shares.lanes.iter().find(|(of, _)| *of == lane).unwrap().1.clone();
    while line.seats().waiting() < 1 {
        tokio::task::yield_now().await;
    }
    let gone = tokio::time::timeout(Duration::ZERO, shares.seat(lane, "gone")).await;
    assert!(gone.is_err() && line.seats().waiting() == 2);
    taken.clear();
    assert!(tokio::time::timeout(SOON, waits).await.unwrap().unwrap());
    let seats = line.seats();
    assert_eq!((seats.seated(), seats.waiting()), (0, 0), "a seat was lost");
}

#[tokio::test]
async fn who_waited_too_long_hears_when_to_come_back() {
    let shares = small(1);
    let mut taken = Vec::new();
    for _ in 0..3 {
        taken.push(shares.seat(Lane::System, "flood").await.unwrap());
    }
    let refused = shares.seat(Lane::System, "flood").await.err().unwrap();
    assert_eq!(refused.code, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.details.unwrap().retry_after_seconds, Some(1));
    let late = shares.samples().into_iter().filter(|sample| {
        sample.metric.name.ends_with("rejected_requests_total") && sample.value > 0.0
    });
    let late: Vec<_> = late.map(|sample| sample.labels.join(" ")).collect();
    assert_eq!(late, ["system system time-out"]);
}

fn ask(path: &str, user: &str) -> Request<Body> {
    let mut request = Request::builder().uri(path).body(Body::empty()).unwrap();
    let groups = if user == "ada" { vec!["system:masters".to_owned()] } else { Vec::new() };
    request.extensions_mut().insert(Peer { user: user.to_owned(), groups });
    request
}

/// A flood of requests that never end leaves room for another user of the same lane, for other
/// lanes, and for health, and is told so itself.
#[tokio::test]
async fn a_flood_delays_nobody_else() {
    let backend = Fake::new(&Cluster::web());
    let app = routers(backend.clone()).tls;
    let bounds = Lane::System.bounds();
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..bounds.seats_user + bounds.waiting {
        let stuck = ask("/mainstay/v1/plan?revision=stuck", "ada");
        flood.spawn(app.clone().oneshot(stuck));
    }
    let metrics = || async {
        let mut eve = ask("/metrics", "eve");
        eve.extensions_mut()
            .insert(Peer { user: "eve".to_owned(), groups: vec!["system:masters".to_owned()] });
        let answer = app.clone().oneshot(eve);
        let answer = tokio::time::timeout(SOON, answer).await.expect("eve waits for ada").unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["x-kubernetes-pf-prioritylevel-uid"], "system");
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    let labels = r#"{flow_schema="system",priority_level="system"}"#;
    let queue =
        format!("apiserver_flowcontrol_current_inqueue_requests{labels} {}", bounds.waiting);
    let deadline = tokio::time::Instant::now() + SOON;
    while !metrics().await.contains(&queue) {
        assert!(tokio::time::Instant::now() < deadline, "{}", metrics().await);
        tokio::task::yield_now().await;
    }
    let refused = app.clone().oneshot(ask("/mainstay/v1/status", "ada")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "1");
    let body = axum::body::to_bytes(refused.into_body(), 1 << 20).await.unwrap();
    assert!(String::from_utf8_lossy(&body).contains("Too many requests, please try again later."));
    let jane = app.clone().oneshot(ask("/api", "jane")).await.unwrap();
    assert_eq!(jane.headers()["x-kubernetes-pf-prioritylevel-uid"], "global-default");
    assert_ne!(jane.status(), StatusCode::TOO_MANY_REQUESTS);
    let health = app.clone().oneshot(ask("/readyz", "ada")).await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    flood.abort_all();
}
