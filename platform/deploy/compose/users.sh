#!/bin/sh
# Buckets, each owned by the user that writes it. Again: changes nothing, but that secrets are what their files say.
# $1: folder with a file per user. What the users may do beyond their own buckets is said by `pipelines.stack_home`.
set -eu
export ADMIN_ENDPOINT_URL=http://s3:7070 ADMIN_ACCESS_KEY_ID=root ADMIN_SECRET_ACCESS_KEY
ADMIN_SECRET_ACCESS_KEY=$(cat "$1/root")

users=$(versitygw admin list-users)
for user in lab serving mlflow; do
    secret=$(cat "$1/${user}")
    if echo "${users}" | grep -q "^${user} "; then
        versitygw admin update-user --access "${user}" --secret "${secret}"
    else
        versitygw admin create-user --access "${user}" --secret "${secret}" --role user
    fi
done
buckets=$(versitygw admin list-buckets)
for bucket in tables:lab packages:lab mlflow:mlflow; do
    if ! echo "${buckets}" | grep -q "^${bucket%%:*} "; then
        versitygw admin create-bucket --bucket "${bucket%%:*}" --owner "${bucket#*:}"
    fi
done
echo "buckets tables, packages and mlflow are there, each with its owner"
