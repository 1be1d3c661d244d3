/** `writ lock create|list|delete`: bars an identity, agent, grant or backend while it stands. */
import { LockService } from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import type { Lock } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { parseDuration } from '../../runtime/duration.ts';
import { Fault } from '../../runtime/fault.ts';
import { printTable } from '../table.ts';
import { isoTime } from '../time.ts';
import { type Flags, textFlag, type Verb, type VerbIo } from '../verb.ts';

const TARGETS = {
  'spiffe-id': 'spiffeId',
  'agent-id': 'agentId',
  grant: 'grant',
  backend: 'backend',
} as const;
const MAXIMUM_TTL_SECONDS = 365 * 24 * 60 * 60;

export const lockCreate: Verb = {
  path: ['lock', 'create'],
  positionals: [],
  summary: 'Bar one identity, agent, grant or backend and end its sessions',
  options: {
    'spiffe-id': { type: 'string' },
    'agent-id': { type: 'string' },
    grant: { type: 'string' },
    backend: { type: 'string' },
    reason: { type: 'string', default: 'locked by an operator' },
    ttl: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
  async run(flags, io) {
    const ttl = textFlag(flags, 'ttl');
    const request = {
      target: { target: lockTarget(flags) },
      reason: textFlag(flags, 'reason') ?? '',
      ttlSeconds: ttl === undefined ? 0 : parseDuration(ttl, '--ttl', MAXIMUM_TTL_SECONDS),
    };
    const { lock } = await io.admin(LockService).createLock(request, { signal: io.signal });
    if (lock === undefined) throw new Fault('INTERNAL', 'the server answered no lock');
    io.out(flags.json === true ? JSON.stringify(lockRow(lock)) : lock.name);
  },
};

export const lockList: Verb = {
  path: ['lock', 'list'],
  positionals: [],
  summary: 'List the locks that stand',
  options: { json: { type: 'boolean', default: false } },
  async run(flags: Flags, io: VerbIo) {
    const { locks } = await io.admin(LockService).listLocks({}, { signal: io.signal });
    const columns = ['name', 'target', 'reason', 'created_by', 'created_at', 'expires_at'];
    printTable(io, locks.map(lockRow), columns, flags.json === true);
  },
};

export const lockDelete: Verb = {
  path: ['lock', 'delete'],
  positionals: ['LOCK'],
  summary: 'Lift a lock; sessions that it ended stay ended',
  options: {},
  async run(_flags, io, [name = '']) {
    await io.admin(LockService).deleteLock({ name }, { signal: io.signal });
    io.err(`deleted ${name}`);
  },
};

function lockTarget(flags: Flags) {
  const given = Object.entries(TARGETS).flatMap(([flag, name]) => {
    const value = textFlag(flags, flag);
    return value === undefined ? [] : [{ case: name, value }];
  });
  const [target] = given;
  if (target === undefined || given.length > 1) {
    const flagNames = Object.keys(TARGETS).map((name) => `--${name}`);
    throw new Fault('USAGE', `lock create: give exactly one of ${flagNames.join(', ')}`);
  }
  return target;
}

function lockRow({ name, target, reason, createdBy, createdAt, expiresAt }: Lock) {
  const at = target?.target;
  return {
    name,
    target: at?.case === undefined ? '' : `${at.case}=${at.value}`,
    reason,
    created_by: createdBy,
    created_at: isoTime(createdAt),
    expires_at: isoTime(expiresAt),
  };
}
