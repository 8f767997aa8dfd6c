#!/bin/sh
# Three databases, each with a role that owns it and nothing else, and a role that may only read the ledger. Again: changes nothing, but
# that passwords are what their files say. $1: folder with a file per role; $2: roles.sql of the ledger.
set -eu
export PGHOST=postgres PGUSER=postgres PGPASSWORD
PGPASSWORD=$(cat "$1/postgres")

for name in mlflow prefect; do
    psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --dbname postgres --set name="${name}" --set password_file="$1/${name}" << 'SQL'
\set password `cat :'password_file'`
SELECT format('CREATE ROLE %I', :'name') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name')
\gexec
ALTER ROLE :"name" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I', :'name', :'name') WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name')
\gexec
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
done
psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --dbname postgres << 'SQL'
SELECT 'CREATE DATABASE lab' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'lab')
\gexec
REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC;
SQL
psql --quiet --no-psqlrc --dbname lab --set owner_password_file="$1/lab" --set reader_password_file="$1/lab_service" --file "$2"
echo "databases lab, mlflow and prefect are there, each with its role"
