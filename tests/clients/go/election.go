package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	coordination "k8s.io/api/coordination/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// What client-go's users have by default, but for how often they try.
const (
	leaseTime = 15 * time.Second
	renewTime = 10 * time.Second
	retryTime = 500 * time.Millisecond
)

// holders is who held the lease, in order, and how often each renewed it.
type holders struct {
	mu      sync.Mutex
	order   []string
	renewed int
}

func (h *holders) OnAdd(object any, _ bool) { h.OnUpdate(nil, object) }

func (h *holders) OnUpdate(_, object any) {
	holder := ""
	if of := object.(*coordination.Lease).Spec.HolderIdentity; of != nil {
		holder = *of
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.order) > 0 && h.order[len(h.order)-1] == holder {
		h.renewed++
		return
	}
	h.order, h.renewed = append(h.order, holder), 0
	fmt.Println("holder", holder)
}

func (h *holders) OnDelete(any) {}

func (h *holders) renewals() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.renewed
}

// runElection lets two candidates stand for one Lease, each through another server.
//
// Words: `renewed` waits for renewals by whoever leads and prints `renewed`; `release` lets the
// first candidate step down; `check` says who led. It prints `leads NAME`, `stopped NAME` and
// `holder NAME`.
func runElection(c cluster, words <-chan string) []string {
	seen := &holders{}
	seen.watch(c)
	stops := map[string]context.CancelFunc{}
	for n, name := range []string{"first", "second"} {
		ctx, cancel := context.WithCancel(context.Background())
		stops[name] = cancel
		started := make(chan struct{})
		go stand(ctx, c, n, name, started)
		if n == 0 {
			<-started
		}
	}
	for word := range words {
		switch word {
		case "renewed":
			before := seen.renewals()
			for begun := time.Now(); seen.renewals() < before+3; time.Sleep(look) {
				if time.Since(begun) > settleMost {
					return []string{"the lease is not renewed"}
				}
			}
			fmt.Println("renewed")
		case "release":
			stops["first"]()
		case "check":
			return seen.judge()
		}
	}
	return []string{"nobody said check"}
}

// watch follows the Lease itself: what others see of the election.
func (h *holders) watch(c cluster) {
	client, _ := c.client(2, nil)
	source := cache.NewListWatchFromClient(client.CoordinationV1().RESTClient(), "leases",
		c.namespace, fields.OneTermEqualSelector("metadata.name", c.name))
	informer := cache.NewSharedInformer(source, &coordination.Lease{}, 0)
	_, err := informer.AddEventHandler(h)
	must(err)
	go informer.Run(context.Background().Done())
	cache.WaitForCacheSync(context.Background().Done(), informer.HasSynced)
}

// judge holds that the first led without a break until it stepped down, and the second after it.
func (h *holders) judge() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if want := []string{"first", "", "second"}; !slices.Equal(h.order, want) {
		return []string{"the lease was held by: " + strings.Join(h.order, ", ")}
	}
	return nil
}

func stand(ctx context.Context, c cluster, first int, name string, started chan struct{}) {
	client, _ := c.client(first, protobuf)
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  meta.ObjectMeta{Namespace: c.namespace, Name: c.name},
		Client:     client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: name},
	}
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock:            lock,
		LeaseDuration:   leaseTime,
		RenewDeadline:   renewTime,
		RetryPeriod:     retryTime,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) {
				fmt.Println("leads", name)
				close(started)
			},
			OnStoppedLeading: func() { fmt.Println("stopped", name) },
		},
	})
}
