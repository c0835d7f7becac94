package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

const (
	// Generous: the machine may be busy with other tests.
	settleMost = 60 * time.Second
	look       = 50 * time.Millisecond
)

// watched is one resource that a watcher watches.
type watched struct {
	ledger ledger
	cache  cache.SharedIndexInformer
}

// watcher is a set of shared informers that dials one server first.
type watcher struct {
	door      *door
	begun     atomic.Int64
	resources map[string]*watched
}

// counted counts what begins anew instead of going on: lists, and watches that send all first.
type counted struct {
	http.RoundTripper
	begun *atomic.Int64
}

func (c counted) RoundTrip(request *http.Request) (*http.Response, error) {
	query := request.URL.Query()
	if query.Get("watch") == "" || query.Get("sendInitialEvents") == "true" {
		c.begun.Add(1)
	}
	return c.RoundTripper.RoundTrip(request)
}

func newWatcher(c cluster, first int) *watcher {
	w := &watcher{}
	client, door := c.client(first, func(config *rest.Config) {
		config.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return counted{next, &w.begun}
		})
	})
	w.door = door
	factory := informers.NewSharedInformerFactoryWithOptions(
		client, 0, informers.WithNamespace(c.namespace))
	w.resources = map[string]*watched{
		"configmaps": {cache: factory.Core().V1().ConfigMaps().Informer()},
		"pods":       {cache: factory.Core().V1().Pods().Informer()},
	}
	for _, of := range w.resources {
		_, err := of.cache.AddEventHandler(&of.ledger)
		must(err)
	}
	factory.Start(context.Background().Done())
	for _, of := range w.resources {
		cache.WaitForCacheSync(context.Background().Done(), of.cache.HasSynced)
	}
	return w
}

// runInformers watches from two servers at once and writes through the third, while words tell it what
// befalls them; then it says what the watchers were told that was not so.
//
// Words: `write` begins to write; `seen` waits until every watcher was told of all that is
// acknowledged, thus has a watch under way; `next` makes every watcher leave its server for the next
// one; `quiet` ends writing; `check` checks. It prints `synced` first, `written N` now and then,
// `seen` and `quiet`.
//
// A word that cuts connections belongs after `seen`: an informer whose watch is cut before it is
// answered begins anew, on Kubernetes too.
func runInformers(c cluster, words <-chan string) []string {
	watchers := []*watcher{newWatcher(c, 0), newWatcher(c, 1)}
	writer := newWriter(c, 2)
	fmt.Println("synced")
	var acked []acked
	var problems []string
	for word := range words {
		switch word {
		case "write":
			writer.start()
		case "seen":
			if problem := catchUp(watchers, writer.all()); problem != "" {
				return []string{problem}
			}
			fmt.Println("seen")
		case "next":
			for _, w := range watchers {
				w.door.next()
			}
		case "quiet":
			acked, problems = writer.quiet()
			fmt.Println("quiet")
		case "check":
			return append(problems, judge(c, watchers, acked)...)
		}
	}
	return []string{"nobody said check"}
}

// catchUp waits until every watcher was told of all these writes.
func catchUp(watchers []*watcher, all []acked) string {
	var behind string
	within(func() bool {
		behind = missing(watchers, all)
		return behind == ""
	})
	return behind
}

// missing names a write that a watcher was not told of.
func missing(watchers []*watcher, all []acked) string {
	for n, w := range watchers {
		for name, of := range w.resources {
			events, _ := of.ledger.all()
			if found := unseen(events, all, name); len(found) > 0 {
				return fmt.Sprintf("watcher %d of %s: %s", n, name, found[0])
			}
		}
	}
	return ""
}

// within waits until something holds, and says whether it came to.
func within(holds func() bool) bool {
	for begun := time.Now(); time.Since(begun) < settleMost; time.Sleep(look) {
		if holds() {
			return true
		}
	}
	return false
}

