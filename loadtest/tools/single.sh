#!/usr/bin/env bash
# One body again and again, by hey or ab: single.sh hey|ab REQUESTS CONNECTIONS. From the environment: URL, KEY, CORPUS.
# Both count any answer as a success; here the status is 1 where one is no 200.
set -euo pipefail

tool=${1:?hey or ab} requests=${2:-10000} connections=${3:-64}
url=${URL:-http://127.0.0.1:8080}/v1/chat/completions
body=$(mktemp) said=$(mktemp)
trap 'rm -f "$body" "$said"' EXIT
head -n 1 "${CORPUS:-corpus.jsonl}" >"$body"

case $tool in
    hey)
        hey -n "$requests" -c "$connections" -m POST -T application/json -H "Authorization: Bearer ${KEY:-none}" -D "$body" "$url" | tee "$said"
        failed='^Error distribution:|^ *\[([013-9]..|2[1-9].|20[1-9])\]'
        ;;
    ab)
        ab -q -k -n "$requests" -c "$connections" -p "$body" -T application/json -H "Authorization: Bearer ${KEY:-none}" "$url" | tee "$said"
        failed='^Non-2xx responses:|^Failed requests: +[1-9]'
        ;;
    *)
        echo "single.sh: there is no $tool here: hey or ab" >&2
        exit 2
        ;;
esac
if grep -qE "$failed" "$said"; then
    echo "single.sh: some requests failed; see above" >&2
    exit 1
fi
