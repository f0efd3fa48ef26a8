package main

import (
	"github.com/alecthomas/kong"

	"spillway/pkg/broker"
)

// identityFlags say as whom a command connects to NATS, and whom it trusts there.
type identityFlags struct {
	NATSCreds        string `name:"nats-creds" group:"NATS connection" help:"File with the NATS user's JWT and seed, as nsc writes it. This and the files below are read again at each reconnect." type:"path" placeholder:"FILE"`
	NATSNkey         string `name:"nats-nkey" group:"NATS connection" help:"File with the NATS user's seed, which begins with SU." type:"path" placeholder:"FILE"`
	NATSUser         string `name:"nats-user" group:"NATS connection" help:"Name of the NATS user, if it does not stand in the URL." placeholder:"NAME"`
	NATSPasswordFile string `name:"nats-password-file" group:"NATS connection" help:"File with the NATS user's password." type:"path" placeholder:"FILE"`
	NATSCA           string `name:"nats-ca" group:"NATS connection" help:"Certificates by which the NATS server's must be signed, PEM; default: those that this machine trusts." type:"path" placeholder:"FILE"`
	NATSCert         string `name:"nats-cert" group:"NATS connection" help:"Certificate of this client, PEM, for NATS servers that ask for one." type:"path" placeholder:"FILE"`
	NATSKeyFile      string `name:"nats-key-file" group:"NATS connection" help:"Its private key, PEM." type:"path" placeholder:"FILE"`
}

func (f identityFlags) credentials() broker.Credentials {
	return broker.Credentials{
		Creds: f.NATSCreds, Nkey: f.NATSNkey, User: f.NATSUser, PasswordFile: f.NATSPasswordFile,
		CA: f.NATSCA, Cert: f.NATSCert, Key: f.NATSKeyFile,
	}
}

// on returns the credentials for a shared server; the embedded one, whose url is "", knows no users.
func (f identityFlags) on(url string) broker.Credentials {
	if url == "" {
		return broker.Credentials{}
	}
	return f.credentials()
}

// Validate refuses to connect to the embedded server as somebody.
func (c *upCmd) Validate(parsed *kong.Context) error { return needsServer(parsed, c.NATS) }

// Validate refuses to connect to the embedded server as somebody.
func (c *drillIncidentCmd) Validate(parsed *kong.Context) error { return needsServer(parsed, c.NATS) }

// Validate refuses to connect to the embedded server as somebody.
func (c *benchSpeedCmd) Validate(parsed *kong.Context) error { return needsServer(parsed, c.NATS) }

// needsServer names a flag that stands on the command line without a shared server. In the environment it may be for
// other commands.
func needsServer(parsed *kong.Context, url string) error {
	for _, p := range parsed.Path {
		if url == "" && p.Flag != nil && p.Flag.Group != nil && p.Flag.Group.Key == "NATS connection" && !p.Resolved {
			return exit(exitUsage, "--%s is for a shared NATS server: say --nats URL", p.Flag.Name)
		}
	}
	return nil
}
