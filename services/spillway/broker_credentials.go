package main

import (
	"slices"

	"spillway/pkg/credentials"
)

// brokerCredentialsCmd makes what the nodes of a cluster and its users know each other by.
type brokerCredentialsCmd struct {
	Dir    string   `arg:"" help:"Folder for them. It must have none yet." type:"path"`
	Node   []string `help:"Name or address by which a node of the cluster is reached; localhost and 127.0.0.1 besides. Repeatable." default:"nats-1,nats-2,nats-3" placeholder:"NAME"`
	Rotate string   `env:"-" help:"Give one user, service or client, the seed that the servers know as the next one." placeholder:"USER" xor:"act"`
	Renew  bool     `env:"-" help:"Make a new certificate of the nodes, which holds for two years." xor:"act"`
}

// Run writes the files and says what to do with them.
func (c *brokerCredentialsCmd) Run(g *globals) error {
	nodes := slices.Concat(c.Node, []string{"localhost", "127.0.0.1"})
	switch {
	case c.Rotate != "":
		if err := credentials.Rotate(c.Dir, c.Rotate); err != nil {
			return err
		}
		return c.say(g, "rotated", c.Rotate, "Processes that connect from now on have the new seed. Have every node load users.conf again (SIGHUP), which\ndisconnects those with the former one: they come back with the new one by themselves.\n")
	case c.Renew:
		if err := credentials.Renew(c.Dir, nodes); err != nil {
			return err
		}
		return c.say(g, "renewed", "nodes", "Have every node load its certificate again: SIGHUP.\n")
	}
	files, err := credentials.Create(c.Dir, nodes)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := c.say(g, "file", file, file+"\n"); err != nil {
			return err
		}
	}
	if !g.cli.JSON {
		g.printf("\nKeep %s/ca.key and %s/next away from the machines that run.\n", c.Dir, c.Dir)
	}
	return nil
}

func (c *brokerCredentialsCmd) say(g *globals, what, value, text string) error {
	if g.cli.JSON {
		return g.printJSON(map[string]string{what: value})
	}
	g.printf("%s", text)
	return nil
}
