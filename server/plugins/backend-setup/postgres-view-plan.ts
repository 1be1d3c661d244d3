import type { CatalogColumn, CatalogTable } from '../../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { MaskRule } from './postgres-classes.ts';
import type { MaskedColumn } from './postgres-mask.ts';
import type { TableRights } from './postgres-table-rights.ts';

/** A masked view to be made. */
export interface ViewPlan {
  readonly view: { readonly schema: string; readonly name: string };
  /** NOLOGIN; holds on the table just what the view needs. */
  readonly owner: string;
  /** Where the functions of its triggers stand. */
  readonly home: string;
  /** Schema of the table without Writ. */
  readonly schema: string;
  /** As it lies when the view is made. */
  readonly base: CatalogTable;
  readonly masks: ReadonlyMap<string, MaskRule>;
  /** Whom the view serves. */
  readonly uses: readonly ViewUse[];
  warn(text: string): void;
}

export interface ViewUse {
  readonly groupRole: string;
  readonly rights: TableRights;
}

/** One column of a view, in its place. */
export interface ViewColumn extends MaskedColumn {
  readonly column: CatalogColumn;
  /** Undefined where the view shows the column as it is. */
  readonly rule: MaskRule | undefined;
}
