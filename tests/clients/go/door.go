package main

import (
	"context"
	"net"
	"sync"
	"time"

	"k8s.io/client-go/util/connrotation"
)

// A server of this machine that does not answer by then does not run.
const dialTime = 5 * time.Second

// door dials the first server that takes a connection, as a balancer before a cluster would.
type door struct {
	*connrotation.Dialer
	mu      sync.Mutex
	servers []string
	at      int
}

func newDoor(servers []string, first int) *door {
	d := &door{servers: servers, at: first}
	d.Dialer = connrotation.NewDialer(d.dial)
	return d
}

// dial ignores the address it is asked for: every server is the cluster.
func (d *door) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	d.mu.Lock()
	at := d.at
	d.mu.Unlock()
	var conn net.Conn
	var err error
	for n := range d.servers {
		dialer := net.Dialer{Timeout: dialTime}
		server := d.servers[(at+n)%len(d.servers)]
		if conn, err = dialer.DialContext(ctx, network, server); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// next goes on at the next server and leaves the one that was in use.
func (d *door) next() {
	d.mu.Lock()
	d.at = (d.at + 1) % len(d.servers)
	d.mu.Unlock()
	d.CloseAll()
}
