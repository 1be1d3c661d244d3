import type { Catalog } from '../../../proto/gen/writ/admin/v1/admin_pb.ts';
import type {
  Backend,
  ColumnClass,
  Columns,
  Grant,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';

/**
 * Plans what a backend's own administrator runs so that grants hold in the backend itself. Kind:
 * BackendSetup. Writ never runs the plan: it has no account that could.
 */
export interface BackendSetup {
  /** Case of `Backend.type` that it plans for. */
  readonly type: string;

  /** Pure: the same request gives the same plan. */
  plan(request: BackendSetupRequest): BackendSetupPlan;
}

export interface BackendSetupRequest {
  readonly backend: Backend;
  /** All grants that stand; those of other backends are passed over. */
  readonly grants: readonly Grant[];
  readonly columnClasses: readonly ColumnClass[];
  readonly columns: readonly Columns[];
  /** What the caller read from the backend; untrusted. */
  readonly catalog: Catalog;
}

export interface BackendSetupPlan {
  /** Idempotent: run again, it also takes back what the grants no longer give. Holds no secret. */
  readonly sql: string;
  /** Takes all of it back. */
  readonly undoSql: string;
  /** One sentence each, for the administrator. */
  readonly warnings: readonly string[];
}
