import type { SpiffeId } from '../../identity/spiffe-id.ts';
import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Datastore, Transaction } from '../plugins/datastore/datastore.ts';
import type { Entries } from '../registry/entries.ts';
import type { Selector } from '../registry/selectors.ts';
import { idMessage } from '../registry/spiffe-id-message.ts';
import type { Actor } from './actor.ts';
import { findGateway, type GatewayRecord } from './gateways.ts';
import { sshBackendNames } from './resources.ts';

/** A gateway as an operator wants it, checked by the caller. */
export interface GatewayInit {
  readonly name: string;
  readonly spiffeId: SpiffeId;
  readonly parentId: SpiffeId;
  readonly selectors: readonly Selector[];
  readonly backends: readonly string[];
  readonly names: readonly string[];
}

export interface GatewayRegistry {
  readonly store: Datastore;
  readonly clock: Clock;
  readonly audit: AuditLog;
  readonly entries: Pick<Entries, 'create'>;
}

/**
 * Makes a gateway's record, and the entry that gives it its SVID.
 * @throws Fault ALREADY_EXISTS, FAILED_PRECONDITION for a name that is a backend's, INVALID_ARGUMENT for
 * selectors that any program could match; what the registry throws
 */
export async function createGateway(
  registry: GatewayRegistry,
  init: GatewayInit,
  actor: Actor,
): Promise<GatewayRecord> {
  const { store, clock, audit, entries } = registry;
  refuseBareInterpreter(init.selectors);
  const id = init.spiffeId.toString();
  const { name, backends, names } = init;
  return store.transaction(async (tx) => {
    if ((await findGateway(tx, id)) !== undefined) {
      throw new Fault('ALREADY_EXISTS', `gateway ${name} is there already`);
    }
    await refuseBackendNames(tx, names);
    await tx.run(
      'insert into gateways (id, name, backends, names, created_at_ms) values (?, ?, ?, ?, ?)',
      id,
      name,
      JSON.stringify(backends),
      JSON.stringify(names),
      clock.now().getTime(),
    );
    await audit.append(tx, {
      type: 'gateway.created',
      outcome: Outcome.SUCCESS,
      actor,
      spiffeId: id,
      attributes: { backends: backends.join(' '), names: names.join(' ') },
    });
    const entry = {
      spiffeId: idMessage(init.spiffeId),
      parentId: idMessage(init.parentId),
      selectors: [...init.selectors],
    };
    await entries.create(tx, entry, { actor, allowReserved: true });
    const unseen = {
      recordingKey: undefined,
      revocationSeq: 0n,
      heartbeatAt: undefined,
      ports: {},
    };
    return { id, name, backends, names, ...unseen };
  });
}

/** One authority signs the host certificates of both: the one would pass for the other. */
async function refuseBackendNames(tx: Transaction, names: readonly string[]): Promise<void> {
  const backends = await sshBackendNames(tx);
  const shared = names.find((one) => backends.has(one));
  if (shared !== undefined)
    throw new Fault('FAILED_PRECONDITION', `names: ${shared} is a backend of type ssh`);
}

const INTERPRETER = /\/(ssh|node|java|bash|sh|python[0-9.]*)$/;

/** A tool that runs whatever it is told is no identity (threats S14). */
function refuseBareInterpreter(selectors: readonly Selector[]): void {
  const isInterpreter = ({ type, value }: Selector) =>
    type === 'unix' && value.startsWith('path:') && INTERPRETER.test(value);
  if (selectors.length > 0 && !selectors.every(isInterpreter)) return;
  throw new Fault(
    'INVALID_ARGUMENT',
    selectors.length === 0
      ? 'selectors: name at least one, e.g. unix:uid:998'
      : `selectors: ${selectors[0]?.value.slice('path:'.length)} runs whatever it is told; add who runs it, e.g. unix:uid:998`,
  );
}
