-- Two roles for the ledger's database. `lab` owns one schema and nothing else; `lab_service` may read it and nothing else: it is for
-- processes that answer requests. Run it as administrator in that database, as often as you like and from several places at once:
--
--   psql --dbname lab --set owner_password_file=FILE --set reader_password_file=FILE --file roles.sql
--
-- The tables are made by the first process that writes; what is made later is readable too.
\set ON_ERROR_STOP on
\set owner_password `cat :'owner_password_file'`
\set reader_password `cat :'reader_password_file'`

BEGIN;
SELECT pg_advisory_xact_lock(28049410);
SELECT format('CREATE ROLE %I', name)
  FROM unnest(ARRAY['lab', 'lab_service']) AS name
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec
ALTER ROLE lab LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'owner_password';
ALTER ROLE lab_service LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'reader_password';

REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO lab, lab_service;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA IF NOT EXISTS lab AUTHORIZATION lab;
ALTER ROLE lab IN DATABASE :"DBNAME" SET search_path = lab;
ALTER ROLE lab_service IN DATABASE :"DBNAME" SET search_path = lab;

GRANT USAGE ON SCHEMA lab TO lab_service;
GRANT SELECT ON ALL TABLES IN SCHEMA lab TO lab_service;
ALTER DEFAULT PRIVILEGES FOR ROLE lab IN SCHEMA lab GRANT SELECT ON TABLES TO lab_service;
COMMIT;
