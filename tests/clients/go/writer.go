package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	// How often a write is tried: with the pause, far longer than an election takes.
	triesMax = 300
	pause    = 100 * time.Millisecond
	// What is not answered by then never will be.
	answerMost = 20 * time.Second
	// After how many writes it is said how many there were.
	retold = 25
)

// acked is a write that a server said is done; a deletion's answer names no version.
type acked struct {
	kind    string
	uid     string
	version string
}

// writer makes, changes and removes objects until it is told to stop.
type writer struct {
	client *kubernetes.Clientset
	in     cluster
	stop   chan struct{}
	done   sync.WaitGroup
	mu     sync.Mutex
	acked  []acked
	failed []string
}

// protobuf is what controllers speak: bodies in protobuf, answers in what the server has.
func protobuf(config *rest.Config) {
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
}

func newWriter(c cluster, first int) *writer {
	client, _ := c.client(first, protobuf)
	return &writer{client: client, in: c, stop: make(chan struct{})}
}

func (w *writer) start() {
	maps, pods := w.configMaps(), w.pods()
	w.done.Add(2)
	go w.work(func(name string) error { return live(w, maps, name) })
	go w.work(func(name string) error { return live(w, pods, name) })
}

func (w *writer) work(life func(string) error) {
	defer w.done.Done()
	for n := 0; ; n++ {
		select {
		case <-w.stop:
			return
		default:
		}
		if err := life(fmt.Sprintf("%s-%d", w.in.name, n)); err != nil {
			w.mu.Lock()
			w.failed = append(w.failed, "a write failed: "+err.Error())
			w.mu.Unlock()
			return
		}
	}
}

// quiet ends writing; all that was acknowledged, and what failed.
func (w *writer) quiet() ([]acked, []string) {
	close(w.stop)
	w.done.Wait()
	return w.acked, w.failed
}

// all is what was acknowledged until now.
func (w *writer) all() []acked {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]acked(nil), w.acked...)
}

func (w *writer) did(a acked) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked = append(w.acked, a)
	if len(w.acked)%retold == 0 {
		fmt.Println("written", len(w.acked))
	}
}

// kind is how objects of one kind live.
type kind[T meta.Object] struct {
	name   string
	create func(ctx context.Context, name string) (T, error)
	get    func(ctx context.Context, name string) (T, error)
	change func(ctx context.Context, now T, turn int) (T, error)
	remove func(ctx context.Context, name string) error
}

func (w *writer) configMaps() kind[*core.ConfigMap] {
	maps := w.client.CoreV1().ConfigMaps(w.in.namespace)
	return kind[*core.ConfigMap]{
		name: "configmaps",
		create: func(ctx context.Context, name string) (*core.ConfigMap, error) {
			object := &core.ConfigMap{ObjectMeta: meta.ObjectMeta{Name: name}}
			return maps.Create(ctx, object, meta.CreateOptions{})
		},
		get: func(ctx context.Context, name string) (*core.ConfigMap, error) {
			return maps.Get(ctx, name, meta.GetOptions{})
		},
		change: func(ctx context.Context, now *core.ConfigMap, turn int) (*core.ConfigMap, error) {
			changed := now.DeepCopy()
			changed.Data = map[string]string{"turn": strconv.Itoa(turn)}
			return maps.Update(ctx, changed, meta.UpdateOptions{})
		},
		remove: func(ctx context.Context, name string) error {
			return maps.Delete(ctx, name, meta.DeleteOptions{})
		},
	}
}

// pods are of a kind that no node takes.
func (w *writer) pods() kind[*core.Pod] {
	pods := w.client.CoreV1().Pods(w.in.namespace)
	patches := []types.PatchType{types.StrategicMergePatchType, types.MergePatchType}
	return kind[*core.Pod]{
		name: "pods",
		create: func(ctx context.Context, name string) (*core.Pod, error) {
			object := &core.Pod{
				ObjectMeta: meta.ObjectMeta{Name: name},
				Spec:       core.PodSpec{Containers: []core.Container{{Name: "one", Image: "one:1"}}},
			}
			return pods.Create(ctx, object, meta.CreateOptions{})
		},
		get: func(ctx context.Context, name string) (*core.Pod, error) {
			return pods.Get(ctx, name, meta.GetOptions{})
		},
		change: func(ctx context.Context, now *core.Pod, turn int) (*core.Pod, error) {
			patch := fmt.Appendf(nil, `{"metadata":{"labels":{"turn":"%d"}}}`, turn)
			how := patches[turn%len(patches)]
			return pods.Patch(ctx, now.Name, how, patch, meta.PatchOptions{})
		},
		remove: func(ctx context.Context, name string) error {
			return pods.Delete(ctx, name, *meta.NewDeleteOptions(0))
		},
	}
}

// live is the life of one object: made, changed twice, and mostly removed.
//
// A write that is tried again may find what its first try did; such a one was not acknowledged.
func live[T meta.Object](w *writer, k kind[T], name string) error {
	now, err := try(func(ctx context.Context) (T, error) { return k.create(ctx, name) })
	if errors.IsAlreadyExists(err) {
		now, err = try(func(ctx context.Context) (T, error) { return k.get(ctx, name) })
	} else if err == nil {
		w.did(acked{k.name, string(now.GetUID()), now.GetResourceVersion()})
	}
	for turn := 0; turn < 2 && err == nil; turn++ {
		var next T
		next, err = try(func(ctx context.Context) (T, error) { return k.change(ctx, now, turn) })
		if errors.IsConflict(err) {
			next, err = try(func(ctx context.Context) (T, error) { return k.get(ctx, name) })
		} else if err == nil {
			w.did(acked{k.name, string(next.GetUID()), next.GetResourceVersion()})
		}
		now = next
	}
	if err != nil || name[len(name)-1]%3 == 0 {
		return err
	}
	_, err = try(func(ctx context.Context) (T, error) { return now, k.remove(ctx, name) })
	if err == nil {
		w.did(acked{k.name, string(now.GetUID()), ""})
	}
	if errors.IsNotFound(err) {
		return nil
	}
	return err
}

// try repeats a request while its fate is not known: a connection that broke, a server that has no
// leader yet. What the server refused is not tried again.
func try[T any](ask func(context.Context) (T, error)) (T, error) {
	var answer T
	var err error
	for range triesMax {
		ctx, cancel := context.WithTimeout(context.Background(), answerMost)
		answer, err = ask(ctx)
		cancel()
		if err == nil || refused(err) {
			break
		}
		time.Sleep(pause)
	}
	return answer, err
}

func refused(err error) bool {
	return errors.IsAlreadyExists(err) || errors.IsNotFound(err) || errors.IsConflict(err) ||
		errors.IsInvalid(err) || errors.IsForbidden(err) || errors.IsBadRequest(err)
}
