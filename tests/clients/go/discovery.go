package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	core "k8s.io/api/core/v1"
	slices1 "k8s.io/api/discovery/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	clients "k8s.io/client-go/kubernetes"
)

// roles is what kubernetes_sd of Prometheus looks for, and what it must find: the address that would
// be scraped, and a label that it goes by.
var roles = []struct {
	role    kubernetes.Role
	address string
	label   model.LabelName
	value   string
}{
	{kubernetes.RoleNode, "192.0.2.10:10250", "__meta_kubernetes_node_label_disk", "fast"},
	{kubernetes.RolePod, "10.244.9.9:8080", "__meta_kubernetes_pod_ready", "true"},
	{kubernetes.RoleService, "seen.free.svc:80", "__meta_kubernetes_service_port_name", "web"},
	{kubernetes.RoleEndpoint, "192.0.2.20:9000", "__meta_kubernetes_endpoint_ready", "true"},
	{
		kubernetes.RoleEndpointSlice, "192.0.2.21:9000",
		"__meta_kubernetes_endpointslice_endpoint_conditions_ready", "true",
	},
	{kubernetes.RoleIngress, "seen.example", "__meta_kubernetes_ingress_path", "/"},
}

// found is what one role has found so far, by the source that it was told with.
type found struct {
	lock    sync.Mutex
	sources map[string]*targetgroup.Group
}

func (f *found) listen(updates <-chan []*targetgroup.Group) {
	for groups := range updates {
		f.lock.Lock()
		for _, group := range groups {
			f.sources[group.Source] = group
		}
		f.lock.Unlock()
	}
}

// label gives the value of a label of the target with that address; nothing when there is none.
func (f *found) label(address string, label model.LabelName) (string, bool) {
	f.lock.Lock()
	defer f.lock.Unlock()
	for _, group := range f.sources {
		for _, target := range group.Targets {
			if string(target[model.AddressLabel]) != address {
				continue
			}
			value := target[label]
			if value == "" {
				value = group.Labels[label]
			}
			return string(value), true
		}
	}
	return "", false
}

// runDiscovery runs Prometheus' own service discovery in every role, and tells what it does not see
// come, or go.
func runDiscovery(kubeconfig string, c cluster) []string {
	client, _ := c.client(0, nil)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	all := make([]*found, len(roles))
	for at, role := range roles {
		all[at] = &found{sources: map[string]*targetgroup.Group{}}
		discover(ctx, kubeconfig, c.namespace, role.role, all[at])
	}
	makeTargets(ctx, client, c)
	problems := waitFor("not found", all, func(value string, there bool, at int) bool {
		return there && value == roles[at].value
	})
	for _, role := range roles {
		fmt.Println("looked for", role.role)
	}
	removeTargets(ctx, client, c)
	gone := waitFor("still there", all, func(_ string, there bool, _ int) bool { return !there })
	return slices.Concat(problems, gone)
}

func discover(
	ctx context.Context, kubeconfig, namespace string, role kubernetes.Role, into *found,
) {
	config := kubernetes.DefaultSDConfig
	config.Role, config.KubeConfig = role, kubeconfig
	if role != kubernetes.RoleNode {
		config.NamespaceDiscovery.Names = []string{namespace}
	}
	registry := prometheus.NewRegistry()
	metrics := config.NewDiscovererMetrics(registry, discovery.NewRefreshMetrics(registry))
	must(metrics.Register())
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	discoverer, err := config.NewDiscoverer(discovery.DiscovererOptions{Logger: log, Metrics: metrics})
	must(err)
	updates := make(chan []*targetgroup.Group)
	go discoverer.Run(ctx, updates)
	go into.listen(updates)
}

// waitFor waits until every role shows what it should, and names those that do not.
func waitFor(wrong string, all []*found, good func(string, bool, int) bool) []string {
	begun := time.Now()
	for {
		var problems []string
		for at, role := range roles {
			value, there := all[at].label(role.address, role.label)
			if !good(value, there, at) {
				text := fmt.Sprintf("%s %s is %s: %s=%q", role.role, role.address, wrong, role.label, value)
				problems = append(problems, text)
			}
		}
		if len(problems) == 0 || time.Since(begun) > settleMost {
			return problems
		}
		time.Sleep(look)
	}
}

