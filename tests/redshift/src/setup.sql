-- What Redshift has and PostgreSQL has not. Run at every start.
DO $do$ BEGIN
  IF to_regtype('super') IS NULL THEN CREATE DOMAIN super AS jsonb; END IF;
END $do$;

CREATE OR REPLACE FUNCTION sysdate() RETURNS timestamp LANGUAGE sql STABLE
  AS $f$ SELECT transaction_timestamp() AT TIME ZONE 'UTC' $f$;
CREATE OR REPLACE FUNCTION getdate() RETURNS timestamp LANGUAGE sql STABLE
  AS $f$ SELECT date_trunc('second', statement_timestamp() AT TIME ZONE 'UTC') $f$;
CREATE OR REPLACE FUNCTION dateadd(part text, n bigint, at timestamp) RETURNS timestamp LANGUAGE sql STABLE
  AS $f$ SELECT at + CASE WHEN lower(part) IN ('quarter', 'quarters', 'qtr', 'qtrs')
    THEN (3 * n || ' month')::interval ELSE (n || ' ' || part)::interval END $f$;
CREATE OR REPLACE FUNCTION datediff(part text, a timestamp, b timestamp) RETURNS bigint LANGUAGE sql STABLE
  AS $f$ SELECT CASE lower(trim(trailing 's' FROM lower(part)))
    WHEN 'year' THEN (date_part('year', b) - date_part('year', a))::bigint
    WHEN 'month' THEN ((date_part('year', b) - date_part('year', a)) * 12 + date_part('month', b) - date_part('month', a))::bigint
    ELSE (extract(epoch FROM date_trunc(lower(trim(trailing 's' FROM part)), b) - date_trunc(lower(trim(trailing 's' FROM part)), a))
      / extract(epoch FROM ('1 ' || part)::interval))::bigint END $f$;
CREATE OR REPLACE FUNCTION len(t text) RETURNS integer LANGUAGE sql IMMUTABLE AS $f$ SELECT length(t) $f$;
CREATE OR REPLACE FUNCTION json_parse(t text) RETURNS super LANGUAGE sql IMMUTABLE AS $f$ SELECT t::jsonb::super $f$;
CREATE OR REPLACE FUNCTION json_serialize(s super) RETURNS text LANGUAGE sql IMMUTABLE AS $f$ SELECT s::text $f$;

-- The columns of SYS_LOAD_ERROR_DETAIL; CHAR is padded with blanks there too.
CREATE TABLE IF NOT EXISTS sys_load_error_detail (
  user_id integer, query_id bigint, transaction_id bigint, session_id integer, database_name char(64), table_id integer,
  start_time timestamp, file_name char(256), line_number bigint, column_name char(127), column_type char(10),
  column_length char(10), position integer, error_code integer, error_message char(512));
-- Of STL_LOAD_ERRORS, those of its columns that say something here.
CREATE TABLE IF NOT EXISTS stl_load_errors (
  userid integer, slice integer, tbl integer, starttime timestamp, session integer, query bigint, filename char(256),
  line_number bigint, colname char(127), type char(10), col_length char(10), position integer, raw_line char(1024),
  raw_field_value char(1024), err_code integer, err_reason char(100));
