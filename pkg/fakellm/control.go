package fakellm

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"time"
)

// The control endpoints steer a server from another process. Answers are JSON; 204 stands for done; 400
// with OpenAI's error body says what is wrong, and nothing was changed then.
//
//	GET  /fake/counts     Counts
//	GET  /fake/requests   the recorded calls, ?model= for those of one model
//	GET  /fake/faults     [Fault]
//	PUT  /fake/faults     [Fault]: {"kind":"429","model":"small","retry_after":"2s"}, or the kind alone: "hang"
//	POST /fake/script     {"model":"small","faults":["429",{"kind":"length","tokens":20},"ok"]}
//	PUT  /fake/answers    {"model":"small","answers":["…"]}
//	PUT  /fake/name       {"model":"small","name":"small-2026-11-01"}: what responses call the model
//	PUT  /fake/latency    {"first_token":"300ms","per_token":"20ms","sigma":0.4}
//	PUT  /fake/usage      {"model":"small","input":1200,"output":300}
//	GET  /fake/limits     [Limit]
//	PUT  /fake/limits     [Limit]: {"model":"small","requests":60,"tokens":10000,"concurrency":8,"window":"60s","headers":true}
//	GET  /fake/arrivals   [unix milliseconds] of the calls, ?model= for those of one model
//	POST /fake/reset
func (s *Server) controlRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /fake/counts", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, s.Counts()) })
	mux.HandleFunc("GET /fake/requests", func(w http.ResponseWriter, r *http.Request) {
		answerJSON(w, s.Requests(r.URL.Query().Get("model")))
	})
	mux.HandleFunc("GET /fake/faults", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, s.plan.currentFaults()) })
	mux.HandleFunc("PUT /fake/faults", steer(func(faults []Fault) error {
		if err := validateFaults(faults); err != nil {
			return err
		}
		s.plan.setFaults(faults)
		return nil
	}))
	mux.HandleFunc("POST /fake/script", steer(func(script wireScript) error {
		if err := validateFaults(script.Faults); err != nil {
			return err
		}
		s.plan.script(script.Model, script.Faults)
		return nil
	}))
	mux.HandleFunc("PUT /fake/answers", steer(func(a wireAnswers) error {
		s.plan.setAnswers(a.Model, a.Answers)
		return nil
	}))
	mux.HandleFunc("PUT /fake/name", steer(func(n wireName) error {
		s.SetName(n.Model, n.Name)
		return nil
	}))
	mux.HandleFunc("PUT /fake/latency", steer(func(l wireLatency) error {
		s.SetLatency(Latency{time.Duration(l.FirstToken), time.Duration(l.PerToken), l.Sigma})
		return nil
	}))
	s.limitRoutes(mux)
	mux.HandleFunc("POST /fake/reset", func(w http.ResponseWriter, _ *http.Request) {
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
}

// limitRoutes are the endpoints of limits, and of what to hold against them.
func (s *Server) limitRoutes(mux *http.ServeMux) {
	mux.HandleFunc("PUT /fake/usage", steer(func(u wireUsage) error {
		if err := u.Validate(); err != nil {
			return err
		}
		s.plan.setUsage(u.Model, u.Usage)
		return nil
	}))
	mux.HandleFunc("GET /fake/limits", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, s.ledger.currentLimits()) })
	mux.HandleFunc("PUT /fake/limits", steer(func(all []Limit) error {
		if err := validateLimits(all); err != nil {
			return err
		}
		s.ledger.setLimits(all)
		return nil
	}))
	mux.HandleFunc("GET /fake/arrivals", func(w http.ResponseWriter, r *http.Request) {
		all := s.Arrivals(r.URL.Query().Get("model"))
		millis := make([]int64, len(all))
		for i, at := range all {
			millis[i] = at.UnixMilli()
		}
		answerJSON(w, millis)
	})
}

type wireUsage struct {
	Model string `json:"model"`
	Usage
}

type wireScript struct {
	Model  string  `json:"model"`
	Faults []Fault `json:"faults"`
}

type wireAnswers struct {
	Model   string   `json:"model"`
	Answers []string `json:"answers"`
}

type wireName struct {
	Model string `json:"model"`
	Name  string `json:"name"`
}

type wireLatency struct {
	FirstToken span    `json:"first_token"`
	PerToken   span    `json:"per_token"`
	Sigma      float64 `json:"sigma"`
}

// steer returns a handler that reads a T and does it.
func steer[T any](do func(T) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		var order T
		if err == nil {
			err = decodeStrictly(body, &order)
		}
		if err == nil {
			err = do(order)
		}
		if err != nil {
			invalidRequest(err.Error(), "", "").write(w)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

func answerJSON(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		e := apiError{status: http.StatusInternalServerError, Message: err.Error(), Type: "server_error"}
		e.write(w)
		return
	}
	w.Header().Set("Content-Type", contentJSON)
	_, _ = w.Write(body) // a client that left needs no answer
}

type wireModel struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func modelNamed(id string) wireModel { return wireModel{id, "model", 1735689600, "simulated"} }

// listModels answers with Options.Models, or else with the models that were called, and "simulated".
func (s *Server) listModels(w http.ResponseWriter, r *http.Request) {
	if !s.admitsKey(apiKey(r.Header)) {
		wrongKey().write(w)
		return
	}
	names := s.opts.Models
	if len(names) == 0 {
		names = append(s.ledger.modelNames(), "simulated")
	}
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	list := struct {
		Object string      `json:"object"`
		Data   []wireModel `json:"data"`
	}{Object: "list"}
	for _, name := range names {
		if name != "" {
			list.Data = append(list.Data, modelNamed(name))
		}
	}
	answerJSON(w, list)
}

func (s *Server) showModel(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("model")
	switch {
	case !s.admitsKey(apiKey(r.Header)):
		wrongKey().write(w)
	case !s.hasModel(name):
		noSuchModel(name).write(w)
	default:
		answerJSON(w, modelNamed(name))
	}
}