func makeTargets(ctx context.Context, client *clients.Clientset, c cluster) {
	named := meta.ObjectMeta{Name: c.name, Namespace: c.namespace}
	labelled := func(labels map[string]string) meta.ObjectMeta {
		return meta.ObjectMeta{Name: c.name, Labels: labels}
	}
	create, patch := meta.CreateOptions{}, meta.PatchOptions{}

	node := &core.Node{ObjectMeta: labelled(map[string]string{"disk": "fast"})}
	_, err := client.CoreV1().Nodes().Create(ctx, node, create)
	must(err)
	// Patched, as controllers write to nodes and pods meanwhile.
	status := `{"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.10"}],
		"daemonEndpoints":{"kubeletEndpoint":{"Port":10250}}}}`
	_, err = client.CoreV1().Nodes().Patch(
		ctx, c.name, types.MergePatchType, []byte(status), patch, "status")
	must(err)

	port := []core.ContainerPort{{ContainerPort: 8080}}
	pod := &core.Pod{ObjectMeta: named, Spec: core.PodSpec{
		NodeName:   c.name,
		Containers: []core.Container{{Name: "main", Image: "none:1", Ports: port}},
	}}
	_, err = client.CoreV1().Pods(c.namespace).Create(ctx, pod, create)
	must(err)
	status = `{"status":{"podIP":"10.244.9.9","podIPs":[{"ip":"10.244.9.9"}],"phase":"Running",
		"conditions":[{"type":"Ready","status":"True"}]}}`
	_, err = client.CoreV1().Pods(c.namespace).Patch(
		ctx, c.name, types.MergePatchType, []byte(status), patch, "status")
	must(err)

	service := &core.Service{ObjectMeta: named, Spec: core.ServiceSpec{
		Ports: []core.ServicePort{{Name: "web", Port: 80, TargetPort: intstr.FromInt32(9000)}},
	}}
	_, err = client.CoreV1().Services(c.namespace).Create(ctx, service, create)
	must(err)

	endpoints := &core.Endpoints{ObjectMeta: named, Subsets: []core.EndpointSubset{{
		Addresses: []core.EndpointAddress{{IP: "192.0.2.20"}},
		Ports:     []core.EndpointPort{{Name: "web", Port: 9000}},
	}}}
	_, err = client.CoreV1().Endpoints(c.namespace).Create(ctx, endpoints, create)
	must(err)

	name, number, isReady := "web", int32(9000), true
	slice := &slices1.EndpointSlice{
		ObjectMeta:  labelled(map[string]string{slices1.LabelServiceName: c.name}),
		AddressType: slices1.AddressTypeIPv4,
		Endpoints: []slices1.Endpoint{{
			Addresses:  []string{"192.0.2.21"},
			Conditions: slices1.EndpointConditions{Ready: &isReady},
		}},
		Ports: []slices1.EndpointPort{{Name: &name, Port: &number}},
	}
	_, err = client.DiscoveryV1().EndpointSlices(c.namespace).Create(ctx, slice, create)
	must(err)

	kind := networking.PathTypePrefix
	backend := networking.IngressBackend{Service: &networking.IngressServiceBackend{
		Name: c.name, Port: networking.ServiceBackendPort{Number: 80},
	}}
	paths := []networking.HTTPIngressPath{{Path: "/", PathType: &kind, Backend: backend}}
	rule := networking.IngressRule{Host: "seen.example"}
	rule.HTTP = &networking.HTTPIngressRuleValue{Paths: paths}
	ingress := &networking.Ingress{ObjectMeta: named}
	ingress.Spec.Rules = []networking.IngressRule{rule}
	_, err = client.NetworkingV1().Ingresses(c.namespace).Create(ctx, ingress, create)
	must(err)
}

func removeTargets(ctx context.Context, client *clients.Clientset, c cluster) {
	now := meta.DeleteOptions{GracePeriodSeconds: new(int64)}
	core := client.CoreV1()
	must(client.NetworkingV1().Ingresses(c.namespace).Delete(ctx, c.name, now))
	must(client.DiscoveryV1().EndpointSlices(c.namespace).Delete(ctx, c.name, now))
	must(core.Endpoints(c.namespace).Delete(ctx, c.name, now))
	must(core.Services(c.namespace).Delete(ctx, c.name, now))
	must(core.Pods(c.namespace).Delete(ctx, c.name, now))
	must(core.Nodes().Delete(ctx, c.name, now))
}
