# shellcheck shell=bash disable=SC2034 # what is set here is read by the scripts that source this file
# For scripts that need a running pipeline: start_pipeline and stop_pipeline, one at a time.

pipeline_pid=""

# start_pipeline DIR COMMAND… runs `spillway up` by the given command, with simulated models, on free ports, with store
# and log in DIR, and waits until it says that it is ready. It sets nats_url and http_url.
start_pipeline() {
  local log="$1/up.log" store="$1/store" line i
  shift
  # A job of its own group, so that also what `go run` starts is reached.
  set -m
  env -u OPENAI_API_KEY -u OPENAI_BASE_URL \
    SPILLWAY_JSON=true SPILLWAY_NATS_PORT=-1 SPILLWAY_HTTP=127.0.0.1:0 SPILLWAY_STORE="$store" \
    "$@" >"$log" 2>"$log.err" </dev/null &
  pipeline_pid=$!
  set +m
  for ((i = 0; i < 3000; i++)); do # five minutes: the first build of a fresh clone
    line="$(grep -m1 '"event":"ready"' "$log" || true)"
    if [[ -n $line ]]; then
      nats_url="$(sed -E 's/.*"nats":"([^"]+)".*/\1/' <<<"$line")"
      http_url="$(sed -E 's/.*"http":"([^"]+)".*/\1/' <<<"$line")"
      return
    fi
    if ! kill -0 "$pipeline_pid" 2>/dev/null; then
      break
    fi
    sleep 0.1
  done
  echo "spillway up did not get ready:"
  cat "$log" "$log.err"
  return 1
}

# stop_pipeline asks it to drain, and insists after 60 s. It sets pipeline_code to its exit code.
stop_pipeline() {
  local i
  [[ -n $pipeline_pid ]] || return 0
  kill -TERM -- "-$pipeline_pid" 2>/dev/null || true
  for ((i = 0; i < 600; i++)); do
    kill -0 "$pipeline_pid" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL -- "-$pipeline_pid" 2>/dev/null || true
  pipeline_code=0
  wait "$pipeline_pid" || pipeline_code=$?
  pipeline_pid=""
}
