/** `writ apply`: what the files say, as a whole or not at all. */
import { create } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { TrustDomain } from '../../../identity/spiffe-id.ts';
import { Outcome } from '../../../proto/gen/writ/audit/v1/audit_pb.ts';
import { type Resource, ResourceSchema } from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import type { Clock } from '../../../runtime/clock.ts';
import { Fault } from '../../../runtime/fault.ts';
import type { AuditLog, EventInit } from '../../audit/audit-log.ts';
import type { Datastore, Transaction } from '../../plugins/datastore/datastore.ts';
import { listSecrets } from '../../secrets/secret-rows.ts';
import type { Actor } from '../actor.ts';
import { listGateways } from '../gateways.ts';
import { withGrantNames } from '../grant-names.ts';
import { listResources, type ResourceKind, type Resources, resourceKind } from '../resources.ts';
import type { Revocations } from '../revocations.ts';
import { checkDeclarations, type DeclarationRules } from './check-declarations.ts';
import { differences } from './differences.ts';
import { endOfSessions } from './end-of-sessions.ts';
import { declaredTwice, futureState } from './future-state.ts';
import { type ApplyFile, type Declared, readDocuments } from './read-documents.ts';

export interface ApplierOptions {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly resources: Resources;
  readonly revocations: Revocations;
  readonly trustDomain: TrustDomain;
  /** Longest session that any grant may allow. */
  readonly sessionMaximumSeconds: number;
}

export interface ApplyWish {
  readonly files: readonly ApplyFile[];
  /** Tells what would change and changes nothing. */
  readonly dryRun: boolean;
  /** Deletes what the files do not name. */
  readonly prune: boolean;
}

/** One resource's part in an apply. */
export interface Change {
  readonly kind: ResourceKind;
  readonly name: string;
  readonly action: 'created' | 'updated' | 'unchanged' | 'deleted';
  readonly differences: readonly string[];
  /** What whoever applies it should know. */
  readonly warnings: readonly string[];
  readonly before: Resource | undefined;
  readonly after: Resource | undefined;
}

/** Changes what is declared. */
export class ResourceApplier {
  readonly #options: ApplierOptions;

  constructor(options: ApplierOptions) {
    this.#options = options;
  }

  /**
   * Applies files in one transaction, each change with its event; ends the sessions of grants that
   * vanish, narrow, or give something else in the database, and of backends that become another place.
   * @throws Fault CONFIG_INVALID with a line for each problem
   */
  apply({ files, dryRun, prune }: ApplyWish, actor: Actor): Promise<Change[]> {
    const { declared, problems, unread } = readDocuments(files);
    return this.#options.store.transaction(async (tx) => {
      const stored = await storedResources(tx);
      const kept = prune ? [] : stored;
      const state = futureState({ stored: kept, declared, unread });
      const wrong = [
        ...problems,
        ...declaredTwice(declared),
        ...checkDeclarations(state, await this.#rules(tx)),
      ];
      if (wrong.length > 0) throw new Fault('CONFIG_INVALID', joined(wrong));
      const changes = planChanges(stored, declared, prune);
      if (!dryRun) await this.#write(tx, { stored, changes, actor });
      return changes;
    });
  }

  /**
   * Deletes one resource; ends its sessions.
   * @throws Fault NOT_FOUND, FAILED_PRECONDITION if others point at it
   */
  delete(kind: ResourceKind, name: string, actor: Actor): Promise<void> {
    return this.#options.store.transaction(async (tx) => {
      const stored = await storedResources(tx);
      const isIt = (one: Resource) => one.name === name && resourceKind(one) === kind;
      const before = stored.find(isIt);
      if (before === undefined) throw new Fault('NOT_FOUND', `no ${kind} of that name`);
      const rest = stored.filter((one) => !isIt(one));
      const state = futureState({ stored: rest, declared: [], unread: new Set() });
      const wrong = checkDeclarations(state, await this.#rules(tx));
      if (wrong.length > 0) throw new Fault('FAILED_PRECONDITION', joined(wrong));
      await this.#write(tx, { stored, changes: [deletion(before)], actor });
    });
  }

  async #rules(tx: Transaction): Promise<DeclarationRules> {
    const { trustDomain, sessionMaximumSeconds, clock } = this.#options;
    const gatewayHosts = new Set((await listGateways(tx)).flatMap(({ names }) => names));
    const secrets = new Set((await listSecrets(tx)).map(({ name }) => name));
    return { trustDomain, sessionMaximumSeconds, gatewayHosts, secrets, now: clock.now() };
  }

  async #write(tx: Transaction, { stored, changes, actor }: Write): Promise<void> {
    const { clock, audit, resources, revocations } = this.#options;
    const now = clock.now();
    const endedGrants = new Set<string>();
    for (const change of changes) {
      if (change.action === 'unchanged') continue;
      const generation = (change.before?.generation ?? 0n) + 1n;
      if (change.after === undefined) await resources.delete(tx, change.kind, change.name);
      else {
        const updatedAt = timestampFromDate(now);
        const { name, body } = change.after;
        await resources.put(tx, create(ResourceSchema, { name, generation, updatedAt, body }), now);
      }
      await audit.append(tx, changeEvent(change, generation, actor));
      const revocation = endOfSessions(change);
      if (revocation === undefined) continue;
      await revocations.revoke(tx, revocation);
      if (change.kind === 'Grant') endedGrants.add(change.name);
    }
    for (const grant of renamedGrants(stored, await storedResources(tx))) {
      const subject = { kind: 'grant', value: grant } as const;
      const reason = `what grant ${grant} gives has changed`;
      if (!endedGrants.has(grant))
        await revocations.revoke(tx, { subject, cause: 'grant.update', reason });
    }
  }
}

