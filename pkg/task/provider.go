package task

import (
	"net/url"
	"slices"
	"strings"
)

func (l *loader) provider(entry member) {
	m := l.mapping(modelsFile, entry.value)
	p := &Provider{Name: entry.key, RateLimitHeaders: "obey", Limits: Limits{BatchShare: 0.5}}
	l.set.Providers[entry.key] = p
	m.choice("kind", &p.Kind, KindOpenAI, KindAzure, KindSimulated)
	if _, ok := m.get("kind"); !ok {
		l.at(modelsFile, place(entry), "kind is required: %s (any compatible endpoint), %s or %s", KindOpenAI, KindAzure, KindSimulated)
	}
	l.baseURL(m, entry, p)
	l.key(m, entry, p)
	if _, ok := m.text("api_version", &p.APIVersion); !ok && p.Kind == KindAzure {
		l.at(modelsFile, place(entry), `api_version is required for azure, say "2024-10-21"`)
	}
	p.Headers = m.textMap("headers")
	l.noSecrets(m)
	p.HeadersEnv = m.textMap("headers_env")
	m.text("ca_file", &p.CAFile)
	m.choice("rate_limit_headers", &p.RateLimitHeaders, "obey", "ignore")
	m.limits(&p.Limits)
	m.done()
}

// baseURL reads base_url and the variable that wins over it when it is set.
func (l *loader) baseURL(m *mapping, entry member, p *Provider) {
	written, hasURL := m.text("base_url", &p.BaseURL)
	variable, hasVariable := m.text("base_url_env", &p.BaseURLEnv)
	if hasURL {
		if message := badURL(p.BaseURL); message != "" {
			l.at(modelsFile, written, "base_url %s", message)
		}
	}
	if value := l.getenv(p.BaseURLEnv); hasVariable && value != "" {
		p.BaseURL = value
		if message := badURL(value); message != "" {
			l.at(modelsFile, variable, "%s, which base_url_env names, %s", p.BaseURLEnv, message)
		}
	}
	if p.Kind != KindSimulated && p.Kind != "" && !hasURL && !hasVariable {
		l.at(modelsFile, place(entry), "base_url is required, say https://api.openai.com/v1")
	}
}

// badURL says what is wrong with the URL of a provider. It does not repeat it: a password may stand in it.
func badURL(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "is not a URL"
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return "must begin with http:// or https:// and a host"
	case u.User != nil:
		return "must not hold a user or password: use api_key_env"
	case u.RawQuery != "" || u.Fragment != "":
		return "must end with the path: no query, no fragment"
	}
	return ""
}

// key reads where the API key comes from. That there is none must be said, so that it is never forgotten.
func (l *loader) key(m *mapping, entry member, p *Provider) {
	none, isNone := m.text("api_key", &p.APIKey)
	if isNone && p.APIKey != "none" {
		l.at(modelsFile, none, "no secret stands here: api_key can only be none; use api_key_env or api_key_file")
		p.APIKey = ""
	}
	_, isEnv := m.text("api_key_env", &p.APIKeyEnv)
	_, isFile := m.text("api_key_file", &p.APIKeyFile)
	given := 0
	for _, one := range []bool{isNone, isEnv && p.APIKeyEnv != "", isFile && p.APIKeyFile != ""} {
		if one {
			given++
		}
	}
	switch {
	case p.Kind == KindSimulated:
	case given == 0:
		l.at(modelsFile, place(entry), "where is the key? say api_key_env: A_VARIABLE, api_key_file: /a/path, or api_key: none")
	case given > 1:
		l.at(modelsFile, place(entry), "say one of api_key, api_key_env, api_key_file")
	}
}

// noSecrets refuses headers that carry credentials: this file is read by many.
func (l *loader) noSecrets(m *mapping) {
	headers, _ := m.get("headers")
	for _, header := range headers.members {
		if slices.Contains([]string{"authorization", "proxy-authorization", "api-key", "x-api-key"}, strings.ToLower(header.key)) {
			l.at(modelsFile, place(header), "no secret stands here: the key comes from api_key_env or api_key_file, other headers from headers_env")
		}
	}
}

// textMap reads a mapping of texts to texts.
func (m *mapping) textMap(key string) map[string]string {
	section, ok := m.sub(key)
	if !ok {
		return nil
	}
	texts := make(map[string]string, len(section.node.members))
	for _, entry := range section.node.members {
		var value string
		section.text(entry.key, &value)
		texts[entry.key] = value
	}
	return texts
}
