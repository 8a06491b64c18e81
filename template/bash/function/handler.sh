#!/usr/bin/env bash
# Answers one call: its body is on stdin, the answer goes to stdout, and what
# goes to stderr is logged. An exit status other than 0 makes the answer a 500.
set -euo pipefail

printf 'Hello! You sent %s %s\n' "$Http_Method" "$Http_Path"
cat
