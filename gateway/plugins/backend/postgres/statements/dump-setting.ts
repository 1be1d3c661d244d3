const RESTRICTION =
  /^SELECT set_config\(name, '(view|view, foreign-table)', false\) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'$/;

/**
 * Whether this is the whole text by which pg_dump, since the releases of August 2024, keeps itself from
 * running code of views: the one change of a setting whose name is no constant that passes. The name is
 * still a known one, for a relation that could stand before pg_settings needs the class `ddl`, and no
 * pinned setting takes its values.
 */
export function isDumpsRestriction(sql: string): boolean {
  return RESTRICTION.test(sql);
}
