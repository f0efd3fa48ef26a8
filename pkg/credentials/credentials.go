package credentials

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/nkeys"
)

// The users of a cluster: the pipeline's processes, and applications.
const (
	Service = "service"
	Client  = "client"
)

// Users are all of them.
func Users() []string { return []string{Service, Client} }

// ErrExists says that something is there already, and is not overwritten.
var ErrExists = errors.New("is there already")

// The places in a folder of credentials.
func seedOf(dir, user string) string  { return filepath.Join(dir, user, user+".nk") }
func nextOf(dir, user string) string  { return filepath.Join(dir, "next", user+".nk") }
func usersConf(dir string) string     { return filepath.Join(dir, "nodes", "users.conf") }
func caOf(dir, whose string) string   { return filepath.Join(dir, whose, "ca.pem") }
func authorityOf(dir string) string   { return filepath.Join(dir, "ca.key") }
func nodeFile(dir, ext string) string { return filepath.Join(dir, "nodes", "node."+ext) }

// Create makes all credentials of a cluster whose nodes have the given names or addresses, and returns the files. It
// refuses to write when any of them exists.
func Create(dir string, nodes []string) ([]string, error) {
	if len(nodes) == 0 {
		return nil, errors.New("the certificate of the nodes needs a name")
	}
	files, err := users()
	if err != nil {
		return nil, err
	}
	a, err := newAuthority()
	if err != nil {
		return nil, err
	}
	if err := a.files(files, nodes); err != nil {
		return nil, err
	}
	var written []string
	for _, name := range files.names() {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s %w: choose another folder, or --rotate one of its users", path, ErrExists)
		}
		written = append(written, path)
	}
	return written, files.write(dir)
}

// Rotate gives a user the seed that the servers know as his next, and makes a new next one.
func Rotate(dir, user string) error {
	if !slices.Contains(Users(), user) {
		return fmt.Errorf("there is no user %q, but %s", user, strings.Join(Users(), ", "))
	}
	next, err := os.ReadFile(nextOf(dir, user))
	if err != nil {
		return fmt.Errorf("read the next seed of %s: %w", user, err)
	}
	seed, err := newSeed()
	if err != nil {
		return err
	}
	text, err := confOf(func(path string) ([]byte, error) {
		switch path {
		case seedOf("", user):
			return next, nil
		case nextOf("", user):
			return seed, nil
		}
		return os.ReadFile(filepath.Join(dir, path))
	})
	if err != nil {
		return err
	}
	// In an order in which, wherever it ends, the servers know the seed, and one more try does the rest.
	for _, step := range []struct {
		path    string
		content []byte
	}{{seedOf(dir, user), next}, {usersConf(dir), text}, {nextOf(dir, user), seed}} {
		if err := replace(step.path, step.content); err != nil {
			return err
		}
	}
	return nil
}

// Renew makes a new certificate of the nodes.
func Renew(dir string, nodes []string) error {
	a, err := readAuthority(dir)
	if err != nil {
		return err
	}
	certificate, key, err := a.sign(nodes)
	if err != nil {
		return err
	}
	return errors.Join(replace(nodeFile(dir, "key"), key), replace(nodeFile(dir, "pem"), certificate))
}

// files are what is to be written, by name.
type files map[string][]byte

func (f files) names() []string {
	var names []string
	for name := range f {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (f files) write(dir string) error {
	for _, name := range f.names() {
		if err := replace(filepath.Join(dir, name), f[name]); err != nil {
			return err
		}
	}
	return nil
}

// users makes the seeds and what the servers are told of them.
func users() (files, error) {
	f := files{}
	for _, user := range Users() {
		for _, name := range []string{seedOf("", user), nextOf("", user)} {
			seed, err := newSeed()
			if err != nil {
				return nil, err
			}
			f[name] = seed
		}
	}
	text, err := confOf(func(path string) ([]byte, error) { return f[path], nil })
	f[usersConf("")] = text
	return f, err
}

func newSeed() ([]byte, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("make an nkey: %w", err)
	}
	seed, err := pair.Seed()
	if err != nil {
		return nil, fmt.Errorf("take the seed of an nkey: %w", err)
	}
	return append(seed, '\n'), nil
}

// confOf says the public keys of all seeds, which read returns.
func confOf(read func(path string) ([]byte, error)) ([]byte, error) {
	var conf bytes.Buffer
	conf.WriteString("# Public keys of the users: no secret. Made by `spillway broker credentials`; load it again after a rotation.\n")
	for _, user := range Users() {
		for i, path := range []string{seedOf("", user), nextOf("", user)} {
			text, err := read(path)
			if err != nil {
				return nil, fmt.Errorf("read a seed: %w", err)
			}
			public, err := publicKey(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			fmt.Fprintf(&conf, "%s%s = %s\n", strings.ToUpper(user), []string{"", "_NEXT"}[i], public)
		}
	}
	return conf.Bytes(), nil
}

func publicKey(seed []byte) (string, error) {
	pair, err := nkeys.FromSeed(bytes.TrimSpace(seed))
	if err != nil {
		return "", fmt.Errorf("this is no seed: %w", err)
	}
	return pair.PublicKey()
}

// replace writes a file whole or not at all. What is secret is for its owner alone.
func replace(path string, content []byte) error {
	mode := fs.FileMode(0o644)
	if ext := filepath.Ext(path); ext == ".nk" || ext == ".key" {
		mode = 0o600
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // its files say who may read them
		return fmt.Errorf("make the folder: %w", err)
	}
	scratch := path + ".new"
	if err := os.WriteFile(scratch, content, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Chmod(scratch, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(scratch, path)
}
