package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"spillway/pkg/apikey"
	"spillway/pkg/broker"
)

// keyCmd deals with the API keys of the doors.
type keyCmd struct {
	Create keyCreateCmd `cmd:"" help:"Make a key and print its secret, once."`
	Ls     keyLsCmd     `cmd:"" help:"List the keys: id, name, tenant, tasks, scopes, rate, since when, revoked when. Never a secret."`
	Revoke keyRevokeCmd `cmd:"" help:"End a key for good: every door refuses it, and its tokens, within moments."`
	Rotate keyRotateCmd `cmd:"" help:"Sign tokens with a new key. Tokens of the one before hold until the next rotation: twice ends all of them."`
}

// keyTimeout bounds one look or one change.
const keyTimeout = 10 * time.Second

// keys opens the connection and does one thing to the keys.
func (f natsFlags) keys(ctx context.Context, g *globals, do func(context.Context, *broker.Conn) error) error {
	conn, err := f.open(ctx, g, "key", broker.RecordStream(broker.KeysBucket))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	return quiet(unanswerable(do(ctx, conn)))
}

type keyCreateCmd struct {
	natsFlags
	Name   string   `arg:"" help:"What the key is called in lists, by you: web, crm-staging."`
	Tenant string   `env:"-" required:"" help:"Whose requests they are: the key sees and makes no others." placeholder:"TENANT"`
	Task   []string `env:"-" help:"A task that the key is for, or several; none: all." placeholder:"TASK"`
	Scope  []string `env:"-" help:"What it may do: submit (and cancel), read." default:"submit,read" placeholder:"SCOPE"`
	Rate   float64  `env:"-" help:"Requests a second; 0: unlimited." default:"50" placeholder:"N"`
	Burst  int      `env:"-" help:"How many requests may come at once; 0: twice the rate." default:"0" placeholder:"N"`
}

func (c *keyCreateCmd) spec() apikey.Spec {
	s := apikey.Spec{Name: c.Name, Tenant: c.Tenant, Tasks: c.Task, Rate: c.Rate, Burst: c.Burst}
	for _, scope := range c.Scope {
		s.Scopes = append(s.Scopes, apikey.Scope(scope))
	}
	return s
}

// createdKey is a new key as --json prints it.
type createdKey struct {
	apikey.Key
	Secret string `json:"secret"`
}

// Run prints the secret on standard output, and nothing else there.
func (c *keyCreateCmd) Run(ctx context.Context, g *globals) error {
	spec := c.spec()
	if err := spec.Check(); err != nil {
		return exit(exitUsage, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return c.keys(ctx, g, func(ctx context.Context, conn *broker.Conn) error {
		secret, k, err := apikey.Create(ctx, conn, spec)
		if err != nil {
			return err
		}
		if g.cli.JSON {
			err = g.printJSON(createdKey{Key: k, Secret: secret})
		} else {
			_, err = fmt.Fprintln(g.stdout, secret)
		}
		if err != nil {
			return fmt.Errorf("key %s was made, but its secret could not be printed: `spillway key revoke %s`: %w", k.ID, k.ID, err)
		}
		g.note("key %s for tenant %s: keep the secret now, it is stored nowhere and not shown again", k.ID, k.Tenant)
		g.note("send it as the header `Authorization: Bearer SECRET`; `spillway key revoke %s` ends it", k.ID)
		return nil
	})
}

type keyLsCmd struct{ natsFlags }

// Run prints a table, or JSON lines.
func (c *keyLsCmd) Run(ctx context.Context, g *globals) error {
	return c.keys(ctx, g, func(ctx context.Context, conn *broker.Conn) error {
		all, unreadable := apikey.List(ctx, conn)
		if err := g.showKeys(all); err != nil {
			return err
		}
		return unreadable
	})
}

func (g *globals) showKeys(all []apikey.Key) error {
	if g.cli.JSON {
		for _, k := range all {
			if err := g.printJSON(k); err != nil {
				return err
			}
		}
		return nil
	}
	if len(all) == 0 {
		g.note("no keys: `spillway key create NAME --tenant TENANT` makes one")
		return nil
	}
	t := newTable(g.stdout, "id", "name", "tenant", "tasks", "scopes", "rate", "created", "revoked")
	now := time.Now()
	for _, k := range all {
		revoked := "never"
		if k.Revoked() {
			revoked = span(now.Sub(k.RevokedAt)) + " ago"
		}
		t.row(k.ID, k.Name, k.Tenant, cmp.Or(strings.Join(k.Tasks, ","), "all"), scopesOf(k), rateOf(k), span(now.Sub(k.CreatedAt))+" ago", revoked)
	}
	return t.flush()
}

func scopesOf(k apikey.Key) string {
	names := make([]string, len(k.Scopes))
	for i, s := range k.Scopes {
		names[i] = string(s)
	}
	return strings.Join(names, ",")
}

func rateOf(k apikey.Key) string {
	if k.Rate == 0 {
		return "unlimited"
	}
	return fmt.Sprintf("%g/s, burst %d", k.Rate, k.Burst)
}

type keyRevokeCmd struct {
	natsFlags
	ID string `arg:"" help:"Id of the key, from spillway key ls."`
}

// Run revokes; a second time changes nothing. What was typed is not repeated: it may be a secret.
func (c *keyRevokeCmd) Run(ctx context.Context, g *globals) error {
	if !apikey.IsKeyID(c.ID) {
		return exit(exitUsage, "that is no id of a key: it is the 12 characters between the two _ of a secret; `spillway key ls` lists them")
	}
	return c.keys(ctx, g, func(ctx context.Context, conn *broker.Conn) error {
		k, err := apikey.Revoke(ctx, conn, c.ID)
		if errors.Is(err, apikey.ErrUnknown) {
			return exit(exitNotFound, "there is no key %s: `spillway key ls` lists them", c.ID)
		}
		if err != nil {
			return err
		}
		if g.cli.JSON {
			return g.printJSON(k)
		}
		_, err = fmt.Fprintf(g.stdout, "key %s (%s, tenant %s) is revoked since %s\n", k.ID, k.Name, k.Tenant, k.RevokedAt.Local().Format(time.DateTime))
		g.note("every door refuses it and its tokens within moments; a door that lost the broker, once it is back; accepted requests go on")
		return err
	})
}

type keyRotateCmd struct{ natsFlags }

// Run rotates.
func (c *keyRotateCmd) Run(ctx context.Context, g *globals) error {
	return c.keys(ctx, g, func(ctx context.Context, conn *broker.Conn) error {
		if err := apikey.Rotate(ctx, conn); err != nil {
			return err
		}
		if g.cli.JSON {
			return g.printJSON(map[string]any{"rotated": true})
		}
		_, err := fmt.Fprintln(g.stdout, "new tokens are signed with a new key; those of the one before hold until the next rotation")
		return err
	})
}
