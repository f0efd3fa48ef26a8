package fakellm

import (
	"strconv"
	"time"
)

// plain answers with one JSON body.
func (c *call) plain(a answer) {
	tokens := countTokens(a.text())
	if c.fault.Kind == KindHangHeaders {
		c.plainHeaders()
		if c.flush() {
			c.holdForever(0)
		}
		return
	}
	if !c.pause(c.first) || !c.pause(c.perToken*time.Duration(tokens-1)) {
		return
	}
	said := c.answerTokens(a)
	c.plainHeaders()
	c.appendCompletion(a, said)
	switch c.fault.Kind {
	case KindSilence, KindCut, KindReset:
		c.out.Truncate(c.out.Len() / 2)
		if !c.flush() {
			return
		}
		if c.fault.Kind == KindSilence {
			c.holdForever(0)
		} else if c.fault.Kind == KindReset {
			c.resetConnection()
		}
	case KindDrip:
		c.dripBody(tokens, said)
	default:
		c.ledger.settle(&c.entry, said)
		c.write()
	}
}

func (c *call) plainHeaders() {
	c.setHeaders()
	c.w.Header()["Content-Type"] = []string{contentJSON}
}

// dripBody sends the body in n pieces; said are the tokens of its usage.
func (c *call) dripBody(n, said int) {
	body := append([]byte(nil), c.out.Bytes()...)
	c.out.Reset()
	_, every := c.pace()
	size := max(1, len(body)/n)
	for len(body) > 0 {
		piece := body[:min(size, len(body))]
		body = body[len(piece):]
		c.out.Write(piece)
		if len(body) == 0 {
			c.ledger.settle(&c.entry, said)
		}
		if !c.flush() || len(body) > 0 && !c.pause(every) {
			return
		}
	}
}

func (c *call) appendCompletion(a answer, tokens int) {
	b := c.out.AvailableBuffer()
	b = append(b, `{"id":"`...)
	b = append(b, c.id...)
	b = append(b, `","object":"chat.completion","created":`...)
	b = strconv.AppendInt(b, c.started.Unix(), 10)
	b = append(b, `,"model":`...)
	b = appendString(b, c.plan.name(c.req.Model))
	b = append(b, `,"choices":[`...)
	if c.fault.Kind != KindEmptyChoices {
		b = append(b, `{"index":0,"message":{"role":"assistant","content":`...)
		if a.refusal == "" {
			b = append(appendString(b, a.content), `,"refusal":null`...)
		} else {
			b = appendString(append(b, `null,"refusal":`...), a.refusal)
		}
		b = append(b, `,"annotations":[]},"logprobs":null,"finish_reason":"`...)
		b = append(append(b, a.finish...), `"}`...)
	}
	b = append(b, `],"usage":`...)
	b = appendUsage(b, c.promptTokens, tokens)
	b = append(b, `,"service_tier":"default","system_fingerprint":"`+fingerprint+`"}`...)
	c.out.Write(b)
}
