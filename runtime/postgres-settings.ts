/**
 * Which settings of a PostgreSQL session its client may change, and how far (threats P11). Names are in
 * lower case, as the server compares them. What is on no list here nobody may change: what needs a
 * superuser, loads code, prints other people's words, or is what the gateway's reading rests on.
 */

/** Guards no data and takes no one else's resources. */
const HARMLESS: ReadonlySet<string> = new Set([
  'application_name',
  'array_nulls',
  'bytea_output',
  'check_function_bodies',
  'client_min_messages',
  'cpu_tuple_cost',
  'cursor_tuple_fraction',
  'datestyle',
  'default_text_search_config',
  'default_transaction_deferrable',
  'default_transaction_isolation',
  'default_transaction_read_only',
  'extra_float_digits',
  'from_collapse_limit',
  'geqo',
  'idle_in_transaction_session_timeout',
  'idle_session_timeout',
  'intervalstyle',
  'jit',
  'join_collapse_limit',
  'lc_monetary',
  'lc_numeric',
  'lc_time',
  'lock_timeout',
  'max_parallel_workers_per_gather',
  'plan_cache_mode',
  'quote_all_identifiers',
  'random_page_cost',
  'restrict_nonsystem_relation_kind',
  'row_security',
  'search_path',
  'seq_page_cost',
  'statement_timeout',
  'synchronize_seqscans',
  'timezone',
  'transaction_deferrable',
  'transaction_isolation',
  'transaction_read_only',
  'transaction_timeout',
  'work_mem',
  'xmlbinary',
  'xmloption',
]);
const PLANNER_SWITCH = /^enable_[a-z_]+$/;

/** What a backend's document may allow besides, e.g. because it takes memory. */
const ALLOWABLE: ReadonlySet<string> = new Set([
  'commit_siblings',
  'constraint_exclusion',
  'cpu_index_tuple_cost',
  'cpu_operator_cost',
  'default_statistics_target',
  'default_table_access_method',
  'default_tablespace',
  'default_toast_compression',
  'effective_cache_size',
  'effective_io_concurrency',
  'escape_string_warning',
  'geqo_effort',
  'geqo_generations',
  'geqo_pool_size',
  'geqo_seed',
  'geqo_selection_bias',
  'geqo_threshold',
  'gin_fuzzy_search_limit',
  'gin_pending_list_limit',
  'hash_mem_multiplier',
  'icu_validation_level',
  'jit_above_cost',
  'jit_expressions',
  'jit_inline_above_cost',
  'jit_optimize_above_cost',
  'jit_tuple_deforming',
  'maintenance_io_concurrency',
  'maintenance_work_mem',
  'max_parallel_maintenance_workers',
  'max_parallel_workers',
  'min_parallel_index_scan_size',
  'min_parallel_table_scan_size',
  'parallel_leader_participation',
  'parallel_setup_cost',
  'parallel_tuple_cost',
  'recursive_worktable_factor',
  'stats_fetch_consistency',
  'synchronous_commit',
  'temp_buffers',
  'temp_tablespaces',
  'timezone_abbreviations',
  'wal_skip_threshold',
]);

/** Of the two-part kind that extensions and applications name; the server's own have no dot. */
export const CUSTOM_SETTING =
  /^(?!writ\.|plpgsql\.|pg_)[a-z_][a-z0-9_]{0,30}\.[a-z_][a-z0-9_]{0,30}$/;

/** Whether every session may change it. */
export function isHarmlessSetting(name: string): boolean {
  return HARMLESS.has(name) || PLANNER_SWITCH.test(name);
}

/** Whether a backend's document may name it among those that its sessions change. */
export function isAllowableSetting(name: string): boolean {
  return isHarmlessSetting(name) || ALLOWABLE.has(name) || CUSTOM_SETTING.test(name);
}

/** What a bare number means to the server. */
export type SettingUnit = 'ms' | 'kB' | 'count';

/** Settings that can have a ceiling. Of those in ms, 0 means none, so that sessions start at theirs. */
export const CEILING_UNITS: ReadonlyMap<string, SettingUnit> = new Map([
  ['idle_in_transaction_session_timeout', 'ms'],
  ['idle_session_timeout', 'ms'],
  ['lock_timeout', 'ms'],
  ['statement_timeout', 'ms'],
  ['maintenance_work_mem', 'kB'],
  ['temp_buffers', 'kB'],
  ['work_mem', 'kB'],
  ['max_parallel_maintenance_workers', 'count'],
  ['max_parallel_workers_per_gather', 'count'],
]);

/** Ceilings that hold where a backend's document names none. */
export const BUILT_IN_CEILINGS: ReadonlyMap<string, number> = new Map([
  ['work_mem', 262_144],
  ['max_parallel_workers_per_gather', 4],
]);

const FACTORS: Readonly<Record<SettingUnit, Readonly<Record<string, number>>>> = {
  ms: { us: 0.001, ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000, '': 1 },
  kB: { B: 1 / 1024, kB: 1, MB: 1024, GB: 1_048_576, TB: 1_073_741_824, '': 1 },
  count: { '': 1 },
};
const AMOUNT = /^\s*((?:0|[1-9]\d{0,11})(?:\.\d{1,6})?)\s*([A-Za-z]{0,3})\s*$/;

/**
 * How much a value means, in the setting's unit. Narrower than the server's own reading (Source:
 * PostgreSQL 15, "Parameter Names and Values"): what is not understood here must not pass.
 * @returns undefined for what is no amount, or is one that switches the limit off
 */
export function settingAmount(unit: SettingUnit, text: string): number | undefined {
  const [, digits, suffix = ''] = AMOUNT.exec(text) ?? [];
  const factor = Object.hasOwn(FACTORS[unit], suffix) ? FACTORS[unit][suffix] : undefined;
  if (digits === undefined || factor === undefined) return undefined;
  const amount = Number(digits) * factor;
  // The server rounds, and 0 ms is no limit at all.
  return unit === 'ms' && amount < 1 ? undefined : amount;
}
