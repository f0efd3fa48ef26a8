#!/usr/bin/env bash
# How an application uses Spillway over HTTP with curl alone: it posts and waits, polls later, follows a job as it goes, and
# sends a request again that may have arrived. It needs a running pipeline with the task analyze, curl and jq:
#
#   bash recipe.sh http://127.0.0.1:8080
#
# Where the door has keys: SPILLWAY_KEY=… (`spillway key create`). It prints what it did, and exits with 1 when anything was
# not as promised.
set -euo pipefail

door="${1:-http://127.0.0.1:8080}"
run="recipe-$(date +%s)-$$"
auth=()
if [[ -n ${SPILLWAY_KEY:-} ]]; then
  auth=(-H "Authorization: Bearer $SPILLWAY_KEY")
fi

fail() {
  echo "curl recipe: $*" >&2
  exit 1
}

# post KEY TEXT [CURL-OPTION…] posts a request. The same Idempotency-Key is one job, however often it is sent: after a
# timeout or a 5xx, send it again.
post() {
  local key="$1" body
  body="$(jq -n --arg text "$2" '{input: {text: $text}}')"
  shift 2
  curl -sS --max-time 30 --retry 5 --retry-connrefused "${auth[@]}" -H 'Content-Type: application/json' \
    -H "Idempotency-Key: $key" "$@" -d "$body" "$door/v1/tasks/analyze/jobs"
}

get() {
  curl -sS --max-time 60 --retry 5 --retry-connrefused "${auth[@]}" "$@"
}

# ended JSON ID holds a result against what was asked for.
ended() {
  jq -e --arg id "$2" '.id == $id and .run == 1 and (.status == "succeeded" or .status == "degraded") and .output != null' \
    <<<"$1" >/dev/null || fail "not the result of $2: $1"
}

# For a caller that needs the answer now: 200 with the result, or 202 when it takes longer than that.
post_and_wait() {
  local result id
  result="$(post "$run-now" "The new release is fast, but the docs lag behind." -H 'Prefer: wait=20')"
  id="$(jq -r .id <<<"$result")"
  ended "$result" "$id"
  echo "posted $id and got $(jq -r '.status + " from " + .model' <<<"$result"): $(jq -c .output <<<"$result")"
}

# For a caller that goes away: the 202 says that the request is stored. The result is polled for, now or tomorrow;
# ?wait= holds on until it is there.
poll_later() {
  local accepted id url result
  accepted="$(post "$run-later" "Where is my order?")"
  id="$(jq -r .id <<<"$accepted")"
  url="$(jq -r .poll_url <<<"$accepted")"
  for ((i = 0; i < 6; i++)); do
    result="$(get "$url?wait=10")"
    [[ $(jq 'has("output")' <<<"$result") == true ]] && break
  done
  ended "$result" "$id"
  echo "polled for $id: $(jq -r .status <<<"$result")"
}

# For a caller that shows what happens: the stream says where the job is, and ends with the result. Who was cut off asks
# again, at any replica: the state comes first, and the result is kept.
follow() {
  local accepted id url events again
  accepted="$(post "$run-follow" "Is anybody there?")"
  id="$(jq -r .id <<<"$accepted")"
  url="$(jq -r .events_url <<<"$accepted")"
  events="$(get -N "$url")"
  again="$(get -N "$url")"
  ended "$(result_of "$events")" "$id"
  [[ $(result_of "$events") == "$(result_of "$again")" ]] || fail "another result of $id the second time: $again"
  echo "followed $id: $(sed -n 's/^event: //p' <<<"$events" | paste -sd ' ')"
}

# result_of EVENTS prints the data of the event that ends a stream.
result_of() {
  sed -n '/^event: result/,/^$/s/^data: //p' <<<"$1"
}

# For a caller that does not know whether its request arrived: under its key it is one job, and another body is refused.
send_again() {
  local first second status
  first="$(post "$run-again" "Where is my parcel?" | jq -r .id)"
  second="$(post "$run-again" "Where is my parcel?" | jq -r .id)"
  [[ -n $first && $first == "$second" ]] || fail "sent twice under one key: $first and $second"
  status="$(post "$run-again" "Something else" -o /dev/null -w '%{http_code}')"
  [[ $status == 409 ]] || fail "another body under the key: $status, not 409"
  ended "$(get "$door/v1/jobs/$first?wait=25")" "$first"
  echo "sent $first twice: one job"
}

post_and_wait
poll_later
follow
send_again
