#!/usr/bin/env bash
# Builds and starts the stack, waits until it is healthy, and says where to look first. $1: profile, or several with commas between.
# What was chosen is kept in .env once it runs, so that `docker compose ps`, `logs` or `up` without a word more mean the same stack.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

fail() {
    printf '%s\nNext: %s\n' "$1" "$2" >&2
    exit 1
}

profiles=${1:-core}
choose="choose core, streaming, observability, traces or all; several with commas between."
[[ $# -le 1 && "${profiles}" =~ ^[a-z]+(,[a-z]+)*$ ]] || fail "'$*' is no list of profiles." "${choose}"
for profile in ${profiles//,/ }; do
    case "${profile}" in
        core | streaming | observability | traces | all) ;;
        *) fail "'${profile}' is no profile." "${choose}" ;;
    esac
done
docker compose version > /dev/null 2>&1 || fail "There is no Docker Compose." "install Docker Engine 26 or newer with its compose plugin."
docker info > /dev/null 2>&1 || fail "Docker does not answer." "start it, and see that \`docker info\` works for you without sudo."

export COMPOSE_PROFILES="${profiles}" STACK_BUS=embedded STACK_STORE=process STACK_OTLP='' STACK_VIEWER='' GIT_COMMIT=''
case ",${profiles}," in *,streaming,* | *,all,*) STACK_BUS=kafka STACK_STORE=redis ;; esac
case ",${profiles}," in *,observability,* | *,traces,* | *,all,*) STACK_OTLP=http://otel-collector:4318 ;; esac
case ",${profiles}," in *,traces,*) STACK_VIEWER=jaeger ;; esac
[[ -d .git ]] || GIT_COMMIT=$(git rev-parse HEAD 2> /dev/null || true) # the build reads a .git folder itself, and gives one image to both
before=$(sed -n 's/^STACK_BUS=//p' .env 2> /dev/null || true) # nothing after a bare `docker compose up`, which has the embedded one

keep=''
trap 'rm -f "${keep}"' EXIT
trap 'printf "\nStopped. What has started goes on. Next: \`make up\` again.\n" >&2; exit 130' INT
began=${SECONDS}
docker compose build --quiet
echo "Images are built ($((SECONDS - began)) s). Waiting until everything is healthy ..."
if [[ "${before:-embedded}" != "${STACK_BUS}" ]]; then
    # What readers still need goes along (init-home): nobody writes to the former bus meanwhile, and a broker that is left has to answer.
    said=$(docker compose --profile '*' stop traffic features watcher prefect-worker inference 2>&1) \
        || fail "What writes to the former bus could not be stopped: ${said}" "mend that; then \`make up\` again."
    if [[ "${before}" == kafka && -n $(docker volume ls --quiet --filter "name=^$(docker compose config | sed -n 's/^name: //p')_kafka\$") ]]; then
        STACK_BUS=kafka STACK_STORE=redis docker compose --profile streaming up --no-build --detach --wait kafka
    fi
fi
began=${SECONDS}
if ! docker compose up --no-build --detach --wait --wait-timeout "${WAIT_S:-300}" --remove-orphans; then
    docker compose ps --all --format 'table {{.Service}}\t{{.Status}}' >&2
    for name in $(docker compose ps --all --status exited --format '{{.Service}} {{.ExitCode}}' | sed -n 's/ [1-9][0-9]*$//p'); do
        printf '\n%s said:\n%s\n\n' "${name}" "$(docker compose logs --no-color --no-log-prefix --tail 5 "${name}" 2>&1)" >&2
    done
    fail "Not everything became healthy." "read what is said above, and \`docker compose logs NAME\` of what is not; then \`make up\` again."
fi
echo "Healthy after $((SECONDS - began)) s."
# What belongs to another profile would run on, with settings of then.
mapfile -t others < <(comm -23 <(docker compose --profile '*' config --services | sort) <(docker compose config --services | sort))
if [[ ${#others[@]} -gt 0 ]]; then
    said=$(docker compose --profile '*' rm --stop --force "${others[@]}" 2>&1) \
        || fail "What belongs to other profiles could not be stopped: ${said}" "mend that; then \`make up\` again."
fi
keep=$(mktemp .env.XXXXXX)
{
    grep -sv '^\(COMPOSE_PROFILES\|STACK_BUS\|STACK_STORE\|STACK_OTLP\|STACK_VIEWER\|GIT_COMMIT\)=' .env || true
    for name in COMPOSE_PROFILES STACK_BUS STACK_STORE STACK_OTLP STACK_VIEWER; do
        echo "${name}=${!name}"
    done
} > "${keep}"
mv "${keep}" .env
echo
bash platform/deploy/compose/addresses.sh
