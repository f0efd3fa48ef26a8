package credentials

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// How long certificates hold. A node's is renewed by one command; the authority's is in every process.
const (
	AuthorityAge = 10 * 365 * 24 * time.Hour
	NodeAge      = 2 * 365 * 24 * time.Hour
	// clockSkew is how far another machine's clock may be behind.
	clockSkew = time.Hour
)

// authority signs the certificates of nodes.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the authority's key: %w", err)
	}
	now := time.Now()
	a := &authority{key: key, certificate: &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "Spillway's NATS nodes"},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(AuthorityAge),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.certificate, a.certificate, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make the authority's certificate: %w", err)
	}
	a.certificate, err = x509.ParseCertificate(der)
	return a, err
}

// files adds the authority's files, and a certificate of the nodes.
func (a *authority) files(f files, nodes []string) error {
	key, err := encodeKey(a.key)
	if err != nil {
		return err
	}
	f[authorityOf("")] = key
	for _, whose := range append(Users(), "nodes") {
		f[caOf("", whose)] = encode("CERTIFICATE", a.certificate.Raw)
	}
	f[nodeFile("", "pem")], f[nodeFile("", "key")], err = a.sign(nodes)
	return err
}

func readAuthority(dir string) (*authority, error) {
	key, err := decode(authorityOf(dir))
	if err != nil {
		return nil, err
	}
	certificate, err := decode(caOf(dir, "nodes"))
	if err != nil {
		return nil, err
	}
	a := &authority{}
	parsed, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("read the authority's key: %w", err)
	}
	var ok bool
	if a.key, ok = parsed.(*ecdsa.PrivateKey); !ok {
		return nil, errors.New("the authority's key is none that was made here")
	}
	if a.certificate, err = x509.ParseCertificate(certificate); err != nil {
		return nil, fmt.Errorf("read the authority's certificate: %w", err)
	}
	return a, nil
}

// sign makes one certificate of all nodes, for both ends of a route and for clients.
func (a *authority) sign(nodes []string) (certificate, key []byte, err error) {
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make the nodes' key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: nodes[0]},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(NodeAge),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range nodes {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, name)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &pair.PublicKey, a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign the nodes' certificate: %w", err)
	}
	key, err = encodeKey(pair)
	return encode("CERTIFICATE", der), key, err
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return encode("PRIVATE KEY", der), nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func decode(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", path)
	}
	return block.Bytes, nil
}
