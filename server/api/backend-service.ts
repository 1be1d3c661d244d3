import type { BackendService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { Resource } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { Actor } from '../access/actor.ts';
import type { ResourceApplier } from '../access/apply/apply-resources.ts';
import type { ApplyFile } from '../access/apply/read-documents.ts';
import { withGrantNames } from '../access/grant-names.ts';
import { listResources } from '../access/resources.ts';
import type { BackendSetup } from '../plugins/backend-setup/backend-setup.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { actorOf, type Caller } from './callers.ts';

export interface BackendServiceOptions {
  readonly reader: Reader;
  /** By the type of backend that each plans for. */
  readonly setups: ReadonlyMap<string, BackendSetup>;
  readonly applier: Pick<ResourceApplier, 'apply'>;
}

/** What a backend's administrator has to run. */
export function backendService({
  reader,
  setups,
  applier,
}: BackendServiceOptions): Pick<Implementation<typeof BackendService, Caller>, 'planBackendSetup'> {
  /** As they would be if the files were applied; they are as they are without any. */
  const resourcesAfter = async (files: readonly ApplyFile[], actor: Actor) => {
    const stored = await listResources(reader);
    if (files.length === 0) return withGrantNames(stored);
    const changes = await applier.apply({ files, dryRun: true, prune: false }, actor);
    const declared = changes.flatMap(({ after }) => after ?? []);
    const key = (one: Resource) => `${one.body.case}/${one.name}`;
    const replaced = new Set(declared.map(key));
    return withGrantNames([...stored.filter((one) => !replaced.has(key(one))), ...declared]);
  };
  return {
    async planBackendSetup({ backend: name, catalog, files }, { caller }) {
      const bodies = (await resourcesAfter(files, actorOf(caller))).map(({ body }) => body);
      const backend = bodies.flatMap((body) =>
        body.case === 'backend' && body.value.name === name ? [body.value] : [],
      )[0];
      if (backend === undefined) throw new Fault('NOT_FOUND', 'no backend of that name');
      if (catalog === undefined) throw new Fault('INVALID_ARGUMENT', 'catalog: send what was read');
      const setup = setups.get(backend.type.case ?? '');
      if (setup === undefined) {
        throw new Fault('FAILED_PRECONDITION', `backend ${name} needs no setup`);
      }
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
