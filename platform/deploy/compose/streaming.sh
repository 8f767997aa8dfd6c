#!/bin/sh
# Refuses to start the profile streaming beside a loop that would not use it: Compose tells no service which profiles were asked for.
set -eu
if [ "${STACK_BUS}" != kafka ] || [ "${STACK_STORE}" != redis ]; then
    echo "Kafka and Redis were asked for, and the loop would not use them: STACK_BUS is '${STACK_BUS}' and STACK_STORE is '${STACK_STORE}'." >&2
    echo "Next: make up PROFILE=streaming (or all); or set STACK_BUS=kafka and STACK_STORE=redis beside the profile." >&2
    exit 2
fi
echo "the loop uses Kafka and Redis"
