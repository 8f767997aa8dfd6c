#!/usr/bin/env bash
# Stops the stack and deletes its volumes: models, ledger, tables, events, secrets. Asks first, and without a terminal does nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

project=$(docker compose config --format json | sed -n 's/^  "name": "\(.*\)",$/\1/p')
volumes=$(docker volume ls --quiet --filter "label=com.docker.compose.project=${project}")
if [[ -z "${volumes}" ]]; then
    echo "Project '${project}' has no data here."
    exit
fi
echo "Project '${project}' keeps its data in:"
# shellcheck disable=SC2086  # one word each
printf "  %s\n" ${volumes}
if [[ "${YES:-}" != yes ]]; then
    if [[ ! -t 0 ]]; then
        echo "Nothing was deleted: there is nobody to ask. Next: run it in a terminal, or say YES=yes." >&2
        exit 1
    fi
    read -r -p "Delete all of it, for good? Type yes: " answer
    [[ "${answer}" == yes ]] || { echo "Nothing was deleted."; exit 1; }
fi
docker compose --profile '*' down --volumes --remove-orphans
