/**
 * Built-in functions that read nothing but their arguments and the session's own state. All others may
 * read a classified column behind the statement's back, so that a statement which calls one is taken
 * to touch all of them.
 */
const NAMES = `
  abs age array_agg array_append array_cat array_length array_lower array_position array_remove
  array_to_string array_upper ascii avg bit_and bit_length bit_or bool_and bool_or btrim cardinality
  ceil ceiling char_length character_length chr clock_timestamp coalesce col_description concat concat_ws count
  cume_dist current_catalog current_database current_date current_schema current_schemas
  current_time current_setting current_timestamp current_user date_part date_trunc decode degrees dense_rank div
  encode every exp extract first_value floor format format_type gen_random_uuid generate_series
  generate_subscripts greatest has_column_privilege has_database_privilege has_function_privilege
  has_schema_privilege has_sequence_privilege has_table_privilege initcap isfinite json_agg
  json_array_elements json_build_array json_build_object json_object_agg jsonb_agg
  jsonb_array_elements jsonb_build_array jsonb_build_object jsonb_object_agg jsonb_set
  jsonb_typeof justify_days justify_hours justify_interval lag last_value lastval lead least left
  length like ln localtime localtimestamp log lower lpad ltrim make_date make_interval
  make_timestamp make_timestamptz max md5 min mod mode now nth_value ntile nullif
  num_nonnulls num_nulls obj_description octet_length overlaps overlay percent_rank
  percentile_cont percentile_disc pg_backend_pid pg_encoding_to_char pg_function_is_visible
  pg_get_constraintdef pg_get_expr pg_get_indexdef pg_get_partkeydef
  pg_get_serial_sequence pg_get_userbyid pg_is_in_recovery pg_sleep pg_table_is_visible pg_type_is_visible
  pg_typeof pi position power quote_ident quote_literal quote_nullable radians random rank
  regexp_match regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table repeat
  replace reverse right round row_number row_to_json rpad rtrim session_user sha256 shobj_description sign split_part
  sqrt starts_with statement_timestamp stddev string_agg string_to_array strpos substr substring
  sum timeofday timezone to_char to_date to_hex to_json to_jsonb to_number to_timestamp
  transaction_timestamp translate trim trunc unnest upper user variance version width_bucket`;

const PLAIN: ReadonlySet<string> = new Set(NAMES.trim().split(/\s+/));

/** Functions whose value tells nothing of the values that it was given. */
const TELLS_NOTHING: ReadonlySet<string> = new Set([
  'clock_timestamp',
  'count',
  'current_database',
  'current_schema',
  'gen_random_uuid',
  'now',
  'pg_backend_pid',
  'random',
  'row_number',
  'statement_timestamp',
  'transaction_timestamp',
  'version',
]);

/** Functions that take any text, raise no error, and give back one value for one row or for all. */
const NEVER_RAISES: ReadonlySet<string> = new Set([
  ...['array_agg', 'ascii', 'btrim', 'char_length', 'character_length', 'coalesce', 'concat'],
  ...[
    'concat_ws',
    'count',
    'initcap',
    'json_agg',
    'json_build_array',
    'jsonb_agg',
    'left',
    'length',
  ],
  ...[
    'lower',
    'ltrim',
    'max',
    'md5',
    'min',
    'octet_length',
    'position',
    'quote_literal',
    'replace',
  ],
  ...['reverse', 'right', 'row_to_json', 'rtrim', 'string_agg', 'strpos', 'to_json', 'to_jsonb'],
  ...['translate', 'trim', 'upper'],
]);

export function neverRaises(name: readonly string[]): boolean {
  return NEVER_RAISES.has(builtIn(name));
}

/** @param name in parts, as a statement says it */
export function isPlainFunction(name: readonly string[]): boolean {
  return PLAIN.has(builtIn(name));
}

export function tellsNothing(name: readonly string[]): boolean {
  return TELLS_NOTHING.has(builtIn(name));
}

function builtIn(name: readonly string[]): string {
  const [last = ''] = name.slice(-1);
  return name.length === 1 || (name.length === 2 && name[0] === 'pg_catalog') ? last : '';
}
