import { isPinnedValue, PINNED_SETTINGS, refuseSetting } from '../client/settings.ts';

/** Names of the rules that refuse to change a setting. */
export type SettingRule =
  | 'pinned-setting'
  | 'set-role'
  | 'setting-not-allowed'
  | 'setting-too-high';

/** What a client may set besides what it may ask for when it connects: nothing that guards data. */
const ALSO_ALLOWED: ReadonlySet<string> = new Set([
  'array_nulls',
  'check_function_bodies',
  'cpu_tuple_cost',
  'cursor_tuple_fraction',
  'default_text_search_config',
  'from_collapse_limit',
  'idle_session_timeout',
  'join_collapse_limit',
  'lc_monetary',
  'lc_numeric',
  'lc_time',
  'plan_cache_mode',
  'quote_all_identifiers',
  'random_page_cost',
  'row_security',
  'seq_page_cost',
  'synchronize_seqscans',
  'transaction_deferrable',
  'transaction_isolation',
  'transaction_read_only',
  'transaction_timeout',
  'xmlbinary',
]);
const PLANNER_SWITCH = /^enable_[a-z_]+$/;

/** The most that a session may set, in the unit that the server takes for a bare number. */
const CEILINGS: ReadonlyMap<string, number> = new Map([
  ['work_mem', 262_144],
  ['max_parallel_workers_per_gather', 4],
]);
const KILOBYTES: Readonly<Record<string, number>> = { kB: 1, MB: 1024, GB: 1_048_576, '': 1 };

/**
 * Whether a session may set this (threats P11). `role` may be set to `none` alone: that is what it is.
 * @param value undefined if the statement does not tell it
 */
export function refuseToSet(setting: string, value: string | undefined): SettingRule | undefined {
  const name = setting.toLowerCase();
  if (name === 'role') return value?.toLowerCase() === 'none' ? undefined : 'set-role';
  if (name === 'session_authorization') return 'set-role';
  if (PINNED_SETTINGS.has(name)) {
    return value !== undefined && isPinnedValue(name, value) ? undefined : 'pinned-setting';
  }
  const ceiling = CEILINGS.get(name);
  if (ceiling !== undefined) {
    return amountOf(value) <= ceiling ? undefined : 'setting-too-high';
  }
  const allowed =
    ALSO_ALLOWED.has(name) || PLANNER_SWITCH.test(name) || refuseSetting(name, '') === undefined;
  return allowed ? undefined : 'setting-not-allowed';
}

function amountOf(value: string | undefined): number {
  const [, digits, unit = ''] = /^(\d{1,12})\s*(kB|MB|GB)?$/.exec(value ?? '') ?? [];
  return digits === undefined ? Number.POSITIVE_INFINITY : Number(digits) * (KILOBYTES[unit] ?? 1);
}
