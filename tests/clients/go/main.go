// Command clients is what programs built on client-go do all day, held against the servers of a
// cluster: shared informers, leader election over Leases, and Prometheus' service discovery.
//
// It is told which servers there are, and what to do by words on its standard input; it prints a
// line for each thing that happened. Its exit code is 1 when something was not as it must be.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const usage = "usage: clients informers|discovery|election KUBECONFIG NAMESPACE NAME SERVER..."

// cluster is where the program works, and under which name.
type cluster struct {
	config    *rest.Config
	namespace string
	name      string
	servers   []string
}

// client gives a client of its own that dials the servers in turn, beginning at one of them.
func (c cluster) client(first int, change func(*rest.Config)) (*kubernetes.Clientset, *door) {
	door := newDoor(c.servers, first)
	config := rest.CopyConfig(c.config)
	config.Dial = door.DialContext
	config.QPS = -1
	if change != nil {
		change(config)
	}
	client, err := kubernetes.NewForConfig(config)
	must(err)
	return client, door
}

func main() {
	if len(os.Args) < 6 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[2])
	must(err)
	c := cluster{config: config, namespace: os.Args[3], name: os.Args[4], servers: os.Args[5:]}
	var problems []string
	switch os.Args[1] {
	case "informers":
		problems = runInformers(c, words())
	case "discovery":
		problems = runDiscovery(os.Args[2], c)
	case "election":
		problems = runElection(c, words())
	default:
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	for _, problem := range problems {
		fmt.Println("problem:", problem)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
	fmt.Println("fine")
}

// words gives what stands on standard input, a line at a time, until it ends.
func words() <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(os.Stdin)
		for scanner.Scan() {
			lines <- strings.TrimSpace(scanner.Text())
		}
	}()
	return lines
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}
