package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/cache"
)

type verb string

const (
	added   verb = "added"
	updated verb = "updated"
	deleted verb = "deleted"
)

// event is what a handler of an informer was told.
type event struct {
	verb    verb
	key     string
	uid     string
	version string
}

// ledger is all that the handler of one informer was told, in its order.
type ledger struct {
	mu     sync.Mutex
	events []event
	// How many of them were there before the informer: they come first, in any order.
	first    int
	problems []string
}

func (l *ledger) OnAdd(object any, first bool) { l.put(added, object, first) }

func (l *ledger) OnUpdate(_, object any) { l.put(updated, object, false) }

func (l *ledger) OnDelete(object any) {
	if gone, is := object.(cache.DeletedFinalStateUnknown); is {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.problems = append(l.problems, "the deletion of "+gone.Key+" was not seen")
		return
	}
	l.put(deleted, object, false)
}

func (l *ledger) put(verb verb, object any, first bool) {
	of, err := meta.Accessor(object)
	must(err)
	key := of.GetNamespace() + "/" + of.GetName()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, event{verb, key, string(of.GetUID()), of.GetResourceVersion()})
	if first {
		l.first++
	}
}

// all is what was told, ordered as it happened, and what was wrong with how it was told.
func (l *ledger) all() ([]event, []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	events, problems := slices.Clone(l.events), slices.Clone(l.problems)
	byVersion := func(a, b event) int { return cmp.Compare(number(a.version), number(b.version)) }
	if !slices.IsSortedFunc(events[l.first:], byVersion) {
		problems = append(problems, "what happened was not told in its order")
	}
	slices.SortStableFunc(events, byVersion)
	return events, problems
}

// check says what is wrong with the events: an object is added once, its versions grow, and nothing
// of it comes after its deletion. present holds the uids that must be left.
func check(events []event, present map[string]bool) []string {
	var problems []string
	problem := func(e event, what string) {
		problems = append(problems, fmt.Sprintf("%s %s at %s: %s", e.key, e.verb, e.version, what))
	}
	last := map[string]event{}
	versions := map[string]bool{}
	for _, e := range events {
		before, known := last[e.uid]
		switch {
		case versions[e.version]:
			problem(e, "this version was told before")
		case !known && e.verb != added:
			problem(e, "it was never added")
		case known && e.verb == added:
			problem(e, "it was added before")
		case known && before.verb == deleted:
			problem(e, "it was deleted before")
		case known && number(before.version) >= number(e.version):
			problem(e, "version "+before.version+" was told before it")
		}
		versions[e.version] = true
		last[e.uid] = e
	}
	for uid, e := range last {
		if present[uid] != (e.verb != deleted) {
			problem(e, fmt.Sprintf("this was its last event, and in the list: %t", present[uid]))
		}
	}
	return problems
}

func number(version string) uint64 {
	n, err := strconv.ParseUint(version, 10, 64)
	must(err)
	return n
}
