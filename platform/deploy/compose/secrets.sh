#!/bin/sh
# Makes what nobody has to remember, once, and gives each service its own copy that only its user may read. Again: changes nothing.
# $1: folder (a volume); $2, $3: folders of the object store and of the traces, whose images know no user. Runs as root; needs to be allowed to give files away.
set -eu
umask 077
all="$1/all"
mkdir -p "${all}"

for name in postgres lab lab_service mlflow prefect s3_root s3_lab s3_serving s3_mlflow redis_lab redis_serving grafana; do
    if [ ! -s "${all}/${name}" ]; then
        head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' > "${all}/.${name}" # beside, then renamed: a killed job leaves no half secret
        mv "${all}/.${name}" "${all}/${name}"
        echo "made ${name}"
    fi
done

# share FOLDER UID FILE: the file, with the text of stdin, for that user alone.
share() {
    mkdir -p "$1"
    cat > "$1/.fresh"
    if cmp -s "$1/.fresh" "$1/$3"; then
        rm "$1/.fresh"
    else
        mv "$1/.fresh" "$1/$3"
    fi
    chmod 0500 "$1"
    chmod 0400 "$1/$3"
    chown "$2:$2" "$1" "$1/$3"
}

install -d -o 10001 -g 10001 "$2/buckets" "$2/users" "$3"
cd "$1"
chmod 0711 .
share postgres 70 admin < all/postgres
for role in postgres lab lab_service mlflow prefect; do share databases 70 "${role}" < "all/${role}"; done
share s3 10001 root < all/s3_root
for user in root lab serving mlflow; do share buckets 10001 "${user}" < "all/s3_${user}"; done

for user in lab:platform serving:serving; do
    printf '%s' "${user%%:*}" | share "${user#*:}" 10001 s3-key
    share "${user#*:}" 10001 s3-secret < "all/s3_${user%%:*}"
    share "${user#*:}" 10001 redis < "all/redis_${user%%:*}"
done
share platform 10001 database < all/lab
share serving 10001 database < all/lab_service

printf 'postgres:5432:mlflow:mlflow:%s\n' "$(cat all/mlflow)" | share mlflow 10001 pgpass
printf '[default]\naws_access_key_id = mlflow\naws_secret_access_key = %s\n' "$(cat all/s3_mlflow)" | share mlflow 10001 aws
printf 'postgres:5432:prefect:prefect:%s\n' "$(cat all/prefect)" | share prefect 10001 pgpass
share redis 999 users.acl << ACL
user default off
user health on nopass +ping
user lab on >$(cat all/redis_lab) ~* &* +@all
user serving on >$(cat all/redis_serving) ~* +@read +@connection
ACL
share grafana 472 admin < all/grafana
echo "every service has its secrets"
