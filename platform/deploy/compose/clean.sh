#!/usr/bin/env bash
# Stops the stack and deletes its volumes: models, ledger, tables, events, secrets. Asks first, and without a terminal does nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

docker compose --profile '*' ps --all --format 'table {{.Service}}\t{{.Status}}'
if [[ ! -t 0 && "${YES:-}" != yes ]]; then
    echo "Nothing was deleted: there is nobody to ask. Next: run it in a terminal, or say YES=yes." >&2
    exit 1
fi
if [[ "${YES:-}" != yes ]]; then
    read -r -p "Delete all data of this stack, for good? Type yes: " answer
    [[ "${answer}" == yes ]] || { echo "Nothing was deleted."; exit 1; }
fi
docker compose --profile '*' down --volumes --remove-orphans
rm -f .env
