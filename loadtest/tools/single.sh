#!/usr/bin/env bash
# One body again and again, by hey or ab: single.sh hey|ab REQUESTS CONNECTIONS. From the environment: URL, KEY, CORPUS.
set -euo pipefail

tool=${1:?hey or ab} requests=${2:-10000} connections=${3:-64}
url=${URL:-http://127.0.0.1:8080}/v1/chat/completions
body=$(mktemp)
trap 'rm -f "$body"' EXIT
head -n 1 "${CORPUS:-corpus.jsonl}" >"$body"

case $tool in
    hey)
        hey -n "$requests" -c "$connections" -m POST -T application/json -H "Authorization: Bearer ${KEY:-none}" -D "$body" "$url"
        ;;
    ab)
        ab -q -k -n "$requests" -c "$connections" -p "$body" -T application/json -H "Authorization: Bearer ${KEY:-none}" "$url"
        ;;
    *)
        echo "single.sh: there is no $tool here: hey or ab" >&2
        exit 2
        ;;
esac
