#!/bin/sh
# Prints the commit of a checkout. $1: what its .git folder has of HEAD, packed-refs and refs/heads; $2: the commit, if somebody knows it.
set -eu
if [ -n "$2" ]; then
    echo "$2"
    exit
fi
head=$(cat "$1/HEAD" 2> /dev/null || true)
case "${head}" in
    "") echo unknown ;;
    "ref: refs/heads/"*)
        ref=${head#ref: }
        if [ -f "$1/${ref}" ]; then
            cat "$1/${ref}"
        else
            packed=$(sed -n "s|^\([0-9a-f]\{40\}\) ${ref}\$|\1|p" "$1/packed-refs" 2> /dev/null || true)
            echo "${packed:-unknown}"
        fi
        ;;
    *) echo "${head}" ;;
esac