// judge compares what the watchers were told with what is there, with what was acknowledged, and
// with each other.
func judge(c cluster, watchers []*watcher, all []acked) []string {
	client, _ := c.client(0, nil)
	var problems []string
	for _, resource := range []string{"configmaps", "pods"} {
		listed := list(c, client, resource)
		settle(watchers, resource, listed)
		var told [][]event
		for n, w := range watchers {
			say := func(what string) {
				problems = append(problems, fmt.Sprintf("watcher %d of %s: %s", n, resource, what))
			}
			of := w.resources[resource]
			if has := stored(of.cache.GetStore()); !maps.Equal(has, listed) {
				say(fmt.Sprintf("its cache has %v, the list %v", has, listed))
			}
			events, missed := of.ledger.all()
			for _, what := range slices.Concat(missed, check(events, uids(listed))) {
				say(what)
			}
			for _, what := range unseen(events, all, resource) {
				say(what)
			}
			told = append(told, events)
		}
		if what := difference(told[0], told[1]); what != "" {
			problems = append(problems, "the watchers of "+resource+" were not told the same: "+what)
		}
		fmt.Println(resource, len(told[0]), "events,", len(listed), "objects left")
	}
	for n, w := range watchers {
		if begun := w.begun.Load(); begun != int64(len(w.resources)) {
			what := fmt.Sprintf("watcher %d began %d times for %d resources", n, begun, len(w.resources))
			problems = append(problems, what)
		}
	}
	fmt.Println(len(all), "writes acknowledged")
	return problems
}

// difference shows the first place where two were told something else.
func difference(one, other []event) string {
	for n := range max(len(one), len(other)) {
		if n >= len(one) || n >= len(other) || one[n] != other[n] {
			return fmt.Sprintf("event %d of %d and %d: %+v, %+v", n, len(one), len(other),
				one[min(n, len(one)):min(n+2, len(one))], other[min(n, len(other)):min(n+2, len(other))])
		}
	}
	return ""
}

// unseen names the acknowledged writes that were not told.
func unseen(events []event, all []acked, resource string) []string {
	told := map[acked]bool{}
	for _, e := range events {
		version := e.version
		if e.verb == deleted {
			version = ""
		}
		told[acked{resource, e.uid, version}] = true
	}
	var problems []string
	for _, a := range all {
		if a.kind == resource && !told[a] {
			problems = append(problems, fmt.Sprintf("nothing was told of %+v", a))
		}
	}
	return problems
}

// list is what the servers have: uid and version by name.
func list(c cluster, client *kubernetes.Clientset, resource string) map[string]string {
	found := map[string]string{}
	put := func(of meta.Object) { found[of.GetName()] = identity(of) }
	switch resource {
	case "configmaps":
		all, err := client.CoreV1().ConfigMaps(c.namespace).List(context.Background(), meta.ListOptions{})
		must(err)
		for n := range all.Items {
			put(&all.Items[n])
		}
	case "pods":
		all, err := client.CoreV1().Pods(c.namespace).List(context.Background(), meta.ListOptions{})
		must(err)
		for n := range all.Items {
			put(&all.Items[n])
		}
	}
	return found
}

func identity(of meta.Object) string { return string(of.GetUID()) + " " + of.GetResourceVersion() }

func uids(listed map[string]string) map[string]bool {
	found := map[string]bool{}
	for _, identity := range listed {
		uid, _, _ := strings.Cut(identity, " ")
		found[uid] = true
	}
	return found
}

func stored(store cache.Store) map[string]string {
	found := map[string]string{}
	for _, item := range store.List() {
		of := item.(meta.Object)
		found[of.GetName()] = identity(of)
	}
	return found
}

// settle waits until all caches have what was listed and all were told the same: a handler is told
// after the cache has it.
func settle(watchers []*watcher, resource string, listed map[string]string) {
	first, _ := watchers[0].resources[resource].ledger.all()
	within(func() bool {
		same := true
		for _, w := range watchers {
			of := w.resources[resource]
			events, _ := of.ledger.all()
			same = same && maps.Equal(stored(of.cache.GetStore()), listed) && slices.Equal(events, first)
			first = events
		}
		return same
	})
}
