/**
 * Sequences of serial columns. In the layout `in-place` they stay where they are when their table moves,
 * so that `nextval('public.orders_id_seq')` goes on finding them. PostgreSQL keeps an owned sequence in
 * its table's schema, so until the table comes home it belongs to no column, and `writ.owned_sequence`
 * remembers which. An identity column's sequence cannot be parted from it: it moves with its table.
 */
import type { CatalogTable } from '../../../proto/gen/writ/admin/v1/admin_pb.ts';
import { literal, qualified } from './postgres-quote.ts';

/** Kinds of dependency: `a` is a serial column's sequence, `i` an identity column's. */
type OwnedBy = 'a' | 'i';

/** Part of the schema `writ`. */
export const OWNED_SEQUENCE_TABLE = `-- Sequences that belong to a column of a table which has moved.
CREATE TABLE IF NOT EXISTS writ.owned_sequence (sequence regclass PRIMARY KEY, relation regclass NOT NULL, column_name name NOT NULL);`;

const OWNED = `pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass`;

/** Parts a table that is about to move from the sequences of its serial columns. */
export function partFromSequences(table: CatalogTable): string {
  const relation = `${literal(qualified(table))}::regclass`;
  return `DO $writ$
DECLARE
  owned record;
BEGIN
  FOR owned IN SELECT d.objid::regclass AS sequence, a.attname FROM pg_attribute a, ${OWNED}
      AND d.refobjid = ${relation} AND d.deptype = 'a' AND a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
  LOOP
    INSERT INTO writ.owned_sequence VALUES (owned.sequence, ${relation}, owned.attname);
    EXECUTE format('ALTER SEQUENCE %s OWNED BY NONE', owned.sequence);
  END LOOP;
END $writ$;`;
}

/** Gives sequences back to the columns of tables that are home again. */
export const REJOIN_SEQUENCES = `DO $writ$
DECLARE
  owned record;
BEGIN
  FOR owned IN SELECT o.sequence, o.relation, o.column_name, t.relowner::regrole AS owner, s.relowner <> t.relowner AS is_foreign
    FROM writ.owned_sequence o JOIN pg_class s ON s.oid = o.sequence LEFT JOIN pg_class t ON t.oid = o.relation
  LOOP
    BEGIN
      IF owned.is_foreign THEN
        EXECUTE format('ALTER SEQUENCE %s OWNER TO %s', owned.sequence, owned.owner);
      END IF;
      EXECUTE format('ALTER SEQUENCE %s OWNED BY %s.%I', owned.sequence, owned.relation, owned.column_name);
    EXCEPTION WHEN OTHERS THEN
      RAISE WARNING 'sequence % belongs to no column any more: %', owned.sequence, SQLERRM;
    END;
  END LOOP;
  DELETE FROM writ.owned_sequence;
END $writ$;`;

/** A right to the sequences of a table's columns, wherever it lies. */
export function onOwnedSequences(
  right: 'SELECT' | 'USAGE',
  table: CatalogTable,
  roles: readonly string[],
  kinds: readonly OwnedBy[],
): string[] {
  const relation = `${literal(qualified(table))}::regclass`;
  return [
    `DO $writ$
DECLARE
  owned regclass;
BEGIN
  FOR owned IN SELECT d.objid FROM ${OWNED}
      AND d.refobjid = ${relation} AND d.deptype IN (${kinds.map(literal).join(', ')})
    UNION SELECT o.sequence FROM writ.owned_sequence o WHERE o.relation = ${relation}
  LOOP
    EXECUTE format('GRANT ${right} ON SEQUENCE %s TO ${roles.join(', ')}', owned);
  END LOOP;
END $writ$;`,
  ];
}

/** The sequences behind serial columns; identity columns need no right. */
export function sequenceUsage(table: CatalogTable, roles: readonly string[]): string[] {
  return onOwnedSequences('USAGE', table, roles, ['a']);
}