interface Write {
  /** Before the changes. */
  readonly stored: readonly Resource[];
  readonly changes: readonly Change[];
  readonly actor: Actor;
}

/** Grants whose roles in the database have other names now: the old ones go with the next setup. */
function renamedGrants(before: readonly Resource[], after: readonly Resource[]): string[] {
  const now = groupRoles(after);
  return [...groupRoles(before)].flatMap(([grant, role]) => {
    const renamed = now.has(grant) && now.get(grant) !== role;
    return renamed ? [grant] : [];
  });
}

function groupRoles(resources: readonly Resource[]): ReadonlyMap<string, string> {
  return new Map(
    withGrantNames(resources).flatMap(({ name, body }) =>
      body.case === 'grant' && body.value.rights.case === 'postgres'
        ? [[name, body.value.rights.value.groupRole] as const]
        : [],
    ),
  );
}

/** Locks are no declarations: an operator makes and lifts them by hand. */
async function storedResources(tx: Transaction): Promise<Resource[]> {
  const all = await listResources(tx);
  return all.filter((resource) => resourceKind(resource) !== 'Lock');
}

function planChanges(
  stored: readonly Resource[],
  declared: readonly Declared[],
  prune: boolean,
): Change[] {
  const left = new Map(stored.map((resource) => [keyOf(resource), resource]));
  const changes = declared.map(({ resource, at }): Change => {
    const before = left.get(keyOf(resource));
    left.delete(keyOf(resource));
    const kind = resourceKind(resource);
    const warnings = warningsOf(resource, at);
    const fields = { kind, name: resource.name, before, after: resource, warnings };
    if (before === undefined) return { ...fields, action: 'created', differences: [] };
    const changed = differences(before, resource);
    const action = changed.length > 0 ? 'updated' : 'unchanged';
    return { ...fields, action, differences: changed };
  });
  if (!prune) return changes;
  return [...changes, ...[...left.values()].map(deletion)];
}

function deletion(before: Resource): Change {
  const kind = resourceKind(before);
  const { name } = before;
  const none = { differences: [], warnings: [], after: undefined };
  return { kind, name, action: 'deleted', before, ...none };
}

/** Right, and yet to be known. */
function warningsOf({ body }: Resource, at: Declared['at']): string[] {
  if (body.case !== 'grant' || body.value.rights.case !== 'postgres') return [];
  if (!body.value.rights.value.statements.includes('any')) return [];
  const path = at(['postgres', 'statements']);
  return [`${path}: any lets sessions do all that the database lets their role do`];
}

function keyOf(resource: Resource): string {
  return `${resourceKind(resource)}/${resource.name}`;
}

const MAXIMUM_ATTRIBUTE = 4096;

function changeEvent(change: Change, generation: bigint, actor: Actor): EventInit {
  const { kind, name, action } = change;
  return {
    type: `resource.${action}`,
    outcome: Outcome.SUCCESS,
    actor,
    attributes: {
      kind,
      name,
      generation: generation.toString(),
      differences: change.differences.join('\n').slice(0, MAXIMUM_ATTRIBUTE),
    },
    ...(kind === 'Grant' && { grant: name }),
    ...(kind === 'Backend' && { backend: name }),
  };
}

/** What a status message takes with certainty. */
const MAXIMUM_MESSAGE = 1800;

function joined(lines: readonly string[]): string {
  const shown: string[] = [];
  let bytes = 0;
  for (const line of lines) {
    bytes += Buffer.byteLength(line) + 1;
    if (bytes > MAXIMUM_MESSAGE && shown.length > 0) break;
    shown.push(line);
  }
  const more = lines.length - shown.length;
  return more === 0 ? shown.join('\n') : `${shown.join('\n')}\nand ${more} more problems`;
}
