import type { ResourceService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { Implementation } from '../../runtime/grpc-server.ts';
import type { ResourceApplier } from '../access/apply/apply-resources.ts';
import { listNamedResources, type ResourceKind, resourceKind } from '../access/resources.ts';
import type { Reader } from '../plugins/datastore/datastore.ts';
import { actorOf, type Caller } from './callers.ts';

export interface ResourceServiceOptions {
  readonly reader: Reader;
  readonly applier: ResourceApplier;
}

const KINDS: readonly ResourceKind[] = ['Backend', 'Grant', 'ColumnClass', 'Columns'];
const MAXIMUM_FILES = 100;
const FILE_NAME = /^[^\p{Cc}\p{Zl}\p{Zp}]{1,1024}$/u;

/** Backends, grants and column classes, for operators. */
export function resourceService({
  reader,
  applier,
}: ResourceServiceOptions): Implementation<typeof ResourceService, Caller> {
  return {
    async apply({ files, dryRun, prune }, { caller }) {
      if (files.length === 0 || files.length > MAXIMUM_FILES) {
        throw new Fault('INVALID_ARGUMENT', `files: send 1 to ${MAXIMUM_FILES}`);
      }
      for (const { name } of files) {
        if (!FILE_NAME.test(name))
          throw new Fault('INVALID_ARGUMENT', 'files: name each in one line');
      }
      const changes = await applier.apply({ files, dryRun, prune }, actorOf(caller));
      return {
        changes: changes.map(({ kind, name, action, differences, warnings }) => ({
          kind,
          name,
          action,
          differences: [...differences],
          warnings: [...warnings],
        })),
      };
    },

    async listResources({ kind }) {
      const asked = kind === '' ? undefined : requireKind(kind);
      const all = await listNamedResources(reader);
      return {
        resources: all.filter((resource) =>
          asked === undefined ? resource.body.case !== 'lock' : resourceKind(resource) === asked,
        ),
      };
    },

    async getResource({ kind, name }) {
      const asked = requireKind(kind);
      const all = await listNamedResources(reader);
      const resource = all.find((one) => one.name === name && resourceKind(one) === asked);
      if (resource === undefined) throw new Fault('NOT_FOUND', `no ${kind} of that name`);
      return { resource };
    },

    async deleteResource({ kind, name }, { caller }) {
      await applier.delete(requireKind(kind), name, actorOf(caller));
      return {};
    },
  };
}

function requireKind(text: string): ResourceKind {
  const kind = KINDS.find((one) => one === text);
  if (kind !== undefined) return kind;
  throw new Fault('INVALID_ARGUMENT', `kind: write one of ${KINDS.join(', ')}`);
}
