import type { BackendService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import { findBackend, listNamedResources } from '../access/resources.ts';
import type { BackendSetup } from '../plugins/backend-setup/backend-setup.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import type { Caller } from './callers.ts';

export interface BackendServiceOptions {
  readonly reader: Reader;
  /** By the type of backend that each plans for. */
  readonly setups: ReadonlyMap<string, BackendSetup>;
}

/** What a backend's administrator has to run. */
export function backendService({
  reader,
  setups,
}: BackendServiceOptions): Implementation<typeof BackendService, Caller> {
  return {
    async planBackendSetup({ backend: name, catalog }) {
      const backend = await findBackend(reader, name);
      if (backend === undefined) throw new Fault('NOT_FOUND', 'no backend of that name');
      if (catalog === undefined) throw new Fault('INVALID_ARGUMENT', 'catalog: send what was read');
      const setup = setups.get(backend.type.case ?? '');
      if (setup === undefined) {
        throw new Fault('FAILED_PRECONDITION', `backend ${name} needs no setup`);
      }
      const bodies = (await listNamedResources(reader)).map(({ body }) => body);
      const { sql, undoSql, warnings } = setup.plan({
        backend,
        catalog,
        grants: bodies.flatMap((body) => (body.case === 'grant' ? [body.value] : [])),
        columnClasses: bodies.flatMap((body) => (body.case === 'columnClass' ? [body.value] : [])),
        columns: bodies.flatMap((body) => (body.case === 'columns' ? [body.value] : [])),
      });
      return { sql, undoSql, warnings: [...warnings] };
    },
  };
}
