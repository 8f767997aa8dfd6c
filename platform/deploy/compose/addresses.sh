#!/usr/bin/env bash
# What runs of the stack, where a person finds it, and what to look at first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

running=$(docker compose ps --services --status running)
row() { # service, port inside, path, what to look at
    if grep -qx "$1" <<< "${running}"; then
        printf '  %-14s http://%-32s %s\n' "$1" "$(docker compose port "$1" "$2")$3" "$4"
    fi
}
row inference 8100 /docs "the service: ask it for a prediction; /readyz says what it depends on"
row mlflow 5000 / "models, versions and their evidence"
row prefect-server 4200 / "flows: trainings, their steps and judgements"
row grafana 3000 / "dashboards: begin with The loop"
row prometheus 9090 /alerts "what is measured, and which alerts fire"
row alertmanager 9093 / "who is paged"
row jaeger 16686 / "traces, from request to label and from decision to swap"
echo
echo "Next: \`docker compose exec workbench lab status\`; \`docker compose logs -f traffic\` shows decisions as they are taken."
