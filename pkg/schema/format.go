package schema

import (
	"encoding/base64"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/xeipuuv/gojsonschema"
)

// stringFormat checks strings; a format demands nothing of other values (draft 7 validation, 7.1), which
// the checkers of gojsonschema get wrong for numbers.
type stringFormat func(string) bool

// IsFormat implements gojsonschema.FormatChecker.
func (f stringFormat) IsFormat(value any) bool {
	s, ok := value.(string)
	return !ok || f(s)
}

var _ gojsonschema.FormatChecker = stringFormat(nil)

// installFormats replaces the checkers of gojsonschema, which are global, before the first schema is
// compiled. Formats that it does not know are annotations.
var installFormats = sync.OnceFunc(func() {
	for name, theirs := range map[string]gojsonschema.FormatChecker{
		"hostname":              gojsonschema.HostnameFormatChecker{},
		"uri-reference":         gojsonschema.URIReferenceFormatChecker{},
		"iri":                   gojsonschema.URIFormatChecker{},
		"iri-reference":         gojsonschema.URIReferenceFormatChecker{},
		"json-pointer":          gojsonschema.JSONPointerFormatChecker{},
		"relative-json-pointer": gojsonschema.RelativeJSONPointerFormatChecker{},
		"date":                  gojsonschema.DateFormatChecker{},
	} {
		gojsonschema.FormatCheckers.Add(name, stringFormat(func(s string) bool { return theirs.IsFormat(s) }))
	}
	for name, ours := range map[string]stringFormat{
		"email": isEmail, "idn-email": isEmail, "date-time": isDateTime, "time": isTime, "duration": isDuration,
		"uuid": isUUID, "ipv4": isIPv4, "ipv6": isIPv6, "uri": isURI, "regex": isRegex,
		"base64": isBase64, "byte": isBase64, "base64url": isBase64URL,
	} {
		gojsonschema.FormatCheckers.Add(name, ours)
	}
	// The checker of gojsonschema refuses good templates, say {?query}.
	gojsonschema.FormatCheckers.Remove("uri-template")
})

// maxRegex bounds an expression, in bytes: to read a megabyte of one takes a second, and hundreds of megabytes.
const maxRegex = 16 << 10

// isRegex takes what pattern takes. gojsonschema compiles the expression, which takes as much again.
func isRegex(s string) bool {
	if len(s) > maxRegex {
		return false
	}
	_, err := syntax.Parse(s, syntax.Perl)
	return err == nil
}

// isFormat reports whether a format is checked.
func isFormat(name string) bool {
	installFormats()
	return gojsonschema.FormatCheckers.Has(name)
}

// demandsNothing: the format says of a value what it is for, as pydantic's and OpenAPI's do, and any string, or number,
// may be it.
func demandsNothing(name string) bool {
	return slices.Contains([]string{
		"binary", "password", "path", "file-path", "directory-path", "json-string", "html", "markdown", "text", "textarea",
		"int64", "float", "double", "decimal",
	}, name)
}

// isBase64 follows RFC 4648, section 4, and takes line breaks, as in RFC 2045.
func isBase64(s string) bool {
	_, err := base64.StdEncoding.Strict().DecodeString(s)
	return err == nil
}

// isBase64URL follows RFC 4648, section 5; the padding may be missing.
func isBase64URL(s string) bool {
	_, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(s, "="))
	return err == nil
}

// isEmail takes a bare address. mail.ParseAddress also takes `Joe <joe@example.com>`.
func isEmail(s string) bool {
	address, err := mail.ParseAddress(s)
	return err == nil && address.Name == "" && !strings.HasSuffix(s, ">") && strings.TrimSpace(s) == s
}

var (
	dateTime = regexp.MustCompile(`^(\d{4}-\d\d-\d\d)[Tt](.+[Zz]|.+[+-]\d\d:\d\d)$`)
	dayTime  = regexp.MustCompile(`^(\d\d:\d\d):(\d\d)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)?$`)
)

// isDateTime follows RFC 3339, section 5.6. gojsonschema also takes dates and times alone.
func isDateTime(s string) bool {
	parts := dateTime.FindStringSubmatch(s)
	if parts == nil || !isTime(parts[2]) {
		return false
	}
	_, err := time.Parse(time.DateOnly, parts[1])
	return err == nil
}

// isTime follows RFC 3339, section 5.6, except that the offset may be missing, as it is in the times that
// pydantic and zod mean.
func isTime(s string) bool {
	parts := dayTime.FindStringSubmatch(s)
	if parts == nil {
		return false
	}
	clock, second, offset := parts[1], parts[2], strings.ToUpper(parts[4])
	leap := second == "60"
	if leap {
		second = "59" // package time knows no leap seconds
	}
	if offset == "" {
		offset = "Z"
	}
	at, err := time.Parse(time.RFC3339, "2000-01-02T"+clock+":"+second+offset)
	return err == nil && (!leap || at.UTC().Format("15:04") == "23:59")
}

var (
	duration      = regexp.MustCompile(`^P(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?)$`)
	emptyDuration = regexp.MustCompile(`(P|T)$`)
)

// isDuration follows RFC 3339, appendix A, with fractions of a second, as Python writes them.
func isDuration(s string) bool { return duration.MatchString(s) && !emptyDuration.MatchString(s) }

var uuid = regexp.MustCompile(`^(?i)[a-f0-9]{8}-([a-f0-9]{4}-){3}[a-f0-9]{12}$`)

func isUUID(s string) bool { return uuid.MatchString(s) }

func isIPv4(s string) bool {
	address, err := netip.ParseAddr(s)
	return err == nil && address.Is4()
}

func isIPv6(s string) bool {
	address, err := netip.ParseAddr(s)
	return err == nil && !address.Is4() && address.Zone() == ""
}

var uriCharacters = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*$`)

// isURI follows RFC 3986. url.Parse alone takes spaces and characters beyond ASCII.
func isURI(s string) bool {
	u, err := url.Parse(s)
	return err == nil && uriCharacters.MatchString(s) && !strings.ContainsAny(u.EscapedPath()+u.RawQuery+u.Fragment, "[]")
}
