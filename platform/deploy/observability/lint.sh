#!/usr/bin/env bash
# Asks Prometheus' and Alertmanager's own tools whether they would take what is here: configuration, rules, the rules' tests, and every query
# of a dashboard. A tool that is missing is a failure, not a test less. PROMTOOL and AMTOOL name them where they are not on the PATH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

tool() { # name, Debian package
    command -v "$1" && return
    printf 'There is no %s.\nNext: apt install %s, or set %s to where it is.\n' "$1" "$2" "$3" >&2
    return 1
}

promtool=$(tool "${PROMTOOL:-promtool}" prometheus PROMTOOL)
amtool=$(tool "${AMTOOL:-amtool}" prometheus-alertmanager AMTOOL)
scratch=$(mktemp -d)
trap 'rm -rf "${scratch}"' EXIT

"${promtool}" check rules rules/*.yml
"${promtool}" test rules rules/tests/*.yml
sed "s#/etc/prometheus/#${PWD}/#" prometheus.yml > "${scratch}/prometheus.yml" # the folder is elsewhere in the container
"${promtool}" check config "${scratch}/prometheus.yml"
"${PYTHON:-python3}" grafana/dashboards.py --as-rules > "${scratch}/dashboards.yml"
"${promtool}" check rules "${scratch}/dashboards.yml"
"${amtool}" check-config alertmanager.yml
for severity in page ticket; do
    "${amtool}" config routes test --config.file=alertmanager.yml --verify.receivers="${severity}" severity="${severity}"
done
