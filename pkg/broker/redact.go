package broker

import (
	"net/url"
	"strings"
)

// RedactURLs hides the passwords and tokens in a list of URLs.
func RedactURLs(list string) string {
	urls := strings.Split(list, ",")
	for i, text := range urls {
		u, err := url.Parse(strings.TrimSpace(text))
		switch {
		case err != nil && strings.Contains(text, "@"):
			urls[i] = "…" + text[strings.LastIndex(text, "@"):]
		case err != nil || u.User == nil:
		default:
			if _, ok := u.User.Password(); !ok {
				u.User = url.User("xxxxx") // a lone user is a token
			}
			urls[i] = u.Redacted()
		}
	}
	return strings.Join(urls, ",")
}
