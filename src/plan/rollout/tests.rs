use super::*;

fn int(n: i32) -> IntOrString {
    IntOrString::Int(n)
}

fn percent(text: &str) -> IntOrString {
    IntOrString::String(text.to_owned())
}

/// Kubernetes' rounding: surge up, unavailable down, never both nothing.
#[test]
fn limits_round_as_kubernetes_rounds() {
    let check = |desired, surge: IntOrString, unavailable: IntOrString, expect: (i32, i32)| {
        let limits = Limits::resolve(desired, Some(&surge), Some(&unavailable));
        assert_eq!((limits.max_surge, limits.max_unavailable), expect, "{desired} {surge:?}");
    };
    check(10, percent("25%"), percent("25%"), (3, 2));
    check(4, percent("25%"), percent("25%"), (1, 1));
    check(3, percent("25%"), percent("25%"), (1, 0));
    check(1, percent("0%"), percent("25%"), (0, 1));
    check(2, int(0), percent("1%"), (0, 1));
    check(5, int(1), int(1), (1, 1));
    check(10, percent("100%"), int(0), (10, 0));
    check(0, percent("25%"), percent("25%"), (0, 1));
    let unset = Limits::resolve(10, None, None);
    assert_eq!((unset.max_surge, unset.max_unavailable), (3, 2));
}

/// Rows of Kubernetes' own tables for scaling the new ReplicaSet.
#[test]
fn the_new_set_grows_into_the_surge_only() {
    let check = |desired, max_surge, old: i32, new, expect| {
        let limits = Limits { max_surge, max_unavailable: 0 };
        assert_eq!(new_size(desired, limits, new, old + new), expect, "{desired} +{max_surge}");
    };
    check(10, 0, 0, 0, 10);
    check(10, 0, 10, 0, 0);
    check(10, 2, 10, 0, 2);
    check(10, 2, 5, 0, 7);
    check(10, 2, 8, 2, 4);
    check(10, 2, 0, 12, 10);
    check(10, 20, 10, 0, 10);
    check(0, 1, 3, 0, 0);
}

/// Rows of Kubernetes' own tables for scaling the old ReplicaSets down.
#[test]
fn old_sets_shrink_to_what_must_stay_available() {
    let check = |desired, max_unavailable, new: (i32, i32), old: &[(i32, i32)], expect: &[i32]| {
        let limits = Limits { max_surge: 0, max_unavailable };
        let share = |(size, available): (i32, i32)| Share { size, available };
        let old: Vec<Share> = old.iter().copied().map(share).collect();
        assert_eq!(old_sizes(desired, limits, share(new), &old), expect, "{desired} {old:?}");
    };
    check(10, 0, (0, 0), &[(10, 10)], &[10]);
    check(10, 2, (0, 0), &[(10, 10)], &[8]);
    // Pods that are not available go first and cost nothing.
    check(10, 2, (0, 0), &[(10, 8)], &[8]);
    check(10, 2, (0, 0), &[(8, 8)], &[8]);
    check(10, 2, (0, 0), &[(10, 0)], &[8]);
    // New pods that are not available yet hold the old ones.
    check(10, 2, (2, 0), &[(8, 8)], &[8]);
    check(10, 2, (2, 2), &[(8, 8)], &[6]);
    check(10, 2, (2, 1), &[(8, 8)], &[7]);
    check(10, 0, (2, 2), &[(10, 10)], &[8]);
    // Oldest first.
    check(10, 0, (4, 4), &[(3, 3), (5, 5)], &[1, 5]);
    check(10, 0, (4, 4), &[(3, 0), (8, 8)], &[0, 6]);
    check(0, 0, (0, 0), &[(3, 3)], &[0]);
    check(1, 5, (0, 0), &[(1, 1)], &[0]);
}

/// Rows of Kubernetes' own table for proportional scaling.
#[test]
fn scaling_in_a_rollout_is_spread_by_size() {
    let check = |desired, max_surge, before: i32, sizes: &[i32], expect: &[i32]| {
        let parts: Vec<Part> =
            sizes.iter().map(|&size| Part { size, most_before: before + max_surge }).collect();
        let limits = Limits { max_surge, max_unavailable: 0 };
        assert_eq!(proportional(desired, limits, &parts), expect, "{before}->{desired} {sizes:?}");
    };
    check(12, 0, 10, &[10], &[12]);
    check(5, 0, 10, &[10], &[5]);
    check(20, 0, 10, &[5, 5], &[10, 10]);
    check(3, 0, 10, &[5, 5], &[1, 2]);
    check(15, 3, 10, &[8, 5], &[11, 7]);
    check(5, 0, 10, &[8, 2], &[4, 1]);
    check(9, 0, 5, &[4, 1], &[7, 2]);
    check(0, 2, 10, &[10, 2], &[0, 0]);
    check(20, 6, 10, &[10, 4], &[19, 7]);
}
