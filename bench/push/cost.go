package main

import (
	"context"
	"fmt"
	"time"

	"github.com/chappe/chappe/internal/swarm"
)

// measureIdleCost measures what sessions cost that have nothing to receive.
func measureIdleCost(ctx context.Context, r *run) error {
	fmt.Printf("\n### Idle cost: %d sessions for %v, heartbeat %v\n\n", r.sessions, r.idle, r.heartbeat)
	fmt.Println("Bytes are of IP in both directions, from TCP_INFO of the client's sockets: payload, and 52 for each segment's heads.")
	fmt.Println("\n| sessions | bytes a minute each | server CPU, % of a core | lost | goals |\n|---|---|---|---|---|")
	for _, row := range []struct {
		name      string
		transport swarm.Transport
	}{{"WebSocket", swarm.WebSocket}, {"SSE", swarm.SSE}} {
		if err := r.idleCost(ctx, row.name, row.transport); err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
	}
	return nil
}

func (r *run) idleCost(ctx context.Context, name string, transport swarm.Transport) error {
	h, err := newHome(ctx, r, "cost-"+name, r.sessions)
	if err != nil {
		return err
	}
	s, err := h.start(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer s.kill()
	c, err := startClient(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	if _, err := c.dial(order{Target: s.address, Count: r.sessions, Topic: "public/idle", Transport: transport, Greeted: true, Time: 3 * time.Minute, Attempt: 30 * time.Second}); err != nil {
		return err
	}
	if err := pause(ctx, r.settle); err != nil {
		return err
	}
	wireBefore, cpuBefore, err := s.spent(c)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := pause(ctx, r.idle); err != nil {
		return err
	}
	wire, cpu, err := s.spent(c)
	if err != nil {
		return err
	}
	took := time.Since(began)
	end, err := c.call(order{Do: "stats"})
	if err != nil {
		return err
	}
	fmt.Printf("| %s | **%.0f** | **%.2f** | %d | <= 220, <= 1 |\n", name,
		float64(wire-wireBefore)/float64(r.sessions)/took.Minutes(), 100*(cpu-cpuBefore).Seconds()/took.Seconds(), end.Ended)
	return nil
}

func (s *server) spent(c *remote) (wire uint64, cpu time.Duration, err error) {
	w, err := c.call(order{Do: "wire"})
	if err != nil {
		return 0, 0, err
	}
	cpu, err = s.cpu()
	return w.Wire, cpu, err
}
